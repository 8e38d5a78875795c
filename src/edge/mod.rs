//! Inbound: each edge turns its proxy's question into [`Facts`](crate::check::Facts), and the
//! [`Decision`](crate::check::Decision) into an answer that proxy understands. Nothing else is decided
//! here.
//!
//! | edge | asks at | policy | the credential | refusals leave as |
//! | --- | --- | --- | --- | --- |
//! | [`auth_request`]: nginx, Traefik, Caddy | `/auth`, `/auth/{policy}` | path | `[token] sources` | 401, 403, 503 |
//! | [`ext_authz_http`]: Envoy | `/ext_authz/{policy}` and the client's path | path | `[token] sources` | 400, 401, 403 |
//! | [`ext_authz_grpc`]: Envoy | `envoy.service.auth.v3.Authorization/Check` | context extension `policy` | the same, of the headers in the question | 400, 401, 403, 503 in a `DeniedHttpResponse` |
//!
//! What a proxy says about its client is read only from trusted peers: the original request in
//! [`forwarded`], its certificate in [`certificate`].

pub mod answer;
pub mod auth_request;
pub mod certificate;
pub mod credential;
pub mod ext_authz_grpc;
pub mod ext_authz_http;
pub mod forwarded;
pub mod http;
mod protobuf;
mod spelling;
pub mod x509;
mod xfcc;

use certificate::CertificateHeader;
use credential::Source;
use forwarded::TrustedProxies;
use http::HttpEdge;

/// Every edge: where questions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// By a plain HTTP request.
    Http(HttpEdge),
    /// [`ext_authz_grpc`]: Envoy.
    ExtAuthzGrpc,
}

impl Edge {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::Http(HttpEdge::AuthRequest), Self::Http(HttpEdge::ExtAuthz), Self::ExtAuthzGrpc];

    /// `edge` in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http(edge) => edge.name(),
            Self::ExtAuthzGrpc => "ext_authz_grpc",
        }
    }
}

/// Settings that all edges share; changed by a reload.
#[derive(Clone, Debug, Default)]
pub struct EdgeSettings {
    /// Where a credential may stand.
    pub sources: Vec<Source>,
    /// Who may speak for a client.
    pub trusted: TrustedProxies,
    /// Where the client's certificate stands. Default: nowhere, so that tokens bound to one are refused.
    pub certificate: Option<CertificateHeader>,
}
