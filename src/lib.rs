//! Vidimus validates Keycloak access tokens: inside your service, or beside it.
//!
//! *Vidimus*, "we have inspected": the medieval attestation that a document was examined and found
//! genuine. This crate is the judgement and everything around it. The `vidimus` command is the same crate as a
//! sidecar for nginx, Envoy and others; a service in Rust needs none.
//!
//! # In your service
//!
//! ```toml
//! [dependencies]
//! axum = "0.8"
//! tokio = { version = "1", features = ["full"] }
//! vidimus = { version = "0.1", default-features = false, features = ["axum"] }
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "axum")] mod service {
//! use axum::{Router, routing::get};
//! use vidimus::builder::Realm;
//! use vidimus::{CheckLayer, GateBuilder, Grant};
//!
//! # pub async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let shop = Realm::new("https://id.example.com/realms/shop").audience(["orders-api"]);
//! let gate = GateBuilder::new().realm(shop).build()?;
//!
//! let hello = |grant: Grant| async move { format!("hello {:?}", grant.subject()) };
//! let app: Router = Router::new().route("/", get(hello)).route_layer(CheckLayer::new(&gate, "default")?);
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! The [guides](guide) show it for axum, tonic and others, and how to test a service with tokens of every kind.
//!
//! # What it does
//!
//! * Fetches and keeps the keys of any number of realms, through rotations and outages.
//! * Verifies access tokens locally, and keeps the proof, never the verdict: expiry, audience, scopes,
//!   roles and the key's being published are judged on every request.
//! * Asks the realm about opaque and lightweight tokens (RFC 7662), once for all who wait.
//! * Holds certificate-bound tokens to their certificate (RFC 8705).
//! * Says who calls, or why not: one table from a refusal to its status, challenge and text.
//!
//! It does not log anybody in, issue tokens, or match paths: which policy a request falls under is the
//! router's affair. [Known attacks](guide::known_attacks) and [defaults](guide::defaults) have a page each.
//!
//! # The picture
//!
//! ```text
//!   request ──▶ edge ──Facts──▶ gate ──▶ check        pure: no clock, no I/O
//!           ◀──      ◀Decision─   │ ▲
//!                          Source │ │ keys, answers
//!                                 ▼ │
//!                               issuer ──▶ Keycloak
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | none | [`check`] alone: three pure functions, without a runtime, also for wasm |
//! | `gate` | [`gate`] and [`issuer`]: live state, caches, fetching (tokio, reqwest) |
//! | `config` | `gate`; [`config`] and [`builder`]: a gate from a file or from typed settings; [`edge`]: what is read in requests |
//! | `tower` | `config`, and [`CheckLayer`] |
//! | `axum` | `tower`, and [`Grant`] as an argument of handlers |
//! | `metrics` | `config`, and [`telemetry`]: a collector for the application's own Prometheus registry |
//! | `testing` | `gate`, and [`testing`]: an issuer inside the process, for tests |
//! | `aws-lc` | signatures by AWS-LC instead of ring: faster, and ES512; on some systems it needs cmake |
//! | `server` (default) | all but `tower`, `axum` and `aws-lc`; [`server`], [`demo`], [`doctor`] and the `vidimus` command |
//!
//! A feature adds a room and changes no other. Nothing here installs anything process-wide: no crypto
//! provider, no metrics registry, no logger (the command does, for itself: its logger, and its limit on open files).

#![cfg_attr(docsrs, feature(doc_cfg))] // a nightly compiler's, which docs.rs has

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
#[cfg(any(doc, doctest))]
pub mod guide;
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

/// The code of README.md compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
