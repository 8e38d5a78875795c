//! The embedded issuer's pages: metadata, keys and the token endpoint, and the state behind them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::introspection::Switches;
use super::issuer::{CLIENT, Fault};
use super::key::{KeyError, SigningKey};
use super::samples::Sample;
use super::store::Store;
use crate::check::KeySet;
use crate::check::Thumbprint;
use crate::gate::{Clock as _, SystemClock};

/// What its connections share.
pub(super) struct Shared {
    pub(super) issuer: String,
    pub(super) store: Store,
    pub(super) metadata_asked: AtomicU64,
    pub(super) keys_asked: AtomicU64,
    pub(super) introspected: AtomicU64,
    state: Mutex<State>,
}

/// What tests change.
pub(super) struct State {
    keys: Vec<SigningKey>,
    pub(super) published: Option<Arc<KeySet>>,
    pub(super) fault: Option<Fault>,
    pub(super) introspection: Switches,
}

impl State {
    pub(super) fn set_keys(&mut self, keys: Vec<SigningKey>) {
        self.keys = keys;
        self.published = KeySet::parse(self.jwks().to_string().as_bytes()).ok().map(Arc::new);
    }

    pub(super) fn jwks(&self) -> Value {
        jwks(&self.keys, |jwk| jwk)
    }
}

impl Shared {
    pub(super) fn new(issuer: String, keys: Vec<SigningKey>) -> Self {
        let mut state = State {
            keys: Vec::new(),
            published: None,
            fault: None,
            introspection: Switches::default(),
        };
        state.set_keys(keys);
        Self {
            issuer,
            store: Store::default(),
            metadata_asked: AtomicU64::new(0),
            keys_asked: AtomicU64::new(0),
            introspected: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signing_key(&self) -> Result<SigningKey, KeyError> {
        self.state().keys.first().cloned().ok_or(KeyError)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let realm = self.issuer.split_once("/realms/").map_or("", |(_, realm)| realm);
        let Some(page) = path.strip_prefix(&format!("/realms/{realm}")) else {
            return json_page(404, &json!({ "error": "Realm does not exist" }));
        };
        match page {
            "/.well-known/openid-configuration" => {
                self.metadata_asked.fetch_add(1, Ordering::SeqCst);
                self.faulty(&path).await.unwrap_or_else(|| json_page(200, &self.metadata()))
            }
            "/protocol/openid-connect/certs" => {
                self.keys_asked.fetch_add(1, Ordering::SeqCst);
                self.faulty(&path).await.unwrap_or_else(|| json_page(200, &self.certs()))
            }
            "/protocol/openid-connect/token" if request.method() == Method::POST => {
                match fields(request.into_body()).await {
                    Some(form) => self.token(&form),
                    None => error_page(400, "invalid_request", "unreadable body"),
                }
            }
            "/protocol/openid-connect/token/introspect" if request.method() == Method::POST => {
                self.introspect(request).await
            }
            _ => json_page(404, &json!({ "error": "HTTP 404 Not Found" })),
        }
    }

    fn metadata(&self) -> Value {
        let state = self.state();
        let issuer = match state.fault {
            Some(Fault::OtherIssuer) => "https://id.example.com/realms/other",
            _ => &*self.issuer,
        };
        let base = format!("{}/protocol/openid-connect", self.issuer);
        let mut metadata = json!({
            "issuer": issuer,
            "jwks_uri": format!("{base}/certs"),
            "token_endpoint": format!("{base}/token"),
            "introspection_endpoint": format!("{base}/token/introspect"),
            "introspection_endpoint_auth_methods_supported":
                ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "EdDSA"],
        });
        if state.introspection.signed_answers {
            metadata["introspection_signing_alg_values_supported"] = json!(["ES256", "EdDSA"]);
        }
        metadata
    }

    fn certs(&self) -> Value {
        let state = self.state();
        match state.fault {
            Some(Fault::NoKeys) => jwks(&[], |jwk| jwk),
            Some(Fault::OnlyEncryption) => jwks(&state.keys, |mut jwk| {
                jwk["use"] = json!("enc");
                jwk
            }),
            _ => state.jwks(),
        }
    }

    async fn faulty(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let fault = self.state().fault;
        fault?.page(path, "{\"issuer\":").await
    }

    /// RFC 6749 §4.4, `sample=NAME` for one of the demo's samples, and `x5t=THUMBPRINT` for the certificate
    /// that it is bound to.
    fn token(&self, form: &Fields) -> Response<Full<Bytes>> {
        let form: BTreeMap<&str, &str> =
            form.iter().map(|(name, value)| (&**name, &**value)).collect();
        let field = |name: &str| form.get(name).copied().unwrap_or("");
        if field("grant_type") != "client_credentials" {
            return error_page(400, "unsupported_grant_type", "only client_credentials here");
        }
        if (field("client_id"), field("client_secret")) != CLIENT {
            let text = "Invalid client or Invalid client credentials";
            return error_page(401, "unauthorized_client", text);
        }
        let name = form.get("sample").copied().unwrap_or("good");
        let Some(sample) = Sample::ALL.iter().find(|sample| sample.name == name) else {
            let names: Vec<_> = Sample::ALL.iter().map(|sample| sample.name).collect();
            return error_page(400, "invalid_request", &format!("samples: {}", names.join(", ")));
        };
        let certificate = form.get("x5t").map(|text| Thumbprint::parse(text).ok_or(()));
        let Ok(certificate) = certificate.transpose() else {
            let text = "x5t is the SHA-256 of the certificate's DER, 43 characters of base64url";
            return error_page(400, "invalid_request", text);
        };
        let now = SystemClock.now().as_secs();
        let token = self
            .signing_key()
            .and_then(|key| sample.mint(&self.issuer, &key, now, &self.store, certificate));
        match token {
            Ok(token) => json_page(
                200,
                &json!({
                    "access_token": token, "expires_in": 300, "refresh_expires_in": 0,
                    "token_type": "Bearer", "not-before-policy": 0, "scope": "orders:read",
                }),
            ),
            Err(error) => error_page(500, "server_error", &error.to_string()),
        }
    }
}

impl Fault {
    /// What comes instead of a page; `half` is the beginning of its document.
    pub(super) async fn page(
        self,
        path: &str,
        half: &'static str,
    ) -> Option<Response<Full<Bytes>>> {
        let html = "<!DOCTYPE html><title>Oops</title>";
        match self {
            Self::ServerError => Some(page(500, "text/html", html)),
            Self::Html => Some(page(200, "text/html;charset=UTF-8", html)),
            Self::Redirect => {
                let mut answer = page(302, "text/plain", "");
                let target = format!("http://127.0.0.1:9{path}");
                answer.headers_mut().extend(target.try_into().ok().map(|to| (LOCATION, to)));
                Some(answer)
            }
            Self::Hang => std::future::pending().await,
            Self::Oversized => Some(page(200, "application/json", " ".repeat(1024 * 1024 + 1))),
            Self::Truncated => Some(page(200, "application/json", half)),
            Self::OtherIssuer | Self::NoKeys | Self::OnlyEncryption => None,
        }
    }
}

/// Answers connections until its task is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the issuer, so that a test can take it away altogether.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, std::convert::Infallible>(shared.answer(request).await) }
        });
        connections.spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await; // the client's affair
        });
        while connections.try_join_next().is_some() {}
    }
}

fn jwks(keys: &[SigningKey], change: fn(Value) -> Value) -> Value {
    let keys: Vec<Value> = keys.iter().map(SigningKey::jwk).map(change).collect();
    json!({ "keys": keys })
}

/// The fields of a form, in order.
pub(super) type Fields = Vec<(String, String)>;

/// Reads a form; nothing if it is too long.
pub(super) async fn fields(body: Incoming) -> Option<Fields> {
    let body = Limited::new(body, 64 * 1024).collect().await.ok()?;
    Some(url::form_urlencoded::parse(&body.to_bytes()).into_owned().collect())
}

pub(super) fn error_page(status: u16, error: &str, description: &str) -> Response<Full<Bytes>> {
    json_page(status, &json!({ "error": error, "error_description": description }))
}

pub(super) fn json_page(status: u16, body: &Value) -> Response<Full<Bytes>> {
    page(status, "application/json", body.to_string())
}

pub(super) fn page(
    status: u16,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    answer
}
