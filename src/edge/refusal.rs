//! How [`CheckLayer`](super::layer::CheckLayer) refuses: a piece that can be replaced.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response};

use super::answer;
use crate::check::Refusal;

/// Makes the response to a request that is refused. Implemented by functions of that form, too.
///
/// The status should stay that of [`Denial::answer`](crate::Denial::answer): 503 says that it is not the
/// client's fault, and 2xx would say that the request has passed.
pub trait Refuse<B> {
    /// The response. `refusal` knows which rule, policy and realm.
    fn refuse(&self, refusal: &Refusal) -> Response<B>;
}

impl<B, F: Fn(&Refusal) -> Response<B>> Refuse<B> for F {
    fn refuse(&self, refusal: &Refusal) -> Response<B> {
        self(refusal)
    }
}

/// As the sidecar refuses: 400, 401, 403 or 503; `WWW-Authenticate` (RFC 6750 §3), `Retry-After`, and
/// the same as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standard;

impl<B: From<Bytes>> Refuse<B> for Standard {
    fn refuse(&self, refusal: &Refusal) -> Response<B> {
        let refused = answer::refused(refusal);
        let mut response = Response::new(Bytes::from(refused.body).into());
        *response.status_mut() = refused.status;
        set(response.headers_mut(), refused.headers.iter().map(|(name, text)| (name, &**text)));
        response
    }
}

/// As gRPC refuses: HTTP status 200 and no body; `grpc-status` of the denial (`UNAUTHENTICATED`,
/// `PERMISSION_DENIED`, `UNAVAILABLE`, `INVALID_ARGUMENT`), `grpc-message` with the rule's description, and the
/// challenge as metadata under `www-authenticate`. For tonic's servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl<B: Default> Refuse<B> for Grpc {
    fn refuse(&self, refusal: &Refusal) -> Response<B> {
        const STATUS: HeaderName = HeaderName::from_static("grpc-status");
        const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
        let answer = refusal.denial.answer();
        let mut response = Response::new(B::default());
        let (code, challenge) = (answer.grpc_code().to_string(), refusal.challenge());
        let challenge = challenge.map(|challenge| challenge.to_string());
        let own = [
            (&CONTENT_TYPE, "application/grpc"),
            (&STATUS, &*code),
            (&MESSAGE, answer.description), // printable ASCII, without a percent sign
        ];
        let challenge = challenge.as_deref().map(|text| (&WWW_AUTHENTICATE, text));
        set(response.headers_mut(), own.into_iter().chain(challenge));
        response
    }
}

/// Every text in it is our own, and fit for a header.
fn set<'a>(headers: &mut HeaderMap, list: impl Iterator<Item = (&'a HeaderName, &'a str)>) {
    for (name, text) in list {
        headers.extend(HeaderValue::try_from(text).ok().map(|value| (name.clone(), value)));
    }
}
