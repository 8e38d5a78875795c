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

#[cfg(any(feature = "server", feature = "tower"))]
pub mod answer;
#[cfg(feature = "server")]
pub mod auth_request;
pub mod certificate;
#[cfg(feature = "tower")]
pub mod client;
pub mod credential;
#[cfg(feature = "server")]
pub mod ext_authz_grpc;
#[cfg(feature = "server")]
pub mod ext_authz_http;
#[cfg(feature = "axum")]
mod extract;
pub mod forwarded;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "tower")]
pub mod layer;
#[cfg(feature = "server")]
mod protobuf;
#[cfg(feature = "tower")]
pub mod refusal;
mod spelling;
pub mod x509;
mod xfcc;

#[cfg(feature = "axum")]
pub use extract::NoLayer;

use certificate::CertificateHeader;
use credential::Source;
use forwarded::TrustedProxies;

/// Every edge: where questions come from.
#[cfg(feature = "server")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// By a plain HTTP request.
    Http(http::HttpEdge),
    /// [`ext_authz_grpc`]: Envoy.
    ExtAuthzGrpc,
}

#[cfg(feature = "server")]
impl Edge {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self::Http(http::HttpEdge::AuthRequest),
        Self::Http(http::HttpEdge::ExtAuthz),
        Self::ExtAuthzGrpc,
    ];

    /// `edge` in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http(edge) => edge.name(),
            Self::ExtAuthzGrpc => "ext_authz_grpc",
        }
    }
}

/// Settings that all edges share; changed by a reload.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Where a credential may stand. Default: `authorization`.
    pub sources: Vec<Source>,
    /// Who may speak for a client. Default: this machine.
    pub trusted: TrustedProxies,
    /// Where the client's certificate stands. Default: nowhere, so that tokens bound to one are refused.
    pub certificate: Option<CertificateHeader>,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        let (trusted, certificate) = (TrustedProxies::default(), None);
        Self { sources: vec![Source::Authorization], trusted, certificate }
    }
}
