//! A real Keycloak for the end-to-end tests: the distribution that Maven has fetched, in
//! development mode on the loopback address, with the realm of `../data/keycloak/shop-realm.json`.
//! The secret of a client is its id with `-secret`; the user is `alice` with the password `alice`.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that lacks its Keycloak has failed")]

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use reqwest::{Client, ClientBuilder, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// The release that the tests use, the newest that Maven Central had.
pub(crate) const VERSION: &str = "26.7.3";

const REALM: &str = include_str!("../data/keycloak/shop-realm.json");
const ADMIN: &str = "admin";
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
    port: u16,
    home: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    client: Client,
    _only: MutexGuard<'static, ()>,
}

/// What the password grant with `scope=openid` gives.
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) id: String,
    pub(crate) refresh: String,
}

impl Keycloak {
    /// Unpacks Keycloak below `work` (once), starts it with a fresh database, waits for the realm.
    /// A second caller in the same process waits until the first one's Keycloak is dropped.
    pub(crate) async fn start(work: &Path) -> Self {
        let only = RUNNING.lock().await;
        need_java();
        let home = unpacked(work);
        let data = home.join("data");
        for old in ["h2", "transaction-logs"] {
            let _ = fs::remove_dir_all(data.join(old));
        }
        fs::create_dir_all(data.join("import")).expect("the import folder");
        fs::write(data.join("import/shop-realm.json"), REALM).expect("the realm file");
        let log = work.join("keycloak.log");
        File::create(&log).expect("the log file");

        let port = free_port();
        let base = format!("http://127.0.0.1:{port}");
        let mut keycloak =
            Self { base, port, home, log, child: None, client: http_client(), _only: only };
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
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The issuer as the realm's tokens name it.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/realms/shop", self.base)
    }

    /// An access token by client credentials.
    pub(crate) async fn token(&self, client: &str, secret: &str) -> String {
        self.token_with_scope(client, secret, "").await
    }

    /// As [`Keycloak::token`], with a scope besides the client's default ones.
    pub(crate) async fn token_with_scope(&self, client: &str, secret: &str, scope: &str) -> String {
        let terms = [("grant_type", "client_credentials"), ("scope", scope)];
        text(&self.grant("shop", (client, secret), &terms).await, "access_token")
    }

    /// Access, ID and refresh token by the password grant.
    pub(crate) async fn password_tokens(
        &self,
        client: &str,
        secret: &str,
        user: &str,
        password: &str,
    ) -> Tokens {
        let terms = [
            ("grant_type", "password"),
            ("scope", "openid"),
            ("username", user),
            ("password", password),
        ];
        let answer = self.grant("shop", (client, secret), &terms).await;
        Tokens {
            access: text(&answer, "access_token"),
            id: text(&answer, "id_token"),
            refresh: text(&answer, "refresh_token"),
        }
    }

    /// Adds a generated RS256 key and returns its provider id. From the next token on the highest
    /// priority signs (the realm file's keys have 100); the older keys stay published.
    pub(crate) async fn add_rsa_key(&self, priority: u32) -> String {
        let key = json!({
            "name": format!("rs256-{priority}"),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {
                "algorithm": ["RS256"], "keySize": ["2048"], "priority": [priority.to_string()],
                "enabled": ["true"], "active": ["true"],
            },
        });
        let (_, created) = self.admin(Method::POST, "/components", Some(&key)).await;
        let id = created.rsplit('/').next().unwrap_or_default();
        assert!(!id.is_empty(), "no Location in the answer to a new key");
        id.to_owned()
    }

    /// Deletes a key provider; its key is no longer published when this returns.
    pub(crate) async fn remove_key(&self, provider: &str) {
        self.admin(Method::DELETE, &format!("/components/{provider}"), None).await;
    }

    /// The id of the key that signs with this algorithm now.
    pub(crate) async fn active_kid(&self, algorithm: &str) -> String {
        let (keys, _) = self.admin(Method::GET, "/keys", None).await;
        text(&keys["active"], algorithm)
    }

    /// The provider id of a key, as [`Keycloak::remove_key`] takes it.
    pub(crate) async fn key_provider(&self, kid: &str) -> String {
        let (keys, _) = self.admin(Method::GET, "/keys", None).await;
        let key = keys["keys"].as_array().into_iter().flatten().find(|key| key["kid"] == kid);
        text(key.unwrap_or_else(|| panic!("the realm has no key {kid}")), "providerId")
    }

    /// The admin's access token. It is of realm `master`, and lightweight.
    pub(crate) async fn admin_token(&self) -> String {
        let login = [("grant_type", "password"), ("username", ADMIN), ("password", ADMIN)];
        text(&self.grant("master", ("admin-cli", ""), &login).await, "access_token")
    }

    /// One request to the realm's admin API: the answer's body (null if empty) and its `Location`.
    pub(crate) async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (Value, String) {
        let token = self.admin_token().await;
        let mut request = self
            .client
            .request(method, format!("{}/admin/realms/shop{path}", self.base))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("Keycloak's admin API");
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        let status = answer.status();
        let body = answer.text().await.expect("a body");
        assert!(status.is_success(), "admin API, {path}: {status} {body}");
        (serde_json::from_str(&body).unwrap_or_default(), location)
    }

    /// One request to a token endpoint; the answer must be 200.
    async fn grant(&self, realm: &str, client: (&str, &str), terms: &[(&str, &str)]) -> Value {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", client.0).append_pair("client_secret", client.1);
        // Keycloak refuses an empty scope instead of leaving it out.
        form.extend_pairs(terms.iter().filter(|(_, value)| !value.is_empty()));
        let answer = self
            .client
            .post(format!("{}/realms/{realm}/protocol/openid-connect/token", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
            .send()
            .await
            .expect("Keycloak's token endpoint");
        let status = answer.status();
        let body = answer.text().await.expect("a body");
        assert!(status == StatusCode::OK, "token for {}: {status} {body}", client.0);
        serde_json::from_str(&body).expect("JSON")
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
            .env("KC_HTTP_PORT", self.port.to_string())
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
fn unpacked(work: &Path) -> PathBuf {
    let home = work.join(format!("keycloak-{VERSION}"));
    if home.is_dir() {
        return home;
    }
    let archive = archive();
    assert!(
        archive.is_file(),
        "Keycloak {VERSION} is not at {}: mvn dependency:get \
         -Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz -Dtransitive=false",
        archive.display()
    );
    // Renamed when whole, so an interrupted run leaves nothing that looks finished.
    let half = work.join(format!("unpack-{}", process::id()));
    fs::create_dir_all(&half).expect("the work folder");
    let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&half).status();
    assert!(done.is_ok_and(|status| status.success()), "tar cannot unpack {}", archive.display());
    fs::rename(half.join(format!("keycloak-{VERSION}")), &home).expect("the unpacked folder");
    let _ = fs::remove_dir(&half);
    home
}

/// Where Maven keeps the archive: `MAVEN_REPO_LOCAL`, by default `~/.m2/repository`.
fn archive() -> PathBuf {
    let repository = env::var_os("MAVEN_REPO_LOCAL").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".m2/repository"),
        PathBuf::from,
    );
    repository
        .join("org/keycloak/keycloak-quarkus-dist")
        .join(VERSION)
        .join(format!("keycloak-quarkus-dist-{VERSION}.tar.gz"))
}

/// A port below those that the kernel gives to outgoing connections: while Keycloak is stopped, a
/// client that keeps trying must not come to sit on it.
fn free_port() -> u16 {
    let first = 20_000 + (process::id() % 10_000) as u16;
    (first..32_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}

/// A client without proxies. reqwest wants a TLS provider even for plain HTTP.
pub(crate) fn client_builder() -> ClientBuilder {
    let provider = rustls::crypto::ring::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

/// A client without kept connections: they would not outlive a stop of Keycloak.
fn http_client() -> Client {
    let client = client_builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(30));
    client.build().expect("an HTTP client")
}

/// A member of a JSON object that must be a string.
fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_else(|| panic!("no {member} in the answer")).to_owned()
}
