//! Notices edges that open a connection for every question, which costs them more than the answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// So many connections are looked at together.
const SAMPLE: u64 = 1_000;

/// Counts connections and requests of one listener.
#[derive(Debug, Default)]
pub(super) struct Keepalive {
    connections: AtomicU64,
    requests: AtomicU64,
    warned: AtomicBool,
}

impl Keepalive {
    /// So many more have come.
    pub(super) fn requests(&self, count: u64) {
        self.requests.fetch_add(count, Relaxed);
    }

    /// A connection has ended. True once: when for the last 1,000 there was one request each.
    pub(super) fn connection_ended(&self) -> bool {
        let ended = self.connections.fetch_add(1, Relaxed) + 1;
        if !ended.is_multiple_of(SAMPLE) {
            return false;
        }
        let requests = self.requests.swap(0, Relaxed);
        // Probes and port scans bring none: they are no reason to warn.
        let one_each = (SAMPLE / 2..SAMPLE * 3 / 2).contains(&requests);
        one_each && !self.warned.swap(true, Relaxed)
    }
}

pub(super) const ADVICE: &str = "the edge opens a new connection for almost every request, which \
    costs it more than Vidimus does. In nginx: put `keepalive 64;` into the upstream block, and \
    `proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_method HEAD;` into the location \
    that asks (see deploy/nginx/nginx.conf)";

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(connections: u64, requests_each: u64) -> usize {
        let keepalive = Keepalive::default();
        let ended = |_| {
            keepalive.requests(requests_each);
            keepalive.connection_ended()
        };
        (0..connections).map(ended).filter(|warn| *warn).count()
    }

    #[test]
    fn warns_once_and_only_about_connections_of_one_request() {
        assert_eq!(warnings(5_000, 1), 1);
        assert_eq!(warnings(999, 1), 0);
        assert_eq!(warnings(5_000, 2), 0);
        assert_eq!(warnings(5_000, 0), 0);
    }
}
