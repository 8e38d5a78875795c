//! The forms in which a realm gives an access token to a client.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::key::{KeyError, SigningKey};
use super::store::Store;

/// How much of the claims a token carries itself. Introspection tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All: a signed JWT.
    Full,
    /// Little more than times, client and session: a signed JWT, Keycloak's lightweight access token.
    Lightweight,
    /// None: random characters.
    Opaque,
}

/// What Keycloak leaves in a lightweight token; `cnf` only if it is bound.
const LEFT: [&str; 9] = ["exp", "iat", "jti", "typ", "azp", "scope", "iss", "sid", "cnf"];

impl Form {
    /// Makes a token, and remembers the claims that it does not carry. A lightweight one gets a `jti`
    /// of its own, which stands in the full claims too.
    pub(super) fn mint(
        self,
        mut claims: Value,
        key: &SigningKey,
        store: &Store,
    ) -> Result<String, KeyError> {
        let token = match self {
            Self::Full => return key.sign(&claims),
            Self::Lightweight => {
                set_jti(&mut claims, "onltac")?;
                let left = LEFT.iter().filter_map(|name| Some((*name, claims.get(name)?.clone())));
                key.sign(&left.collect())?
            }
            Self::Opaque => URL_SAFE_NO_PAD.encode(random::<32>()?),
        };
        store.remember(&token, &claims);
        Ok(token)
    }
}

/// Gives claims a `jti` of their own, as Keycloak makes them since 26.2: `onrtac` (online session,
/// regular token, authorization code) or `onltac` (the same with a lightweight token), and a UUID.
pub(super) fn set_jti(claims: &mut Value, kind: &str) -> Result<(), KeyError> {
    let number = u128::from_be_bytes(random()?);
    let number = number & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62; // RFC 9562 §5.4
    let hex = format!("{number:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    let jti = format!("{kind}:{}", parts.join("-"));
    claims.as_object_mut().map(|claims| claims.insert("jti".to_owned(), json!(jti)));
    Ok(())
}

/// Whether these are the claims of a lightweight token.
pub(super) fn is_lightweight(claims: &Value) -> bool {
    claims["jti"].as_str().is_some_and(|jti| jti.starts_with("onltac:"))
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jti_is_a_random_uuid_behind_its_kind() {
        let mut claims = json!({});
        let mut fresh = || {
            set_jti(&mut claims, "onltac").unwrap();
            claims["jti"].as_str().unwrap().to_owned()
        };
        let (one, other) = (fresh(), fresh());
        assert_ne!(one, other);
        let parts: Vec<&str> = one.strip_prefix("onltac:").unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{one}");
    }
}
