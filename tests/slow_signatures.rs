//! Signatures that take long are verified where no other request waits for them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use serde_json::json;
use support::*;
use vidimus::check::*;
use vidimus::gate::{Clock, Gate, Live};
use vidimus::testing::key::SigningKey;

/// Notes on which threads it is asked: where judging, and verifying, happen.
#[derive(Default)]
struct Where(Mutex<HashSet<ThreadId>>);

impl Clock for Where {
    fn now(&self) -> UnixTime {
        self.0.lock().unwrap().insert(thread::current().id());
        UnixTime::from_secs(NOW)
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

struct Slow {
    gate: Gate,
    clock: Arc<Where>,
    key: SigningKey,
    quick: SigningKey,
}

impl Slow {
    fn new() -> Self {
        let clock = Arc::new(Where::default());
        let live = Arc::new(Live::new(two_realms(), Arc::clone(&clock) as _).unwrap());
        let key = SigningKey::generate("slow", Algorithm::ES384).unwrap();
        let quick = ec_key("quick");
        live.publish_keys(ISSUER, jwks(&[&key, &quick]));
        let source = FakeSource::over(&live);
        Self { gate: Gate::new(live, source as _, 1 << 20), clock, key, quick }
    }

    async fn denial(&self, token: &str) -> Option<Denial> {
        match self.gate.check(&Facts::new("default", Ok(RawToken::new(token)))).await {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        }
    }

    fn threads(&self) -> usize {
        self.clock.0.lock().unwrap().len()
    }
}

#[tokio::test]
async fn es384_leaves_the_thread_that_answers_and_es256_does_not() {
    let world = Slow::new();
    let token = world.quick.sign(&claims(json!({}))).unwrap();
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 1);

    let token = world.key.sign(&claims(json!({}))).unwrap();
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 2);
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 2, "the proof was kept");
}

#[tokio::test]
async fn a_forged_one_is_refused_and_remembered() {
    let world = Slow::new();
    let stranger = SigningKey::generate("slow", Algorithm::ES384).unwrap();
    let token = stranger.sign(&claims(json!({}))).unwrap();
    for hits in 1..3 {
        assert_eq!(world.denial(&token).await, Some(Denial::Signature));
        assert_eq!(world.gate.cache_stats().refusal_hits, hits);
    }
    // Whatever is cheap to see is seen first, without leaving.
    let world = Slow::new();
    let expired = world.key.sign(&claims(json!({ "iss": "https://evil.example.com" }))).unwrap();
    assert_eq!(world.denial(&expired).await, Some(Denial::Issuer));
    assert_eq!(world.threads(), 1);
}

#[tokio::test]
async fn it_goes_on_if_the_request_gives_up_and_the_next_finds_the_proof() {
    let world = Slow::new();
    let token = world.key.sign(&claims(json!({}))).unwrap();
    for _ in 0..100 {
        let facts = Facts::new("default", Ok(RawToken::new(&token)));
        let mut check = Box::pin(world.gate.check(&facts));
        let _ = std::future::poll_fn(|context| Poll::Ready(check.as_mut().poll(context))).await;
    }
    assert_eq!(world.denial(&token).await, None, "turns come back");
}

#[test]
fn without_a_runtime_it_is_verified_on_the_spot() {
    let world = Slow::new();
    let token = world.key.sign(&claims(json!({}))).unwrap();
    let mut check = Box::pin(world.denial(&token));
    let polled = check.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(None));
}
