//! Envoy's `ext_authz` by HTTP: `/ext_authz/{policy}` and, after it, the path and query of the client,
//! which Envoy's `path_prefix` cannot leave out; with the client's method, and no body.
//!
//! `path_prefix` should end in a slash: then no client's path can lengthen the policy's name.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};

use super::answer::{HttpAnswer, allow, deny};
use super::forwarded::Original;
use crate::check::Decision;

/// The policy a request's path names, or nothing if it is not for this edge.
pub fn policy(path: &str) -> Option<&str> {
    split(path).map(|(policy, _)| policy)
}

/// The client's request, for the log.
pub(super) fn original<B>(request: &Request<B>) -> Original<'_> {
    let path = split(request.uri().path()).map(|(_, path)| path);
    // The prefix's slash and the path's own.
    let path =
        path.map(|path| path.strip_prefix('/').filter(|it| it.starts_with('/')).unwrap_or(path));
    Original { method: Some(request.method().as_str()), path }
}

fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/ext_authz/")?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

/// The answer. Envoy takes every 5xx for "nobody can be asked", and lets the request pass if
/// `failure_mode_allow` is set: what cannot be decided is 403 here, with a body and a `Retry-After`
/// that say so. Identity headers without a value are removed from the request, and so are the names under
/// which the client could forge one.
pub fn answer(decision: &Decision) -> HttpAnswer {
    let grant = match decision {
        Decision::Allow(grant) => grant,
        Decision::Deny(refusal) => return never_5xx(deny(refusal)),
    };
    let mut answer = never_5xx(allow(grant));
    let remove = removed(answer.headers(), grant.policy().forgeries().list());
    if !remove.is_empty() {
        answer.headers_mut().insert(REMOVE, remove);
    }
    answer
}

/// The names of all empty headers, and those of the list.
fn removed(headers: &HeaderMap, list: &HeaderValue) -> HeaderValue {
    let empty = headers.iter().filter(|(_, value)| value.is_empty());
    let mut names: Vec<&[u8]> = empty.map(|(name, _)| name.as_str().as_bytes()).collect();
    if names.is_empty() {
        return list.clone(); // mostly, and it costs nothing
    }
    if !list.is_empty() {
        names.push(list.as_bytes());
    }
    HeaderValue::try_from(names.join(&b',')).unwrap_or_else(|_| list.clone()) // names are fit for it
}

const REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

fn never_5xx(mut answer: HttpAnswer) -> HttpAnswer {
    if answer.status().is_server_error() {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_names_the_policy_whatever_the_client_asks_for() {
        for (path, expected) in [
            ("/ext_authz/default/orders/7", Some("default")),
            ("/ext_authz/default//orders/7", Some("default")), // a prefix that ends in a slash
            ("/ext_authz/default//../admin/x", Some("default")),
            ("/ext_authz/default/", Some("default")),
            ("/ext_authz/default", Some("default")),
            ("/ext_authz/default*", Some("default*")), // OPTIONS *: no policy of that name
            ("/ext_authz/%64efault/", Some("%64efault")),
            ("/ext_authz/", Some("")),
            ("/ext_authz", None),
            ("/EXT_AUTHZ/default/", None),
            ("//ext_authz/default/", None),
        ] {
            assert_eq!(policy(path), expected, "{path}");
        }
    }
}
