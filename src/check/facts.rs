//! The question, as an edge puts it.

use super::{Denial, RawToken};

/// What an edge found in a request. Borrowed from it: nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The policy that the edge's own routing chose.
    pub policy: &'a str,
    /// The one credential, or what was wrong with it.
    pub credential: Result<RawToken<'a>, Denial>,
}
