//! What a service should know about client certificates that did not count: once a minute for each kind,
//! and never with anything from the token or the certificate. The sidecar's are in `server/remark.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::check::{Denial, Refusal};
use crate::edge::client::Presented;
use crate::gate::Live;

/// The warnings, and when each was last given.
#[derive(Default)]
pub(super) struct Remarks(Mutex<HashMap<Denial, Duration>>);

impl Remarks {
    /// Looks at a refusal.
    pub(super) fn on<'a>(
        &self,
        refusal: &Refusal,
        live: &Live,
        certificate: impl FnOnce() -> Presented<'a>,
    ) {
        let denial = refusal.denial;
        if !KINDS.contains(&denial) || !self.is_time(denial, live.uptime()) {
            return;
        }
        if let Some(why) = certificate().why(denial, live.now()) {
            let policy = refusal.policy.as_ref().map_or("", |policy| policy.name());
            let reason = denial.answer().label;
            tracing::warn!(policy, reason, "a client certificate does not count: {why}");
        }
    }

    fn is_time(&self, denial: Denial, now: Duration) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.get(&denial).is_none_or(|last| now.saturating_sub(*last) >= MINUTE);
        if due {
            told.insert(denial, now);
        }
        due
    }
}

const KINDS: [Denial; 5] = [
    Denial::CertificateMalformed,
    Denial::CertificateMissing,
    Denial::CertificateRepeated,
    Denial::CertificateUnacceptable,
    Denial::CertificateUntrusted,
];

const MINUTE: Duration = Duration::from_secs(60);
