//! The client's certificate as a proxy forwards it: one header, from a trusted peer, once.
//!
//! RFC 8705 binds a token to the SHA-256 of the certificate's DER bytes, so nothing inside the
//! certificate is looked at (but see [`x509`](super::x509)): it is decoded, measured and hashed. Every proxy has its own spelling;
//! Keycloak's names for them (`x509cert-lookup`) are used here.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use http::header::{HeaderMap, HeaderName};

use super::EdgeSettings;
use super::forwarded::{Peer, TrustedProxies};
use super::spelling::{certificate, first_of_chain, thumbprint};
use super::x509::{CertificateRules, Unacceptable};
use super::xfcc;
use crate::check::{CertificateError, ClientCertificate, Thumbprint, UnixTime};

/// Who forwards it, which decides the header and its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// `$ssl_client_escaped_cert`: PEM, percent-encoded.
    Nginx,
    /// `x-forwarded-client-cert`: `Hash`, `Cert` or both, of the last element.
    Envoy,
    /// `%[ssl_c_der,base64]`: DER in base64.
    Haproxy,
    /// `%{SSL_CLIENT_CERT}s`: PEM with spaces for line breaks.
    Apache,
    /// RFC 9440 `Client-Cert`: `:BASE64:`, or without the colons.
    Rfc9440,
    /// `passTLSClientCert` with `pem: true`: DER in base64, the chain after a comma.
    Traefik,
    /// AWS ALB: PEM, percent-encoded but for `+`, `=` and `/`.
    AwsAlb,
    /// Its SHA-256 alone, as 64 hex digits (Caddy) or 43 base64url characters (HAProxy `ub64enc`).
    Thumbprint,
}

impl Provider {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Nginx,
        Self::Envoy,
        Self::Haproxy,
        Self::Apache,
        Self::Rfc9440,
        Self::Traefik,
        Self::AwsAlb,
        Self::Thumbprint,
    ];

    /// As it stands in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache",
            Self::Rfc9440 => "rfc9440",
            Self::Traefik => "traefik",
            Self::AwsAlb => "awsalb",
            Self::Thumbprint => "thumbprint",
        }
    }

    /// The header it uses unless told otherwise: Keycloak's own defaults.
    pub const fn default_header(self) -> HeaderName {
        match self {
            Self::Nginx => HeaderName::from_static("ssl-client-cert"),
            Self::Envoy => HeaderName::from_static("x-forwarded-client-cert"),
            Self::Haproxy | Self::Apache => HeaderName::from_static("ssl_client_cert"),
            Self::Rfc9440 => HeaderName::from_static("client-cert"),
            Self::Traefik => HeaderName::from_static("x-forwarded-tls-client-cert"),
            Self::AwsAlb => HeaderName::from_static("x-amzn-mtls-clientcert-leaf"),
            Self::Thumbprint => HeaderName::from_static("x-client-cert-sha256"),
        }
    }
}

impl FromStr for Provider {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|provider| provider.name() == text).ok_or(())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[client_certificate]`.
#[derive(Clone, Debug)]
pub struct CertificateHeader {
    /// Who forwards it.
    pub provider: Provider,
    /// In which header.
    pub name: HeaderName,
    /// Whether Envoy may have added its element behind others (`APPEND_FORWARD`): then the last counts.
    /// Default: no, there is one element alone.
    pub append_forward: bool,
    /// What is asked of it besides. Default: nothing, the proxy has looked at it.
    pub rules: Option<CertificateRules>,
}

/// A certificate as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its thumbprint.
    pub thumbprint: Thumbprint,
    /// Its DER bytes, if the proxy forwards more than the thumbprint.
    pub der: Option<Vec<u8>>,
}

impl Shown {
    /// A whole one.
    pub fn of(der: Vec<u8>) -> Self {
        Self { thumbprint: Thumbprint::of(&der), der: Some(der) }
    }
}

impl From<Thumbprint> for Shown {
    fn from(thumbprint: Thumbprint) -> Self {
        Self { thumbprint, der: None }
    }
}

impl CertificateHeader {
    /// That provider's default header, and no further rules.
    pub fn new(provider: Provider) -> Self {
        let (name, append_forward, rules) = (provider.default_header(), false, None);
        Self { provider, name, append_forward, rules }
    }

    /// Reads one value of the header.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`]: something is there, and no certificate;
    /// [`CertificateError::Repeated`]: more than one is there.
    pub fn read(&self, text: &str) -> Result<Option<Shown>, CertificateError> {
        match self.provider {
            // Its quotes belong to its values: taken from both ends they would leave others.
            Provider::Envoy => match text.trim_ascii() {
                "" | "-" | "(null)" => Ok(None),
                text => xfcc::read(text, self.append_forward),
            },
            provider => read(provider, text),
        }
    }

    /// Reads the certificate of a request.
    ///
    /// # Errors
    /// If the peer may not say, the header comes twice under any of its spellings, or cannot be read.
    pub fn find(
        &self,
        headers: &HeaderMap,
        peer: Peer,
        trusted: &TrustedProxies,
    ) -> Result<Option<Shown>, CertificateError> {
        let mut copies = headers.iter().filter(|(name, _)| is_alias(name.as_str(), &self.name));
        let Some((name, value)) = copies.next() else { return Ok(None) };
        if !trusted.contains(peer) {
            return Err(CertificateError::Untrusted);
        }
        // Many servers read X_Y as X-Y. A proxy overwrites the exact name alone, and if the client showed no
        // certificate sends nothing: then X_Y is the only copy, and the client's.
        if *name != self.name || copies.next().is_some() {
            return Err(CertificateError::Repeated);
        }
        // Not `to_str`, which looks at one byte after the other.
        let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii());
        let text = text.ok_or(CertificateError::Malformed)?;
        self.read(text)
    }
}

/// What a request says of its client's certificate.
pub struct Forwarded<'a> {
    headers: &'a HeaderMap,
    peer: Peer,
    settings: &'a EdgeSettings,
    /// What the proxy says of the connection itself, outside of any header.
    connection: Option<&'a str>,
    shown: OnceLock<Result<Option<Shown>, CertificateError>>,
}

impl<'a> Forwarded<'a> {
    /// By a request's headers, who sent it, and where to look and whom to believe. Nothing is read yet.
    pub fn new(headers: &'a HeaderMap, peer: Peer, settings: &'a EdgeSettings) -> Self {
        Self { headers, peer, settings, connection: None, shown: OnceLock::new() }
    }

    /// The same, from Envoy by gRPC, which may tell the certificate of the client's connection in the
    /// question itself (`include_peer_certificate`; PEM, percent-encoded). It counts for the provider
    /// `envoy`. If there is a header too, both must name one certificate.
    #[must_use]
    pub fn with_connection(mut self, certificate: &'a str) -> Self {
        self.connection = Some(certificate);
        self
    }

    fn find(&self) -> Result<Option<Shown>, CertificateError> {
        let EdgeSettings { certificate, trusted, .. } = self.settings;
        let Some(header) = certificate else { return Ok(None) };
        let by_header = header.find(self.headers, self.peer, trusted)?;
        let connection = self.connection.filter(|text| !text.is_empty());
        let Some(connection) = connection.filter(|_| header.provider == Provider::Envoy) else {
            return Ok(by_header);
        };
        if !trusted.contains(self.peer) {
            return Err(CertificateError::Untrusted);
        }
        let of_connection = read(Provider::Nginx, connection)?;
        match (&of_connection, &by_header) {
            (Some(one), Some(other)) if one.thumbprint != other.thumbprint => {
                Err(CertificateError::Repeated)
            }
            _ => Ok(of_connection.or(by_header)),
        }
    }

    fn shown(&self) -> Result<Option<&Shown>, CertificateError> {
        let shown = self.shown.get_or_init(|| self.find());
        shown.as_ref().map(Option::as_ref).map_err(|error| *error)
    }

    /// Why there may be none, as far as the request tells: for the log.
    pub fn why_missing(&self) -> String {
        let Some(CertificateHeader { name, provider, .. }) = &self.settings.certificate else {
            return "there is no [client_certificate] in the configuration".into();
        };
        if self.connection.is_some() && *provider != Provider::Envoy {
            return format!(
                "over gRPC it counts only with provider = \"envoy\" in [client_certificate], which says \
                 {provider}"
            );
        }
        if self.headers.contains_key(name) {
            return format!("the header {name} says that the client showed none");
        }
        let mut others = Provider::ALL.iter().map(|provider| provider.default_header());
        match others.find(|other| self.headers.contains_key(other)) {
            Some(other) => format!(
                "the header {name} is missing, and {other} is there: is `provider` in [client_certificate] \
                 right?"
            ),
            None => format!(
                "the header {name} is missing: the client showed none, or the proxy does not forward it"
            ),
        }
    }

    /// Why there seem to be several: for the log.
    pub fn why_repeated(&self) -> String {
        let Some(CertificateHeader { name, .. }) = &self.settings.certificate else {
            return String::new();
        };
        match self.headers.keys().find(|header| *header != name && is_alias(header.as_str(), name))
        {
            Some(alias) => format!(
                "the header {alias} came, which many servers take for {name}: the proxy must delete it, \
                 whoever sent it"
            ),
            None => format!(
                "the header {name} came twice, holds several, or is not the certificate of the connection: the \
                 proxy must overwrite the client's copy"
            ),
        }
    }

    /// What cannot be read: for the log.
    pub fn why_malformed(&self) -> String {
        match &self.settings.certificate {
            Some(CertificateHeader { name, provider, .. }) => format!(
                "what came in the header {name} is none: is `provider` right, which is {provider}?"
            ),
            None => String::new(),
        }
    }

    /// Why it is not accepted: for the log.
    pub fn why_unacceptable(&self, now: UnixTime) -> Option<Unacceptable> {
        let rules = self.settings.certificate.as_ref()?.rules.as_ref()?;
        rules.examine(self.shown().ok()??, now).err()
    }
}

impl ClientCertificate for Forwarded<'_> {
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
        Ok(self.shown()?.map(|shown| shown.thumbprint))
    }

    fn accepted(&self, now: UnixTime) -> bool {
        self.why_unacceptable(now).is_none()
    }
}

/// Whether many servers would read one for the other.
pub fn is_alias(name: &str, configured: &HeaderName) -> bool {
    let configured = configured.as_str();
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == configured.len() && name.bytes().map(plain).eq(configured.bytes().map(plain))
}

/// Reads one value, of any provider but [`Provider::Envoy`].
fn read(provider: Provider, text: &str) -> Result<Option<Shown>, CertificateError> {
    let Some(text) = absent_or(text) else { return Ok(None) };
    let found = match provider {
        Provider::Thumbprint => thumbprint(text)?.into(),
        Provider::Traefik => certificate(first_of_chain(text)?)?,
        _ => certificate(text)?,
    };
    Ok((found.thumbprint != NOTHING).then_some(found))
}

/// The text without quotes around it. Proxies spell "none" in many ways: nothing, `-`, Apache's `(null)`, an empty
/// byte sequence of RFC 9440.
fn absent_or(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    (!matches!(text, "" | "-" | "(null)" | "::")).then_some(text)
}

/// SHA-256 of nothing: what Caddy says without a certificate.
const NOTHING: Thumbprint = Thumbprint::new([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

#[cfg(test)]
mod tests;
