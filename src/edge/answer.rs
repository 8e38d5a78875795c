//! From a decision to an HTTP answer.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::check::{Grant, Refusal};

/// What every edge over HTTP answers with.
pub type HttpAnswer = Response<Full<Bytes>>;

/// After so many seconds it is worth asking again when nothing could be decided.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// 200 and every identity header of the policy, empty where the claim is missing: the edge then
/// overwrites what the client sent under that name.
pub fn allow(grant: &Grant) -> HttpAnswer {
    let mut answer = Response::new(Full::default());
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in grant.identity() {
        // The configuration admits only header names; the value is plain ASCII by construction.
        // Should either not hold, nothing passes.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::try_from(value))
        else {
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "an identity header",
            );
        };
        headers.insert(name, value);
    }
    answer
}

/// The refusal's own status, `WWW-Authenticate` (RFC 6750 §3) and the same as JSON.
pub fn deny(refusal: &Refusal) -> HttpAnswer {
    let row = refusal.denial.answer();
    let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut answer = plain(status, row.error.unwrap_or(""), row.description);
    let headers = answer.headers_mut();
    let challenge =
        refusal.challenge().map(|challenge| HeaderValue::try_from(challenge.to_string()));
    if let Some(Ok(challenge)) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_SECONDS);
    }
    answer
}

/// A refusal that is none of a token's: no such address, for instance. Both texts are our own.
pub fn plain(status: StatusCode, error: &str, description: &str) -> HttpAnswer {
    let error = if error.is_empty() { String::new() } else { format!("\"error\":\"{error}\",") };
    let body = format!("{{{error}\"error_description\":\"{description}\"}}\n");
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
