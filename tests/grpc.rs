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
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::protobuf::value::Kind;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{THUMBPRINT, claims, ec_key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};
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
            [policy.staff]
            forward_jwt = "X-Staff-Jwt"
            [policy.staff.headers]
            "X-Staff" = "sub"
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

/// One request over h2c, and what came back: the HTTP status, `grpc-status`, the body.
async fn raw(world: &World, path: &str, kind: &str, body: &[u8]) -> (u16, String, Bytes) {
    let mut sender = connect(world).await;
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
    (parts.status.as_u16(), status, body.to_bytes())
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_never_an_error_that_may_pass() {
    const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";
    let world = World::new().await;
    world.ready().await;
    let large = [&[0, 0, 9, 39, 192][..], &[0; 600_000]].concat();
    for body in [
        &[0, 0, 0, 0, 0][..], // a question without a credential
        &[],
        &[0, 0, 0, 0],
        &[0, 0, 0, 0, 1],
        &[0, 0, 0, 0, 1, 0xff],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0],
        &large,
    ] {
        let (status, grpc, answer) = raw(&world, CHECK, "application/grpc", body).await;
        assert_eq!((status, &*grpc), (200, "0"), "{} bytes", body.len());
        let answer = envoy::answer(&answer[5..]);
        let expected = if body == [0; 5] { 401 } else { 503 };
        assert_eq!(answer.status(), expected, "{} bytes", body.len());
    }
    for (path, kind, body, expected) in [
        (HEALTH, "application/grpc", &[0, 0, 0, 0, 0][..], (200, "0")),
        (HEALTH, "application/grpc", &[], (200, "3")),
        (HEALTH, "application/grpc", &[0, 0, 0, 0, 1, 0xff], (200, "3")),
        ("/envoy.service.auth.v3.Authorization/Other", "application/grpc", &[], (200, "12")),
        ("/grpc.health.v1.Health/Watch", "application/grpc", &[], (200, "12")),
        // Elsewhere 200 would let a request pass: there it is judged, or not found, whatever its type.
        ("/auth", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        ("/auth/default", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        ("/ext_authz/default/x", "application/grpc", &[0, 0, 0, 0, 0], (401, "")),
        ("/authx", "application/grpc", &[0, 0, 0, 0, 0], (404, "")),
        (CHECK, "application/json", &[], (404, "")),
    ] {
        let (status, grpc, _) = raw(&world, path, kind, body).await;
        assert_eq!((status, &*grpc), expected, "{path} {kind} {} bytes", body.len());
    }
}

#[tokio::test]
async fn what_a_service_may_take_for_an_identity_header_is_removed() {
    let world = World::new().await;
    world.ready().await;
    let token = world.token(json!({ "email": null }));
    let forged = [
        "x-auth_request-user",
        "x.auth.request.user",
        "x~auth!request*roles",
        "x_auth_request_groups",
        "x-auth-request-groups",
        "x-auth-request-access-token",
        "x-staff", // of another policy
        "x_staff",
        "X.Staff",
        "x-staff-jwt",
    ];
    let innocent = ["x-auth-request", "x-request-id", "x-auth-requests-user", "x-authrequest-user"];
    let mut headers: Vec<_> = forged.iter().chain(&innocent).map(|name| (*name, "eve")).collect();
    headers.push(("authorization", &token));
    headers.push(("x-auth-request-user", "eve"));
    let answer = check(&world.tcp().await, "default", &headers).await;
    let Some(HttpResponse::OkResponse(ok)) = answer.http_response else { panic!("{answer:?}") };
    let removed = ok.headers_to_remove;
    for name in forged.iter().chain(&["x-auth-request-email"]) {
        assert!(removed.iter().any(|it| it == name), "{name} {removed:?}");
    }
    for name in innocent.iter().chain(&["x-auth-request-user", "authorization"]) {
        assert!(!removed.iter().any(|it| it == name), "{name} {removed:?}");
    }
    let user =
        ok.headers.iter().filter_map(|it| it.header.as_ref()).find(|it| it.key.ends_with("user"));
    assert_ne!(user.unwrap().value, "eve", "that one is overwritten");
}

async fn connect<B>(world: &World) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn ask<B>(body: B) -> Request<B> {
    Request::post("http://vidimus/envoy.service.auth.v3.Authorization/Check")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn framed(world: &World) -> Bytes {
    let token = world.token(json!({}));
    let message = envoy::question("default", &[("authorization", &token)]);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

fn question(world: &World) -> Request<Full<Bytes>> {
    ask(Full::new(framed(world)))
}

type Pieces = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// A question that comes in these pieces, a moment apart; with more to come for ever, if it `hangs`.
fn in_pieces(pieces: Vec<Bytes>, hangs: bool) -> Request<Pieces> {
    let pieces = tokio_stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
    let pieces = pieces.throttle(Duration::from_millis(20));
    ask(StreamBody::new(match hangs {
        true => Box::pin(pieces.chain(tokio_stream::pending())),
        false => Box::pin(pieces),
    }))
}

async fn told(answer: Response<Incoming>) -> u16 {
    let answer = answer.into_body().collect().await.unwrap().to_bytes();
    envoy::answer(&answer[5..]).status().as_u16()
}

#[tokio::test]
async fn questions_may_come_in_pieces_and_take_bounded_room_while_they_do() {
    let world = World::new().await;
    world.ready().await;
    let whole = framed(&world);
    for cut in [1, 4, 5, 6, 300, whole.len() - 1] {
        let pieces = vec![whole.slice(..cut), whole.slice(cut..)];
        let mut sender = connect(&world).await;
        let answer = sender.send_request(in_pieces(pieces, false)).await.unwrap();
        assert_eq!(told(answer).await, 200, "cut at {cut}");
    }
    // Each says that it will be of the largest size, and 64 MiB are all that they get together.
    let hung = Bytes::from_static(&[0, 0, 7, 0xff, 0xf0, 0x0a]);
    let (mut first, mut second) = (connect(&world).await, connect(&world).await);
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(tokio::spawn(first.send_request(in_pieces(vec![hung.clone()], true))));
    }
    sleep(Duration::from_millis(500)).await;
    let mut answers = JoinSet::new();
    for _ in 0..10 {
        answers.spawn(second.send_request(in_pieces(vec![hung.clone()], true)));
    }
    let refused = timeout(Duration::from_secs(2), answers.join_next()).await;
    let refused = refused.expect("at once, not after 5 s").unwrap().unwrap().unwrap();
    assert_eq!(told(refused).await, 503);
    let mut third = connect(&world).await;
    assert_eq!(told(third.send_request(question(&world)).await.unwrap()).await, 200);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn clients_that_give_up_in_bursts_do_not_end_the_connection_for_others() {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let world = World::new().await;
    world.ready().await;
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let path = b"/envoy.service.auth.v3.Authorization/Check";
    // :method POST, :scheme http, :path, content-type, by their places in HPACK's static table.
    let block =
        [&[0x83, 0x86, 0x04, 42][..], path, &[0x0f, 0x10, 16], b"application/grpc"].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    for stream in (1..2000).step_by(2) {
        bytes.extend(frame(HEADERS, 4, stream, &block));
        bytes.extend(frame(RESET, 0, stream, &CANCEL));
    }
    bytes.extend(frame(PING, 0, 0, b"are you?"));
    stream.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("the connection lives");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        assert_ne!(head[3], GOAWAY);
        if head[3] == PING && payload == b"are you?" {
            break;
        }
    }
}
