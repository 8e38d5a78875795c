//! A gate in memory: a clock moved by hand, keys of our own, and a source that does what it is told.

#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use vidimus::check::*;
use vidimus::demo::key::SigningKey;
use vidimus::demo::samples;
use vidimus::gate::{Gate, Live, ManualClock, Refresh, Rules, Source};

/// When every story begins.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISSUER: &str = "https://id.example.com/realms/shop";
pub(crate) const OTHER_ISSUER: &str = "https://id.example.com/realms/staff";

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
    let mut claims = samples::claims(ISSUER, NOW);
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::String(text) if text == "(absent)" => {
                claims.as_object_mut().unwrap().remove(name);
            }
            _ => claims[name] = value.clone(),
        }
    }
    claims
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

/// A source that counts, and does what `then` says.
pub(crate) struct FakeSource {
    pub(crate) asked: AtomicU64,
    pub(crate) then: Mutex<Then>,
    live: Mutex<Weak<Live>>,
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
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) live: Arc<Live>,
    pub(crate) source: Arc<FakeSource>,
    pub(crate) gate: Gate,
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
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(NOW)));
        let live = Arc::new(Live::new(two_realms(), Arc::clone(&clock) as _).unwrap());
        let source = Arc::new(FakeSource {
            asked: AtomicU64::new(0),
            then: Mutex::new(Box::new(|_| Refresh::Done)),
            live: Mutex::new(Arc::downgrade(&live)),
        });
        let gate = Gate::new(Arc::clone(&live), Arc::clone(&source) as _, 1024 * 1024);
        Self { clock, live, source, gate, key: ec_key("k1"), other: ec_key("s1") }
    }

    pub(crate) fn when_asked(&self, then: impl FnMut(&Live) -> Refresh + Send + 'static) {
        *self.source.then.lock().unwrap() = Box::new(then);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.source.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn token(&self, change: Value) -> String {
        self.key.sign(&claims(change)).unwrap()
    }

    pub(crate) async fn decide(&self, policy: &str, token: &str) -> Decision {
        let facts = Facts { policy, credential: Ok(RawToken::new(token)) };
        self.gate.check(&facts).await
    }

    /// Nothing if it passes.
    pub(crate) async fn denial(&self, policy: &str, token: &str) -> Option<Denial> {
        match self.decide(policy, token).await {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        }
    }
}
