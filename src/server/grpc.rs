//! gRPC over HTTP/2, as far as two methods with one message each way need it (grpc.io, "gRPC over
//! HTTP2"): `envoy.service.auth.v3.Authorization/Check` and `grpc.health.v1.Health/Check`.
//!
//! A refusal is an answer, also where the question could not be read.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::App;
use crate::check::{Decision, Denial, Refusal};
use crate::edge::Edge;
use crate::edge::ext_authz_grpc::{self, Question, health};
use crate::edge::forwarded::Peer;

/// What is answered over HTTP and over gRPC.
pub(super) type Body = Either<Full<Bytes>, Framed>;
type Framed = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

/// A question holds the headers of a request, as Envoy has admitted them (60 KiB unless told otherwise),
/// perhaps twice; more than this is none.
const MESSAGE: usize = 512 * 1024;

/// How long its bytes may take: they come from a proxy, in one piece.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all messages that come in several pieces may take together, in KiB.
pub(super) const ROOM: usize = 64 * 1024;

/// What is asked, by the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Check,
    Health,
    /// Another method of these services.
    Unknown,
}

/// What a request asks over gRPC, if it does: any other address is none of ours, and 404.
pub(super) fn asked<B>(request: &Request<B>) -> Option<Asked> {
    if request.version() != Version::HTTP_2 || request.method() != Method::POST {
        return None;
    }
    let kind = request.headers().get(CONTENT_TYPE)?.as_bytes();
    let rest = kind.strip_prefix(b"application/grpc")?;
    if !matches!(rest, [] | [b'+' | b';', ..]) {
        return None;
    }
    let (service, method) = request.uri().path().rsplit_once('/')?;
    match (service, method) {
        ("/envoy.service.auth.v3.Authorization", "Check") => Some(Asked::Check),
        ("/grpc.health.v1.Health", "Check") => Some(Asked::Health),
        ("/envoy.service.auth.v3.Authorization" | "/grpc.health.v1.Health", _) => {
            Some(Asked::Unknown)
        }
        _ => None,
    }
}

/// Codes of gRPC. None is ever the answer to a question of Envoy's, which may be told to let requests pass
/// when it gets an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
}

/// Answers it.
pub(super) fn answer(
    app: Arc<App>,
    asked: Asked,
    request: Request<Incoming>,
    peer: Peer,
) -> impl Future<Output = Response<Body>> {
    // Its headers say no more: what waits, and is moved about until then, should be small.
    let body = request.into_body();
    async move {
        match asked {
            Asked::Check => respond(check(&app, body, peer).await),
            Asked::Health => match check_health(&app, body).await {
                Ok(message) => respond(message),
                Err((code, why)) => fail(code, why),
            },
            Asked::Unknown => {
                fail(Code::Unimplemented, "ask for Authorization/Check or Health/Check")
            }
        }
    }
}

/// A message behind room for its length.
fn respond(message: Vec<u8>) -> Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let framed = Full::new(frame(message)).with_trailers(ready(Some(Ok(trailers))));
    let mut answer = Response::new(Either::Right(framed));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// Without a message the status stands in the header.
fn fail(code: Code, why: &'static str) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::default()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, (code as u16).into());
    headers.insert(MESSAGE_TEXT, HeaderValue::from_static(why));
    answer
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE_TEXT: HeaderName = HeaderName::from_static("grpc-message");

async fn check(app: &App, body: Incoming, peer: Peer) -> Vec<u8> {
    let began = Instant::now();
    let message = message(app, body).await;
    let question = message
        .as_ref()
        .map_err(|why| *why)
        .and_then(|message| Question::read(message).map_err(|_| "the message is no CheckRequest"));
    let (decision, answer) = match question {
        Ok(question) => {
            let settings = app.settings.load_full();
            let decision = ext_authz_grpc::decide(
                &app.gate,
                &settings,
                &question,
                peer,
                |decision, certificate| {
                    if let Decision::Deny(refusal) = decision {
                        app.remarks.on(refusal, certificate, peer, || app.gate.live().now());
                    }
                },
            );
            let decision = decision.await;
            let answer = ext_authz_grpc::answer(&decision, &question, &[0; PREFIX]);
            (decision, answer)
        }
        Err(why) => {
            app.remarks.unreadable(why, peer);
            let denial = Denial::QuestionUnreadable;
            let refusal = Refusal { denial, policy: None, realm: None };
            let answer = ext_authz_grpc::refuse(&refusal, &[0; PREFIX]);
            (Decision::Deny(refusal), answer)
        }
    };
    app.metrics.decided(Edge::ExtAuthzGrpc.name(), &decision, began.elapsed());
    answer
}

/// Serving from the moment when every realm has had keys until the end begins, as `/readyz` says.
async fn check_health(app: &App, body: Incoming) -> Result<Vec<u8>, (Code, &'static str)> {
    let message = message(app, body).await.map_err(|why| (Code::InvalidArgument, why))?;
    let service =
        health::asked(&message).map_err(|_| (Code::InvalidArgument, "no HealthCheckRequest"))?;
    match service {
        "" | "envoy.service.auth.v3.Authorization" => {
            let serving = app.gate.live().was_ready() && !*app.draining.borrow();
            Ok([&[0; PREFIX][..], &health::answer(serving)].concat())
        }
        _ => Err((Code::NotFound, "there is no such service")),
    }
}

/// The one message of a request: a byte that says whether it is compressed, four for its length, itself.
async fn message(app: &App, body: Incoming) -> Result<Bytes, &'static str> {
    let mut whole = pin!(whole(&app.room, body));
    // Mostly it is here already, and nothing need be kept for a timer.
    let body = match poll_fn(|context| Poll::Ready(whole.as_mut().poll(context))).await {
        Poll::Ready(body) => body,
        Poll::Pending => match Box::pin(timeout(PATIENCE, whole)).await {
            Ok(body) => body,
            Err(_) => return Err("the message did not come within 5 s"),
        },
    }?;
    match *body {
        [0, ..] if declared(&body) == Some(body.len()) => Ok(body.slice(PREFIX..)),
        [1, ..] => Err("compressed messages are not read"),
        _ => Err("there must be one message"),
    }
}

/// All of a body. What comes in one piece is taken as it is. For others there is room of a fixed size, all
/// together: whoever may connect could else have us hold as much as he likes.
async fn whole(room: &Semaphore, mut body: Incoming) -> Result<Bytes, &'static str> {
    const BROKEN: &str = "the message broke off";
    let (mut held, mut length, mut _room) = (BytesMut::new(), 0, None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BROKEN)?.into_data() else { continue };
        if held.is_empty() {
            if body.is_end_stream() {
                return Ok(data);
            }
            length = declared(&data).unwrap_or(MESSAGE);
            if length > MESSAGE {
                return Err("the message is larger than 512 KiB: does Envoy send bodies along \
                            (with_request_body)?");
            }
            let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
            let busy = |_| "too many messages come in pieces at once";
            _room = Some(room.try_acquire_many(kib).map_err(busy)?);
            held.reserve(length);
        }
        if held.len() + data.len() > length {
            return Err("there must be one message");
        }
        held.extend_from_slice(&data);
    }
    Ok(held.freeze())
}

/// How long a body is to be by what its first piece says.
fn declared(first: &[u8]) -> Option<usize> {
    let [_, a, b, c, d, ..] = *first else { return None };
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?.checked_add(PREFIX)
}

const PREFIX: usize = 5;

/// Writes a message's length before it, where there is room for that.
fn frame(mut message: Vec<u8>) -> Bytes {
    let length = message.len().saturating_sub(PREFIX);
    let length = u32::try_from(length).unwrap_or(u32::MAX); // it is a few headers
    if let Some(place) = message.get_mut(1..PREFIX) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type_and_service() {
        const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
        for (path, kind, expected) in [
            (CHECK, "application/grpc", Some(Asked::Check)),
            (CHECK, "application/grpc+proto", Some(Asked::Check)),
            (CHECK, "application/grpc;x=y", Some(Asked::Check)),
            (CHECK, "application/grpc-web", None),
            (CHECK, "application/json", None),
            (CHECK, "", None),
            ("/grpc.health.v1.Health/Check", "application/grpc", Some(Asked::Health)),
            ("/grpc.health.v1.Health/Watch", "application/grpc", Some(Asked::Unknown)),
            ("/nothing", "application/grpc", None),
            ("/authx", "application/grpc", None),
        ] {
            let request = Request::post(path).version(Version::HTTP_2).header(CONTENT_TYPE, kind);
            assert_eq!(asked(&request.body(()).unwrap()), expected, "{path} {kind}");
            let request = Request::post(path).header(CONTENT_TYPE, kind).body(()).unwrap();
            assert_eq!(asked(&request), None, "HTTP/1.1");
        }
    }
}
