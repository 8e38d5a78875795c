//! Proof of possession (RFC 7800): a token with `cnf` is worth nothing without its key.

use super::{Denial, TokenKind};

/// What a token says about the key its caller must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// No `cnf`: whoever bears the token may use it (RFC 6750).
    Absent,
    /// A `cnf`, of any kind or shape: taking an unreadable one for none would let a stolen token
    /// pass. It cannot be proven yet.
    Present,
}

impl Confirmation {
    /// The proof, if the caller has given it.
    pub(super) fn prove(self, kind: TokenKind) -> Result<Bound, Denial> {
        match (self, kind) {
            (Self::Absent, TokenKind::Bearer) => Ok(Bound(())),
            // RFC 9449 §7.1: a DPoP token is never a bearer token, whatever became of its `cnf`.
            (Self::Absent, TokenKind::DPoP) | (Self::Present, _) => {
                Err(Denial::ConfirmationUnproven)
            }
        }
    }
}

/// Proof that a token's `cnf` is absent or was proven: made only here, and no
/// [`Grant`](super::Grant) is built without it.
#[derive(Clone, Copy, Debug)]
pub struct Bound(());
