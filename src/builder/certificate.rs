//! `[client_certificate]`, typed.

use std::path::Path;

use super::keys::Keys;
use crate::edge::certificate::Provider;

/// How a trusted proxy forwards the client's certificate, and what is asked of it besides being the one
/// that the token names. A [`Provider`] alone will do.
#[derive(Clone)]
#[must_use = "give it to GateBuilder::client_certificate"]
pub struct ForwardedCertificate(pub(super) Keys);

impl ForwardedCertificate {
    /// In that proxy's spelling, in the header that it uses unless told otherwise.
    pub fn new(provider: Provider) -> Self {
        let mut keys = Keys::default();
        keys.text("provider", provider.name());
        Self(keys)
    }

    /// In another header than the proxy's usual one.
    pub fn header(mut self, name: &str) -> Self {
        self.0.text("header", name);
        self
    }

    /// With [`Provider::Envoy`] alone: the header may hold several elements (`APPEND_FORWARD`), of which
    /// the last counts. Default: one element.
    pub fn append_forward(mut self) -> Self {
        self.0.flag("append_forward");
        self
    }

    /// PEM certificates of the authorities that issue clients' certificates, directly. Default: any will
    /// do, because the token says which certificate it must be.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path("ca_file", path.as_ref());
        self
    }

    /// Refuses certificates before and after their period. Always so with one of the other rules.
    pub fn check_validity(mut self) -> Self {
        self.0.flag("check_validity");
        self
    }

    /// All of these in the extension `keyUsage`, by their names in RFC 5280. Default: none.
    pub fn require_key_usage(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.list("require_key_usage", names);
        self
    }

    /// All of these in the extension `extendedKeyUsage`, by their names or object identifiers. Default:
    /// none; with `ca_file` a certificate that names purposes must name `clientAuth`.
    pub fn require_extended_key_usage(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.0.list("require_extended_key_usage", names);
        self
    }
}

impl From<Provider> for ForwardedCertificate {
    fn from(provider: Provider) -> Self {
        Self::new(provider)
    }
}
