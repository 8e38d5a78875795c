//! Each edge from a question to its answer, in memory, the token known: `cargo bench --bench edges`.
//!
//! `benches/instructions` runs the same under callgrind: counts that no neighbour on the machine moves.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot start should say so and stop"
)]

#[path = "../tests/support/envoy.rs"]
mod envoy;
mod support;

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use http::Request;
use serde_json::json;
use support::{NoSource, ready};
use vidimus::check::*;
use vidimus::edge::EdgeSettings;
use vidimus::edge::credential::Source::Authorization;
use vidimus::edge::ext_authz_grpc::{self, Question};
use vidimus::edge::forwarded::Peer;
use vidimus::edge::http::HttpEdge;
use vidimus::gate::{Gate, Live, ManualClock, Rules};
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com/realms/shop";

fn main() {
    let (gate, token) = world();
    let settings = EdgeSettings { sources: vec![Authorization], ..EdgeSettings::default() };
    let credential = format!("Bearer {token}");
    let over_http = |edge: HttpEdge, path: &str| {
        let request = Request::builder().uri(path).header("host", "vidimus");
        let request = request.header("authorization", &credential).body(()).expect("a request");
        let (gate, settings) = (gate.clone(), settings.clone());
        move || {
            let (_, policy) = HttpEdge::of(request.uri().path()).expect("an edge's address");
            let decision = ready(edge.decide(&gate, &settings, &request, Peer::Unix, policy));
            assert_eq!(black_box(edge.answer(&decision)).status(), 200);
        }
    };
    let message = Bytes::from(envoy::question(
        "default",
        &[
            (":authority", "shop.example.com"),
            (":method", "GET"),
            (":path", "/orders/7"),
            ("accept", "application/json"),
            ("authorization", &credential),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "5c0ffee5-7a11-4bad-9d00-0123456789ab"),
        ],
    ));
    let over_grpc = || {
        let question = Question::read(&message).expect("a question");
        let decision =
            ready(ext_authz_grpc::decide(&gate, &settings, &question, Peer::Unix, |_, _| {}));
        assert!(black_box(ext_authz_grpc::answer(&decision, &question, &[])).len() > 100);
    };
    let check = || {
        let facts = Facts::new("default", Ok(RawToken::new(&token)));
        assert!(matches!(ready(gate.check(&facts)), Decision::Allow(_)));
    };
    let auth_request = over_http(HttpEdge::AuthRequest, "/auth");
    let ext_authz_http = over_http(HttpEdge::ExtAuthz, "/ext_authz/default/orders/7");
    let all: [(&str, &dyn Fn()); 4] = [
        ("Gate::check", &check),
        ("auth_request", &auth_request),
        ("ext_authz_http", &ext_authz_http),
        ("ext_authz_grpc", &over_grpc),
    ];

    // `edges --times N NAME`: so often and no more, for callgrind.
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, times, wanted, ..] = &*arguments
        && flag == "--times"
    {
        let times: u32 = times.parse().expect("a number");
        let (_, work) = all.iter().find(|(name, _)| name == wanted).expect("one of them");
        (0..10).for_each(|_| work()); // the first has its signature verified
        (0..times).for_each(|_| work());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, work) in all {
        criterion.bench_function(&format!("{name}/cached"), |bench| bench.iter(work));
    }
    criterion.final_summary();
}

/// A gate, and a token of its realm.
fn world() -> (Gate, String) {
    let der = include_bytes!("../tests/data/keys/test-only-rsa-2048.pk8");
    let key = SigningKey::from_rsa_pkcs8("k", Algorithm::RS256, der).expect("the test key is RSA");
    let mut rules = RealmRules::new(ISSUER);
    rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
    let (realms, limits) = (vec![rules], Limits::default());
    let rules = Rules { realms, policies: vec![Policy::new("default", vec![0])], limits };
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(NOW)));
    let live = Arc::new(Live::new(rules, clock).expect("one realm"));
    let keys = KeySet::parse(json!({ "keys": [key.jwk()] }).to_string().as_bytes());
    live.publish_keys(ISSUER, Arc::new(keys.expect("a JWKS")));
    // 1.1 KB, as a realm issues them.
    let mut claims = samples::claims(ISSUER, NOW);
    for name in ["sid", "allowed-origins", "resource_access"] {
        claims.as_object_mut().map(|claims| claims.remove(name));
    }
    let token = key.sign(&claims).expect("randomness");
    (Gate::new(live, Arc::new(NoSource), 64 << 20), token)
}
