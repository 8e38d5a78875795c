//! For tests of your own service: an issuer inside the process that behaves like a Keycloak realm, and
//! signs what you want. No identity provider: it gives a token to everybody, on this machine alone.
//!
//! ```
//! # #[cfg(feature = "config")] {
//! use serde_json::json;
//! use vidimus::builder::{GateBuilder, Realm};
//! use vidimus::check::{Decision, Denial, Facts, RawToken};
//! use vidimus::testing::Issuer;
//!
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! let issuer = Issuer::local().await?;
//! let realm = Realm::new(issuer.issuer()).audience(["orders-api"]);
//! let gate = GateBuilder::new().realm(realm).build()?;
//! gate.ready().await;
//!
//! let token = issuer.token(json!({ "sub": "alice", "scope": "orders:read" }))?;
//! let decision = gate.check(&Facts::new("default", Ok(RawToken::new(&token)))).await;
//! assert!(matches!(decision, Decision::Allow(grant) if grant.subject() == Some("alice")));
//!
//! let token = issuer.token(json!({ "aud": "billing-api" }))?;
//! let decision = gate.check(&Facts::new("default", Ok(RawToken::new(&token)))).await;
//! assert!(matches!(decision, Decision::Deny(refusal) if refusal.denial == Denial::Audience));
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap() }
//! ```
//!
//! The demo of the sidecar runs it too, with its [`samples`], and Vidimus' own tests make it misbehave.

pub mod form;
mod introspection;
mod issuer;
mod pages;
pub mod samples;
mod store;

pub use crate::issuer::key;
pub use introspection::INTROSPECTOR;
pub use issuer::{CLIENT, Fault, Issuer};
pub use key::{KeyError, SigningKey};
