//! What a token says, with exact types.
//!
//! A claim that is looked at and has the wrong type makes the token malformed; it is never taken for
//! absent (CVE-2026-25537 is what happens otherwise). Claims that are not looked at may be anything.

use std::fmt;

use serde::Deserialize;

use super::{Confirmation, Denial, Json, JsonRef, UnixTime};

/// The kinds of token that may be borne (Keycloak's `TokenUtil`): everything else, ID and refresh
/// tokens among them, bears another `typ`, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `Bearer`, in any case.
    Bearer,
    /// `DPoP`: bound to a key, which `cnf` names.
    DPoP,
}

/// How much of what its issuer knows stands in a Keycloak token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenForm {
    /// All of it.
    Regular,
    /// What the mappers with "Add to lightweight access token" leave; introspection gives the rest.
    Lightweight,
    /// The token does not say: Keycloak before 26.2, or another issuer.
    Unmarked,
}

impl TokenForm {
    /// Since 26.2 an access token's `jti` begins with session, token and grant, two letters each, and
    /// a colon (Keycloak's `DefaultTokenContextEncoderProvider`).
    fn of(jti: &str) -> Self {
        match jti.as_bytes() {
            [_, _, b'l', b't', _, _, b':', ..] => Self::Lightweight,
            [_, _, b'r', b't', _, _, b':', ..] => Self::Regular,
            _ => Self::Unmarked,
        }
    }
}

/// The claims of a token (RFC 7519 §4.1, RFC 9068 §2.2, Keycloak's `AccessToken`).
#[derive(Debug)]
pub struct Claims {
    pub(super) expires: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) issued_at: Option<UnixTime>,
    pub(super) kind: TokenKind,
    pub(super) confirmation: Confirmation,
    pub(super) form: TokenForm,
    all: Json,
    // Where these stand in it; their types have been checked.
    issuer: u32,
    audience: Option<u32>,
    scope: Option<u32>,
    realm_access: Option<u32>,
    resource_access: Option<u32>,
}

impl Claims {
    /// Reads claims out of a payload whose signature may not have been checked yet.
    pub(super) fn read(all: Json) -> Result<Self, Denial> {
        Self::read_with(all, &["typ"])
    }

    /// Reads the answer about an active token (RFC 7662 §2.2). It says what kind of token it is in
    /// `token_type`; Keycloak's also in `typ`. None of them may say anything else.
    pub(super) fn read_answer(all: Json) -> Result<Self, Denial> {
        Self::read_with(all, &["typ", "token_type"])
    }

    fn read_with(all: Json, kinds: &[&str]) -> Result<Self, Denial> {
        let (mut issuer, mut audience, mut scope) = (None, None, None);
        let (mut realm_access, mut resource_access) = (None, None);
        let (mut expires, mut not_before, mut issued_at) = (None, None, None);
        let (mut kind, mut confirmation) = (None, Confirmation::Absent);
        let mut form = TokenForm::Unmarked;
        for (name, value) in all.root().members().ok_or(Denial::TokenMalformed)? {
            match name {
                "iss" => issuer = Some(text(value)?.place()),
                "exp" => expires = Some(time(value, f64::floor)?),
                "nbf" => not_before = Some(time(value, f64::ceil)?),
                "iat" => issued_at = Some(time(value, f64::ceil)?),
                _ if kinds.contains(&name) => {
                    let found = TokenKind::read(value)?;
                    kind = kind.filter(|said| *said == TokenKind::DPoP).or(Some(found));
                }
                "aud" => audience = Some(text(value).or_else(|_| texts(value))?.place()),
                "scope" => scope = Some(text(value)?.place()),
                "realm_access" => realm_access = Some(access(value)?.place()),
                "resource_access" => {
                    for (_, client) in value.members().ok_or(Denial::ClaimMalformed)? {
                        access(client)?;
                    }
                    resource_access = Some(value.place());
                }
                "cnf" => confirmation = Confirmation::read(value),
                "jti" => form = TokenForm::of(value.as_str().ok_or(Denial::ClaimMalformed)?),
                "sub" | "azp" | "sid" => drop(text(value)?),
                _ => {}
            }
        }
        let kind = kind.ok_or(Denial::TokenType)?;
        Ok(Self {
            issuer: issuer.ok_or(Denial::Issuer)?,
            expires: expires.ok_or(Denial::ExpiryMissing)?,
            not_before,
            issued_at,
            kind,
            confirmation,
            form,
            audience,
            scope,
            realm_access,
            resource_access,
            all,
        })
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        self.all.at(self.issuer).as_str().unwrap_or_default()
    }

    /// `exp`.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Claim `typ`.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Whether it is a lightweight token, as far as it says so.
    pub fn form(&self) -> TokenForm {
        self.form
    }

    /// `aud`: one text or a list of them; empty if the token has none.
    pub fn audience(&self) -> impl Iterator<Item = &str> {
        let aud = self.audience.map(|place| self.all.at(place));
        let one = aud.and_then(JsonRef::as_str);
        let many = aud.and_then(JsonRef::items).into_iter().flatten().filter_map(JsonRef::as_str);
        one.into_iter().chain(many)
    }

    /// `scope`, split at spaces (RFC 6749 §3.3).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.scope.and_then(|place| self.all.at(place).as_str());
        scope.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty())
    }

    /// A claim by its exact name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.root().get(name).and_then(JsonRef::as_str)
    }

    /// The roles of `realm_access`.
    pub fn realm_roles(&self) -> impl Iterator<Item = &str> {
        roles(self.realm_access.map(|place| self.all.at(place)))
    }

    /// The roles of `resource_access` at this client.
    pub fn client_roles(&self, client: &str) -> impl Iterator<Item = &str> {
        roles(self.resource_access.and_then(|place| self.all.at(place).get(client)))
    }

    /// All claims as a type of one's own.
    ///
    /// # Errors
    /// If they are not of that type.
    pub fn read_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClaimsError> {
        self.all.read_as().map_err(ClaimsError)
    }

    /// All claims, as they stand in the token.
    pub fn all(&self) -> JsonRef<'_> {
        self.all.root()
    }

    pub(super) fn has_audience(&self) -> bool {
        self.audience.is_some()
    }

    pub(super) fn has_scope(&self) -> bool {
        self.scope.is_some()
    }

    pub(super) fn has_access(&self) -> bool {
        self.realm_access.is_some() || self.resource_access.is_some()
    }

    pub(super) fn has_realm_role(&self, role: &str) -> bool {
        self.realm_roles().any(|held| held == role)
    }

    pub(super) fn has_client_role(&self, client: &str, role: &str) -> bool {
        self.client_roles(client).any(|held| held == role)
    }

    /// About how many bytes of memory this holds, for the cache's bound.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.all.memory()
    }
}

/// The claims are not of the type that was asked for.
pub struct ClaimsError(serde_json::Error);

impl fmt::Display for ClaimsError {
    /// What the type wants, and where; without values, which are somebody's claims.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if let Some((_, wanted)) = text.rsplit_once(", expected ") {
            write!(f, "a claim has another type: expected {wanted}")
        } else if let Some(missing) = text.strip_prefix("missing field `") {
            write!(f, "the token lacks the claim {:?}", missing.split('`').next().unwrap_or(""))
        } else {
            write!(f, "a claim has another type, at column {}", self.0.column())
        }
    }
}

impl fmt::Debug for ClaimsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimsError({self})")
    }
}

impl std::error::Error for ClaimsError {}

impl TokenKind {
    fn read(value: JsonRef<'_>) -> Result<Self, Denial> {
        let kind = value.as_str().ok_or(Denial::ClaimMalformed)?;
        if kind.eq_ignore_ascii_case("Bearer") {
            Ok(Self::Bearer)
        } else if kind.eq_ignore_ascii_case("DPoP") {
            Ok(Self::DPoP)
        } else {
            Err(Denial::TokenType)
        }
    }
}

fn text(value: JsonRef<'_>) -> Result<JsonRef<'_>, Denial> {
    value.as_str().map(|_| value).ok_or(Denial::ClaimMalformed)
}

fn texts(value: JsonRef<'_>) -> Result<JsonRef<'_>, Denial> {
    let mut items = value.items().ok_or(Denial::ClaimMalformed)?;
    items.all(|item| item.as_str().is_some()).then_some(value).ok_or(Denial::ClaimMalformed)
}

/// `{"roles": ["a", "b"]}`; Keycloak may add `verify_caller` and leaves `roles` out when empty.
fn access(value: JsonRef<'_>) -> Result<JsonRef<'_>, Denial> {
    value.members().map(drop).ok_or(Denial::ClaimMalformed)?;
    value.get("roles").map_or(Ok(value), |roles| texts(roles).map(|_| value))
}

fn roles(access: Option<JsonRef<'_>>) -> impl Iterator<Item = &str> {
    let roles = access.and_then(|access| access.get("roles")?.items());
    roles.into_iter().flatten().filter_map(JsonRef::as_str)
}

/// A `NumericDate` may have a fraction (RFC 7519 §2); it is rounded so that it never helps.
fn time(value: JsonRef<'_>, round: fn(f64) -> f64) -> Result<UnixTime, Denial> {
    // `as` saturates from f64 to i64; a u64 beyond i64 comes as f64 too.
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|float| round(float) as i64));
    seconds.map(UnixTime::from_secs).ok_or(Denial::ClaimMalformed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{JsonLimits, Thumbprint};
    use super::*;

    fn of(claims: &Value) -> Result<Claims, Denial> {
        let json = Json::parse(claims.to_string().into_bytes(), JsonLimits::TOKEN).unwrap();
        Claims::read(json)
    }

    fn read(change: Value) -> Result<Claims, Denial> {
        let mut claims = json!({ "iss": "https://id", "typ": "Bearer", "exp": 100 });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        of(&claims)
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
            of(&claims).err()
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
    fn a_cnf_is_one_key_that_we_know_or_unknown() {
        let thumbprint = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";
        let certificate = Confirmation::Certificate(Thumbprint::parse(thumbprint).unwrap());
        assert_eq!(read(json!({})).unwrap().confirmation, Confirmation::Absent);
        for (cnf, expected) in [
            (json!({ "x5t#S256": thumbprint }), certificate),
            (json!({ "jkt": "A" }), Confirmation::Key),
            (json!({ "jkt": "A", "kc-jkt-type": "x" }), Confirmation::Key),
            (json!({}), Confirmation::Unknown),
            (json!(null), Confirmation::Unknown),
            (json!("x"), Confirmation::Unknown),
            (json!([thumbprint]), Confirmation::Unknown),
            (json!({ "x5t#S256": "A" }), Confirmation::Unknown),
            (json!({ "x5t#S256": "" }), Confirmation::Unknown),
            (json!({ "x5t#S256": null }), Confirmation::Unknown),
            (json!({ "x5t#S256": [thumbprint] }), Confirmation::Unknown),
            (json!({ "x5t#S256": format!("{thumbprint}=") }), Confirmation::Unknown),
            (json!({ "x5t#s256": thumbprint }), Confirmation::Unknown),
            (json!({ "x5t": thumbprint }), Confirmation::Unknown),
            (json!({ "jkt": 1 }), Confirmation::Unknown),
            (json!({ "kc-jkt-type": "x" }), Confirmation::Unknown),
            (json!({ "x5t#S256": thumbprint, "jkt": "A" }), Confirmation::Unknown),
            (json!({ "x5t#S256": thumbprint, "jwk": {} }), Confirmation::Unknown),
        ] {
            assert_eq!(read(json!({ "cnf": cnf })).unwrap().confirmation, expected, "{cnf}");
        }
    }
}
