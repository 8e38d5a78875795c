//! The sample tokens: one that is good, and one for each way not to be.

use serde_json::{Value, json};

use super::key::{KeyError, SigningKey};

/// A token to try.
pub struct Sample {
    /// What to ask the issuer for: `sample=NAME`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Where to present it.
    pub path: &'static str,
    change: fn(&mut Value),
    forge: bool,
}

impl Sample {
    /// In the order of the demo's table.
    pub const ALL: [Self; 8] = [
        Self::new("good", "a good token", "/auth", |_| {}),
        Self::new("expired", "expired a minute ago", "/auth", |claims| {
            let issued = claims["iat"].as_i64().unwrap_or(0);
            claims["iat"] = json!(issued - 360);
            claims["exp"] = json!(issued - 60);
        }),
        Self::new("wrong-audience", "for another service", "/auth", |claims| {
            claims["aud"] = json!(["billing-api", "account"]);
        }),
        Self::new("wrong-realm", "of another realm", "/auth", |claims| {
            let issuer = claims["iss"].as_str().unwrap_or("");
            claims["iss"] = json!(
                issuer.rsplit_once('/').map_or("", |(realms, _)| realms).to_owned() + "/other"
            );
        }),
        Self {
            forge: true,
            ..Self::new("forged", "changed after it was signed", "/auth", |claims| {
                claims["preferred_username"] = json!("mallory");
            })
        },
        Self::new("id-token", "an ID token, not an access token", "/auth", |claims| {
            claims["typ"] = json!("ID");
        }),
        Self::new("role-missing", "good, but no role for /auth/admin", "/auth/admin", |_| {}),
        Self::new("admin", "good, with the role for /auth/admin", "/auth/admin", |claims| {
            claims["realm_access"] = json!({ "roles": ["admin"] });
        }),
    ];

    const fn new(
        name: &'static str,
        what: &'static str,
        path: &'static str,
        change: fn(&mut Value),
    ) -> Self {
        Self { name, what, path, change, forge: false }
    }

    /// Makes it.
    ///
    /// # Errors
    /// Without randomness.
    pub fn mint(&self, issuer: &str, key: &SigningKey, now: i64) -> Result<String, KeyError> {
        let good = claims(issuer, now);
        let mut claims = good.clone();
        (self.change)(&mut claims);
        if !self.forge {
            return key.sign(&claims);
        }
        // The signature of the good one under the changed claims.
        let (signed, changed) = (key.sign(&good)?, key.sign(&claims)?);
        let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (signed, changed) = (parts(&signed), parts(&changed));
        Ok(format!("{}.{}.{}", changed[0], changed[1], signed[2]))
    }
}

/// The claims of a Keycloak access token, good for five minutes.
pub fn claims(issuer: &str, now: i64) -> Value {
    json!({
        "exp": now + 300, "iat": now, "jti": "onrtac:5c0ffee5-7a11-4bad-9d00-0123456789ab",
        "iss": issuer, "aud": ["orders-api", "account"],
        "sub": "f1d0ca5e-0000-4000-8000-a11ce0000001", "typ": "Bearer", "azp": "orders-web",
        "sid": "5e551000-0000-4000-8000-000000000001", "acr": "1",
        "allowed-origins": ["https://shop.example.com"],
        "realm_access": { "roles": ["offline_access", "uma_authorization", "default-roles-demo"] },
        "resource_access": {
            "orders-api": { "roles": ["viewer"] },
            "account": { "roles": ["manage-account", "view-profile"] },
        },
        "scope": "openid orders:read email profile", "email_verified": true,
        "name": "Alice Liddell", "preferred_username": "alice", "given_name": "Alice",
        "family_name": "Liddell", "email": "alice@example.com",
    })
}
