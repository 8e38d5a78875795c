//! What a token says, with exact types.
//!
//! A claim that is looked at and has the wrong type makes the token malformed; it is never taken for
//! absent (CVE-2026-25537 is what happens otherwise). Claims that are not looked at may be anything.

use serde_json::{Map, Value};

use super::{Confirmation, Denial, UnixTime};

/// The kinds of token that may be borne (Keycloak's `TokenUtil`): everything else, ID and refresh
/// tokens among them, bears another `typ`, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `Bearer`, in any case.
    Bearer,
    /// `DPoP`: bound to a key, which `cnf` names.
    DPoP,
}

/// A list of texts, as small as it can be kept.
type Names = Box<[Box<str>]>;

/// The claims of a token (RFC 7519 §4.1, RFC 9068 §2.2, Keycloak's `AccessToken`).
#[derive(Debug)]
pub struct Claims {
    pub(super) issuer: Box<str>,
    pub(super) expires: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) issued_at: Option<UnixTime>,
    pub(super) kind: TokenKind,
    pub(super) audience: Names,
    pub(super) scopes: Names,
    pub(super) realm_roles: Names,
    pub(super) client_roles: Box<[(Box<str>, Names)]>,
    pub(super) confirmation: Confirmation,
    all: Map<String, Value>,
}

impl Claims {
    /// Reads claims out of a payload whose signature may not have been checked yet.
    pub(super) fn read(all: Map<String, Value>) -> Result<Self, Denial> {
        for name in ["sub", "azp", "jti", "sid"] {
            text(&all, name)?;
        }
        Ok(Self {
            issuer: text(&all, "iss")?.ok_or(Denial::Issuer)?.into(),
            kind: match text(&all, "typ")? {
                Some(kind) if kind.eq_ignore_ascii_case("Bearer") => TokenKind::Bearer,
                Some(kind) if kind.eq_ignore_ascii_case("DPoP") => TokenKind::DPoP,
                _ => return Err(Denial::TokenType),
            },
            expires: time(&all, "exp", f64::floor)?.ok_or(Denial::ExpiryMissing)?,
            not_before: time(&all, "nbf", f64::ceil)?,
            issued_at: time(&all, "iat", f64::ceil)?,
            audience: match all.get("aud") {
                None => Box::default(),
                Some(Value::String(one)) => Box::new([one.as_str().into()]),
                Some(list) => texts(list)?,
            },
            scopes: text(&all, "scope")?
                .map(|scopes| scopes.split(' ').filter(|s| !s.is_empty()).map(Into::into).collect())
                .unwrap_or_default(),
            realm_roles: match all.get("realm_access") {
                None => Box::default(),
                Some(access) => roles(access)?,
            },
            client_roles: match all.get("resource_access") {
                None => Box::default(),
                Some(Value::Object(clients)) => clients
                    .iter()
                    .map(|(client, access)| Ok((client.as_str().into(), roles(access)?)))
                    .collect::<Result<_, Denial>>()?,
                Some(_) => return Err(Denial::ClaimMalformed),
            },
            confirmation: Confirmation::read(all.get("cnf")),
            all,
        })
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `exp`.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Claim `typ`.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// `aud`; empty if the token has none.
    pub fn audience(&self) -> impl Iterator<Item = &str> {
        self.audience.iter().map(AsRef::as_ref)
    }

    /// `scope`, split at spaces (RFC 6749 §3.3).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(AsRef::as_ref)
    }

    /// A claim by its exact name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }

    /// All claims, as they stand in the token.
    pub fn all(&self) -> &Map<String, Value> {
        &self.all
    }

    pub(super) fn has_realm_role(&self, role: &str) -> bool {
        self.realm_roles.iter().any(|held| **held == *role)
    }

    pub(super) fn has_client_role(&self, client: &str, role: &str) -> bool {
        let mut clients = self.client_roles.iter().filter(|(name, _)| **name == *client);
        clients.any(|(_, roles)| roles.iter().any(|held| **held == *role))
    }

    /// About how many bytes of memory this holds, for the cache's bound.
    pub fn memory(&self) -> usize {
        let list = |texts: &[Box<str>]| texts.iter().map(|t| t.len() + 24).sum::<usize>();
        let clients = self.client_roles.iter().map(|(name, roles)| name.len() + 40 + list(roles));
        size_of::<Self>()
            + self.issuer.len()
            + [&self.audience, &self.scopes, &self.realm_roles]
                .map(|texts| list(texts))
                .iter()
                .sum::<usize>()
            + clients.sum::<usize>()
            + members(&self.all)
    }
}

fn text<'a>(all: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Denial> {
    match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Denial::ClaimMalformed),
    }
}

fn texts(value: &Value) -> Result<Names, Denial> {
    let list = value.as_array().ok_or(Denial::ClaimMalformed)?;
    list.iter().map(|item| item.as_str().map(Into::into).ok_or(Denial::ClaimMalformed)).collect()
}

/// `{"roles": ["a", "b"]}`; Keycloak may add `verify_caller` and leaves `roles` out when empty.
fn roles(access: &Value) -> Result<Names, Denial> {
    let access = access.as_object().ok_or(Denial::ClaimMalformed)?;
    access.get("roles").map_or_else(|| Ok(Box::default()), texts)
}

/// A `NumericDate` may have a fraction (RFC 7519 §2); it is rounded so that it never helps.
fn time(
    all: &Map<String, Value>,
    name: &str,
    round: fn(f64) -> f64,
) -> Result<Option<UnixTime>, Denial> {
    let Some(value) = all.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(Denial::ClaimMalformed) };
    // `as` saturates from f64 to i64; a u64 beyond i64 comes as f64 too.
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|float| round(float) as i64));
    seconds.map(|seconds| Some(UnixTime::from_secs(seconds))).ok_or(Denial::ClaimMalformed)
}

/// A BTreeMap spends up to about twice its entries; measured against the allocator's own count.
fn members(object: &Map<String, Value>) -> usize {
    const ENTRY: usize = size_of::<(String, Value)>() * 3 / 2;
    object.iter().map(|(name, value)| name.len() + 16 + ENTRY + heap(value)).sum()
}

fn heap(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() + 16,
        Value::Array(list) => list.iter().map(|item| size_of::<Value>() * 3 / 2 + heap(item)).sum(),
        Value::Object(object) => members(object),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(change: Value) -> Result<Claims, Denial> {
        let mut claims = json!({ "iss": "https://id", "typ": "Bearer", "exp": 100 });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Claims::read(claims.as_object().unwrap().clone())
    }

    #[test]
    fn reads_a_keycloak_token() {
        let claims = read(json!({
            "typ": "bearer", "aud": ["orders-api", "account"], "scope": "openid  orders:read",
            "realm_access": { "roles": ["admin"] },
            "resource_access": { "orders-api": { "roles": ["viewer"], "verify_caller": true }, "empty": {} },
            "iat": 1, "nbf": 2, "sub": "alice",
        }))
        .unwrap();
        assert_eq!(claims.kind(), TokenKind::Bearer);
        assert_eq!(claims.audience().collect::<Vec<_>>(), ["orders-api", "account"]);
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["openid", "orders:read"]);
        assert!(claims.has_realm_role("admin") && !claims.has_realm_role("viewer"));
        assert!(claims.has_client_role("orders-api", "viewer"));
        assert!(!claims.has_client_role("account", "viewer"));
        assert_eq!(claims.text("sub"), Some("alice"));
    }

    #[test]
    fn a_wrong_type_is_malformed_never_absent() {
        for change in [
            json!({ "iss": 1 }),
            json!({ "iss": null }),
            json!({ "iss": ["https://id"] }),
            json!({ "exp": "100" }),
            json!({ "exp": null }),
            json!({ "exp": true }),
            json!({ "nbf": "0" }),
            json!({ "iat": [] }),
            json!({ "nbf": {} }),
            json!({ "aud": 1 }),
            json!({ "aud": ["a", 1] }),
            json!({ "aud": {} }),
            json!({ "aud": null }),
            json!({ "scope": ["a"] }),
            json!({ "scope": 1 }),
            json!({ "typ": 1 }),
            json!({ "typ": null }),
            json!({ "realm_access": [] }),
            json!({ "realm_access": { "roles": "admin" } }),
            json!({ "realm_access": { "roles": [1] } }),
            json!({ "resource_access": "x" }),
            json!({ "resource_access": { "a": [] } }),
            json!({ "resource_access": { "a": { "roles": {} } } }),
            json!({ "sub": 1 }),
            json!({ "azp": {} }),
            json!({ "jti": 1 }),
            json!({ "sid": [] }),
        ] {
            assert_eq!(read(change.clone()).err(), Some(Denial::ClaimMalformed), "{change}");
        }
    }

    #[test]
    fn what_must_be_there_has_a_denial_of_its_own() {
        let without = |name: &str| {
            let mut claims = json!({ "iss": "https://id", "typ": "Bearer", "exp": 100 });
            claims.as_object_mut().unwrap().remove(name);
            Claims::read(claims.as_object().unwrap().clone()).err()
        };
        assert_eq!(without("iss"), Some(Denial::Issuer));
        assert_eq!(without("typ"), Some(Denial::TokenType));
        assert_eq!(without("exp"), Some(Denial::ExpiryMissing));
        for kind in ["ID", "Refresh", "Offline", "Logout", "Serialized-ID", "N_A", "", "Bearer "] {
            assert_eq!(read(json!({ "typ": kind })).err(), Some(Denial::TokenType), "{kind}");
        }
    }

    #[test]
    fn times_round_against_the_caller_and_saturate() {
        let claims = read(json!({ "exp": 100.9, "nbf": 10.1, "iat": 10.1 })).unwrap();
        assert_eq!(claims.expires.as_secs(), 100);
        assert_eq!(claims.not_before.unwrap().as_secs(), 11);
        assert_eq!(claims.issued_at.unwrap().as_secs(), 11);
        assert_eq!(read(json!({ "exp": 1e300 })).unwrap().expires.as_secs(), i64::MAX);
        assert_eq!(read(json!({ "exp": u64::MAX })).unwrap().expires.as_secs(), i64::MAX);
        assert_eq!(read(json!({ "exp": -1e300 })).unwrap().expires.as_secs(), i64::MIN);
        assert_eq!(read(json!({ "exp": 0 })).unwrap().expires.as_secs(), 0);
    }

    #[test]
    fn any_cnf_counts_as_one() {
        assert_eq!(read(json!({})).unwrap().confirmation, Confirmation::Absent);
        for cnf in
            [json!({}), json!(null), json!("x"), json!({ "x5t#S256": "A" }), json!({ "jkt": "A" })]
        {
            assert_eq!(read(json!({ "cnf": cnf })).unwrap().confirmation, Confirmation::Present);
        }
    }
}
