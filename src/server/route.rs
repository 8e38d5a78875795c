//! From a request to its edge and back.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::Guard;
use http::{Request, Response, Version};
use http_body_util::Either;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::{App, grpc};
use crate::check::Decision;
use crate::edge::forwarded::Peer;
use crate::edge::http::{Case, HttpEdge, not_found};

/// Which edge an address belongs to. Most requests are answered before this returns: only who has to wait
/// is kept, and his headers with him, which else leave their memory to the next one.
pub(super) fn route(app: &Arc<App>, request: Request<Incoming>, peer: Peer) -> Answering {
    // HTTP comes first: an error of gRPC has the status 200, which lets a request pass there.
    let Some((edge, policy)) = HttpEdge::of(request.uri().path()) else {
        return match grpc::asked(&request) {
            Some(asked) => {
                Answering::Later(Box::pin(grpc::answer(Arc::clone(app), asked, request, peer)))
            }
            None => Answering::Now(ready(not_found().map(Either::Left))),
        };
    };
    let began = Instant::now();
    let settings = app.settings.load();
    let case = Case { edge, gate: &app.gate, settings: &settings, request: &request, peer, policy };
    // Over HTTP/2 many clients share a connection, which reads all that have come before it answers any
    // (`streams.rs`). And a body that goes before its answer is there may take the connection with it.
    let undecided = if request.version() == Version::HTTP_2 || !request.body().is_end_stream() {
        None
    } else {
        match case.look() {
            Ok(decision) => return Answering::Now(ready(answered(app, &case, &decision, began))),
            Err(undecided) => Some(undecided),
        }
    };
    let (app, policy) = (Arc::clone(app), Box::<str>::from(policy));
    let settings = Guard::into_inner(settings);
    Answering::Later(Box::pin(async move {
        let (gate, settings, request) = (&app.gate, &*settings, &request);
        let case = Case { edge, gate, settings, request, peer, policy: &policy };
        let decision = match undecided {
            Some(undecided) => case.decide(undecided).await,
            None => edge.decide(gate, settings, request, peer, &policy).await,
        };
        answered(&app, &case, &decision, began)
    }))
}

/// An answer, or who works on it.
#[expect(clippy::large_enum_variant, reason = "nearly all are of the larger one")]
pub(super) enum Answering {
    Now(Ready<Answer>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Self::Now(answer) => Pin::new(answer).poll(context),
            Self::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

pub(super) type Answer = Response<grpc::Body>;

fn answered<B>(app: &App, case: &Case<'_, B>, decision: &Decision, began: Instant) -> Answer {
    app.metrics.decided(case.edge.name(), decision, began.elapsed());
    if let Decision::Deny(refusal) = decision {
        app.remarks.on(refusal, &case.certificate(), case.peer, || app.gate.live().now());
    }
    case.edge.answer(decision).map(Either::Left)
}
