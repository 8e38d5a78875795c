//! From a configuration to the end of the process: serve, reload on SIGHUP, drain on SIGTERM.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use vidimus::config::{Config, ConfigErrors, Provider};
use vidimus::demo::{Addresses, Demo, DemoError};
use vidimus::doctor;
use vidimus::server::{Server, raise_open_files};

type Loaded = Result<Config, ConfigErrors>;

/// Serves until told to end; `load` reads the configuration again, if it came from a file.
pub(crate) async fn serve(
    config: Config,
    load: impl Fn() -> Option<Loaded> + Send + Sync + 'static,
) -> Result<(), DemoError> {
    let signals = Signals::listen()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    tell(&config);
    raise_open_files();
    let server = Server::start(config).await?;
    for address in server.addresses() {
        tracing::info!(%address, "listening for edges: /auth/POLICY, /ext_authz/POLICY/, gRPC ext_authz");
    }
    let admin = server.admin();
    tracing::info!(address = %admin, "listening for /healthz, /readyz, /metrics, /version");
    until_told_to_end(server, signals, load).await
}

/// What was understood of a configuration; a policy that nobody can satisfy is a warning.
fn tell(config: &Config) {
    for line in config.summary() {
        match line.strip_prefix("warning: ") {
            Some(warning) => tracing::warn!("{warning}"),
            None => tracing::info!("{line}"),
        }
    }
}

/// Shows the demo, and keeps it up until told to end.
pub(crate) async fn demo(addresses: Addresses, provider: Provider) -> Result<(), DemoError> {
    let signals = Signals::listen()?;
    raise_open_files();
    let demo = Demo::start(addresses, provider).await?;
    let table = demo.table().await?;
    let mut out = anstream::stdout();
    writeln!(out, "\nVidimus judges tokens of {}:\n\n{table}", demo.issuer.issuer())?;
    writeln!(out, "{}\nIt stays up until Ctrl-C.", demo.curl_lines())?;
    let Demo { server, issuer: _issuer, .. } = demo;
    until_told_to_end(server, signals, || None).await
}

/// Examines the realms of a configuration, and what they make of a token.
pub(crate) async fn doctor(config: Config, token: Option<String>) -> Result<(), DemoError> {
    let token = token.map(given).transpose()?;
    let report = doctor::doctor(&config, token.as_deref()).await?;
    write!(anstream::stdout(), "{report}")?;
    if report.is_good() { Ok(()) } else { Err("something is BAD above".into()) }
}

/// Explains the decision about a token.
pub(crate) async fn inspect(
    config: Config,
    policy: String,
    token: String,
    certificate: Option<PathBuf>,
) -> Result<(), DemoError> {
    let certificate = certificate.map(|file| {
        let bytes = std::fs::read(&file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned()) // DER is told by not being PEM
    });
    let certificate = certificate.transpose()?;
    let report = doctor::inspect(&config, &policy, &given(token)?, certificate.as_deref()).await?;
    write!(anstream::stdout(), "{report}")?;
    if report.is_good() { Ok(()) } else { Err("the token is refused".into()) }
}

/// A token as an argument, or from standard input, where no other user of the machine sees it.
fn given(token: String) -> std::io::Result<String> {
    let mut text = token;
    if text == "-" || text.is_empty() {
        text.clear();
        std::io::stdin().take(1024 * 1024).read_to_string(&mut text)?;
    }
    let text = text.trim();
    let bearer = text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    Ok(if bearer { text[7..].trim() } else { text }.to_owned())
}

/// Listened to before anything else, so that none of them ends a process that is still starting.
struct Signals {
    reload: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

async fn until_told_to_end(
    server: Server,
    mut signals: Signals,
    load: impl Fn() -> Option<Loaded> + Send + Sync + 'static,
) -> Result<(), DemoError> {
    let load = Arc::new(load);
    let mut loading: Option<JoinHandle<Option<Loaded>>> = None;
    loop {
        tokio::select! {
            // Elsewhere: a disk that hangs must not keep the process from hearing that it shall end.
            _ = signals.reload.recv() => {
                let load = Arc::clone(&load);
                loading = Some(spawn_blocking(move || load()));
            }
            Some(loaded) = async { Some(loading.as_mut()?.await) } => {
                loading = None;
                match loaded {
                    Ok(loaded) => reload_now(&server, loaded),
                    Err(error) => tracing::error!("reading the configuration has ended: {error}"),
                }
            }
            _ = signals.interrupt.recv() => break,
            _ = signals.terminate.recv() => break,
        }
    }
    tracing::info!("ending: no new connections, requests in flight finish");
    tokio::select! {
        in_time = server.drain() => match in_time {
            true => tracing::info!("ended"),
            false => tracing::warn!("ended; some connections did not finish within drain_timeout"),
        },
        _ = signals.interrupt.recv() => tracing::warn!("ended at once: told twice"),
        _ = signals.terminate.recv() => tracing::warn!("ended at once: told twice"),
    }
    Ok(())
}

/// A broken file keeps the configuration that works.
fn reload_now(server: &Server, loaded: Option<Loaded>) {
    let result = match loaded {
        None => return tracing::warn!("SIGHUP: there is no configuration file to reload"),
        Some(Ok(config)) => {
            let reloaded = server.reload(config.clone()).map_err(|error| error.to_string());
            reloaded.map(|waiting| (waiting, config))
        }
        Some(Err(errors)) => {
            server.reload_failed();
            Err(errors.to_string())
        }
    };
    match result {
        Ok((waiting, config)) => {
            tracing::info!("reloaded the configuration");
            tell(&config);
            for setting in waiting {
                tracing::warn!("{setting} has changed: it takes effect with the next start");
            }
        }
        Err(errors) => {
            tracing::error!(
                "the old configuration stays in force, the new one is wrong:\n{errors}"
            );
        }
    }
}

/// Asks a running sidecar: one plain request, without a client library, because it runs every few
/// seconds in a container.
pub(crate) fn health(admin: SocketAddr) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{admin}: {error}");
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&admin, 2 * second).map_err(told)?;
    stream.set_read_timeout(Some(2 * second)).map_err(told)?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: vidimus\r\nConnection: close\r\n\r\n")
        .map_err(told)?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer).map_err(told)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, _)) if head.starts_with("HTTP/1.1 200 ") => Ok(()),
        Some((_, body)) => Err(format!("{admin}: {}", body.trim_end())),
        None => Err(format!("{admin}: it is not Vidimus that answers there")),
    }
}
