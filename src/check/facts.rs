//! The question, as an edge puts it.

use std::fmt;

use super::{ClientCertificate, Denial, NoCertificate, RawToken};

/// What an edge found in a request. Borrowed from it: nothing is copied.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The policy that the edge's own routing chose.
    pub policy: &'a str,
    /// The one credential, or what was wrong with it.
    pub credential: Result<RawToken<'a>, Denial>,
    /// The client's certificate, looked for only if the token is bound to one.
    pub certificate: &'a dyn ClientCertificate,
}

impl<'a> Facts<'a> {
    /// A question about a client without a certificate.
    pub fn new(policy: &'a str, credential: Result<RawToken<'a>, Denial>) -> Self {
        Self { policy, credential, certificate: &NoCertificate }
    }
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("policy", &self.policy)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}
