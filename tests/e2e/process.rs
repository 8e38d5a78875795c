//! What proxies, the sidecar and the demo have in common: they are processes that hear signals.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Sends a signal, by its name without SIG. Nobody may be there any more: that is no failure.
pub(crate) fn signal(process: u32, name: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -s "$0" "$1""#, name, &process.to_string()]);
    let _ = kill.stderr(Stdio::null()).status();
}

/// Sees to it that a process ends even if the test is killed, and drops nothing: the kernel then
/// closes our side of the guard's stdin. Dropped, it does nothing more.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn of(process: u32) -> Self {
        let mut guard = Command::new("sh");
        guard.args(["-c", r#"cat; kill -s TERM "$0""#, &process.to_string()]);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(guard.expect("a shell"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that has workers of its own. Asked to end when dropped, it takes them along; killed it would
/// leave them behind.
pub(crate) struct Server {
    child: Child,
    _guard: Guard,
}

impl Server {
    /// Starts it in `folder`. What it says goes into `log`.
    pub(crate) fn start(command: &mut Command, folder: &Path, log: &Path) -> Self {
        let said = File::create(log).expect("a file for its output");
        // Debian keeps servers where only root looks.
        let mut path = env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin");
        command.current_dir(folder).env("PATH", path).stdin(Stdio::null());
        command.stdout(said.try_clone().expect("the same file")).stderr(said);
        let child = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("it is not installed: {command:?}"),
            _ => panic!("{command:?} does not start: {error}"),
        });
        Self { _guard: Guard::of(child.id()), child }
    }

    /// Whether it accepts connections. Waits until it does, or has ended.
    pub(crate) async fn accepts(&mut self, connects: impl Fn() -> bool) -> bool {
        let accepts = until(Duration::from_secs(10), async || {
            let ended = self.child.try_wait().ok().flatten().is_some();
            (ended || connects()).then_some(!ended)
        });
        accepts.await == Some(true)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file `*.log` below this folder.
pub(crate) fn log_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path()));
        } else if path.extension().is_some_and(|kind| kind == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Looks every 20 ms until there is something to see, at most this long.
pub(crate) async fn until<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a command to its end: exit code and standard output. Ends it if it takes longer than 30 s.
pub(crate) async fn run(command: &mut tokio::process::Command) -> (Option<i32>, String) {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), running).await;
    let output = output.unwrap_or_else(|_| panic!("it does not end: {command:?}"));
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}
