//! What introspection did: numbers for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds in milliseconds: Keycloak answers within 2 to 20 ms when it is well.
const BOUNDS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Counters of one realm. They outlive a change of its settings.
#[derive(Debug, Default)]
pub(super) struct Stats {
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// One more than bounds: the last counts what is beyond them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    pub(super) in_flight: AtomicU64,
}

/// Introspection of one realm, as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectionStats {
    /// How many questions ended how: `active`, `inactive`, `signed` (an
    /// answer whose word only its signature tells), or an error's label. `busy` and
    /// `breaker_open` made no call.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Seconds and how many calls took at most so long, in ascending order.
    pub seconds: Vec<(f64, u64)>,
    /// How many calls there were, however long they took.
    pub calls: u64,
    /// How long all of them took together.
    pub seconds_sum: f64,
    /// Calls that wait for an answer now.
    pub in_flight: u64,
    /// Whether calls are refused because too many in a row have failed.
    pub breaker_open: bool,
}

impl Stats {
    pub(super) fn count(&self, outcome: &'static str) {
        *self
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(outcome)
            .or_default() += 1;
    }

    /// A call took so long.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1_000 < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn read(&self, breaker_open: bool) -> IntrospectionStats {
        let mut calls = 0;
        let mut counts = self.buckets.iter().map(|bucket| {
            calls += bucket.load(Ordering::Relaxed);
            calls
        });
        let seconds = BOUNDS.iter().zip(counts.by_ref());
        let seconds = seconds.map(|(bound, count)| (*bound as f64 / 1e3, count)).collect();
        let calls = counts.last().unwrap_or(0);
        IntrospectionStats {
            outcomes: self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            seconds,
            calls,
            seconds_sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            breaker_open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_under_every_bound_that_they_keep() {
        let stats = Stats::default();
        for millis in [1, 3, 3, 9_000] {
            stats.took(Duration::from_millis(millis));
        }
        let read = stats.read(false);
        assert_eq!(read.seconds[..3], [(0.001, 1), (0.002, 1), (0.005, 3)]);
        assert_eq!(read.seconds.last(), Some(&(5.0, 3)));
        assert_eq!(read.calls, 4);
        assert!((read.seconds_sum - 9.007).abs() < 1e-9);
    }
}
