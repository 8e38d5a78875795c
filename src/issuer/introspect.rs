//! Asks a realm about a token (RFC 7662): few calls at a time, none while it is out of order, and all of
//! it within one deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;
use url::form_urlencoded::Serializer;

use super::breaker::Breaker;
use super::client_auth::{ClientAuth, Credentials, Ready};
use super::discovery::Endpoint;
use super::http::{broken, check_place, check_secure, check_status, content_type, whole_body};
use super::jwks::Realm;
use super::stats::{IntrospectionStats, Stats};
use super::{Failure, FetchError};
use crate::check::{Json, JsonLimits, OwnedToken, Reply};
use crate::gate::{Live, NoReply};

/// How to ask a realm about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionSettings {
    /// Where, instead of what the realm's metadata say.
    pub endpoint: Option<Url>,
    /// Our client there. It must be confidential.
    pub client_id: String,
    /// How it proves itself.
    pub auth: ClientAuth,
    /// For one question altogether: waiting for a free place, connecting, asking again. Default 2 s.
    pub timeout: Duration,
    /// So many calls run at once; sixteen times as many wait. Default 64.
    pub max_concurrent: usize,
    /// Asks for the full token beside the claims (Keycloak's `Accept: application/jwt`), or for a signed
    /// answer (RFC 9701) where the metadata say that the realm makes them.
    pub prefer_jwt: bool,
}

impl IntrospectionSettings {
    /// The defaults for a client.
    pub fn new(client_id: &str, auth: ClientAuth) -> Self {
        Self {
            endpoint: None,
            client_id: client_id.to_owned(),
            auth,
            timeout: Duration::from_secs(2),
            max_concurrent: 64,
            prefer_jwt: false,
        }
    }
}

/// So many times as many as run may wait for their turn.
const QUEUE: usize = 16;

/// A connection that cannot be made or breaks is tried again after these pauses.
const RETRIES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// One line of log per kind of failure and period.
const PERIOD: Duration = Duration::from_secs(60);

/// Introspection at one realm.
pub(super) struct Introspector {
    settings: IntrospectionSettings,
    realm: Arc<Realm>,
    live: Arc<Live>,
    credentials: Arc<Credentials>,
    turns: Turns,
    /// For tokens that anybody can invent: half as many.
    unverified: Turns,
    breaker: Mutex<Breaker>,
    told: Mutex<HashMap<&'static str, Instant>>,
    failing: AtomicBool,
    stats: Arc<Stats>,
}

impl Introspector {
    /// With what was counted before, under other settings.
    pub(super) fn new(
        settings: IntrospectionSettings,
        realm: Arc<Realm>,
        live: Arc<Live>,
        credentials: Arc<Credentials>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            turns: Turns::new(settings.max_concurrent),
            unverified: Turns::new(settings.max_concurrent.div_ceil(2)),
            settings,
            realm,
            live,
            credentials,
            breaker: Mutex::default(),
            told: Mutex::default(),
            failing: AtomicBool::new(false),
            stats,
        }
    }

    /// What the realm answers about this token, within `timeout`. Tokens whose signature is good keep
    /// half of the turns to themselves, however many others are invented meanwhile.
    pub(super) async fn ask(&self, token: &OwnedToken, verified: bool) -> Result<Reply, NoReply> {
        let deadline = Instant::now() + self.settings.timeout;
        let answer = self.within(token, verified, deadline).await;
        let outcome = match &answer {
            Ok(Reply::Inactive) => "inactive",
            Ok(Reply::Active(_)) => "active",
            Ok(Reply::Signed(_)) => "signed",
            Err(failure) => failure.error.label(),
        };
        self.stats.count(outcome);
        answer.map_err(|failure| {
            self.complain(&failure);
            NoReply
        })
    }

    /// Whether the metadata, or our settings, say where to ask.
    pub(super) fn knows_where(&self) -> bool {
        self.settings.endpoint.is_some() || self.realm.endpoint().is_some()
    }

    /// The same without counting or logging what fails.
    pub(super) async fn try_ask(&self, token: &OwnedToken) -> Result<Reply, Failure> {
        self.within(token, false, Instant::now() + self.settings.timeout).await
    }

    pub(super) fn stats(&self) -> IntrospectionStats {
        self.stats.read(lock(&self.breaker).is_open(Instant::now()))
    }

    pub(super) fn counted(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    async fn within(
        &self,
        token: &OwnedToken,
        verified: bool,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        if lock(&self.breaker).is_open(Instant::now()) {
            return Err(FetchError::Open.into());
        }
        let _half = match verified {
            true => None,
            false => Some(self.unverified.wait(deadline).await?),
        };
        let _turn = self.turns.wait(deadline).await?;
        if !lock(&self.breaker).admit(Instant::now()) {
            return Err(FetchError::Open.into());
        }
        // Whoever has waited long for his turn leaves the realm too little time: that it does not
        // answer then is no sign that it is out of order.
        let left = deadline.saturating_duration_since(Instant::now());
        let fair = left >= self.settings.timeout / 2;
        let call = Call::begin(self);
        let answer = match timeout_at(deadline, self.call(token, deadline)).await {
            Ok(Err(failure)) if !fair && matches!(failure.error, FetchError::Timeout(_)) => {
                Err(FetchError::Busy.into())
            }
            Ok(answer) => answer,
            Err(_) if fair => Err(FetchError::Timeout(self.settings.timeout).into()),
            Err(_) => Err(FetchError::Busy.into()),
        };
        call.ended(&answer, verified);
        answer
    }

    async fn call(&self, token: &OwnedToken, deadline: Instant) -> Result<Reply, Failure> {
        let Endpoint { url, signs } = self.endpoint().await?;
        let mut retries = RETRIES.iter();
        let mut read_again = false;
        loop {
            let ready = self.credentials.now().await;
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.post(&ready, &url, token, signs, left).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            match &error {
                // The secret may have been rotated this very second.
                FetchError::Credentials { .. } | FetchError::Status(401) if !read_again => {
                    read_again = true;
                    if !self.credentials.have_changed(&ready).await {
                        return Err(error.at(&url));
                    }
                }
                FetchError::Connect(_) => match retries.next() {
                    Some(pause) if Instant::now() + *pause < deadline => sleep(*pause).await,
                    _ => return Err(error.at(&url)), // what broke, not that time is up
                },
                _ => return Err(error.at(&url)),
            }
        }
    }

    /// Where to ask. At start the metadata may not have been read yet: then they are waited for.
    pub(super) async fn endpoint(&self) -> Result<Endpoint, Failure> {
        if !self.knows_where() {
            self.realm.refresh("", false).await;
        }
        let found = self.realm.endpoint();
        let signs = found.as_ref().as_ref().is_some_and(|found| found.signs);
        if let Some(url) = &self.settings.endpoint {
            let insecure_http = self.realm.settings.insecure_http;
            check_secure(url, insecure_http).map_err(|error| error.at(url))?;
            return Ok(Endpoint { url: url.clone(), signs });
        }
        match &*found {
            Some(found) => found.introspection(&self.settings.auth).map_err(Failure::from),
            None => Err(FetchError::Metadata("have not been read yet").into()),
        }
    }

    async fn post(
        &self,
        ready: &Ready,
        url: &Url,
        token: &OwnedToken,
        signs: bool,
        left: Duration,
    ) -> Result<Reply, FetchError> {
        let (form, header) = self.form(ready, token)?;
        let accept = match (self.settings.prefer_jwt, signs) {
            (false, _) => "application/json",
            (true, false) => "application/jwt", // Keycloak wants exactly this
            (true, true) => SIGNED,
        };
        let mut request = ready
            .client
            .at(url)
            .post(url.clone())
            .timeout(left)
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let limit = self.settings.timeout;
        let answer = request.send().await.map_err(|error| match broken(error, limit) {
            FetchError::Broken(why) => FetchError::Connect(why), // nothing came: it may be asked again
            other => other,
        })?;
        check_place(&answer, url)?;
        let (status, kind) = (answer.status(), content_type(&answer).unwrap_or_default());
        if matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            let body = whole_body(answer, limit).await?;
            // Keycloak's word for a token that it cannot even read; but also for troubles of its own,
            // such as a database that is away. It can read a JWT that verifies.
            let unread = status == StatusCode::BAD_REQUEST
                && !token.as_raw().is_jws()
                && has(&body, "Failed to introspect token");
            return if unread { Ok(Reply::Inactive) } else { Err(refusal(status, body)) };
        }
        check_status(status)?;
        let body = whole_body(answer, limit).await?;
        let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let reply = match &*media {
            SIGNED => Reply::signed(&body),
            media if media.is_empty() || media.contains("json") => Reply::json(body),
            _ => return Err(FetchError::NotJson(kind)),
        };
        reply.map_err(FetchError::Reply)
    }

    fn form(
        &self,
        ready: &Ready,
        token: &OwnedToken,
    ) -> Result<(String, Option<HeaderValue>), FetchError> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.as_raw().expose());
        form.append_pair("token_type_hint", "access_token");
        let (client_id, issuer) = (&self.settings.client_id, &self.realm.settings.issuer);
        let header = ready.prove(&mut form, client_id, issuer, self.live.now())?;
        Ok((form.finish(), header))
    }

    fn complain(&self, failure: &Failure) {
        if matches!(failure.error, FetchError::Open) {
            return; // why has been told
        }
        let label = failure.error.label();
        let now = Instant::now();
        let mut told = lock(&self.told);
        if told.get(label).is_none_or(|then| now.duration_since(*then) >= PERIOD) {
            told.insert(label, now);
            drop(told);
            self.failing.store(true, Ordering::Relaxed);
            tracing::warn!(
                realm = &*self.realm.settings.name,
                reason = label,
                "cannot introspect: {failure}; tokens that the realm must be asked about are answered with \
                 503, all others as ever"
            );
        }
    }

    fn recovered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(realm = &*self.realm.settings.name, "introspection works again");
        }
    }
}

const SIGNED: &str = "application/token-introspection+jwt";

fn has(body: &[u8], words: &str) -> bool {
    body.windows(words.len()).any(|window| window == words.as_bytes())
}

/// RFC 6749 §5.2: the error code says whose fault it is.
pub(super) fn refusal(status: StatusCode, body: Vec<u8>) -> FetchError {
    let body = Json::parse(body, JsonLimits::TOKEN).ok();
    let member = |name: &str| body.as_ref().and_then(|body| body.root().get(name)?.as_str());
    // A code as it is written in RFC 6749, or none: nothing else of an answer gets into a log.
    let plain = |code: &&str| {
        (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let code = member("error").filter(plain).unwrap_or("").to_owned();
    let said = member("error_description").unwrap_or("").chars();
    let said = said.filter(|c| (' '..='~').contains(c)).take(100).collect();
    let refused = match status {
        StatusCode::BAD_REQUEST => matches!(&*code, "invalid_client" | "unauthorized_client"),
        // Without a code it is not the realm that speaks, perhaps: a firewall that dislikes the token.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => !code.is_empty(),
        _ => false,
    };
    match (refused, status.as_u16()) {
        (true, status) => FetchError::Credentials { status, code, said },
        (false, status) => FetchError::Status(status),
    }
}

/// So many calls at once, and sixteen times as many that wait for their turn.
struct Turns {
    running: Semaphore,
    waiting: Semaphore,
}

impl Turns {
    fn new(running: usize) -> Self {
        let waiting = Semaphore::new(running.saturating_mul(QUEUE));
        Self { running: Semaphore::new(running), waiting }
    }

    async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, FetchError> {
        let Ok(_place) = self.waiting.try_acquire() else { return Err(FetchError::Busy) };
        match timeout_at(deadline, self.running.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(FetchError::Busy),
        }
    }
}

/// A call that counts as running until it ends, even if it is given up.
struct Call<'a> {
    of: &'a Introspector,
    began: Instant,
    ended: bool,
}

impl<'a> Call<'a> {
    fn begin(of: &'a Introspector) -> Self {
        of.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { of, began: Instant::now(), ended: false }
    }

    fn ended(mut self, answer: &Result<Reply, Failure>, verified: bool) {
        self.ended = true;
        self.of.stats.took(self.began.elapsed());
        let mut breaker = lock(&self.of.breaker);
        match answer {
            Ok(_) => {
                breaker.succeeded();
                drop(breaker);
                self.of.recovered();
            }
            Err(failure) => match failure.error {
                FetchError::Busy => breaker.abandoned(),
                // Who invents a token may choose it so that it offends: that is not the realm's state.
                FetchError::Status(400 | 403 | 413 | 414 | 431) if !verified => {
                    breaker.abandoned();
                }
                _ => breaker.failed(Instant::now()),
            },
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.of.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            lock(&self.of.breaker).abandoned();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
