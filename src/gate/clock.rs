//! Time, as an argument.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

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

/// A moment to count from. Which one does not matter.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn now(&self) -> UnixTime {
        // A clock before 1970 reads 1970: every token is then from the future, and refused.
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
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
