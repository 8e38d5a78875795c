//! An issuer inside the process that behaves like a Keycloak realm: discovery, certs, token endpoint,
//! introspection.
//!
//! It listens on this machine only and gives a token to whoever knows the sample client: it is no identity
//! provider.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::form::Form;
use super::key::{KeyError, SigningKey};
use super::pages::{Shared, accept};
use super::samples;
use crate::check::Algorithm;
use crate::gate::{Clock as _, SystemClock};

/// The one client that the token endpoint knows, and its secret.
pub const CLIENT: (&str, &str) = ("orders-web", "demo-secret");

/// An issuer that is running. Ends when dropped.
///
/// Its tokens begin and end by the machine's clock, whatever clock the gate has: for a gate with a
/// [`ManualClock`](crate::gate::ManualClock) start that at [`ManualClock::now`](crate::gate::ManualClock::now).
pub struct Issuer {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: AbortHandle,
}

/// Ways for an issuer to go wrong, for tests. They touch metadata and keys, or introspection, but not
/// tokens.
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
    /// If the address is taken, or others than this machine reach it.
    pub async fn start(
        address: SocketAddr,
        realm: &str,
        keys: Vec<SigningKey>,
    ) -> std::io::Result<Self> {
        if !address.ip().to_canonical().is_loopback() {
            let why = "other machines may reach it, and everybody knows the secret for its tokens; take \
                       127.0.0.1 or ::1";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(format!("http://{address}/realms/{realm}"), keys));
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, address, task })
    }

    /// Listens at a free port of this machine, as realm `test` with fresh keys. A gate that accepts two
    /// of them needs a name for one: `Realm::name`.
    ///
    /// # Errors
    /// Without a port, or without randomness.
    pub async fn local() -> std::io::Result<Self> {
        let keys = Self::fresh_keys().map_err(std::io::Error::other)?;
        Self::start(([127, 0, 0, 1], 0).into(), "test", keys).await
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

    /// The JWKS that it publishes, for a gate whose keys come from elsewhere, or for
    /// [`KeySet::parse`](crate::check::KeySet::parse).
    pub fn jwks(&self) -> Value {
        self.shared.state().jwks()
    }

    /// Publishes these keys from now on, and signs with the first.
    pub fn set_keys(&self, keys: Vec<SigningKey>) {
        self.shared.state().set_keys(keys);
    }

    /// Misbehaves from now on, or no longer, when asked for metadata and keys.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state().fault = fault;
    }

    /// How often its metadata and its keys were asked for.
    pub fn asked(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.shared.metadata_asked), count(&self.shared.keys_asked))
    }
}

/// Tokens that say everything themselves.
impl Issuer {
    /// The claims of a good token, see [`samples::claims`]: for `orders-api`, and for the introspecting
    /// client, which learns nothing of others; good for five minutes from now, by the machine's clock.
    pub fn claims(&self) -> Value {
        let mut claims = samples::claims(self.issuer(), SystemClock.now().as_secs());
        let introspector = self.shared.state().introspection.client.0.clone();
        claims["aud"] = json!(["orders-api", introspector, "account"]);
        claims
    }

    /// Signs a good token in which these claims are different; `null` takes one out.
    ///
    /// # Errors
    /// Without a key to sign with.
    pub fn token(&self, change: Value) -> Result<String, KeyError> {
        self.mint(Form::Full, change)
    }
}

/// Tokens that introspection explains.
impl Issuer {
    /// Gives an opaque token. Introspection tells the claims of a good one, in which these are different;
    /// `null` takes one out.
    ///
    /// # Errors
    /// Without randomness.
    pub fn opaque_token(&self, change: Value) -> Result<String, KeyError> {
        self.mint(Form::Opaque, change)
    }

    /// Gives a signed lightweight token. Introspection tells the rest of its claims: those of a good one,
    /// in which these are different; `null` takes one out. It gets a `jti` of its own.
    ///
    /// # Errors
    /// Without randomness, or without a key to sign with.
    pub fn lightweight_token(&self, change: Value) -> Result<String, KeyError> {
        self.mint(Form::Lightweight, change)
    }

    /// Ends the session of a token, as a logout does: introspection calls it inactive from now on. A
    /// JWT is known by its `jti`, so another with the same one ends too.
    pub fn end_session(&self, token: &str) {
        self.shared.store.end(token);
    }

    fn mint(&self, form: Form, change: Value) -> Result<String, KeyError> {
        let mut claims = self.claims();
        let members = claims.as_object_mut().ok_or(KeyError)?;
        for (name, value) in change.as_object().into_iter().flatten() {
            match value {
                Value::Null => members.remove(name),
                value => members.insert(name.clone(), value.clone()),
            };
        }
        let key = self.shared.signing_key()?;
        form.mint(claims, &key, &self.shared.store)
    }
}

/// How introspection behaves.
impl Issuer {
    /// How many requests for introspection came in, whatever the answer.
    pub fn introspected(&self) -> u64 {
        self.shared.introspected.load(Ordering::SeqCst)
    }

    /// Knows the introspecting client by another id or secret than [`INTROSPECTOR`](super::INTROSPECTOR).
    pub fn set_introspection_client(&self, id: &str, secret: &str) {
        self.shared.state().introspection.client = (id.to_owned(), secret.to_owned());
    }

    /// Whether a token is inactive to a client outside its audience, as in Keycloak since 26.6.2.
    /// It is so at first.
    pub fn set_audience_rule(&self, on: bool) {
        self.shared.state().introspection.audience_rule = on;
    }

    /// Whether `Accept: application/jwt` adds the claims as a signed member `jwt`: Keycloak's client
    /// attribute `client.introspection.response.allow.jwt.claim.enabled`. Not so at first.
    pub fn set_jwt_claim(&self, on: bool) {
        self.shared.state().introspection.jwt_claim = on;
    }

    /// Whether answers are signed for those who accept `application/token-introspection+jwt`
    /// (RFC 9701), and the metadata says so. Keycloak does not do it. Not so at first.
    pub fn set_signed_answers(&self, on: bool) {
        self.shared.state().introspection.signed_answers = on;
    }

    /// Misbehaves from now on, or no longer, when asked for introspection. Metadata and keys are not
    /// touched; faults that are theirs alone do nothing here.
    pub fn set_introspection_fault(&self, fault: Option<Fault>) {
        self.shared.state().introspection.fault = fault;
    }

    /// Answers every request for introspection with this status, content type and body from now on,
    /// or no longer. It comes before any fault.
    pub fn set_introspection_answer(&self, answer: Option<(u16, &'static str, String)>) {
        let answer = answer.map(|(status, kind, body)| (status, kind, Bytes::from(body)));
        self.shared.state().introspection.answer = answer;
    }

    /// Holds every answer of introspection back for this long: it tells how things stood when the
    /// request came.
    pub fn set_introspection_delay(&self, delay: Duration) {
        self.shared.state().introspection.delay = delay;
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
