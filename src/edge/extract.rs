//! [`Grant`] as an argument of axum's handlers.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::answer;
use crate::check::{ClaimsError, Grant};

/// Who is calling, as [`CheckLayer`](crate::CheckLayer) has found. `Option<Grant>` for handlers that
/// are reached without the layer too.
impl<S: Send + Sync> FromRequestParts<S> for Grant {
    type Rejection = NoLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoLayer> {
        parts.extensions.get().cloned().ok_or(NoLayer)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Grant {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get().cloned())
    }
}

/// A handler wants a [`Grant`], and no [`CheckLayer`](crate::CheckLayer) stands before it: 500, and a
/// line in the log. A mistake of the service, not of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoLayer;

impl IntoResponse for NoLayer {
    fn into_response(self) -> Response {
        tracing::error!(
            "a handler wants a Grant, and no CheckLayer stands before it: add \
             .route_layer(CheckLayer::new(..)) after its route"
        );
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

/// 403, so that a handler can say `grant.claims()?`: the token is good, and says too little for it. Which
/// claim it is stands in the log, at DEBUG; never its value.
impl IntoResponse for ClaimsError {
    fn into_response(self) -> Response {
        tracing::debug!("the claims are not of a handler's type: {self}");
        let text = "the token lacks a claim that is needed here, or it has another type";
        answer::plain(StatusCode::FORBIDDEN, "access_denied", text).map(axum_core::body::Body::new)
    }
}
