//! All live state, and the order in which it is asked.
//!
//! [`Gate::check`] takes the snapshot of this moment, looks for a proof of the token, has it verified
//! if there is none, and has the proof judged. Only an unknown key, or a token that says too little
//! itself, makes it wait for the [`Source`]; then it looks again. Each is asked for once.

mod cache;
mod clock;
mod diagnosis;
mod introspection;
mod judge;
mod snapshot;
mod source;

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use cache::CacheStats;
pub use clock::{Clock, ManualClock, SystemClock};
pub use snapshot::{Live, Rules, Snapshot};
pub use source::{NoReply, Refresh, Source};

use crate::check::{Decision, Facts, OwnedToken};
use cache::TokenCache;
use introspection::Introspections;
use judge::{Learnt, Missing, What};

/// As long as one request waits for keys and answers together. The edges wait 6 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Judges requests. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    live: Arc<Live>,
    source: Arc<dyn Source>,
    cache: Arc<TokenCache>,
    introspections: Arc<Introspections>,
    /// For signatures that take long: as many at once as there are cores.
    turns: Arc<Semaphore>,
}

impl Gate {
    /// A gate over this state, with a proof cache of about `cache_bytes` bytes.
    pub fn new(live: Arc<Live>, source: Arc<dyn Source>, cache_bytes: u64) -> Self {
        let cache = Arc::new(TokenCache::new(cache_bytes));
        let introspections =
            Introspections::new(Arc::clone(&live), Arc::clone(&source), Arc::clone(&cache));
        let introspections = Arc::new(introspections);
        let turns = Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get)));
        Self(Arc::new(Inner { live, source, cache, introspections, turns }))
    }

    /// Judges one request.
    ///
    /// Waits only for a key that is not known or for a realm's word about the token, for as long as the
    /// [`Source`] allows and never longer than 5 s; and for a signature that takes long to verify
    /// ([`Key::is_slow`](crate::check::Key::is_slow)), which is done on a thread of its own. Dropping the future is safe at any time: what others
    /// wait for goes on.
    pub async fn check(&self, facts: &Facts<'_>) -> Decision {
        match self.0.judge(facts, &Learnt::default()) {
            Ok(decision) => decision,
            // Few requests wait, so what waiting needs is kept out of every request's memory.
            Err(missing) => Box::pin(self.learn(facts, missing)).await,
        }
    }

    /// Asks for what is missing, and judges again.
    async fn learn(&self, facts: &Facts<'_>, mut missing: Missing) -> Decision {
        let (mut learnt, deadline) = (Learnt::default(), Instant::now() + PATIENCE);
        loop {
            match missing.what {
                What::Turn(token) => {
                    self.prove_apart(facts.policy, token).await;
                    learnt.had_turn = true;
                }
                What::Keys(ref lookup) if learnt.refresh.is_none() => {
                    let issuer = &missing.realm.issuer;
                    let refresh = self.0.source.refresh(issuer, &lookup.kid, lookup.has_keys);
                    let refresh = timeout_at(deadline, refresh).await;
                    learnt.refresh = Some(refresh.unwrap_or(Refresh::Unreachable));
                }
                What::Answer(question) if learnt.lacks_answer(question.version.rules) => {
                    let (known, rules) = (question.known, question.version.rules);
                    let answer = self.0.introspections.ask(*question, deadline).await;
                    learnt.answer = Some((known, rules, answer));
                }
                _ => return missing.deny(&learnt),
            }
            missing = match self.0.judge(facts, &learnt) {
                Ok(decision) => return decision,
                Err(missing) => missing,
            };
        }
    }

    /// Verifies a signature that takes long where no other request waits for it. It goes on if the request
    /// gives up. Should it not be possible, it is verified here.
    async fn prove_apart(&self, policy: &str, token: OwnedToken) {
        let (Ok(runtime), Ok(turn)) =
            (Handle::try_current(), Arc::clone(&self.0.turns).acquire_owned().await)
        else {
            return;
        };
        let (inner, policy) = (Arc::clone(&self.0), policy.to_owned());
        let proving = runtime.spawn_blocking(move || {
            inner.prove(&policy, token.as_raw());
            drop(turn);
        });
        let _ = proving.await;
    }

    /// Counters of the proof cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.cache.stats()
    }

    /// How many tokens that verify were called not active, by the realm's name.
    pub fn verified_inactive(&self) -> Vec<(Arc<str>, u64)> {
        self.0.introspections.diagnosis.inactive()
    }

    /// How many answers about tokens came well and could not be used, by the realm's name and reason.
    pub fn unusable_answers(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        self.0.introspections.diagnosis.unusable_answers()
    }

    /// The state it judges by.
    pub fn live(&self) -> &Arc<Live> {
        &self.0.live
    }
}
