//! Proof of possession (RFC 7800): a token with `cnf` is worth nothing without its key.
//!
//! A certificate-bound token (RFC 8705 §3) names the SHA-256 of its client's certificate. The edge tells
//! which certificate the client proved to hold; here the two are compared. Any other `cnf` refuses.

use std::fmt;
use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use super::{Denial, JsonRef, TokenKind, UnixTime};

/// SHA-256 over the DER bytes of an X.509 certificate (RFC 8705 §3.1).
///
/// ```
/// use vidimus::check::Thumbprint;
///
/// // RFC 8705, appendix A.
/// let thumbprint = Thumbprint::parse("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
/// assert!(thumbprint.is_some());
/// ```
#[derive(Clone, Copy)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes: no secret, the certificate is public.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a certificate, in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// As it stands in `cnf`: 43 characters of base64url, of one spelling only.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(32) => Some(Self(bytes)),
            _ => None,
        }
    }
}

/// In constant time: how much of a thumbprint is right is nobody's business.
impl PartialEq for Thumbprint {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let differ = one.iter().zip(other).fold(0, |differ, (a, b)| {
            black_box(differ | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)))
        });
        differ == 0
    }
}

impl Eq for Thumbprint {}

/// As it stands in `cnf`.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// The certificate that the caller proved to hold in its TLS handshake, looked for only when a token
/// asks for it.
pub trait ClientCertificate: Sync {
    /// Its thumbprint; nothing if there was no certificate.
    ///
    /// # Errors
    /// If it cannot be told.
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError>;

    /// Whether it is accepted at this time, once it is known to be the right one. Default: yes.
    fn accepted(&self, _now: UnixTime) -> bool {
        true
    }
}

/// Why it cannot be told which certificate the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// Whoever asks may not speak for a client.
    Untrusted,
    /// The header came more than once, under any of its spellings.
    Repeated,
    /// What came is no certificate.
    Malformed,
}

/// Nobody can tell: tokens that are bound to a certificate are then refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCertificate;

impl ClientCertificate for NoCertificate {
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
        Ok(None)
    }
}

/// What a policy asks of the binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingRule {
    /// A bound token needs its proof; others pass (RFC 6750).
    #[default]
    IfBound,
    /// The token must be bound, in whatever way.
    Required,
    /// The token must be bound to a certificate (RFC 8705).
    Mtls,
    /// The token must be bound to a DPoP key (RFC 9449).
    Dpop,
}

/// What a token says about the key its caller must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// No `cnf`: whoever bears the token may use it (RFC 6750).
    Absent,
    /// `x5t#S256`: a certificate (RFC 8705 §3.1).
    Certificate(Thumbprint),
    /// `jkt`: a DPoP key (RFC 9449 §6.1), which nothing here can prove yet.
    Key,
    /// A `cnf` of any other kind or shape: taking an unreadable one for none would let a stolen token
    /// pass.
    Unknown,
}

impl Confirmation {
    /// Reads `cnf`, whatever it is.
    pub(super) fn read(cnf: JsonRef<'_>) -> Self {
        let Some(members) = cnf.members() else { return Self::Unknown };
        let mut found = None;
        for (name, value) in members {
            let next = match name {
                "x5t#S256" => value.as_str().and_then(Thumbprint::parse).map(Self::Certificate),
                "jkt" => value.as_str().map(|_| Self::Key),
                "kc-jkt-type" => continue, // Keycloak's own note beside `jkt`
                _ => None,
            };
            found = match (found, next) {
                (None, Some(next)) => Some(next),
                _ => return Self::Unknown, // two keys, or one that nobody here understands
            };
        }
        found.unwrap_or(Self::Unknown)
    }

    /// The proof, if the caller has given it and it is of the kind that is asked for.
    pub(super) fn prove(
        self,
        kind: TokenKind,
        rule: BindingRule,
        certificate: &dyn ClientCertificate,
        now: UnixTime,
    ) -> Result<Bound, Denial> {
        use BindingRule::{Dpop, IfBound, Mtls, Required};
        match (self, kind, rule) {
            // RFC 9449 §7.1: a DPoP token is never a bearer token, whatever became of its `cnf`.
            (Self::Key, ..) | (_, TokenKind::DPoP, _) => Err(Denial::DpopUnproven),
            (Self::Unknown, ..) => Err(Denial::ConfirmationUnknown),
            (Self::Absent, TokenKind::Bearer, IfBound) => Ok(Bound(None)),
            (Self::Absent, TokenKind::Bearer, Required | Mtls | Dpop)
            | (Self::Certificate(_), TokenKind::Bearer, Dpop) => Err(Denial::ConfirmationMissing),
            (Self::Certificate(wanted), TokenKind::Bearer, IfBound | Required | Mtls) => {
                match certificate.thumbprint() {
                    Ok(Some(held)) if held == wanted => match certificate.accepted(now) {
                        true => Ok(Bound(Some(wanted))),
                        false => Err(Denial::CertificateUnacceptable),
                    },
                    Ok(Some(_)) => Err(Denial::CertificateMismatch),
                    Ok(None) => Err(Denial::CertificateMissing),
                    Err(CertificateError::Untrusted) => Err(Denial::CertificateUntrusted),
                    Err(CertificateError::Repeated) => Err(Denial::CertificateRepeated),
                    Err(CertificateError::Malformed) => Err(Denial::CertificateMalformed),
                }
            }
        }
    }
}

/// Proof that a token's `cnf` is absent or was proven: made only here, and no
/// [`Grant`](super::Grant) is built without it.
#[derive(Clone, Copy, Debug)]
pub struct Bound(Option<Thumbprint>);

impl Bound {
    /// The certificate that the token is bound to, which the caller holds.
    pub fn certificate(&self) -> Option<Thumbprint> {
        self.0
    }
}
