//! Outbound: asks issuers for their keys, which it publishes to the gate, and about tokens (RFC 7662).
//!
//! One task per realm fetches at start, on schedule and when a request meets an unknown `kid`, and is
//! the only one that fetches: single flight needs no other lock. What fails leaves the last good keys
//! where they are. Nothing here ends the process.

mod breaker;
mod client_auth;
mod discovery;
mod http;
mod introspect;
mod jwks;
pub mod key;
mod probe;
mod round;
mod secret;
mod stats;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use url::Url;

pub use self::client_auth::ClientAuth;
pub use self::http::{FetchError, check_secure};
pub use self::introspect::IntrospectionSettings;
pub use self::probe::{Places, Probe, ProbeError, Probed};
pub use self::secret::{Secret, SecretSource};
pub use self::stats::IntrospectionStats;

use self::client_auth::Credentials;
use self::http::{Client, Failure};
use self::introspect::Introspector;
use crate::check::{OwnedToken, Reply};
use crate::gate::{Live, NoReply, Refresh, Source};
use jwks::Realm;

/// How to reach one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The realm's short name, for logs.
    pub name: Arc<str>,
    /// The issuer; its metadata must name exactly this.
    pub issuer: Arc<str>,
    /// An inside address to reach it by, instead of the issuer's own scheme, host and port.
    pub fetch_base: Option<Url>,
    /// PEM certificates to trust instead of the operating system's.
    pub ca_file: Option<PathBuf>,
    /// Allows plain http to another machine: whoever is on the way may then forge any token.
    pub insecure_http: bool,
    /// Between two scheduled fetches. Keycloak publishes a key no earlier than it signs with it, so
    /// this matters for keys that are withdrawn.
    pub refresh: Duration,
    /// At least this long between two fetches that unknown `kid`s cause.
    pub cooldown: Duration,
    /// How to ask it about tokens, if at all.
    pub introspection: Option<IntrospectionSettings>,
}

impl IssuerSettings {
    /// The defaults for an issuer: at its own address, trusted as the operating system does, every five
    /// minutes, and at most every ten seconds for unknown `kid`s.
    pub fn new(issuer: &str) -> Self {
        Self {
            name: crate::check::RealmRules::new(issuer).name,
            issuer: issuer.into(),
            fetch_base: None,
            ca_file: None,
            insecure_http: false,
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(10),
            introspection: None,
        }
    }

    /// The address that is really asked.
    fn asked(&self) -> Option<Url> {
        self.fetch_base.clone().or_else(|| Url::parse(&self.issuer).ok())
    }

    /// Whether the same issuer is asked for its metadata in the same way.
    fn asks_like(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && self.fetch_base == other.fetch_base
            && self.ca_file == other.ca_file
            && self.insecure_http == other.insecure_http
    }
}

/// A client for an issuer could not be built: its `ca_file`, or a part of our credentials, is unusable.
#[derive(Debug)]
pub struct ClientError {
    /// The realm's issuer.
    pub issuer: Arc<str>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot prepare to ask {}: {}", self.issuer, self.reason)
    }
}

impl std::error::Error for ClientError {}

/// As many fetches run at once at one host, however many realms it has. Other hosts are not held up by
/// one that hangs.
const MAX_FETCHES: usize = 8;

/// All issuers of a configuration, each with its task.
pub struct Issuers {
    realms: ArcSwap<HashMap<Arc<str>, Running>>,
    live: Arc<Live>,
    /// By host. Held for a change of configuration: one at a time.
    slots: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What is in a `ca_file`.
type Trusted = Option<Arc<[u8]>>;

#[derive(Clone)]
struct Running {
    realm: Arc<Realm>,
    introspector: Option<Arc<Introspector>>,
    /// The file may change under its name.
    trusted: Trusted,
    task: AbortHandle,
}

impl Issuers {
    /// Starts fetching, on the current tokio runtime.
    ///
    /// # Errors
    /// If a file is unusable. An issuer that does not answer is no error: it may yet.
    pub fn start(settings: Vec<IssuerSettings>, live: Arc<Live>) -> Result<Arc<Self>, ClientError> {
        Ok(Self::start_prepared(Plan::prepare(settings)?, live))
    }

    /// The same with what has been prepared already.
    pub fn start_prepared(plan: Plan, live: Arc<Live>) -> Arc<Self> {
        let issuers = Arc::new(Self { realms: ArcSwap::default(), live, slots: Mutex::default() });
        issuers.replace(plan);
        issuers
    }

    /// Goes over to other issuers. Tasks of those that stay as they are go on undisturbed; those that
    /// are asked in another way now start anew, and their last good keys serve until they answer.
    pub fn replace(&self, plan: Plan) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.realms.load_full();
        let mut new = HashMap::with_capacity(plan.0.len());
        for Planned { settings, trusted, client, credentials } in plan.0 {
            let issuer = Arc::clone(&settings.issuer);
            let stays = |old: &&Running| old.realm.settings == settings && old.trusted == trusted;
            let running = match old.get(&issuer) {
                Some(running) if stays(&running) => running.clone(),
                other => {
                    let counted = other.map(|old| old.realm.outcomes()).unwrap_or_default();
                    // Where it answers is believed if it would be told in the same way now.
                    let alike = |old: &&Running| {
                        old.trusted == trusted && old.realm.settings.asks_like(&settings)
                    };
                    let endpoints = other.filter(alike).map(|old| old.realm.endpoint());
                    let endpoints = endpoints.and_then(|endpoints| (*endpoints).clone());
                    let host = settings
                        .asked()
                        .map_or_else(String::new, |url| url.origin().ascii_serialization());
                    let slots =
                        slots.entry(host).or_insert_with(|| Arc::new(Semaphore::new(MAX_FETCHES)));
                    let introspection = settings.introspection.clone();
                    let realm = Arc::new(Realm::new(settings, counted));
                    if let Some(endpoints) = endpoints {
                        realm.know(endpoints);
                    }
                    let introspector = introspection.zip(credentials).map(|(settings, proof)| {
                        let before = other.and_then(|old| old.introspector.as_ref());
                        let counted = before.map(|old| old.counted()).unwrap_or_default();
                        let (realm, live) = (Arc::clone(&realm), Arc::clone(&self.live));
                        Arc::new(Introspector::new(settings, realm, live, proof, counted))
                    });
                    let (live, slots) = (Arc::clone(&self.live), Arc::clone(slots));
                    let task = tokio::spawn(Arc::clone(&realm).run(client, live, slots));
                    Running { realm, introspector, trusted, task: task.abort_handle() }
                }
            };
            new.insert(issuer, running);
        }
        self.realms.store(Arc::new(new));
        let new = self.realms.load();
        for (issuer, running) in old.iter() {
            if new.get(issuer).is_none_or(|kept| !Arc::ptr_eq(&kept.realm, &running.realm)) {
                running.realm.retire(); // first, so that nobody takes it for orphaned
                running.task.abort();
            }
        }
    }

    /// Ends fetching, although somebody may still hold this: where a process ends, say. Otherwise it ends
    /// with the last who does. Who asks from then on is told that no issuer is in reach.
    pub fn end(&self) {
        for running in self.realms.swap(Arc::default()).values() {
            running.realm.retire(); // first, so that nobody takes it for orphaned
            running.task.abort();
        }
    }

    /// How many fetches of each realm ended how, by issuer: `ok`, or an error's label.
    pub fn outcomes(&self) -> Vec<(Arc<str>, BTreeMap<&'static str, u64>)> {
        let realms = self.realms.load();
        realms.values().map(|r| (Arc::clone(&r.realm.settings.name), r.realm.outcomes())).collect()
    }

    /// What introspection did at each realm that has it, by the realm's name.
    pub fn introspections(&self) -> Vec<(Arc<str>, IntrospectionStats)> {
        let realms = self.realms.load();
        let of = |running: &Running| {
            let name = Arc::clone(&running.realm.settings.name);
            running.introspector.as_ref().map(|introspector| (name, introspector.stats()))
        };
        realms.values().filter_map(of).collect()
    }
}

impl Drop for Issuers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Source for Issuers {
    fn refresh(
        &self,
        issuer: &str,
        kid: &str,
        has_keys: bool,
    ) -> Pin<Box<dyn Future<Output = Refresh> + Send + '_>> {
        let (issuer, kid) = (issuer.to_owned(), kid.to_owned());
        Box::pin(async move {
            loop {
                let realm =
                    self.realms.load().get(&*issuer).map(|running| Arc::clone(&running.realm));
                // Without one, the realm has just left the configuration.
                let Some(realm) = realm else { return Refresh::Unreachable };
                if let Some(refresh) = realm.refresh(&kid, has_keys).await {
                    return refresh;
                }
            }
        })
    }

    fn introspect(
        &self,
        issuer: &str,
        token: OwnedToken,
        verified: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, NoReply>> + Send + '_>> {
        let issuer = issuer.to_owned();
        let introspector = move || self.realms.load().get(&*issuer)?.introspector.clone();
        Box::pin(async move {
            let mut asked = introspector().ok_or(NoReply)?;
            loop {
                let answer = asked.ask(&token, verified).await;
                if answer.is_ok() || asked.knows_where() {
                    return answer;
                }
                match introspector() {
                    // Replaced before it knew where to ask: the new one goes on.
                    Some(now) if !Arc::ptr_eq(&now, &asked) => asked = now,
                    _ => return answer,
                }
            }
        })
    }
}

/// A `ca_file` may be the whole operating system's list: some 250 KiB.
const MAX_CA_FILE: u64 = 8 * 1024 * 1024;

/// Whether a `ca_file` can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_ca_file(path: &Path) -> Result<(), String> {
    let pem = read_ca_file(path)?;
    Client::new(Some((path, &pem)), None).map(drop)
}

/// Whether our client's credentials can be read and used.
///
/// # Errors
/// What is wrong with them.
pub fn check_credentials(settings: &IntrospectionSettings) -> Result<(), String> {
    let plain = Client::new(None, None)?;
    Credentials::load(settings, "".into(), None, &plain).map(drop)
}

/// Reads a `ca_file`.
///
/// # Errors
/// If it is no regular file, too large or cannot be read.
pub fn read_ca_file(path: &Path) -> Result<Arc<[u8]>, String> {
    secret::read_at_most(path, MAX_CA_FILE).map(Into::into)
}

/// Issuers with their clients built: nothing about it can fail any more.
pub struct Plan(Vec<Planned>);

struct Planned {
    settings: IssuerSettings,
    trusted: Trusted,
    client: Client,
    credentials: Option<Arc<Credentials>>,
}

impl Plan {
    /// Reads every `ca_file` and every secret. Realms that trust the same share connections.
    ///
    /// # Errors
    /// If one is unusable.
    pub fn prepare(settings: Vec<IssuerSettings>) -> Result<Self, ClientError> {
        Self::prepare_with(settings, None)
    }

    /// The same; with a client of the application's, if there is one, for everything but
    /// `tls_client_auth`, for which alone `ca_file` then counts. The client answers for TLS, for proxies, and for not following redirects: what
    /// came by one is not used, but the question, a secret in it, has been there. The https rule, 5 s for
    /// an answer and 1 MiB stay.
    ///
    /// # Errors
    /// If a file is unusable.
    pub fn prepare_with(
        settings: Vec<IssuerSettings>,
        client: Option<reqwest::Client>,
    ) -> Result<Self, ClientError> {
        let given = client.map(Client::given);
        let mut clients = HashMap::<Trusted, Client>::new();
        let mut plan = Vec::with_capacity(settings.len());
        for settings in settings {
            let failed = |reason| ClientError { issuer: Arc::clone(&settings.issuer), reason };
            let trusted =
                settings.ca_file.as_deref().map(read_ca_file).transpose().map_err(failed)?;
            let ca = settings.ca_file.as_deref().zip(trusted.as_deref());
            let client = match given.as_ref().or_else(|| clients.get(&trusted)) {
                Some(client) => client.clone(),
                None => {
                    let client = Client::new(ca, None).map_err(failed)?;
                    clients.insert(trusted.clone(), client.clone());
                    client
                }
            };
            let credentials = settings.introspection.as_ref().map(|introspection| {
                let trust = settings.ca_file.clone().zip(trusted.clone());
                let issuer = Arc::clone(&settings.issuer);
                Credentials::load(introspection, issuer, trust, &client).map(Arc::new)
            });
            let credentials = credentials.transpose().map_err(failed)?;
            plan.push(Planned { settings, trusted, client, credentials });
        }
        Ok(Self(plan))
    }
}
