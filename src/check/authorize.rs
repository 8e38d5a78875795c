//! On every request, cached or not: does this proof open this door, now?

use std::sync::Arc;

use super::{Bound, Claims, Denial, Policy, RealmRules, Realms, UnixTime, Verified};

/// Permission for one request. Made only by [`authorize()`].
#[derive(Clone, Debug)]
pub struct Grant {
    verified: Arc<Verified>,
    policy: Arc<Policy>,
    realm: Arc<RealmRules>,
    _bound: Bound,
}

impl Grant {
    /// What the token says of its bearer.
    pub fn claims(&self) -> &Claims {
        self.verified.claims()
    }

    /// Under which policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// From which realm.
    pub fn realm(&self) -> &Arc<RealmRules> {
        &self.realm
    }

    /// Every identity header of the policy with its value, safe as a header value whatever the claim
    /// holds. Empty where the claim is missing: it must be sent all the same, so that the edge
    /// overwrites what the client sent under that name.
    pub fn identity(&self) -> impl Iterator<Item = (&str, String)> {
        self.policy.headers.iter().map(|(name, path)| (&**name, path.value(self.claims())))
    }
}

/// Judges a proof against a policy at this moment. Reads like the contract's list, top to bottom.
///
/// # Errors
/// The first rule that does not hold.
pub fn authorize(
    verified: Arc<Verified>,
    policy: &Arc<Policy>,
    realms: &Realms,
    now: UnixTime,
) -> Result<Grant, Denial> {
    let claims = verified.claims();

    // 3. The issuer is a realm of the policy (by name too: places change with the configuration).
    let realm =
        realms.get(verified.realm()).filter(|realm| *realm.rules().issuer == *claims.issuer());
    let realm = realm.filter(|_| policy.accepts_realm(verified.realm())).ok_or(Denial::Issuer)?;

    // 8. The key that proved it is still published, and that is known recently enough.
    let keys = realm.keys(now).ok_or(Denial::KeysUnavailable)?;
    if !keys.contains(verified.key()) {
        return Err(Denial::KeyUnknown);
    }

    // 4. Not expired, not from the future.
    realm.rules().check_times(claims, now)?;

    // 6. Meant for us, and with the rights.
    if !realm.rules().audience.accepts(claims) {
        return Err(Denial::Audience);
    }
    policy.check_rights(claims)?;

    // 7. Its key, if it is bound to one, is the caller's.
    let bound = claims.confirmation.prove()?;

    let (policy, realm) = (Arc::clone(policy), Arc::clone(realm.rules()));
    Ok(Grant { verified, policy, realm, _bound: bound })
}
