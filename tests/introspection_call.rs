//! Asking a realm about tokens, over real sockets: where, in which words, how often, and what becomes of
//! answers that cannot be used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/realm.rs"]
mod realm;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use realm::*;
use serde_json::{Value, json};
use support::ec_key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use vidimus::check::*;
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::issuer::*;
use vidimus::testing::{Fault, Issuer};

const UNAVAILABLE: Option<Denial> = Some(Denial::IntrospectionUnavailable);

/// The deadline of tests that see it pass, and answers that come well before.
const PATIENT: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn asking(issuer: &str, change: impl FnOnce(&mut IntrospectionSettings)) -> Asking {
    Asking::start(settings(issuer, with_secret(change)))
}

fn count(denials: &[(Option<Denial>, Duration)], denial: Option<Denial>) -> usize {
    denials.iter().filter(|(found, _)| *found == denial).count()
}

#[tokio::test]
async fn the_full_token_is_asked_for_by_exactly_what_keycloak_wants() {
    let realm = FakeRealm::start().await;
    // Only the full token names the service.
    let mut answer = good_answer(&realm.issuer);
    let full = realm.key.sign(&good_claims(&realm.issuer)).unwrap();
    answer["aud"] = json!(CLIENT);
    answer["jwt"] = json!(full);
    let narrow = json!({ "aud": CLIENT });
    let mut without = good_answer(&realm.issuer);
    without["aud"] = narrow["aud"].clone();
    realm.tells(move |asked| {
        let full = asked.header("accept") == Some("application/jwt");
        Some(json_page(if full { &answer } else { &without }))
    });
    let full = asking(&realm.issuer, |settings| settings.prefer_jwt = true);
    assert_eq!(full.denial("opaque").await, None);
    let plain = asking(&realm.issuer, |_| {});
    assert_eq!(plain.denial("opaque").await, Some(Denial::Audience));
    assert_eq!(realm.asked()[1].header("accept"), Some("application/json"));
}

#[tokio::test]
async fn a_signed_answer_is_asked_for_where_the_metadata_say_that_it_is_made() {
    const SIGNED: &str = "application/token-introspection+jwt";
    let realm = FakeRealm::start().await;
    realm.publishes("introspection_signing_alg_values_supported", json!(["ES256"]));
    let (answer, issuer, key) =
        (good_answer(&realm.issuer), realm.issuer.clone(), realm.key.clone());
    realm.tells(move |asked| {
        if asked.header("accept") != Some(SIGNED) {
            return Some(json_page(&json!({ "active": false })));
        }
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": "token-introspection+jwt" });
        let claims = json!({
            "iss": issuer, "aud": CLIENT, "iat": SystemClock.now().as_secs(),
            "token_introspection": answer,
        });
        let signed = key.sign_with_header(&header, &claims).unwrap();
        Some(page(200, &format!("{SIGNED};charset=utf-8"), signed))
    });
    let signed = asking(&realm.issuer, |settings| settings.prefer_jwt = true);
    assert_eq!(signed.denial("opaque").await, None);
    let plain = asking(&realm.issuer, |_| {});
    assert_eq!(plain.denial("opaque").await, Some(Denial::Inactive));
    assert_eq!(realm.asked()[1].header("accept"), Some("application/json"));
}

#[tokio::test]
async fn the_endpoint_of_the_metadata_is_asked_by_way_of_fetch_base() {
    let realm = FakeRealm::start().await;
    let public = "https://id.example.com/realms/shop";
    realm.publishes("issuer", json!(public));
    realm.publishes("jwks_uri", json!(format!("{public}/certs")));
    realm.publishes("introspection_endpoint", json!(format!("{public}/introspect")));
    let answer = good_answer(public);
    realm.tells(move |_| Some(json_page(&answer)));
    let fetch_base = Some(realm.base.parse().unwrap());
    let inside = IssuerSettings { fetch_base, ..settings(public, with_secret(|_| {})) };
    assert_eq!(Asking::start(inside).denial("opaque").await, None);
    assert_eq!(realm.asked().len(), 1);
}

#[tokio::test]
async fn a_configured_endpoint_comes_before_that_of_the_metadata() {
    let (issuer, realm) = (embedded().await, FakeRealm::start().await);
    let answer = good_answer(issuer.issuer());
    realm.tells(move |_| Some(json_page(&answer)));
    let endpoint = format!("{}/elsewhere", realm.base).parse().unwrap();
    let asking = asking(issuer.issuer(), |settings| settings.endpoint = Some(endpoint));
    assert_eq!(asking.denial("opaque").await, None);
    assert_eq!((issuer.introspected(), realm.asked().len()), (0, 1));
}

#[tokio::test]
async fn metadata_without_a_usable_endpoint_make_tokens_undecidable_and_call_nobody() {
    let realm = FakeRealm::start().await;
    // Really this machine, but not by its name.
    let elsewhere = realm.base.replace("127.0.0.1", "0.0.0.0") + "/introspect";
    let with_password = realm.base.replace("//", "//user:password@") + "/introspect";
    for (endpoint, label) in [
        (Value::Null, "metadata"),
        (json!(7), "metadata"),
        (json!("/introspect"), "metadata"),
        (json!("ftp://127.0.0.1/introspect"), "metadata"),
        (json!(with_password), "metadata"),
        (json!(elsewhere), "insecure"),
    ] {
        realm.publishes("introspection_endpoint", endpoint.clone());
        let asking = asking(&realm.issuer, |_| {});
        for asked in 1..=2 {
            assert_eq!(asking.denial("opaque").await, UNAVAILABLE, "{endpoint}");
            assert_eq!(asking.outcome(label), asked, "{endpoint}");
        }
    }
    let configured = elsewhere.parse().unwrap();
    let asking = asking(&realm.issuer, |settings| settings.endpoint = Some(configured));
    assert_eq!(asking.denial("opaque").await, UNAVAILABLE);
    assert_eq!(asking.outcome("insecure"), 1);
    assert!(realm.asked().is_empty());
    let insecure_http = true;
    let on_purpose =
        IssuerSettings { insecure_http, ..settings(&realm.issuer, with_secret(|_| {})) };
    assert_eq!(Asking::start(on_purpose).denial("opaque").await, None);
}

#[tokio::test]
async fn whatever_a_realm_answers_is_its_own_fault_and_forgotten_at_once() {
    let issuer = embedded().await;
    let asking = asking(issuer.issuer(), |settings| settings.timeout = PATIENT);
    let (mut introspected, mut label_of) = (0, std::collections::BTreeMap::new());
    let mut refused = async |what: String, label: &'static str| {
        let token = opaque(&issuer);
        assert_eq!(asking.denial(&token).await, UNAVAILABLE, "{what}");
        *label_of.entry(label).or_insert(0) += 1;
        assert_eq!(asking.outcome(label), label_of[label], "{what}");
        introspected += 1;
        assert_eq!(issuer.introspected(), introspected, "{what} is asked once");
        issuer.set_introspection_fault(None);
        issuer.set_introspection_answer(None);
        assert_eq!(asking.denial(&token).await, None, "after {what}");
        introspected += 1;
    };
    for (fault, label) in [
        (Fault::ServerError, "status"),
        (Fault::Html, "not_json"),
        (Fault::Redirect, "redirect"),
        (Fault::Hang, "timeout"),
        (Fault::Oversized, "too_large"),
        (Fault::Truncated, "malformed"),
    ] {
        issuer.set_introspection_fault(Some(fault));
        refused(format!("{fault:?}"), label).await;
    }
    let good = good_answer(issuer.issuer()).to_string();
    let twice = good.replace("\"active\":true", "\"active\":true,\"active\":true");
    assert_ne!(good, twice);
    let deep = format!("{{\"active\":true,\"a\":{}{}}}", "[".repeat(99), "]".repeat(99));
    let padded = good.clone() + &" ".repeat(1024 * 1024 + 1 - good.len());
    const JSON: &str = "application/json";
    for (status, kind, body, label) in [
        (201, JSON, &*good, "status"),
        (204, JSON, "", "status"),
        (206, JSON, &*good, "status"),
        (302, JSON, &*good, "redirect"),
        (304, JSON, "", "redirect"),
        (400, JSON, r#"{"error":"invalid_request"}"#, "status"),
        (400, "text/html", "<!DOCTYPE html>", "status"),
        (401, "text/html", "<!DOCTYPE html>", "status"),
        (403, "text/html", "<!DOCTYPE html>", "status"),
        (404, JSON, r#"{"error":"Realm does not exist"}"#, "status"),
        (405, JSON, &*good, "status"),
        (429, JSON, "{}", "status"),
        (500, JSON, &*good, "status"),
        (503, "text/plain", "", "status"),
        (200, "text/html;charset=UTF-8", &*good, "not_json"),
        (200, "text/plain", &*good, "not_json"),
        (200, "application/jwt", "e30.e30.e30", "not_json"),
        (200, "", "<!DOCTYPE html>", "malformed"),
        (200, JSON, "", "malformed"),
        (200, JSON, "[]", "malformed"),
        (200, JSON, "{}", "malformed"),
        (200, JSON, "true", "malformed"),
        (200, JSON, "{\"active\":true", "malformed"),
        (200, JSON, "{\"active\":true}{}", "malformed"),
        (200, JSON, &*twice, "malformed"),
        (200, JSON, &*deep, "malformed"),
        (200, JSON, &*padded, "too_large"),
    ] {
        issuer.set_introspection_answer(Some((status, kind, body.to_owned())));
        refused(format!("{status} {kind} {body:.40}"), label).await;
    }
    // What has no type, or more of one, and is strict JSON all the same; the largest that is read.
    for (kind, body) in
        [("", &*good), ("application/json;charset=UTF-8", &*good), (JSON, &padded[..1024 * 1024])]
    {
        issuer.set_introspection_answer(Some((200, kind, body.to_owned())));
        assert_eq!(asking.denial(&opaque(&issuer)).await, None, "{kind}");
    }
    // Faults of metadata and keys alone.
    issuer.set_introspection_answer(None);
    for fault in [Fault::OtherIssuer, Fault::NoKeys, Fault::OnlyEncryption] {
        issuer.set_introspection_fault(Some(fault));
        assert_eq!(asking.denial(&opaque(&issuer)).await, None, "{fault:?}");
    }
}

#[tokio::test]
async fn a_token_that_keycloak_cannot_read_is_not_active_unless_it_verifies() {
    let issuer = embedded().await;
    let asking = asking(issuer.issuer(), |_| {});
    // It says the same when its database is away.
    let error = json!({
        "error": "invalid_request", "error_description": "Failed to introspect token.",
    });
    issuer.set_introspection_answer(Some((400, "application/json", error.to_string())));
    assert_eq!(asking.denial("opaque").await, Some(Denial::Inactive));
    let verifies = issuer.lightweight_token(good_claims(issuer.issuer())).unwrap();
    for asked in 1..=2 {
        assert_eq!(asking.denial(&verifies).await, UNAVAILABLE);
        assert_eq!((asking.outcome("inactive"), asking.outcome("status")), (1, asked));
    }
    issuer.set_introspection_answer(None);
    assert_eq!(asking.denial(&verifies).await, None);
}

#[tokio::test]
async fn an_answer_without_a_content_type_is_read_if_it_is_json() {
    let realm = FakeRealm::start().await;
    let asking = asking(&realm.issuer, |_| {});
    realm.tells(|_| Some(page(200, "", "<!DOCTYPE html>")));
    assert_eq!(asking.denial("opaque").await, UNAVAILABLE);
    assert_eq!(asking.outcome("malformed"), 1);
    let answer = good_answer(&realm.issuer).to_string();
    realm.tells(move |_| Some(page(200, "", answer.clone())));
    assert_eq!(asking.denial("opaque").await, None);
}

#[tokio::test]
async fn a_realm_that_restarts_within_the_deadline_costs_no_request() {
    let address = free_port();
    let issuer = Issuer::start(address, "shop", vec![ec_key("k1")]).await.unwrap();
    let asking = asking(issuer.issuer(), |_| {});
    assert_eq!(asking.denial(&opaque(&issuer)).await, None);
    let answer = good_answer(issuer.issuer()).to_string();
    drop(issuer);
    let restart = async {
        sleep(millis(100)).await;
        let issuer = Issuer::start(address, "shop", vec![ec_key("k1")]).await.unwrap();
        issuer.set_introspection_answer(Some((200, "application/json", answer)));
        issuer
    };
    let (denial, issuer) = tokio::join!(asking.denial("opaque"), restart);
    assert_eq!(denial, None);
    assert_eq!(issuer.introspected(), 1);
    assert_eq!(asking.stats().outcomes.into_iter().collect::<Vec<_>>(), [("active", 2)]);
}

#[tokio::test]
async fn a_realm_that_is_away_is_told_from_one_that_is_slow() {
    let realm = FakeRealm::start().await;
    let endpoint: url::Url = format!("http://{}/introspect", free_port()).parse().unwrap();
    for timeout in [millis(200), Duration::from_secs(2)] {
        let asking = asking(&realm.issuer, |settings| {
            (settings.timeout, settings.endpoint) = (timeout, Some(endpoint.clone()));
        });
        let began = Instant::now();
        assert_eq!(asking.denial("opaque").await, UNAVAILABLE);
        assert!(began.elapsed() < millis(450), "{:?}", began.elapsed());
        assert_eq!(asking.outcome("connect"), 1, "{timeout:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_without_an_answer_is_tried_again_twice() {
    for (failures, denial) in [(1, None), (2, None), (3, UNAVAILABLE)] {
        let realm = FakeRealm::start().await;
        let (answer, asked) = (good_answer(&realm.issuer), AtomicU64::new(0));
        realm.tells(move |_| {
            let asked = asked.fetch_add(1, Ordering::SeqCst);
            (asked >= failures).then(|| json_page(&answer))
        });
        let asking = asking(&realm.issuer, |_| {});
        assert_eq!(asking.denial("opaque").await, denial, "{failures}");
        assert_eq!(realm.asked().len(), if failures == 3 { 3 } else { failures as usize + 1 });
        assert_eq!(asking.outcome("connect"), u64::from(denial.is_some()));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/introspect", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"active\":";
            let _ = stream.write_all(half.as_bytes()).await;
        }
    });
    let realm = FakeRealm::start().await;
    let asking = asking(&realm.issuer, |settings| settings.endpoint = endpoint.parse().ok());
    assert_eq!(asking.denial("opaque").await, UNAVAILABLE);
    assert_eq!((asking.outcome("broken"), connections.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_realm_that_was_away_at_the_start_is_asked_soon_after_it_comes() {
    let address = free_port();
    let name = format!("http://{address}/realms/shop");
    let asking = asking(&name, |_| {});
    // So many failures that the next scheduled fetch is far away.
    for token in many(8) {
        assert_eq!(asking.denial(&token).await, UNAVAILABLE);
        sleep(millis(60)).await;
    }
    assert!(asking.outcome("metadata") >= 5);
    let issuer = Issuer::start(address, "shop", vec![ec_key("k1")]).await.unwrap();
    let (token, came) = (opaque(&issuer), Instant::now());
    while asking.denial(&token).await.is_some() {
        assert!(came.elapsed() < Duration::from_secs(2), "nobody asks");
        sleep(millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_of_settings_lets_calls_end_and_keeps_the_numbers() {
    let issuer = embedded().await;
    let changed = |timeout| {
        let asks = with_secret(|settings| {
            (settings.timeout, settings.max_concurrent) = (timeout, 1);
        });
        Plan::prepare(vec![settings(issuer.issuer(), asks)]).unwrap()
    };
    let asking = asking(issuer.issuer(), |settings| settings.max_concurrent = 1);
    assert_eq!(asking.denial(&opaque(&issuer)).await, None);
    issuer.set_introspection_delay(millis(100));
    // One is being asked about, two wait for their turn.
    let (crowd, tokens) = (asking.clone(), (0..3).map(|_| opaque(&issuer)).collect());
    let crowd = tokio::spawn(async move { crowd.denials(tokens).await });
    until("a call", || asking.stats().in_flight == 1).await;
    asking.issuers.replace(changed(millis(900)));
    assert_eq!(asking.stats().outcomes.get("active"), Some(&1));
    assert_eq!(asking.denial(&opaque(&issuer)).await, None, "by the new settings");
    assert_eq!(count(&crowd.await.unwrap(), None), 3);
    let stats = asking.stats();
    assert_eq!(stats.outcomes.into_iter().collect::<Vec<_>>(), [("active", 5)]);
    assert_eq!((stats.calls, stats.in_flight), (5, 0));
    // The metadata cannot be read again just now: what they said last still holds.
    issuer.set_fault(Some(Fault::ServerError));
    asking.issuers.replace(changed(millis(800)));
    assert_eq!(asking.denial(&opaque(&issuer)).await, None);
}

#[tokio::test]
async fn a_request_that_waits_for_metadata_while_its_realm_is_replaced_is_not_lost() {
    let issuer = embedded().await;
    issuer.set_fault(Some(Fault::Hang));
    let asking = asking(issuer.issuer(), |_| {});
    let (waiting, token) = (asking.clone(), opaque(&issuer));
    let waiting = tokio::spawn(async move { waiting.denial(&token).await });
    until("a fetch", || issuer.asked().0 == 1).await;
    issuer.set_fault(None);
    let other = with_secret(|settings| settings.max_concurrent = 5);
    let plan = Plan::prepare(vec![settings(issuer.issuer(), other)]).unwrap();
    asking.issuers.replace(plan);
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn a_failure_is_logged_once_a_minute_by_its_kind_and_without_token_or_secret() {
    let (log, _guard) = log();
    let issuer = embedded().await;
    let asking = asking(issuer.issuer(), |settings| settings.timeout = PATIENT);
    let mut tokens = Vec::new();
    let mut ask = async |expected| {
        let token = opaque(&issuer);
        assert_eq!(asking.denial(&token).await, expected);
        tokens.push(token);
    };
    let lines = |label: &str| {
        let reason = format!("reason=\"{label}\"");
        log().lines().filter(|line| line.contains(&reason)).count()
    };
    let wrong = json!({ "error": "invalid_client", "error_description": SECRET }).to_string();
    for (status, body, label) in [
        (500, String::new(), "status"),
        (401, wrong, "credentials"),
        (200, "[]".into(), "malformed"),
    ] {
        // A realm that fails every second time, too, and that an attacker makes fail.
        for _ in 0..5 {
            issuer.set_introspection_answer(Some((status, "application/json", body.clone())));
            ask(UNAVAILABLE).await;
            issuer.set_introspection_answer(None);
            ask(None).await;
        }
        assert_eq!((lines(label), asking.outcome(label)), (1, 5), "{}", log());
    }
    issuer.set_introspection_fault(Some(Fault::Hang));
    ask(UNAVAILABLE).await;
    for _ in 0..10 {
        issuer.set_introspection_fault(Some(Fault::ServerError));
        ask(UNAVAILABLE).await;
    }
    assert_eq!((lines("timeout"), lines("status"), lines("breaker_open")), (1, 1, 0));
    let log = log();
    assert!(log.contains("cannot introspect: http://"), "{log}");
    assert!(log.contains(&format!("{}/protocol/", issuer.issuer())), "where, {log}");
    let header = "dmlkaW11czpkZW1vLXNlY3JldA"; // as HTTP Basic has them
    for hidden in tokens.iter().map(String::as_str).chain([SECRET, header]) {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[tokio::test]
async fn the_numbers_add_up() {
    let issuer = embedded().await;
    let asking = asking(issuer.issuer(), |settings| settings.timeout = PATIENT);
    for number in 0..7 {
        assert_eq!(asking.denial(&opaque(&issuer)).await, None);
        assert_eq!(asking.denial(&format!("nobodys-{number}")).await, Some(Denial::Inactive));
    }
    issuer.set_introspection_delay(millis(60));
    assert_eq!(asking.denial(&opaque(&issuer)).await, None);
    issuer.set_introspection_fault(Some(Fault::Hang));
    let slow = asking.clone();
    let slow = tokio::spawn(async move { slow.denials(many(3)).await });
    until("three calls", || asking.stats().in_flight == 3).await;
    assert_eq!(asking.stats().calls, 15, "those that have ended");
    slow.await.unwrap();
    issuer.set_introspection_fault(None);
    issuer.set_introspection_answer(Some((500, "text/plain", String::new())));
    for token in many(4) {
        assert_eq!(asking.denial(&token).await, UNAVAILABLE);
    }
    let stats = asking.stats();
    let outcomes =
        [("active", 8), ("breaker_open", 2), ("inactive", 7), ("status", 2), ("timeout", 3)];
    assert_eq!(stats.outcomes.into_iter().collect::<Vec<_>>(), outcomes);
    assert_eq!((stats.calls, stats.in_flight, stats.breaker_open), (20, 0, true));
    assert!(stats.seconds.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{:?}", stats.seconds);
    assert_eq!(stats.seconds.last(), Some(&(5.0, 20)));
    let within = |bound: f64| stats.seconds.iter().find(|(at, _)| *at == bound).unwrap().1;
    assert!(within(0.05) >= 8 && within(0.05) <= 14 && within(0.2) <= 17, "{:?}", stats.seconds);
    assert!((3.05..9.0).contains(&stats.seconds_sum), "{}", stats.seconds_sum);
}
