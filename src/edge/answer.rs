//! From a decision to an HTTP answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;

#[cfg(any(feature = "server", feature = "tower"))]
use crate::check::Policy;
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

/// The names whose other spellings a service may take for an identity header of ours: many read `X_User` as
/// `X-User`, and an edge overwrites the one with hyphens alone.
#[cfg(feature = "server")]
pub(super) fn aliased(policy: &Policy) -> impl Iterator<Item = &str> {
    let names = policy.headers.names().chain(&policy.forward_jwt);
    names.map(HeaderName::as_str).filter(|name| name.contains('-'))
}

/// A byte of such a name in that other spelling.
#[cfg(feature = "server")]
pub(super) fn alias(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

/// Sets every identity header of the policy in a request, in place of whatever came under that name or
/// under one that a service may take for it. Where the claim is missing none is left.
#[cfg(feature = "tower")]
pub(super) fn identify(headers: &mut http::HeaderMap, grant: &Grant) {
    let looks_alike = lookalikes(grant.policy());
    let alike: Vec<_> = headers.keys().filter(|name| looks_alike(name.as_str())).cloned().collect();
    for name in alike {
        headers.remove(name);
    }
    for (name, value) in grant.identity() {
        match value.is_empty() {
            true => drop(headers.remove(name)),
            false => drop(headers.insert(name.clone(), value)),
        }
    }
}

#[cfg(any(feature = "server", feature = "tower"))]
/// Whether a service may take a header of this name for one that the policy hands on, and it is none of
/// those: if every sign but letters and digits is read as `-`, as CGI and its like do, it is the same name;
/// or one more of the family `X-Auth-Request-`, which services look for that know oauth2-proxy.
pub(super) fn lookalikes(policy: &Policy) -> impl Fn(&str) -> bool {
    let names = || policy.headers.names().chain(&policy.forward_jwt).map(HeaderName::as_str);
    let family = names().any(|name| name.starts_with(FAMILY));
    move |name| {
        let one_of_the_family =
            family && name.get(..FAMILY.len()).is_some_and(|it| alike(it, FAMILY));
        (one_of_the_family || names().any(|handed| alike(name, handed)))
            && !names().any(|handed| name.eq_ignore_ascii_case(handed))
    }
}

#[cfg(any(feature = "server", feature = "tower"))]
const FAMILY: &str = "x-auth-request-";

#[cfg(any(feature = "server", feature = "tower"))]
fn alike(name: &str, other: &str) -> bool {
    let plain =
        |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.bytes().map(plain).eq(other.bytes().map(plain))
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
