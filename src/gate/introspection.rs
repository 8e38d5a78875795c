//! Asks a realm about a token: once, however many requests wait for the answer, and whichever of them
//! give up meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::cache::{Known, Moment, TokenCache};
use super::diagnosis::Diagnosis;
use super::snapshot::Version;
use super::{Live, PATIENCE, Refresh, Source};
use crate::check::{
    Denial, Introspected, IntrospectionRules, OwnedToken, RealmRules, Reply, ReplyError, Verified,
    introspected,
};

/// As many requests wait for answers, all tokens together; each holds its headers in memory. More are
/// told to come again.
const MAX_WAITING: usize = 16_384;

/// The same for realms whose last answer did not come: a tenth of the connections.
const MAX_CAUTIOUS: usize = 1_024;

/// What a realm says about a token: a proof, or why there is none.
pub(super) type Answer = Result<Arc<Verified>, Denial>;

/// Who waits for what, by token, realm and rules; since when.
type Flights = HashMap<(Known, u64), (Landed, Instant)>;

type Landed = watch::Receiver<Option<Answer>>;

/// What to ask.
pub(super) struct Question {
    pub(super) known: Known,
    pub(super) place: usize,
    pub(super) realm: Arc<RealmRules>,
    pub(super) rules: IntrospectionRules,
    pub(super) version: Version,
    pub(super) token: OwnedToken,
    /// What the token's own signature proves.
    pub(super) presented: Option<Arc<Verified>>,
}

pub(super) struct Introspections {
    live: Arc<Live>,
    source: Arc<dyn Source>,
    cache: Arc<TokenCache>,
    flights: Mutex<Flights>,
    waiting: Semaphore,
    cautious: Semaphore,
    pub(super) diagnosis: Diagnosis,
    /// The gate is gone.
    ended: watch::Sender<bool>,
}

impl Introspections {
    pub(super) fn new(live: Arc<Live>, source: Arc<dyn Source>, cache: Arc<TokenCache>) -> Self {
        let (flights, diagnosis) = (Mutex::default(), Diagnosis::default());
        let (waiting, cautious) = (Semaphore::new(MAX_WAITING), Semaphore::new(MAX_CAUTIOUS));
        let ended = watch::Sender::new(false);
        Self { live, source, cache, flights, waiting, cautious, diagnosis, ended }
    }

    /// Ends every flight: nobody waits for one any more.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// The answer, waited for until `deadline`.
    pub(super) async fn ask(self: &Arc<Self>, question: Question, deadline: Instant) -> Answer {
        // A realm whose last answer did not come may be hung: then only few wait for the next one, so
        // that it does not take all connections away from tokens that need no answer.
        let places = match self.diagnosis.failing(&question.realm.name) {
            true => &self.cautious,
            false => &self.waiting,
        };
        let Ok(_place) = places.try_acquire() else {
            return Err(Denial::IntrospectionUnavailable);
        };
        let (mut landed, flight) = {
            let mut flights = self.flights();
            // It may have landed since the cache was looked at: flights leave after they are kept.
            if let Some(answer) =
                self.cache.answer(&question.known, question.version, self.live.uptime())
            {
                return answer;
            }
            let (key, now) = ((question.known, question.version.rules), Instant::now());
            match flights.get(&key) {
                // One that takes longer than anybody waits is joined by nobody: it flies on the runtime of
                // who asked first, which may stand still.
                Some((landed, began)) if now < *began + PATIENCE => (landed.clone(), None),
                Some(_) | None => {
                    let (tell, landed) = watch::channel(None);
                    flights.insert(key, (landed.clone(), now));
                    let flight = Flight { all: Arc::clone(self), key, landed: landed.clone() };
                    (landed, Some((flight, tell)))
                }
            }
        };
        if let Some((flight, tell)) = flight {
            // A task of its own: whoever asked first may give up. Not under the lock: a runtime that is
            // ending drops the flight at once, which takes it out of the list.
            tokio::spawn(async move {
                let mut ended = flight.all.ended.subscribe();
                let answer = tokio::select! {
                    answer = flight.all.fly(&question) => answer,
                    _ = ended.wait_for(|ended| *ended) => Err(Denial::IntrospectionUnavailable),
                };
                drop(flight);
                tell.send_replace(Some(answer));
            });
        }
        match timeout_at(deadline, landed.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Denial::IntrospectionUnavailable)),
            Ok(Err(_)) | Err(_) => Err(Denial::IntrospectionUnavailable),
        }
    }

    async fn fly(&self, question: &Question) -> Answer {
        let asked = self.live.uptime();
        let verified = question.presented.is_some();
        let token = question.token.clone();
        let reply = self.source.introspect(&question.realm.issuer, token, verified).await;
        self.diagnosis.answered(&question.realm.name, reply.is_ok());
        let reply = reply.map_err(|_| Denial::IntrospectionUnavailable)?;
        let (answer, kept) = match self.read(question, &reply).await? {
            Introspected::Active(verified) => (Ok(Arc::new(verified)), question.rules.cache_ttl),
            Introspected::Inactive => (Err(Denial::Inactive), question.rules.inactive_ttl),
            // What time alone cures is judged anew each time.
            Introspected::Refused(denial @ (Denial::NotYetValid | Denial::IssuedInFuture)) => {
                (Err(denial), Duration::ZERO)
            }
            Introspected::Refused(denial) => (Err(denial), question.rules.inactive_ttl),
            Introspected::Needs(_) => {
                // Signed with a key that the realm does not publish: its own fault again.
                self.diagnosis.unusable(&question.realm, ReplyError::Signature, asked);
                return Err(Denial::IntrospectionUnavailable);
            }
        };
        if self.live.load().version.rules != question.version.rules {
            return Err(Denial::IntrospectionUnavailable); // asked by rules that are gone
        }
        if let Some(presented) = &question.presented {
            let active = !matches!(answer, Err(Denial::Inactive));
            self.diagnosis.verified(&question.realm, presented.claims(), active, asked);
        }
        // Within the leeway it still passes: authorize() judges that.
        let now = self.live.now().before(question.realm.leeway);
        let moment = Moment { version: question.version, now, uptime: asked };
        self.cache.keep_answer(question.known, answer.clone(), kept, moment);
        self.cache.tidy(moment);
        answer
    }

    /// Reads an answer; if a part of it is signed with a key that is not known, again with that key.
    async fn read(&self, question: &Question, reply: &Reply) -> Result<Introspected, Denial> {
        let read = || {
            let snapshot = self.live.load();
            let presented = question.presented.as_deref();
            introspected(reply, presented, question.place, snapshot.realms(), self.live.now())
        };
        let unusable = |error| {
            self.diagnosis.unusable(&question.realm, error, self.live.uptime());
            Denial::IntrospectionUnavailable
        };
        match read().map_err(unusable)? {
            Introspected::Needs(lookup) => {
                let issuer = &question.realm.issuer;
                match self.source.refresh(issuer, &lookup.kid, lookup.has_keys).await {
                    Refresh::Done => read().map_err(unusable),
                    Refresh::CoolingDown => Err(Denial::KeysCoolingDown),
                    Refresh::Unreachable => Err(Denial::KeysUnavailable),
                }
            }
            other => Ok(other),
        }
    }

    /// The map is whole between any two of its statements, so a panic elsewhere spoils nothing.
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the list of flights however it ends: else nobody would ask about this token again.
struct Flight {
    all: Arc<Introspections>,
    key: (Known, u64),
    landed: Landed,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.all.flights();
        if flights.get(&self.key).is_some_and(|(landed, _)| landed.same_channel(&self.landed)) {
            flights.remove(&self.key); // and not one that took its place
        }
    }
}
