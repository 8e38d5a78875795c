//! Reads the request as an authorizer must, decides nothing, and answers with as many identity headers as
//! Vidimus. With `--verify` the one thing that cannot be left out where every token is new: the signature.
//! With `--busy` it works on nothing for so many nanoseconds: what a request may cost before others wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;

use crate::Outcome;
use crate::options::Options;

pub(crate) fn serve(options: &Options) -> Outcome {
    let key = options.get("verify").map(std::fs::read).transpose()?.map(Arc::new);
    let busy = options.number("busy")?.map(Duration::from_nanos);
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        if let Some(path) = options.get("unix") {
            let listener = UnixListener::bind(path)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(connection(stream, key.clone(), busy));
            }
        }
        let listener = TcpListener::bind(options.need("listen")?).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream, key.clone(), busy));
        }
    })
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    key: Option<Arc<Vec<u8>>>,
    busy: Option<Duration>,
) {
    let service = service_fn(|request| {
        if let Some(busy) = busy {
            let began = Instant::now();
            while began.elapsed() < busy {}
        }
        let answer = answer(&request, key.as_ref().map(|key| &***key));
        async { Ok::<_, Infallible>(answer) }
    });
    // As `src/server/connection.rs` sets it: no timer, answers in one piece, the same bound for headers.
    let mut http = http1::Builder::new();
    http.max_buf_size(HEADER_BYTES).header_read_timeout(None).writev(false);
    // The other end has gone: no news.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, key: Option<&[u8]>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = token.and_then(|value| value.strip_prefix(b"Bearer "));
    if token.is_none_or(|token| key.is_some_and(|key| !is_signed(token, key))) {
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        return answer;
    }
    for (name, value) in HEADERS {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

fn is_signed(token: &[u8], key: &[u8]) -> bool {
    let Some(dot) = token.iter().rposition(|byte| *byte == b'.') else { return false };
    let mut signature = [0; 512];
    let Ok(length) = URL_SAFE_NO_PAD.decode_slice(&token[dot + 1..], &mut signature) else {
        return false;
    };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(&token[..dot], &signature[..length])
        .is_ok()
}

/// The defaults of Vidimus: 48 KiB, and the token's 16 KiB beside them.
const HEADER_BYTES: usize = 64 * 1024;

/// What Vidimus says of the token that `mint` makes.
pub(crate) const HEADERS: [(&str, &str); 6] = [
    ("x-auth-request-user", "f1d0ca5e-0000-4000-8000-a11ce0000001"),
    ("x-auth-request-preferred-username", "alice"),
    ("x-auth-request-email", "alice@example.com"),
    ("x-auth-request-client", "orders-web"),
    ("x-auth-request-scope", "openid orders:read email profile"),
    ("x-auth-request-roles", "offline_access,uma_authorization,default-roles-demo"),
];
