//! Warnings that would otherwise come with every request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets one event through per period.
#[derive(Debug)]
pub struct Seldom {
    period: Duration,
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    /// At most one per `period`.
    pub const fn every(period: Duration) -> Self {
        Self { period, last: Mutex::new(None) }
    }

    /// Whether it is time again.
    pub fn now(&self) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|then| now.duration_since(then) >= self.period);
        if due {
            *last = Some(now);
        }
        due
    }
}
