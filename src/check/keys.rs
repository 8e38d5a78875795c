//! A JWKS (RFC 7517) as keys that can each do one thing.
//!
//! A [`Key`] is bound to one algorithm when it is read, by its own `alg` or curve and never by a
//! token: this is what makes algorithm confusion (RFC 8725 §2.1) impossible to write. An entry that
//! cannot be used is skipped and counted; one odd entry must not take the realm down.

mod roca;
mod verifier;

use std::fmt;
use std::str::FromStr;

use super::json::{Json, JsonError, JsonLimits, JsonRef};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use ring::digest;

use verifier::{Verifier, Verify as _};

/// The signature algorithms built in (RFC 7518 §3.1, RFC 8037): asymmetric ones, without exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the RFC's own")]
#[non_exhaustive]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    /// Only with the feature `aws-lc`.
    ES512,
    EdDSA,
}

impl Algorithm {
    /// All that this build can verify: a realm's default.
    pub const ALL: &[Self] = &[
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        #[cfg(feature = "aws-lc")]
        Self::ES512,
        Self::EdDSA,
    ];

    /// Their names, as an operator reads them.
    pub fn list() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
        names.join(", ")
    }

    /// As it stands in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl FromStr for Algorithm {
    type Err = ();

    /// Exact: `alg` is case-sensitive (RFC 7515 §4.1.1).
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name).ok_or(())
    }
}

/// SHA-256 over a key's `kid`, algorithm and public part: what a proof remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

/// A public key that verifies signatures of one algorithm.
#[derive(Clone)]
pub struct Key {
    kid: Box<str>,
    algorithm: Algorithm,
    verifier: Verifier,
    slow: bool,
    id: KeyId,
}

#[derive(Clone)]
enum Public {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    /// An uncompressed point (SEC 1 §2.3.3), or the 32 bytes of RFC 8032.
    Point(Box<[u8]>),
}

impl Key {
    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether verifying takes more than about 100 µs: ES384 some 600 with ring, RSA of 8192 bits some 300.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    /// What a proof remembers of it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether `signature` over `message` was made with this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify(message, signature)
    }

    fn read(entry: JsonRef<'_>) -> Result<Self, SkipReason> {
        if entry.get("d").is_some() || entry.get("k").is_some() {
            return Err("it holds a private or symmetric key");
        }
        let jwk: Jwk =
            serde_json::from_str(&entry.to_string()).map_err(|_| "it is not a well-formed JWK")?;
        let common = jwk.common;
        if common.public_key_use.is_some_and(|usage| usage != PublicKeyUse::Signature) {
            return Err("its use is not \"sig\"");
        }
        if common.key_operations.is_some_and(|ops| !ops.contains(&KeyOperations::Verify)) {
            return Err("its key_ops do not hold \"verify\"");
        }
        let kid = common.key_id.ok_or("it has no kid")?;
        let public = Public::read(&jwk.algorithm)?;
        let natural = public.natural_algorithm(&jwk.algorithm);
        let algorithm = match entry.get("alg").map(JsonRef::as_str) {
            None => natural,
            Some(name) => name.unwrap_or("").parse().map_err(|()| "its alg is not supported")?,
        };
        let fits = match (&public, algorithm) {
            (Public::Rsa { .. }, Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512) => true,
            (Public::Rsa { .. }, Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512) => true,
            (Public::Point(_), _) => algorithm == natural,
            (Public::Rsa { .. }, _) => false,
        };
        if !fits {
            return Err("its alg does not fit its kty or crv");
        }
        let id = KeyId::of(&kid, algorithm, &public);
        let slow = public.is_slow(algorithm);
        let verifier = Verifier::new(algorithm, public)?;
        Ok(Self { kid: kid.into(), algorithm, verifier, slow, id })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.algorithm.name(), self.kid)
    }
}

impl Public {
    fn read(parameters: &AlgorithmParameters) -> Result<Self, SkipReason> {
        match parameters {
            AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (unsigned(&rsa.n)?, unsigned(&rsa.e)?);
                let bits =
                    n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
                if !(2048..=8192).contains(&bits) {
                    return Err("its modulus is not of 2048 to 8192 bits");
                }
                let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
                if !odd(&n) || !odd(&e) || e.len() > 4 || *e == [1] {
                    return Err("its modulus or exponent cannot be one of RSA");
                }
                if roca::is_marked(&n) {
                    return Err("its modulus bears the mark of ROCA (CVE-2017-15361): replace it");
                }
                Ok(Self::Rsa { n, e })
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let size = match ec.curve {
                    EllipticCurve::P256 => 32,
                    EllipticCurve::P384 => 48,
                    EllipticCurve::P521 => 66,
                    _ => return Err("its crv is not supported"),
                };
                let (x, y) = (bytes(&ec.x)?, bytes(&ec.y)?);
                if x.len() != size || y.len() != size {
                    return Err("its coordinates have the wrong length"); // RFC 7518 §6.2.1.2
                }
                Ok(Self::Point([&[4][..], &x, &y].concat().into()))
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                let x = bytes(&pair.x)?;
                match (&pair.curve, x.len()) {
                    (EllipticCurve::Ed25519, 32) => Ok(Self::Point(x.into())),
                    (EllipticCurve::Ed25519, _) => Err("its x has the wrong length"),
                    _ => Err("its crv is not supported"),
                }
            }
            _ => Err("its kty is not supported"),
        }
    }

    fn is_slow(&self, algorithm: Algorithm) -> bool {
        const BYTES_OF_4096_BITS: usize = 512;
        match self {
            Self::Rsa { n, .. } => n.len() > BYTES_OF_4096_BITS,
            Self::Point(_) => matches!(algorithm, Algorithm::ES384 | Algorithm::ES512),
        }
    }

    /// The one algorithm of its curve; RS256 for an RSA key without `alg`, as those issuers mean it.
    fn natural_algorithm(&self, parameters: &AlgorithmParameters) -> Algorithm {
        match parameters {
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P521 => Algorithm::ES512,
                EllipticCurve::P384 => Algorithm::ES384,
                _ => Algorithm::ES256,
            },
            AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
            _ => Algorithm::RS256,
        }
    }
}

impl KeyId {
    fn of(kid: &str, algorithm: Algorithm, public: &Public) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(kid.as_bytes());
        part(algorithm.name().as_bytes());
        match public {
            Public::Rsa { n, e } => {
                part(n);
                part(e);
            }
            Public::Point(point) => part(point),
        }
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        Self(id)
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, SkipReason> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "its numbers are not base64url")
}

/// Base64urlUInt (RFC 7518 §2); some issuers write leading zeros, which change nothing.
fn unsigned(text: &str) -> Result<Box<[u8]>, SkipReason> {
    let bytes = bytes(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].into())
}

type SkipReason = &'static str;

/// An entry of a JWKS that cannot verify anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its `kid`, if it has one.
    pub kid: Option<String>,
    /// Why: the end of a sentence that begins "skipped, because".
    pub reason: &'static str,
}

/// The signing keys of one realm.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<Skipped>,
}

/// Why a whole JWKS was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not strict JSON.
    Json(JsonError),
    /// JSON, but not `{"keys": [...]}`.
    NotAKeySet,
    /// None of its entries can verify a signature.
    NoUsableKey(Vec<Skipped>),
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::NotAKeySet => write!(f, "it is not a JWKS: no list \"keys\""),
            Self::NoUsableKey(skipped) if skipped.is_empty() => write!(f, "the JWKS is empty"),
            Self::NoUsableKey(skipped) => {
                write!(f, "none of its {} keys can verify a signature", skipped.len())?;
                for Skipped { kid, reason } in skipped.iter().take(4) {
                    write!(f, "; {:?}: {reason}", kid.as_deref().unwrap_or("no kid"))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for KeySetError {}

impl KeySet {
    /// Reads a JWKS document.
    ///
    /// # Errors
    /// If it is not a JWKS, or holds no usable key. Single entries that cannot be used are
    /// [skipped](Self::skipped).
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let document =
            Json::parse(document.to_vec(), JsonLimits::ISSUER).map_err(KeySetError::Json)?;
        let entries = document.root().get("keys").and_then(JsonRef::items);
        let entries = entries.ok_or(KeySetError::NotAKeySet)?;
        let mut set = Self::default();
        for entry in entries {
            match Key::read(entry) {
                Ok(key) => set.keys.push(key),
                Err(reason) => {
                    let kid = entry.get("kid").and_then(JsonRef::as_str).map(str::to_owned);
                    set.skipped.push(Skipped { kid, reason });
                }
            }
        }
        if set.keys.is_empty() {
            return Err(KeySetError::NoUsableKey(set.skipped));
        }
        Ok(set)
    }

    /// The keys, in the issuer's order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The entries that cannot be used. Keycloak always publishes one with `use: enc`.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Those with this `kid`: usually one, but an issuer may publish two.
    pub fn with_kid(&self, kid: &str) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| *key.kid == *kid)
    }

    /// Whether the key that proved something is still here.
    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether both hold the same keys, in whatever order.
    pub fn same_keys(&self, other: &Self) -> bool {
        let within = |a: &Self, b: &Self| a.keys.iter().all(|key| b.contains(key.id));
        within(self, other) && within(other, self)
    }
}

#[cfg(test)]
mod tests;
