//! All live state, and the order in which it is asked.
//!
//! [`Gate::check`] takes the snapshot of this moment, looks for a proof of the token, has it verified
//! if there is none, and has the proof judged. Only an unknown key, or a token that says too little
//! itself, makes it wait for the [`Source`]; then it looks again. Each is asked for once. A signature that
//! takes long is verified apart.

mod apart;
mod cache;
mod clock;
mod diagnosis;
mod introspection;
mod judge;
mod proofs;
mod snapshot;
mod source;

use std::any::Any;
use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

pub use cache::CacheStats;
pub use clock::{Clock, ManualClock, SystemClock};
pub use snapshot::{Live, Rules, RulesError, Snapshot};
pub use source::{NoReply, Refresh, Source};

use crate::check::{Decision, Facts};
use apart::{Apart, NotProven};
use cache::TokenCache;
use introspection::Introspections;
use judge::{Learnt, Missing, What};

/// As long as one request waits for keys and answers together. The edges wait 6 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Judges requests. Cheap to clone; all clones share one state, and with the last of them end the tasks
/// that fetch for it.
///
/// It belongs to the runtime that it was made on: there its keys are fetched. Once that runtime is gone,
/// the last keys serve for `max_stale`, and what needs others is answered with 503; an error in the log says
/// so. Other runtimes may ask it too, with time enabled. In tests make a gate in each `#[tokio::test]`, which
/// has a runtime of its own, and none in a `static`.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

/// A gate that may have ended.
#[cfg(feature = "metrics")]
pub(crate) struct WeakGate(std::sync::Weak<Inner>);

struct Inner {
    live: Arc<Live>,
    source: Arc<dyn Source>,
    cache: Arc<TokenCache>,
    introspections: Arc<Introspections>,
    /// For signatures that take long.
    apart: Apart,
    /// What rooms above keep with it, by type.
    #[cfg_attr(
        not(any(feature = "tower", feature = "metrics")),
        expect(dead_code, reason = "the layer and metrics ask for them")
    )]
    companions: Companions,
}

/// Things that end with the gate, and that it does not look at.
pub(crate) type Companions = Vec<Box<dyn Any + Send + Sync>>;

/// Something must be asked for first.
#[cfg(any(feature = "tower", feature = "server"))]
pub(crate) struct Undecided(Missing);

impl Gate {
    /// A gate over this state, with a proof cache of about `cache_bytes` bytes.
    pub fn new(live: Arc<Live>, source: Arc<dyn Source>, cache_bytes: u64) -> Self {
        Self::with_companions(live, source, cache_bytes, Vec::new())
    }

    pub(crate) fn with_companions(
        live: Arc<Live>,
        source: Arc<dyn Source>,
        cache_bytes: u64,
        companions: Companions,
    ) -> Self {
        let cache = Arc::new(TokenCache::new(cache_bytes));
        let introspections =
            Introspections::new(Arc::clone(&live), Arc::clone(&source), Arc::clone(&cache));
        let introspections = Arc::new(introspections);
        let cores = available_parallelism().map_or(1, NonZero::get);
        let apart = Apart::new(Arc::clone(&live), Arc::clone(&cache), cores);
        Self(Arc::new(Inner { live, source, cache, introspections, apart, companions }))
    }

    /// Judges one request.
    ///
    /// Waits only for a key that is not known or for a realm's word about the token, for as long as the
    /// [`Source`] allows; and for a signature that takes long to verify
    /// ([`Key::is_slow`](crate::check::Key::is_slow)), which is done on threads of the gate's own: never
    /// longer than 5 s in all. Dropping the future is safe at any time: what others wait for goes on. Outside
    /// of a tokio runtime it cannot wait: it verifies on the spot, and answers 503 where something is missing.
    ///
    /// # Panics
    /// If it has to wait on a tokio runtime without time (`enable_time`, or `enable_all`, of its builder).
    pub async fn check(&self, facts: &Facts<'_>) -> Decision {
        match self.0.judge(facts, &Learnt::default()) {
            Ok(decision) => decision,
            // Few requests wait, so what waiting needs is kept out of every request's memory.
            Err(missing) => Box::pin(self.wait(facts, missing)).await,
        }
    }

    /// The decision, if nothing has to be waited for.
    #[cfg(any(feature = "tower", feature = "server"))]
    pub(crate) fn look(&self, facts: &Facts<'_>) -> Result<Decision, Undecided> {
        self.0.judge(facts, &Learnt::default()).map_err(Undecided)
    }

    /// Asks for what is missing, and judges again.
    #[cfg(any(feature = "tower", feature = "server"))]
    pub(crate) async fn decide(&self, facts: &Facts<'_>, undecided: Undecided) -> Decision {
        self.wait(facts, undecided.0).await
    }

    async fn wait(&self, facts: &Facts<'_>, mut missing: Missing) -> Decision {
        let mut learnt = Learnt::default();
        if Handle::try_current().is_err() {
            learnt.on_the_spot = true; // no timer, and nobody to ask
            let found = self.0.judge(facts, &learnt);
            return found.unwrap_or_else(|missing| missing.deny(&learnt));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match missing.what {
                What::Signature(ref token) => {
                    match self.0.apart.prove(facts.policy, token.clone(), deadline).await {
                        Ok(proven) => learnt.proven = proven,
                        Err(NotProven::NoThreads) => learnt.on_the_spot = true,
                        Err(NotProven::Unavailable) => return missing.deny(&learnt),
                    }
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

    /// Waits until every realm has had keys once, for as long as that takes: put a timeout around it,
    /// or do not wait at all. What is asked before is answered with 503. It never ends if the runtime that
    /// the gate was made on has ended before.
    ///
    /// ```
    /// # async fn wait(gate: vidimus::gate::Gate) {
    /// let second = std::time::Duration::from_secs(1);
    /// if tokio::time::timeout(second, gate.ready()).await.is_err() {
    ///     eprintln!("the realm does not answer yet");
    /// }
    /// # }
    /// ```
    pub async fn ready(&self) {
        self.0.live.ready().await;
    }

    /// Whether every realm has had keys once, for a readiness probe. It stays so: an issuer that goes away
    /// must not take every instance out of rotation.
    pub fn is_ready(&self) -> bool {
        self.0.live.was_ready()
    }

    /// What a room above has given it to keep.
    #[cfg(any(feature = "tower", feature = "metrics"))]
    pub(crate) fn companion<T: 'static>(&self) -> Option<&T> {
        self.0.companions.iter().find_map(|companion| companion.downcast_ref())
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn downgrade(&self) -> WeakGate {
        WeakGate(Arc::downgrade(&self.0))
    }

    /// Counters of the proof cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.cache.stats(self.0.live.moment())
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

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.introspections.end(); // else a call in flight would keep the issuers alive
    }
}

#[cfg(feature = "metrics")]
impl WeakGate {
    /// The gate, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<Gate> {
        self.0.upgrade().map(Gate)
    }
}
