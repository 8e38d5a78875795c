//! The `vidimus` command: arguments, logs, configuration, serve, wait, drain.

mod cli;
mod run;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::runtime::Builder;
use vidimus::config::Config;
use vidimus::telemetry::start_logs;

use cli::{Cli, Command};

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
            say(&format!("vidimus {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Command::CheckConfig { config } => match Config::load(&config) {
            Ok(good) => {
                say(&format!("{}: good", config.display()));
                good.summary().iter().for_each(|line| say(&format!("  {line}")));
                ExitCode::SUCCESS
            }
            Err(errors) => fail(FAILED, &errors),
        },
        Command::Doctor { config, token } => with_config(&config, |config| {
            block_on(run::doctor(config, (!token.is_empty()).then(|| token.join(" "))))
        }),
        Command::Inspect { config, policy, certificate, token } => with_config(&config, |config| {
            block_on(run::inspect(config, policy, token.join(" "), certificate))
        }),
        Command::Health { admin } => ended(run::health(admin)),
        Command::Serve(options) => match options.load() {
            Ok(config) => {
                let reload = move || options.config.is_some().then(|| options.load());
                block_on(run::serve(config, reload))
            }
            Err(errors) => fail(CONFIGURATION, &errors),
        },
        Command::Demo(options) => block_on(run::demo(options.addresses(), options.provider)),
    }
}

fn with_config(file: &Path, work: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(file) {
        Ok(config) => work(config),
        Err(errors) => fail(CONFIGURATION, &errors),
    }
}

/// Of so many tasks a thread takes one from the queue that all threads share. That is where those go for whom
/// its own has no room, of more than 256 that are busy at once; with tokio's own interval some of them waited
/// for seconds.
const COMMON_QUEUE: u32 = 2;

fn block_on<E: Display>(work: impl Future<Output = Result<(), E>>) -> ExitCode {
    let runtime =
        Builder::new_multi_thread().enable_all().global_queue_interval(COMMON_QUEUE).build();
    match runtime {
        Ok(runtime) => {
            let code = ended(runtime.block_on(work));
            runtime.shutdown_background(); // what did not finish in time does not hold us up
            code
        }
        Err(error) => fail(FAILED, &format!("cannot start the runtime: {error}")),
    }
}

fn ended<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

/// To whoever still reads: a closed pipe is no mistake.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn fail(code: u8, error: &dyn Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{error}");
    code.into()
}
