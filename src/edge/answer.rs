//! From a decision to an HTTP answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
#[cfg(feature = "tower")]
use http::header::{HeaderMap, MaxSizeReached};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::check::{Grant, Refusal};

/// What every edge over HTTP answers with.
pub type HttpAnswer = Response<Full<Bytes>>;

/// After so many seconds it is worth asking again when nothing could be decided.
const RETRY_SECONDS: &str = "5";

/// 200 and every identity header of the policy, empty where the claim is missing: the edge then
/// overwrites what the client sent under that name.
pub fn allow(grant: &Grant) -> HttpAnswer {
    let mut answer = Response::new(Full::default());
    *answer.headers_mut() = grant.answer_headers();
    answer
}

/// Sets every identity header of the policy in a request, in place of whatever came under that name; where
/// the claim is missing none is left. What else a service may take for one of ours is removed.
///
/// # Errors
/// If the request has so many headers that there is no room: the limit is that of [`HeaderMap`].
#[cfg(feature = "tower")]
pub(super) fn identify(headers: &mut HeaderMap, grant: &Grant) -> Result<(), MaxSizeReached> {
    let forgeries = grant.policy().forgeries();
    let forged: Vec<_> =
        headers.keys().filter(|name| forgeries.includes(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    for (name, value) in grant.identity() {
        match value.is_empty() {
            true => drop(headers.remove(name)),
            false => drop(headers.try_insert(name.clone(), value)?),
        }
    }
    Ok(())
}

/// A refusal as any edge sends it, before that edge's own habits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its status.
    pub status: StatusCode,
    /// `WWW-Authenticate` (RFC 6750 §3), `Retry-After`, and those of the body.
    pub headers: Vec<(HeaderName, Cow<'static, str>)>,
    /// The same as JSON.
    pub body: String,
}

/// The refusal's own status, `WWW-Authenticate` and the same as JSON.
pub fn refused(refusal: &Refusal) -> Refused {
    let row = refusal.denial.answer();
    let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut refused = described(status, row.error.unwrap_or(""), row.description);
    if let Some(challenge) = refusal.challenge() {
        refused.headers.push((WWW_AUTHENTICATE, challenge.to_string().into()));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        refused.headers.push((RETRY_AFTER, RETRY_SECONDS.into()));
    }
    refused
}

fn described(status: StatusCode, error: &str, description: &str) -> Refused {
    let error = if error.is_empty() { String::new() } else { format!("\"error\":\"{error}\",") };
    let body = format!("{{{error}\"error_description\":\"{description}\"}}\n");
    let headers =
        vec![(CONTENT_TYPE, "application/json".into()), (CACHE_CONTROL, "no-store".into())];
    Refused { status, headers, body }
}

impl From<Refused> for HttpAnswer {
    fn from(refused: Refused) -> Self {
        let mut answer = Response::new(Full::new(Bytes::from(refused.body)));
        *answer.status_mut() = refused.status;
        for (name, value) in refused.headers {
            // Every text in it is our own, and fit for a header.
            if let Ok(value) = HeaderValue::try_from(&*value) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }
}

/// The refusal over HTTP.
pub fn deny(refusal: &Refusal) -> HttpAnswer {
    refused(refusal).into()
}

/// A refusal that is none of a token's: no such address, for instance. Both texts are our own.
pub fn plain(status: StatusCode, error: &str, description: &str) -> HttpAnswer {
    described(status, error, description).into()
}
