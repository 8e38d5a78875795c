//! Once per token: from bytes to a proof.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::identity_headers::Prepared;
use super::token::{Jws, object};
use super::{
    Algorithm, Claims, Denial, IdentityHeaders, KeyId, KeySet, Limits, OwnedToken, Policy,
    RawToken, Realm, RealmRules, Realms, UnixTime,
};

/// Proof that a key which a realm published has signed these claims.
///
/// Made only here, from a signature, and in `introspection.rs`, from what the realm itself said. It
/// remembers realm and key, so that withdrawing the key withdraws the proof. It says nothing of time or
/// rights: [`authorize()`](super::authorize()) judges those every time.
#[derive(Debug)]
pub struct Verified {
    realm: usize,
    key: Option<KeyId>,
    introspected: bool,
    claims: Claims,
    jwt: Option<OwnedToken>,
    identity: Prepared,
}

impl Verified {
    /// The realm at this place has told the claims; with the key that signed the token, if it is a JWS,
    /// and the full JWT that came with the answer, if a policy wants it.
    pub(super) fn told(
        realm: usize,
        key: Option<KeyId>,
        claims: Claims,
        jwt: Option<OwnedToken>,
    ) -> Self {
        Self { realm, key, introspected: true, claims, jwt, identity: Prepared::default() }
    }

    /// The place of its realm.
    pub fn realm(&self) -> usize {
        self.realm
    }

    /// The key that signed the token; nothing if it is opaque.
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Whether the realm was asked about it (RFC 7662).
    pub fn introspected(&self) -> bool {
        self.introspected
    }

    /// The full JWT that introspection gave for it.
    pub(super) fn jwt(&self) -> Option<&OwnedToken> {
        self.jwt.as_ref()
    }

    /// The values of these headers.
    pub(super) fn identity(&self, headers: &IdentityHeaders) -> Arc<[HeaderValue]> {
        self.identity.values(headers, &self.claims)
    }

    /// About how many bytes of memory it takes, with values for the usual headers.
    pub fn memory(&self) -> usize {
        const IDENTITY: usize = 512;
        IDENTITY + self.claims.memory() + self.jwt.as_ref().map_or(0, |jwt| jwt.as_raw().len())
    }

    /// What it is made of, for the answer it came with.
    pub(super) fn into_claims(self) -> Claims {
        self.claims
    }

    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// What [`verify()`] found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per token, and moved once")]
pub enum Verification {
    /// A proof.
    Verified(Verified),
    /// It cannot be said without this. Ask for it, then verify again, once.
    Needs(Lookup),
    /// It is opaque: ask the realm at this place about it (RFC 7662).
    Introspect {
        /// The place of the realm.
        realm: usize,
    },
    /// No, whatever may be fetched.
    Reject {
        /// Which rule.
        denial: Denial,
        /// The place of the realm the token claims, unproven, to be from.
        realm: Option<usize>,
    },
}

/// The keys of a realm, fetched anew.
#[derive(PartialEq, Eq)]
pub struct Lookup {
    /// The place of the realm.
    pub realm: usize,
    /// The `kid` that is missing. Chosen by the sender: not for logs or metrics.
    pub kid: String,
    /// Whether the realm has usable keys at all.
    pub has_keys: bool,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// Verifies a token under a policy.
///
/// Every rule that costs little comes before the signature, so that forgeries cost little: shape,
/// header, claims, issuer, algorithm, times, key. None of them can make a token pass.
pub fn verify(
    token: RawToken<'_>,
    policy: &Policy,
    realms: &Realms,
    limits: Limits,
    now: UnixTime,
) -> Verification {
    match Unproven::read(token, policy, realms, limits) {
        Ok(unproven) => unproven.prove(now),
        Err(refused) => refused.found(policy, realms),
    }
}

/// The same, unless the signature is one that takes long ([`Key::is_slow`](super::Key::is_slow)): then whoever
/// asks may have it verified where nobody else waits.
///
/// # Errors
/// If it is: the place of the realm whose key it is.
pub fn verify_unless_slow(
    token: RawToken<'_>,
    policy: &Policy,
    realms: &Realms,
    limits: Limits,
    now: UnixTime,
) -> Result<Verification, usize> {
    match Unproven::read(token, policy, realms, limits) {
        Ok(unproven) if unproven.is_slow(now) => Err(unproven.place),
        Ok(unproven) => Ok(unproven.prove(now)),
        Err(refused) => Ok(refused.found(policy, realms)),
    }
}

/// Before any key was looked for.
struct Refused {
    denial: Denial,
    realm: Option<usize>,
}

impl Refused {
    fn found(self, policy: &Policy, realms: &Realms) -> Verification {
        match self {
            Self { denial: Denial::Opaque, .. } => opaque(policy, realms),
            Self { denial, realm } => Verification::Reject { denial, realm },
        }
    }
}

/// A well-formed token of a realm that the policy accepts.
struct Unproven<'a> {
    jws: Jws<'a>,
    claims: Claims,
    place: usize,
    realm: &'a Realm,
}

impl<'a> Unproven<'a> {
    fn read(
        token: RawToken<'a>,
        policy: &Policy,
        realms: &'a Realms,
        limits: Limits,
    ) -> Result<Self, Refused> {
        let (jws, claims) =
            read(token, limits).map_err(|denial| Refused { denial, realm: None })?;
        let place = realms.place_of(claims.issuer()).filter(|place| policy.accepts_realm(*place));
        let Some((place, realm)) = place.and_then(|place| Some((place, realms.get(place)?))) else {
            return Err(Refused { denial: Denial::Issuer, realm: None });
        };
        if !realm.rules().accepts_header_type(jws.header.kind()) {
            return Err(Refused { denial: Denial::HeaderType, realm: Some(place) });
        }
        Ok(Self { jws, claims, place, realm })
    }

    /// Whether proving it takes long. What is refused before its signature does not.
    fn is_slow(&self, now: UnixTime) -> bool {
        let Self { jws: Jws { header, .. }, claims, realm, .. } = self;
        let allowed = check_before_signature(header.algorithm, claims, realm.rules(), now);
        let keys = header.key_id().zip(realm.keys(now)).filter(|_| allowed.is_ok());
        keys.is_some_and(|(kid, keys)| {
            keys.with_kid(kid).any(|key| key.is_slow() && key.algorithm() == header.algorithm)
        })
    }

    fn prove(self, now: UnixTime) -> Verification {
        let Self { jws, claims, place, realm } = self;
        prove(jws, claims, place, realm, now)
            .unwrap_or_else(|denial| Verification::Reject { denial, realm: Some(place) })
    }
}

fn opaque(policy: &Policy, realms: &Realms) -> Verification {
    let asked = policy.introspect_realm.filter(|place| policy.accepts_realm(*place));
    let rules = |place: usize| realms.get(place)?.rules().introspection.as_ref();
    match asked.filter(|place| rules(*place).is_some_and(|rules| rules.use_for.opaque)) {
        Some(realm) => Verification::Introspect { realm },
        None => Verification::Reject { denial: Denial::Opaque, realm: None },
    }
}

pub(super) fn read(token: RawToken<'_>, limits: Limits) -> Result<(Jws<'_>, Claims), Denial> {
    let mut jws = Jws::parse(token, limits)?;
    let claims = Claims::read(object(std::mem::take(&mut jws.payload))?)?;
    Ok((jws, claims))
}

pub(super) fn prove(
    jws: Jws<'_>,
    claims: Claims,
    place: usize,
    realm: &Realm,
    now: UnixTime,
) -> Result<Verification, Denial> {
    let Jws { header, signature, signed, .. } = jws;
    let rules = realm.rules();
    check_before_signature(header.algorithm, &claims, rules, now)?;

    let kid = header.key_id().ok_or(Denial::KeyIdMissing)?;
    let needs =
        |has_keys| Verification::Needs(Lookup { realm: place, kid: kid.to_owned(), has_keys });
    let Some(keys) = realm.keys(now) else {
        return Ok(needs(false));
    };
    match signed_by(keys, kid, header.algorithm, signed, &signature) {
        Some(Ok(key)) => Ok(Verification::Verified(Verified {
            realm: place,
            key: Some(key),
            introspected: false,
            claims,
            jwt: None,
            identity: Prepared::default(),
        })),
        Some(Err(denial)) => Err(denial),
        None => Ok(needs(true)),
    }
}

fn check_before_signature(
    algorithm: Algorithm,
    claims: &Claims,
    rules: &RealmRules,
    now: UnixTime,
) -> Result<(), Denial> {
    if !rules.algorithms.contains(&algorithm) {
        return Err(Denial::AlgorithmForbidden);
    }
    rules.check_times(claims, now)
}

/// The key that signed, among those with this `kid`; nothing if there are none.
pub(super) fn signed_by(
    keys: &KeySet,
    kid: &str,
    algorithm: Algorithm,
    signed: &[u8],
    signature: &[u8],
) -> Option<Result<KeyId, Denial>> {
    let mut denial = None;
    for key in keys.with_kid(kid) {
        if key.algorithm() != algorithm {
            denial = denial.or(Some(Denial::KeyAlgorithm));
        } else if key.verify(signed, signature) {
            return Some(Ok(key.id()));
        } else {
            denial = Some(Denial::Signature);
        }
    }
    denial.map(Err)
}
