//! nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`: any method, `/auth` for the
//! policy `default`, `/auth/{policy}` for others. The proxy's routing names the policy; the client's
//! path is never looked at.

use http::StatusCode;

use super::answer::{HttpAnswer, allow, deny};
use crate::check::Decision;

/// The policy a request's path names, or nothing if it is not for this edge.
pub fn policy(path: &str) -> Option<&str> {
    match path.strip_prefix("/auth")? {
        "" => Some("default"),
        rest => rest.strip_prefix('/'),
    }
}

/// The answer. nginx knows 2xx, 401 and 403, and turns every other status into a 500 of its own;
/// so a malformed request, 400 elsewhere, is 401 here. 503 stays: it must not look like the client's
/// fault, and deploy/nginx turns nginx's 500 back into it.
pub fn answer(decision: &Decision) -> HttpAnswer {
    let mut answer = match decision {
        Decision::Allow(grant) => allow(grant),
        Decision::Deny(refusal) => deny(refusal),
    };
    if answer.status() == StatusCode::BAD_REQUEST {
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_the_policy_exactly() {
        for (path, expected) in [
            ("/auth", Some("default")),
            ("/auth/admin", Some("admin")),
            ("/auth/", Some("")), // no policy of that name
            ("/auth/a/b", Some("a/b")),
            ("/auth/../x", Some("../x")),
            ("/authx", None),
            ("/AUTH", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(policy(path), expected, "{path}");
        }
    }
}
