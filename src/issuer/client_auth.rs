//! How our client proves itself to a realm: RFC 6749 §2.3.1, RFC 7523, RFC 8705 §2.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::HeaderValue;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::http::{Client, Identity};
use super::key::SigningKey;
use super::secret::{self, Secret, SecretSource};
use super::{FetchError, IntrospectionSettings};
use crate::check::{Algorithm, UnixTime};

/// How our client proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`: in the `Authorization` header.
    Basic(SecretSource),
    /// `client_secret_post`: in the form.
    Post(SecretSource),
    /// `private_key_jwt`: an assertion signed with our own key; the realm knows the public half.
    PrivateKey {
        /// PKCS #8, PEM.
        file: PathBuf,
        /// What the key signs with.
        algorithm: Algorithm,
        /// `kid` of the assertion, if the realm has several keys of ours.
        key_id: Option<String>,
    },
    /// `tls_client_auth`: a client certificate.
    Tls {
        /// PEM, our own certificate first.
        certificate_file: PathBuf,
        /// PEM.
        key_file: PathBuf,
    },
}

impl ClientAuth {
    fn files(&self) -> Vec<&Path> {
        match self {
            Self::Basic(SecretSource::File(file)) | Self::Post(SecretSource::File(file)) => {
                vec![file]
            }
            Self::Basic(SecretSource::Value(_)) | Self::Post(SecretSource::Value(_)) => vec![],
            Self::PrivateKey { file, .. } => vec![file],
            Self::Tls { certificate_file, key_file } => vec![certificate_file, key_file],
        }
    }
}

/// Whom to trust when a client has to be built anew: a `ca_file` and what is in it.
type Trust = Option<(PathBuf, Arc<[u8]>)>;

/// Files are looked at again after this time, and at once when the realm refuses us.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// That they cannot be used is told once in so long. They are looked at all the same: a file may have
/// been seen half written, or one of two that belong together before the other.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How long an assertion is good. Keycloak accepts up to 60 s.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(30);

/// Our client's credentials, as they stand in their files now.
pub(super) struct Credentials {
    settings: IntrospectionSettings,
    issuer: Arc<str>,
    trust: Trust,
    ready: ArcSwap<Ready>,
    looked: Mutex<Looked>,
    /// One at a time: should a disk hang, one thread hangs with it, and the last credentials serve.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// When the files were looked at last, and when it was told that they cannot be used.
struct Looked {
    at: Instant,
    told: Option<Instant>,
}

/// Credentials that can be used.
pub(super) struct Ready {
    files: Vec<Vec<u8>>,
    pub(super) client: Client,
    proof: Proof,
}

enum Proof {
    Basic(HeaderValue),
    Post(Secret),
    Key(SigningKey),
    Tls,
}

impl Credentials {
    /// Reads the files.
    pub(super) fn load(
        settings: &IntrospectionSettings,
        issuer: Arc<str>,
        trust: Trust,
        plain: &Client,
    ) -> Result<Self, String> {
        let ready = Ready::load(settings, &trust, plain)?;
        Ok(Self {
            settings: settings.clone(),
            issuer,
            trust,
            ready: ArcSwap::from_pointee(ready),
            looked: Mutex::new(Looked { at: Instant::now(), told: None }),
            reading: Arc::default(),
        })
    }

    /// The credentials of this moment.
    pub(super) async fn now(self: &Arc<Self>) -> Arc<Ready> {
        let due = {
            let mut looked = self.looked();
            let due = looked.at.elapsed() >= LOOK_AGAIN && !self.settings.auth.files().is_empty();
            if due {
                looked.at = Instant::now(); // only one looks
            }
            due
        };
        if due && let Ok(turn) = Arc::clone(&self.reading).try_lock_owned() {
            self.read_again(turn).await;
        }
        self.ready.load_full()
    }

    /// The realm refuses these. True if there are others meanwhile: the files are read again, unless
    /// somebody else has just done so.
    pub(super) async fn have_changed(self: &Arc<Self>, refused: &Arc<Ready>) -> bool {
        let changed = || !Arc::ptr_eq(&self.ready.load(), refused);
        if !changed() {
            let turn = Arc::clone(&self.reading).lock_owned().await;
            if !changed() {
                self.read_again(turn).await;
            }
        }
        changed()
    }

    async fn read_again(self: &Arc<Self>, turn: OwnedMutexGuard<()>) {
        let credentials = Arc::clone(self);
        let read = move || {
            let read = credentials.take_over();
            drop(turn); // not before: whoever waits for it may have given up
            read
        };
        let read = tokio::task::spawn_blocking(read).await;
        let now = Instant::now();
        let mut looked = self.looked();
        looked.at = now;
        if let Ok(Err(error)) = read
            && looked.told.is_none_or(|then| now.duration_since(then) >= TELL_AGAIN)
        {
            looked.told = Some(now);
            drop(looked);
            tracing::warn!(
                issuer = &*self.issuer,
                "cannot read the client's credentials again, the last ones stay in use: {error}"
            );
        }
    }

    fn take_over(&self) -> Result<(), String> {
        let ready = self.ready.load_full();
        let files = read_all(&self.settings.auth)?;
        if files != ready.files {
            let fresh = Ready::of(&self.settings, &self.trust, &ready.client, files)?;
            self.ready.store(Arc::new(fresh));
            tracing::info!(issuer = &*self.issuer, "the client's credentials have changed");
        }
        Ok(())
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ready {
    fn load(
        settings: &IntrospectionSettings,
        trust: &Trust,
        plain: &Client,
    ) -> Result<Self, String> {
        Self::of(settings, trust, plain, read_all(&settings.auth)?)
    }

    fn of(
        settings: &IntrospectionSettings,
        trust: &Trust,
        plain: &Client,
        files: Vec<Vec<u8>>,
    ) -> Result<Self, String> {
        let secret = |source: &SecretSource| match (source, &*files) {
            (SecretSource::Value(secret), _) => Ok(secret.clone()),
            (SecretSource::File(path), [bytes]) => secret::line(path, bytes),
            (SecretSource::File(path), _) => Err(format!("{}: not read", path.display())),
        };
        let mut client = plain.clone();
        let proof = match &settings.auth {
            ClientAuth::Basic(source) => {
                Proof::Basic(basic(&settings.client_id, secret(source)?.expose())?)
            }
            ClientAuth::Post(source) => Proof::Post(secret(source)?),
            ClientAuth::PrivateKey { file, algorithm, key_id } => {
                let pem = files.first().map_or(&[][..], |pem| pem);
                let key = SigningKey::from_pem(key_id.as_deref().unwrap_or(""), *algorithm, pem);
                Proof::Key(key.map_err(|_| {
                    let (file, name) = (file.display(), algorithm.name());
                    format!(
                        "{file}: no private key for {name} (PKCS #8, PEM, RSA of 2,048 bits or more; to \
                         convert: openssl pkcs8 -topk8 -nocrypt -in {file})"
                    )
                })?)
            }
            ClientAuth::Tls { certificate_file, .. } => {
                let [certificate, key] = &*files else { return Err("not read".into()) };
                let ca = trust.as_ref().map(|(path, pem)| (path.as_path(), &**pem));
                let identity = Some(Identity { certificate, key });
                client = Client::new(ca, identity)
                    .map_err(|error| format!("{}: {error}", certificate_file.display()))?;
                Proof::Tls
            }
        };
        Ok(Self { files, client, proof })
    }

    /// Adds what proves our client to a form; and the `Authorization` header, if that is the way.
    pub(super) fn prove(
        &self,
        form: &mut Serializer<'_, String>,
        client_id: &str,
        issuer: &str,
        now: UnixTime,
    ) -> Result<Option<HeaderValue>, FetchError> {
        match &self.proof {
            Proof::Basic(header) => return Ok(Some(header.clone())),
            Proof::Post(secret) => {
                form.append_pair("client_id", client_id);
                form.append_pair("client_secret", secret.expose());
            }
            Proof::Key(key) => {
                let assertion = assertion(key, client_id, issuer, now)
                    .ok_or_else(|| FetchError::Secret("cannot sign: no randomness".into()))?;
                form.append_pair("client_id", client_id);
                form.append_pair("client_assertion_type", ASSERTION_TYPE);
                form.append_pair("client_assertion", &assertion);
            }
            Proof::Tls => {
                form.append_pair("client_id", client_id);
            }
        }
        Ok(None)
    }
}

fn read_all(auth: &ClientAuth) -> Result<Vec<Vec<u8>>, String> {
    auth.files().into_iter().map(secret::read).collect()
}

/// RFC 6749 §2.3.1: both halves are form-urlencoded first.
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, String> {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)));
    let mut header = HeaderValue::try_from(format!("Basic {pair}")).map_err(|e| e.to_string())?;
    header.set_sensitive(true);
    Ok(header)
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// RFC 7523 §3. The audience is the issuer: since 25 Keycloak accepts no introspection endpoint there.
fn assertion(key: &SigningKey, client_id: &str, issuer: &str, now: UnixTime) -> Option<String> {
    let mut jti = [0; 16];
    SystemRandom::new().fill(&mut jti).ok()?;
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": issuer, "jti": URL_SAFE_NO_PAD.encode(jti),
        "iat": now.as_secs(), "exp": now.after(ASSERTION_LIFETIME).as_secs(),
    });
    key.sign(&claims).ok()
}
