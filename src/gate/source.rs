//! What the gate needs from issuers, without knowing any.

use std::pin::Pin;

use crate::check::{OwnedToken, Reply};

/// Asks issuers. Implemented by [`Issuers`](crate::issuer::Issuers), and by tests.
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

    /// Asks the realm with this issuer about a token (RFC 7662), and answers within its own deadline;
    /// `verified` if the token's signature is good, so that it was not invented.
    ///
    /// Called once for all who wait for the same token. Any caller may be an attacker with a new token
    /// each time: calls must be few at a time, and none while the realm is out of order.
    fn introspect(
        &self,
        issuer: &str,
        token: OwnedToken,
        verified: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, NoReply>> + Send + '_>>;
}

/// The issuer could not be asked, or its answer not be used: nothing is known about the token. The
/// source has counted and logged why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoReply;

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
