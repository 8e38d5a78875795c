//! Edges that ask by one plain HTTP request: its path names the policy, its headers hold the rest.

use http::{Request, StatusCode};

use super::answer::{HttpAnswer, plain};
use super::certificate::Forwarded;
use super::forwarded::{Original, Peer};
use super::{EdgeSettings, auth_request, credential, ext_authz_http};
use crate::check::{Decision, Facts};
use crate::gate::Gate;

/// Who asks, by where it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpEdge {
    /// [`auth_request`]: nginx, Traefik, Caddy.
    AuthRequest,
    /// [`ext_authz_http`]: Envoy.
    ExtAuthz,
}

impl HttpEdge {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::AuthRequest, Self::ExtAuthz];

    /// `edge` in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthRequest => "auth_request",
            Self::ExtAuthz => "ext_authz_http",
        }
    }

    /// Which edge a path belongs to, and the policy it names there. The proxy's routing chooses the
    /// policy; the client's path is never looked at.
    pub fn of(path: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|edge| {
            let policy = match edge {
                Self::AuthRequest => auth_request::policy(path),
                Self::ExtAuthz => ext_authz_http::policy(path),
            };
            policy.map(|policy| (edge, policy))
        })
    }

    /// Judges one request.
    pub async fn decide<B>(
        self,
        gate: &Gate,
        settings: &EdgeSettings,
        request: &Request<B>,
        peer: Peer,
        policy: &str,
    ) -> Decision {
        let credential = credential::find(request.headers(), &settings.sources);
        let certificate = Forwarded::new(request.headers(), peer, settings);
        let decision = gate.check(&Facts { policy, credential, certificate: &certificate }).await;
        if tracing::enabled!(tracing::Level::DEBUG) {
            let reason = decision.label();
            let Original { method, path } = match self {
                Self::AuthRequest => Original::read(request.headers(), peer, &settings.trusted),
                Self::ExtAuthz => ext_authz_http::original(request),
            };
            tracing::debug!(edge = self.name(), %peer, ?policy, reason, method, path, "decision");
        }
        decision
    }

    /// The decision as this proxy understands it.
    pub fn answer(self, decision: &Decision) -> HttpAnswer {
        match self {
            Self::AuthRequest => auth_request::answer(decision),
            Self::ExtAuthz => ext_authz_http::answer(decision),
        }
    }
}

/// For addresses that no edge answers at.
pub fn not_found() -> HttpAnswer {
    plain(StatusCode::NOT_FOUND, "not_found", "ask at /auth, /auth/POLICY or /ext_authz/POLICY/")
}
