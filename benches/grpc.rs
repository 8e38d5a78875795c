//! Envoy's question over gRPC, cached, against a server that decides nothing: tonic with the types that
//! are generated from Envoy's API. `cargo bench --bench grpc`; ends with 1 if a bound is passed in each of
//! five attempts.
//!
//! Both serve in this process, on a runtime of one thread each, over a unix socket; one client asks them
//! in turn, round by round, with the same bytes, 64 questions under way. The medians of the ratios count.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot start should say so and stop"
)]

#[path = "../tests/support/envoy.rs"]
mod envoy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc::Status;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use vidimus::config::Config;
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::server::Server;
use vidimus::testing::Issuer;
use vidimus::testing::samples;

const THROUGHPUT: f64 = 1.1;
const P99: f64 = 1.2;
const ROUNDS: usize = 21;
const QUESTIONS: usize = 3000;
const AT_ONCE: usize = 64;

/// Decides nothing.
struct Null;

#[tonic::async_trait]
impl Authorization for Null {
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status::default()),
            ..CheckResponse::default()
        }))
    }
}

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let null = folder.path().join("null.sock");
    serve_null(&null);
    let (own, token) = serve_vidimus(folder.path());
    let headers = [
        (":authority", "shop.example.com"),
        (":method", "GET"),
        (":path", "/orders/7"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("authorization", &*token),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "5c0ffee5-7a11-4bad-9d00-0123456789ab"),
    ];
    let message = envoy::check_request("default", &headers).encode_to_vec();
    let length = u32::try_from(message.len()).expect("a small message");
    let question = Bytes::from([&[0][..], &length.to_be_bytes(), &message].concat());
    println!("a question of {} bytes", question.len());

    let runtime = one_thread();
    let (own, null) = (runtime.block_on(connect(&own)), runtime.block_on(connect(&null)));
    let answer = runtime.block_on(ask_once(own.clone(), question.clone()));
    assert_eq!(envoy::answer(&answer[5..]).status(), 200, "the token passes");
    let mut best = (0.0, f64::MAX);
    for _ in 0..5 {
        let mut ratios = Vec::new();
        let mut rates = (0.0, 0.0);
        for _ in 0..ROUNDS {
            let (ours, nothing) =
                (runtime.block_on(ask(&own, &question)), runtime.block_on(ask(&null, &question)));
            rates = (ours.rate, nothing.rate);
            ratios.push((ours.rate / nothing.rate, ours.p99 / nothing.p99));
        }
        let throughput = median(ratios.iter().map(|ratio| ratio.0));
        let p99 = median(ratios.iter().map(|ratio| ratio.1));
        println!(
            "throughput {throughput:.2} times a null tonic server's (last round {:.0}/s against {:.0}/s), p99 \
             {p99:.2} times",
            rates.0, rates.1
        );
        best = (f64::max(best.0, throughput), f64::min(best.1, p99));
        if best.0 >= THROUGHPUT && best.1 <= P99 {
            println!("bounds: at least {THROUGHPUT}, at most {P99}: ok");
            return ExitCode::SUCCESS;
        }
    }
    println!("bounds: at least {THROUGHPUT}, at most {P99}: NO");
    ExitCode::FAILURE
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// So that a profiler can tell them apart.
fn named(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.into()).spawn(work).expect("a thread");
}

fn serve_null(path: &Path) {
    let path = path.to_owned();
    let (up, wait) = channel();
    named("null", move || {
        one_thread().block_on(async {
            let socket = UnixListener::bind(path).expect("a socket");
            up.send(()).expect("somebody waits");
            let server = tonic::transport::Server::builder();
            let server = { server }.add_service(AuthorizationServer::new(Null));
            server.serve_with_incoming(UnixListenerStream::new(socket)).await.expect("it serves");
        });
    });
    wait.recv().expect("it is up");
}

/// Its socket, and a token that it lets pass.
fn serve_vidimus(folder: &Path) -> (PathBuf, String) {
    let path = folder.join("vidimus.sock");
    let socket = path.clone();
    let (up, wait) = channel();
    named("vidimus", move || {
        one_thread().block_on(async {
            let keys = Issuer::fresh_keys().expect("randomness");
            let issuer = Issuer::start(([127, 0, 0, 1], 0).into(), "shop", keys.clone()).await;
            let issuer = issuer.expect("an issuer");
            let text = format!(
                "[server]\nlisten = [\"unix:{}\"]\nadmin = \"127.0.0.1:0\"\n[[realm]]\nissuer = \"{}\"\n\
                 audience = [\"orders-api\"]\n",
                socket.display(),
                issuer.issuer()
            );
            let config = Config::parse(&text, "bench").expect("a configuration");
            let server = Server::start(config).await.expect("it serves");
            while !server.gate().live().was_ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let claims = samples::claims(issuer.issuer(), SystemClock.now().as_secs());
            let token = keys[0].sign(&claims).expect("randomness");
            up.send(format!("Bearer {token}")).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    (path, wait.recv().expect("it is up"))
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(path: &Path) -> Sender {
    let stream = UnixStream::connect(path).await.expect("a connection");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

struct Round {
    rate: f64,
    p99: f64,
}

async fn ask_once(mut sender: Sender, question: Bytes) -> Bytes {
    let request = Request::post("http://vidimus/envoy.service.auth.v3.Authorization/Check")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question))
        .expect("a request");
    sender.ready().await.expect("a connection");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("its body");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    body.to_bytes()
}

/// So many questions, each as soon as another has been answered.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn ask(sender: &Sender, question: &Bytes) -> Round {
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (sender, question) = (sender.clone(), question.clone());
        lanes.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..QUESTIONS / AT_ONCE {
                let asked = Instant::now();
                ask_once(sender.clone(), question.clone()).await;
                times.push(asked.elapsed().as_secs_f64());
            }
            times
        });
    }
    let mut times = lanes.join_all().await.concat();
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Round { rate, p99: times[times.len() * 99 / 100] }
}
