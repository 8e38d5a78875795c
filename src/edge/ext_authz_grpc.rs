//! Envoy's `ext_authz` by gRPC: `envoy.service.auth.v3.Authorization/Check`, the messages of
//! `envoy/service/auth/v3/external_auth.proto` and `attribute_context.proto`.
//!
//! The policy is the context extension `policy`, which the route sets (`check_settings`); else `default`.
//! The client's path is never looked at.

pub mod health;
mod question;
mod response;

pub use question::Question;
pub use response::{answer, refuse};

use super::certificate::Forwarded;
use super::credential;
use super::forwarded::{Original, Peer};
use super::{Edge, EdgeSettings};
use crate::check::{Decision, Denial, Facts};
use crate::gate::Gate;

/// Judges one request; `told` hears what was said of the certificate.
pub async fn decide(
    gate: &Gate,
    settings: &EdgeSettings,
    question: &Question<'_>,
    peer: Peer,
    told: impl FnOnce(&Decision, &Forwarded<'_>),
) -> Decision {
    let policy = question.policy.unwrap_or("default");
    let headers = question.headers(settings);
    let well_formed = headers.is_some();
    let headers = headers.unwrap_or_default();
    let credential = match well_formed {
        true => credential::find(&headers, &settings.sources),
        false => Err(Denial::CredentialMalformed),
    };
    let certificate =
        Forwarded::new(&headers, peer, settings).with_connection(question.certificate);
    let decision = gate.check(&Facts { policy, credential, certificate: &certificate }).await;
    if tracing::enabled!(tracing::Level::DEBUG) {
        let reason = decision.label();
        let Original { method, path } = question.original(peer, settings);
        tracing::debug!(edge = Edge::ExtAuthzGrpc.name(), %peer, ?policy, reason, method, path, "decision");
    }
    told(&decision, &certificate);
    decision
}

#[cfg(test)]
mod tests;
