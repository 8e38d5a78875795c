//! What the tests ask of Keycloak's realm: tokens, logout, and what an administrator does.
//! The secret of a client is its id with `-secret`; the user is `alice` with the password `alice`.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::keycloak::{ADMIN, Keycloak};

/// What the password grant with `scope=openid` gives.
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) id: String,
    pub(crate) refresh: String,
}

const BY_ITSELF: [(&str, &str); 1] = [("grant_type", "client_credentials")];

impl Keycloak {
    /// An access token that a client gets for itself.
    pub(crate) async fn token(&self, client: &str) -> String {
        self.issued(&self.grant(&self.base, client, &BY_ITSELF).await, "access_token")
    }

    /// The same over https: it is of another issuer.
    pub(crate) async fn secure_token(&self, client: &str) -> String {
        self.issued(&self.grant(&self.secure_base, client, &BY_ITSELF).await, "access_token")
    }

    /// The same with this certificate, to which the token is then bound if the client wants it so.
    pub(crate) async fn bound_token(&self, client: &str, certificate: &str) -> String {
        let tls = self.certificates.client(Some(certificate));
        let http = Client::builder().tls_backend_preconfigured(tls).no_proxy().build();
        let http = http.expect("an HTTP client");
        let answer = self.grant_by(&http, &self.secure_base, client, &BY_ITSELF).await;
        self.issued(&answer, "access_token")
    }

    /// Alice logs in at this client.
    pub(crate) async fn alice(&self, client: &str) -> Tokens {
        let login = [
            ("grant_type", "password"),
            ("scope", "openid"),
            ("username", "alice"),
            ("password", "alice"),
        ];
        let answer = self.grant(&self.base, client, &login).await;
        Tokens {
            access: self.issued(&answer, "access_token"),
            id: self.issued(&answer, "id_token"),
            refresh: self.issued(&answer, "refresh_token"),
        }
    }

    /// She logs out there: her session ends.
    pub(crate) async fn log_out(&self, client: &str, refresh_token: &str) {
        let url = format!("{}/protocol/openid-connect/logout", self.issuer());
        let secret = format!("{client}-secret");
        let form =
            [("client_id", client), ("client_secret", &secret), ("refresh_token", refresh_token)];
        let (status, body) = post(&self.client, &url, &form).await;
        assert!(status.is_success(), "logout: {status} {body}");
    }

    /// An administrator ends all her sessions.
    pub(crate) async fn end_sessions_of_alice(&self) {
        let path = format!("{}/logout", self.path_of_alice().await);
        self.admin(Method::POST, &path, None).await;
    }

    /// An administrator disables her, or enables her again.
    pub(crate) async fn enable_alice(&self, enabled: bool) {
        let path = self.path_of_alice().await;
        let (mut alice, _) = self.admin(Method::GET, &path, None).await;
        alice["enabled"] = enabled.into();
        self.admin(Method::PUT, &path, Some(&alice)).await;
    }

    async fn path_of_alice(&self) -> String {
        let (users, _) = self.admin(Method::GET, "/users?username=alice&exact=true", None).await;
        format!("/users/{}", text(&users[0], "id"))
    }

    /// Adds a generated RS256 key and returns its provider id. From the next token on the highest
    /// priority signs (the realm file's keys have 100); the older keys stay published.
    pub(crate) async fn add_rsa_key(&self, priority: u32) -> String {
        let key = json!({
            "name": format!("rs256-{priority}"),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {
                "algorithm": ["RS256"], "keySize": ["2048"], "priority": [priority.to_string()],
                "enabled": ["true"], "active": ["true"],
            },
        });
        let (_, created) = self.admin(Method::POST, "/components", Some(&key)).await;
        let id = created.rsplit('/').next().unwrap_or_default();
        assert!(!id.is_empty(), "no Location in the answer to a new key");
        id.to_owned()
    }

    /// Deletes a key provider; its key is no longer published when this returns.
    pub(crate) async fn remove_key(&self, provider: &str) {
        self.admin(Method::DELETE, &format!("/components/{provider}"), None).await;
    }

    /// The id of the key that signs with this algorithm now.
    pub(crate) async fn active_kid(&self, algorithm: &str) -> String {
        let (keys, _) = self.admin(Method::GET, "/keys", None).await;
        text(&keys["active"], algorithm)
    }

    /// The provider id of a key, as [`Keycloak::remove_key`] takes it.
    pub(crate) async fn key_provider(&self, kid: &str) -> String {
        let (keys, _) = self.admin(Method::GET, "/keys", None).await;
        let key = keys["keys"].as_array().into_iter().flatten().find(|key| key["kid"] == kid);
        text(key.unwrap_or_else(|| panic!("the realm has no key {kid}")), "providerId")
    }

    /// The admin's access token. It is of realm `master`, and lightweight.
    pub(crate) async fn admin_token(&self) -> String {
        let url = token_endpoint(&self.base, "master");
        let login = [
            ("client_id", "admin-cli"),
            ("grant_type", "password"),
            ("username", ADMIN),
            ("password", ADMIN),
        ];
        let (status, body) = post(&self.client, &url, &login).await;
        assert!(status == StatusCode::OK, "the admin's token: {status} {body}");
        self.issued(&serde_json::from_str(&body).expect("JSON"), "access_token")
    }

    /// One request to the realm's admin API: the answer's body (null if empty) and its `Location`.
    async fn admin(&self, method: Method, path: &str, body: Option<&Value>) -> (Value, String) {
        let token = self.admin_token().await;
        let mut request = self
            .client
            .request(method, format!("{}/admin/realms/shop{path}", self.base))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("Keycloak's admin API");
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        let status = answer.status();
        let body = answer.text().await.expect("a body");
        assert!(status.is_success(), "admin API, {path}: {status} {body}");
        (serde_json::from_str(&body).unwrap_or_default(), location)
    }

    /// One request to the token endpoint; the answer must be 200.
    async fn grant(&self, base: &str, client: &str, terms: &[(&str, &str)]) -> Value {
        self.grant_by(&self.client, base, client, terms).await
    }

    /// The same by another HTTP client.
    async fn grant_by(
        &self,
        http: &Client,
        base: &str,
        client: &str,
        terms: &[(&str, &str)],
    ) -> Value {
        let secret = format!("{client}-secret");
        let mut form = vec![("client_id", client), ("client_secret", &*secret)];
        form.extend(terms);
        let (status, body) = post(http, &token_endpoint(base, "shop"), &form).await;
        assert!(status == StatusCode::OK, "token for {client}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn issued(&self, answer: &Value, member: &str) -> String {
        let token = text(answer, member);
        self.remember(&token);
        token
    }
}

async fn post(http: &Client, url: &str, form: &[(&str, &str)]) -> (StatusCode, String) {
    let form = Serializer::new(String::new()).extend_pairs(form).finish();
    let kind = "application/x-www-form-urlencoded";
    let request = http.post(url).header("content-type", kind).body(form);
    let answer = request.send().await.expect("Keycloak");
    (answer.status(), answer.text().await.expect("a body"))
}

fn token_endpoint(base: &str, realm: &str) -> String {
    format!("{base}/realms/{realm}/protocol/openid-connect/token")
}

/// A member of a JSON object that must be a string.
fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_else(|| panic!("no {member} in the answer")).to_owned()
}
