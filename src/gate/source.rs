//! What the gate needs from issuers, without knowing any.

use std::pin::Pin;

/// Fetches keys. Implemented by [`Issuers`](crate::issuer::Issuers), and by tests.
pub trait Source: Send + Sync + 'static {
    /// Fetches the keys of the realm with this issuer again, because none of them has `kid`, or, without
    /// `has_keys`, because there are none or none fresh enough; publishes what it finds to [`Live`](super::Live); and answers within its own deadline.
    ///
    /// Any caller may be an attacker with a new `kid` each time: fetches must be shared and rare.
    fn refresh(
        &self,
        issuer: &str,
        kid: &str,
        has_keys: bool,
    ) -> Pin<Box<dyn Future<Output = Refresh> + Send + '_>>;
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// A fetch that began after the question was asked has ended well: what is not there now is not
    /// published.
    Done,
    /// Not allowed so soon after the last one.
    CoolingDown,
    /// The issuer did not answer, or not sensibly.
    Unreachable,
}
