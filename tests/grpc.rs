//! Envoy's gRPC over real sockets: the messages as generated code writes and reads them, health, and what
//! is no question.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/envoy.rs"]
mod envoy;
mod support;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::protobuf::value::Kind;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{THUMBPRINT, claims, ec_key};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vidimus::config::{Config, ListenAddr};
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::server::Server;
use vidimus::testing::Issuer;
use vidimus::testing::key::SigningKey;

struct World {
    server: Server,
    issuer: Issuer,
    key: SigningKey,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let key = ec_key("k1");
        let issuer =
            Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
            [server]
            listen = ["127.0.0.1:0", "unix:{}"]
            admin = "127.0.0.1:0"
            [client_certificate]
            provider = "envoy"
            [[realm]]
            issuer = "{}"
            audience = ["orders-api"]
            [policy.default]
            [policy.default.metadata]
            user = "sub"
            roles = "realm_access.roles"
            access = "realm_access"
            issued = "iat"
            verified = "email_verified"
            missing = "no_such_claim"
            [policy.admin]
            roles = ["realm:admin"]
            "#,
            folder.path().join("edge.sock").display(),
            issuer.issuer(),
        );
        let config = Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let server = Server::start(config).await.unwrap();
        Self { server, issuer, key, folder }
    }

    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.server.gate().live().was_ready() {
            assert!(Instant::now() < deadline, "not ready within 10 s");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn address(&self) -> String {
        match self.server.addresses()[0] {
            ListenAddr::Tcp(address) => address.to_string(),
            ListenAddr::Unix(_) => panic!("the first address is TCP"),
        }
    }

    async fn tcp(&self) -> Channel {
        Endpoint::new(format!("http://{}", self.address())).unwrap().connect().await.unwrap()
    }

    async fn unix(&self) -> Channel {
        let path = self.folder.path().join("edge.sock");
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::new("http://vidimus").unwrap().connect_with_connector(connect).await.unwrap()
    }

    fn token(&self, change: serde_json::Value) -> String {
        let now = SystemClock.now().as_secs();
        let mut all = json!({ "iss": self.issuer.issuer(), "iat": now, "exp": now + 300 });
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        format!("Bearer {}", self.key.sign(&claims(all)).unwrap())
    }
}

async fn check(channel: &Channel, policy: &str, headers: &[(&str, &str)]) -> CheckResponse {
    let request = envoy::check_request(policy, headers);
    AuthorizationClient::new(channel.clone()).check(request).await.unwrap().into_inner()
}

fn status(answer: &CheckResponse) -> i32 {
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(_) => 200,
        HttpResponse::DeniedResponse(denied) => denied.status.as_ref().unwrap().code,
        HttpResponse::ErrorResponse(_) => {
            panic!("an error lets requests pass, if Envoy is told so")
        }
    }
}

#[tokio::test]
async fn envoy_asks_over_tcp_and_unix() {
    let world = World::new().await;
    world.ready().await;
    let (good, admin) =
        (world.token(json!({})), world.token(json!({ "realm_access": { "roles": ["admin"] } })));
    for channel in [world.tcp().await, world.unix().await] {
        for (policy, token, expected) in [
            ("default", Some(&good), 200),
            ("default", None, 401),
            ("admin", Some(&good), 403),
            ("admin", Some(&admin), 200),
            ("no-such-policy", Some(&good), 403),
        ] {
            let headers: Vec<_> = token.map(|it| ("authorization", &**it)).into_iter().collect();
            let answer = check(&channel, policy, &headers).await;
            assert_eq!(status(&answer), expected, "{policy}");
        }
    }
    // Without the context extension it is the policy `default`.
    let mut request = envoy::check_request("admin", &[("authorization", &good)]);
    request.attributes.as_mut().unwrap().context_extensions.clear();
    let mut client = AuthorizationClient::new(world.tcp().await);
    assert_eq!(status(client.check(request).await.unwrap().get_ref()), 200);
}

#[tokio::test]
async fn chosen_claims_become_dynamic_metadata() {
    let world = World::new().await;
    world.ready().await;
    let token = world.token(json!({ "iat": 1_800_000, "email_verified": true }));
    let channel = world.tcp().await;
    let answer = check(&channel, "default", &[("authorization", &token)]).await;
    let fields = answer.dynamic_metadata.unwrap().fields;
    let kinds: HashMap<_, _> =
        fields.into_iter().map(|(name, value)| (name, value.kind.unwrap())).collect();
    assert_eq!(kinds["user"], Kind::StringValue("f1d0ca5e-0000-4000-8000-a11ce0000001".into()));
    assert_eq!(kinds["issued"], Kind::NumberValue(1_800_000.0));
    assert_eq!(kinds["verified"], Kind::BoolValue(true));
    let Kind::ListValue(roles) = &kinds["roles"] else { panic!("{kinds:?}") };
    assert_eq!(roles.values[0].kind, Some(Kind::StringValue("offline_access".into())));
    let Kind::StructValue(access) = &kinds["access"] else { panic!("{kinds:?}") };
    assert_eq!(access.fields["roles"].kind, Some(Kind::ListValue(roles.clone())));
    assert!(!kinds.contains_key("missing"));
    let denied = check(&channel, "default", &[]).await;
    assert_eq!(denied.dynamic_metadata, None);
    let bare = world.token(json!({ "realm_access": { "roles": ["admin"] } }));
    let bare = check(&channel, "admin", &[("authorization", &bare)]).await;
    assert_eq!(bare.dynamic_metadata, None, "that policy chooses none");
}

/// RFC 8705, appendix A, as Envoy sends it with `include_peer_certificate`.
const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0AMIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx%0AODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG%0ASM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ%0A%2FAu08%2FcoZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID%0ASQAwRgIhAP0RC1E%2BvwJD%2FD1AGHGzuri%2BhlV%2FPpQEKTWUVeORWz83AiEA5x2eXZOV%0AbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L%2BSY%3D%0A-----END%20CERTIFICATE-----%0A";
const HASH: &str = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";

#[tokio::test]
async fn the_certificate_is_that_of_the_connection_or_the_headers_and_both_must_agree() {
    let world = World::new().await;
    world.ready().await;
    let token = world.token(json!({ "cnf": { "x5t#S256": THUMBPRINT } }));
    let mut client = AuthorizationClient::new(world.unix().await);
    let (own, other) = (format!("Hash={HASH}"), format!("Hash={}", "0".repeat(64)));
    for (of_connection, by_header, expected) in [
        (PEM, None, 200),
        ("", Some(&own), 200),
        (PEM, Some(&own), 200),
        ("", None, 401),
        ("", Some(&other), 401),
        (PEM, Some(&other), 400),
        ("no certificate", Some(&own), 400),
    ] {
        let mut headers = vec![("authorization", &*token)];
        headers.extend(by_header.map(|value| ("x-forwarded-client-cert", &**value)));
        let mut request = envoy::check_request("default", &headers);
        let source = request.attributes.as_mut().unwrap().source.as_mut().unwrap();
        of_connection.clone_into(&mut source.certificate);
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(status(&answer), expected, "{of_connection} {by_header:?}");
    }
}

#[tokio::test]
async fn health_is_readiness() {
    let world = World::new().await;
    let mut health = HealthClient::new(world.tcp().await);
    let mut ask = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        health.check(request).await.map(|answer| answer.into_inner().status())
    };
    world.ready().await;
    for service in ["", "envoy.service.auth.v3.Authorization"] {
        assert_eq!(ask(service).await.unwrap(), ServingStatus::Serving);
    }
    assert_eq!(ask("no.such.Service").await.unwrap_err().code(), Code::NotFound);
}

/// One request over h2c, and what came back: the HTTP status, `grpc-status`.
async fn raw(world: &World, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://vidimus{path}"))
        .version(Version::HTTP_2)
        .header("content-type", kind)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = parts.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    let status = status.map_or("", |it| it.to_str().unwrap()).to_owned();
    (parts.status.as_u16(), status)
}

#[tokio::test]
async fn what_is_no_question_is_an_error_and_never_a_pass() {
    const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
    let world = World::new().await;
    world.ready().await;
    let large = [&[0, 0, 9, 39, 192][..], &[0; 600_000]].concat();
    for (path, kind, body, expected) in [
        (CHECK, "application/grpc", &[0, 0, 0, 0, 0][..], (200, "0")), // it is denied inside
        (CHECK, "application/grpc+proto", &[0, 0, 0, 0, 0], (200, "0")),
        (CHECK, "application/grpc", &[], (200, "3")),
        (CHECK, "application/grpc", &[0, 0, 0, 0], (200, "3")),
        (CHECK, "application/grpc", &[0, 0, 0, 0, 1], (200, "3")),
        (CHECK, "application/grpc", &[0, 0, 0, 0, 1, 0xff], (200, "3")),
        (CHECK, "application/grpc", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], (200, "3")),
        (CHECK, "application/grpc", &[1, 0, 0, 0, 0], (200, "12")),
        (CHECK, "application/grpc", &large, (200, "8")),
        ("/envoy.service.auth.v3.Authorization/Other", "application/grpc", &[], (200, "12")),
        ("/grpc.health.v1.Health/Watch", "application/grpc", &[], (200, "12")),
        // At the addresses of the HTTP edges 200 would let a request pass: there it is judged, whatever its type.
        ("/auth", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        ("/auth/default", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        ("/ext_authz/default/x", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        (CHECK, "application/json", &[], (404, "")),
    ] {
        let (status, grpc) = raw(&world, path, kind, body).await;
        assert_eq!((status, &*grpc), expected, "{path} {kind} {} bytes", body.len());
    }
}
