//! A certificate-bound policy in an axum service, with tokens of the issuer for tests.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, StatusCode};
use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt as _;
use vidimus::builder::{Policy, Realm};
use vidimus::check::{BindingRule, Thumbprint};
use vidimus::edge::certificate::Provider;
use vidimus::edge::client::{CertificateFrom, TlsClientCertificate};
use vidimus::edge::forwarded::Peer;
use vidimus::testing::Issuer;
use vidimus::{CheckLayer, Denial, Gate, GateBuilder, Grant};

const CERTIFICATE: &[u8] = b"in DER; only its hash matters";

async fn certificate(grant: Grant) -> String {
    grant.certificate().map_or_else(|| "none".to_owned(), |thumbprint| thumbprint.to_string())
}

async fn start() -> (Issuer, Gate, String) {
    let issuer = Issuer::local().await.expect("a port");
    let gate = GateBuilder::new()
        .realm(Realm::new(issuer.issuer()).audience(["orders-api"]))
        .policy(Policy::new("payments").binding(BindingRule::Mtls))
        .client_certificate(Provider::Thumbprint)
        .build()
        .expect("good settings");
    timeout(Duration::from_secs(5), gate.ready()).await.expect("keys");
    let bound = json!({ "cnf": { "x5t#S256": Thumbprint::of(CERTIFICATE).to_string() } });
    let token = issuer.token(bound).expect("a key");
    (issuer, gate, token)
}

async fn ask(app: &Router, request: http::request::Builder) -> (StatusCode, Option<Denial>, String) {
    let request = request.uri("/").body(Body::empty()).expect("a request");
    let answer = app.clone().oneshot(request).await.expect("an answer");
    let (status, denial) = (answer.status(), answer.extensions().get().copied());
    let body = to_bytes(answer.into_body(), 64 * 1024).await.expect("a body");
    (status, denial, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn behind_a_proxy() {
    let (issuer, gate, token) = start().await;
    let layer = CheckLayer::new(&gate, "payments").expect("the policy").peer(|parts| {
        match parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            Some(ConnectInfo(address)) => Peer::from(*address),
            None => Peer::Unknown,
        }
    });
    let app = Router::new().route("/", get(certificate)).route_layer(layer);
    let (mine, other) = (Thumbprint::of(CERTIFICATE), Thumbprint::of(b"another"));
    let free = issuer.token(json!({})).expect("a key");
    for (token, from, shown, expected) in [
        (&token, "127.0.0.1:9", Some(mine), None),
        (&token, "127.0.0.1:9", Some(other), Some(Denial::CertificateMismatch)),
        (&token, "127.0.0.1:9", None, Some(Denial::CertificateMissing)),
        (&token, "192.0.2.1:9", Some(mine), Some(Denial::CertificateUntrusted)),
        (&free, "127.0.0.1:9", Some(mine), Some(Denial::ConfirmationMissing)),
    ] {
        let mut request = Request::get("/").header("authorization", format!("Bearer {token}"));
        if let Some(shown) = shown {
            request = request.header("x-client-cert-sha256", shown.to_string());
        }
        let from: SocketAddr = from.parse().expect("an address");
        let (status, denial, body) = ask(&app, request.extension(ConnectInfo(from))).await;
        assert_eq!(denial, expected, "{from} {shown:?}: {body}");
        match expected {
            None => assert_eq!((status, body), (StatusCode::OK, mine.to_string())),
            Some(_) => assert_eq!(status, StatusCode::UNAUTHORIZED),
        }
    }
}

#[tokio::test]
async fn with_tls_of_its_own() {
    let (_issuer, gate, token) = start().await;
    let layer = CheckLayer::new(&gate, "payments").expect("the policy");
    let app = Router::new().route("/", get(certificate));
    let app = app.route_layer(layer.certificate_from(CertificateFrom::Connection));
    for (held, expected) in [
        (CERTIFICATE, None),
        (b"another", Some(Denial::CertificateMismatch)),
    ] {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = request.extension(TlsClientCertificate::from_der(held));
        assert_eq!(ask(&app, request).await.1, expected);
    }
}
