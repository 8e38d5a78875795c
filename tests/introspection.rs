//! Introspection as the gate does it: which tokens it asks about, and how often. A clock moved by hand, and a realm that says what it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use support::*;
use vidimus::check::*;
use vidimus::gate::{NoReply, Rules};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_and_the_answer_used_for_cache_ttl() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({})));
    for _ in 0..3 {
        assert_eq!(world.denial("default", OPAQUE).await, None);
    }
    assert_eq!(world.introspected(), 1);
    assert_eq!(world.gate.cache_stats().answer_hits, 2);
    world.clock.advance(seconds(29));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!(world.introspected(), 1);
    world.answers(json!({ "active": false }));
    world.clock.advance(seconds(1));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Inactive), "logged out");
    assert_eq!(world.introspected(), 2);
}

#[tokio::test]
async fn an_answer_never_outlives_the_token() {
    let world = World::introspecting(|rules| {
        let introspection = rules.realms[0].introspection.as_mut().unwrap();
        introspection.cache_ttl = seconds(3600);
    });
    world.answers(active(json!({ "exp": NOW + 10 })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    world.clock.advance(seconds(15)); // leeway 5 s
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Expired));
}

#[tokio::test]
async fn what_is_not_active_is_remembered_for_inactive_ttl() {
    let world = World::introspecting(|_| {});
    world.answers(json!({ "active": false }));
    for _ in 0..3 {
        assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Inactive));
    }
    assert_eq!(world.introspected(), 1);
    world.answers(active(json!({})));
    world.clock.advance(seconds(5));
    assert_eq!(world.denial("default", OPAQUE).await, None);
}

#[tokio::test]
async fn a_failure_is_503_and_never_remembered() {
    let world = World::introspecting(|_| {});
    let unavailable = Some(Denial::IntrospectionUnavailable);
    assert_eq!(world.denial("default", OPAQUE).await, unavailable);
    assert_eq!(world.denial("default", OPAQUE).await, unavailable);
    assert_eq!(world.introspected(), 2);
    world.answers(active(json!({})));
    assert_eq!(world.denial("default", OPAQUE).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_with_one_new_token_cause_one_call() {
    let world = Arc::new(World::introspecting(|_| {}));
    world.answers(active(json!({})));
    *world.source.pause.lock().unwrap() = Duration::from_millis(100);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let world = Arc::clone(&world);
        requests.spawn(async move { world.denial("default", OPAQUE).await });
    }
    while let Some(denial) = requests.join_next().await {
        assert_eq!(denial.unwrap(), None);
    }
    assert_eq!(world.introspected(), 1);
}

#[tokio::test]
async fn who_asks_first_may_give_up_without_harm_to_the_others() {
    let world = Arc::new(World::introspecting(|_| {}));
    world.answers(active(json!({})));
    *world.source.pause.lock().unwrap() = Duration::from_millis(50);
    let first = tokio::time::timeout(Duration::from_millis(10), world.denial("default", OPAQUE));
    assert!(first.await.is_err());
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!(world.introspected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_takes_longer_than_anybody_waits_is_asked_anew() {
    let world = Arc::new(World::introspecting(|_| {}));
    let ask = |pause: u64| {
        *world.source.pause.lock().unwrap() = Duration::from_millis(pause);
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.denial("default", OPAQUE).await })
    };
    let (answers, good) = (AtomicU64::new(0), active(json!({})).to_string());
    world.tells(move |_| match answers.fetch_add(1, Ordering::SeqCst) {
        0 => Err(NoReply),
        _ => Reply::json(good.clone().into()).map_err(|_| NoReply),
    });
    let first = ask(8_000); // lands at 8 s, and says nothing
    assert_eq!(first.await.unwrap(), Some(Denial::IntrospectionUnavailable), "at 5 s");
    let second = ask(4_500); // lands at 9.5 s
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let third = ask(0); // at 8.2 s: the first has landed, and the second is still there to join
    assert_eq!(second.await.unwrap(), None);
    assert_eq!(third.await.unwrap(), None);
    assert_eq!(world.introspected(), 2);
}

#[tokio::test]
async fn a_panic_on_the_way_is_503_and_not_the_end_of_asking() {
    let world = World::introspecting(|_| {});
    world.tells(|_| panic!("on purpose"));
    let unavailable = Some(Denial::IntrospectionUnavailable);
    assert_eq!(world.denial("default", OPAQUE).await, unavailable);
    world.answers(active(json!({})));
    assert_eq!(world.denial("default", OPAQUE).await, None);
}

#[tokio::test]
async fn an_answer_to_rules_that_are_gone_is_not_used() {
    let world = Arc::new(World::introspecting(|_| {}));
    world.answers(active(json!({})));
    *world.source.pause.lock().unwrap() = Duration::from_millis(50);
    let asking = Arc::clone(&world);
    let request = tokio::spawn(async move { asking.denial("default", OPAQUE).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.live.replace_rules(two_realms()).unwrap(); // nobody is asked about opaque tokens any more
    assert_eq!(request.await.unwrap(), Some(Denial::Opaque));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Opaque));
}

#[tokio::test]
async fn every_rule_is_judged_again_on_a_remembered_answer() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({})));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!(world.denial("admin", OPAQUE).await, Some(Denial::RoleMissing));
    assert_eq!(world.denial("reader", OPAQUE).await, Some(Denial::ScopeMissing));
    assert_eq!(world.denial("staff", OPAQUE).await, Some(Denial::Opaque), "nobody to ask there");
    assert_eq!(world.introspected(), 1);
}

#[tokio::test]
async fn an_opaque_token_needs_no_keys() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({})));
    world.clock.advance(seconds(25 * 3600)); // keys too old
    world.answers(active(json!({ "exp": NOW + 26 * 3600 })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn one_realms_word_is_not_anothers() {
    let both = |rules: &mut Rules| {
        rules.realms[1].introspection = Some(IntrospectionRules::new("vidimus"));
        let mut both = Policy::new("ask-staff", vec![0, 1]);
        both.introspect_realm = Some(1);
        rules.policies.push(both);
    };
    let world = World::introspecting(both);
    let (shop, staff) = (active(json!({})), active(json!({ "iss": OTHER_ISSUER })));
    world.tells(move |question| {
        let answer = if question.starts_with(ISSUER) { &shop } else { &staff };
        Reply::json(answer.to_string().into()).map_err(|_| NoReply)
    });
    assert_eq!(world.denial("default", OPAQUE).await, None);
    let Decision::Allow(grant) = world.decide("ask-staff", OPAQUE).await else { panic!() };
    assert_eq!(grant.issuer(), OTHER_ISSUER);
    assert_eq!(world.introspected(), 2, "the other realm was asked itself");
}

#[tokio::test]
async fn only_a_token_that_verifies_and_says_too_little_causes_a_call() {
    let forged = |world: &World, change: Value| {
        ec_key("k1").sign(&claims(change)).map(|token| (world, token).1).unwrap()
    };
    let narrow = |rules: &mut Rules| {
        let mut narrow = Policy::new("narrow", vec![0]);
        let header = (HeaderName::from_static("x-client"), ClaimPath::new("azp"));
        narrow.headers = [header].into_iter().collect();
        narrow.scopes = vec!["orders:read".into()];
        rules.policies.push(narrow);
    };
    type Mint = Box<dyn Fn(&World) -> String>;
    let own = |change: Value| -> Mint { Box::new(move |world| world.token(change.clone())) };
    let cases: Vec<(&str, &str, Mint, u64, Option<Denial>)> = vec![
        ("a full token", "default", own(json!({})), 0, None),
        ("a lightweight one", "default", own(lightweight(json!({}))), 1, None),
        (
            "of a service account",
            "default",
            own(lightweight(json!({ "jti": "trltcc:1", "sub": "s" }))),
            1,
            None,
        ),
        (
            "a lightweight one that has all the policy needs",
            "narrow",
            own(lightweight(json!({ "aud": "orders-api" }))),
            0,
            None,
        ),
        (
            "a regular one for others",
            "default",
            own(json!({ "aud": "billing-api" })),
            0,
            Some(Denial::Audience),
        ),
        (
            "a regular one without aud",
            "default",
            own(json!({ "aud": "(absent)" })),
            0,
            Some(Denial::Audience),
        ),
        (
            "a regular one without roles",
            "admin",
            own(json!({ "realm_access": "(absent)", "resource_access": "(absent)" })),
            0,
            Some(Denial::RoleMissing),
        ),
        (
            "unmarked, without aud",
            "default",
            own(json!({ "jti": "5c0f", "aud": "(absent)" })),
            1,
            None,
        ),
        (
            "unmarked, for others",
            "default",
            own(json!({ "jti": "5c0f", "aud": "billing-api" })),
            0,
            Some(Denial::Audience),
        ),
        (
            "unmarked, without the role",
            "admin",
            own(json!({ "jti": "5c0f" })),
            0,
            Some(Denial::RoleMissing),
        ),
        (
            "unmarked, without any roles",
            "admin",
            own(
                json!({ "jti": "5c0f", "realm_access": "(absent)", "resource_access": "(absent)" }),
            ),
            1,
            Some(Denial::RoleMissing),
        ),
        (
            "unmarked, without scope",
            "reader",
            own(json!({ "jti": "5c0f", "scope": "(absent)" })),
            1,
            Some(Denial::ScopeMissing),
        ),
        (
            "unmarked, without jti or email",
            "default",
            own(json!({ "jti": "(absent)", "email": "(absent)" })),
            0,
            None,
        ),
        ("unmarked and stripped", "default", own(lightweight(json!({ "jti": "5c0f" }))), 1, None),
        (
            "forged",
            "default",
            Box::new(move |world| forged(world, lightweight(json!({})))),
            0,
            Some(Denial::Signature),
        ),
        (
            "expired",
            "default",
            own(lightweight(json!({ "exp": NOW - 60 }))),
            0,
            Some(Denial::Expired),
        ),
        (
            "bound",
            "default",
            own(lightweight(json!({ "cnf": { "jkt": "x" } }))),
            0,
            Some(Denial::DpopUnproven),
        ),
        (
            "foreign",
            "default",
            own(lightweight(json!({ "iss": "https://evil.example.com" }))),
            0,
            Some(Denial::Issuer),
        ),
        (
            "an ID token",
            "default",
            own(lightweight(json!({ "typ": "ID" }))),
            0,
            Some(Denial::TokenType),
        ),
        (
            "an unknown key",
            "default",
            Box::new(|_| ec_key("k9").sign(&claims(lightweight(json!({})))).unwrap()),
            0,
            Some(Denial::KeyUnknown),
        ),
        (
            "a mangled JWT",
            "default",
            Box::new(|world| world.token(json!({})) + "."),
            0,
            Some(Denial::TokenMalformed),
        ),
        (
            "an encrypted one",
            "default",
            Box::new(|_| "a.b.c.d.e".into()),
            0,
            Some(Denial::Encrypted),
        ),
    ];
    for (what, policy, mint, calls, expected) in cases {
        let world = World::introspecting(narrow);
        // Keycloak gives the token's own jti back.
        world.tells(|question| {
            let token = question
                .split('.')
                .nth(1 + question.split(' ').next().unwrap().matches('.').count());
            let jti = token.and_then(jti_of).map_or_else(|| json!("(absent)"), Value::from);
            Reply::json(active(json!({ "jti": jti })).to_string().into()).map_err(|_| NoReply)
        });
        let token = mint(&world);
        for _ in 0..2 {
            assert_eq!(world.denial(policy, &token).await, expected, "{what}");
            assert_eq!(world.introspected(), calls, "{what}");
        }
    }
}

fn jti_of(payload: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    claims["jti"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn what_the_answer_adds_reaches_the_service() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "jti": "onltac:5c0ffee5" })));
    let token = world.token(lightweight(json!({})));
    let Decision::Allow(grant) = world.decide("default", &token).await else { panic!() };
    let identity: Vec<_> = grant.identity().collect();
    let name = HeaderName::from_static("x-auth-request-email");
    assert!(identity.contains(&(&name, HeaderValue::from_static("alice@example.com"))));
    assert!(grant.introspected());
}

#[tokio::test]
async fn without_introspection_a_lightweight_token_lacks_its_audience() {
    let world = World::new();
    let token = world.token(lightweight(json!({})));
    assert_eq!(world.denial("default", &token).await, Some(Denial::Audience));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Opaque));
}

#[tokio::test]
async fn use_for_decides_what_is_asked_about() {
    let with = |opaque, lightweight, all| {
        World::introspecting(move |rules| {
            let introspection = rules.realms[0].introspection.as_mut().unwrap();
            introspection.use_for = UseFor { opaque, lightweight, all };
        })
    };
    for (use_for, opaque, light, full) in [
        ((true, false, false), 1, 0, 0),
        ((false, true, false), 0, 1, 0),
        ((true, true, true), 1, 1, 1),
    ] {
        for (token, calls) in
            [(OPAQUE.to_owned(), opaque), ("(light)".into(), light), ("(full)".into(), full)]
        {
            let world = with(use_for.0, use_for.1, use_for.2);
            world.answers(active(json!({ "jti": "(absent)" })));
            let token = match &*token {
                "(light)" => world.token(lightweight(json!({}))),
                "(full)" => world.token(json!({})),
                _ => token,
            };
            world.denial("default", &token).await;
            assert_eq!(world.introspected(), calls, "{use_for:?}");
        }
    }
}

#[tokio::test]
async fn with_use_for_all_a_revoked_token_ends_within_cache_ttl() {
    let world = World::introspecting(|rules| {
        let introspection = rules.realms[0].introspection.as_mut().unwrap();
        introspection.use_for.all = true;
    });
    world.answers(active(json!({})));
    let token = world.token(json!({}));
    assert_eq!(world.denial("default", &token).await, None);
    world.answers(json!({ "active": false }));
    assert_eq!(world.denial("default", &token).await, None);
    world.clock.advance(seconds(30));
    assert_eq!(world.denial("default", &token).await, Some(Denial::Inactive));
    assert_eq!(world.gate.verified_inactive(), [("shop".into(), 1)]);
    world.tells(|_| Err(NoReply));
    world.clock.advance(seconds(5));
    assert_eq!(world.denial("default", &token).await, Some(Denial::IntrospectionUnavailable));
}

#[tokio::test]
async fn withdrawing_the_key_withdraws_what_was_told_about_its_tokens() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "jti": "onltac:5c0ffee5" })));
    let token = world.token(lightweight(json!({})));
    assert_eq!(world.denial("default", &token).await, None);
    world.live.publish_keys(ISSUER, jwks(&[&ec_key("k2")]));
    assert_eq!(world.denial("default", &token).await, Some(Denial::KeyUnknown));
    assert_eq!(world.introspected(), 1);
}

#[tokio::test]
async fn a_flood_of_invented_tokens_keeps_memory_bounded_and_good_tokens_cached() {
    let world = World::introspecting(|_| {});
    let good = world.token(json!({}));
    assert_eq!(world.denial("default", &good).await, None);
    world.answers(json!({ "active": false }));
    for number in 0..30_000 {
        let denial = world.denial("default", &format!("invented-{number}")).await;
        assert_eq!(denial, Some(Denial::Inactive));
    }
    let before = world.gate.cache_stats();
    assert_eq!(world.denial("default", &good).await, None);
    assert_eq!(world.gate.cache_stats().hits, before.hits + 1);
    assert_eq!(before.entries, 1, "what is not active takes no room from proofs");
}

#[tokio::test]
async fn a_request_outlives_a_reload_that_comes_while_it_waits() {
    let world = Arc::new(World::introspecting(|_| {}));
    world.answers(active(json!({})));
    *world.source.pause.lock().unwrap() = Duration::from_millis(50);
    let asking = Arc::clone(&world);
    let request = tokio::spawn(async move { asking.denial("default", OPAQUE).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.live.forget_proofs(); // as a reload of the same file
    assert_eq!(request.await.unwrap(), None);
    assert_eq!(world.introspected(), 2, "asked again under the new rules");
}

#[tokio::test]
async fn within_the_leeway_an_answer_is_still_remembered() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "exp": NOW - 1 })));
    for _ in 0..3 {
        assert_eq!(world.denial("default", OPAQUE).await, None);
    }
    assert_eq!(world.introspected(), 1);
    world.clock.advance(seconds(4));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Expired));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_realm_that_does_not_answer_only_few_wait() {
    let world = Arc::new(World::introspecting(|_| {}));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::IntrospectionUnavailable));
    *world.source.pause.lock().unwrap() = Duration::from_millis(500);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..4_000 {
        let world = Arc::clone(&world);
        requests.spawn(async move {
            let start = tokio::time::Instant::now();
            world.denial("default", OPAQUE).await;
            start.elapsed()
        });
    }
    let mut waited = 0;
    while let Some(took) = requests.join_next().await {
        waited += usize::from(took.unwrap() > Duration::from_millis(250));
    }
    assert!((1..=1_100).contains(&waited), "{waited} of 4,000 waited");
}

#[test]
fn a_runtime_that_ends_in_between_hangs_nobody() {
    for _ in 0..20 {
        let world = Arc::new(World::introspecting(|_| {}));
        world.answers(active(json!({})));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        for task in 0..4 {
            let world = Arc::clone(&world);
            runtime.spawn(async move {
                for number in 0_u64.. {
                    world.denial("default", &format!("opaque-{task}-{number}")).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        std::thread::sleep(Duration::from_millis(5));
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(runtime);
            let _ = done.send(());
        });
        ended.recv_timeout(Duration::from_secs(10)).expect("dropping the runtime hangs");
    }
}

#[tokio::test]
async fn what_was_answered_under_other_rules_is_asked_again() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({})));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    world.live.forget_proofs(); // as every reload
    world.answers(json!({ "active": false }));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Inactive));
    assert_eq!(world.introspected(), 2);
}
