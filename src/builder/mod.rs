//! A gate for one's own process: from the sidecar's file, or from typed settings.
//!
//! The builder is a typed hand on the keys of the file: what it holds is read by the file's own reader.
//! So both have the same defaults, limits and complaints, and cannot drift apart. The page
//! [`guide::configuration`](crate::guide::configuration) explains every key,
//! [`guide::defaults`](crate::guide::defaults) every default.
//!
//! ```
//! use std::time::Duration;
//! use vidimus::Gate;
//! use vidimus::builder::{GateBuilder, Policy, Realm};
//!
//! # fn start() -> Result<Gate, vidimus::BuildError> {
//! let shop = Realm::new("https://id.example.com/realms/shop")
//!     .audience(["orders-api"])
//!     .leeway(Duration::from_secs(10));
//! let gate = GateBuilder::new()
//!     .realm(shop)
//!     .policy(Policy::new("default").scopes(["orders:read"]))
//!     .policy(Policy::new("admin").roles(["realm:admin"]))
//!     .build()?;
//! # Ok(gate)
//! # }
//! ```

mod certificate;
mod keys;
mod methods;
mod policy;
mod realm;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use certificate::ForwardedCertificate;
pub use policy::Policy;
pub use realm::{Introspection, Realm};
/// The HTTP client that [`GateBuilder::http_client`] takes.
pub use reqwest;

// What methods here take.
pub use crate::check::{Algorithm, BindingRule, UseFor};
pub use crate::config::Config;
pub use crate::edge::certificate::Provider;

use crate::config::{ConfigError, ConfigErrors};
use crate::gate::{Clock, Gate, Live, Source, SystemClock};
use crate::issuer::{Issuers, Plan};
use keys::Keys;
use methods::method;

/// Builds a [`Gate`].
#[must_use = "nothing is started before build()"]
pub struct GateBuilder {
    keys: Keys,
    config: Option<Config>,
    clock: Arc<dyn Clock>,
    client: Option<reqwest::Client>,
    source: Option<Box<NewSource>>,
}

type NewSource = dyn FnOnce(&Arc<Live>) -> Arc<dyn Source> + Send;

impl Gate {
    /// A gate by the sidecar's own file, read once: for other settings build another gate. `[server]` is read and checked as well, so that one file serves
    /// both; but for `trusted_proxies` nothing of it is used: addresses and draining are the
    /// application's affair.
    ///
    /// Starts fetching keys on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// Every mistake in the file, with its line; or that no tokio runtime runs here.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, BuildError> {
        Self::from_config(Config::load(path.as_ref())?)
    }

    /// The same from the file's text.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_toml(text: &str) -> Result<Self, BuildError> {
        Self::from_config(Config::parse(text, "configuration")?)
    }

    /// The same from a configuration that has been read.
    ///
    /// # Errors
    /// If a file that it names has become unusable; or no tokio runtime runs here.
    pub fn from_config(config: Config) -> Result<Self, BuildError> {
        GateBuilder::from(config).build()
    }
}

impl GateBuilder {
    /// Without realms yet: it needs one at least.
    pub fn new() -> Self {
        Self {
            keys: Keys::default(),
            config: None,
            clock: Arc::new(SystemClock),
            client: None,
            source: None,
        }
    }

    /// Accepts tokens of this realm.
    pub fn realm(mut self, realm: Realm) -> Self {
        self.keys.push("realm", realm.0);
        self
    }

    /// Adds a policy. Without any there is one: `default`, which accepts every realm.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.keys.section("policy").add(&policy.name, policy.keys);
        self
    }

    /// `[token] sources`: where a credential may stand, such as `authorization` (the default),
    /// `cookie:NAME` or `header:NAME`. For [`CheckLayer`](crate::edge::layer::CheckLayer).
    pub fn token_sources(mut self, sources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.section("token").list("sources", sources);
        self
    }

    /// `[token] max_size`: the longest token that is looked at, in bytes, 1 KiB to 256 KiB. Default 16 KiB.
    pub fn max_token_size(mut self, bytes: u64) -> Self {
        self.keys.section("token").size("max_size", bytes);
        self
    }

    /// `[server] trusted_proxies`: who may forward a client's certificate, such as `10.0.0.0/8`, `::1`
    /// or `unix`. Default: this machine. In [`CheckLayer`](crate::edge::layer::CheckLayer) it counts only
    /// with [`peer`](crate::edge::layer::CheckLayer::peer).
    pub fn trusted_proxies(mut self, peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.section("server").list("trusted_proxies", peers);
        self
    }

    /// `[client_certificate]`: in which header a trusted proxy forwards the client's certificate, in
    /// that proxy's spelling. Default: in none. In [`CheckLayer`](crate::edge::layer::CheckLayer) it counts
    /// only with [`peer`](crate::edge::layer::CheckLayer::peer), which tells who sends it.
    ///
    /// A [`Provider`], or more of it: [`ForwardedCertificate`].
    pub fn client_certificate(mut self, forwarded: impl Into<ForwardedCertificate>) -> Self {
        *self.keys.section("client_certificate") = forwarded.into().0;
        self
    }

    /// `[cache] max_bytes`: about what proofs may take of memory, 1 MiB to 64 GiB; 3.3 KiB for a
    /// token of 1.1 KB. Default 64 MiB.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.keys.section("cache").size("max_bytes", bytes);
        self
    }

    /// Tells the time. Default: the machine's clock. For tests:
    /// [`ManualClock`](crate::gate::ManualClock).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Asks issuers with this client, for its proxies, its TLS or its resolver; but not where our client
    /// proves itself by `tls_client_auth`.
    ///
    /// What then is the application's to guarantee: whom TLS trusts (`ca_file` is refused beside it),
    /// that this machine is not asked by way of a proxy, how long connecting may take, and
    /// `redirect::Policy::none()`. An answer that came by a redirect is not used, but the question, with
    /// a secret in it, would have been there. What stays: plain http is refused to other machines, and an
    /// answer has 5 s (for introspection its `timeout`) and 1 MiB.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Takes keys and answers from elsewhere: no issuer is asked over HTTP. What is made here publishes
    /// the keys it finds by [`Live::publish_keys`].
    pub fn source(
        mut self,
        source: impl FnOnce(&Arc<Live>) -> Arc<dyn Source> + Send + 'static,
    ) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What has been said so far, as a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn config(&self) -> Result<Config, BuildError> {
        let faults = self.keys.faults().into_iter();
        let mut faults: Vec<ConfigError> =
            faults.map(|(path, found, allowed)| fault(&path, found, allowed)).collect();
        let config = match &self.config {
            Some(config) => {
                if !self.keys.is_empty() {
                    faults.push(fault("", "settings beside a whole configuration", "one of both"));
                }
                Some(config.clone())
            }
            None => match Config::parse(&self.keys.to_string(), "") {
                Ok(config) => Some(config),
                Err(errors) => {
                    let told: Vec<_> = faults.iter().map(|fault| fault.path.clone()).collect();
                    let errors = errors.iter().filter(|error| !told.contains(&error.path));
                    faults.extend(errors.cloned().map(typed));
                    None
                }
            },
        };
        if self.client.is_some() {
            let issuers = config.iter().flat_map(|config| config.issuers.iter().enumerate());
            for (place, _) in issuers.filter(|(_, issuer)| issuer.ca_file.is_some()) {
                let path = format!("realm[{place}].ca_file");
                let found = "a file beside http_client";
                faults.push(fault(&path, found, "one of them: let that client trust it"));
            }
        }
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(settings(faults)),
        }
    }

    /// Builds it, and starts fetching keys on the tokio runtime that this is called on (with time and
    /// I/O enabled, as `#[tokio::main]` makes it). It does not wait for any issuer:
    /// [`Gate::ready`] does.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, in one error; or that no runtime runs here.
    pub fn build(self) -> Result<Gate, BuildError> {
        let config = self.config()?;
        let broken = |error: &dyn fmt::Display| settings(vec![fault("", &error.to_string(), "")]);
        let live = Live::new(config.rules, self.clock).map_err(|error| broken(&error))?;
        let live = Arc::new(live);
        if let Some(source) = self.source {
            let source = source(&live);
            let companions = vec![Box::new(config.edge) as _];
            return Ok(Gate::with_companions(live, source, config.cache_bytes, companions));
        }
        let plan = Plan::prepare_with(config.issuers, self.client);
        let plan = plan.map_err(|error| broken(&error))?;
        Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let issuers = Issuers::start_prepared(plan, Arc::clone(&live));
        let companions = vec![Box::new(config.edge) as _, Box::new(Arc::clone(&issuers)) as _];
        Ok(Gate::with_companions(live, issuers, config.cache_bytes, companions))
    }
}

impl Default for GateBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A whole configuration takes no settings beside it; [`GateBuilder::clock`], [`GateBuilder::http_client`]
/// and [`GateBuilder::source`] may be added, which no file can say.
impl From<Config> for GateBuilder {
    fn from(config: Config) -> Self {
        Self { config: Some(config), ..Self::new() }
    }
}

impl fmt::Debug for GateBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateBuilder").finish_non_exhaustive() // there may be a secret in it
    }
}

/// Why there is no gate.
#[non_exhaustive]
pub enum BuildError {
    /// Everything that is wrong with the settings.
    Settings(ConfigErrors),
    /// No tokio runtime runs where the gate was built: nobody would fetch keys.
    NoRuntime,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(errors) => errors.fmt(f),
            Self::NoRuntime => write!(
                f,
                "no tokio runtime runs here, and a gate fetches keys on one: build it inside \
                 #[tokio::main], or under Runtime::enter()"
            ),
        }
    }
}

/// The same text: a `main` that returns the error prints it by `Debug`.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BuildError {}

impl From<ConfigErrors> for BuildError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Settings(errors)
    }
}

fn settings(faults: Vec<ConfigError>) -> BuildError {
    BuildError::Settings(ConfigErrors::new("GateBuilder", faults))
}

fn fault(path: &str, found: &str, allowed: &str) -> ConfigError {
    let (found, allowed) = (found.to_owned(), allowed.to_owned());
    ConfigError { line: 0, path: path.to_owned(), found, allowed }
}

/// A fault in the document that a builder has written: its line says nothing, and the method does.
fn typed(mut error: ConfigError) -> ConfigError {
    error.line = 0;
    if let Some(method) = method(&error.path).filter(|_| !error.allowed.is_empty()) {
        error.allowed += &format!(" ({method})");
    }
    error
}
