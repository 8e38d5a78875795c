//! The sample tokens: one that is good, and one for each way not to be.

use serde_json::{Value, json};

use super::form::{Form, set_jti};
use super::introspection::INTROSPECTOR;
use super::key::{KeyError, SigningKey};
use super::store::Store;
use crate::check::Thumbprint;

/// A token to try.
pub struct Sample {
    /// What to ask the issuer for: `sample=NAME`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Where to present it.
    pub path: &'static str,
    /// How much of its claims it carries.
    pub form: Form,
    change: fn(&mut Value),
    forge: bool,
    ended: bool,
    /// Whether it is presented with the client's certificate.
    pub certificate: bool,
}

/// SHA-256 of the client's certificate: RFC 8705's own example, appendix A.
pub const CERTIFICATE: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

impl Sample {
    /// In the order of the demo's table.
    pub const ALL: [Self; 13] = [
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
        Self {
            form: Form::Opaque,
            ..Self::new("opaque", "an opaque token", "/auth", introspected)
        },
        Self {
            form: Form::Lightweight,
            ..Self::new("lightweight", "a lightweight token", "/auth", introspected)
        },
        Self {
            form: Form::Opaque,
            ended: true,
            ..Self::new("logged-out", "opaque, its user has logged out", "/auth", introspected)
        },
        Self {
            certificate: true,
            ..Self::new("bound", "bound to a certificate, and with it", "/auth", bound)
        },
        Self::new("stolen", "bound to a certificate, without it", "/auth", bound),
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
        let (form, forge, ended, certificate) = (Form::Full, false, false, false);
        Self { name, what, path, form, change, forge, ended, certificate }
    }

    /// Makes it, with a `jti` of its own; if it is bound, to this certificate instead of [`CERTIFICATE`].
    pub(super) fn mint(
        &self,
        issuer: &str,
        key: &SigningKey,
        now: i64,
        store: &Store,
        certificate: Option<Thumbprint>,
    ) -> Result<String, KeyError> {
        let mut good = claims(issuer, now);
        set_jti(&mut good, "onrtac")?;
        let mut claims = good.clone();
        (self.change)(&mut claims);
        if let (Some(cnf), Some(certificate)) = (claims.get_mut("cnf"), certificate) {
            cnf["x5t#S256"] = json!(certificate.to_string());
        }
        let token = self.form.mint(claims, key, store)?;
        if self.ended {
            store.end(&token);
        }
        if !self.forge {
            return Ok(token);
        }
        // The signature of the good one under the changed claims.
        let good = key.sign(&good)?;
        let parts = token.rsplit_once('.').zip(good.rsplit_once('.'));
        let ((changed, _), (_, signature)) = parts.ok_or(KeyError)?;
        Ok(format!("{changed}.{signature}"))
    }
}

/// Who introspects a token must be among its audience, or learns nothing of it.
fn introspected(claims: &mut Value) {
    claims["aud"] = json!(["orders-api", INTROSPECTOR.0, "account"]);
}

/// RFC 8705 §3.1.
fn bound(claims: &mut Value) {
    claims["cnf"] = json!({ "x5t#S256": CERTIFICATE });
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
