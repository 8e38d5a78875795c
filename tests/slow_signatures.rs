//! Signatures that take long are verified where no other request waits for them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::collections::HashSet;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId, available_parallelism};
use std::time::Duration;

use serde_json::{Value, json};
use support::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};
use vidimus::check::*;
use vidimus::gate::{Clock, Gate, Live, Rules};
use vidimus::testing::key::SigningKey;

const SECOND: Duration = Duration::from_secs(1);

/// Notes on which threads it is asked: where judging, and verifying, happen.
#[derive(Default)]
struct Where {
    asked: Mutex<HashSet<ThreadId>>,
    /// Whether threads of the gate's own wait when they ask.
    held: Mutex<bool>,
    released: Condvar,
    /// Dropped with the clock.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

impl Where {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }
}

impl Clock for Where {
    fn now(&self) -> UnixTime {
        self.asked.lock().unwrap().insert(thread::current().id());
        if is_apart() {
            drop(self.released.wait_while(self.held.lock().unwrap(), |held| *held));
        }
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
        Self::with(two_realms(), 1 << 20)
    }

    fn with(rules: Rules, cache_bytes: u64) -> Self {
        let clock = Arc::new(Where::default());
        let live = Arc::new(Live::new(rules, Arc::clone(&clock) as _).unwrap());
        let key = SigningKey::generate("slow", Algorithm::ES384).unwrap();
        let quick = ec_key("quick");
        live.publish_keys(ISSUER, jwks(&[&key, &quick]));
        let source = FakeSource::over(&live);
        Self { gate: Gate::new(live, source as _, cache_bytes), clock, key, quick }
    }

    fn token(&self, change: Value) -> String {
        self.key.sign(&claims(change)).unwrap()
    }

    async fn denial(&self, token: &str) -> Option<Denial> {
        match self.gate.check(&Facts::new("default", Ok(RawToken::new(token)))).await {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        }
    }

    fn threads(&self) -> usize {
        self.clock.asked.lock().unwrap().len()
    }

    fn misses(&self) -> u64 {
        self.gate.cache_stats().misses
    }
}

const UNAVAILABLE: Option<Denial> = Some(Denial::VerificationUnavailable);

fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Polled this once and not again.
fn once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn es384_leaves_the_thread_that_answers_and_es256_does_not() {
    let world = Slow::new();
    let token = world.quick.sign(&claims(json!({}))).unwrap();
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 1);

    let token = world.token(json!({}));
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 2);
    assert_eq!(world.denial(&token).await, None);
    assert_eq!(world.threads(), 2, "the proof was kept");
    assert_eq!(world.misses(), 2);
}

/// Its threads stand back for those that answer, as the system lists them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_verifies_stands_back_for_who_answers() {
    let world = Slow::new();
    assert_eq!(world.denial(&world.token(json!({}))).await, None);
    let threads =
        std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let nice = |of: &str| {
        let found = threads.filter_map(|thread| std::fs::read_to_string(thread.join("stat")).ok());
        let own = found.filter_map(|stat| {
            let (name, rest) = stat.rsplit_once(") ")?;
            let nice = rest.split(' ').nth(16)?.parse().ok()?;
            name.ends_with(of).then_some(nice)
        });
        own.collect::<Vec<i32>>()
    };
    let found = nice("(vidimus-verify");
    assert!(found.contains(&8), "{found:?}"); // others may only just have begun
}

#[tokio::test]
async fn a_forged_one_is_refused_and_remembered() {
    let world = Slow::new();
    let stranger = SigningKey::generate("slow", Algorithm::ES384).unwrap();
    let token = stranger.sign(&claims(json!({}))).unwrap();
    for hits in 0..2 {
        assert_eq!(world.denial(&token).await, Some(Denial::Signature));
        assert_eq!(world.gate.cache_stats().refusal_hits, hits);
    }
}

#[tokio::test]
async fn what_is_cheap_to_see_is_seen_first_without_leaving() {
    let mut rules = two_realms();
    rules.realms[1].algorithms = vec![Algorithm::ES256];
    let world = Slow::with(rules, 1 << 20);
    world.gate.live().publish_keys(OTHER_ISSUER, jwks(&[&world.key]));
    for (policy, change, denial) in [
        ("default", json!({ "iss": "https://evil.example.com" }), Denial::Issuer),
        ("default", json!({ "exp": NOW - 60 }), Denial::Expired),
        ("default", json!({ "nbf": NOW + 60 }), Denial::NotYetValid),
        ("default", json!({ "iat": NOW + 60 }), Denial::IssuedInFuture),
        ("staff", json!({ "iss": OTHER_ISSUER }), Denial::AlgorithmForbidden),
    ] {
        let token = world.token(change);
        let facts = Facts::new(policy, Ok(RawToken::new(&token)));
        let Decision::Deny(refusal) = world.gate.check(&facts).await else { panic!("{denial:?}") };
        assert_eq!(refusal.denial, denial);
        assert_eq!(world.threads(), 1, "{denial:?}");
    }
}

#[tokio::test]
async fn what_the_cache_does_not_keep_is_verified_once_all_the_same() {
    let world = Slow::new();
    assert_eq!(world.denial(&world.token(json!({ "exp": NOW - 1 }))).await, None, "in the leeway");
    assert_eq!(world.misses(), 1);
    let world = Slow::with(two_realms(), 0);
    assert_eq!(world.denial(&world.token(json!({}))).await, None);
    assert_eq!(world.misses(), 1);
}

#[tokio::test]
async fn nor_again_when_the_realm_was_asked() {
    let world = World::introspecting(|_| {});
    let slow = SigningKey::generate("slow", Algorithm::ES384).unwrap();
    world.live.publish_keys(ISSUER, jwks(&[&slow]));
    world.answers(active(json!({ "exp": NOW - 1, "jti": "onltac:5c0ffee5" })));
    let token = slow.sign(&claims(lightweight(json!({ "exp": NOW - 1 })))).unwrap();
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.introspected(), 1);
    assert_eq!(world.gate.cache_stats().misses, 1);
}

#[tokio::test]
async fn a_flood_is_told_to_come_again_and_who_waits_is_served() {
    let world = Slow::new();
    let (token, other) = (world.token(json!({})), world.token(json!({ "jti": "other" })));
    world.clock.hold(true);
    let mut waiting = Vec::new();
    loop {
        let mut check = Box::pin(world.denial(&token));
        match once(&mut check) {
            Poll::Pending => waiting.push(check),
            Poll::Ready(denial) => break assert_eq!(denial, UNAVAILABLE),
        }
        assert!(waiting.len() <= 513 * cores(), "no end of them");
    }
    assert!(waiting.len() >= 512 * cores(), "{}", waiting.len());
    world.clock.hold(false);
    for check in waiting {
        assert_eq!(check.await, None);
    }
    assert_eq!(world.denial(&other).await, None);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_served_soon_is_told_to_come_again() {
    let world = Slow::new();
    world.clock.hold(true);
    let began = Instant::now();
    assert_eq!(world.denial(&world.token(json!({}))).await, UNAVAILABLE);
    let took = began.elapsed();
    assert!((2 * SECOND..2 * SECOND + SECOND / 10).contains(&took), "{took:?}");
    world.clock.hold(false);
}

#[tokio::test]
async fn requests_that_give_up_cost_no_signature() {
    let world = Slow::new();
    let tokens: Vec<_> = (0..50).map(|n| world.token(json!({ "jti": n.to_string() }))).collect();
    world.clock.hold(true);
    for token in &tokens {
        assert_eq!(once(&mut Box::pin(world.denial(token))), Poll::Pending);
    }
    world.clock.hold(false);
    assert_eq!(world.denial(&world.token(json!({ "jti": "last" }))).await, None);
    let begun = u64::try_from(cores()).unwrap(); // go on, for the cache
    assert!(world.misses() <= begun + 1, "{}", world.misses());
}

#[tokio::test]
async fn requests_that_nobody_polls_take_no_turn_from_others() {
    let world = Slow::new();
    let tokens: Vec<_> = (0..50).map(|n| world.token(json!({ "jti": n.to_string() }))).collect();
    let mut held: Vec<_> = tokens.iter().map(|token| Box::pin(world.denial(token))).collect();
    world.clock.hold(true);
    for check in &mut held {
        assert_eq!(once(check), Poll::Pending);
    }
    world.clock.hold(false);
    let token = world.token(json!({ "jti": "another" }));
    assert_eq!(timeout(5 * SECOND, world.denial(&token)).await, Ok(None));
    drop(held);
}

#[test]
fn a_runtime_that_is_busy_with_other_things_holds_up_nothing() {
    let world = Slow::new();
    let token = world.token(json!({}));
    let busy = Builder::new_current_thread().max_blocking_threads(1).enable_time().build().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    busy.spawn_blocking(move || stopped.recv());
    let denial = busy.block_on(async { timeout(5 * SECOND, world.denial(&token)).await });
    drop(stop);
    assert_eq!(denial, Ok(None));
}

#[tokio::test]
async fn a_panic_on_the_way_refuses_that_token_and_ends_no_thread() {
    let world = World::new();
    let slow = SigningKey::generate("slow", Algorithm::ES384).unwrap();
    world.live.publish_keys(ISSUER, jwks(&[&slow]));
    let token = slow.sign(&claims(json!({}))).unwrap();
    world.breaks.store(true, Ordering::SeqCst);
    for _ in 0..3 * cores() {
        let denial = timeout(SECOND, world.denial("default", &token)).await; // and not only in the end
        assert_eq!(denial, Ok(UNAVAILABLE));
    }
    world.breaks.store(false, Ordering::SeqCst);
    assert_eq!(world.denial("default", &token).await, None);
}

#[tokio::test]
async fn a_reload_meanwhile_fails_no_request() {
    let world = Arc::new(Slow::new());
    let token = world.token(json!({}));
    world.clock.hold(true);
    let asking = Arc::clone(&world);
    let request = tokio::spawn(async move { asking.denial(&token).await });
    while world.threads() < 2 {
        tokio::task::yield_now().await;
    }
    world.gate.live().forget_proofs();
    world.clock.hold(false);
    assert_eq!(request.await.unwrap(), None);
    assert_eq!(world.misses(), 2, "verified again, by the new rules");
}

#[tokio::test]
async fn the_threads_end_with_the_gate() {
    let world = Slow::new();
    assert_eq!(world.denial(&world.token(json!({}))).await, None);
    let (alive, ended) = mpsc::channel();
    *world.clock.alive.lock().unwrap() = Some(alive);
    drop(world);
    assert_eq!(ended.recv_timeout(5 * SECOND), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn without_a_runtime_it_is_verified_on_the_spot() {
    let world = Slow::new();
    let token = world.token(json!({}));
    assert_eq!(once(&mut Box::pin(world.denial(&token))), Poll::Ready(None));
    assert_eq!(world.threads(), 1);
}
