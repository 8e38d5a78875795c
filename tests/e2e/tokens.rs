//! Tokens as an attacker changes them. Signatures stay what they were.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    read(part(token, 1))
}

/// How it is signed.
pub(crate) fn algorithm(token: &str) -> String {
    read(part(token, 0))["alg"].as_str().unwrap_or_default().to_owned()
}

/// The key that signed it.
pub(crate) fn kid(token: &str) -> String {
    read(part(token, 0))["kid"].as_str().unwrap_or_default().to_owned()
}

/// The same claims under `alg: none`, without a signature.
pub(crate) fn unsigned(token: &str) -> String {
    let mut header = read(part(token, 0));
    header["alg"] = "none".into();
    format!("{}.{}.", write(&header), part(token, 1))
}

/// With another `kid`.
pub(crate) fn of_key(token: &str, kid: &str) -> String {
    let mut header = read(part(token, 0));
    header["kid"] = kid.into();
    format!("{}.{}.{}", write(&header), part(token, 1), part(token, 2))
}

/// What looks like a token of this issuer, of a key that nobody has.
pub(crate) fn made_up(issuer: &str) -> String {
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "never-was" });
    let claims = json!({ "iss": issuer, "typ": "Bearer", "exp": 4_000_000_000_u64 });
    format!("{}.{}.{}", write(&header), write(&claims), BASE64URL.encode([7; 64]))
}

/// Two parts of a JWS whose header lacks `alg`. Keycloak answers 400 to it.
pub(crate) fn without_algorithm(number: u64) -> String {
    format!("{}.{}", write(&json!({ "number": number })), write(&json!({})))
}

/// With another claim.
pub(crate) fn with_claim(token: &str, name: &str, value: Value) -> String {
    let mut claims = claims(token);
    claims[name] = value;
    format!("{}.{}.{}", part(token, 0), write(&claims), part(token, 2))
}

/// The identity headers that the service must get for this token, in the form of
/// [`Arrived::identity`](crate::service::Arrived::identity); of what is missing it gets none.
pub(crate) fn identity(token: &str) -> Vec<String> {
    identity_of(&claims(token))
}

/// The same for these claims.
pub(crate) fn identity_of(claims: &Value) -> Vec<String> {
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let roles = claims["realm_access"]["roles"].as_array().into_iter().flatten();
    let roles: Vec<&str> = roles.filter_map(Value::as_str).collect();
    let mut identity: Vec<String> = [
        ("user", text("sub")),
        ("preferred-username", text("preferred_username")),
        ("email", text("email")),
        ("client", text("azp")),
        ("scope", text("scope")),
        ("roles", roles.join(",")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| format!("{name}={value}"))
    .collect();
    identity.sort();
    identity
}

/// The same bytes, spelt otherwise: the last character has bits that belong to none of them (RFC 4648
/// §3.5), if the signature is 256 bytes long.
pub(crate) fn respelt(token: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = token.split_at(token.len() - 1);
    let place = ALPHABET.find(last).expect("base64url") ^ 1;
    format!("{rest}{}", &ALPHABET[place..=place])
}

/// One of the three parts, as it stands.
pub(crate) fn part(token: &str, place: usize) -> &str {
    token.split('.').nth(place).expect("a token has three parts")
}

fn read(part: &str) -> Value {
    let json = BASE64URL.decode(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

fn write(json: &Value) -> String {
    BASE64URL.encode(json.to_string())
}
