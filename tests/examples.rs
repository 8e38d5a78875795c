//! Every example is started and called.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http::Response;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use vidimus::testing::Issuer;

struct Example {
    _process: Child,
    address: String,
    issuer: Issuer,
}

impl Example {
    async fn start(name: &str) -> Self {
        let issuer = Issuer::local().await.unwrap();
        let mut process = Command::new(program(name))
            .args([issuer.issuer(), "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(20), lines.next_line()).await;
        let line = line.expect("it does not listen").unwrap().expect("it has ended");
        let address = line.strip_prefix("listening at http://").expect("an address").to_owned();
        Self { _process: process, address, issuer } // every example waits for keys before it listens
    }

    fn token(&self, change: Value) -> String {
        self.issuer.token(change).unwrap()
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> (Response<()>, String) {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "x");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let (parts, body) = client.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }
}

/// `cargo test` builds examples beside its tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join(name);
    assert!(
        program.is_file(),
        "{} is not there: cargo build --examples --all-features",
        program.display()
    );
    program
}

#[tokio::test]
async fn axum_gives_handlers_their_grant_and_routes_their_policies() {
    let example = Example::start("axum").await;
    let (reader, admin) = (
        example.token(json!({})),
        example.token(json!({ "scope": "openid", "realm_access": { "roles": ["admin"] } })),
    );
    for (method, path, token, status, body) in [
        ("GET", "/readyz", None, 200, "ready\n"),
        ("GET", "/orders", Some(&reader), 200, "orders of alice\n"),
        ("DELETE", "/orders/7", Some(&admin), 200, "removed by orders-web\n"),
    ] {
        let (answer, text) = example.ask(method, path, token.map(|token| &**token)).await;
        assert_eq!((answer.status().as_u16(), &*text), (status, body), "{method} {path}");
    }
    for (method, path, token, status) in [
        ("GET", "/orders", None, 401),
        ("GET", "/orders", Some(&admin), 403),
        ("DELETE", "/orders/7", Some(&reader), 403),
    ] {
        let (answer, text) = example.ask(method, path, token.map(|token| &**token)).await;
        assert_eq!(answer.status(), status, "{method} {path}: {text}");
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    // What is no route falls under no policy, whoever asks; a wrong method on a route does.
    for (method, path, token, status) in [
        ("GET", "/nothing", None, 404),
        ("GET", "/nothing", Some(&reader), 404),
        ("GET", "/orders/7/lines", None, 404),
        ("POST", "/orders", None, 401),
        ("POST", "/orders", Some(&reader), 405),
    ] {
        let (answer, _) = example.ask(method, path, token.map(|token| &**token)).await;
        assert_eq!(answer.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn tonic_refuses_by_grpc_status() {
    let example = Example::start("tonic").await;
    let channel = format!("http://{}", example.address);
    let channel = tonic::transport::Endpoint::new(channel).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let reader = example.token(json!({}));
    for (token, expected) in [
        (Some(&*reader), None),
        (Some("not.a.token"), Some(Code::Unauthenticated)),
        (Some(&*example.token(json!({ "scope": "openid" }))), Some(Code::PermissionDenied)),
        (None, Some(Code::Unauthenticated)),
    ] {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let answer = client.check(request).await;
        assert_eq!(answer.as_ref().err().map(tonic::Status::code), expected, "{answer:?}");
        match answer {
            Ok(answer) => assert_eq!(answer.into_inner().status, 1, "it knows the subject"),
            Err(status) => assert!(!status.message().is_empty()),
        }
    }
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {reader}").parse().unwrap());
    let status = client.watch(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "another method, another policy");
}

#[tokio::test]
async fn a_refusal_of_ones_own_keeps_what_clients_need() {
    let example = Example::start("custom_refusal").await;
    let (answer, body) = example.ask("GET", "/orders", None).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.headers().contains_key("www-authenticate"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["type"], "https://orders.example.com/problems/no_credential");
    let (answer, body) = example.ask("GET", "/orders", Some(&example.token(json!({})))).await;
    assert_eq!((answer.status().as_u16(), &*body), (200, "orders\n"));
}

#[tokio::test]
async fn hyper_needs_no_framework() {
    let example = Example::start("hyper").await;
    let (answer, body) =
        example.ask("GET", "/", Some(&example.token(json!({ "sub": "me" })))).await;
    assert_eq!((answer.status().as_u16(), &*body), (200, "orders of me\n"));
    let (answer, _) = example.ask("GET", "/", Some("not.a.token")).await;
    assert_eq!(answer.status(), 401);
}
