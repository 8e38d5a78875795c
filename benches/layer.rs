//! What `CheckLayer` costs around a service that does nothing, its token known: `cargo bench --features
//! tower --bench layer`; ends with 1 if a bound is passed in each of five attempts, or if allocations
//! grow with the claims.

#![allow(clippy::expect_used, reason = "a bench that cannot start should say so and stop")]

mod support;

use std::convert::Infallible;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use allocation_counter::AllocationInfo;
use http::{Request, Response};
use serde_json::{Value, json};
use support::{NoSource, ready};
use tower::{Layer as _, Service, service_fn};
use vidimus::CheckLayer;
use vidimus::builder::{GateBuilder, Realm};
use vidimus::check::*;
use vidimus::gate::ManualClock;
use vidimus::testing::{SigningKey, samples};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com/realms/shop";
const ROUNDS: usize = 61;
const TIMES: usize = 1000;

/// In microseconds, beyond the null service.
const BOUND: f64 = 2.5;

/// What SHA-256 of the token takes, in microseconds, on the machine for which the bound holds.
const SHA256: f64 = 0.73;

fn main() -> ExitCode {
    let key = SigningKey::generate("k", Algorithm::ES256).expect("randomness");
    let jwks = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
    let keys = Arc::new(KeySet::parse(&jwks).expect("a JWKS"));
    let gate = GateBuilder::new()
        .realm(Realm::new(ISSUER).audience(["orders-api"]))
        .clock(Arc::new(ManualClock::at(UnixTime::from_secs(NOW))))
        .source(move |live| {
            live.publish_keys(ISSUER, keys);
            Arc::new(NoSource)
        })
        .build()
        .expect("good settings");
    let null = service_fn(|request: Request<()>| {
        black_box(&request);
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    // A body of nothing is made from no bytes, so the refusal is one of our own.
    let refuse = |_: &Refusal| Response::builder().status(401).body(()).expect("a response");
    let layer = CheckLayer::new(&gate, "default").expect("the policy").refusal(refuse);
    let mut checked = layer.layer(null);
    let mut plain = null;

    let token = |claims: Value| key.sign(&claims).expect("randomness");
    let usual = token(samples::claims(ISSUER, NOW));
    let mut large = samples::claims(ISSUER, NOW);
    let roles = (0..300).map(|number| format!("a-role-with-a-long-name-{number}"));
    large["realm_access"] = json!({ "roles": roles.collect::<Vec<_>>() });
    let large = token(large);

    println!("{:<44} {:>12} {:>8}", "a request that passes", "allocations", "bytes");
    let counted =
        [("the usual token", &usual), ("one with 300 roles more", &large)].map(|(case, token)| {
            pass(&mut checked, ask(token)); // so that it is known
            let with = least(&mut checked, || ask(token));
            let without = least(&mut plain, || ask(token));
            let count = with.count_total - without.count_total;
            let bytes = with.bytes_total - without.bytes_total;
            println!("{:<44} {count:>12} {bytes:>8}", format!("{case}, {} bytes", token.len()));
            (count, bytes)
        });
    let even = counted[0] == counted[1];

    // On a slower or busier machine everything takes longer, and the bound grows alike.
    let hash = |()| _ = black_box(RawToken::new(black_box(&usual)).digest());
    let (_, sha256) = difference(|| (), hash, |()| ());
    let slow = (sha256 / SHA256).max(1.0);
    println!("SHA-256 of the token takes {sha256:.2} µs here: bound times {slow:.2}");
    let mut best = (f64::MAX, 0.0);
    for _ in 0..5 {
        let measured = difference(
            || ask(&usual),
            |request| pass(&mut checked, request),
            |request| pass(&mut plain, request),
        );
        if measured.0 < best.0 {
            best = measured;
        }
        if best.0 <= BOUND * slow {
            break;
        }
    }
    let (adds, whole) = best;
    let good = adds <= BOUND * slow;
    println!("the layer adds {adds:.2} µs (bound {BOUND}), whole {whole:.2} µs, to a null service");
    match (good, even) {
        (true, true) => ExitCode::SUCCESS,
        (false, _) => {
            println!("NO: over the bound");
            ExitCode::FAILURE
        }
        (true, false) => {
            println!("NO: allocations depend on the claims");
            ExitCode::FAILURE
        }
    }
}

fn ask(token: &str) -> Request<()> {
    let request = Request::get("/orders/7")
        .header("host", "orders.example.com")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .header("authorization", format!("Bearer {token}"));
    request.body(()).expect("a request")
}

fn pass<S: Service<Request<()>, Response = Response<()>, Error = Infallible>>(
    service: &mut S,
    request: Request<()>,
) {
    let Ok(response) = ready(service.call(request));
    assert_eq!(response.status(), 200);
}

/// Now and then something else allocates, and that is no part of a request.
fn least<S: Service<Request<()>, Response = Response<()>, Error = Infallible>>(
    service: &mut S,
    ask: impl Fn() -> Request<()>,
) -> AllocationInfo {
    let one = |_| {
        let request = ask();
        allocation_counter::measure(|| pass(service, request))
    };
    (0..64).map(one).min_by_key(|info| info.count_total).unwrap_or_default()
}

/// The median of A - B in microseconds, and of A; what both work on is made before.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn difference<T>(make: impl Fn() -> T, mut a: impl FnMut(T), mut b: impl FnMut(T)) -> (f64, f64) {
    let time = |work: &mut dyn FnMut(T)| {
        let made: Vec<T> = (0..TIMES).map(|_| make()).collect();
        let began = std::time::Instant::now();
        made.into_iter().for_each(work);
        began.elapsed().as_secs_f64() * 1e6 / TIMES as f64
    };
    let mut rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (time(&mut a), time(&mut b))).map(|(a, b)| (a - b, a)).collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    rounds[ROUNDS / 2]
}
