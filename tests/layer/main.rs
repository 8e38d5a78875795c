//! `CheckLayer` around services of its caller: policies, certificates, headers, refusals, axum.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod certificates;
mod in_axum;
#[path = "../support/log.rs"]
mod log;
#[path = "../support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use log::log;
use serde_json::json;
use tokio::time::timeout;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use vidimus::builder::{Policy, Realm};
use vidimus::check::{ClaimsError, Refusal, Thumbprint};
use vidimus::edge::certificate::Provider;
use vidimus::edge::client::{CertificateFrom, TlsClientCertificate};
use vidimus::edge::forwarded::Peer;
use vidimus::edge::refusal::{Grpc, Refuse as _, Standard};
use vidimus::testing::{Fault, Issuer};
use vidimus::{CheckLayer, Denial, Gate, GateBuilder, Grant};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    issuer: Issuer,
    gate: Gate,
}

impl World {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(GateBuilder) -> GateBuilder) -> Self {
        let issuer = Issuer::local().await.unwrap();
        let builder = GateBuilder::new()
            .realm(Realm::new(issuer.issuer()).audience(["orders-api"]))
            .policy(Policy::new("default"))
            .policy(Policy::new("admin").roles(["realm:admin"]));
        let gate = change(builder).build().unwrap();
        timeout(5 * SECOND, gate.ready()).await.unwrap();
        Self { issuer, gate }
    }

    fn layer(&self) -> CheckLayer {
        CheckLayer::new(&self.gate, "default").unwrap()
    }

    fn token(&self, change: serde_json::Value) -> String {
        self.issuer.token(change).unwrap()
    }

    fn ask(&self) -> Request<Full<Bytes>> {
        ask(&self.token(json!({})))
    }
}

fn ask(token: &str) -> Request<Full<Bytes>> {
    let request = Request::get("/orders/7?q=1").header("authorization", format!("Bearer {token}"));
    request.body(Full::from("body")).unwrap()
}

type Answer = Response<Full<Bytes>>;

/// Answers with the subject; keeps the head of each request that reaches it.
#[derive(Default)]
struct Inner {
    seen: Arc<Mutex<Vec<Parts>>>,
    ready: bool,
}

/// A clone that nobody has polled is not ready, as one of a service with a limit is not.
impl Clone for Inner {
    fn clone(&self) -> Self {
        Self { seen: Arc::clone(&self.seen), ready: false }
    }
}

impl Service<Request<Full<Bytes>>> for Inner {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        let (parts, body) = request.into_parts();
        let subject =
            parts.extensions.get().and_then(Grant::subject).unwrap_or("nobody").to_owned();
        self.seen.lock().unwrap().push(parts);
        Box::pin(async move {
            assert_eq!(body.collect().await.unwrap().to_bytes(), "body");
            Ok(Response::new(subject.into()))
        })
    }
}

async fn through<R>(layer: &CheckLayer<R>, request: Request<Full<Bytes>>) -> (Answer, Option<Parts>)
where
    R: vidimus::edge::refusal::Refuse<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let inner = Inner::default();
    let answer = layer.layer(inner.clone()).oneshot(request).await.unwrap();
    let seen = inner.seen.lock().unwrap().pop();
    (answer, seen)
}

async fn denial<R>(layer: &CheckLayer<R>, request: Request<Full<Bytes>>) -> Option<Denial>
where
    R: vidimus::edge::refusal::Refuse<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let (answer, seen) = through(layer, request).await;
    let denial = answer.extensions().get().copied();
    assert_eq!(seen.is_some(), denial.is_none(), "either refused or passed");
    denial
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn what_passes_reaches_the_service_with_its_grant_and_is_otherwise_as_it_came() {
    let world = World::new().await;
    let mut request = world.ask();
    request.headers_mut().insert("x-auth-request-user", "mallory".parse().unwrap());
    request.extensions_mut().insert(7_u8);
    let before = request.headers().clone();
    let (answer, seen) = through(&world.layer(), request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await, "f1d0ca5e-0000-4000-8000-a11ce0000001");
    let seen = seen.unwrap();
    assert_eq!(seen.headers, before, "headers are not believed, and not touched");
    assert_eq!(
        (seen.uri.to_string().as_str(), seen.extensions.get()),
        ("/orders/7?q=1", Some(&7_u8))
    );
    assert_eq!(seen.extensions.get::<Grant>().unwrap().policy().name(), "default");
}

#[tokio::test]
async fn what_is_refused_is_answered_as_the_sidecar_does_and_goes_no_further() {
    let world = World::new().await;
    let layer = CheckLayer::new(&world.gate, "admin").unwrap();
    let (answer, seen) = through(&layer, world.ask()).await;
    assert!(seen.is_none());
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(
        challenge.starts_with("Bearer realm=\"admin\", error=\"insufficient_scope\""),
        "{challenge}"
    );
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(text(answer).await.contains("\"error\":\"insufficient_scope\""));

    // A grant that somebody else has put there counts for nothing.
    let (_, seen) = through(&world.layer(), world.ask()).await;
    let mut forged = ask("not.a.token");
    forged.extensions_mut().insert(seen.unwrap().extensions.get::<Grant>().unwrap().clone());
    assert_eq!(denial(&world.layer(), forged).await, Some(Denial::TokenMalformed));
    let nothing = Request::get("/").body(Full::default()).unwrap();
    assert_eq!(denial(&world.layer(), nothing).await, Some(Denial::NoCredential));
}

#[tokio::test]
async fn the_policy_is_named_once_or_chosen_for_each_request() {
    let world = World::new().await;
    let error = CheckLayer::new(&world.gate, "admni").unwrap_err();
    assert_eq!(error.to_string(), "there is no policy \"admni\"; there are: admin, default");
    assert_eq!(format!("{error:?}"), error.to_string(), "as a main that returns it prints it");

    let layer = CheckLayer::choosing(&world.gate, |parts| match parts.method {
        http::Method::GET => "default",
        http::Method::DELETE => "admin",
        _ => "nowhere",
    });
    for (method, expected) in
        [("GET", None), ("DELETE", Some(Denial::RoleMissing)), ("PUT", Some(Denial::PolicyUnknown))]
    {
        let mut request = world.ask();
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(denial(&layer, request).await, expected, "{method}");
    }
    let mut request = world.ask();
    *request.method_mut() = http::Method::PUT;
    assert_eq!(through(&layer, request).await.0.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn refusals_are_replaceable_as_a_whole_or_in_part() {
    let world = World::new().await;
    let own = world.layer().refusal(|refusal: &Refusal| {
        let mut answer: Answer = Standard.refuse(refusal);
        *answer.body_mut() = Full::from(refusal.denial.answer().label);
        answer
    });
    let (answer, _) = through(&own, ask("x")).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
    assert_eq!(text(answer).await, "token_opaque");

    let grpc = world.layer().refusal(Grpc);
    for (token, code) in [("x", "16"), ("a,b", "3")] {
        let (answer, _) = through(&grpc, ask(token)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert_eq!(answer.headers()["grpc-status"], code, "{token}");
        let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        let message = answer.headers()["grpc-message"].to_str().unwrap();
        assert!(challenge.contains(message) && message.contains("token"), "{challenge}: {message}");
        assert_eq!(text(answer).await, "");
    }
    for denial in Denial::ALL.iter().copied() {
        let refusal = Refusal { denial, policy: None, realm: None };
        let answer: Answer = Grpc.refuse(&refusal);
        let code = answer.headers()["grpc-status"].to_str().unwrap();
        let expected = match denial.answer().status {
            400 => "3",
            401 => "16",
            403 => "7",
            503 => "14",
            other => panic!("{denial:?}: {other}"),
        };
        assert_eq!(code, expected, "{denial:?}");
    }
}

#[tokio::test]
async fn of_tonics_services_one_can_be_judged_and_another_open() {
    use tonic::service::{LayerExt as _, Routes};
    let world = World::new().await;
    let check = world.layer().refusal(Grpc);
    // Two services are wanted that somebody else has generated.
    let (_, health) = tonic_health::server::health_reporter();
    let guarded = check.named_layer(AuthorizationServer::new(Nobody));
    let routes = Routes::new(guarded).add_service(health);
    const GUARDED: &str = "/envoy.service.auth.v3.Authorization/Check";
    let good = world.token(json!({}));
    for (path, token, code) in [
        (GUARDED, None, Some("16")),
        (GUARDED, Some(&good), Some("12")), // it reached the service
        ("/grpc.health.v1.Health/Check", None, None),
        ("/orders.Orders/List", None, Some("12")),
    ] {
        let mut request = Request::post(path).header("content-type", "application/grpc");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let message = tonic::body::Body::new(Full::from(vec![0; 5])); // an empty one
        let answer = routes.clone().oneshot(request.body(message).unwrap()).await.unwrap();
        let told = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap());
        assert_eq!(told, code, "{path}: {:?}", answer.headers());
    }
}

struct Nobody;

#[tonic::async_trait]
impl Authorization for Nobody {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        assert!(request.extensions().get::<Grant>().is_some());
        Err(tonic::Status::unimplemented("nobody"))
    }
}

#[tokio::test]
async fn identity_headers_are_set_on_request_over_whatever_the_client_sent() {
    let world = World::with(|builder| {
        let own = Policy::new("headers").header("X-User", "sub").header("X-Team", "department");
        let other = Policy::new("other").header("X-Staff", "sub").forward_jwt("X-Staff-Jwt");
        builder.policy(own).policy(other)
    })
    .await;
    let layer = CheckLayer::new(&world.gate, "headers").unwrap().identity_headers();
    let mut request = world.ask();
    let gone = [
        "x_user",
        "x.user",
        "x-team",
        "x_team",
        "x-staff",
        "x_staff",
        "x-staff-jwt",
        "x_staff_jwt",
    ];
    for name in ["x-user", "X_User", "x-auth-request-user"].iter().chain(&gone) {
        request
            .headers_mut()
            .append(http::HeaderName::try_from(*name).unwrap(), "mallory".parse().unwrap());
    }
    request.headers_mut().insert("x-other", "kept".parse().unwrap());
    let headers = through(&layer, request).await.1.unwrap().headers;
    let user: Vec<_> = headers.get_all("x-user").iter().collect();
    assert_eq!(user, ["f1d0ca5e-0000-4000-8000-a11ce0000001"]);
    for gone in gone.iter().chain(&["x-auth-request-user"]) {
        assert!(!headers.contains_key(*gone), "{gone}");
    }
    assert_eq!(headers["x-other"], "kept");
}

fn one<T: Clone + Send + Sync + 'static>(value: T) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(value);
    extensions
}

#[tokio::test]
async fn who_asks_is_told_by_the_application() {
    let world = World::with(|builder| builder.client_certificate(Provider::Thumbprint)).await;
    let hash = Thumbprint::of(b"mine");
    let token = world.token(json!({ "cnf": { "x5t#S256": hash.to_string() } }));
    let layer = world.layer().peer(|parts| match parts.extensions.get::<SocketAddr>() {
        Some(address) => (*address).into(),
        None => Peer::Unknown,
    });
    for (from, expected) in [
        (None, Some(Denial::CertificateUntrusted)),
        (Some("127.0.0.1"), None),
        (Some("192.0.2.1"), Some(Denial::CertificateUntrusted)),
    ] {
        let mut request = ask(&token);
        request.headers_mut().insert("x-client-cert-sha256", hash.to_string().parse().unwrap());
        let address = from.map(|ip| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 1));
        request.extensions_mut().extend(address.map(one).unwrap_or_default());
        assert_eq!(denial(&layer, request).await, expected, "{from:?}");
    }
}

#[tokio::test]
async fn what_has_to_be_waited_for_goes_to_a_service_that_is_ready() {
    let world = World::new().await;
    let fresh = support::ec_key("rotated-in");
    let token = fresh.sign(&world.issuer.claims()).unwrap();
    world.issuer.set_keys(vec![fresh]); // which the gate has not seen yet
    let inner = Inner::default();
    let mut service = world.layer().layer(inner.clone());
    let answer = service.ready().await.unwrap().call(ask(&token)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(inner.seen.lock().unwrap().len(), 1);
    // And the next one, after it.
    let answer = service.ready().await.unwrap().call(ask(&token)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    // What nobody publishes is refused after the wait, in place of the service.
    world.issuer.set_fault(Some(Fault::ServerError));
    let stranger = support::ec_key("unknown").sign(&world.issuer.claims()).unwrap();
    let answer = service.ready().await.unwrap().call(ask(&stranger)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(inner.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_dropped_request_and_a_panicking_handler_leave_a_service_that_works() {
    let world = World::new().await;
    let armed = Arc::new(AtomicBool::new(true));
    let fuse = Arc::clone(&armed);
    let service = world.layer().layer(service_fn(move |request: Request<Full<Bytes>>| {
        let fuse = Arc::clone(&fuse);
        async move {
            assert!(!fuse.load(Ordering::SeqCst), "a mistake of the handler's");
            Ok::<_, Infallible>(Response::new(request.into_body()))
        }
    }));
    let (broken, request) = (service.clone(), world.ask());
    assert!(tokio::spawn(broken.oneshot(request)).await.unwrap_err().is_panic());
    armed.store(false, Ordering::SeqCst);

    world.issuer.set_fault(Some(Fault::Hang));
    let stranger = support::ec_key("unknown").sign(&world.issuer.claims()).unwrap();
    let waiting = service.clone().oneshot(ask(&stranger));
    assert!(timeout(SECOND / 20, waiting).await.is_err(), "it waits for a fetch");
    assert_eq!(service.oneshot(world.ask()).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn every_decision_is_shown_once() {
    let world = World::new().await;
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    let layer = world.layer().observe(move |decision, _| {
        assert!(["ok", "token_opaque"].contains(&decision.label()));
        seen.fetch_add(1, Ordering::SeqCst);
    });
    through(&layer, world.ask()).await;
    through(&layer, ask("x")).await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
}
