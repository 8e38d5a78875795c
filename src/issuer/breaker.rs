//! Leaves a realm alone that fails again and again: pure bookkeeping.
//!
//! After [`FAILURES`] failed calls in a row none is made for a second; then one is let through, and what
//! becomes of it decides. Each failed one doubles the pause, up to [`MAX_PAUSE`].

use std::time::Duration;

use tokio::time::Instant;

/// So many calls in a row must fail.
const FAILURES: u32 = 5;

/// Long enough to spare a server that is restarting, short enough that nobody waits for us.
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// The longest `timeout` that the configuration allows. A probe that is older has been left standing by
/// its runtime, and may never tell.
const LONGEST_CALL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// How often it has opened since the last success.
    opened: u32,
    closed_from: Option<Instant>,
    /// Since when a probe is on its way.
    probing: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made now. Who is let through tells how it ended, in one of three ways.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let open = self.is_open(now);
        if !open && self.closed_from.is_some() {
            self.probing = Some(now);
        }
        !open
    }

    /// Whether calls are refused now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let probing = self.probing.is_some_and(|began| now <= began + LONGEST_CALL);
        self.closed_from.is_some_and(|then| now < then || probing)
    }

    /// The call ended well.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed, by the realm's fault.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let probed = self.probing.take();
        if probed.is_some() || (self.closed_from.is_none() && self.failures >= FAILURES) {
            let pause = Duration::from_secs(1 << self.opened.min(3)).min(MAX_PAUSE);
            self.opened = self.opened.saturating_add(1);
            self.closed_from = Some(now + pause);
        }
    }

    /// It says nothing about the realm, or was given up.
    pub(super) fn abandoned(&mut self) {
        self.probing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.admit(now));
            breaker.failed(now);
        }
        breaker
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                breaker.failed(now);
            }
            assert!(breaker.admit(now));
            breaker.succeeded();
        }
        assert!(!open(now).admit(now));
        assert!(open(now).is_open(now));
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert!(!breaker.admit(now + SECOND / 2));
        assert!(breaker.admit(now + SECOND));
        assert!(!breaker.admit(now + SECOND), "another is on its way");
        breaker.failed(now + SECOND);
        assert!(!breaker.admit(now + 2 * SECOND), "the pause has doubled");
        assert!(breaker.admit(now + 3 * SECOND));
        breaker.succeeded();
        assert!(breaker.admit(now + 3 * SECOND) && breaker.admit(now + 3 * SECOND));
    }

    #[test]
    fn the_pause_stays_short_however_long_the_outage() {
        let mut now = Instant::now();
        let mut breaker = open(now);
        for _ in 0..50 {
            now += MAX_PAUSE;
            assert!(breaker.admit(now));
            breaker.failed(now);
        }
        assert!(breaker.admit(now + MAX_PAUSE));
    }

    #[test]
    fn a_probe_that_is_given_up_lets_the_next_one_through() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert!(breaker.admit(now + SECOND));
        breaker.abandoned();
        assert!(breaker.admit(now + SECOND));
    }

    #[test]
    fn a_probe_that_never_ends_keeps_it_open_no_longer_than_a_call_may_take() {
        let now = Instant::now() + SECOND;
        let mut breaker = open(now - SECOND);
        assert!(breaker.admit(now));
        assert!(!breaker.admit(now + LONGEST_CALL) && breaker.is_open(now + LONGEST_CALL));
        let later = now + LONGEST_CALL + Duration::from_millis(1);
        assert!(!breaker.is_open(later));
        assert!(breaker.admit(later));
        assert!(!breaker.admit(later), "the next one is on its way");
    }

    #[test]
    fn calls_that_fail_together_open_it_once() {
        let now = Instant::now();
        let mut breaker = open(now);
        for _ in 0..64 {
            breaker.failed(now); // begun before it opened
        }
        assert!(breaker.admit(now + SECOND));
    }
}
