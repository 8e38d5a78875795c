//! What nginx, the sidecar and the demo have in common: they are processes that hear signals.

use std::process::{Child, Command, Stdio};
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
