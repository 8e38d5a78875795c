//! The command line, as text and types.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use vidimus::config::{Config, ConfigErrors, ListenAddr, Provider};
use vidimus::demo::Addresses;
use vidimus::telemetry::LogFormat;

/// Validates Keycloak access tokens beside the service they protect.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = false, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log lines for people or for machines
    #[arg(
        long,
        global = true,
        default_value = "text",
        value_name = "text|json",
        env = "VIDIMUS_LOG_FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// What to log: error, warn, info, debug, or a filter such as info,vidimus::issuer=debug
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL", env = "VIDIMUS_LOG")]
    pub(crate) log: String,
}

const EXIT_CODES: &str =
    "Exit codes: 0 good, 1 the check failed or an address is taken, 64 usage, 78 configuration";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it at work with nothing else installed: issuer, sidecar, sample checks
    Demo(Demo),
    /// Run the sidecar
    Serve(Serve),
    /// Check a configuration file: exit 0, or 1 with every mistake in it
    CheckConfig {
        /// The file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask the realms of a configuration: reachable, keys, introspection; a remedy for each finding
    Doctor {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// A token of one of the realms, or - to read it from standard input: what its realm makes of it
        #[arg(value_name = "TOKEN")]
        token: Vec<String>,
    },
    /// Explain the decision about a token, rule by rule; the token itself is not printed
    Inspect {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Under which policy
        #[arg(short, long, value_name = "NAME", default_value = "default")]
        policy: String,
        /// The client's certificate (PEM), for a token that is bound to one
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// The token; without it, or with -, it is read from standard input
        #[arg(value_name = "TOKEN")]
        token: Vec<String>,
    },
    /// Ask a running sidecar whether it is ready: exit 0 or 1 (for container health checks)
    Health {
        /// Its admin address
        #[arg(long, default_value = "127.0.0.1:9181", value_name = "ADDR")]
        admin: SocketAddr,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(override_usage = "vidimus serve --config FILE\n       \
    vidimus serve --issuer URL --audience NAME [--listen ADDR] [--admin ADDR]")]
pub(crate) struct Serve {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", required_unless_present = "issuer")]
    pub(crate) config: Option<PathBuf>,
    /// Without a file: the realm's URL, exactly as it stands in `iss`
    #[arg(long, value_name = "URL", conflicts_with = "config", requires = "audience")]
    issuer: Option<String>,
    /// Without a file: what `aud` must hold; may be given again for others (no commas)
    #[arg(long, value_name = "NAME", conflicts_with = "config", requires = "issuer")]
    audience: Vec<String>,
    /// Without a file: where edges ask [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    listen: Vec<String>,
    /// Without a file: health and metrics [default: 127.0.0.1:9181]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    admin: Option<String>,
}

impl Serve {
    /// From the file, or from the flags as if they stood in one.
    pub(crate) fn load(&self) -> Result<Config, ConfigErrors> {
        if let Some(file) = &self.config {
            return Config::load(file);
        }
        let text = |text: &str| toml::Value::String(text.to_owned());
        let list =
            |list: &[String]| toml::Value::Array(list.iter().map(|item| text(item)).collect());
        let mut server = toml::Table::new();
        if !self.listen.is_empty() {
            server.insert("listen".into(), list(&self.listen));
        }
        if let Some(admin) = &self.admin {
            server.insert("admin".into(), text(admin));
        }
        let mut realm = toml::Table::new();
        realm.insert("issuer".into(), text(self.issuer.as_deref().unwrap_or_default()));
        realm.insert("audience".into(), list(&self.audience));
        let mut document = toml::Table::new();
        document.insert("server".into(), server.into());
        document.insert("realm".into(), toml::Value::Array(vec![realm.into()]));
        Config::parse(&document.to_string(), "command line").map_err(ConfigErrors::as_flags)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the sidecar listens: an address such as 127.0.0.1:9180, or unix:PATH
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDR", value_parser = listen)]
    listen: ListenAddr,
    /// Where its admin listens
    #[arg(long, default_value = "127.0.0.1:9181", value_name = "ADDR")]
    admin: SocketAddr,
    /// Where the embedded issuer listens: an address of this machine alone
    #[arg(long, default_value = "127.0.0.1:9182", value_name = "ADDR")]
    issuer_listen: SocketAddr,
    /// Whose edge forwards client certificates: the provider that its file in deploy/ names
    #[arg(long, default_value = "thumbprint", value_name = "NAME", value_parser = provider())]
    pub(crate) provider: Provider,
}

impl Demo {
    pub(crate) fn addresses(&self) -> Addresses {
        let listen = self.listen.clone();
        Addresses { listen, admin: self.admin, issuer: self.issuer_listen }
    }
}

fn listen(text: &str) -> Result<ListenAddr, &'static str> {
    text.parse().map_err(|()| "an address such as 127.0.0.1:9180, or unix:PATH, is wanted")
}

fn provider() -> impl TypedValueParser<Value = Provider> {
    PossibleValuesParser::new(Provider::ALL.iter().map(|provider| provider.name()))
        .try_map(|name| name.parse().map_err(|()| format!("{name} is none")))
}
