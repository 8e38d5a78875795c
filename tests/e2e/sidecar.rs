//! The real `vidimus serve` with a configuration file, and its admin address.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::caller::{Answer, Caller};
use crate::process::{Guard, signal, until};

/// The program that cargo has built for these tests.
pub(crate) const VIDIMUS: &str = env!("CARGO_BIN_EXE_vidimus");

/// A sidecar that is running. Killed when dropped.
pub(crate) struct Sidecar {
    child: Child,
    file: PathBuf,
    log: PathBuf,
    edge: Caller,
    admin: Caller,
    _guard: Guard,
}

impl Sidecar {
    /// Starts it in `folder`, where `NAME.toml` and `NAME.log` come to lie, and waits until it is
    /// alive. The configuration leaves the choice of ports to the kernel; the log tells them.
    pub(crate) async fn start(folder: &Path, name: &str, level: &str, configuration: &str) -> Self {
        let (file, log) = (folder.join(name).with_extension("toml"), folder.join(name));
        let log = log.with_extension("log");
        fs::write(&file, configuration).expect("the configuration file");
        let mut child = Command::new(VIDIMUS)
            .args(["serve", "--log", level, "--config"])
            .arg(&file)
            .current_dir(folder)
            .env_remove("VIDIMUS_LOG_FORMAT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("vidimus starts");
        let guard = Guard::of(child.id().expect("its process"));
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let addresses = until(Duration::from_secs(10), async || {
            let text = read();
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "vidimus ended at once:\n{text}");
            Some((address(&text, false)?, address(&text, true)?))
        });
        let (edge, admin) = addresses.await.unwrap_or_else(|| panic!("no addresses:\n{}", read()));
        let (edge, admin) = (Caller::new(&edge), Caller::new(&admin));
        let sidecar = Self { child, file, log, edge, admin, _guard: guard };
        let alive = until(Duration::from_secs(10), async || {
            (sidecar.admin.get("/healthz", None).await.status == 200).then_some(())
        });
        assert!(alive.await.is_some(), "vidimus is not alive:\n{}", sidecar.log());
        sidecar
    }

    /// Asks it directly, as nginx would.
    pub(crate) fn edge(&self) -> &Caller {
        &self.edge
    }

    /// A page of the admin address.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        self.admin.get(path, None).await
    }

    /// Whether it is ready before the time is over.
    pub(crate) async fn gets_ready(&self, limit: Duration) -> bool {
        let ready =
            until(limit, async || (self.admin("/readyz").await.status == 200).then_some(()));
        ready.await.is_some()
    }

    /// The sum of a metric's series that have these labels: `outcome="ok"`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> u64 {
        let page = self.admin("/metrics").await.body;
        let of_it = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (series, value) = rest.rsplit_once(' ')?;
            series.contains(labels).then(|| value.parse::<f64>().ok())?
        });
        of_it.sum::<f64>() as u64
    }

    /// How often it has asked for keys, in vain or not.
    pub(crate) async fn fetches(&self) -> u64 {
        self.metric("vidimus_jwks_refresh_total", "").await
    }

    /// How often it has asked about tokens, or would have if it might.
    pub(crate) async fn calls(&self) -> u64 {
        self.metric("vidimus_introspection_total", "").await
    }

    /// Writes another configuration, sends SIGHUP, and returns what it logs about it.
    pub(crate) async fn reload(&self, configuration: &str) -> String {
        let before = self.log().len();
        fs::write(&self.file, configuration).expect("the configuration file");
        self.signal("HUP");
        let said = until(Duration::from_secs(5), async || {
            let new = self.log().split_off(before);
            let done = new.contains("reloaded the configuration") || new.contains("stays in force");
            done.then_some(new)
        });
        said.await.unwrap_or_default()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        self.child.id().into_iter().for_each(|process| signal(process, name));
    }

    /// Waits until it has ended, and returns its exit code; nothing if it runs on or was killed.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let ended = timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.ok().and_then(Result::ok).and_then(|status| status.code())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The TCP address in the log that is for edges, or the admin's.
fn address(log: &str, admin: bool) -> Option<String> {
    let lines = log.lines().filter(|line| line.contains(" listening for "));
    let lines = lines.filter(|line| line.contains("/healthz") == admin);
    let addresses = lines.filter_map(|line| line.rsplit_once("address="));
    addresses
        .map(|(_, it)| it.trim())
        .find(|it| it.parse::<std::net::SocketAddr>().is_ok())
        .map(str::to_owned)
}
