//! The client's certificate in one's own process: a proxy forwards it, or our own TLS has seen it.

use std::sync::Arc;

use http::request::Parts;

use super::EdgeSettings;
use super::certificate::{Forwarded, Shown};
use super::forwarded::Peer;
use super::x509::CertificateRules;
use crate::check::{CertificateError, ClientCertificate, Denial, Thumbprint, UnixTime};

/// The certificate that the client has proven to hold on this connection. Whoever accepts TLS inserts it
/// into the extensions of each request; never made from anything that a request says.
///
/// ```
/// # fn accepted(session: &rustls::ServerConnection, request: &mut http::Request<()>) {
/// use vidimus::edge::client::TlsClientCertificate;
///
/// // Once per connection; a clone goes into each of its requests.
/// let chain = session.peer_certificates().unwrap_or_default();
/// if let Some(certificate) = chain.first().map(|der| TlsClientCertificate::from_der(der)) {
///     request.extensions_mut().insert(certificate.clone());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TlsClientCertificate(Arc<Shown>);

impl TlsClientCertificate {
    /// By its DER bytes, the first of what rustls calls `peer_certificates`. Hashes them: once per
    /// connection.
    pub fn from_der(der: &[u8]) -> Self {
        Self(Arc::new(Shown::of(der.to_vec())))
    }
}

/// Where [`CheckLayer`](super::layer::CheckLayer) looks for the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateFrom {
    /// In the header of `[client_certificate]`, if there is that section; else in the extension
    /// [`TlsClientCertificate`]. If there is the section, and the extension too, nobody has said which
    /// of them is the client's: tokens that are bound to a certificate are refused
    /// (`certificate_repeated`).
    #[default]
    Configured,
    /// In that header alone: the connection's certificate is the proxy's.
    Header,
    /// In the extension alone: clients connect to this process themselves, and may send any header.
    Connection,
}

/// What a request shows of its client's certificate.
pub(super) struct Presented<'a> {
    from: CertificateFrom,
    peer: Peer,
    settings: &'a EdgeSettings,
    forwarded: Forwarded<'a>,
    connection: Option<&'a Shown>,
}

impl<'a> Presented<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        peer: Peer,
        settings: &'a EdgeSettings,
        from: CertificateFrom,
    ) -> Self {
        let forwarded = Forwarded::new(&parts.headers, peer, settings);
        let connection = parts.extensions.get().map(|TlsClientCertificate(shown)| &**shown);
        Self { from, peer, settings, forwarded, connection }
    }

    /// Why a certificate did not count, and what to do: for the log.
    pub(super) fn why(&self, denial: Denial, now: UnixTime) -> Option<String> {
        let forwarded = self.is_forwarded();
        match denial {
            Denial::CertificateUntrusted if self.peer == Peer::Unknown => Some(UNKNOWN_PEER.into()),
            Denial::CertificateUntrusted => {
                Some(format!("its sender, {}, is not in trusted_proxies", self.peer))
            }
            Denial::CertificateRepeated if forwarded.is_err() => Some(TWO_PLACES.into()),
            Denial::CertificateRepeated => Some(self.forwarded.why_repeated()),
            Denial::CertificateMalformed => Some(self.forwarded.why_malformed()),
            Denial::CertificateMissing if forwarded == Ok(false) => Some(NO_EXTENSION.into()),
            Denial::CertificateMissing => Some(self.forwarded.why_missing()),
            Denial::CertificateUnacceptable => match (forwarded, self.connection, self.rules()) {
                (Ok(true), ..) => self.forwarded.why_unacceptable(now).map(|why| why.to_string()),
                (_, Some(shown), Some(rules)) => {
                    rules.examine(shown, now).err().map(|why| why.to_string())
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn rules(&self) -> Option<&CertificateRules> {
        self.settings.certificate.as_ref()?.rules.as_ref()
    }

    fn is_forwarded(&self) -> Result<bool, CertificateError> {
        match (self.from, &self.settings.certificate, self.connection) {
            (CertificateFrom::Header, ..) => Ok(true),
            (CertificateFrom::Connection, ..) => Ok(false),
            (CertificateFrom::Configured, None, _) => Ok(false),
            (CertificateFrom::Configured, Some(_), None) => Ok(true),
            (CertificateFrom::Configured, Some(_), Some(_)) => Err(CertificateError::Repeated),
        }
    }
}

/// The layer believes no header until it knows who sends it.
const UNKNOWN_PEER: &str = "nobody has told who is at the other end of the connection. Tell it by \
    CheckLayer::peer, or by the extension edge::forwarded::Peer in each request";

const TWO_PLACES: &str = "it is looked for in a header, as [client_certificate] says, and the request \
    brings one of its connection too. Say which is the client's, by CheckLayer::certificate_from";

const NO_EXTENSION: &str = "the token is bound to one, and the request has none of its connection: whoever \
    accepts TLS inserts edge::client::TlsClientCertificate, and a header is read only with \
    GateBuilder::client_certificate or [client_certificate]";

impl ClientCertificate for Presented<'_> {
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
        match self.is_forwarded()? {
            true => self.forwarded.thumbprint(),
            false => Ok(self.connection.map(|shown| shown.thumbprint)),
        }
    }

    fn accepted(&self, now: UnixTime) -> bool {
        match (self.is_forwarded(), self.connection, self.rules()) {
            (Ok(true), ..) => self.forwarded.accepted(now),
            (Ok(false), Some(shown), Some(rules)) => rules.examine(shown, now).is_ok(),
            (Ok(false), Some(_), None) => true,
            (Ok(false), None, _) | (Err(_), ..) => false,
        }
    }
}
