//! A client that does TLS with its own certificate, or without one, connection by connection.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::edge::EDGE;
use crate::caller::Answer;

/// The name in TLS and in `Host`: where it asks for certificates Caddy wants both to be the same.
const NAME: &str = "localhost";
const SITE: &str = "localhost:8443";

/// Beyond this something hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Whoever connects to the edge.
pub(crate) struct Client(Arc<ClientConfig>);

/// A connection that is kept for as long as the edge keeps it.
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Whether it goes on with the TLS session of an earlier one.
    pub(crate) resumed: bool,
    task: JoinHandle<()>,
}

impl Client {
    /// TLS as this says; it also remembers sessions.
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }

    /// The same client as one who has never been there.
    pub(crate) fn forgetful(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        Self::new(config)
    }

    /// A new connection, or why there is none.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let connecting = async {
            let tcp = TcpStream::connect(EDGE).await.map_err(|error| error.to_string())?;
            let name = ServerName::try_from(NAME).map_err(|error| error.to_string())?;
            let tls = TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp);
            let tls = tls.await.map_err(|error| error.to_string())?;
            let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            let http = handshake(TokioIo::new(tls)).await.map_err(|error| error.to_string())?;
            let (sender, connection) = http;
            let task = tokio::spawn(async move {
                let _ = connection.await; // whoever asks next is told
            });
            Ok(Connection { sender, resumed, task })
        };
        timeout(LIMIT, connecting).await.unwrap_or_else(|_| Err("no connection in time".to_owned()))
    }

    /// One request over a connection of its own.
    pub(crate) async fn get(
        &self,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        match self.connect().await {
            Ok(mut connection) => connection.get(path, token, headers).await,
            Err(body) => Answer { body, ..Answer::default() },
        }
    }
}

impl Connection {
    /// GET with these headers, in this order.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::get(path).header(HOST, SITE);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("a request");
        let answer = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok::<_, hyper::Error>(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        match timeout(LIMIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer { body: format!("{error:?}"), ..Answer::default() },
            Err(_) => Answer { body: "no answer in time".to_owned(), ..Answer::default() },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
