//! One careful GET: deadlines, a cap on the body, no redirects.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode, redirect};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::BuilderVerifierExt as _;
use url::Url;

use crate::check::{JsonError, KeySetError, ReplyError};

/// A whole request and answer. Keycloak answers in milliseconds; whoever waits here waits in a
/// request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A realm's JWKS has about 3 KiB.
const MAX_BODY: usize = 1024 * 1024;

/// Why an issuer could not be asked, or its answer not be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection: refused, unknown host, TLS.
    Connect(String),
    /// No whole answer within this time.
    Timeout(Duration),
    /// The connection broke.
    Broken(String),
    /// Not 200.
    Status(u16),
    /// Introspection refuses our client, with this error code: its id, secret, key or certificate is
    /// wrong, or it may not introspect.
    Credentials {
        /// HTTP status.
        status: u16,
        /// `error`, as RFC 6749 §5.2 has it.
        code: String,
        /// `error_description`: for `vidimus doctor`, never for a log.
        said: String,
    },
    /// A part of our client's credentials cannot be read.
    Secret(String),
    /// As many calls as allowed are waiting.
    Busy,
    /// Too many calls in a row have failed: none is made for a moment.
    Open,
    /// The answer of introspection cannot be used.
    Reply(ReplyError),
    /// 3xx: an issuer that moves its keys is not followed.
    Redirect(u16),
    /// More than 1 MiB.
    TooLarge,
    /// HTML and the like, by its `Content-Type`.
    NotJson(String),
    /// Not strict JSON, or not the object it should be.
    Malformed(JsonError),
    /// The metadata lack a member, or it is not an URL.
    Metadata(&'static str),
    /// The metadata are another issuer's.
    OtherIssuer(String),
    /// Plain http to another machine.
    Insecure,
    /// The JWKS cannot be used.
    Keys(KeySetError),
}

impl FetchError {
    /// For metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::Status(_) => "status",
            Self::Credentials { .. } => "credentials",
            Self::Secret(_) => "secret",
            Self::Busy => "busy",
            Self::Open => "breaker_open",
            Self::Reply(error) => error.label(),
            Self::Redirect(_) => "redirect",
            Self::TooLarge => "too_large",
            Self::NotJson(_) => "not_json",
            Self::Malformed(_) => "malformed",
            Self::Metadata(_) => "metadata",
            Self::OtherIssuer(_) => "other_issuer",
            Self::Insecure => "insecure",
            Self::Keys(_) => "keys",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::Timeout(limit) => {
                write!(f, "no whole answer within {}", humantime_like(*limit))
            }
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Status(404) => write!(
                f,
                "it answered 404: is the realm's name right, and does Keycloak have a path prefix such \
                 as /auth?"
            ),
            Self::Status(status) => write!(f, "it answered {status}, not 200"),
            Self::Credentials { status: 403, code, .. } => write!(
                f,
                "it answered 403 {code}: our client may not introspect; it must be confidential \
                 (Client authentication on)"
            ),
            Self::Credentials { status, code, .. } => write!(
                f,
                "it answered {status} {code}: it does not accept our client's credentials; compare \
                 client_id, auth and the secret, key or certificate with the client in Keycloak"
            ),
            Self::Secret(why) => f.write_str(why),
            Self::Busy => write!(f, "as many calls as max_concurrent allows are waiting already"),
            Self::Open => {
                write!(f, "too many calls in a row have failed; it is left alone a moment")
            }
            Self::Reply(error) => error.fmt(f),
            Self::Redirect(0) => write!(f, "its answer came by way of a redirect: it is not used"),
            Self::Redirect(status) => write!(f, "it answered {status}: redirects are not followed"),
            Self::TooLarge => write!(f, "its answer is larger than 1 MiB"),
            Self::NotJson(kind) => write!(f, "it answered {kind}, not JSON"),
            Self::Malformed(error) => error.fmt(f),
            Self::Metadata(what) => write!(f, "its metadata {what}"),
            Self::OtherIssuer(found) => write!(
                f,
                "its metadata are those of issuer {found:?}: set `issuer` to exactly that, if it is \
                 the issuer that you mean"
            ),
            Self::Insecure => write!(f, "plain http to another machine"),
            Self::Keys(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {}

/// What was asked, and how it failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) url: Option<Box<Url>>,
    pub(super) error: FetchError,
}

impl FetchError {
    pub(super) fn at(self, url: &Url) -> Failure {
        Failure { url: Some(Box::new(url.clone())), error: self }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self { url: None, error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Some(url) => write!(f, "{url}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// A certificate chain and its private key, as PEM.
pub(super) struct Identity<'a> {
    pub(super) certificate: &'a [u8],
    pub(super) key: &'a [u8],
}

/// Asks issuers. Addresses of this machine are never asked by way of a proxy from the environment:
/// plain http is allowed there, and a proxy would read along.
#[derive(Clone)]
pub(super) struct Client {
    far: reqwest::Client,
    here: reqwest::Client,
}

impl Client {
    /// With one trust store, and one identity if the server wants it.
    ///
    /// # Errors
    /// If `ca`, a file and what is in it, holds no certificate, or one that cannot be used; or the
    /// identity is none.
    pub(super) fn new(
        ca: Option<(&Path, &[u8])>,
        identity: Option<Identity<'_>>,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let tls = match ca {
            None => versions.with_platform_verifier().map_err(|error| error.to_string())?,
            Some((path, pem)) => versions.with_root_certificates(roots(path, pem)?),
        };
        let tls = match identity {
            None => tls.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                tls.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
            }
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder
                .tls_backend_preconfigured(tls.clone())
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .user_agent(concat!("vidimus/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| chain(&error))
        };
        let builder = reqwest::Client::builder;
        Ok(Self { far: build(builder())?, here: build(builder().no_proxy())? })
    }

    /// The application's own, for every address.
    pub(super) fn given(client: reqwest::Client) -> Self {
        Self { far: client.clone(), here: client }
    }

    /// For this address.
    pub(super) fn at(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url) { &self.here } else { &self.far }
    }
}

impl Identity<'_> {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = CertificateDer::pem_slice_iter(self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
        if chain.is_empty() {
            return Err("there is no PEM certificate in it".into());
        }
        let key = PrivateKeyDer::from_pem_slice(self.key)
            .map_err(|_| "there is no PEM private key in client_key_file")?;
        Ok((chain, key))
    }
}

fn roots(path: &Path, pem: &[u8]) -> Result<rustls::RootCertStore, String> {
    let file = path.display();
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("{file}: {error}"))?;
        store.add(certificate).map_err(|error| format!("{file}: {error}"))?;
    }
    if store.is_empty() {
        return Err(format!("{file} holds no PEM certificate"));
    }
    Ok(store)
}

/// Whether a URL may be asked: https, or http to this machine, or http on purpose.
///
/// # Errors
/// If it may not.
pub fn check_secure(url: &Url, insecure_http: bool) -> Result<(), FetchError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) || insecure_http => Ok(()),
        "http" => Err(FetchError::Insecure),
        _ => Err(FetchError::Metadata("name a URL that is neither https nor http")),
    }
}

/// Whether a URL leads to this machine, whatever a resolver may say.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The body of a 200 answer that claims to be JSON, or at least nothing else.
pub(super) async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, Failure> {
    body(client, url).await.map_err(|error| error.at(url))
}

async fn body(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    let request = client.at(url).get(url.clone()).timeout(TIMEOUT);
    let request = request.header(ACCEPT, "application/json");
    let answer = request.send().await.map_err(|error| broken(error, TIMEOUT))?;
    check_place(&answer, url)?;
    check_status(answer.status())?;
    if let Some(kind) =
        content_type(&answer).filter(|kind| !kind.to_ascii_lowercase().contains("json"))
    {
        return Err(FetchError::NotJson(kind));
    }
    whole_body(answer, TIMEOUT).await
}

/// A client that the application gave may follow redirects. What it brings from elsewhere is not used.
pub(super) fn check_place(answer: &Response, url: &Url) -> Result<(), FetchError> {
    if answer.url() == url { Ok(()) } else { Err(FetchError::Redirect(0)) }
}

/// 200, or which error it is.
pub(super) fn check_status(status: StatusCode) -> Result<(), FetchError> {
    match status {
        StatusCode::OK => Ok(()),
        status if status.is_redirection() => Err(FetchError::Redirect(status.as_u16())),
        status => Err(FetchError::Status(status.as_u16())),
    }
}

/// The media type, as far as it is fit for a log.
pub(super) fn content_type(answer: &Response) -> Option<String> {
    let kind = answer.headers().get(CONTENT_TYPE)?;
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    Some(
        kind.as_bytes()
            .iter()
            .filter(|byte| plain(byte))
            .take(64)
            .map(|b| char::from(*b))
            .collect(),
    )
}

/// At most 1 MiB of it; `limit` is what the client waits for altogether.
pub(super) async fn whole_body(answer: Response, limit: Duration) -> Result<Vec<u8>, FetchError> {
    let body = Limited::new(reqwest::Body::from(answer), MAX_BODY).collect().await;
    match body {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => match error.downcast::<reqwest::Error>() {
            Ok(error) => Err(broken(*error, limit)),
            Err(error) => Err(FetchError::Broken(error.to_string())),
        },
    }
}

pub(super) fn broken(error: reqwest::Error, limit: Duration) -> FetchError {
    if error.is_timeout() && !error.is_connect() {
        FetchError::Timeout(limit)
    } else if error.is_connect() {
        FetchError::Connect(chain(&error))
    } else {
        FetchError::Broken(chain(&error))
    }
}

fn humantime_like(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (seconds, 0) => format!("{seconds} s"),
        (0, millis) => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.to_string() {
        tls if tls.contains("InvalidContentType") => {
            "something answers there that is not TLS; is it plain http?".into()
        }
        other => other,
    }
}
