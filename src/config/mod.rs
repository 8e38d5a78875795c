//! The configuration file: strict, complete in its complaints, with every default in one place.
//!
//! A file is read into [`Config`], whose types cannot hold a wrong value, or refused with every
//! mistake that is in it: where, what was found, what is allowed. Unknown keys are mistakes.

mod client_certificate;
mod error;
mod introspection;
mod listen;
mod policy;
mod reader;
mod realm;
mod settings;
mod summary;

use std::path::Path;
use std::time::Duration;

pub use error::{ConfigError, ConfigErrors};
pub use listen::ListenAddr;

pub use crate::edge::certificate::Provider;

use crate::edge::EdgeSettings;
use crate::gate::Rules;
use crate::issuer::IssuerSettings;

/// A configuration that holds no mistake.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[token] sources`, `[server] trusted_proxies` and `[client_certificate]`.
    pub edge: EdgeSettings,
    /// Realms and policies.
    pub rules: Rules,
    /// How to reach the realms' issuers.
    pub issuers: Vec<IssuerSettings>,
    /// `[cache] max_bytes`.
    pub cache_bytes: u64,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where edges ask.
    pub listen: Vec<ListenAddr>,
    /// Health and metrics.
    pub admin: std::net::SocketAddr,
    /// Mode of unix sockets: who may connect.
    pub socket_mode: u32,
    /// How long requests in flight may take at the end.
    pub drain_timeout: Duration,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake in it, or why it could not be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => Err(ConfigErrors::unreadable(&name, &error)),
        }
    }

    /// Reads a text; `name` is what its mistakes are reported under.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let config =
            reader::document(text, &mut errors).map(|top| settings::read(top, &mut errors));
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(name, errors)),
        }
    }
}
