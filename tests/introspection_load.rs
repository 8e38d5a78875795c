//! Asking a realm about tokens, over real sockets: how many calls at once, how long, and when none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/realm.rs"]
mod realm;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use realm::*;
use serde_json::json;
use support::ec_key;
use tokio::time::{Instant, sleep};
use vidimus::check::*;
use vidimus::issuer::*;
use vidimus::testing::Fault;

const UNAVAILABLE: Option<Denial> = Some(Denial::IntrospectionUnavailable);

/// The deadline of tests that see it pass.
const TIMEOUT: Duration = Duration::from_millis(300);

/// No request waits longer: the deadline, 50 ms of ours, and 100 ms because other tests use the
/// machine too.
const LATEST: Duration = Duration::from_millis(450);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn asking(issuer: &str, change: impl FnOnce(&mut IntrospectionSettings)) -> Asking {
    Asking::start(settings(issuer, with_secret(change)))
}

fn count(denials: &[(Option<Denial>, Duration)], denial: Option<Denial>) -> usize {
    denials.iter().filter(|(found, _)| *found == denial).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_longer_than_its_deadline_and_local_tokens_not_at_all() {
    let key = ec_key("k1");
    let issuer = embedded_with(key.clone()).await;
    let asking = asking(issuer.issuer(), |settings| {
        (settings.timeout, settings.max_concurrent) = (TIMEOUT, 8); // half for invented ones
    });
    let local = |number: i32| {
        let mut claims = good_claims(issuer.issuer());
        claims["jti"] = json!(format!("onrtac:{number}")); // one that is not cached
        key.sign(&claims).unwrap()
    };
    assert_eq!(asking.denial(&local(0)).await, None);
    issuer.set_introspection_fault(Some(Fault::Hang));
    let began = Instant::now();
    assert_eq!(asking.denial(&opaque(&issuer)).await, UNAVAILABLE);
    assert!((TIMEOUT..LATEST).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(asking.outcome("timeout"), 1);

    let crowd = asking.clone();
    let crowd = tokio::spawn(async move { crowd.denials(many(200)).await });
    until("the crowd", || asking.stats().in_flight == 4).await;
    for number in 1..=20 {
        let began = Instant::now();
        assert_eq!(asking.denial(&local(number)).await, None);
        assert!(began.elapsed() < millis(100), "{:?}", began.elapsed());
    }
    assert_eq!(asking.stats().in_flight, 4, "all of that while they wait");
    let crowd = crowd.await.unwrap();
    assert_eq!(count(&crowd, UNAVAILABLE), 200);
    let longest = crowd.iter().map(|(_, took)| *took).max().unwrap();
    assert!((TIMEOUT..LATEST).contains(&longest), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_than_allowed_run_at_once_and_sixteen_times_as_many_wait() {
    let realm = FakeRealm::start().await;
    realm.pauses(millis(50));
    let asking = asking(&realm.issuer, |settings| settings.max_concurrent = 6);
    assert_eq!(asking.denial("opaque").await, None);
    let crowd = asking.denials(many(200)).await;
    // Half of the turns are for tokens that verify. So 3 run and 48 wait, and whoever comes when the
    // first have left.
    let passed = count(&crowd, None);
    assert!((51..=60).contains(&passed), "{passed}");
    assert_eq!(count(&crowd, UNAVAILABLE), 200 - passed);
    for (denial, took) in crowd {
        assert!(denial.is_none() || took < millis(150), "refused only after {took:?}");
    }
    assert_eq!(asking.outcome("busy"), 200 - passed as u64);
    assert_eq!((realm.most(), realm.asked().len()), (3, passed + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_tokens_leave_half_of_the_turns_to_those_that_verify() {
    let issuer = embedded().await;
    issuer.set_introspection_delay(millis(100));
    let asking = asking(issuer.issuer(), |settings| settings.max_concurrent = 8);
    let flood = {
        let asking = asking.clone();
        tokio::spawn(async move {
            for round in 0..8 {
                let many = (0..200).map(|number| format!("invented-{round}-{number}")).collect();
                asking.denials(many).await;
            }
        })
    };
    until("the flood", || asking.stats().in_flight == 4).await;
    let token = |_| issuer.lightweight_token(good_claims(issuer.issuer())).unwrap();
    let verified = asking.denials((0..12).map(token).collect()).await;
    assert_eq!(count(&verified, None), 12, "{verified:?}");
    assert!(!flood.is_finished() && !asking.stats().breaker_open);
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_leaves_a_slow_realm_no_time_does_not_open_the_breaker() {
    let issuer = embedded().await;
    issuer.set_introspection_delay(millis(120));
    let asking = asking(issuer.issuer(), |settings| {
        (settings.timeout, settings.max_concurrent) = (millis(600), 4);
    });
    // The last turns come with less time left than the realm takes.
    asking.denials(many(32)).await;
    assert_eq!(asking.outcome("timeout"), 0, "{:?}", asking.stats());
    assert!(asking.outcome("busy") > 0 && !asking.stats().breaker_open, "{:?}", asking.stats());
    assert_eq!(asking.denial(&opaque(&issuer)).await, None);
}

#[tokio::test]
async fn after_five_failures_a_realm_is_left_alone_until_a_probe_passes() {
    let issuer = embedded().await;
    let asking = asking(issuer.issuer(), |_| {});
    issuer.set_introspection_fault(Some(Fault::ServerError));
    for _ in 0..5 {
        assert!(!asking.stats().breaker_open);
        assert_eq!(asking.denial(&opaque(&issuer)).await, UNAVAILABLE);
    }
    let opened = Instant::now();
    assert!(asking.stats().breaker_open);
    issuer.set_introspection_fault(None); // nobody learns of it yet
    issuer.set_introspection_delay(millis(100));
    while opened.elapsed() < millis(800) {
        assert_eq!(asking.denial(&opaque(&issuer)).await, UNAVAILABLE);
        assert_eq!(issuer.introspected(), 5);
        sleep(millis(20)).await;
    }
    assert_eq!(asking.outcome("status"), 5);
    let left_alone = asking.outcome("breaker_open");
    assert!(left_alone >= 10, "{left_alone}");
    sleep(millis(250)).await;
    let tokens = (0..20).map(|_| opaque(&issuer)).collect();
    let denials = asking.denials(tokens).await;
    assert_eq!((count(&denials, None), count(&denials, UNAVAILABLE)), (1, 19));
    assert_eq!(issuer.introspected(), 6, "one probe");
    assert_eq!(asking.outcome("breaker_open"), left_alone + 19);
    assert!(!asking.stats().breaker_open);
    let tokens = (0..20).map(|_| opaque(&issuer)).collect();
    assert_eq!(count(&asking.denials(tokens).await, None), 20, "well again");
}

#[tokio::test]
async fn odd_tokens_do_not_stop_others_from_being_asked_about() {
    let realm = FakeRealm::start().await;
    let answer = good_answer(&realm.issuer);
    let statuses = [400, 413, 414];
    let next = AtomicU64::new(0);
    realm.tells(move |asked| {
        if asked.form["token"].starts_with("opaque-") {
            let status = statuses[next.fetch_add(1, Ordering::SeqCst) as usize % 3];
            return Some(page(status, "application/json", r#"{"error":"invalid_request"}"#));
        }
        Some(json_page(&answer))
    });
    let asking = asking(&realm.issuer, |_| {});
    for token in many(30) {
        assert_eq!(asking.denial(&token).await, UNAVAILABLE);
    }
    assert_eq!((asking.outcome("status"), realm.asked().len()), (30, 30));
    assert_eq!(asking.denial("good").await, None);
}
