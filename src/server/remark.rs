//! What an operator should know about certificates that did not count: once a minute for each kind, and
//! never with anything from the token or the certificate.

use std::time::Duration;

use crate::check::{Denial, Refusal, UnixTime};
use crate::edge::certificate::Forwarded;
use crate::edge::forwarded::Peer;
use crate::telemetry::Seldom;

/// The warnings, and when each was last given.
#[derive(Debug)]
pub(super) struct Remarks {
    malformed: Seldom,
    missing: Seldom,
    repeated: Seldom,
    unacceptable: Seldom,
    untrusted: Seldom,
    unreadable: Seldom,
}

impl Default for Remarks {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        let [malformed, missing, repeated, unacceptable, untrusted, unreadable] =
            [(); 6].map(|()| Seldom::every(MINUTE));
        Self { malformed, missing, repeated, unacceptable, untrusted, unreadable }
    }
}

impl Remarks {
    /// A question could not be read.
    pub(super) fn unreadable(&self, why: &str, peer: Peer) {
        if self.unreadable.now() {
            tracing::warn!(%peer, "a question over gRPC cannot be read, and is refused: {why}");
        }
    }

    /// Looks at a refusal.
    pub(super) fn on(
        &self,
        refusal: &Refusal,
        certificate: &Forwarded<'_>,
        peer: Peer,
        now: impl FnOnce() -> UnixTime,
    ) {
        match refusal.denial {
            Denial::CertificateUntrusted if self.untrusted.now() => tracing::warn!(
                %peer,
                "a client certificate does not count: its sender is not in trusted_proxies"
            ),
            Denial::CertificateMalformed if self.malformed.now() => {
                let why = certificate.why_malformed();
                tracing::warn!(%peer, "a client certificate does not count: {why}");
            }
            Denial::CertificateMissing if self.missing.now() => {
                let why = certificate.why_missing();
                tracing::warn!(%peer, "a token that is bound to a client certificate came without it: {why}");
            }
            Denial::CertificateRepeated if self.repeated.now() => {
                let why = certificate.why_repeated();
                tracing::warn!(%peer, "a client certificate does not count: {why}");
            }
            Denial::CertificateUnacceptable if self.unacceptable.now() => {
                if let Some(why) = certificate.why_unacceptable(now()) {
                    tracing::warn!(%peer, "a client certificate is not accepted: {why}");
                }
            }
            _ => {}
        }
    }
}
