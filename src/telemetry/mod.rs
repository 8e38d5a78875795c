//! Logs and metrics.
//!
//! Never logged, at any level: tokens or parts of them, claims, `kid`s that clients send, client
//! secrets, queries of original requests. Logged: realms and policies by their configured names,
//! addresses of peers, reasons by their labels, what issuers answer.

mod collector;
mod decisions;
#[cfg(feature = "server")]
mod logs;
pub mod metrics;
#[cfg(feature = "server")]
mod once;

pub use collector::GateMetrics;
/// Whose registries and encoders [`GateMetrics`] fits, in that version.
pub use prometheus;

#[cfg(feature = "server")]
pub use logs::{LogFormat, start_logs};
#[cfg(feature = "server")]
pub use once::Seldom;
