//! An issuer inside the process that behaves like a Keycloak realm: discovery, certs, token endpoint.
//!
//! The demo runs it, and so do the quick tests, which also make it misbehave. It listens on this
//! machine only and gives a token to whoever knows the sample client: it is no identity provider.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
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
use tokio::task::AbortHandle;

use super::key::{KeyError, SigningKey};
use super::samples::Sample;
use crate::check::Algorithm;
use crate::gate::{Clock as _, SystemClock};

/// The one client that the token endpoint knows, and its secret.
pub const CLIENT: (&str, &str) = ("orders-web", "demo-secret");

/// An issuer that is running. Ends when dropped.
pub struct Issuer {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: AbortHandle,
}

struct Shared {
    issuer: String,
    state: Mutex<State>,
    metadata_asked: AtomicU64,
    keys_asked: AtomicU64,
}

struct State {
    keys: Vec<SigningKey>,
    fault: Option<Fault>,
}

/// Ways for an issuer to go wrong, for tests. They touch metadata and keys, not tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 with an HTML page.
    ServerError,
    /// 200 with an HTML page: a portal on the way.
    Html,
    /// 302 to the same place elsewhere.
    Redirect,
    /// Accepts, and never answers.
    Hang,
    /// More than 1 MiB.
    Oversized,
    /// Half a document.
    Truncated,
    /// Metadata of another issuer.
    OtherIssuer,
    /// A JWKS without keys.
    NoKeys,
    /// A JWKS whose only key is for encryption.
    OnlyEncryption,
}

impl Issuer {
    /// Listens at `address` (port 0 for any) and signs with `keys`, the first of them. The realm's
    /// name is the last segment of its issuer.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn start(
        address: SocketAddr,
        realm: &str,
        keys: Vec<SigningKey>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            issuer: format!("http://{address}/realms/{realm}"),
            state: Mutex::new(State { keys, fault: None }),
            metadata_asked: AtomicU64::new(0),
            keys_asked: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, address, task })
    }

    /// New ES256 and EdDSA keys, as [`Self::start`] wants them.
    ///
    /// # Errors
    /// Without randomness.
    pub fn fresh_keys() -> Result<Vec<SigningKey>, KeyError> {
        // New key ids with each start: whoever still holds the last demo's keys fetches again.
        let run = format!("{:08x}", RandomState::new().hash_one(()) as u32);
        let new = |algorithm: Algorithm| {
            SigningKey::generate(&format!("demo-{run}-{}", algorithm.name()), algorithm)
        };
        Ok(vec![new(Algorithm::ES256)?, new(Algorithm::EdDSA)?])
    }

    /// Its `iss`.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes these keys from now on, and signs with the first.
    pub fn set_keys(&self, keys: Vec<SigningKey>) {
        self.shared.state().keys = keys;
    }

    /// Misbehaves from now on, or no longer.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state().fault = fault;
    }

    /// How often its metadata and its keys were asked for.
    pub fn asked(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.shared.metadata_asked), count(&self.shared.keys_asked))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                let body = Limited::new(request.into_body(), 64 * 1024).collect().await;
                match body {
                    Ok(body) => self.token(&String::from_utf8_lossy(&body.to_bytes())),
                    Err(_) => error_page(400, "invalid_request", "unreadable body"),
                }
            }
            _ => json_page(404, &json!({ "error": "HTTP 404 Not Found" })),
        }
    }

    fn metadata(&self) -> Value {
        let issuer = match self.state().fault {
            Some(Fault::OtherIssuer) => "https://id.example.com/realms/other",
            _ => &*self.issuer,
        };
        let base = format!("{}/protocol/openid-connect", self.issuer);
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{base}/certs"),
            "token_endpoint": format!("{base}/token"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "EdDSA"],
        })
    }

    fn certs(&self) -> Value {
        let state = self.state();
        let jwks: Vec<Value> = match state.fault {
            Some(Fault::NoKeys) => Vec::new(),
            Some(Fault::OnlyEncryption) => {
                let change = |mut jwk: Value| {
                    jwk["use"] = json!("enc");
                    jwk
                };
                state.keys.iter().map(SigningKey::jwk).map(change).collect()
            }
            _ => state.keys.iter().map(SigningKey::jwk).collect(),
        };
        json!({ "keys": jwks })
    }

    async fn faulty(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let fault = self.state().fault;
        let html = "<!DOCTYPE html><title>Oops</title>";
        match fault? {
            Fault::ServerError => Some(page(500, "text/html", html)),
            Fault::Html => Some(page(200, "text/html;charset=UTF-8", html)),
            Fault::Redirect => {
                let mut answer = page(302, "text/plain", "");
                let target = format!("http://127.0.0.1:9{path}");
                answer.headers_mut().extend(target.try_into().ok().map(|to| (LOCATION, to)));
                Some(answer)
            }
            Fault::Hang => std::future::pending().await,
            Fault::Oversized => Some(page(200, "application/json", " ".repeat(1024 * 1024 + 1))),
            Fault::Truncated => Some(page(200, "application/json", "{\"issuer\":")),
            Fault::OtherIssuer | Fault::NoKeys | Fault::OnlyEncryption => None,
        }
    }

    /// RFC 6749 §4.4, and `sample=NAME` for one of the demo's samples.
    fn token(&self, form: &str) -> Response<Full<Bytes>> {
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(form.as_bytes()).collect();
        let field = |name: &str| form.get(name).map_or("", |value| value);
        if field("grant_type") != "client_credentials" {
            return error_page(400, "unsupported_grant_type", "only client_credentials here");
        }
        if (field("client_id"), field("client_secret")) != CLIENT {
            let text = "Invalid client or Invalid client credentials";
            return error_page(401, "unauthorized_client", text);
        }
        let name = form.get("sample").map_or("good", |name| name);
        let Some(sample) = Sample::ALL.iter().find(|sample| sample.name == name) else {
            let names: Vec<_> = Sample::ALL.iter().map(|sample| sample.name).collect();
            return error_page(400, "invalid_request", &format!("samples: {}", names.join(", ")));
        };
        let key = self.state().keys.first().cloned();
        let token = key
            .ok_or(KeyError)
            .and_then(|key| sample.mint(&self.issuer, &key, SystemClock.now().as_secs()));
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
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

fn error_page(status: u16, error: &str, description: &str) -> Response<Full<Bytes>> {
    json_page(status, &json!({ "error": error, "error_description": description }))
}

fn json_page(status: u16, body: &Value) -> Response<Full<Bytes>> {
    page(status, "application/json", body.to_string())
}

fn page(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    answer
}
