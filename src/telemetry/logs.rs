//! Log output of the process.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

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
/// If `level` is none: `info`, `debug`, or with parts, such as `info,vidimus::issuer=debug`. A level
/// alone is Vidimus' own; the libraries below then only warn, and h2 not even that: it does so as often as
/// a caller resets streams.
pub fn start_logs(format: LogFormat, level: &str, colour: bool) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter(level)?).map_err(|error| error.to_string())?;
    // A log that cannot be written (closed pipe, full disk) must not take down who wrote it: the
    // subscriber would report it on standard error, and panic there.
    let logs = SubscriberBuilder::default()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(colour).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}

/// The filter library takes an unknown word for the name of a part, and then logs nothing at all.
fn filter(level: &str) -> Result<String, String> {
    let mut filter = Vec::new();
    for part in level.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = part.split_once('=').unwrap_or(("vidimus", part));
        if level.parse::<LevelFilter>().is_err() {
            return Err(format!("{level:?} is not one of off, error, warn, info, debug, trace"));
        }
        if !part.contains('=') && !filter.contains(&LIBRARIES.to_owned()) {
            filter.insert(0, LIBRARIES.to_owned()); // first, because the last word about a part holds
        }
        filter.push(format!("{target}={level}"));
    }
    Ok(if filter.is_empty() { format!("{LIBRARIES},vidimus=info") } else { filter.join(",") })
}

const LIBRARIES: &str = "warn,h2=error";

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_level_is_a_level_and_a_misspelt_one_is_said() {
        assert_eq!(filter("debug").unwrap(), "warn,h2=error,vidimus=debug");
        assert_eq!(
            filter("info,vidimus::edge=debug").unwrap(),
            "warn,h2=error,vidimus=info,vidimus::edge=debug"
        );
        assert_eq!(filter("").unwrap(), "warn,h2=error,vidimus=info");
        assert_eq!(filter("h2=warn,debug").unwrap(), "warn,h2=error,h2=warn,vidimus=debug");
        for bad in ["nope", "info;debug", "vidimus=loud", "vidimus::edge"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
