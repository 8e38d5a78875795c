//! `[policy.NAME]`, typed.

use super::keys::Keys;
use crate::check::BindingRule;

/// What is asked of a token behind one name.
#[derive(Clone)]
#[must_use = "give it to GateBuilder::policy"]
pub struct Policy {
    pub(super) name: String,
    pub(super) keys: Keys,
}

impl Policy {
    /// Every good token of every realm passes, until more is said. A name has 1 to 64 letters, digits, `.`,
    /// `_` or `-`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), keys: Keys::default() }
    }

    /// Accepts tokens of these realms alone, by their names. Default: of all.
    pub fn realms(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.list("realms", names);
        self
    }

    /// Narrower than the realm's: `aud` must hold one of these.
    pub fn audience(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.list("audience", names);
        self
    }

    /// All of these scopes.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.list("scopes", scopes);
        self
    }

    /// One of these roles: `realm:NAME`, `CLIENT:NAME`, or `NAME` of the first audience.
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.list("roles", roles);
        self
    }

    /// Which proof of possession is asked for. Default: that of every bound token, and no more.
    pub fn binding(mut self, rule: BindingRule) -> Self {
        let name = match rule {
            BindingRule::IfBound => "if-bound",
            BindingRule::Required => "required",
            BindingRule::Mtls => "mtls",
            BindingRule::Dpop => "dpop",
        };
        self.keys.text("binding", name);
        self
    }

    /// The realm that is asked about opaque tokens, if several could be.
    pub fn introspect_realm(mut self, name: &str) -> Self {
        self.keys.text("introspect_realm", name);
        self
    }

    /// An identity header and the claim that fills it, such as `realm_access.roles`. The first one
    /// replaces the defaults. Sent on by [`CheckLayer`](crate::edge::layer::CheckLayer) only if it is
    /// told to.
    pub fn header(mut self, name: &str, claim: &str) -> Self {
        self.keys.section("headers").named(name, claim);
        self
    }

    /// A claim under a name of one's own, for [`Grant::metadata`](crate::Grant::metadata).
    pub fn metadata(mut self, name: &str, claim: &str) -> Self {
        self.keys.section("metadata").named(name, claim);
        self
    }

    /// Keeps the full JWT for [`Grant::jwt`](crate::Grant::jwt), to call other services with. Default: no,
    /// because what is not there cannot leak. For tokens that the realm is asked about it takes
    /// [`Introspection::prefer_jwt`](super::Introspection::prefer_jwt) too.
    pub fn keep_jwt(mut self) -> Self {
        self.keys.flag("keep_jwt");
        self
    }

    /// The same, and in a header for the service, with
    /// [`identity_headers`](crate::edge::layer::CheckLayer::identity_headers).
    pub fn forward_jwt(mut self, header: &str) -> Self {
        self.keys.text("forward_jwt", header);
        self
    }
}
