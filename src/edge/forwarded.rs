//! What a proxy says about its client: believed only from trusted peers, read only here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use ipnet::IpNet;

/// Who asks: the other end of the connection, never a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Ip(IpAddr),
    /// Over a unix socket: whoever its file's permissions admit.
    Unix,
    /// Nobody has told: trusted by none.
    Unknown,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address.ip())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => write!(f, "unix"),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}

/// One entry of `trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// A network in CIDR notation, or one address.
    Net(IpNet),
    /// Every unix socket.
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self::Net).map_err(|_| ())
    }
}

/// Who may speak for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<TrustedProxy>);

impl Default for TrustedProxies {
    /// This machine alone. A default that trusts everybody makes the rule worthless
    /// (CVE-2026-76835).
    fn default() -> Self {
        let net = |text: &str| text.parse().ok();
        Self([net("127.0.0.0/8"), net("::1/128"), net("unix")].into_iter().flatten().collect())
    }
}

impl TrustedProxies {
    /// Whether this peer may.
    pub fn contains(&self, peer: Peer) -> bool {
        self.0.iter().any(|proxy| match (proxy, peer) {
            (TrustedProxy::Unix, Peer::Unix) => true,
            // An IPv4 client of an IPv6 socket comes as ::ffff:a.b.c.d
            (TrustedProxy::Net(net), Peer::Ip(ip)) => net.contains(&ip.to_canonical()),
            (_, Peer::Unknown)
            | (TrustedProxy::Unix, Peer::Ip(_))
            | (TrustedProxy::Net(_), Peer::Unix) => false,
        })
    }
}

/// The client's request as the proxy describes it: for the log, never for a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original<'a> {
    /// Its method.
    pub method: Option<&'a str>,
    /// Its path. The query is left out: it may hold secrets.
    pub path: Option<&'a str>,
}

impl<'a> Original<'a> {
    /// Reads it, if this peer may speak for a client.
    pub fn read(headers: &'a HeaderMap, peer: Peer, trusted: &TrustedProxies) -> Self {
        if !trusted.contains(peer) {
            return Self::default();
        }
        let first = |names: [&str; 2]| {
            names.into_iter().find_map(|name| headers.get(name)).and_then(|v| v.to_str().ok())
        };
        let uri = first(["x-original-uri", "x-forwarded-uri"]);
        Self {
            method: first(["x-original-method", "x-forwarded-method"]),
            path: uri.map(|uri| uri.split(['?', '#']).next().unwrap_or("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::Ip(ip.parse().unwrap())
    }

    #[test]
    fn trusts_this_machine_alone_unless_told_otherwise() {
        let trusted = TrustedProxies::default();
        assert_eq!(trusted.0.len(), 3, "every default is well-formed");
        for good in [
            peer("127.0.0.1"),
            peer("127.9.9.9"),
            peer("::1"),
            peer("::ffff:127.0.0.1"),
            Peer::Unix,
        ] {
            assert!(trusted.contains(good), "{good}");
        }
        for bad in [peer("10.0.0.1"), peer("::ffff:10.0.0.1"), peer("0.0.0.0"), peer("::")] {
            assert!(!trusted.contains(bad), "{bad}");
        }
        let nobody = TrustedProxies(Vec::new());
        assert!(!nobody.contains(Peer::Unix) && !nobody.contains(peer("127.0.0.1")));
    }

    #[test]
    fn networks_and_single_addresses_are_written_as_usual() {
        for text in ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::1", "unix"] {
            assert!(text.parse::<TrustedProxy>().is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "localhost", "*", "unix:/run/x.sock"] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_original_request_is_read_from_trusted_peers_only() {
        let mut headers = HeaderMap::new();
        headers.insert("x-original-method", "POST".parse().unwrap());
        headers.insert("x-original-uri", "/orders/7?token=secret".parse().unwrap());
        let trusted = TrustedProxies::default();
        let original = Original::read(&headers, Peer::Unix, &trusted);
        assert_eq!(original, Original { method: Some("POST"), path: Some("/orders/7") });
        assert_eq!(Original::read(&headers, peer("10.0.0.1"), &trusted), Original::default());
    }
}
