//! The admin address: alive, ready, metrics, version.
//!
//! It has a thread and a runtime of its own, so that it answers when the data path is saturated.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::sync::{Semaphore, watch};

use super::connection::{Bounds, serve};
use super::listener::Stream;
use crate::gate::Gate;
use crate::issuer::Issuers;
use crate::telemetry::metrics::Metrics;

/// What the admin address tells about.
pub struct Admin {
    /// The gate.
    pub gate: Gate,
    /// Its issuers.
    pub issuers: Arc<Issuers>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set when the process is about to end.
    pub draining: watch::Receiver<bool>,
}

/// So few connections suffice for probes and scrapes.
const CONNECTIONS: usize = 64;

impl Admin {
    /// Answers at this address on a new thread until the process ends.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be made.
    pub fn start(self, listener: TcpListener) -> std::io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            if let Err(error) = runtime.block_on(Arc::new(self).accept(listener)) {
                tracing::error!("the admin address answers no longer: {error}");
            }
        };
        std::thread::Builder::new().name("admin".into()).spawn(run)?;
        Ok(address)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let (_keep, never) = watch::channel(false);
        loop {
            // Never closed, so this waits for a slot and cannot fail.
            let slot = Arc::clone(&slots).acquire_owned().await;
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let (admin, never) = (Arc::clone(&self), never.clone());
            // Probes come and go: an idle one gives its slot back after 10 s.
            let bounds = Bounds { header_bytes: 16 * 1024, idle_ticks: 2, ..Bounds::default() };
            tokio::spawn(async move {
                let _slot = slot;
                let answer = move |request: Request<_>| {
                    std::future::ready(admin.answer(request.method(), request.uri().path()))
                };
                serve(Stream::Tcp(stream), bounds, never, answer, drop).await;
            });
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match path {
            "/healthz" => page(StatusCode::OK, TEXT, "alive\n"),
            "/readyz" => self.readiness(),
            "/metrics" => {
                page(StatusCode::OK, METRICS, self.metrics.render(&self.gate, &self.issuers))
            }
            "/version" => {
                page(StatusCode::OK, TEXT, concat!("vidimus ", env!("CARGO_PKG_VERSION"), "\n"))
            }
            _ => page(StatusCode::NOT_FOUND, TEXT, "/healthz /readyz /metrics /version\n"),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        if *self.draining.borrow() {
            return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "ending\n");
        }
        let mut body = String::new();
        for realm in self.gate.live().load().realms().iter() {
            if realm.last_keys().is_none() {
                body += &format!("realm {} has had no keys yet\n", realm.rules().name);
            }
        }
        match self.gate.live().was_ready() {
            true => page(StatusCode::OK, TEXT, format!("ready\n{body}")),
            false => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready\n{body}")),
        }
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

fn page(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
