//! Inbound: each edge turns its proxy's question into [`Facts`](crate::check::Facts), and the
//! [`Decision`](crate::check::Decision) into an answer that proxy understands. Nothing else is decided
//! here.
//!
//! | edge | asks at | policy | the credential | refusals leave as |
//! | --- | --- | --- | --- | --- |
//! | [`auth_request`]: nginx, Traefik, Caddy | `/auth`, `/auth/{policy}` | path | `[token] sources` | 401, 403, 503 |
//! | [`ext_authz_http`]: Envoy | `/ext_authz/{policy}` and the client's path | path | `[token] sources` | 400, 401, 403 |
//!
//! What a proxy says about its client is read only from trusted peers: the original request in
//! [`forwarded`], its certificate in [`certificate`].

pub mod answer;
pub mod auth_request;
pub mod certificate;
pub mod credential;
pub mod ext_authz_http;
pub mod forwarded;
pub mod http;
mod spelling;
pub mod x509;
mod xfcc;

use certificate::CertificateHeader;
use credential::Source;
use forwarded::TrustedProxies;

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
