//! Outbound: asks issuers for their keys, and publishes them to the gate.
//!
//! One task per realm fetches at start, on schedule and when a request meets an unknown `kid`, and is
//! the only one that fetches: single flight needs no other lock. What fails leaves the last good keys
//! where they are. Nothing here ends the process.

mod discovery;
mod http;
mod jwks;
mod round;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::Client;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use url::Url;

pub use self::http::{FetchError, check_secure};

use crate::gate::{Live, Refresh, Source};
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
}

impl IssuerSettings {
    /// Whether it is asked at a loopback address: then never by way of a proxy from the environment.
    fn is_on_this_machine(&self) -> bool {
        let url = self.fetch_base.clone().or_else(|| Url::parse(&self.issuer).ok());
        url.is_some_and(|url| http::is_loopback(&url))
    }
}

/// A client for an issuer could not be built: its `ca_file` is unusable.
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

/// As many fetches run at once, however many realms there are.
const MAX_FETCHES: usize = 32;

/// All issuers of a configuration, each with its task.
pub struct Issuers {
    realms: ArcSwap<HashMap<Arc<str>, Running>>,
    live: Arc<Live>,
    slots: Arc<Semaphore>,
    /// One change of configuration at a time.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct Running {
    realm: Arc<Realm>,
    task: AbortHandle,
}

impl Issuers {
    /// Starts fetching, on the current tokio runtime.
    ///
    /// # Errors
    /// If a `ca_file` is unusable. An issuer that does not answer is no error: it may yet.
    pub fn start(settings: Vec<IssuerSettings>, live: Arc<Live>) -> Result<Arc<Self>, ClientError> {
        let issuers = Arc::new(Self {
            realms: ArcSwap::default(),
            live,
            slots: Arc::new(Semaphore::new(MAX_FETCHES)),
            changing: Mutex::new(()),
        });
        issuers.replace(Plan::prepare(settings)?);
        Ok(issuers)
    }

    /// Goes over to other issuers; tasks of those that stay as they are go on undisturbed.
    pub fn replace(&self, plan: Plan) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.realms.load_full();
        let mut new = HashMap::with_capacity(plan.0.len());
        for (settings, client) in plan.0 {
            let issuer = Arc::clone(&settings.issuer);
            let running = match old.get(&issuer) {
                Some(running) if running.realm.settings == settings => running.clone(),
                other => {
                    let counted = other.map(|old| old.realm.outcomes()).unwrap_or_default();
                    let realm = Arc::new(Realm::new(settings, counted));
                    let (live, slots) = (Arc::clone(&self.live), Arc::clone(&self.slots));
                    let task = tokio::spawn(Arc::clone(&realm).run(client, live, slots));
                    Running { realm, task: task.abort_handle() }
                }
            };
            new.insert(issuer, running);
        }
        for (issuer, running) in old.iter() {
            if new.get(issuer).is_none_or(|kept| !Arc::ptr_eq(&kept.realm, &running.realm)) {
                running.task.abort();
            }
        }
        self.realms.store(Arc::new(new));
    }

    /// How many fetches of each realm ended how, by issuer: `ok`, or an error's label.
    pub fn outcomes(&self) -> Vec<(Arc<str>, BTreeMap<&'static str, u64>)> {
        let realms = self.realms.load();
        realms.values().map(|r| (Arc::clone(&r.realm.settings.name), r.realm.outcomes())).collect()
    }
}

impl Drop for Issuers {
    fn drop(&mut self) {
        self.realms.load().values().for_each(|running| running.task.abort());
    }
}

impl Source for Issuers {
    fn refresh(
        &self,
        issuer: &str,
        kid: &str,
    ) -> Pin<Box<dyn Future<Output = Refresh> + Send + '_>> {
        let realm = self.realms.load().get(issuer).map(|running| Arc::clone(&running.realm));
        let kid = kid.to_owned();
        Box::pin(async move {
            match realm {
                Some(realm) => realm.refresh(&kid).await,
                None => Refresh::Unreachable, // it has just left the configuration
            }
        })
    }
}

/// Whether a `ca_file` can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_ca_file(path: &Path) -> Result<(), String> {
    http::client(Some(path), true).map(drop)
}

/// Issuers with their clients built: nothing about it can fail any more.
pub struct Plan(Vec<(IssuerSettings, Client)>);

impl Plan {
    /// Reads every `ca_file`. Realms with the same one share connections.
    ///
    /// # Errors
    /// If one is unusable.
    pub fn prepare(settings: Vec<IssuerSettings>) -> Result<Self, ClientError> {
        let mut clients: HashMap<(Option<PathBuf>, bool), Client> = HashMap::new();
        let mut plan = Vec::with_capacity(settings.len());
        for settings in settings {
            let kind = (settings.ca_file.clone(), settings.is_on_this_machine());
            let client = match clients.get(&kind) {
                Some(client) => client.clone(),
                None => {
                    let built = http::client(kind.0.as_deref(), kind.1);
                    let client = built.map_err(|reason| ClientError {
                        issuer: Arc::clone(&settings.issuer),
                        reason,
                    })?;
                    clients.insert(kind, client.clone());
                    client
                }
            };
            plan.push((settings, client));
        }
        Ok(Self(plan))
    }
}
