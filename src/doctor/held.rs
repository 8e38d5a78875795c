//! The client certificate that `inspect` is given in a file, judged as if a proxy had forwarded it.

use crate::check::{CertificateError, ClientCertificate, Thumbprint, UnixTime};
use crate::edge::certificate::{CertificateHeader, Provider, Shown};
use crate::edge::x509::Unacceptable;

/// It, or none.
pub(super) struct Held<'a> {
    shown: Option<Shown>,
    header: Option<&'a CertificateHeader>,
}

impl<'a> Held<'a> {
    /// From a PEM file's text.
    ///
    /// # Errors
    /// If there is no certificate in it.
    pub(super) fn new(
        pem: Option<&str>,
        header: Option<&'a CertificateHeader>,
    ) -> Result<Self, &'static str> {
        const WHAT: &str =
            "the file of --certificate holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        // Apache's spelling is PEM with whatever white space.
        let apache = CertificateHeader::new(Provider::Apache);
        let shown = pem.map(|pem| {
            // The first certificate of the file; a chain or a key may follow it.
            let (begin, end) =
                (pem.find("-----BEGIN CERTIFICATE-----")?, "-----END CERTIFICATE-----");
            let pem = &pem[begin..];
            let pem = &pem[..pem.find(end)? + end.len()];
            apache.read(pem).ok().flatten()
        });
        let shown = shown.map(|shown| shown.ok_or(WHAT));
        Ok(Self { shown: shown.transpose()?, header })
    }

    fn examined(&self, now: UnixTime) -> Result<(), Unacceptable> {
        let rules = self.header.and_then(|header| header.rules.as_ref());
        match (&self.shown, rules) {
            (Some(shown), Some(rules)) => rules.examine(shown, now),
            _ => Ok(()),
        }
    }

    /// What there is to say of it beside a token that is bound to a certificate.
    pub(super) fn told(&self, now: UnixTime) -> String {
        let Some(shown) = &self.shown else {
            return "no certificate given (--certificate FILE)".into();
        };
        let mut text = format!("the certificate given is {}", shown.thumbprint);
        if let Err(reason) = self.examined(now) {
            text += &format!(", but {reason}");
        }
        if self.header.is_none() {
            text += "; no edge may forward one, because there is no [client_certificate]";
        }
        text
    }
}

impl ClientCertificate for Held<'_> {
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
        // Without [client_certificate] the sidecar sees none.
        let shown = self.shown.as_ref().filter(|_| self.header.is_some());
        Ok(shown.map(|shown| shown.thumbprint))
    }

    fn accepted(&self, now: UnixTime) -> bool {
        self.examined(now).is_ok()
    }
}
