//! The judgement itself: pure, synchronous, alone.
//!
//! Nothing here reads a clock, a socket, a file or a global, takes a lock or writes a log: time and
//! keys come in as arguments, a decision goes out as a value. It builds with
//! `--no-default-features`. The contract is three functions:
//!
//! * [`verify()`]: once per token. Bytes to [`Verified`], a proof that a published key of a known
//!   realm signed it; or what is missing to say so ([`Verification::Needs`]); or a [`Denial`].
//! * [`introspected()`]: what a realm answers about a token that does not say enough itself
//!   (RFC 7662), to the same proof.
//! * [`authorize()`]: on every request, whether the proof is fresh or cached: validity period,
//!   realm, audience, scopes, roles, binding, key still published.
//!
//! ```
//! use std::sync::Arc;
//! use vidimus::check::{self, *};
//!
//! # fn judge(token: &str, jwks: &[u8], now: UnixTime) -> Result<(), Denial> {
//! let mut rules = RealmRules::new("https://id.example.com/realms/shop");
//! rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
//! let mut realms = Realms::new(vec![rules]).expect("no issuer stands twice");
//! realms.set_keys(0, KeySet::parse(jwks).expect("a JWKS"), now);
//! let policy = Arc::new(Policy::new("default", vec![0]));
//!
//! match check::verify(RawToken::new(token), &policy, &realms, Limits::default(), now) {
//!     Verification::Verified(proof) => {
//!         let grant = check::authorize(&Arc::new(proof), &policy, &realms, &NoCertificate, now)?;
//!         println!("welcome, {:?}", grant.subject());
//!         Ok(())
//!     }
//!     Verification::Needs(lookup) => panic!("fetch the keys of realm {} again", lookup.realm),
//!     Verification::Introspect { realm } => panic!("ask realm {realm} about the token"),
//!     Verification::Reject { denial, .. } => Err(denial),
//! }
//! # }
//! ```

mod authorize;
mod binding;
mod claims;
mod decision;
mod facts;
mod forgeries;
mod identity;
mod identity_headers;
mod introspection;
mod json;
mod keys;
mod policy;
mod realm;
mod time;
mod token;
mod verify;
#[cfg(test)]
mod wycheproof;

pub use authorize::{Grant, authorize};
pub use binding::{
    BindingRule, Bound, CertificateError, ClientCertificate, Confirmation, NoCertificate,
    Thumbprint,
};
pub use claims::{Claims, ClaimsError, TokenForm, TokenKind};
pub use decision::{Answer, Challenge, Decision, Denial, Refusal};
pub use facts::Facts;
pub use forgeries::Forgeries;
pub use identity::ClaimPath;
pub use identity_headers::IdentityHeaders;
pub use introspection::{
    Introspected, IntrospectionRules, Reply, ReplyError, UseFor, introspected,
};
pub use json::{Json, JsonError, JsonLimits, JsonRef};
pub use keys::{Algorithm, Key, KeyId, KeySet, KeySetError, Skipped};
pub use policy::{Policy, Role};
pub use realm::{AudienceRule, Realm, RealmRules, Realms, SameIssuer};
pub use time::UnixTime;
#[cfg(feature = "gate")]
pub(crate) use token::TokenKey;
pub use token::{Limits, OwnedToken, RawToken, TokenDigest};
pub use verify::{Lookup, Verification, Verified, verify, verify_unless_slow};
