//! Why a realm calls a token inactive that verifies: counted, and told once a minute.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::check::{Claims, RealmRules, ReplyError};

const MINUTE: Duration = Duration::from_secs(60);

/// If the realm called another token active so recently, it is this token's own fault.
const RECENT: Duration = Duration::from_secs(600);

/// By realm.
#[derive(Default)]
pub(super) struct Diagnosis(Mutex<HashMap<Arc<str>, Seen>>);

#[derive(Default)]
struct Seen {
    inactive: u64,
    last_active: Option<Duration>,
    last_told: Option<Duration>,
    unusable: BTreeMap<&'static str, u64>,
    last_unusable: Option<Duration>,
    failing: bool,
}

/// The likely reason, the likeliest first.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// `aud` stands in the token, and our client not in it.
    Audience,
    /// Nothing of this realm has been active yet: it is mostly the configuration.
    Configuration,
    /// Others are.
    Session,
}

impl Diagnosis {
    /// A token whose signature is good was called active, or not.
    pub(super) fn verified(
        &self,
        realm: &RealmRules,
        claims: &Claims,
        active: bool,
        now: Duration,
    ) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(Arc::clone(&realm.name)).or_default();
        if active {
            seen.last_active = Some(now);
            return;
        }
        seen.inactive += 1;
        if seldom(&mut seen.last_told, now) {
            let client = realm.introspection.as_ref().map_or("", |rules| &*rules.client_id);
            tell(&realm.name, client, &reason(claims, client, seen.last_active, now));
        }
    }

    /// An answer could not be used although it came well.
    pub(super) fn unusable(&self, realm: &RealmRules, error: ReplyError, now: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(Arc::clone(&realm.name)).or_default();
        *seen.unusable.entry(error.label()).or_default() += 1;
        if seldom(&mut seen.last_unusable, now) {
            let (realm, reason) = (&*realm.name, error.label());
            tracing::warn!(
                realm,
                reason,
                "cannot use the answer of introspection: {error}; the token is answered with 503"
            );
        }
    }

    /// Whether the last question to this realm got no answer.
    pub(super) fn failing(&self, realm: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(realm).is_some_and(|seen| seen.failing)
    }

    /// A question got an answer, or none.
    pub(super) fn answered(&self, realm: &Arc<str>, answered: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(Arc::clone(realm)).or_default().failing = !answered;
    }

    /// How many answers "not active" were about tokens that verify, by realm.
    pub(super) fn inactive(&self) -> Vec<(Arc<str>, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(realm, seen)| (Arc::clone(realm), seen.inactive)).collect()
    }
}

impl Diagnosis {
    /// How many answers came well and could not be used, by realm and reason.
    pub(super) fn unusable_answers(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(realm, seen): (&Arc<str>, &Seen)| {
            let counts: Vec<_> = seen
                .unusable
                .iter()
                .map(|(why, count)| (Arc::clone(realm), *why, *count))
                .collect();
            counts
        };
        all.iter().flat_map(of).collect()
    }
}

fn seldom(last: &mut Option<Duration>, now: Duration) -> bool {
    let due = last.is_none_or(|last| now.saturating_sub(last) >= MINUTE);
    if due {
        *last = Some(now);
    }
    due
}

fn reason(claims: &Claims, client: &str, last_active: Option<Duration>, now: Duration) -> Reason {
    let mut audience = claims.audience().peekable();
    if audience.peek().is_some() && audience.all(|aud| aud != client) {
        Reason::Audience
    } else if last_active.is_some_and(|then| now.saturating_sub(then) < RECENT) {
        Reason::Session
    } else {
        Reason::Configuration
    }
}

fn tell(realm: &str, client: &str, reason: &Reason) {
    const WHAT: &str = "a token that verifies is called not active by its realm";
    match reason {
        Reason::Audience => tracing::warn!(
            realm,
            introspecting_client = client,
            "{WHAT}. Most likely because its `aud` does not hold our client id, which Keycloak wants \
             since 26.6.2 (and 26.4.12): add an audience mapper for {client:?} to the client that \
             obtains the tokens. `vidimus doctor` tells more"
        ),
        Reason::Configuration => tracing::warn!(
            realm,
            introspecting_client = client,
            "{WHAT}, and none has been active yet. Either Keycloak (since 26.6.2 and 26.4.12) misses our \
             client id in the token's audience: add an audience mapper for {client:?}, with \"Add to \
             token introspection\", to the client that obtains the tokens. Or Keycloak is asked under \
             another host name than it issues tokens by: set its option `hostname`. Or the session has \
             ended. `vidimus doctor` tells more"
        ),
        Reason::Session => tracing::info!(
            realm,
            introspecting_client = client,
            "{WHAT}, while others of the realm are active: most likely its user has logged out or was \
             disabled, or it was revoked; else its client lacks the audience mapper for {client:?}"
        ),
    }
}
