//! All live state, and the order in which it is asked.
//!
//! [`Gate::check`] takes the snapshot of this moment, looks for a proof of the token, has it verified
//! if there is none, and has the proof judged. Only an unknown key makes it wait, for the
//! [`Source`]; then it verifies again, once.

mod cache;
mod clock;
mod snapshot;
mod source;

use std::sync::Arc;

pub use cache::CacheStats;
pub use clock::{Clock, ManualClock, SystemClock};
pub use snapshot::{Live, Rules, Snapshot};
pub use source::{Refresh, Source};

use crate::check::{
    Decision, Denial, Facts, Lookup, Policy, RealmRules, Refusal, Verification, authorize, verify,
};
use cache::TokenCache;

/// Judges requests. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    live: Arc<Live>,
    source: Arc<dyn Source>,
    cache: TokenCache,
}

impl Gate {
    /// A gate over this state, with a proof cache of about `cache_bytes` bytes.
    pub fn new(live: Arc<Live>, source: Arc<dyn Source>, cache_bytes: u64) -> Self {
        Self(Arc::new(Inner { live, source, cache: TokenCache::new(cache_bytes) }))
    }

    /// Judges one request.
    ///
    /// Waits only when the token's key is not known, for as long as the [`Source`] allows. Dropping
    /// the future is safe at any time: what others wait for goes on.
    pub async fn check(&self, facts: &Facts<'_>) -> Decision {
        let missing = match self.0.judge(facts) {
            Ok(decision) => return decision,
            Err(missing) => missing,
        };
        let refresh = self
            .0
            .source
            .refresh(&missing.issuer, &missing.lookup.kid, missing.lookup.has_keys)
            .await;
        self.0.judge(facts).unwrap_or_else(|missing| missing.deny(refresh))
    }

    /// Counters of the proof cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.cache.stats()
    }

    /// The state it judges by.
    pub fn live(&self) -> &Arc<Live> {
        &self.0.live
    }
}

impl Inner {
    /// One look at the state of this moment: a decision, or what is missing for one.
    fn judge(&self, facts: &Facts<'_>) -> Result<Decision, Missing> {
        let snapshot = self.live.load();
        let now = self.live.now();
        let Some(policy) = snapshot.policy(facts.policy) else {
            let refusal = Refusal { denial: Denial::PolicyUnknown, policy: None, realm: None };
            return Ok(Decision::Deny(refusal));
        };
        let deny = |denial, realm: Option<usize>| {
            let realm = realm.and_then(|place| snapshot.realms.get(place));
            let realm = realm.map(|realm| Arc::clone(realm.rules()));
            Ok(Decision::Deny(Refusal { denial, policy: Some(Arc::clone(policy)), realm }))
        };
        let token = match facts.credential {
            Err(denial) => return deny(denial, None),
            Ok(token) if token.len() > snapshot.limits.token => {
                return deny(Denial::TokenTooLarge, None);
            }
            Ok(token) => token,
        };

        let digest = token.digest();
        if let Some(proof) = self.cache.proof(&digest, snapshot.version) {
            let realm = Some(proof.realm());
            match authorize(proof, policy, &snapshot.realms, now) {
                Ok(grant) => return Ok(Decision::Allow(grant)),
                // Its key was withdrawn: perhaps another one signs for it.
                Err(Denial::KeyUnknown) => self.cache.forget_proof(&digest),
                // The keys are too old. Should they come back as they were, so does the proof.
                Err(Denial::KeysUnavailable) => {}
                Err(denial) => return deny(denial, realm),
            }
        }
        if let Some(realm) = self.cache.refusal(&digest, snapshot.version) {
            return deny(Denial::Signature, realm);
        }

        match verify(token, policy, &snapshot.realms, snapshot.limits, now) {
            Verification::Verified(verified) => {
                let (realm, verified) = (Some(verified.realm()), Arc::new(verified));
                self.cache.keep_proof(digest, Arc::clone(&verified), snapshot.version, now);
                match authorize(verified, policy, &snapshot.realms, now) {
                    Ok(grant) => Ok(Decision::Allow(grant)),
                    Err(denial) => deny(denial, realm),
                }
            }
            Verification::Reject { denial, realm } => {
                if denial == Denial::Signature {
                    self.cache.keep_refusal(digest, snapshot.version, realm);
                }
                deny(denial, realm)
            }
            Verification::Needs(lookup) => {
                let Some(realm) = snapshot.realms.get(lookup.realm) else {
                    return deny(Denial::Issuer, None);
                };
                let realm = Arc::clone(realm.rules());
                let issuer = Arc::clone(&realm.issuer);
                Err(Missing { lookup, issuer, policy: Arc::clone(policy), realm })
            }
        }
    }
}

/// What a decision waits for.
struct Missing {
    lookup: Lookup,
    issuer: Arc<str>,
    policy: Arc<Policy>,
    realm: Arc<RealmRules>,
}

impl Missing {
    /// It was asked for, and is still missing.
    fn deny(self, refresh: Refresh) -> Decision {
        let denial = match refresh {
            Refresh::Done if self.lookup.has_keys => Denial::KeyUnknown,
            Refresh::CoolingDown if self.lookup.has_keys => Denial::KeysCoolingDown,
            Refresh::Done | Refresh::CoolingDown | Refresh::Unreachable => Denial::KeysUnavailable,
        };
        Decision::Deny(Refusal { denial, policy: Some(self.policy), realm: Some(self.realm) })
    }
}
