//! What introspection promises under load. `cargo bench --bench introspection`: about 70 s, on Linux.
//!
//! The embedded issuer, a whole server on loopback TCP and its clients run in this one process: the
//! server on a runtime with two threads, issuer and clients on another with one. A thread of its own
//! paces the load, in an open loop: a request goes out when its time has come, however many still wait,
//! and what it waits counts from then on. Clients speak HTTP/1.1 and keep their connections, as nginx
//! does; only the 10,000 at once come by h2c.
//!
//! A table says what was measured and what is allowed; if a bound is not met the process fails. Two
//! cores are enough, but whatever shares them shows in every latency: so one is out of bounds only when
//! five measurements say so, and memory with it, which queues fill; answers and calls are at once.

#![allow(clippy::expect_used, reason = "a bench that cannot start should say so and stop")]

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use vidimus::check::{Algorithm, Decision, Facts, RawToken};
use vidimus::config::{Config, ListenAddr};
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::server::{Server, raise_open_files};
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;
use vidimus::testing::{Fault, INTROSPECTOR, Issuer};

/// So often a latency is measured before it counts as too long.
const ATTEMPTS: usize = 5;

fn main() -> ExitCode {
    raise_open_files();
    println!("\n{}", line("claim", "measured", "allowed"));
    let mut met = true;
    // The hang first: what leaks would hide in memory that others have freed.
    for measure in [hang, beside_a_hang, together, expiring, hot_path] {
        for attempt in 1..=ATTEMPTS {
            let rows = measure();
            rows.iter().for_each(|row| println!("{}", row.text));
            let last = attempt == ATTEMPTS || rows.iter().all(|row| row.met || !row.noisy);
            met &= rows.iter().all(|row| row.met || row.noisy && !last);
            if last {
                break;
            }
            println!("once more, for others use this machine, too:");
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// 200 new opaque tokens a second at a realm that accepts and never answers, beside local load.
fn hang() -> Vec<Row> {
    let world = World::new(HASTY);
    let burst = world.known.iter().cycle().take(300).cloned();
    world.paced(u32::MAX, burst); // opens connections, more than will be needed
    world.local(1);
    world.issuer.set_introspection_fault(Some(Fault::Hang));
    let early = thread::spawn(|| {
        thread::sleep(Duration::from_secs(3));
        resident()
    });
    let (local, opaque) = world.mixed(10);
    let grown = resident() - early.join().expect("no panic");
    let longest = waited(&opaque, 1.0);
    vec![
        all("realm hangs, 200/s new opaque tokens, 10 s: 503", 503, &opaque, 2_000),
        all("  beside them 2,000/s of JWTs (1 % new): 200", 200, &local, 20_000),
        told("  their latency: p50, p99 ms", spread(&local)),
        noisy(row("  longest wait (timeout 500 ms), ms", two(longest), 550, longest <= 550.0)),
        told("  calls: until the breaker opened, and probes", world.issuer.introspected()),
        // 1,400 refusals lie between the readings. If each left 3 KiB behind, it would show; 0.6 MiB
        // are new proofs and what this bench itself collects.
        noisy(row("  memory after 10 s less that after 3 s, KiB", grown, 2_048, grown <= 2_048)),
    ]
}

/// The same local load with and without the hang, in turn. Each hang meets a breaker that is closed: for
/// half a second calls are under way and queue, then it opens.
fn beside_a_hang() -> Vec<Row> {
    let world = World::new(HASTY);
    world.mixed(1);
    let round = |_| {
        let without = world.local(1);
        world.until_200(&world.opaque()); // the breaker is closed again
        world.issuer.set_introspection_fault(Some(Fault::Hang));
        let (with, _) = world.mixed(1);
        world.issuer.set_introspection_fault(None);
        [waited(&without, 0.99), waited(&with, 0.99)]
    };
    let rounds: Vec<[f64; 2]> = (0..11).map(round).collect();
    let ratio = percentile(rounds.iter().map(|[without, with]| with / without), 0.5);
    let both = |part| {
        [0, 1].map(|which| two(percentile(rounds.iter().map(|round| round[which]), part))).join(" ")
    };
    vec![
        noisy(row("p99 of 2,000/s of JWTs: hang / none", two(ratio), 1.5, ratio <= 1.5)),
        told("  none, hang: medians of 11 rounds, ms", both(0.5)),
        told("  none, hang: the quietest round of each, ms", both(0.0)),
    ]
}

/// 10,000 requests with one new token, all of them on their way before the realm answers.
fn together() -> Vec<Row> {
    let world = World::new("");
    world.issuer.set_introspection_delay(Duration::from_millis(500));
    let bearer = world.opaque();
    let client = async || {
        let stream = connect(world.address).await;
        let handshake = http2::handshake(TokioExecutor::new(), stream);
        let (client, connection) = handshake.await.expect("h2c");
        tokio::spawn(connection);
        client
    };
    let clients: Vec<_> = (0..100).map(|_| world.outside.block_on(client())).collect();
    let (tell, answers) = mpsc::channel();
    let began = Instant::now();
    for client in clients.iter().cycle().take(10_000) {
        let (mut client, bearer, tell) = (client.clone(), bearer.clone(), tell.clone());
        world.outside.spawn(async move {
            let answer = client.send_request(request(bearer)).await.expect("an answer");
            let status = answer.status().as_u16();
            let _ = tell.send((status, millis(began)));
        });
    }
    drop(tell);
    let answers: Vec<Answer> = answers.iter().collect();
    let calls = world.issuer.introspected();
    let late = world.server.gate().cache_stats().answer_hits;
    let [first, last] = [0.0, 1.0].map(|part| two(waited(&answers, part)));
    vec![
        all("10,000 at once with one new opaque token: 200", 200, &answers, 10_000),
        row("  calls", calls, 1, calls == 1),
        row("  requests that came after the answer", late, 0, late == 0),
        told("  first answer (the issuer takes 500 ms), last, ms", format!("{first} {last}")),
    ]
}

/// 1,000 tokens, answers about which are used for 5 s, at 2,000 requests a second.
fn expiring() -> Vec<Row> {
    let world = World::new("cache_ttl = \"5s\"");
    world.issuer.set_introspection_delay(Duration::from_millis(5)); // Keycloak takes 2 to 20
    let tokens: Vec<_> = (0..1_000).map(|_| world.opaque()).collect();
    let random = RandomState::new();
    let token = |i: u32| tokens[random.hash_one(i) as usize % tokens.len()].clone();
    let answers = world.paced(2_000, (0..60_000).map(token));
    let calls = world.issuer.introspected();
    vec![
        all("2,000/s over 1,000 opaque tokens, 30 s: 200", 200, &answers, 60_000),
        row("  calls: 1,000 x 30 s / cache_ttl 5 s, and 5 %", calls, 6_300, calls <= 6_300),
        told("  latency (the issuer takes 5 ms): p50, p99 ms", spread(&answers)),
    ]
}

/// `Gate::check` without the sockets: tokens whose proof is kept, or the realm's answer.
fn hot_path() -> Vec<Row> {
    let world = World::new("cache_ttl = \"5m\"");
    let gate = world.server.gate();
    let time = |bearer: &HeaderValue| {
        let token = bearer.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let token = RawToken::new(token.expect("of our own making"));
        let facts = Facts::new("default", Ok(token));
        world.inside.block_on(gate.check(&facts));
        let mut context = Context::from_waker(Waker::noop());
        let began = Instant::now();
        for _ in 0..1_000 {
            let decision = pin!(gate.check(std::hint::black_box(&facts))).poll(&mut context);
            assert!(matches!(decision, Poll::Ready(Decision::Allow(_))), "kept");
        }
        millis(began) // of a thousand: µs of one
    };
    let lightweight = world.issuer.lightweight_token(world.claims()).expect("randomness");
    let tokens = [world.known[0].clone(), bearer(lightweight), world.opaque()];
    let rounds: Vec<[f64; 3]> = (0..101).map(|_| tokens.each_ref().map(time)).collect();
    let claims = ["a JWT", "a lightweight JWT, answer kept", "an opaque token, answer kept"];
    let row = |(kind, claim): (usize, &str)| {
        let bytes = tokens[kind].len() - "Bearer ".len();
        let claim = format!("Gate::check, {claim} ({bytes} bytes): median µs");
        told(&claim, two(percentile(rounds.iter().map(|round| round[kind]), 0.5)))
    };
    claims.into_iter().enumerate().map(row).collect()
}

/// A realm, a sidecar in front of it, and who asks that.
struct World {
    server: Server,
    issuer: Issuer,
    key: SigningKey,
    /// JWTs that the server has seen.
    known: Vec<HeaderValue>,
    address: SocketAddr,
    idle: Idle,
    inside: Runtime,
    outside: Runtime,
}

impl World {
    fn new(introspection: &str) -> Self {
        let runtime =
            |threads| Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let (inside, outside) = (runtime(2).expect("threads"), runtime(1).expect("a thread"));
        let key = SigningKey::generate("k1", Algorithm::ES256).expect("randomness");
        let issuer = Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]);
        let issuer = outside.block_on(issuer).expect("a free port");
        let (iss, (id, secret)) = (issuer.issuer(), INTROSPECTOR);
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
             [[realm]]\nissuer = \"{iss}\"\naudience = [\"orders-api\"]\n\
             [realm.introspection]\nclient_id = \"{id}\"\nclient_secret = \"{secret}\"\n{introspection}"
        );
        let config = Config::parse(&config, "bench").expect("a good configuration");
        let server = inside.block_on(Server::start(config)).expect("a server");
        let &ListenAddr::Tcp(address) = &server.addresses()[0] else { unreachable!("it is TCP") };
        let (known, idle) = (Vec::new(), Idle::default());
        let mut world = Self { server, issuer, key, known, address, idle, inside, outside };
        world.known = (0..100).map(|_| world.jwt()).collect();
        world.known.iter().for_each(|jwt| world.until_200(jwt)); // the first waits for keys
        world
    }

    fn claims(&self) -> Value {
        let mut claims = samples::claims(self.issuer.issuer(), SystemClock.now().as_secs());
        claims["aud"] = json!(["orders-api", INTROSPECTOR.0]);
        claims
    }

    fn jwt(&self) -> HeaderValue {
        bearer(self.key.sign(&self.claims()).expect("randomness"))
    }

    fn opaque(&self) -> HeaderValue {
        bearer(self.issuer.opaque_token(self.claims()).expect("randomness"))
    }

    /// 2,000 requests a second that need no realm: known JWTs, and one of a hundred new.
    fn local(&self, seconds: usize) -> Vec<Answer> {
        let token =
            |i: usize| if i.is_multiple_of(100) { self.jwt() } else { self.known[i % 100].clone() };
        self.paced(2_000, (0..2_000 * seconds).map(token))
    }

    /// The same, and beside them 200 opaque tokens a second, each asked once.
    fn mixed(&self, seconds: usize) -> (Vec<Answer>, Vec<Answer>) {
        let tokens: Vec<_> = (0..200 * seconds).map(|_| self.opaque()).collect();
        thread::scope(|scope| {
            let opaque = scope.spawn(|| self.paced(200, tokens.into_iter()));
            (self.local(seconds), opaque.join().expect("no panic"))
        })
    }

    fn paced(&self, rate: u32, bearers: impl Iterator<Item = HeaderValue>) -> Vec<Answer> {
        let (tell, answers) = mpsc::channel();
        let began = Instant::now();
        for (i, bearer) in (0..).zip(bearers) {
            let tell = tell.clone();
            let answer = ask(self.address, Arc::clone(&self.idle), bearer);
            let due = began + Duration::from_secs(1) * i / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.outside.spawn(async move {
                let _ = tell.send((answer.await, millis(due)));
            });
        }
        drop(tell);
        answers.iter().collect()
    }

    /// Asks again and again: a realm that has failed is left alone for a while.
    fn until_200(&self, bearer: &HeaderValue) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let ask = || ask(self.address, Arc::clone(&self.idle), bearer.clone());
        while self.outside.block_on(ask()) != 200 {
            assert!(Instant::now() < deadline, "no 200 within 20 s");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Connections that wait for their next request, as nginx keeps them.
type Idle = Arc<Mutex<Vec<http1::SendRequest<Empty<Bytes>>>>>;

async fn ask(address: SocketAddr, idle: Idle, bearer: HeaderValue) -> u16 {
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut client = match kept {
        Some(client) => client,
        None => {
            let (client, connection) = http1::handshake(connect(address).await).await.expect("h1");
            tokio::spawn(connection);
            client
        }
    };
    let answer = client.send_request(request(bearer)).await.expect("an answer");
    let status = answer.status().as_u16();
    answer.into_body().collect().await.expect("its body");
    if client.ready().await.is_ok() {
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
    }
    status
}

async fn connect(address: SocketAddr) -> TokioIo<TcpStream> {
    TokioIo::new(TcpStream::connect(address).await.expect("it listens"))
}

fn request(bearer: HeaderValue) -> Request<Empty<Bytes>> {
    let request = Request::get("http://vidimus/auth").header("host", "vidimus");
    request.header("authorization", bearer).body(Empty::new()).expect("a request")
}

fn bearer(token: String) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).expect("base64url")
}

/// Status, and how many ms have passed since the request was due.
type Answer = (u16, f64);

fn waited(answers: &[Answer], part: f64) -> f64 {
    percentile(answers.iter().map(|answer| answer.1), part)
}

fn spread(answers: &[Answer]) -> String {
    [0.5, 0.99].map(|part| two(waited(answers, part))).join(" ")
}

fn percentile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// KiB that this process has in memory, clients and issuer included.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

struct Row {
    text: String,
    met: bool,
    noisy: bool,
}

fn row(claim: &str, measured: impl Display, allowed: impl Display, met: bool) -> Row {
    let verdict = if met { "ok" } else { "NOT MET" };
    Row { text: format!("{}  {verdict}", line(claim, measured, allowed)), met, noisy: false }
}

fn noisy(row: Row) -> Row {
    Row { noisy: true, ..row }
}

fn told(claim: &str, measured: impl Display) -> Row {
    Row { text: line(claim, measured, ""), met: true, noisy: false }
}

fn all(claim: &str, status: u16, answers: &[Answer], count: usize) -> Row {
    let found = answers.iter().filter(|answer| answer.0 == status).count();
    row(claim, found, count, found == count && answers.len() == count)
}

fn line(claim: &str, measured: impl Display, allowed: impl Display) -> String {
    format!("{claim:<68}{measured:>16}{allowed:>10}")
}

fn two(number: f64) -> String {
    format!("{number:.2}")
}

const HASTY: &str = "timeout = \"500ms\"";
