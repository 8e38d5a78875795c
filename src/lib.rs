//! Vidimus validates Keycloak access tokens beside the service they protect.
//!
//! *Vidimus*, "we have inspected": the medieval attestation that a document was examined and found
//! genuine. This crate is the judgement and everything around it; the `vidimus` command is the same
//! crate as a sidecar for nginx.
//!
//! # What it does
//!
//! * Fetches and keeps the keys of any number of realms, through rotations and outages.
//! * Verifies access tokens locally, and keeps the proof, never the verdict: expiry, audience, scopes,
//!   roles and the key's being published are judged on every request.
//! * Answers nginx `auth_request` with the identity headers of the caller, or says why not.
//!
//! It does not log anybody in, issue tokens, or match paths: which policy a request falls under is the
//! edge's own routing.
//!
//! # The picture
//!
//! ```text
//!   nginx ──question──▶ edge ──Facts──▶ gate ──▶ check        pure: no clock, no I/O
//!         ◀──answer───       ◀Decision─   │ ▲
//!                                  Source │ │ keys
//!                                         ▼ │
//!                                       issuer ──▶ Keycloak
//! ```
//!
//! # Quick start
//!
//! The judgement alone is [`check`]: two pure functions, without a runtime. With live state around it:
//!
//! ```no_run
//! # #[cfg(feature = "gate")]
//! # async fn start(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use vidimus::check::{AudienceRule, Decision, Facts, Limits, Policy, RawToken, RealmRules};
//! use vidimus::gate::{Gate, Live, Rules, SystemClock};
//! use vidimus::issuer::{IssuerSettings, Issuers};
//!
//! let mut shop = RealmRules::new("https://id.example.com/realms/shop");
//! shop.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
//! let settings = IssuerSettings::new(&shop.issuer);
//! let policies = vec![Policy::new("default", vec![0])];
//! let rules = Rules { realms: vec![shop], policies, limits: Limits::default() };
//! let live = Arc::new(Live::new(rules, Arc::new(SystemClock))?);
//! let issuers = Issuers::start(vec![settings], Arc::clone(&live))?;
//! let gate = Gate::new(live, issuers, 64 << 20);
//!
//! let facts = Facts::new("default", Ok(RawToken::new(token)));
//! match gate.check(&facts).await {
//!     Decision::Allow(grant) => println!("welcome, {:?}", grant.subject()),
//!     Decision::Deny(refusal) => println!("no: {}", refusal.denial.answer().description),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | none | [`check`] alone, without a runtime |
//! | `gate` | [`gate`] and [`issuer`]: live state, caches, fetching (tokio, reqwest) |
//! | `server` (default) | `edge`, `server`, `config`, `telemetry`, `demo`, and the `vidimus` command |
//!
//! A feature adds a room and changes no other. Nothing here installs anything process-wide: no crypto
//! provider, no metrics registry, no logger (the command does, for itself: its logger, and its limit on open files).

#[cfg(feature = "config")]
pub mod builder;
pub mod check;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod doctor;
#[cfg(feature = "config")]
pub mod edge;
#[cfg(feature = "gate")]
pub mod gate;
#[cfg(feature = "gate")]
pub mod issuer;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "metrics")]
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "config")]
pub use builder::{BuildError, GateBuilder};
pub use check::{Decision, Denial, Facts, Grant};
#[cfg(feature = "config")]
pub use config::Config;
#[cfg(feature = "tower")]
pub use edge::layer::CheckLayer;
#[cfg(feature = "gate")]
pub use gate::Gate;
