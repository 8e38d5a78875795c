//! Addresses to listen at, as they are written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen at: `127.0.0.1:9180`, `[::1]:9180` or `unix:/run/vidimus/edge.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// TCP.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("unix:") {
            Some(path) if path.is_empty() || path.ends_with('/') => Err(()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| ()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in
            ["127.0.0.1:9180", "[::1]:9180", "unix:/run/vidimus/edge.sock", "unix:edge.sock"]
        {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "9180",
            "localhost:9180",
            ":9180",
            "unix:",
            "unix:/run/",
            "/run/x.sock",
            "127.0.0.1",
        ] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }
}
