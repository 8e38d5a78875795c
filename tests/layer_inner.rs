//! `CheckLayer` and the service inside: its places, its readiness, its errors, the request it gets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::time::timeout;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use vidimus::builder::Realm;
use vidimus::testing::{Fault, Issuer};
use vidimus::{CheckLayer, Denial, Gate, GateBuilder};

const SECOND: Duration = Duration::from_secs(1);

/// Long enough for what needs no more than a few turns.
const MOMENT: Duration = Duration::from_millis(200);

type Answer = Response<Full<Bytes>>;

async fn world() -> (Issuer, Gate) {
    let issuer = Issuer::local().await.unwrap();
    let realm = Realm::new(issuer.issuer()).audience(["orders-api"]);
    let gate = GateBuilder::new().realm(realm).build().unwrap();
    timeout(5 * SECOND, gate.ready()).await.unwrap();
    (issuer, gate)
}

fn layer(gate: &Gate) -> CheckLayer {
    CheckLayer::new(gate, "default").unwrap()
}

fn ask(token: &str) -> Request<Full<Bytes>> {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    request.body(Full::default()).unwrap()
}

/// A token that the gate has to wait for: its key is new.
fn rotated(issuer: &Issuer) -> String {
    let fresh = support::ec_key("rotated-in");
    let token = fresh.sign(&issuer.claims()).unwrap();
    issuer.set_keys(vec![fresh]);
    token
}

fn answer(_: Request<Full<Bytes>>) -> Ready<Result<Answer, Infallible>> {
    ready(Ok(Response::default()))
}

#[tokio::test]
async fn who_waits_for_a_decision_takes_no_place_from_others() {
    let (issuer, gate) = world().await;
    let one_at_a_time = ConcurrencyLimitLayer::new(1).layer(service_fn(answer));
    let service = layer(&gate).layer(one_at_a_time);
    issuer.set_fault(Some(Fault::Hang));
    let stranger = support::ec_key("unknown").sign(&issuer.claims()).unwrap();
    let mut waiting = Box::pin(service.clone().oneshot(ask(&stranger)));
    assert!(timeout(MOMENT, &mut waiting).await.is_err(), "it waits for a fetch");
    let good = ask(&issuer.token(json!({})).unwrap());
    let answer = timeout(SECOND, service.oneshot(good)).await.expect("the place is free");
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn after_the_decision_it_waits_for_a_place_like_any_other() {
    let (issuer, gate) = world().await;
    let limited = ConcurrencyLimitLayer::new(1).layer(service_fn(answer));
    let mut other = limited.clone();
    let mut service = layer(&gate).layer(limited);
    let mut asked = Box::pin(service.ready().await.unwrap().call(ask(&rotated(&issuer))));
    timeout(SECOND, other.ready()).await.expect("the place has been given back").unwrap();
    assert!(timeout(MOMENT, &mut asked).await.is_err(), "there is no place");
    drop(other);
    assert_eq!(timeout(SECOND, asked).await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_refusal_gives_the_place_back_although_the_service_is_kept() {
    let (issuer, gate) = world().await;
    let mut kept = layer(&gate).layer(ConcurrencyLimitLayer::new(1).layer(service_fn(answer)));
    let mut other = kept.clone();
    let refused = kept.ready().await.unwrap().call(ask("x")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let other = timeout(SECOND, other.ready()).await.expect("the place is free").unwrap();
    let good = ask(&issuer.token(json!({})).unwrap());
    assert_eq!(other.call(good).await.unwrap().status(), StatusCode::OK);
    drop(kept);
}

/// Fails to become ready once it is closed.
#[derive(Clone, Default)]
struct Closing(Arc<AtomicBool>);

impl Service<Request<Full<Bytes>>> for Closing {
    type Response = Answer;
    type Error = &'static str;
    type Future = Ready<Result<Answer, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        match self.0.load(Ordering::SeqCst) {
            false => Poll::Ready(Ok(())),
            true => Poll::Ready(Err("closed")),
        }
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn that_the_service_fails_to_become_ready_comes_through_after_the_wait_too() {
    let (issuer, gate) = world().await;
    let inner = Closing::default();
    let mut service = layer(&gate).layer(inner.clone());
    let asked = service.ready().await.unwrap().call(ask(&rotated(&issuer)));
    inner.0.store(true, Ordering::SeqCst);
    assert_eq!(asked.await.unwrap_err(), "closed");
    assert_eq!(service.ready().await.map(drop), Err("closed"));
}

#[tokio::test]
async fn a_request_without_room_for_identity_headers_is_refused() {
    let (issuer, gate) = world().await;
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let layer = layer(&gate).identity_headers().observe(move |decision, _| {
        assert_eq!(decision.label(), "question_unreadable");
        tell.store(true, Ordering::SeqCst);
    });
    let mut request = ask(&issuer.token(json!({})).unwrap());
    let headers = request.headers_mut();
    let mut names = (0..).map(|number| HeaderName::try_from(format!("h{number}")).unwrap());
    while headers.try_insert(names.next().unwrap(), HeaderValue::from_static("")).is_ok() {}
    let answer = layer.layer(service_fn(answer)).oneshot(request).await.unwrap();
    assert_eq!(answer.extensions().get(), Some(&Denial::QuestionUnreadable));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(told.load(Ordering::SeqCst), "the refusal is shown, not a grant");
}
