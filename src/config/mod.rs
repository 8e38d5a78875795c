//! The configuration file: strict, complete in its complaints, with every default in one place.
//!
//! A file is read into [`Config`], whose types cannot hold a wrong value, or refused with every
//! mistake that is in it: where, what was found, what is allowed. Unknown keys are mistakes.

mod error;
mod introspection;
mod listen;
mod policy;
mod reader;
mod realm;
mod settings;

use std::path::Path;
use std::time::Duration;

pub use error::{ConfigError, ConfigErrors};
pub use listen::ListenAddr;

use crate::check::{AudienceRule, ClaimPath, UseFor};
use crate::edge::EdgeSettings;
use crate::gate::Rules;
use crate::issuer::IssuerSettings;

/// A configuration that holds no mistake.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[token] sources` and `[server] trusted_proxies`.
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

    /// What was understood, a line for each realm and policy, and what is easily overlooked.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (rules, issuer) in self.rules.realms.iter().zip(&self.issuers) {
            let audience = match &rules.audience {
                AudienceRule::OneOf(names) => names.join(" or "),
                AudienceRule::InsecureAny => "ANY (insecure_any_audience)".into(),
            };
            let by = issuer
                .fetch_base
                .as_ref()
                .map_or(String::new(), |base| format!(", asked at {base}"));
            lines.push(format!(
                "realm {}: issuer {}, audience {audience}{by}",
                rules.name, rules.issuer
            ));
            if let Some(introspection) = &rules.introspection {
                let UseFor { opaque, lightweight, all } = introspection.use_for;
                let which = match (all, opaque, lightweight) {
                    (true, ..) => "every token",
                    (_, true, true) => "opaque and lightweight tokens",
                    (_, true, false) => "opaque tokens",
                    _ => "lightweight tokens",
                };
                lines.push(format!(
                    "realm {}: asked about {which}, as client {}",
                    rules.name, introspection.client_id
                ));
            }
        }
        for policy in &self.rules.policies {
            let realms = self.rules.realms.iter().enumerate();
            let realms = realms.filter(|(place, _)| policy.accepts_realm(*place));
            let realms: Vec<_> = realms.map(|(_, rules)| &*rules.name).collect();
            let mut line = format!("policy {}: realms {}", policy.name(), realms.join(", "));
            if let Some(audience) = &policy.audience {
                line += &format!("; audience {}", audience.join(" or "));
            }
            if !policy.scopes.is_empty() {
                line += &format!("; scopes {}", policy.scopes.join(" and "));
            }
            let roles: Vec<_> = policy.roles.iter().map(ToString::to_string).collect();
            if !roles.is_empty() {
                line += &format!("; {}", roles.join(" or "));
            }
            if let Some(realm) = policy.introspect_realm
                && realms.len() > 1
            {
                line += &format!("; opaque tokens: realm {}", self.rules.realms[realm].name);
            }
            lines.push(line);
            let jwt = |(place, issuer): (usize, &IssuerSettings)| {
                let given = issuer.introspection.as_ref().is_none_or(|i| i.prefer_jwt);
                policy.accepts_realm(place) && !given
            };
            if policy.forward_jwt.is_some() && self.issuers.iter().enumerate().any(jwt) {
                lines.push(format!(
                    "note: policy {} forwards the full JWT, and a realm of it has no prefer_jwt: for its \
                     opaque and lightweight tokens the header stays empty",
                    policy.name()
                ));
            }
            let tells_issuer =
                policy.headers.iter().any(|(_, claim)| *claim == ClaimPath::new("iss"));
            if realms.len() > 1 && !tells_issuer {
                lines.push(format!(
                    "note: policy {} accepts several realms and no header tells which: two of their \
                     users may look alike (add \"X-Auth-Request-Issuer\" = \"iss\", or set realms)",
                    policy.name()
                ));
            }
        }
        if !self.rules.policies.iter().any(|policy| policy.name() == "default") {
            lines
                .push("note: there is no policy \"default\", so /auth is answered with 403".into());
        }
        lines
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
