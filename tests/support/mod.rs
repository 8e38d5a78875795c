//! A gate in memory: a clock moved by hand, keys of our own, and a source that does what it is told.

#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vidimus::check::*;
use vidimus::gate::{Clock, Gate, Live, ManualClock, NoReply, Refresh, Rules, Source};
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;

/// When every story begins.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISSUER: &str = "https://id.example.com/realms/shop";
pub(crate) const OTHER_ISSUER: &str = "https://id.example.com/realms/staff";

/// What RFC 8705, appendix A binds a token to.
pub(crate) const THUMBPRINT: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

/// What an edge found of a client's certificate.
pub(crate) struct Held(pub(crate) Result<Option<Thumbprint>, CertificateError>);

impl ClientCertificate for Held {
    fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
        self.0
    }
}

/// No JWT.
pub(crate) const OPAQUE: &str = "2YotnFZFEjr1zCsicMWpAA";

pub(crate) fn rsa_key(kid: &str, algorithm: Algorithm) -> SigningKey {
    SigningKey::from_rsa_pkcs8(
        kid,
        algorithm,
        include_bytes!("../data/keys/test-only-rsa-2048.pk8"),
    )
    .unwrap()
}

pub(crate) fn ec_key(kid: &str) -> SigningKey {
    SigningKey::generate(kid, Algorithm::ES256).unwrap()
}

pub(crate) fn jwks(keys: &[&SigningKey]) -> Arc<KeySet> {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    Arc::new(KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap())
}

/// Claims of a good token at [`NOW`], changed.
pub(crate) fn claims(change: Value) -> Value {
    changed(samples::claims(ISSUER, NOW), &change)
}

pub(crate) fn changed(mut object: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::String(text) if text == "(absent)" => {
                object.as_object_mut().unwrap().remove(name);
            }
            _ => object[name] = value.clone(),
        }
    }
    object
}

/// What Keycloak says about an active token: its claims and three members more; changed.
pub(crate) fn active(change: Value) -> Value {
    let more = json!({ "active": true, "token_type": "Bearer", "client_id": "orders-web" });
    changed(changed(claims(json!({})), &more), &change)
}

/// Everything but what Keycloak leaves in a lightweight token.
pub(crate) fn lightweight(change: Value) -> Value {
    let mut left = json!({
        "jti": "onltac:5c0ffee5", "aud": "(absent)", "sub": "(absent)", "realm_access": "(absent)",
        "resource_access": "(absent)", "preferred_username": "(absent)", "email": "(absent)",
    });
    left.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    left
}

pub(crate) fn rules(issuer: &str) -> RealmRules {
    let mut rules = RealmRules::new(issuer);
    rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
    rules
}

/// Two realms, `shop` and `staff`; policies `default` and `admin` for the first, `staff` for the
/// second, `both` for both.
pub(crate) fn two_realms() -> Rules {
    let mut admin = Policy::new("admin", vec![0]);
    admin.roles = vec![Role::parse("realm:admin", None).unwrap()];
    let mut reader = Policy::new("reader", vec![0]);
    reader.scopes = vec!["orders:read".into(), "orders:list".into()];
    let policies = vec![
        Policy::new("default", vec![0]),
        admin,
        reader,
        Policy::new("staff", vec![1]),
        Policy::new("both", vec![0, 1]),
    ];
    let realms = vec![rules(ISSUER), rules(OTHER_ISSUER)];
    Rules { realms, policies, limits: Limits::default() }
}

type Then = Box<dyn FnMut(&Live) -> Refresh + Send>;
type Told = Arc<dyn Fn(&str) -> Result<Reply, NoReply> + Send + Sync>;

/// A source that counts, and does what `then` says.
pub(crate) struct FakeSource {
    pub(crate) asked: AtomicU64,
    pub(crate) then: Mutex<Then>,
    /// Questions about tokens: how many, how long each takes, and what is answered.
    pub(crate) introspected: AtomicU64,
    pub(crate) pause: Mutex<Duration>,
    pub(crate) told: Mutex<Told>,
    live: Mutex<Weak<Live>>,
}

impl FakeSource {
    /// One that has nothing to say yet.
    pub(crate) fn over(live: &Arc<Live>) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicU64::new(0),
            then: Mutex::new(Box::new(|_| Refresh::Done)),
            introspected: AtomicU64::new(0),
            pause: Mutex::new(Duration::ZERO),
            told: Mutex::new(Arc::new(|_| Err(NoReply))),
            live: Mutex::new(Arc::downgrade(live)),
        })
    }
}

impl Source for FakeSource {
    fn refresh(
        &self,
        _: &str,
        _: &str,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = Refresh> + Send + '_>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let live = self.live.lock().unwrap().upgrade().unwrap();
            (self.then.lock().unwrap())(&live)
        })
    }

    fn introspect(
        &self,
        issuer: &str,
        token: OwnedToken,
        _verified: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, NoReply>> + Send + '_>> {
        self.introspected.fetch_add(1, Ordering::SeqCst);
        let (pause, told) = (*self.pause.lock().unwrap(), Arc::clone(&self.told.lock().unwrap()));
        let question = format!("{issuer} {}", token.as_raw().expose());
        Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await; // of zero it would still be a millisecond
            }
            told(&question)
        })
    }
}

/// Whether this is a thread on which signatures are verified that take long.
pub(crate) fn is_apart() -> bool {
    thread::current().name() == Some("vidimus-verify")
}

/// Panics on those threads, if it is told to.
struct Breakable(Arc<ManualClock>, Arc<AtomicBool>);

impl Clock for Breakable {
    fn now(&self) -> UnixTime {
        if is_apart() && self.1.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("on purpose")); // says nothing on the terminal
        }
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        self.0.uptime()
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) live: Arc<Live>,
    pub(crate) source: Arc<FakeSource>,
    pub(crate) gate: Gate,
    /// Whether verifying a signature that takes long panics.
    pub(crate) breaks: Arc<AtomicBool>,
    /// The key of realm `shop`.
    pub(crate) key: SigningKey,
    /// The key of realm `staff`.
    pub(crate) other: SigningKey,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::without_keys();
        world.live.publish_keys(ISSUER, jwks(&[&world.key]));
        world.live.publish_keys(OTHER_ISSUER, jwks(&[&world.other]));
        world
    }

    pub(crate) fn without_keys() -> Self {
        Self::with(two_realms())
    }

    /// Realm `shop` may be asked about tokens, as client `vidimus`; with these changes of the rules.
    pub(crate) fn introspecting(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = two_realms();
        let mut introspection = IntrospectionRules::new("vidimus");
        introspection.prefer_jwt = true;
        rules.realms[0].introspection = Some(introspection);
        for policy in rules.policies.iter_mut().filter(|policy| policy.accepts_realm(0)) {
            policy.introspect_realm = Some(0);
        }
        change(&mut rules);
        let world = Self::with(rules);
        world.live.publish_keys(ISSUER, jwks(&[&world.key]));
        world.live.publish_keys(OTHER_ISSUER, jwks(&[&world.other]));
        world
    }

    fn with(rules: Rules) -> Self {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(NOW)));
        let breaks = Arc::new(AtomicBool::new(false));
        let breakable = Breakable(Arc::clone(&clock), Arc::clone(&breaks));
        let live = Arc::new(Live::new(rules, Arc::new(breakable)).unwrap());
        let source = FakeSource::over(&live);
        let gate = Gate::new(Arc::clone(&live), Arc::clone(&source) as _, 1024 * 1024);
        Self { clock, live, source, gate, breaks, key: ec_key("k1"), other: ec_key("s1") }
    }

    pub(crate) fn when_asked(&self, then: impl FnMut(&Live) -> Refresh + Send + 'static) {
        *self.source.then.lock().unwrap() = Box::new(then);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.source.asked.load(Ordering::SeqCst)
    }

    /// Answers every question about a token like this.
    pub(crate) fn answers(&self, answer: impl Into<Value>) {
        let answer = answer.into().to_string().into_bytes();
        self.tells(move |_| Reply::json(answer.clone()).map_err(|_| NoReply));
    }

    pub(crate) fn tells(
        &self,
        told: impl Fn(&str) -> Result<Reply, NoReply> + Send + Sync + 'static,
    ) {
        *self.source.told.lock().unwrap() = Arc::new(told);
    }

    /// How many questions about tokens came.
    pub(crate) fn introspected(&self) -> u64 {
        self.source.introspected.load(Ordering::SeqCst)
    }

    pub(crate) fn token(&self, change: Value) -> String {
        self.key.sign(&claims(change)).unwrap()
    }

    pub(crate) async fn decide(&self, policy: &str, token: &str) -> Decision {
        let facts = Facts::new(policy, Ok(RawToken::new(token)));
        self.gate.check(&facts).await
    }

    /// The same with what is known of the client's certificate.
    pub(crate) async fn decide_with(
        &self,
        policy: &str,
        token: &str,
        certificate: &dyn ClientCertificate,
    ) -> Decision {
        let credential = Ok(RawToken::new(token));
        self.gate.check(&Facts { policy, credential, certificate }).await
    }

    /// Nothing if it passes.
    pub(crate) async fn denial(&self, policy: &str, token: &str) -> Option<Denial> {
        match self.decide(policy, token).await {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        }
    }
}
