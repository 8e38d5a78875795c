//! Keeps one realm's keys fresh: a task that fetches on schedule and when asked, and publishes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use url::Url;

use super::IssuerSettings;
use super::discovery::{Endpoints, Metadata, metadata};
use super::http::{Client, Failure, FetchError, get};
use super::round::{Rounds, Step};
use crate::check::KeySet;
use crate::gate::{Live, Refresh};

/// How long a request waits for a key it does not know. The edges wait 6 s for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failed fetch the next is tried after 1 s, 2 s, 4 s … up to this.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// As many requests wait for one realm's keys; each holds its headers in memory. More are told to come
/// again.
const MAX_WAITING: usize = 1_024;

/// The number of the round after which a realm is no longer asked.
const RETIRED: u64 = u64::MAX;

/// The same, when nobody has taken its place: its task ended with the runtime.
const ORPHANED: u64 = RETIRED - 1;

/// Where the keys are, and until when that is believed: forced fetches must not put off looking again.
pub(super) struct Known {
    uri: Url,
    until: Instant,
}

/// What the fetching task of a realm shares with requests and metrics.
pub(super) struct Realm {
    pub(super) settings: IssuerSettings,
    rounds: Mutex<Rounds>,
    wake: Notify,
    ended: watch::Sender<u64>,
    waiting: Semaphore,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// As the metadata named them last.
    endpoints: ArcSwap<Option<Endpoints>>,
}

impl Realm {
    /// With what was counted of its outcomes before, under other settings.
    pub(super) fn new(settings: IssuerSettings, counted: BTreeMap<&'static str, u64>) -> Self {
        Self {
            rounds: Mutex::new(Rounds::new(settings.cooldown)),
            settings,
            wake: Notify::new(),
            ended: watch::Sender::new(0),
            waiting: Semaphore::new(MAX_WAITING),
            outcomes: Mutex::new(counted),
            endpoints: ArcSwap::default(),
        }
    }

    /// A request holds a token with a `kid` that is not known, or there are no usable keys at all.
    /// Nothing if this realm has been replaced by one with other settings.
    pub(super) async fn refresh(&self, kid: &str, has_keys: bool) -> Option<Refresh> {
        let Ok(_place) = self.waiting.try_acquire() else { return Some(Refresh::CoolingDown) };
        let deadline = Instant::now() + PATIENCE;
        let mut ended = self.ended.subscribe();
        loop {
            let step = lock(&self.rounds).ask(kid, has_keys, Instant::now());
            self.wake.notify_one();
            let round = match step {
                Step::Answer(refresh) => return Some(refresh),
                Step::Wait(round) => round,
            };
            // The sender lives as long as `self`: waiting can only end well or in time.
            match timeout_at(deadline, ended.wait_for(|number| *number >= round)).await {
                Ok(Ok(number)) if *number == RETIRED => return None,
                Ok(Ok(number)) if *number == ORPHANED => return Some(Refresh::Unreachable),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Some(Refresh::Unreachable),
            }
        }
    }

    /// Where the realm answers about tokens, once its metadata have been read.
    pub(super) fn endpoint(&self) -> Arc<Option<Endpoints>> {
        self.endpoints.load_full()
    }

    /// The metadata have been read.
    pub(super) fn know(&self, endpoints: Endpoints) {
        self.endpoints.store(Arc::new(Some(endpoints)));
    }

    /// How many fetches ended how: `ok`, or an error's label.
    pub(super) fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.outcomes).clone()
    }

    /// Sends everybody who waits to the realm that takes this one's place.
    pub(super) fn retire(&self) {
        self.ended.send_replace(RETIRED);
    }

    /// False if that came too late.
    fn tell(&self, round: u64) -> bool {
        self.ended.send_if_modified(|last| {
            let over = *last >= ORPHANED; // for good, though a last fetch may end after that
            if !over {
                *last = round;
            }
            !over
        })
    }

    /// Fetches for ever. Aborted when the realm leaves the configuration. Should a fetch panic, a realm
    /// whose keys nobody fetches any more would be an outage in a day: it begins anew.
    pub(super) fn run(
        self: Arc<Self>,
        client: Client,
        live: Arc<Live>,
        slots: Arc<Semaphore>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let end = End(Arc::clone(&self)); // although it may end before it is polled
        async move {
            let realm = &end.0;
            loop {
                let mut fetching = JoinSet::new();
                let (own, client) = (Arc::clone(realm), client.clone());
                fetching.spawn(own.fetch_for_ever(client, Arc::clone(&live), Arc::clone(&slots)));
                let ended = fetching.join_next().await;
                if ended.is_none_or(|ended| !ended.is_err_and(|e| e.is_panic())) {
                    return;
                }
                let round = lock(&realm.rounds).end(None);
                realm.tell(round.number);
                let name = &*realm.settings.name;
                tracing::error!(realm = name, "fetching keys has panicked; it begins anew");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn fetch_for_ever(
        self: Arc<Self>,
        client: Client,
        live: Arc<Live>,
        slots: Arc<Semaphore>,
    ) {
        let jitter = RandomState::new();
        let mut known: Option<Known> = None;
        let mut failures = 0_u32;
        let mut next = Instant::now();
        loop {
            let due = lock(&self.rounds).due(Instant::now()).map_or(next, |due| due.min(next));
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.wake.notified() => continue, // `due` may have changed
            }
            lock(&self.rounds).begin(Instant::now());
            let result = {
                // Closed never: the semaphore lives in this task.
                let _slot = slots.acquire().await;
                self.fetch(&client, &mut known).await
            };
            let pause = match &result {
                Ok(keys) => {
                    self.report(keys, &live, failures);
                    live.publish_keys(&self.settings.issuer, Arc::clone(keys));
                    failures = 0;
                    self.settings.refresh
                }
                Err(error) => {
                    self.complain(error, &live, failures);
                    failures = failures.saturating_add(1);
                    let backoff = Duration::from_secs(1 << (failures - 1).min(6));
                    backoff.min(MAX_BACKOFF).min(self.settings.refresh)
                }
            };
            // 90 to 110 %, so that a fleet started together does not ask together.
            let dice = 0.9 + (jitter.hash_one(Instant::now()) % 1000) as f64 / 5000.0;
            next = Instant::now() + pause.mul_f64(dice);
            let round = lock(&self.rounds).end(result.ok());
            self.tell(round.number);
        }
    }

    /// One fetch: the keys always; where they are, if that is not known, has failed or is long ago.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        known: &mut Option<Known>,
    ) -> Result<Arc<KeySet>, Failure> {
        let Known { uri, until } = match known.take().filter(|known| Instant::now() < known.until) {
            Some(known) => known,
            None => {
                let Metadata { jwks: uri, endpoints } = metadata(client, &self.settings).await?;
                self.know(endpoints);
                // A little less than the schedule, so that each scheduled fetch looks again.
                Known { uri, until: Instant::now() + self.settings.refresh.mul_f64(0.8) }
            }
        };
        let body = get(client, &uri).await?;
        let keys = KeySet::parse(&body).map_err(|error| FetchError::Keys(error).at(&uri))?;
        *known = Some(Known { uri, until });
        Ok(Arc::new(keys))
    }

    fn report(&self, keys: &KeySet, live: &Live, failures: u32) {
        *lock(&self.outcomes).entry("ok").or_default() += 1;
        let realm = &*self.settings.name;
        let snapshot = live.load();
        let place = snapshot.realms().place_of(&self.settings.issuer);
        let known = place.and_then(|place| snapshot.realms().get(place)?.last_keys());
        let what =
            if known.is_none() { "the realm's signing keys" } else { "signing keys have changed" };
        if known.is_none_or(|known| !known.same_keys(keys)) {
            let skipped: Vec<_> = keys
                .skipped()
                .iter()
                .map(|s| (s.kid.as_deref().unwrap_or("-"), s.reason))
                .collect();
            tracing::info!(realm, keys = ?keys.keys(), ?skipped, "{what}");
        } else if failures > 0 {
            tracing::info!(realm, failures, "the issuer is reachable again");
        } else {
            tracing::debug!(realm, "signing keys are unchanged");
        }
    }

    fn complain(&self, failure: &Failure, live: &Live, failures: u32) {
        *lock(&self.outcomes).entry(failure.error.label()).or_default() += 1;
        let (realm, issuer) = (&*self.settings.name, &*self.settings.issuer);
        let snapshot = live.load();
        let place = snapshot.realms().place_of(issuer);
        let realm_state = place.and_then(|place| snapshot.realms().get(place));
        let what_works = match realm_state.map(|realm| (realm.keys(live.now()), realm.fetched())) {
            Some((Some(_), Some(_))) => "the realm's last good keys stay in use",
            Some((None, Some(_))) => {
                "the realm's last good keys are too old: its tokens are answered with 503"
            }
            _ => "the realm has no keys yet: its tokens are answered with 503",
        };
        let attempt = failures + 1;
        tracing::warn!(
            realm,
            issuer,
            attempt,
            "cannot fetch signing keys: {failure}; {what_works}"
        );
    }
}

/// Tells those who wait for a realm's task that it has ended, however that came.
struct End(Arc<Realm>);

impl Drop for End {
    fn drop(&mut self) {
        if self.0.tell(ORPHANED) {
            let realm = &*self.0.settings.name;
            tracing::error!(
                realm,
                "the tokio runtime that the gate was built on has ended, and nobody fetches the realm's keys \
                 any more: its last good keys serve for max_stale, and what needs others is answered with \
                 503; build the gate on a runtime that lives as long as the gate is used (in tests: in each \
                 test, not in a static); at the end of the process it means nothing"
            );
        }
    }
}

/// The bookkeeping is whole between any two of its statements, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
