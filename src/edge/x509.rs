//! What is asked of a client's certificate beyond being the one that the token names: an authority,
//! its period, its usages (RFC 5280 §4.1.2.5, §4.2.1.3, §4.2.1.12).
//!
//! A proxy that verifies its clients' certificates has asked all that. This is the second line, for those
//! that forward whatever came (nginx' `optional_no_ca`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime as TlsTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use super::certificate::Shown;
use crate::check::UnixTime;

/// So many certificates are remembered as good: a signature of their authority costs 30 to 300 µs, and
/// an entry some 200 bytes.
const REMEMBERED: u64 = 10_000;

/// The rules of `[client_certificate]`. Clones share what they remember.
#[derive(Clone, Debug)]
pub struct CertificateRules {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    key_usage: Vec<KeyUsage>,
    extended_key_usage: Vec<KeyPurpose>,
    good: Cache<[u8; 32], Period>,
}

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unacceptable {
    /// The proxy forwards no whole certificate, only its hash.
    NotWhole,
    /// It cannot be read.
    Unreadable,
    /// Its period has not begun.
    NotYetValid,
    /// Its period is over.
    Expired,
    /// It has no extensions: `ca_file` asks for X.509 version 3 (RFC 5280 §4.1.2.1).
    Version,
    /// It names purposes, and being a client is none of them.
    Purpose,
    /// Its issuer is none of the authorities.
    Authority,
    /// Something else in it does not verify.
    Unverified,
    /// `keyUsage` lacks one that is required.
    KeyUsage,
    /// `extendedKeyUsage` lacks one that is required.
    ExtendedKeyUsage,
}

impl fmt::Display for Unacceptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWhole => "the proxy forwards its hash alone, and the rules need all of it",
            Self::Unreadable => "it cannot be read",
            Self::NotYetValid => "it is not valid yet",
            Self::Expired => "it has expired",
            Self::Version => {
                "`ca_file` cannot judge X.509 version 1: issue it with extensions (basicConstraints=CA:FALSE)"
            }
            Self::Purpose => "its extendedKeyUsage lacks clientAuth",
            Self::Authority => "its issuer is not in `ca_file`",
            Self::Unverified => "it does not verify: its signature, an algorithm that is too old or unknown, a critical extension, \
                 or it is an authority itself",
            Self::KeyUsage => "it lacks a key usage of `require_key_usage`",
            Self::ExtendedKeyUsage => "it lacks a purpose of `require_extended_key_usage`",
        })
    }
}

/// From and to which second a certificate is valid, both included.
#[derive(Clone, Copy, Debug)]
struct Period([i64; 2]);

impl Period {
    fn holds(self, now: UnixTime) -> Result<(), Unacceptable> {
        let Self([begin, end]) = self;
        match now.as_secs() {
            now if now < begin => Err(Unacceptable::NotYetValid),
            now if now > end => Err(Unacceptable::Expired),
            _ => Ok(()),
        }
    }
}

impl CertificateRules {
    /// The period alone.
    pub fn new() -> Self {
        Self {
            authorities: None,
            key_usage: Vec::new(),
            extended_key_usage: Vec::new(),
            good: Cache::new(REMEMBERED),
        }
    }

    /// Accepts certificates alone that one of these (PEM) has issued, directly: name intermediate
    /// authorities too. Their own periods are not looked at.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn issued_by(mut self, authorities: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            let authority = authority.map_err(|error| format!("not PEM: {error}"))?;
            let (_, parsed) = X509Certificate::from_der(&authority)
                .map_err(|_| "a certificate in it cannot be read".to_owned())?;
            if parsed.version() == X509Version::V3 && !parsed.is_ca() {
                return Err("a certificate in it is no authority (basicConstraints CA:TRUE)".into());
            }
            roots.add(authority).map_err(|error| format!("a certificate in it: {error}"))?;
        }
        if roots.is_empty() {
            return Err("no certificate in it".into());
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        self.authorities = Some(verifier.build().map_err(|error| error.to_string())?);
        Ok(self)
    }

    /// Accepts certificates alone that have all these. Without the extension a certificate has none.
    #[must_use]
    pub fn for_usages(mut self, usages: Vec<KeyUsage>, purposes: Vec<KeyPurpose>) -> Self {
        (self.key_usage, self.extended_key_usage) = (usages, purposes);
        self
    }

    /// Judges a certificate. What cannot change is remembered of good ones; the period is looked at
    /// each time.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn examine(&self, shown: &Shown, now: UnixTime) -> Result<(), Unacceptable> {
        if let Some(period) = self.good.get(shown.thumbprint.as_bytes()) {
            return period.holds(now);
        }
        let der = shown.der.as_deref().ok_or(Unacceptable::NotWhole)?;
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| Unacceptable::Unreadable)?;
        let period = certificate.validity();
        let period = Period([period.not_before.timestamp(), period.not_after.timestamp()]);
        period.holds(now)?;
        self.usages(&certificate)?;
        if let Some(authorities) = &self.authorities {
            let seconds = u64::try_from(now.as_secs()).unwrap_or_default();
            let now = TlsTime::since_unix_epoch(Duration::from_secs(seconds));
            if certificate.version() != X509Version::V3 {
                return Err(Unacceptable::Version);
            }
            let verified = authorities.verify_client_cert(&CertificateDer::from(der), &[], now);
            verified.map_err(|error| match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    Unacceptable::Authority
                }
                rustls::Error::InvalidCertificate(
                    CertificateError::InvalidPurpose
                    | CertificateError::InvalidPurposeContext { .. },
                ) => Unacceptable::Purpose,
                _ => Unacceptable::Unverified,
            })?;
        }
        self.good.insert(*shown.thumbprint.as_bytes(), period);
        Ok(())
    }

    fn usages(&self, certificate: &X509Certificate<'_>) -> Result<(), Unacceptable> {
        let unreadable = |_| Unacceptable::Unreadable;
        let has = certificate.key_usage().map_err(unreadable)?.map_or(0, |has| has.value.flags);
        if !self.key_usage.iter().all(|usage| has & usage.flag() != 0) {
            return Err(Unacceptable::KeyUsage);
        }
        let has = certificate.extended_key_usage().map_err(unreadable)?;
        let has = has.map(|has| has.value);
        if !self.extended_key_usage.iter().all(|purpose| has.is_some_and(|has| purpose.is_in(has)))
        {
            return Err(Unacceptable::ExtendedKeyUsage);
        }
        Ok(())
    }
}

impl Default for CertificateRules {
    fn default() -> Self {
        Self::new()
    }
}

/// What a key may be used for (RFC 5280 §4.2.1.3), by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(usize);

impl KeyUsage {
    /// All of them, in the order of their bits.
    pub const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];

    fn flag(self) -> u16 {
        1 << self.0
    }
}

impl FromStr for KeyUsage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.iter().position(|name| *name == text).map(Self).ok_or(())
    }
}

/// A purpose of a key (RFC 5280 §4.2.1.12): its name there, or an object identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPurpose(String);

impl KeyPurpose {
    /// Those that have names, and their object identifiers.
    pub const NAMES: [[&str; 2]; 7] = [
        ["clientAuth", "1.3.6.1.5.5.7.3.2"],
        ["serverAuth", "1.3.6.1.5.5.7.3.1"],
        ["codeSigning", "1.3.6.1.5.5.7.3.3"],
        ["emailProtection", "1.3.6.1.5.5.7.3.4"],
        ["timeStamping", "1.3.6.1.5.5.7.3.8"],
        ["OCSPSigning", "1.3.6.1.5.5.7.3.9"],
        ["anyExtendedKeyUsage", "2.5.29.37.0"],
    ];

    fn is_in(&self, has: &ExtendedKeyUsage<'_>) -> bool {
        match &*self.0 {
            "clientAuth" => has.client_auth,
            "serverAuth" => has.server_auth,
            "codeSigning" => has.code_signing,
            "emailProtection" => has.email_protection,
            "timeStamping" => has.time_stamping,
            "OCSPSigning" => has.ocsp_signing,
            "anyExtendedKeyUsage" => has.any,
            identifier => has.other.iter().any(|other| other.to_id_string() == identifier),
        }
    }
}

impl FromStr for KeyPurpose {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some([name, _]) = Self::NAMES.iter().find(|names| names.contains(&text)) {
            return Ok(Self((*name).to_owned()));
        }
        let number = |part: &str| part.parse::<u64>().is_ok_and(|n| n.to_string() == part);
        let identifier = text.contains('.') && text.split('.').all(number);
        identifier.then(|| Self(text.to_owned())).ok_or(())
    }
}

#[cfg(test)]
mod tests;
