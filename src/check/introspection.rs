//! Tokens that do not say enough themselves: when their realm must be asked (RFC 7662), and from its
//! answer to a proof.
//!
//! `active` must be the JSON boolean `true` before anything else of an answer is read (CVE-2026-18208).
//! What it then says is judged like the claims of a token: Keycloak calls an ID token active, too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::realm::without_application;
use super::token::{Jws, object};
use super::verify::{prove, read, signed_by};
use super::{
    Claims, Denial, Json, JsonLimits, JsonRef, KeyId, Limits, Lookup, OwnedToken, Policy, RawToken,
    Realm, RealmRules, Realms, TokenForm, UnixTime, Verification, Verified,
};

/// Which tokens a realm is asked about, and how long its answers are used.
#[derive(Clone, Debug)]
pub struct IntrospectionRules {
    /// Our client at the realm: signed answers must be addressed to it.
    pub client_id: Arc<str>,
    /// Which tokens. Default: opaque and lightweight ones.
    pub use_for: UseFor,
    /// How long an answer "active" is used, and never beyond the token's `exp`. Default 30 s: so long
    /// may a token outlive its session.
    pub cache_ttl: Duration,
    /// How long an answer "not active" is used. Default 5 s.
    pub inactive_ttl: Duration,
    /// Whether the full JWT is asked for, and its claims count where an answer holds one. Default no.
    pub prefer_jwt: bool,
    /// Whether that JWT is kept beside its claims, for policies that want it. Default no.
    pub keep_jwt: bool,
}

/// Which tokens a realm is asked about. Default: opaque and lightweight ones.
///
/// Each field speaks for itself: with `all` and without `opaque` opaque tokens are refused unasked. The file
/// and the builder read `all` as the other two besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseFor {
    /// Those that are no JWS.
    pub opaque: bool,
    /// Those that verify and lack a claim that the policy needs.
    pub lightweight: bool,
    /// Every token that verifies: for those who want a revocation to count within `cache_ttl`.
    pub all: bool,
}

impl Default for UseFor {
    fn default() -> Self {
        Self { opaque: true, lightweight: true, all: false }
    }
}

impl IntrospectionRules {
    /// The defaults for a client.
    pub fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.into(),
            use_for: UseFor::default(),
            cache_ttl: Duration::from_secs(30),
            inactive_ttl: Duration::from_secs(5),
            prefer_jwt: false,
            keep_jwt: false,
        }
    }
}

/// Whether a token that verifies says too little for this policy, so that its realm must be asked.
///
/// A token that calls itself regular never is, whatever it lacks: it was issued to somebody else.
/// One that does not say is taken for lightweight if Keycloak's four largest claims are all missing,
/// and else only if the very claim that the policy asks for is not there.
pub(super) fn wants_introspection(rules: &RealmRules, policy: &Policy, claims: &Claims) -> bool {
    let Some(introspection) = &rules.introspection else { return false };
    let satisfied = || rules.audience.accepts(claims) && policy.is_satisfied(claims);
    let stripped =
        || !claims.has_audience() && !claims.has_access() && claims.text("sub").is_none();
    introspection.use_for.all
        || introspection.use_for.lightweight
            && match claims.form() {
                TokenForm::Regular => false,
                TokenForm::Lightweight => !satisfied(),
                TokenForm::Unmarked if stripped() => !satisfied(),
                TokenForm::Unmarked => match rules.audience.accepts(claims) {
                    true => policy.lacks_claim(claims),
                    false => !claims.has_audience(),
                },
            }
}

/// What a realm answered about a token, as far as it can be read without keys.
#[derive(Clone, Debug)]
pub enum Reply {
    /// `{"active": false}`.
    Inactive,
    /// `"active": true`, and what the realm says of the token.
    Active(Json),
    /// A signed answer (RFC 9701), not verified yet.
    Signed(OwnedToken),
}

/// Why an answer cannot be used. It is the realm's fault, never the token's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// Not strict JSON, or no object with a boolean `active`.
    Malformed,
    /// A signed answer is not a JWS of this realm for us, or its signature is bad.
    Signature,
    /// It is about another token: something on the way mixes answers up.
    OtherToken,
    /// The full JWT in it does not verify, or does not fit the claims beside it.
    Jwt,
}

impl ReplyError {
    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::OtherToken => "other_token",
            Self::Jwt => "jwt",
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "its answer is no JSON object with `active`: true or false",
            Self::Signature => {
                "its signed answer is not a JWS of this realm, addressed to our client, made now"
            }
            Self::OtherToken => {
                "its answer is about another token: something on the way mixes them up"
            }
            Self::Jwt => {
                "the full JWT in its answer does not verify by the realm's keys and rules, or does not fit \
                 the claims beside it (which algorithm does our client have for access tokens?)"
            }
        })
    }
}

impl std::error::Error for ReplyError {}

impl Reply {
    /// Reads a JSON answer (RFC 7662 §2.2).
    ///
    /// # Errors
    /// [`ReplyError::Malformed`].
    pub fn json(body: Vec<u8>) -> Result<Self, ReplyError> {
        Json::parse(body, JsonLimits::ISSUER).map_err(|_| ReplyError::Malformed).and_then(Self::of)
    }

    /// Takes a signed answer (RFC 9701 §5): `application/token-introspection+jwt`.
    ///
    /// # Errors
    /// [`ReplyError::Malformed`].
    pub fn signed(body: &[u8]) -> Result<Self, ReplyError> {
        let text = std::str::from_utf8(body).map_err(|_| ReplyError::Malformed)?;
        Ok(Self::Signed(RawToken::new(text.trim_ascii()).to_owned()))
    }

    fn of(answer: Json) -> Result<Self, ReplyError> {
        match answer.root().get("active").and_then(JsonRef::as_bool) {
            Some(true) => Ok(Self::Active(answer)),
            Some(false) => Ok(Self::Inactive),
            None => Err(ReplyError::Malformed),
        }
    }
}

/// What follows from an answer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per answer, and moved once")]
pub enum Introspected {
    /// The token is active: this is the proof.
    Active(Verified),
    /// It is not.
    Inactive,
    /// It is called active and still no access token of this realm.
    Refused(Denial),
    /// A part of the answer is signed with a key that is not known. Ask for it, then read again, once.
    Needs(Lookup),
}

/// Answers may hold more than tokens do, which is why there are lightweight ones.
const ANSWER_LIMITS: Limits = Limits { token: 1024 * 1024 };

/// A signed answer is made for one question. Old ones are replays.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Reads the answer of the realm at `place` about a token; `presented` is what the token's own
/// signature proves, if it is a JWS.
///
/// # Errors
/// If the answer cannot be used: then nothing is known about the token.
pub fn introspected(
    reply: &Reply,
    presented: Option<&Verified>,
    place: usize,
    realms: &Realms,
    now: UnixTime,
) -> Result<Introspected, ReplyError> {
    let Some(realm) = realms.get(place) else {
        return Ok(Introspected::Refused(Denial::Issuer));
    };
    let answer = match reply {
        Reply::Inactive => return Ok(Introspected::Inactive),
        Reply::Active(answer) => answer.clone(),
        Reply::Signed(jws) => match open(jws.as_raw(), place, realm, now)? {
            Opened::Needs(lookup) => return Ok(Introspected::Needs(lookup)),
            Opened::Reply(Reply::Active(answer)) => answer,
            Opened::Reply(_) => return Ok(Introspected::Inactive),
        },
    };
    let jti = answer.root().get("jti").and_then(JsonRef::as_str);
    let own = presented.and_then(|token| token.claims().text("jti"));
    if own.is_some_and(|own| jti.is_some_and(|jti| jti != own)) {
        return Err(ReplyError::OtherToken);
    }
    let key = presented.and_then(Verified::key);
    active(answer, key, place, realm, now)
}

/// An answer that says `active`, judged like a token's claims.
fn active(
    answer: Json,
    key: Option<KeyId>,
    place: usize,
    realm: &Realm,
    now: UnixTime,
) -> Result<Introspected, ReplyError> {
    let rules = realm.rules();
    let asked = rules.introspection.as_ref().is_some_and(|rules| rules.prefer_jwt);
    let jwt = match answer.root().get("jwt").filter(|_| asked) {
        None => None,
        Some(jwt) => Some(RawToken::new(jwt.as_str().ok_or(ReplyError::Jwt)?).to_owned()),
    };
    let read_answer = || {
        let told = Claims::read_answer(answer)?;
        if told.issuer() != &*rules.issuer {
            return Err(Denial::Issuer);
        }
        rules.check_times(&told, now).map(|()| told)
    };
    let told = match read_answer() {
        Ok(told) => told,
        Err(denial) => return Ok(Introspected::Refused(denial)),
    };
    match jwt {
        None => Ok(Introspected::Active(Verified::told(place, key, told, None))),
        Some(jwt) => full(jwt, told, key, place, realm, now),
    }
}

/// Keycloak's `Accept: application/jwt`: the full token beside its claims, verified like any other. If it
/// is not good, the realm's answer is not, whatever the token that was presented.
fn full(
    jwt: OwnedToken,
    told: Claims,
    key: Option<KeyId>,
    place: usize,
    realm: &Realm,
    now: UnixTime,
) -> Result<Introspected, ReplyError> {
    let rules = realm.rules();
    let bad = |_: Denial| ReplyError::Jwt;
    let (jws, claims) = read(jwt.as_raw(), ANSWER_LIMITS).map_err(bad)?;
    if claims.issuer() != &*rules.issuer {
        return Err(ReplyError::Jwt);
    }
    // Its header type is that of our own client, not of the one that obtained the token.
    let kind = jws.header.kind();
    if !rules.accepts_header_type(kind) && !is_plain_jwt(kind) {
        return Err(ReplyError::Jwt);
    }
    match prove(jws, claims, place, realm, now).map_err(bad)? {
        Verification::Needs(lookup) => Ok(Introspected::Needs(lookup)),
        Verification::Verified(full) => {
            let key = key.or_else(|| full.key());
            let mut claims = full.into_claims();
            // Neither may be laxer than the other.
            if claims.confirmation != told.confirmation || claims.text("jti") != told.text("jti") {
                return Err(ReplyError::Jwt);
            }
            claims.expires = claims.expires.min(told.expires);
            let keep = rules.introspection.as_ref().is_some_and(|rules| rules.keep_jwt);
            let jwt = keep.then_some(jwt);
            Ok(Introspected::Active(Verified::told(place, key, claims, jwt)))
        }
        Verification::Reject { .. } | Verification::Introspect { .. } => Err(ReplyError::Jwt),
    }
}

fn is_plain_jwt(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| without_application(kind).eq_ignore_ascii_case("JWT"))
}

enum Opened {
    Reply(Reply),
    Needs(Lookup),
}

/// Takes a signed answer apart (RFC 9701 §5): by a key of this realm, for us, made now.
fn open(
    jws: RawToken<'_>,
    place: usize,
    realm: &Realm,
    now: UnixTime,
) -> Result<Opened, ReplyError> {
    let bad = |_: Denial| ReplyError::Signature;
    let rules = realm.rules();
    let Jws { header, payload, signature, signed } = Jws::parse(jws, ANSWER_LIMITS).map_err(bad)?;
    let kind = header.kind().map(without_application);
    let is_answer = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("token-introspection+jwt"));
    let kid = header.key_id().ok_or(ReplyError::Signature)?;
    if !is_answer || !rules.algorithms.contains(&header.algorithm) {
        return Err(ReplyError::Signature);
    }
    let needs =
        |has_keys| Ok(Opened::Needs(Lookup { realm: place, kid: kid.to_owned(), has_keys }));
    let Some(keys) = realm.keys(now) else { return needs(false) };
    match signed_by(keys, kid, header.algorithm, signed, &signature) {
        None => return needs(true),
        Some(verified) => verified.map(drop).map_err(bad)?,
    }

    let payload = object(payload).map_err(bad)?;
    let member = |name: &str| payload.root().get(name);
    let client = rules.introspection.as_ref().map_or("", |rules| &rules.client_id);
    let for_us = |aud: JsonRef<'_>| {
        let listed = aud.items().is_some_and(|mut all| all.any(|one| one.as_str() == Some(client)));
        listed || aud.as_str() == Some(client)
    };
    let made_now = |iat: i64| {
        let iat = UnixTime::from_secs(iat);
        iat <= now.after(rules.leeway) && iat.after(MAX_AGE) >= now.before(rules.leeway)
    };
    let good = member("iss").and_then(JsonRef::as_str) == Some(&*rules.issuer)
        && member("aud").is_some_and(for_us)
        && member("iat").and_then(JsonRef::as_i64).is_some_and(made_now);
    if !good {
        return Err(ReplyError::Signature);
    }
    let answer = member("token_introspection").ok_or(ReplyError::Malformed)?;
    Reply::json(answer.to_string().into_bytes()).map(Opened::Reply)
}
