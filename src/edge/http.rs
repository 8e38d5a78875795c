//! Edges that ask by one plain HTTP request: its path names the policy, its headers hold the rest.

use http::{Request, StatusCode};

use super::answer::{HttpAnswer, plain};
use super::certificate::Forwarded;
use super::forwarded::{Original, Peer};
use super::{EdgeSettings, auth_request, credential, ext_authz_http};
use crate::check::{Decision, Facts};
use crate::gate::{Gate, Undecided};

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
        let case = Case { edge: self, gate, settings, request, peer, policy };
        match case.look() {
            Ok(decision) => decision,
            Err(undecided) => case.decide(undecided).await,
        }
    }

    /// The decision as this proxy understands it.
    pub fn answer(self, decision: &Decision) -> HttpAnswer {
        match self {
            Self::AuthRequest => auth_request::answer(decision),
            Self::ExtAuthz => ext_authz_http::answer(decision),
        }
    }
}

/// One request, and what it is judged by.
pub(crate) struct Case<'a, B> {
    pub(crate) edge: HttpEdge,
    pub(crate) gate: &'a Gate,
    pub(crate) settings: &'a EdgeSettings,
    pub(crate) request: &'a Request<B>,
    pub(crate) peer: Peer,
    pub(crate) policy: &'a str,
}

impl<B> Case<'_, B> {
    /// The decision, if nothing has to be waited for.
    pub(crate) fn look(&self) -> Result<Decision, Undecided> {
        let certificate = self.certificate();
        self.gate.look(&self.facts(&certificate)).inspect(|decision| self.log(decision))
    }

    /// The decision, once what is missing has been asked for.
    pub(crate) async fn decide(&self, undecided: Undecided) -> Decision {
        let certificate = self.certificate();
        let decision = self.gate.decide(&self.facts(&certificate), undecided).await;
        self.log(&decision);
        decision
    }

    pub(crate) fn certificate(&self) -> Forwarded<'_> {
        Forwarded::new(self.request.headers(), self.peer, self.settings)
    }

    fn facts<'c>(&'c self, certificate: &'c Forwarded<'_>) -> Facts<'c> {
        let credential = credential::find(self.request.headers(), &self.settings.sources);
        Facts { policy: self.policy, credential, certificate }
    }

    fn log(&self, decision: &Decision) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (edge, peer, policy, reason) =
                (self.edge.name(), self.peer, self.policy, decision.label());
            let Original { method, path } = match self.edge {
                HttpEdge::AuthRequest => {
                    Original::read(self.request.headers(), peer, &self.settings.trusted)
                }
                HttpEdge::ExtAuthz => ext_authz_http::original(self.request),
            };
            tracing::debug!(edge, %peer, ?policy, reason, method, path, "decision");
        }
    }
}

/// For addresses that no edge answers at.
pub fn not_found() -> HttpAnswer {
    plain(StatusCode::NOT_FOUND, "not_found", "ask at /auth, /auth/POLICY or /ext_authz/POLICY/")
}
