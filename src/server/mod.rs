//! The process: binds, serves, reloads, drains.

pub mod admin;
mod aside;
mod connection;
mod grpc;
mod keepalive;
mod limit;
pub mod listener;
mod remark;
mod route;
mod streams;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use hyper::body::Incoming;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{Config, ListenAddr, ServerSettings};
use crate::edge::EdgeSettings;
use crate::edge::forwarded::Peer;
use crate::gate::{Gate, Live, RulesError, SystemClock};
use crate::issuer::{ClientError, Issuers, Plan};
use crate::telemetry::Seldom;
use crate::telemetry::metrics::Metrics;
use admin::Admin;
pub use connection::Bounds;
use keepalive::{ADVICE, Keepalive};
pub use limit::raise_open_files;
use listener::{BindError, Listener, Stream};
use remark::Remarks;
use route::route;

/// A sidecar that is serving.
pub struct Server {
    app: Arc<App>,
    issuers: Arc<Issuers>,
    slots: Arc<Semaphore>,
    connections: u32,
    drain: watch::Sender<bool>,
    settings: ServerSettings,
    cache_bytes: u64,
    token_bytes: usize,
    addresses: Vec<ListenAddr>,
    admin: SocketAddr,
    accepting: Vec<tokio::task::JoinHandle<()>>,
}

/// What every connection needs.
struct App {
    gate: Gate,
    settings: ArcSwap<EdgeSettings>,
    metrics: Arc<Metrics>,
    remarks: Remarks,
    draining: watch::Receiver<bool>,
    /// For messages over gRPC that come in pieces.
    room: Semaphore,
}

/// Why a sidecar could not start, or not take over a configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address is taken or not allowed.
    Bind(BindError),
    /// The admin address is.
    Admin(SocketAddr, std::io::Error),
    /// A `ca_file` is unusable.
    Client(ClientError),
    /// The rules contradict each other.
    Rules(RulesError),
    /// Two metrics have one name: a bug.
    Metrics(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Admin(address, error) if error.kind() == std::io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen at {address}: another process listens there; stop it, or choose \
                 another address (admin)"
            ),
            Self::Admin(address, error) => write!(f, "cannot listen at {address} (admin): {error}"),
            Self::Client(error) => error.fmt(f),
            Self::Rules(error) => error.fmt(f),
            Self::Metrics(error) => write!(f, "cannot register metrics: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Binds every address, starts fetching keys and answers. It does not wait for any issuer.
    ///
    /// # Errors
    /// If an address or a `ca_file` cannot be used. Then nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_bounded(config, Bounds::default()).await
    }

    /// The same with other bounds on connections.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_bounded(config: Config, mut bounds: Bounds) -> Result<Self, StartError> {
        bounds.header_bytes += config.rules.limits.token;
        let calls = config.issuers.iter().filter_map(|issuer| issuer.introspection.as_ref());
        let calls = calls.map(|introspection| introspection.max_concurrent).sum();
        bounds.connections = limit::fit_connections(bounds.connections, calls);
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let token_bytes = config.rules.limits.token;
        let live = Live::new(config.rules, Arc::new(SystemClock)).map_err(StartError::Rules)?;
        let live = Arc::new(live);

        // Bind before anything is asked or answered: a second process by mistake does no harm.
        let mut listeners = Vec::new();
        for address in &config.server.listen {
            let listener = Listener::bind(address, config.server.socket_mode).await;
            listeners.push(listener.map_err(StartError::Bind)?);
        }
        let failed = |error| StartError::Admin(config.server.admin, error);
        let admin_listener = std::net::TcpListener::bind(config.server.admin).map_err(failed)?;

        let issuers =
            Issuers::start(config.issuers, Arc::clone(&live)).map_err(StartError::Client)?;
        let gate = Gate::new(live, Arc::clone(&issuers) as _, config.cache_bytes);
        let metrics = Arc::new(metrics);
        let (drain, draining) = watch::channel(false);
        let admin = Admin {
            gate: gate.clone(),
            issuers: Arc::clone(&issuers),
            metrics: Arc::clone(&metrics),
            draining: draining.clone(),
        };
        let admin = admin.start(admin_listener).map_err(failed)?;

        let settings = ArcSwap::from_pointee(config.edge);
        let app = Arc::new(App {
            gate,
            settings,
            metrics,
            remarks: Remarks::default(),
            draining: draining.clone(),
            room: Semaphore::new(grpc::ROOM),
        });
        let slots = Arc::new(Semaphore::new(bounds.connections));
        let addresses = listeners.iter().map(Listener::address).collect();
        let accept = |listener| {
            let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
            tokio::spawn(accept_for_ever(app, listener, slots, bounds, draining.clone()))
        };
        Ok(Self {
            accepting: listeners.into_iter().map(accept).collect(),
            app,
            issuers,
            slots,
            connections: u32::try_from(bounds.connections).unwrap_or(u32::MAX),
            drain,
            settings: config.server,
            cache_bytes: config.cache_bytes,
            token_bytes,
            addresses,
            admin,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[ListenAddr] {
        &self.addresses
    }

    /// Where its admin answers.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The gate it asks.
    pub fn gate(&self) -> &Gate {
        &self.app.gate
    }

    /// Takes over realms, policies, `[token]` and trusted proxies of another configuration at once.
    /// The rest of `[server]`, and `[cache]`, wait for the next start: the keys among them that have
    /// changed are told.
    ///
    /// # Errors
    /// If a `ca_file` cannot be used; then nothing changes.
    pub fn reload(&self, config: Config) -> Result<Vec<&'static str>, StartError> {
        let result = self.try_reload(config);
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.app.metrics.reloads.with_label_values(&[outcome]).inc();
        result
    }

    fn try_reload(&self, config: Config) -> Result<Vec<&'static str>, StartError> {
        let plan = Plan::prepare(config.issuers).map_err(StartError::Client)?;
        let live = self.app.gate.live();
        let token_bytes = config.rules.limits.token;
        live.replace_rules(config.rules).map_err(StartError::Rules)?;
        self.issuers.replace(plan);
        live.forget_proofs(); // of those who were asked in the old way in between
        self.app.settings.store(Arc::new(config.edge));
        let (old, new) = (&self.settings, &config.server);
        let waiting = [
            ("server.listen", old.listen != new.listen),
            ("server.admin", old.admin != new.admin),
            ("server.socket_mode", old.socket_mode != new.socket_mode),
            ("server.drain_timeout", old.drain_timeout != new.drain_timeout),
            ("token.max_size, where it exceeds the old one,", self.token_bytes < token_bytes),
            ("cache.max_bytes", self.cache_bytes != config.cache_bytes),
        ];
        Ok(waiting.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect())
    }

    /// Counts a reload that failed before it came here.
    pub fn reload_failed(&self) {
        self.app.metrics.reloads.with_label_values(&["failed"]).inc();
    }

    /// Stops accepting, lets requests in flight finish within `drain_timeout`, and ends. True if all
    /// did.
    pub async fn drain(mut self) -> bool {
        self.drain.send_replace(true);
        for listener in std::mem::take(&mut self.accepting) {
            listener.abort();
            let _ = listener.await; // its socket is closed, and its file gone, from here on
        }
        // Every connection holds a slot: having all of them means that none is left.
        timeout(self.settings.drain_timeout, self.slots.acquire_many(self.connections))
            .await
            .is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.iter().for_each(tokio::task::JoinHandle::abort);
        self.issuers.end(); // whom the admin's thread holds until the process ends
    }
}

/// Should accepting panic, an address that nobody answers at any more would be an outage with a good
/// health check: it begins anew.
async fn accept_for_ever(
    app: Arc<App>,
    listener: Listener,
    slots: Arc<Semaphore>,
    bounds: Bounds,
    drain: watch::Receiver<bool>,
) {
    let listener = Arc::new(listener);
    loop {
        let mut accepting = JoinSet::new();
        let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
        accepting.spawn(accept(app, Arc::clone(&listener), slots, bounds, drain.clone()));
        if accepting.join_next().await.is_none_or(|ended| !ended.is_err_and(|e| e.is_panic())) {
            return;
        }
        tracing::error!(address = %listener.address(), "accepting has panicked; it begins anew");
    }
}

async fn accept(
    app: Arc<App>,
    listener: Arc<Listener>,
    slots: Arc<Semaphore>,
    bounds: Bounds,
    drain: watch::Receiver<bool>,
) {
    let keepalive = Arc::new(Keepalive::default());
    let (full, broken) = (Seldom::every(MINUTE), Seldom::every(MINUTE));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            // Whoever gives up while waiting must not slow down the others.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of file descriptors, mostly: it passes when connections end.
                if broken.now() {
                    let address = listener.address();
                    tracing::warn!(%address, "cannot accept a connection: {error}");
                }
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if slots.available_permits() == 0 && full.now() {
            let connections = bounds.connections;
            tracing::warn!(connections, "as many connections as allowed are open; more wait");
        }
        // Until one ends, this one waits unread, and those after it in the kernel's queue.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (app, keepalive) = (Arc::clone(&app), Arc::clone(&keepalive));
        tokio::spawn(connection(app, stream, peer, slot, bounds, drain.clone(), keepalive));
    }
}

async fn connection(
    app: Arc<App>,
    stream: Stream,
    peer: Peer,
    slot: OwnedSemaphorePermit,
    bounds: Bounds,
    drain: watch::Receiver<bool>,
    keepalive: Arc<Keepalive>,
) {
    app.metrics.connections.inc();
    let open = Open::new(app.metrics.connections_open.clone());
    let service = {
        let app = Arc::clone(&app);
        move |request: Request<Incoming>| route(&app, request, peer)
    };
    let came = {
        let keepalive = Arc::clone(&keepalive);
        move |requests| keepalive.requests(requests)
    };
    connection::serve(stream, bounds, drain, service, came).await;
    drop(open);
    if keepalive.connection_ended() {
        tracing::warn!(%peer, "{ADVICE}");
    }
    drop(slot);
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

const MINUTE: Duration = Duration::from_secs(60);
