//! Signatures that take long, verified on threads of the gate's own.
//!
//! A forged one costs its sender nothing and a core half a millisecond, so only few may wait: who comes
//! when the queue is full, or does not get his turn soon, is told to come again. No runtime's threads take
//! part: an application may keep those busy, or leave a future that it asked by standing still.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, yield_now};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Live;
use super::cache::{Moment, TokenCache};
use super::snapshot::Version;
use crate::check::{Denial, OwnedToken, TokenDigest, Verification, Verified, verify};

/// So many tokens wait for each thread: a third of a second of ES384 by ring.
const WAITING: usize = 512;

/// As long as one waits for its signature, of the 5 s that a request may wait in all: what is left is
/// enough to ask its realm about it.
const PATIENCE: Duration = Duration::from_secs(2);

/// As the system lists the threads.
const NAME: &str = "vidimus-verify";

/// What a signature has shown, under the rules and keys of that moment.
pub(super) struct Proven {
    pub(super) digest: TokenDigest,
    pub(super) version: Version,
    /// A proof; or it is bad, of this realm as it claims.
    pub(super) found: Result<Arc<Verified>, Option<usize>>,
}

/// Nothing was shown.
pub(super) enum NotProven {
    /// Too many wait, it took too long, or it ended in a panic.
    Unavailable,
    /// The system gave no thread.
    NoThreads,
}

/// The threads. They start with the first token that needs one, and end with this.
pub(super) struct Apart {
    prover: Arc<Prover>,
    threads: usize,
    queue: OnceLock<Option<SyncSender<Job>>>,
}

struct Job {
    token: OwnedToken,
    policy: Box<str>,
    tell: oneshot::Sender<Option<Proven>>,
}

/// What a thread works with. It does not hold the gate, which ends with its last clone.
struct Prover {
    live: Arc<Live>,
    cache: Arc<TokenCache>,
}

impl Apart {
    pub(super) fn new(live: Arc<Live>, cache: Arc<TokenCache>, threads: usize) -> Self {
        Self { prover: Arc::new(Prover { live, cache }), threads, queue: OnceLock::new() }
    }

    /// What the token's signature shows; nothing if a look at the state of now will tell.
    pub(super) async fn prove(
        &self,
        policy: &str,
        token: OwnedToken,
        deadline: Instant,
    ) -> Result<Option<Proven>, NotProven> {
        let queue = self.queue.get_or_init(|| self.start());
        let queue = queue.as_ref().ok_or(NotProven::NoThreads)?;
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let (tell, told) = oneshot::channel();
        let job = Job { token, policy: policy.into(), tell };
        queue.try_send(job).map_err(|_| NotProven::Unavailable)?;
        match timeout_at(deadline, told).await {
            Ok(Ok(proven)) => Ok(proven),
            Ok(Err(_)) | Err(_) => Err(NotProven::Unavailable),
        }
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let (queue, jobs) = sync_channel(WAITING * self.threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |_| {
            let (jobs, prover) = (Arc::clone(&jobs), Arc::clone(&self.prover));
            Builder::new().name(NAME.into()).spawn(move || prover.work(&jobs))
        };
        let started = (0..self.threads).map_while(|number| start(number).ok()).count();
        if started == 0 {
            tracing::warn!(
                "the system gives no thread to verify signatures on that take long: they are verified where \
                 requests are answered, which holds up others"
            );
        }
        (started > 0).then_some(queue)
    }
}

impl Prover {
    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        step_back();
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return }; // the gate has ended
            // A panic refuses this token alone: its sender is gone then, and nothing else was begun.
            drop(catch_unwind(AssertUnwindSafe(|| self.take(job))));
            // Else those who wait together would be taken together, for as long as a turn lasts.
            yield_now();
        }
    }

    fn take(&self, Job { token, policy, tell }: Job) {
        // Else a flood that has given up would still have to be worked off.
        if !tell.is_closed() {
            let _ = tell.send(self.prove(&policy, &token));
        }
    }

    /// A proof goes into the cache too: others may ask for the same token, and this one give up.
    fn prove(&self, policy: &str, token: &OwnedToken) -> Option<Proven> {
        let snapshot = self.live.load();
        let policy = snapshot.policy(policy)?;
        let (token, now) = (token.as_raw(), self.live.now());
        let moment = Moment { version: snapshot.version, now, uptime: self.live.uptime() };
        if self.cache.knows(token, moment) {
            return None; // somebody who waited for the same one was first
        }
        let found = match verify(token, policy, &snapshot.realms, snapshot.limits, now) {
            Verification::Verified(proof) => {
                let proof = Arc::new(proof);
                self.cache.keep_proof(token.key(), Arc::clone(&proof), moment);
                Ok(proof)
            }
            // Who asked keeps the refusal: that cache may do its housekeeping meanwhile, and others wait.
            Verification::Reject { denial: Denial::Signature, realm } => Err(realm),
            // Found without a signature, so it costs nothing to find it again.
            Verification::Reject { .. }
            | Verification::Needs(_)
            | Verification::Introspect { .. } => return None,
        };
        self.cache.missed();
        Some(Proven { digest: token.digest(), version: moment.version, found })
    }
}

/// Who only has to be looked up is not to wait for those who have to be verified: on a core that both want,
/// these get a seventh of the time. Where it has nothing else to do they get all of it.
fn step_back() {
    // On Linux each thread has its own; elsewhere it is the application's.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE); // else as before: nothing depends on it
}

#[cfg(target_os = "linux")]
const NICE: i32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{RawToken, UnixTime};
    use crate::gate::{ManualClock, Rules};

    #[tokio::test]
    async fn without_threads_it_says_so_at_once_and_every_time() {
        let clock = Arc::new(ManualClock::at(UnixTime::default()));
        let live = Arc::new(Live::new(Rules::default(), clock).unwrap());
        let apart = Apart::new(live, Arc::new(TokenCache::new(0)), 0);
        for _ in 0..2 {
            let token = RawToken::new("a.b.c").to_owned();
            let found = apart.prove("default", token, Instant::now()).await;
            assert!(matches!(found, Err(NotProven::NoThreads)));
        }
    }
}
