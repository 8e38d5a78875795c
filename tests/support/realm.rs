//! Introspection over real sockets: a gate that asks, the embedded issuer to be asked, and a realm made
//! by hand where that one cannot play the part.

#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use vidimus::check::*;
use vidimus::gate::{Clock as _, Gate, Live, Rules, SystemClock};
use vidimus::issuer::*;
use vidimus::testing::Issuer;
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;

use crate::support::{active, ec_key, rules};

mod log;
#[allow(unused_imports, reason = "each test crate uses its part of it")]
pub(crate) use log::log;

/// What the embedded issuer knows our client by.
pub(crate) const CLIENT: &str = "vidimus";
pub(crate) const SECRET: &str = "demo-secret";

const SOON: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(3600);

/// A gate over one realm, and what asks for it.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) gate: Gate,
    pub(crate) issuers: Arc<Issuers>,
}

impl Asking {
    pub(crate) fn start(settings: IssuerSettings) -> Self {
        let mut realm = rules(&settings.issuer);
        let introspection = settings.introspection.as_ref();
        realm.introspection = introspection.map(|of| {
            let mut rules = IntrospectionRules::new(&of.client_id);
            rules.prefer_jwt = of.prefer_jwt;
            rules
        });
        let mut policy = Policy::new("default", vec![0]);
        policy.introspect_realm = Some(0);
        let (realms, policies) = (vec![realm], vec![policy]);
        let rules = Rules { realms, policies, limits: Limits::default() };
        let live = Arc::new(Live::new(rules, Arc::new(SystemClock)).unwrap());
        let issuers = Issuers::start(vec![settings], Arc::clone(&live)).unwrap();
        Self { gate: Gate::new(live, Arc::clone(&issuers) as _, 1024 * 1024), issuers }
    }

    /// Nothing if it passes.
    pub(crate) async fn denial(&self, token: &str) -> Option<Denial> {
        let facts = Facts::new("default", Ok(RawToken::new(token)));
        match self.gate.check(&facts).await {
            Decision::Allow(_) => None,
            Decision::Deny(refusal) => Some(refusal.denial),
        }
    }

    /// What becomes of many tokens at once, and how long each waits.
    pub(crate) async fn denials(&self, tokens: Vec<String>) -> Vec<(Option<Denial>, Duration)> {
        let mut requests = JoinSet::new();
        for token in tokens {
            let asking = self.clone();
            requests.spawn(async move {
                let began = Instant::now();
                (asking.denial(&token).await, began.elapsed())
            });
        }
        requests.join_all().await
    }

    pub(crate) fn stats(&self) -> IntrospectionStats {
        self.issuers.introspections().remove(0).1
    }

    pub(crate) fn outcome(&self, label: &str) -> u64 {
        self.stats().outcomes.get(label).copied().unwrap_or(0)
    }
}

/// How our client asks, changed.
pub(crate) fn introspection(
    auth: ClientAuth,
    change: impl FnOnce(&mut IntrospectionSettings),
) -> Option<IntrospectionSettings> {
    let mut settings = IntrospectionSettings::new(CLIENT, auth);
    change(&mut settings);
    Some(settings)
}

/// With the secret that the embedded issuer knows.
pub(crate) fn with_secret(
    change: impl FnOnce(&mut IntrospectionSettings),
) -> Option<IntrospectionSettings> {
    introspection(ClientAuth::Basic(SecretSource::Value(Secret::new(SECRET))), change)
}

pub(crate) fn settings(
    issuer: &str,
    introspection: Option<IntrospectionSettings>,
) -> IssuerSettings {
    let (refresh, cooldown) = (LONG, SOON);
    let name = "shop".into();
    IssuerSettings { name, refresh, cooldown, introspection, ..IssuerSettings::new(issuer) }
}

pub(crate) async fn embedded() -> Issuer {
    embedded_with(ec_key("k1")).await
}

pub(crate) async fn embedded_with(key: SigningKey) -> Issuer {
    Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key]).await.unwrap()
}

/// Claims of a good token of an issuer, of which our client may know.
pub(crate) fn good_claims(issuer: &str) -> Value {
    let mut claims = samples::claims(issuer, SystemClock.now().as_secs());
    claims["aud"] = json!(["orders-api", CLIENT]);
    claims
}

/// What a realm answers about a good token.
pub(crate) fn good_answer(issuer: &str) -> Value {
    active(good_claims(issuer))
}

pub(crate) fn opaque(issuer: &Issuer) -> String {
    issuer.opaque_token(good_claims(issuer.issuer())).unwrap()
}

pub(crate) fn many(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("opaque-{number}")).collect()
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 10 s in vain for {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A port that nobody listens at, yet; below those that connections are given, so that none takes it.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 16_384 + std::process::id() as u16 % 8_192;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::SeqCst) % 8_192;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

pub(crate) type Page = Response<Full<Bytes>>;

/// An answer; without `kind`, of no type.
pub(crate) fn page(status: u16, kind: &str, body: impl Into<Bytes>) -> Page {
    let mut answer = Response::builder().status(status);
    if !kind.is_empty() {
        answer = answer.header("content-type", kind);
    }
    answer.body(Full::new(body.into())).unwrap()
}

pub(crate) fn json_page(body: &Value) -> Page {
    page(200, "application/json", body.to_string())
}

/// A question as it came.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) form: BTreeMap<String, String>,
    /// The client's, on a TLS connection.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Asked {
    /// The only line of this header, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(lines.len() <= 1, "{name} stands twice");
        lines.first().map(|line| line.to_str().unwrap())
    }
}

/// With nothing the connection is closed instead.
type Told = Arc<dyn Fn(&Asked) -> Option<Page> + Send + Sync>;

/// A realm made by hand: it publishes metadata and one key, and takes every POST for introspection.
pub(crate) struct FakeRealm {
    pub(crate) issuer: String,
    pub(crate) base: String,
    pub(crate) key: SigningKey,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    metadata: Mutex<Value>,
    keys: Value,
    told: Mutex<Told>,
    pause: Mutex<Duration>,
    asked: Mutex<Vec<Asked>>,
    running: AtomicU64,
    most: AtomicU64,
}

impl FakeRealm {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// Over TLS, if there is an acceptor; at `localhost` then.
    pub(crate) async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let issuer = format!("{base}/realms/shop");
        let key = ec_key("k1");
        let answer = good_answer(&issuer);
        let shared = Arc::new(Shared {
            metadata: Mutex::new(json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/certs"),
                "introspection_endpoint": format!("{issuer}/introspect"),
            })),
            keys: json!({ "keys": [key.jwk()] }),
            told: Mutex::new(Arc::new(move |_| Some(json_page(&answer)))),
            pause: Mutex::default(),
            asked: Mutex::default(),
            running: AtomicU64::new(0),
            most: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&shared))).abort_handle();
        Self { issuer, base, key, shared, task }
    }

    pub(crate) fn tells(&self, told: impl Fn(&Asked) -> Option<Page> + Send + Sync + 'static) {
        *self.shared.told.lock().unwrap() = Arc::new(told);
    }

    /// Every answer takes so long.
    pub(crate) fn pauses(&self, pause: Duration) {
        *self.shared.pause.lock().unwrap() = pause;
    }

    /// The metadata hold this member, or with `null` do not.
    pub(crate) fn publishes(&self, member: &str, value: Value) {
        let mut metadata = self.shared.metadata.lock().unwrap();
        let metadata = metadata.as_object_mut().unwrap();
        match value {
            Value::Null => metadata.remove(member),
            value => metadata.insert(member.to_owned(), value),
        };
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// As many questions were being answered at once.
    pub(crate) fn most(&self) -> u64 {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for FakeRealm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            let Some(tls) = tls else { return shared.serve(stream, None).await };
            let Ok(stream) = tls.accept(stream).await else { return };
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.map(|chain| chain[0].to_vec());
            shared.serve(stream, certificate).await;
        });
    }
}

impl Shared {
    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        certificate: Option<Vec<u8>>,
    ) {
        let service = service_fn(|request| self.answer(request, certificate.clone()));
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<Vec<u8>>,
    ) -> io::Result<Page> {
        let (head, body) = request.into_parts();
        match head.uri.path() {
            path if path.ends_with("/.well-known/openid-configuration") => {
                return Ok(json_page(&self.metadata.lock().unwrap()));
            }
            path if path.ends_with("/certs") => return Ok(json_page(&self.keys)),
            _ => {}
        }
        assert_eq!(head.method, "POST", "{}", head.uri);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let fields: Vec<(String, String)> =
            url::form_urlencoded::parse(&body).into_owned().collect();
        let form: BTreeMap<_, _> = fields.iter().cloned().collect();
        assert_eq!(form.len(), fields.len(), "a field stands twice");
        let asked = Asked { headers: head.headers, form, certificate };
        self.asked.lock().unwrap().push(asked.clone());
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let (told, pause) = (Arc::clone(&self.told.lock().unwrap()), *self.pause.lock().unwrap());
        if !pause.is_zero() {
            sleep(pause).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        told(&asked).ok_or_else(|| io::Error::other("closed"))
    }
}
