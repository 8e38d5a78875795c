//! A real Keycloak for the end-to-end tests: the distribution that Maven has fetched, in
//! development mode on the loopback address, with the realm of `../data/keycloak/shop-realm.json`.
//! It answers by http and, asking for a client certificate, by https.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that lacks its Keycloak has failed")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process, sync, thread};

use reqwest::{Client, ClientBuilder, StatusCode};
use rustls::RootCertStore;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::certificates::Certificates;

/// The newest release that Maven Central had.
pub(crate) const NEWEST: &str = "26.7.3";

/// From before the audience rule: here any confidential client may introspect every token of its realm,
/// since 26.6.2 (and 26.4.12) only one whom the token names in `aud`.
pub(crate) const BEFORE_AUDIENCE_RULE: &str = "26.4.7";

const REALM: &str = include_str!("../data/keycloak/shop-realm.json");
pub(crate) const ADMIN: &str = "admin";
const START_LIMIT: Duration = Duration::from_secs(180);

/// Starts `kc.sh`, and ends the whole process group once Keycloak ends or our side of stdin closes,
/// which the kernel does for us however the test process dies.
const SUPERVISE: &str = r#"("$0" "$@"; kill -KILL 0) & cat >/dev/null; kill -KILL 0"#;

/// One at a time: they would share the unpacked folder and two cores.
static RUNNING: Mutex<()> = Mutex::const_new(());

/// A running (or, between [`Keycloak::stop`] and [`Keycloak::start_again`], stopped) Keycloak.
pub(crate) struct Keycloak {
    /// `http://127.0.0.1:PORT`
    pub(crate) base: String,
    /// `https://127.0.0.1:PORT`. Tokens are of the address where they were got.
    pub(crate) secure_base: String,
    pub(crate) certificates: Certificates,
    pub(crate) client: Client,
    /// Every token that was used.
    tokens: sync::Mutex<BTreeSet<String>>,
    ports: [u16; 2],
    home: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    _only: MutexGuard<'static, ()>,
}

impl Keycloak {
    /// Unpacks this version of Keycloak below the work folder (once), starts it with a fresh database,
    /// waits for the realm. A second caller in the same process waits until the first one's Keycloak is
    /// dropped.
    pub(crate) async fn start(version: &str) -> Self {
        let only = RUNNING.lock().await;
        need_java();
        let work = env::temp_dir().join("vidimus-e2e");
        let home = unpacked(&work, version);
        let data = home.join("data");
        for old in ["h2", "transaction-logs"] {
            let _ = fs::remove_dir_all(data.join(old));
        }
        fs::create_dir_all(data.join("import")).expect("the import folder");
        fs::write(data.join("import/shop-realm.json"), REALM).expect("the realm file");
        let log = work.join("keycloak.log");
        File::create(&log).expect("the log file");

        let certificates = Certificates::make(&work.join("certificates"));
        let ports = free_ports();
        let mut keycloak = Self {
            base: format!("http://127.0.0.1:{}", ports[0]),
            secure_base: format!("https://127.0.0.1:{}", ports[1]),
            client: http_client(certificates.trusted()),
            certificates,
            tokens: sync::Mutex::default(),
            ports,
            home,
            log,
            child: None,
            _only: only,
        };
        keycloak.start_again().await;
        keycloak
    }

    /// Starts it again after [`Keycloak::stop`]: same port, same database, so the same keys.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "Keycloak already runs");
        self.child = Some(self.spawn());
        let deadline = Instant::now() + START_LIMIT;
        let certs = format!("{}/protocol/openid-connect/certs", self.issuer());
        loop {
            let answer = self.client.get(&certs).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let what = if ended.is_some() { "ended" } else { "did not answer in time" };
                panic!("Keycloak {what}; the end of {}:\n{}", self.log.display(), self.log_tail());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills it as an outage would. The port refuses connections when this returns.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Closes stdin, upon which the supervising shell kills the group.
        child.wait().expect("the supervising shell");
        for _ in 0..1_000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[0])).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The issuer as the realm's tokens name it.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/realms/shop", self.base)
    }

    /// Remembers a token, to look for it in the logs.
    pub(crate) fn remember(&self, token: &str) {
        self.tokens.lock().expect("no panic in between").insert(token.to_owned());
    }

    /// Every token that was used.
    pub(crate) fn tokens(&self) -> BTreeSet<String> {
        self.tokens.lock().expect("no panic in between").clone()
    }

    /// `kc.sh start-dev` in a process group of its own, its output at the end of the log.
    fn spawn(&self) -> Child {
        let log = File::options().append(true).open(&self.log).expect("the log file");
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE]).arg(self.home.join("bin/kc.sh"));
        command.args(["start-dev", "--import-realm"]);
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"KC_") {
                command.env_remove(name);
            }
        }
        command
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN)
            .env("KC_HTTP_HOST", "127.0.0.1")
            .env("KC_HTTP_PORT", self.ports[0].to_string())
            .env("KC_HTTPS_PORT", self.ports[1].to_string())
            .env("KC_HTTPS_CERTIFICATE_FILE", self.certificates.file("server.pem"))
            .env("KC_HTTPS_CERTIFICATE_KEY_FILE", self.certificates.file("server.key"))
            .env("KC_HTTPS_CLIENT_AUTH", "request")
            .env("KC_TRUSTSTORE_PATHS", self.certificates.file("ca.pem"))
            // Every commit reaches the file at once, so a kill loses no key.
            .env("KC_DB_URL_PROPERTIES", ";WRITE_DELAY=0")
            // A third less processor time until it answers.
            .env("JAVA_OPTS_APPEND", "-XX:TieredStopAtLevel=1")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log)
            .spawn()
            .expect("a shell")
    }

    /// The last 30 lines of the log.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Stops with the remedy if `kc.sh` would find no Java.
fn need_java() {
    let java = env::var_os("JAVA_HOME")
        .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"));
    let found = Command::new(&java).arg("-version").stderr(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "Keycloak needs Java 17 or newer, and {} does not run: \
         apt-get install openjdk-17-jre-headless",
        java.display()
    );
}

/// The unpacked distribution below `work`; unpacks it the first time.
fn unpacked(work: &Path, version: &str) -> PathBuf {
    let home = work.join(format!("keycloak-{version}"));
    if home.is_dir() {
        return home;
    }
    let archive = archive(version);
    assert!(
        archive.is_file(),
        "Keycloak {version} is not at {}: mvn dependency:get \
         -Dartifact=org.keycloak:keycloak-quarkus-dist:{version}:tar.gz -Dtransitive=false",
        archive.display()
    );
    // Renamed when whole, so an interrupted run leaves nothing that looks finished.
    let half = work.join(format!("unpack-{}", process::id()));
    fs::create_dir_all(&half).expect("the work folder");
    let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&half).status();
    assert!(done.is_ok_and(|status| status.success()), "tar cannot unpack {}", archive.display());
    fs::rename(half.join(format!("keycloak-{version}")), &home).expect("the unpacked folder");
    let _ = fs::remove_dir(&half);
    home
}

/// Where Maven keeps the archive: `MAVEN_REPO_LOCAL`, by default `~/.m2/repository`.
fn archive(version: &str) -> PathBuf {
    let repository = env::var_os("MAVEN_REPO_LOCAL").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".m2/repository"),
        PathBuf::from,
    );
    repository
        .join("org/keycloak/keycloak-quarkus-dist")
        .join(version)
        .join(format!("keycloak-quarkus-dist-{version}.tar.gz"))
}

/// Two ports below those that the kernel gives to outgoing connections: while Keycloak is stopped, a
/// client that keeps trying must not come to sit on one.
fn free_ports() -> [u16; 2] {
    let first = 20_000 + (process::id() % 10_000) as u16;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut ports = (first..32_000).filter(free);
    [(); 2].map(|()| ports.next().expect("a free port"))
}

/// A client without proxies. reqwest wants a TLS provider even for plain HTTP.
pub(crate) fn client_builder(trusted: RootCertStore) -> ClientBuilder {
    let provider = rustls::crypto::ring::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

/// A client without kept connections: they would not outlive a stop of Keycloak.
fn http_client(trusted: RootCertStore) -> Client {
    let client = client_builder(trusted).pool_max_idle_per_host(0);
    client.timeout(Duration::from_secs(30)).build().expect("an HTTP client")
}
