//! Logs and metrics.
//!
//! Never logged, at any level: tokens or parts of them, claims, `kid`s that clients send, client
//! secrets, queries of original requests. Logged: realms and policies by their configured names,
//! addresses of peers, reasons by their labels, what issuers answer.

pub mod metrics;
mod once;

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

pub use once::Seldom;

/// How logs are written, to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json"),
        }
    }
}

/// Starts logging for the process; called once, by `main`.
///
/// # Errors
/// If `level` is none: `info`, `debug`, or a filter such as `info,vidimus=debug`.
pub fn start_logs(format: LogFormat, level: &str, colour: bool) -> Result<(), impl fmt::Display> {
    let filter = EnvFilter::builder().parse(level)?;
    let logs = SubscriberBuilder::default().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(colour).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok::<(), tracing_subscriber::filter::ParseError>(())
}
