//! The service that nginx protects, at 127.0.0.1:8081. It trusts the identity headers, as a real one
//! would, remembers what it was asked, and answers with 500, 503 or 401 when the path says so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

const ADDRESS: &str = "127.0.0.1:8081";

/// A service that is running (or, between [`Service::stop`] and [`Service::start_again`], stopped).
pub(crate) struct Service {
    book: Arc<Book>,
    task: Option<JoinHandle<()>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
struct Book {
    /// The last request of each path.
    arrived: Mutex<HashMap<String, Arrived>>,
    count: AtomicU64,
}

impl Service {
    /// Listens from when this returns.
    pub(crate) async fn start() -> Self {
        let mut service = Self { book: Arc::default(), task: None };
        service.start_again().await;
        service
    }

    /// Listens again, and remembers what it has seen.
    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(ADDRESS).await.unwrap_or_else(|error| {
            panic!("deploy/nginx/nginx.conf wants the service at {ADDRESS}: {error}")
        });
        self.task = Some(tokio::spawn(accept(listener, Arc::clone(&self.book))));
    }

    /// Closes every connection. The port refuses new ones when this returns.
    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// The last request that came with this path.
    pub(crate) fn arrived(&self, path: &str) -> Option<Arrived> {
        self.book.arrived().get(path).cloned()
    }

    /// How many requests have come.
    pub(crate) fn count(&self) -> u64 {
        self.book.count.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl Arrived {
    /// The identity headers, as a service reads them that takes `X_Auth_Request_User` and
    /// `X~Auth~Request~User` for `X-Auth-Request-User`: `user=...`, sorted.
    pub(crate) fn identity(&self) -> Vec<String> {
        let named = self.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let name = name.strip_prefix("x-auth-request-")?;
            Some(format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
        });
        let mut identity: Vec<String> = named.collect();
        identity.sort();
        identity
    }
}

impl Book {
    fn arrived(&self) -> MutexGuard<'_, HashMap<String, Arrived>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let (parts, _) = request.into_parts();
        let path = parts.uri.path();
        let wanted = path.rsplit_once("/answer-").and_then(|(_, status)| status.parse().ok());
        let status = wanted.unwrap_or(StatusCode::OK);
        let arrived = Arrived { method: parts.method, headers: parts.headers };
        self.arrived().insert(path.to_owned(), arrived);

        let mut answer = Response::new(Full::from(own_body(status.as_u16())));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/x-own"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"own\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("77"));
            }
            _ => {}
        }
        answer
    }
}

/// The body that comes with this status; nobody else in the house writes such a one.
pub(crate) fn own_body(status: u16) -> String {
    format!("the service's own {status}\n")
}

/// The connections end with the task.
async fn accept(listener: TcpListener, book: Arc<Book>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let book = Arc::clone(&book);
        let service = service_fn(move |request| {
            let answer = book.answer(request);
            async move { Ok::<_, Infallible>(answer) }
        });
        connections.spawn(async move {
            let http = http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await; // nginx's affair
        });
        while connections.try_join_next().is_some() {}
    }
}
