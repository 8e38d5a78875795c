//! The service and its future.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{Choice, LayerRules};
use crate::check::{Decision, Denial, Facts, Grant, Refusal};
use crate::edge::client::Presented;
use crate::edge::refusal::Refuse;
use crate::edge::{answer, credential};
use crate::gate::Undecided;

/// What [`CheckLayer`](super::CheckLayer) makes of a service.
pub struct CheckService<S, R> {
    inner: S,
    shared: Arc<Shared<R>>,
}

struct Shared<R> {
    rules: LayerRules,
    refuse: R,
}

impl<S, R> CheckService<S, R> {
    pub(super) fn new(inner: S, rules: LayerRules, refuse: R) -> Self {
        Self { inner, shared: Arc::new(Shared { rules, refuse }) }
    }
}

impl<S: Clone, R> Clone for CheckService<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for CheckService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, A, B> Service<Request<A>> for CheckService<S, R>
where
    S: Service<Request<A>, Response = Response<B>> + Clone,
    R: Refuse<B> + Send + Sync + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = CheckFuture<S, R, A, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let shared = &self.shared;
        let policy = shared.rules.policy(&parts);
        let began = shared.rules.observe.is_some().then(Instant::now);
        // Mostly nothing has to be waited for: then there is nothing to box either.
        let state = match shared.rules.ask(&parts, &policy, |facts| shared.rules.gate.look(facts)) {
            Ok(decision) => match shared.rules.settle(decision, &mut parts, began) {
                Ok(()) => {
                    let future = self.inner.call(Request::from_parts(parts, body));
                    State::Calling { future }
                }
                Err(refusal) => {
                    give_back(&mut self.inner);
                    State::Refused { response: Some(shared.refuse(&refusal)) }
                }
            },
            Err(undecided) => {
                let policy = Cow::into_owned(policy);
                let wait = wait(Arc::clone(shared), parts, policy, undecided);
                // Who waits must not take a place from those who need not.
                give_back(&mut self.inner);
                let (inner, shared) = (self.inner.clone(), Arc::clone(shared));
                State::Waiting { wait: Box::pin(wait), rest: Some((inner, body)), shared, began }
            }
        };
        CheckFuture { state }
    }
}

/// Puts a service that has not been polled in the place of one that is ready, which may hold a permit that
/// others wait for.
fn give_back<S: Clone>(ready: &mut S) {
    *ready = ready.clone();
}

/// Waits for what the decision lacks.
async fn wait<R>(
    shared: Arc<Shared<R>>,
    parts: Parts,
    policy: String,
    undecided: Undecided,
) -> (Parts, Decision) {
    let rules = &shared.rules;
    let presented = rules.presented(&parts);
    let credential = credential::find(&parts.headers, &rules.settings.sources);
    let facts = Facts { policy: &policy, credential, certificate: &presented };
    let decision = rules.gate.decide(&facts, undecided).await;
    drop(presented);
    (parts, decision)
}

impl<R> Shared<R> {
    fn refuse<B>(&self, refusal: &Refusal) -> Response<B>
    where
        R: Refuse<B>,
    {
        let mut response = self.refuse.refuse(refusal);
        response.extensions_mut().insert(refusal.denial);
        response
    }
}

impl LayerRules {
    fn policy(&self, parts: &Parts) -> Cow<'_, str> {
        match &self.policy {
            Choice::Named(name) => Cow::Borrowed(&**name),
            Choice::ByRequest(choose) => choose(parts),
        }
    }

    fn presented<'a>(&'a self, parts: &'a Parts) -> Presented<'a> {
        Presented::new(parts, (self.peer)(parts), &self.settings, self.certificate)
    }

    fn ask<T>(&self, parts: &Parts, policy: &str, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
        let presented = self.presented(parts);
        let credential = credential::find(&parts.headers, &self.settings.sources);
        ask(&Facts { policy, credential, certificate: &presented })
    }

    /// Makes a request that passes ready for the service.
    fn settle(
        &self,
        decision: Decision,
        parts: &mut Parts,
        began: Option<Instant>,
    ) -> Result<(), Refusal> {
        let decision = match decision {
            Decision::Allow(grant) if self.identity => identified(grant, parts),
            decision => decision,
        };
        let policy = match &decision {
            Decision::Allow(grant) => grant.policy().name(),
            Decision::Deny(refusal) => refusal.policy.as_ref().map_or("", |policy| policy.name()),
        };
        tracing::debug!(edge = "tower", policy, reason = decision.label(), "decision");
        if let (Some(observe), Some(began)) = (&self.observe, began) {
            observe(&decision, began.elapsed());
        }
        match decision {
            Decision::Allow(grant) => {
                parts.extensions.insert(grant); // in place of any that stood there
                Ok(())
            }
            Decision::Deny(refusal) => {
                self.remarks.on(&refusal, self.gate.live(), || self.presented(parts));
                Err(refusal)
            }
        }
    }
}

/// With the identity headers in the request. Without room for them it is refused: one that passed would
/// not say whose it is.
fn identified(grant: Grant, parts: &mut Parts) -> Decision {
    match answer::identify(&mut parts.headers, &grant) {
        Ok(()) => Decision::Allow(grant),
        Err(_) => Decision::Deny(Refusal {
            denial: Denial::QuestionUnreadable,
            policy: Some(Arc::clone(grant.policy())),
            realm: Some(Arc::clone(grant.realm())),
        }),
    }
}

pin_project! {
    /// The response of [`CheckService`].
    pub struct CheckFuture<S, R, A, B>
    where
        S: Service<Request<A>>,
    {
        #[pin]
        state: State<S, R, A, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, A, B, F> {
        Waiting {
            wait: Pin<Box<dyn Future<Output = (Parts, Decision)> + Send>>,
            rest: Option<(S, A)>,
            shared: Arc<Shared<R>>,
            began: Option<Instant>,
        },
        Allowed { rest: Option<Box<(S, Request<A>)>> },
        Calling { #[pin] future: F },
        Refused { response: Option<Response<B>> },
    }
}

impl<S, R, A, B> Future for CheckFuture<S, R, A, B>
where
    S: Service<Request<A>, Response = Response<B>>,
    R: Refuse<B>,
{
    type Output = Result<Response<B>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Calling { future } => return future.poll(cx),
                StateProjection::Refused { response } => match response.take() {
                    Some(response) => return Poll::Ready(Ok(response)),
                    None => return Poll::Pending, // polled after its end
                },
                StateProjection::Waiting { wait, rest, shared, began } => {
                    let (mut parts, decision) = ready!(wait.as_mut().poll(cx));
                    let Some((inner, body)) = rest.take() else { return Poll::Pending };
                    match shared.rules.settle(decision, &mut parts, *began) {
                        Ok(()) => {
                            let rest = (inner, Request::from_parts(parts, body));
                            State::Allowed { rest: Some(Box::new(rest)) }
                        }
                        Err(refusal) => State::Refused { response: Some(shared.refuse(&refusal)) },
                    }
                }
                StateProjection::Allowed { rest } => {
                    let Some(waiting) = rest else { return Poll::Pending };
                    ready!(waiting.0.poll_ready(cx))?;
                    let Some((mut inner, request)) = rest.take().map(|it| *it) else {
                        return Poll::Pending;
                    };
                    State::Calling { future: inner.call(request) }
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Request<A>>, R, A, B> fmt::Debug for CheckFuture<S, R, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckFuture").finish_non_exhaustive()
    }
}
