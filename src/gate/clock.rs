//! Time, as an argument.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::check::UnixTime;

/// Tells the time that tokens are judged by.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> UnixTime;

    /// How long it has run, whatever is done to the wall clock: for how long answers are used.
    fn uptime(&self) -> Duration;
}

/// The machine's clock: the only place in the crate that reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// For a time of one's own. `check` knows no machine, so it stands here.
impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::default().after(since),
            Err(until) => Self::default().before(until.duration()),
        }
    }
}

/// A moment to count from. Which one does not matter.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn now(&self) -> UnixTime {
        SystemTime::now().into() // before 1970 every token is from the future, and refused
    }

    fn uptime(&self) -> Duration {
        BEGAN.elapsed()
    }
}

/// A clock that tests move by hand.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    began: UnixTime,
}

impl ManualClock {
    /// Stands still at this moment.
    pub fn at(now: UnixTime) -> Self {
        Self { now: AtomicI64::new(now.as_secs()), began: now }
    }

    /// Stands still at this very moment of the machine's clock, by which the issuer for tests makes its
    /// tokens.
    pub fn now() -> Self {
        Self::at(SystemClock.now())
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.now.store(self.now().after(by).as_secs(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        self.now().since(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_machine_become_seconds_on_either_side_of_1970() {
        for (seconds, time) in [
            (90, UNIX_EPOCH + Duration::from_millis(90_500)),
            (0, UNIX_EPOCH),
            (-90, UNIX_EPOCH - Duration::from_secs(90)),
        ] {
            assert_eq!(UnixTime::from(time), UnixTime::from_secs(seconds));
        }
    }
}
