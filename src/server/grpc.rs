//! gRPC over HTTP/2, as far as two methods with one message each way need it (grpc.io, "gRPC over
//! HTTP2"): `envoy.service.auth.v3.Authorization/Check` and `grpc.health.v1.Health/Check`.
//!
//! A refusal is an answer; an error of gRPC is only what could not be understood at all.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::{Instant, timeout};

use super::App;
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

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
}

/// Whether a request is for gRPC, whatever method it names.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    if request.version() != Version::HTTP_2 || request.method() != Method::POST {
        return false;
    }
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

#[derive(Clone, Copy)]
enum Asked {
    Check,
    Health,
    Unknown,
}

/// Answers it.
pub(super) fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
    peer: Peer,
) -> impl Future<Output = Response<Body>> {
    let asked = match request.uri().path() {
        CHECK => Asked::Check,
        HEALTH => Asked::Health,
        _ => Asked::Unknown,
    };
    // Its headers say no more: what waits, and is moved about until then, should be small.
    let body = request.into_body();
    async move {
        let told = match asked {
            Asked::Check => check(&app, body, peer).await,
            Asked::Health => check_health(&app, body).await,
            Asked::Unknown => {
                Err((Code::Unimplemented, "ask for Authorization/Check or Health/Check"))
            }
        };
        respond(told)
    }
}

fn respond(told: Told) -> Response<Body> {
    let mut answer = match told {
        Ok(message) => {
            let mut trailers = HeaderMap::new();
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            let framed = Full::new(frame(message)).with_trailers(ready(Some(Ok(trailers))));
            Response::new(Either::Right(framed))
        }
        // Without a message the status stands in the header.
        Err((code, why)) => {
            let mut answer = Response::new(Either::Left(Full::default()));
            answer.headers_mut().insert(STATUS, (code as u16).into());
            answer.headers_mut().insert(MESSAGE_TEXT, HeaderValue::from_static(why));
            answer
        }
    };
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE_TEXT: HeaderName = HeaderName::from_static("grpc-message");

/// A message behind room for its length.
type Told = Result<Vec<u8>, (Code, &'static str)>;

async fn check(app: &App, body: Incoming, peer: Peer) -> Told {
    let began = Instant::now();
    let message = message(body).await?;
    let question = Question::read(&message)
        .map_err(|_| (Code::InvalidArgument, "the message is no CheckRequest"))?;
    let settings = app.settings.load_full();
    let decision = ext_authz_grpc::decide(&app.gate, &settings, &question, peer, |decision, it| {
        app.remarks.on(decision, it, peer, || app.gate.live().now());
    });
    let decision = decision.await;
    app.metrics.decided(Edge::ExtAuthzGrpc.name(), &decision, began.elapsed());
    Ok(ext_authz_grpc::answer(&decision, &[0; PREFIX]))
}

/// Serving from the moment when every realm has had keys until the end begins, as `/readyz` says.
async fn check_health(app: &App, body: Incoming) -> Told {
    let message = message(body).await?;
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
async fn message(body: Incoming) -> Result<Bytes, (Code, &'static str)> {
    let mut body = Limited::new(body, MESSAGE).collect();
    // Mostly it is here already, and nothing need be kept for a timer.
    let whole = match poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll(context))).await {
        Poll::Ready(whole) => Ok(whole),
        Poll::Pending => Box::pin(timeout(PATIENCE, body)).await,
    };
    let body = match whole {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err((Code::ResourceExhausted, "the message is too large")),
        Err(_) => return Err((Code::DeadlineExceeded, "the message did not come")),
    };
    match *body {
        [0, a, b, c, d, ref message @ ..]
            if u32::from_be_bytes([a, b, c, d]) as usize == message.len() =>
        {
            Ok(body.slice(PREFIX..))
        }
        [1, ..] => Err((Code::Unimplemented, "compressed messages are not read")),
        _ => Err((Code::InvalidArgument, "there must be one message")),
    }
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
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let request = Request::post("/").version(Version::HTTP_2).header(CONTENT_TYPE, kind);
            assert_eq!(is_grpc(&request.body(()).unwrap()), expected, "{kind}");
            let request = Request::post("/").header(CONTENT_TYPE, kind).body(()).unwrap();
            assert!(!is_grpc(&request), "HTTP/1.1");
        }
    }
}
