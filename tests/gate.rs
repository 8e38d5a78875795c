//! The gate through time: what is cached, what is judged every time, what happens when keys change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::*;
use vidimus::check::*;
use vidimus::gate::{Refresh, Rules, RulesError};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_cached_token_ends_when_it_expires_and_not_later() {
    let world = World::new();
    let token = world.token(json!({})); // exp is NOW + 300, leeway 5
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.gate.cache_stats().hits, 1);
    world.clock.advance(seconds(304));
    assert_eq!(world.denial("default", &token).await, None, "within the leeway");
    world.clock.advance(seconds(1));
    assert_eq!(world.denial("default", &token).await, Some(Denial::Expired));
    assert_eq!(world.gate.cache_stats().misses, 1, "all of it was judged on the cached proof");
}

#[tokio::test]
async fn times_are_judged_to_the_second() {
    let world = World::new();
    for (change, expected) in [
        (json!({ "exp": NOW - 4 }), None),
        (json!({ "exp": NOW - 5 }), Some(Denial::Expired)),
        (json!({ "exp": 0 }), Some(Denial::Expired)),
        (json!({ "exp": -1 }), Some(Denial::Expired)),
        (json!({ "nbf": NOW + 5 }), None),
        (json!({ "nbf": NOW + 6 }), Some(Denial::NotYetValid)),
        (json!({ "iat": NOW + 5 }), None),
        (json!({ "iat": NOW + 6 }), Some(Denial::IssuedInFuture)),
        (json!({ "iat": "(absent)" }), None),
        (json!({ "exp": "(absent)" }), Some(Denial::ExpiryMissing)),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": u64::MAX }), None),
    ] {
        assert_eq!(
            world.denial("default", &world.token(change.clone())).await,
            expected,
            "{change}"
        );
    }
}

#[tokio::test]
async fn every_rule_is_judged_again_on_a_cached_token() {
    let world = World::new();
    let token = world.token(json!({}));
    assert_eq!(world.denial("default", &token).await, None);
    // The same proof, other questions.
    assert_eq!(world.denial("admin", &token).await, Some(Denial::RoleMissing));
    assert_eq!(world.denial("reader", &token).await, Some(Denial::ScopeMissing));
    assert_eq!(world.denial("staff", &token).await, Some(Denial::Issuer));
    assert_eq!(world.denial("nothing", &token).await, Some(Denial::PolicyUnknown));
    assert_eq!(world.denial("both", &token).await, None);
    assert_eq!(world.gate.cache_stats().misses, 1);
}

#[tokio::test]
async fn a_token_of_one_realm_never_passes_for_another() {
    let world = World::new();
    let staff = world.other.sign(&claims(json!({ "iss": OTHER_ISSUER }))).unwrap();
    assert_eq!(world.denial("staff", &staff).await, None);
    assert_eq!(world.denial("default", &staff).await, Some(Denial::Issuer), "cached all the same");
    // Signed by the staff realm's key, claiming to be the shop's.
    let crossed = world.other.sign(&claims(json!({}))).unwrap();
    assert_eq!(world.denial("both", &crossed).await, Some(Denial::KeyUnknown));
    for issuer in [
        "https://id.example.com/realms/shop/",
        "https://ID.example.com/realms/shop",
        "https://id.example.com/realms/shop ",
        "https://id.example.com/realms/sho",
        "",
    ] {
        let token = world.token(json!({ "iss": issuer }));
        assert_eq!(world.denial("both", &token).await, Some(Denial::Issuer), "{issuer:?}");
    }
}

#[tokio::test]
async fn withdrawing_a_key_withdraws_what_it_proved() {
    let world = World::new();
    let token = world.token(json!({}));
    assert_eq!(world.denial("default", &token).await, None);
    world.live.publish_keys(ISSUER, jwks(&[&ec_key("k2")]));
    assert_eq!(world.denial("default", &token).await, Some(Denial::KeyUnknown));
    // Another key under the old name does not bring it back.
    world.live.publish_keys(ISSUER, jwks(&[&ec_key("k1")]));
    assert_eq!(world.denial("default", &token).await, Some(Denial::Signature));
    world.live.publish_keys(ISSUER, jwks(&[&world.key]));
    assert_eq!(world.denial("default", &token).await, None);
}

#[tokio::test]
async fn a_key_that_changes_its_algorithm_is_another_key() {
    let world = World::without_keys();
    let (rs, ps) = (rsa_key("k", Algorithm::RS256), rsa_key("k", Algorithm::PS256));
    let token = rs.sign(&claims(json!({}))).unwrap();
    world.live.publish_keys(ISSUER, jwks(&[&rs]));
    assert_eq!(world.denial("default", &token).await, None);
    world.live.publish_keys(ISSUER, jwks(&[&ps]));
    assert_eq!(world.denial("default", &token).await, Some(Denial::KeyAlgorithm));
}

#[tokio::test]
async fn two_keys_with_one_kid_are_both_tried() {
    let world = World::new();
    let twin = ec_key("k1");
    let rsa = rsa_key("k1", Algorithm::RS256);
    world.live.publish_keys(ISSUER, jwks(&[&twin, &rsa, &world.key]));
    for key in [&world.key, &twin, &rsa] {
        assert_eq!(world.denial("default", &key.sign(&claims(json!({}))).unwrap()).await, None);
    }
}

#[tokio::test]
async fn every_algorithm_passes_with_its_own_key_only() {
    let world = World::new();
    let mut keys = vec![];
    for algorithm in Algorithm::ALL.iter().copied() {
        let kid = algorithm.name();
        keys.push(match SigningKey::generate(kid, algorithm) {
            Ok(key) => key,
            Err(_) => rsa_key(kid, algorithm),
        });
    }
    world.live.publish_keys(ISSUER, jwks(&keys.iter().collect::<Vec<_>>()));
    for key in &keys {
        assert_eq!(
            world.denial("default", &key.sign(&claims(json!({}))).unwrap()).await,
            None,
            "{}",
            key.kid()
        );
        for other in &keys {
            let header = json!({ "alg": key.algorithm().name(), "kid": other.kid() });
            let confused = key.sign_with_header(&header, &claims(json!({}))).unwrap();
            let expected = (key.kid() != other.kid()).then_some(Denial::KeyAlgorithm);
            assert_eq!(world.denial("default", &confused).await, expected);
        }
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_and_the_token_judged_again() {
    let world = World::new();
    let new = ec_key("k2");
    let token = new.sign(&claims(json!({}))).unwrap();
    let (old, published) = (world.key.clone(), new.clone());
    world.when_asked(move |live| {
        live.publish_keys(ISSUER, jwks(&[&old, &published]));
        Refresh::Done
    });
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn an_unknown_key_that_stays_unknown_is_answered_by_what_is_known_about_it() {
    let world = World::new();
    let token = ec_key("k2").sign(&claims(json!({}))).unwrap();
    for (refresh, expected) in [
        (Refresh::Done, Denial::KeyUnknown),
        (Refresh::CoolingDown, Denial::KeysCoolingDown),
        (Refresh::Unreachable, Denial::KeysUnavailable),
    ] {
        world.when_asked(move |_| refresh);
        assert_eq!(world.denial("default", &token).await, Some(expected));
    }
    let world = World::without_keys();
    world.when_asked(|_| Refresh::CoolingDown);
    assert_eq!(world.denial("default", &token).await, Some(Denial::KeysUnavailable));
}

#[tokio::test]
async fn nothing_is_fetched_for_a_token_that_fails_a_cheaper_rule() {
    let world = World::new();
    let unknown = ec_key("k2");
    for change in [
        json!({ "exp": NOW - 10 }),
        json!({ "iss": "https://evil.example.com/realms/shop" }),
        json!({ "iss": OTHER_ISSUER }), // not of this policy
        json!({ "typ": "ID" }),
        json!({ "nbf": NOW + 100 }),
        json!({ "aud": 7 }),
    ] {
        let token = unknown.sign(&claims(change.clone())).unwrap();
        assert!(world.denial("default", &token).await.is_some(), "{change}");
    }
    for header in [
        json!({ "alg": "HS512", "kid": "k2" }), // a Keycloak refresh token
        json!({ "alg": "none", "kid": "k2" }),
        json!({ "alg": "ES256", "kid": "k2", "crit": ["x"] }),
        json!({ "alg": "ES256", "kid": "k2", "typ": "logout+jwt" }),
        json!({ "alg": "ES256" }),
    ] {
        let token = unknown.sign_with_header(&header, &claims(json!({}))).unwrap();
        assert!(world.denial("default", &token).await.is_some(), "{header}");
    }
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn a_key_that_the_sender_brings_is_never_used() {
    let world = World::new();
    let evil = ec_key("k1");
    for (name, value) in [
        ("jwk", evil.jwk()),
        ("jku", json!("http://evil.example.com/jwks")),
        ("x5u", json!("http://evil.example.com/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "k1", "typ": "JWT" });
        header[name] = value;
        let forged = evil.sign_with_header(&header, &claims(json!({}))).unwrap();
        assert_eq!(world.denial("default", &forged).await, Some(Denial::Signature), "{name}");
        let own = world.key.sign_with_header(&header, &claims(json!({}))).unwrap();
        assert_eq!(world.denial("default", &own).await, None, "{name} is not looked at");
    }
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn a_refused_signature_is_remembered_under_those_very_keys() {
    let world = World::new();
    let good = world.token(json!({}));
    let last = if good.ends_with('A') { 'Q' } else { 'A' };
    let forged = format!("{}{last}", &good[..good.len() - 1]);
    let twin = ec_key("k1");
    let of_twin = twin.sign(&claims(json!({}))).unwrap();
    assert_eq!(world.denial("default", &of_twin).await, Some(Denial::Signature));
    for _ in 0..100 {
        assert_eq!(world.denial("default", &of_twin).await, Some(Denial::Signature));
        assert_eq!(world.denial("default", &forged).await, Some(Denial::Signature));
    }
    assert!(world.gate.cache_stats().refusal_hits >= 100);
    // The realm publishes that key: from the next request on the token is good.
    world.live.publish_keys(ISSUER, jwks(&[&world.key, &twin]));
    assert_eq!(world.denial("default", &of_twin).await, None);
}

#[tokio::test]
async fn last_good_keys_serve_an_outage_up_to_max_stale() {
    let world = World::new();
    world.when_asked(|_| Refresh::Unreachable);
    let long_lived = |exp: i64| world.token(json!({ "exp": exp }));
    let token = long_lived(NOW + 30 * 24 * 3600);
    assert_eq!(world.denial("default", &token).await, None);
    world.clock.advance(seconds(24 * 3600));
    assert_eq!(world.denial("default", &token).await, None);
    world.clock.advance(seconds(1));
    assert_eq!(
        world.denial("default", &token).await,
        Some(Denial::KeysUnavailable),
        "cached or not"
    );
    assert_eq!(
        world.denial("default", &long_lived(NOW + 20 * 24 * 3600)).await,
        Some(Denial::KeysUnavailable)
    );
    world.live.publish_keys(ISSUER, jwks(&[&world.key]));
    assert_eq!(world.denial("default", &token).await, None);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_keys_be_fetched_and_not_just_missed() {
    let world = World::new();
    let token = world.token(json!({ "exp": NOW + 90 * 24 * 3600 }));
    assert_eq!(world.denial("default", &token).await, None);
    world.clock.advance(seconds(30 * 24 * 3600)); // resumed after a month
    let key = world.key.clone();
    world.when_asked(move |live| {
        live.publish_keys(ISSUER, jwks(&[&key]));
        Refresh::Done
    });
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn new_rules_hold_for_cached_tokens_at_once() {
    let world = World::new();
    let token = world.token(json!({}));
    assert_eq!(world.denial("default", &token).await, None);
    type Change = fn(&mut Rules);
    let changes: [(Change, Denial); 5] = [
        (|rules| rules.realms[0].algorithms = vec![Algorithm::RS256], Denial::AlgorithmForbidden),
        (|rules| rules.realms[0].header_types = vec!["at+jwt".into()], Denial::HeaderType),
        (
            |rules| rules.realms[0].audience = AudienceRule::OneOf(vec!["billing".into()]),
            Denial::Audience,
        ),
        (|rules| rules.policies[0].scopes = vec!["orders:delete".into()], Denial::ScopeMissing),
        (|rules| rules.limits.token = 100, Denial::TokenTooLarge),
    ];
    for (change, expected) in changes {
        let mut rules = two_realms();
        change(&mut rules);
        world.live.replace_rules(rules).unwrap();
        assert_eq!(world.denial("default", &token).await, Some(expected));
        world.live.replace_rules(two_realms()).unwrap();
        assert_eq!(world.denial("default", &token).await, None, "keys stayed");
    }
    // Realms may change their places: a proof of place 0 is none of what stands there now.
    let mut swapped = two_realms();
    swapped.realms.swap(0, 1);
    world.live.replace_rules(swapped).unwrap();
    assert_eq!(world.denial("default", &token).await, Some(Denial::Issuer));
    assert_eq!(world.denial("staff", &token).await, None);
}

#[tokio::test]
async fn two_realms_with_one_issuer_or_policies_with_one_name_are_refused_and_change_nothing() {
    let world = World::new();
    let mut twice = two_realms();
    twice.realms[1] = rules(ISSUER);
    let same = RulesError::SameIssuer(SameIssuer(ISSUER.into()));
    assert_eq!(world.live.replace_rules(twice), Err(same));
    for (name, made) in [("default", "default"), ("or all", "or_all")] {
        let mut twice = two_realms();
        twice.policies.push(Policy::new("or_all", vec![1])); // whichever it were
        twice.policies.push(Policy::new(name, vec![1]));
        assert_eq!(world.live.replace_rules(twice), Err(RulesError::SamePolicy(made.into())));
    }
    assert_eq!(world.denial("default", &world.token(json!({}))).await, None);
}

#[tokio::test]
async fn a_policy_audience_narrows_the_realm_audience() {
    let world = World::new();
    let mut rules = two_realms();
    rules.realms[0].audience = AudienceRule::OneOf(vec!["orders-api".into(), "billing".into()]);
    rules.policies[0].audience = Some(vec!["billing".into()]);
    world.live.replace_rules(rules).unwrap();
    for (aud, expected) in [
        (json!(["orders-api", "billing"]), None),
        (json!("billing"), None),
        (json!("orders-api"), Some(Denial::Audience)),
        (json!("billin"), Some(Denial::Audience)),
        (json!([]), Some(Denial::Audience)),
        (json!("(absent)"), Some(Denial::Audience)),
    ] {
        assert_eq!(
            world.denial("default", &world.token(json!({ "aud": aud.clone() }))).await,
            expected,
            "{aud}"
        );
    }
}

#[tokio::test]
async fn roles_are_looked_for_where_they_belong() {
    let world = World::new();
    let mut rules = two_realms();
    let role = |text: &str| Role::parse(text, Some("orders-api")).unwrap();
    rules.policies[0].roles = vec![role("realm:admin"), role("viewer"), role("billing:editor")];
    world.live.replace_rules(rules).unwrap();
    let none = json!({ "roles": [] });
    for (realm, clients, expected) in [
        (json!({ "roles": ["admin"] }), json!({}), None),
        (none.clone(), json!({ "orders-api": { "roles": ["viewer"] } }), None),
        (none.clone(), json!({ "billing": { "roles": ["x", "editor"] } }), None),
        (
            json!({ "roles": ["viewer", "Admin"] }),
            json!({ "realm": { "roles": ["admin"] } }),
            Some(Denial::RoleMissing),
        ),
        (none.clone(), json!({ "orders-api": { "roles": ["editor"] } }), Some(Denial::RoleMissing)),
        (json!({}), json!({ "orders-api": {} }), Some(Denial::RoleMissing)),
    ] {
        let token = world
            .token(json!({ "realm_access": realm.clone(), "resource_access": clients.clone() }));
        assert_eq!(world.denial("default", &token).await, expected, "{realm} {clients}");
    }
}

#[tokio::test]
async fn a_bound_token_is_refused_without_its_key_whatever_its_cnf_holds() {
    let world = World::new();
    for (cnf, expected) in [
        (json!({ "x5t#S256": THUMBPRINT }), Denial::CertificateMissing),
        (json!({ "jkt": "x" }), Denial::DpopUnproven),
        (json!({}), Denial::ConfirmationUnknown),
        (json!(null), Denial::ConfirmationUnknown),
        (json!("x"), Denial::ConfirmationUnknown),
        (json!({ "x5t#S256": THUMBPRINT, "jkt": "x" }), Denial::ConfirmationUnknown),
    ] {
        let token = world.token(json!({ "cnf": cnf }));
        for _ in 0..2 {
            assert_eq!(world.denial("default", &token).await, Some(expected), "cached too");
        }
    }
    for change in [json!({ "typ": "DPoP", "cnf": { "jkt": "x" } }), json!({ "typ": "DPoP" })] {
        let token = world.token(change);
        assert_eq!(world.denial("default", &token).await, Some(Denial::DpopUnproven));
    }
}

#[tokio::test]
async fn a_certificate_bound_token_passes_with_its_certificate_only_cached_or_not() {
    let world = World::new();
    let token = world.token(json!({ "cnf": { "x5t#S256": THUMBPRINT } }));
    let own = Thumbprint::parse(THUMBPRINT);
    for (held, expected) in [
        (Ok(own), None),
        (Ok(Some(Thumbprint::new([0; 32]))), Some(Denial::CertificateMismatch)),
        (Ok(None), Some(Denial::CertificateMissing)),
        (Err(CertificateError::Untrusted), Some(Denial::CertificateUntrusted)),
        (Err(CertificateError::Repeated), Some(Denial::CertificateRepeated)),
        (Err(CertificateError::Malformed), Some(Denial::CertificateMalformed)),
        (Ok(own), None),
    ] {
        let decision = world.decide_with("default", &token, &Held(held)).await;
        let denial = match decision {
            Decision::Allow(grant) => {
                assert_eq!(grant.certificate(), own);
                None
            }
            Decision::Deny(refusal) => Some(refusal.denial),
        };
        assert_eq!(denial, expected, "{held:?}");
    }
    // Who needs no certificate is not asked for one.
    let free = world.token(json!({}));
    let decision =
        world.decide_with("default", &free, &Held(Err(CertificateError::Repeated))).await;
    assert!(matches!(decision, Decision::Allow(_)));
}

#[tokio::test]
async fn a_policy_may_insist_on_a_binding() {
    let mut rules = two_realms();
    for (name, binding) in [
        ("required", BindingRule::Required),
        ("mtls", BindingRule::Mtls),
        ("dpop", BindingRule::Dpop),
    ] {
        let mut policy = Policy::new(name, vec![0]);
        policy.binding = binding;
        rules.policies.push(policy);
    }
    let world = World::new();
    world.live.replace_rules(rules).unwrap();
    let (free, bound) =
        (world.token(json!({})), world.token(json!({ "cnf": { "x5t#S256": THUMBPRINT } })));
    let own = Held(Ok(Thumbprint::parse(THUMBPRINT)));
    for (policy, expected) in [
        ("default", None),
        ("required", None),
        ("mtls", None),
        ("dpop", Some(Denial::ConfirmationMissing)),
    ] {
        let missing = (policy != "default").then_some(Denial::ConfirmationMissing);
        assert_eq!(world.denial(policy, &free).await, missing, "{policy}");
        let decision = world.decide_with(policy, &bound, &own).await;
        let denial = match decision {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        };
        assert_eq!(denial, expected, "{policy}");
    }
}

#[tokio::test]
async fn strict_rfc_9068_wants_its_header_type() {
    let world = World::new();
    let mut rules = two_realms();
    rules.realms[0].header_types = vec!["at+jwt".into()];
    let with_type = |kind: serde_json::Value| {
        let mut header = json!({ "alg": "ES256", "kid": "k1", "typ": kind });
        if kind.is_null() {
            header.as_object_mut().unwrap().remove("typ");
        }
        world.key.sign_with_header(&header, &claims(json!({}))).unwrap()
    };
    for (kind, default, strict) in [
        (json!("at+jwt"), true, true),
        (json!("application/at+jwt"), true, true),
        (json!("AT+JWT"), true, true),
        (json!("JWT"), true, false),
        (json!("jwt"), true, false),
        (json!(null), true, false),
        (json!("logout+jwt"), false, false),
        (json!("dpop+jwt"), false, false),
        (json!(""), false, false),
        (json!("ünïcödé+jwt"), false, false),
    ] {
        let token = with_type(kind.clone());
        world.live.replace_rules(two_realms()).unwrap();
        assert_eq!(world.denial("default", &token).await.is_none(), default, "{kind}");
        world.live.replace_rules(rules.clone()).unwrap();
        assert_eq!(world.denial("default", &token).await.is_none(), strict, "strict {kind}");
    }
}

#[tokio::test]
async fn the_cache_stays_within_its_bound() {
    let world = World::new();
    for number in 0..2_000 {
        let token = world.token(json!({ "jti": format!("onrtac:{number}") }));
        assert_eq!(world.denial("default", &token).await, None);
    }
    let stats = world.gate.cache_stats();
    assert!(stats.bytes <= 1024 * 1024, "{stats:?}");
    assert!(stats.entries > 100, "{stats:?}");
}

#[tokio::test]
async fn proofs_of_tokens_that_have_ended_are_given_up() {
    let world = World::new();
    let (short, long) = (world.token(json!({})), world.token(json!({ "exp": NOW + 3_000 })));
    let entries = || world.gate.cache_stats().entries;
    for token in [&short, &long] {
        assert_eq!(world.denial("default", token).await, None);
    }
    assert_eq!(entries(), 2);
    world.clock.advance(seconds(301));
    assert_eq!(entries(), 1, "a scrape looks");
    world.clock.advance(seconds(2_700));
    let late = world.token(json!({ "exp": NOW + 9_000 }));
    assert_eq!(world.denial("default", &late).await, None);
    for _ in 0..500 {
        if world.live.uptime() == seconds(3_001) && entries() == 1 {
            return; // a new token has had it done, on a thread of its own; the scrape was no longer due
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} proofs are still held", entries());
}

#[tokio::test]
async fn a_known_signature_speaks_for_the_one_token_it_was_made_for() {
    let world = World::new();
    let token = world.token(json!({}));
    assert_eq!(world.denial("default", &token).await, None);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let admin = world.token(json!({ "realm_access": { "roles": ["admin"] } }));
    let (admin, _) = admin.rsplit_once('.').unwrap();
    for (forged, expected) in [
        (format!("{admin}.{signature}"), Denial::Signature),
        (format!("{header}.{}.{signature}", &payload[1..]), Denial::TokenMalformed),
        (format!(".{payload}.{signature}"), Denial::TokenMalformed),
        (format!("{signed}.{header}.{payload}.{signature}"), Denial::Encrypted),
        (format!("{payload}.{signature}"), Denial::Opaque),
        (signature.to_owned(), Denial::Opaque),
        (format!("{signed}.{}", &signature[4..]), Denial::Signature),
        (format!("{signed}."), Denial::Signature),
    ] {
        for _ in 0..2 {
            assert_eq!(world.denial("default", &forged).await, Some(expected), "{forged}");
        }
    }
    assert_eq!(world.denial("default", &token).await, None);
    assert_eq!(world.gate.cache_stats().hits, 1, "and neither was it displaced");
}

#[tokio::test]
async fn a_thousand_requests_at_once_share_one_state() {
    let world = Arc::new(World::new());
    let token = Arc::new(world.token(json!({})));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (world, token) = (Arc::clone(&world), Arc::clone(&token));
        tasks.spawn(async move { world.denial("default", &token).await });
    }
    while let Some(denial) = tasks.join_next().await {
        assert_eq!(denial.unwrap(), None);
    }
}

use vidimus::testing::key::SigningKey;
