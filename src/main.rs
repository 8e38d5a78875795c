//! The `vidimus` command: arguments, logs, configuration, serve, wait, drain.

mod cli;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};
use vidimus::demo::{Demo, DemoError};
use vidimus::server::Server;
use vidimus::telemetry::start_logs;

use cli::{Cli, Command, Serve};

const FAILED: u8 = 1;
const USAGE: u8 = 64;
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // a closed pipe is no news
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { USAGE.into() };
        }
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if let Err(error) = start_logs(cli.log_format, &cli.log, colour) {
        return fail(USAGE, &format!("--log {:?}: {error}", cli.log));
    }
    match cli.command {
        Command::Version => {
            println!("vidimus {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::CheckConfig { config } => match vidimus::config::Config::load(&config) {
            Ok(_) => {
                println!("{}: good", config.display());
                ExitCode::SUCCESS
            }
            Err(errors) => fail(FAILED, &errors),
        },
        Command::Health { admin } => match health(admin) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(FAILED, &format!("{admin}: {reason}")),
        },
        Command::Serve(options) => run(serve(options)),
        Command::Demo(options) => run(async move {
            demo(options.addresses()).await.unwrap_or_else(|error| fail(FAILED, &error))
        }),
    }
}

fn run(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background(); // what did not finish in time does not hold us up
            code
        }
        Err(error) => fail(FAILED, &format!("cannot start the runtime: {error}")),
    }
}

async fn serve(options: Serve) -> ExitCode {
    let config = match options.load() {
        Ok(config) => config,
        Err(errors) => return fail(CONFIGURATION, &errors),
    };
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return fail(FAILED, &error),
    };
    for address in server.addresses() {
        tracing::info!(%address, "listening for edges");
    }
    tracing::info!(address = %server.admin(), "listening for /healthz, /readyz, /metrics, /version");
    until_told_to_end(server, || options.config.is_some().then(|| options.load())).await
}

async fn demo(addresses: vidimus::demo::Addresses) -> Result<ExitCode, DemoError> {
    let demo = Demo::start(addresses).await?;
    let table = demo.table().await?;
    let mut out = anstream::stdout();
    writeln!(out, "\nVidimus judges tokens of {}:\n\n{table}", demo.issuer.issuer())?;
    writeln!(out, "{}\nIt stays up until Ctrl-C.", demo.curl_lines())?;
    let Demo { server, issuer: _issuer } = demo;
    Ok(until_told_to_end(server, || None).await)
}

type Loaded = Result<vidimus::config::Config, vidimus::config::ConfigErrors>;

async fn until_told_to_end(server: Server, load: impl Fn() -> Option<Loaded>) -> ExitCode {
    let signals = (|| {
        Ok::<_, std::io::Error>((
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    })();
    let (mut reload, mut interrupt, mut terminate) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &format!("cannot listen for signals: {error}")),
    };
    loop {
        tokio::select! {
            _ = reload.recv() => reload_now(&server, load()),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    tracing::info!("ending: no new connections, requests in flight finish");
    match server.drain().await {
        true => tracing::info!("ended"),
        false => tracing::warn!("ended; some connections did not finish within drain_timeout"),
    }
    ExitCode::SUCCESS
}

fn reload_now(server: &Server, loaded: Option<Loaded>) {
    let result = match loaded {
        None => return tracing::warn!("SIGHUP: there is no configuration file to reload"),
        Some(Ok(config)) => server.reload(config).map_err(|error| error.to_string()),
        Some(Err(errors)) => {
            server.reload_failed();
            Err(errors.to_string())
        }
    };
    match result {
        Ok(()) => tracing::info!(
            "reloaded the configuration; addresses and cache size stay until a restart"
        ),
        Err(errors) => {
            tracing::error!("the old configuration stays in force, the new one is wrong:\n{errors}")
        }
    }
}

/// One plain request, without a client library: it runs every few seconds in a container.
fn health(admin: SocketAddr) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(2)).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).map_err(told)?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: vidimus\r\nConnection: close\r\n\r\n")
        .map_err(told)?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer).map_err(told)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, _)) if head.starts_with("HTTP/1.1 200 ") => Ok(()),
        Some((_, body)) => Err(body.trim_end().to_owned()),
        None => Err("it is not Vidimus that answers there".into()),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    code.into()
}
