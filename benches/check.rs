//! What a decision costs. `cargo bench`; README.md states the results.
//!
//! Absolute times move with the machine: compare lines of one run. `uncached/RS256` stands beside
//! `bare ring/RS256`, the same signature over the same bytes and nothing else.

#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]
#![allow(clippy::expect_used, reason = "a bench that cannot start should say so and stop")]

mod support;

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use support::{NoSource, ready};
use vidimus::check::*;
use vidimus::gate::{Gate, Live, ManualClock, Rules};
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com/realms/shop";

fn key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm.name(), algorithm).unwrap_or_else(|_| {
        let der = include_bytes!("../tests/data/keys/test-only-rsa-2048.pk8");
        SigningKey::from_rsa_pkcs8(algorithm.name(), algorithm, der).expect("the test key is RSA")
    })
}

/// Keycloak's claims; with RS256 a token of 1.1 to 1.2 KB, as a realm issues them.
fn token(key: &SigningKey) -> String {
    let mut claims = samples::claims(ISSUER, NOW);
    for name in ["sid", "allowed-origins", "resource_access"] {
        claims.as_object_mut().map(|claims| claims.remove(name));
    }
    key.sign(&claims).expect("randomness")
}

fn rules() -> RealmRules {
    let mut rules = RealmRules::new(ISSUER);
    rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
    rules
}

fn key_set(keys: &[SigningKey]) -> KeySet {
    KeySet::parse(&jwks(keys)).expect("a JWKS")
}

fn jwks(keys: &[SigningKey]) -> Vec<u8> {
    let keys: Vec<Value> = keys.iter().map(SigningKey::jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn benches(criterion: &mut Criterion) {
    let now = UnixTime::from_secs(NOW);
    let keys: Vec<_> = Algorithm::ALL.iter().copied().map(key).collect();
    let mut realms = Realms::new(vec![rules()]).expect("one realm");
    realms.set_keys(0, key_set(&keys), now);
    let mut policy = Policy::new("default", vec![0]);
    policy.scopes = vec!["orders:read".into()];
    policy.roles = vec![Role::Realm("offline_access".into())];
    let policy = Arc::new(policy);
    let limits = Limits::default();

    let rs256 = token(&keys[0]);
    println!("the RS256 token has {} bytes", rs256.len());

    for key in &keys {
        let (token, name) = (token(key), key.algorithm().name());
        let verification = || verify(RawToken::new(&token), &policy, &realms, limits, now);
        assert!(matches!(verification(), Verification::Verified(_)), "{name}");
        criterion.bench_function(&format!("verify/{name}"), |bench| bench.iter(verification));

        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let keys = key_set(std::slice::from_ref(key));
        let bare = &keys.keys()[0];
        criterion.bench_function(&format!("bare ring/{name}"), |bench| {
            bench.iter(|| assert!(bare.verify(black_box(signed.as_bytes()), &signature)));
        });
    }

    let Verification::Verified(proof) =
        verify(RawToken::new(&rs256), &policy, &realms, limits, now)
    else {
        unreachable!("it has just been verified")
    };
    let proof = Arc::new(proof);
    criterion.bench_function("authorize", |bench| {
        bench.iter(|| authorize(&proof, &policy, &realms, &NoCertificate, black_box(now)).is_ok());
    });

    let all =
        Rules { realms: vec![rules()], policies: vec![Policy::new("default", vec![0])], limits };
    let live = Live::new(all, Arc::new(ManualClock::at(now))).expect("one realm");
    let live = Arc::new(live);
    live.publish_keys(ISSUER, Arc::new(key_set(&keys)));
    let gate = |bytes| Gate::new(Arc::clone(&live), Arc::new(NoSource), bytes);
    let check = |gate: &Gate, token: &str| {
        let facts = Facts::new("default", Ok(RawToken::new(token)));
        ready(gate.check(&facts))
    };

    let cached = gate(64 << 20);
    assert!(matches!(check(&cached, &rs256), Decision::Allow(_)));
    criterion.bench_function("Gate::check/cached", |bench| {
        bench.iter(|| check(&cached, black_box(&rs256)));
    });

    // A cache without room: every token is new to it.
    let uncached = gate(0);
    criterion.bench_function("Gate::check/uncached RS256", |bench| {
        bench.iter(|| check(&uncached, black_box(&rs256)));
    });

    let (head, _) = rs256.rsplit_once('.').expect("three parts");
    let forged = format!("{head}.{}", URL_SAFE_NO_PAD.encode([7; 256]));
    assert!(matches!(check(&cached, &forged), Decision::Deny(_)));
    criterion.bench_function("Gate::check/refused again", |bench| {
        bench.iter(|| check(&cached, &forged));
    });

    let (signed, signature) = rs256.rsplit_once('.').expect("three parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let own = key_set(&keys[..1]);
    let ratio = interleaved(
        || assert!(matches!(check(&uncached, black_box(&rs256)), Decision::Allow(_))),
        || assert!(own.keys()[0].verify(black_box(signed.as_bytes()), &signature)),
    );
    println!(
        "uncached RS256 check / bare ring RS256: {ratio:.3} (median of 61 interleaved rounds)"
    );

    // Refused before any key is looked for: what reading it costs.
    let mut strangers = Realms::new(vec![RealmRules::new("https://id.example.com/realms/other")])
        .expect("one realm");
    strangers.set_keys(0, key_set(&keys), now);
    criterion.bench_function("parse", |bench| {
        bench.iter(|| verify(black_box(RawToken::new(&rs256)), &policy, &strangers, limits, now));
    });

    let document = jwks(&keys);
    criterion
        .bench_function("KeySet::parse/9 keys", |bench| bench.iter(|| KeySet::parse(&document)));
}

/// The median of A/B over rounds that take turns, so that a noisy machine disturbs both alike.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn interleaved(a: impl Fn(), b: impl Fn()) -> f64 {
    let time = |work: &dyn Fn()| {
        let began = std::time::Instant::now();
        (0..400).for_each(|_| work());
        began.elapsed().as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..61).map(|_| time(&a) / time(&b)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

criterion_group!(all, benches);
criterion_main!(all);
