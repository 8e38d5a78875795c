//! [`CheckLayer`]: the judgement around any [tower] service over HTTP, in one's own process.
//!
//! A request that passes goes on with its [`Grant`](crate::Grant) in the extensions. Nothing else of it
//! changes: the credential stays, and so do headers that look like identity headers, which the client may
//! have invented. So ask the grant who the caller is, or have
//! [`identity_headers`](CheckLayer::identity_headers) set. A request that does not pass is answered in
//! place of the service, with the denial in the response's extensions.
//!
//! The layer goes outside of whatever believes the request, and inside of what limits or logs it.
//!
//! [tower]: https://docs.rs/tower

mod remark;
mod service;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use tower_layer::Layer;

use super::EdgeSettings;
use super::client::CertificateFrom;
use super::forwarded::Peer;
use super::refusal::Standard;
use crate::check::Decision;
use crate::gate::Gate;
use remark::Remarks;
pub use service::{CheckFuture, CheckService};

/// Wraps services so that only requests which a [`Gate`] allows reach them.
///
/// `[token] sources`, `[server] trusted_proxies` and `[client_certificate]` are those that the gate was
/// built with. Cheap to clone. It runs on tokio with time enabled, as [`Gate::check`] does.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{Service, ServiceBuilder, service_fn};
/// use vidimus::{CheckLayer, Gate, Grant};
///
/// async fn hello(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
///     let grant: Option<&Grant> = request.extensions().get();
///     let subject = grant.and_then(Grant::subject).unwrap_or("nobody");
///     Ok(Response::new(format!("hello {subject}").into()))
/// }
///
/// # fn serve(gate: Gate) -> Result<(), Box<dyn std::error::Error>> {
/// let layer = CheckLayer::new(&gate, "default")?;
/// let service = ServiceBuilder::new().layer(layer).service_fn(hello);
/// # fn is_service<S: Service<Request<Full<Bytes>>>>(_: S) {}
/// # is_service(service);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "give it to a router or a ServiceBuilder"]
pub struct CheckLayer<R = Standard> {
    rules: LayerRules,
    refuse: R,
}

/// What a service asks by.
#[derive(Clone)]
struct LayerRules {
    gate: Gate,
    settings: Arc<EdgeSettings>,
    policy: Choice,
    peer: Arc<TellPeer>,
    certificate: CertificateFrom,
    identity: bool,
    observe: Option<Arc<Observe>>,
    remarks: Arc<Remarks>,
}

type Observe = dyn Fn(&Decision, Duration) + Send + Sync;
type Choose = dyn Fn(&Parts) -> Cow<'static, str> + Send + Sync;
type TellPeer = dyn Fn(&Parts) -> Peer + Send + Sync;

#[derive(Clone)]
enum Choice {
    Named(Arc<str>),
    ByRequest(Arc<Choose>),
}

impl CheckLayer {
    /// Every request by the policy of this name.
    ///
    /// # Errors
    /// If the gate has none of that name. (Should a change of its rules take the policy away later, every
    /// request is refused: `policy_unknown`, 403.)
    pub fn new(gate: &Gate, policy: &str) -> Result<Self, UnknownPolicy> {
        let snapshot = gate.live().load();
        if snapshot.policy(policy).is_none() {
            let mut known: Vec<_> = snapshot.policy_names().map(str::to_owned).collect();
            known.sort();
            return Err(UnknownPolicy { name: policy.to_owned(), known });
        }
        Ok(Self::with(gate, Choice::Named(policy.into())))
    }

    /// Each request by the policy that `choose` names for it. One that does not exist refuses
    /// (`policy_unknown`, 403).
    ///
    /// Choose by what the router has matched, as its own extension says, or by the method: not by the
    /// path as it came, which others may read in another way.
    pub fn choosing<N: Into<Cow<'static, str>>>(
        gate: &Gate,
        choose: impl Fn(&Parts) -> N + Send + Sync + 'static,
    ) -> Self {
        Self::with(gate, Choice::ByRequest(Arc::new(move |parts| choose(parts).into())))
    }

    fn with(gate: &Gate, policy: Choice) -> Self {
        let settings = gate.companion::<EdgeSettings>().cloned().unwrap_or_default();
        let rules = LayerRules {
            gate: gate.clone(),
            settings: Arc::new(settings),
            policy,
            peer: Arc::new(|parts| parts.extensions.get().copied().unwrap_or(Peer::Unknown)),
            certificate: CertificateFrom::default(),
            identity: false,
            observe: None,
            remarks: Arc::default(),
        };
        Self { rules, refuse: Standard }
    }
}

impl<R> CheckLayer<R> {
    /// Refuses with other responses: a function `Fn(&Refusal) -> Response<_>`,
    /// [`Grpc`](super::refusal::Grpc), or a [`Refuse`](super::refusal::Refuse) of one's own.
    pub fn refusal<O>(self, refuse: O) -> CheckLayer<O> {
        CheckLayer { rules: self.rules, refuse }
    }

    /// Tells who is at the other end of the connection: whether a header with the client's certificate
    /// is believed. Default: the extension [`Peer`], and without it nobody is. Where a proxy forwards
    /// certificates it takes both, this and
    /// [`client_certificate`](crate::GateBuilder::client_certificate).
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use axum::extract::ConnectInfo;
    /// # use vidimus::edge::forwarded::Peer;
    /// # fn layer(layer: vidimus::CheckLayer) -> vidimus::CheckLayer {
    /// layer.peer(|parts| match parts.extensions.get() {
    ///     Some(ConnectInfo(address)) => SocketAddr::into(*address),
    ///     None => Peer::Unknown,
    /// })
    /// # }
    /// ```
    pub fn peer(mut self, peer: impl Fn(&Parts) -> Peer + Send + Sync + 'static) -> Self {
        self.rules.peer = Arc::new(peer);
        self
    }

    /// Looks for the client's certificate there. Default: where the configuration says.
    pub fn certificate_from(mut self, place: CertificateFrom) -> Self {
        self.rules.certificate = place;
        self
    }

    /// Sets the policy's identity headers in each request that passes, for services that read them as
    /// they would behind the sidecar. What the client sent under those names is removed, and under names
    /// that other policies of the gate hand on; under `X_User` as under `X-User`. Default: headers stay as
    /// they came.
    pub fn identity_headers(mut self) -> Self {
        self.rules.identity = true;
        self
    }

    /// Shows each decision, and how long it took: for one's own metrics or log. It must not wait.
    pub fn observe(
        mut self,
        observe: impl Fn(&Decision, Duration) + Send + Sync + 'static,
    ) -> Self {
        self.rules.observe = Some(Arc::new(observe));
        self
    }
}

impl<S, R: Clone> Layer<S> for CheckLayer<R> {
    type Service = CheckService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.rules.clone(), self.refuse.clone())
    }
}

impl<R> fmt::Debug for CheckLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckLayer").finish_non_exhaustive()
    }
}

/// There is no policy of that name.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownPolicy {
    /// The name.
    pub name: String,
    /// Those that there are.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no policy {:?}; there are: {}", self.name, self.known.join(", "))
    }
}

/// The same text: a `main` that returns the error prints it by `Debug`.
impl fmt::Debug for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for UnknownPolicy {}
