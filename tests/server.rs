//! The whole server over real sockets: protocols, bounds, admin, reload, drain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{THUMBPRINT, claims, ec_key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use vidimus::check::Thumbprint;
use vidimus::config::{Config, ListenAddr};
use vidimus::edge::forwarded::TrustedProxies;
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::server::{Bounds, Server};
use vidimus::testing::key::SigningKey;
use vidimus::testing::{Fault, Issuer};

struct World {
    server: Server,
    issuer: Issuer,
    key: SigningKey,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::bounded(Bounds::default()).await
    }

    async fn bounded(bounds: Bounds) -> Self {
        let key = ec_key("k1");
        let issuer =
            Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&configuration(&issuer, &folder, ""), "test").unwrap();
        let server = Server::start_bounded(config, bounds).await.unwrap();
        let world = Self { server, issuer, key, folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !world.admin("/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "not ready within 10 s");
            sleep(Duration::from_millis(5)).await;
        }
        world
    }

    fn address(&self) -> SocketAddr {
        match self.server.addresses()[0] {
            ListenAddr::Tcp(address) => address,
            ListenAddr::Unix(_) => panic!("the first address is TCP"),
        }
    }

    fn token(&self) -> String {
        self.token_of(&self.key)
    }

    fn token_of(&self, key: &SigningKey) -> String {
        let now = SystemClock.now().as_secs();
        key.sign(&claims(json!({ "iss": self.issuer.issuer(), "iat": now, "exp": now + 300 })))
            .unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.server.admin()).await.unwrap();
        ask(&mut stream, "GET", path, "Connection: close\r\n").await
    }

    async fn metric(&self, line: &str) -> f64 {
        let page = self.admin("/metrics").await;
        let value = page.lines().find_map(|found| found.strip_prefix(line)).map(str::trim);
        value.unwrap_or_else(|| panic!("no {line} in {page}")).parse().unwrap()
    }
}

fn configuration(issuer: &Issuer, folder: &tempfile::TempDir, more: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\nadmin = \"127.0.0.1:0\"\n\
         drain_timeout = \"5s\"\n[[realm]]\nissuer = \"{}\"\naudience = [\"orders-api\"]\n{more}",
        folder.path().join("edge.sock").display(),
        issuer.issuer(),
    )
}

/// One request on a connection, and its answer as text.
async fn ask(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &str,
) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: vidimus\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream, method).await
}

async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin), method: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        loop {
            let mut chunk = [0; 8192];
            let count = stream.read(&mut chunk).await.unwrap();
            text.extend_from_slice(&chunk[..count]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            if count == 0 {
                return whole;
            }
            if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                let length = head.to_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length: ")
                        .map(|length| length.parse::<usize>().unwrap())
                });
                if method == "HEAD" || length.is_some_and(|length| body.len() >= length) {
                    return whole;
                }
            }
        }
    };
    timeout(Duration::from_secs(8), read).await.expect("an answer within 8 s")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn answers_many_requests_on_one_connection_over_tcp_and_unix() {
    let world = World::new().await;
    let good = bearer(&world.token());
    let mut tcp = world.connect().await;
    let mut unix = UnixStream::connect(world.folder.path().join("edge.sock")).await.unwrap();
    for _ in 0..20 {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            let told = ask(&mut tcp, method, "/auth", &good).await;
            assert!(told.starts_with("HTTP/1.1 200"), "{method} {told}");
            assert!(told.contains("x-auth-request-preferred-username: alice\r\n"), "{told}");
            let told = ask(&mut unix, method, "/auth/default?x=/admin", "").await;
            assert!(told.starts_with("HTTP/1.1 401"), "{method} {told}");
            assert!(told.contains("www-authenticate: Bearer realm=\"default\"\r\n"), "{told}");
        }
    }
    for (path, status) in [
        ("/", "404"),
        ("/authx", "404"),
        ("/auth/", "403"),
        ("/auth/nope", "403"),
        ("/auth/default/", "403"),
        ("/auth/%64efault", "403"),
        ("//auth", "404"),
        ("/AUTH", "404"),
    ] {
        let told = ask(&mut tcp, "GET", path, &good).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{path} {told}");
    }
    assert_eq!(world.metric("vidimus_connections_open").await, 2.0);
}

#[tokio::test]
async fn a_refusal_to_head_has_no_body_and_keeps_the_connection() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    for _ in 0..3 {
        let told = ask(&mut stream, "HEAD", "/auth", "").await;
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 401") && !head.contains("connection: close"), "{head}");
        assert_eq!(body, "");
    }
}

#[tokio::test]
async fn a_short_body_that_nobody_reads_keeps_the_connection() {
    let world = World::new().await;
    let good = bearer(&world.token());
    let mut stream = world.connect().await;
    for _ in 0..3 {
        for more in
            ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"]
        {
            let told = ask(&mut stream, "POST", "/auth", &format!("{good}{more}")).await;
            assert!(
                told.starts_with("HTTP/1.1 200") && !told.contains("connection: close"),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn speaks_h2c_on_the_same_address() {
    let world = World::new().await;
    let stream = TokioIo::new(world.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..50 {
        let request = Request::get("http://vidimus/auth")
            .header("authorization", format!("Bearer {}", world.token()))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-auth-request-client"], "orders-web");
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(world.metric("vidimus_connections_total").await, 1.0);
}

#[tokio::test]
async fn a_slow_header_and_an_idle_connection_are_ended_and_a_waiting_request_is_not() {
    let tick = Duration::from_millis(100);
    let world = World::bounded(Bounds { tick, idle_ticks: 6, ..Bounds::default() }).await;
    world.issuer.set_fault(Some(Fault::Hang));

    // Waits 5 s for a key: many ticks, but it is not idle.
    let mut waiting = world.connect().await;
    let unknown = bearer(&world.token_of(&ec_key("k2")));
    waiting
        .write_all(format!("GET /auth HTTP/1.1\r\nHost: v\r\n{unknown}\r\n").as_bytes())
        .await
        .unwrap();

    let ended_after = |first: &'static [u8], drip: bool| {
        let address = world.address();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(first).await.unwrap();
            let began = Instant::now();
            let mut rest = Vec::new();
            let end = async {
                loop {
                    let mut chunk = [0; 1024];
                    tokio::select! {
                        read = stream.read(&mut chunk) => match read {
                            Ok(0) | Err(_) => return,
                            Ok(count) => rest.extend_from_slice(&chunk[..count]),
                        },
                        () = sleep(Duration::from_millis(20)), if drip => {}
                    }
                    if drip && stream.write_all(b"x").await.is_err() {
                        return;
                    }
                }
            };
            timeout(Duration::from_secs(3), end).await.expect("ended within 3 s");
            began.elapsed()
        }
    };
    let slow = ended_after(b"GET /auth HTTP/1.1\r\nHost: v\r\nX-Slow: ", true).await;
    assert!(slow <= tick * 4, "slow header: {slow:?}");
    let silent = ended_after(b"", false).await;
    assert!(silent <= tick * 4, "silent: {silent:?}");
    let idle = ended_after(b"GET /auth HTTP/1.1\r\nHost: v\r\n\r\n", false).await;
    assert!(idle >= tick * 4 && idle <= tick * 12, "idle: {idle:?}");

    let told = answer(&mut waiting, "GET").await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("retry-after: 5"), "{told}");
}

#[tokio::test]
async fn a_header_beyond_its_bound_is_refused_and_a_large_token_passes_to_judgement() {
    let world = World::new().await;
    let told =
        ask(&mut world.connect().await, "GET", "/auth", &bearer(&"A".repeat(16 * 1024))).await;
    assert!(told.contains("the token is not a JWT"), "{told}");
    let told =
        ask(&mut world.connect().await, "GET", "/auth", &bearer(&"A".repeat(17 * 1024))).await;
    assert!(told.contains("the token is too large"), "{told}");
    let told =
        ask(&mut world.connect().await, "GET", "/auth", &bearer(&"A".repeat(100 * 1024))).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let told = ask(&mut world.connect().await, "GET", "/auth", &many).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
}

#[tokio::test]
async fn whatever_bytes_arrive_the_next_request_is_answered() {
    let world = World::new().await;
    for bytes in [
        &b"\r\n\r\n\r\n"[..],
        b"GET /auth HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff",
        b"GET /auth HTTP/1.1\r\nHost: v\r\nAuthorization: Bearer \xff\xfe\x00\r\n\r\n",
        b"GET /auth HTTP/1.1\r\nHost: v\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /auth HTTP/1.1\r\nHost: v\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /auth\xff\xff HTTP/1.1\r\nHost: v\r\n\r\n",
        b"GET http://[::bad/auth HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = world.connect().await;
        let _ = stream.write_all(bytes).await; // it may be closed already
        let _ = stream.shutdown().await;
        let mut told = Vec::new();
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut told)).await;
        assert!(!told.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
        let told = ask(&mut world.connect().await, "GET", "/auth", &bearer(&world.token())).await;
        assert!(told.starts_with("HTTP/1.1 200"), "after {bytes:?}: {told}");
    }
}

#[tokio::test]
async fn the_admin_address_answers_when_every_connection_is_taken() {
    let world = World::bounded(Bounds { connections: 4, ..Bounds::default() }).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        let mut stream = world.connect().await;
        assert!(ask(&mut stream, "GET", "/auth", "").await.starts_with("HTTP/1.1 401"));
        taken.push(stream);
    }
    let mut fifth = world.connect().await; // in the kernel's queue
    fifth.write_all(b"GET /auth HTTP/1.1\r\nHost: v\r\n\r\n").await.unwrap();
    let mut chunk = [0; 16];
    assert!(timeout(Duration::from_millis(200), fifth.read(&mut chunk)).await.is_err(), "it waits");
    for (path, expected) in [
        ("/healthz", "alive"),
        ("/readyz", "ready"),
        ("/version", "vidimus 0."),
        ("/metrics", "vidimus_connections_open 4"),
    ] {
        let told = world.admin(path).await;
        assert!(told.starts_with("HTTP/1.1 200") && told.contains(expected), "{path}: {told}");
    }
    assert!(world.admin("/nope").await.starts_with("HTTP/1.1 404"));
    taken.pop();
    assert!(
        answer(&mut fifth, "GET").await.starts_with("HTTP/1.1 401"),
        "and is served in its turn"
    );
}

#[tokio::test]
async fn counts_every_decision_under_configured_names_only() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    let stranger = world.token_of(&ec_key("stranger"));
    for headers in [bearer(&world.token()), bearer(&stranger), bearer("x"), String::new()] {
        ask(&mut stream, "GET", "/auth", &headers).await;
    }
    ask(&mut stream, "GET", "/auth/made-up-name", "").await;
    let page = world.admin("/metrics").await;
    for line in [
        r#"vidimus_decisions_total{edge="auth_request",outcome="allow",policy="default",realm="shop",reason="ok"} 1"#,
        r#"vidimus_decisions_total{edge="auth_request",outcome="deny",policy="default",realm="shop",reason="key_unknown"} 1"#,
        r#"vidimus_decisions_total{edge="auth_request",outcome="deny",policy="default",realm="",reason="token_opaque"} 1"#,
        r#"vidimus_decisions_total{edge="auth_request",outcome="deny",policy="default",realm="",reason="no_credential"} 1"#,
        r#"vidimus_decisions_total{edge="auth_request",outcome="deny",policy="",realm="",reason="policy_unknown"} 1"#,
        r#"vidimus_jwks_keys{realm="shop"} 1"#,
        r#"vidimus_build_info{version="0.1.0"} 1"#,
        "vidimus_check_seconds_count 5",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert!(!page.contains("made-up-name") && !page.contains("stranger"), "{page}");
    assert_eq!(world.metric(r#"vidimus_jwks_refresh_total{outcome="ok",realm="shop"}"#).await, 2.0);
}

#[tokio::test]
async fn a_reload_takes_effect_at_once_and_a_broken_one_not_at_all() {
    let world = World::new().await;
    let good = bearer(&world.token());
    let mut stream = world.connect().await;
    assert!(ask(&mut stream, "GET", "/auth", &good).await.starts_with("HTTP/1.1 200"));

    let load =
        |more: &str| Config::parse(&configuration(&world.issuer, &world.folder, more), "test");
    world.server.reload(load("[policy.default]\nscopes = [\"orders:delete\"]\n[token]\nsources = [\"authorization\", \"cookie:at\"]").unwrap()).unwrap();
    let told = ask(&mut stream, "GET", "/auth", &good).await;
    assert!(told.starts_with("HTTP/1.1 403") && told.contains("scope=\"orders:delete\""), "{told}");
    let told = ask(&mut stream, "GET", "/auth", &format!("{good}Cookie: at=x\r\n")).await;
    assert!(told.contains("more than one credential"), "{told}");

    assert!(load("[policy.default]\nscope = []").is_err());
    let mut broken = load("").unwrap();
    broken.issuers[0].ca_file = Some("/nonexistent.pem".into());
    assert!(world.server.reload(broken).is_err());
    assert!(
        ask(&mut stream, "GET", "/auth", &good).await.starts_with("HTTP/1.1 403"),
        "the old one stays"
    );
    assert_eq!(world.metric(r#"vidimus_reloads_total{outcome="ok"}"#).await, 1.0);
    assert_eq!(world.metric(r#"vidimus_reloads_total{outcome="failed"}"#).await, 1.0);
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_logged_once_a_minute_with_the_reason() {
    let world = World::new().await;
    let now = SystemClock.now().as_secs();
    let bound = json!({ "iss": world.issuer.issuer(), "iat": now, "exp": now + 300,
        "cnf": { "x5t#S256": THUMBPRINT } });
    let token = bearer(&world.key.sign(&claims(bound)).unwrap());
    let load = |section: &str, trusted| {
        let text = configuration(&world.issuer, &world.folder, section);
        let mut config = Config::parse(&text, "test").unwrap();
        config.edge.trusted = trusted;
        world.server.reload(config).unwrap();
    };
    let mut stream = world.connect().await;
    let (everybody, nobody) = (TrustedProxies::default(), TrustedProxies(Vec::new()));
    let thumbprint = "[client_certificate]\nprovider = \"thumbprint\"";
    let header = format!("{token}X-Client-Cert-Sha256: {THUMBPRINT}\r\n");
    load(thumbprint, everybody.clone());
    assert!(ask(&mut stream, "GET", "/auth", &header).await.starts_with("HTTP/1.1 200"));

    let envoy = "[client_certificate]\nprovider = \"envoy\"\ncheck_validity = true";
    let hash = Thumbprint::parse(THUMBPRINT).unwrap();
    let hash: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = format!("{token}X-Forwarded-Client-Cert: Hash={hash}\r\n");
    let alias = format!("{token}X_Client_Cert_Sha256: {THUMBPRINT}\r\n");
    for (section, trusted, headers, said, logged) in [
        (thumbprint, nobody, &header, "this proxy may not forward one", "not in trusted_proxies"),
        ("", everybody.clone(), &header, "none was shown", "there is no [client_certificate]"),
        (
            thumbprint,
            everybody.clone(),
            &alias,
            "not clear which certificate",
            "the header x_client_cert_sha256 came, which many servers take for x-client-cert-sha256",
        ),
        (envoy, everybody, &hash, "not accepted here", "the proxy forwards its hash alone"),
    ] {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        load(section, trusted);
        for _ in 0..2 {
            let told = ask(&mut stream, "GET", "/auth", headers).await;
            assert!(told.starts_with("HTTP/1.1 401") && told.contains(said), "{told}");
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(logged)).collect();
        assert_eq!(lines.len(), 1, "{logged:?} in {log}");
        assert!(lines[0].contains("WARN") && lines[0].contains("peer=127.0.0.1"), "{log}");
        assert!(!log.contains(THUMBPRINT), "{log}");
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn once_ready_it_stays_ready_whatever_realm_is_added() {
    let world = World::new().await;
    let more = "[[realm]]\nname = \"far\"\nissuer = \"http://127.0.0.1:9/realms/far\"\naudience = [\"a\"]\n";
    let config = Config::parse(&configuration(&world.issuer, &world.folder, more), "test").unwrap();
    world.server.reload(config).unwrap();
    let told = world.admin("/readyz").await;
    assert!(
        told.starts_with("HTTP/1.1 200") && told.contains("realm far has had no keys yet"),
        "{told}"
    );
    let fetched = r#"vidimus_jwks_refresh_total{outcome="ok",realm="shop"}"#;
    assert!(world.metric(fetched).await >= 1.0, "counters survive a reload");
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_takes_nothing_new() {
    let world = World::new().await;
    world.issuer.set_fault(Some(Fault::Hang));
    let mut idle = world.connect().await;
    assert!(ask(&mut idle, "GET", "/auth", "").await.starts_with("HTTP/1.1 401"));
    let unknown = bearer(&world.token_of(&ec_key("k2")));
    let mut waiting = world.connect().await;
    waiting
        .write_all(format!("GET /auth HTTP/1.1\r\nHost: v\r\n{unknown}\r\n").as_bytes())
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;

    let (address, socket) = (world.address(), world.folder.path().join("edge.sock"));
    let admin = world.server.admin();
    let World { server, issuer: _issuer, folder: _folder, .. } = world;
    let draining = tokio::spawn(server.drain());
    let mut chunk = [0; 16];
    assert_eq!(idle.read(&mut chunk).await.unwrap(), 0, "idle connections end at once");
    assert!(TcpStream::connect(address).await.is_err(), "nobody accepts any more");
    assert!(!socket.exists());
    let told = ask(
        &mut TcpStream::connect(admin).await.unwrap(),
        "GET",
        "/readyz",
        "Connection: close\r\n",
    )
    .await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(answer(&mut waiting, "GET").await.starts_with("HTTP/1.1 503"), "it got its answer");
    assert!(draining.await.unwrap(), "everything finished in time");
}

#[tokio::test]
async fn a_taken_address_is_said_and_nothing_is_left_behind() {
    let world = World::new().await;
    let text = format!(
        "[server]\nlisten = [\"unix:{}\", \"{}\"]\nadmin = \"127.0.0.1:0\"\n[[realm]]\nissuer = \"{}\"\naudience = [\"a\"]",
        world.folder.path().join("second.sock").display(),
        world.address(),
        world.issuer.issuer()
    );
    let error = match Server::start(Config::parse(&text, "test").unwrap()).await {
        Ok(_) => panic!("two servers at one address"),
        Err(error) => error.to_string(),
    };
    assert!(
        error.contains(&world.address().to_string()) && error.contains("another process"),
        "{error}"
    );
    assert!(!world.folder.path().join("second.sock").exists());
}
