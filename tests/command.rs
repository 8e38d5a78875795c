//! The `vidimus` command as a process: exit codes, and what must not end it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

fn vidimus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vidimus"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("VIDIMUS_LOG")
        .env_remove("VIDIMUS_LOG_FORMAT");
    command
}

fn run(arguments: &[&str]) -> Output {
    vidimus(arguments).output().unwrap()
}

/// Kills what a failed test would leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file(
        "good.toml",
        "[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\naudience = [\"a\"]",
    );
    let bad = file("bad.toml", "[[realm]]\nissuer = \"x\"");
    let down = file(
        "down.toml",
        "[[realm]]\nissuer = \"http://127.0.0.1:9/realms/shop\"\naudience = [\"a\"]",
    );
    for (arguments, code, said) in [
        (&["version"][..], 0, "vidimus 0."),
        (&["--version"], 0, "vidimus 0."),
        (&["--help"], 0, "Exit codes"),
        (&["serve", "--help"], 0, "--issuer"),
        (
            &["check-config", "-c", &good],
            0,
            "realm shop: issuer https://id.example.com/realms/shop, audience a",
        ),
        (&["check-config", "-c", &bad], 1, "bad.toml:2: realm[0].issuer: found \"x\""),
        (&["check-config", "-c", "/nonexistent"], 1, "cannot be read"),
        (&["serve", "-c", &bad], 78, "realm[0].audience: found nothing"),
        (
            &["serve", "--issuer", "ftp://x", "--audience", "a"],
            78,
            "command line: --issuer: found \"ftp://x\"",
        ),
        (&["serve"], 64, "--issuer URL --audience NAME"),
        (&["serve", "--issuer", "https://x/y"], 64, "--audience"),
        (&["doctor", "-c", &bad], 78, "bad.toml:2: realm[0].issuer"),
        (
            &["doctor", "-c", &down],
            1,
            "BAD   metadata       http://127.0.0.1:9/realms/shop/.well-known",
        ),
        (&["inspect", "-c", &bad, "x"], 78, "bad.toml:2: realm[0].issuer"),
        (&["inspect", "-c", &good, "-p", "none", "x"], 1, "there are: default"),
        (&["inspect", "-c", &good, "opaque"], 1, "decision: 401, reason token_opaque"),
        (&["inspect", "-c", &good], 1, "decision: 401, reason no_credential"), // nothing on stdin
        (&["inspect", "-c", &good, "{\"error\":\"invalid_grant\"}"], 1, "is it the error answer"),
        (&["inspect", "-c", &good, "Bearer", "opaque"], 1, "decision: 401, reason token_opaque"),
        (&["doctor", "-c", &good, "\"quoted\""], 1, "there are quotes around it"),
        (&["nonsense"], 64, "nonsense"),
        (&["version", "--log", "loud"], 64, "\"loud\" is not one of off, error"),
        (&["health", "--admin", "127.0.0.1:9"], 1, "127.0.0.1:9: "),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

/// The admin address, once the log has named it.
fn admin(child: &mut Child) -> String {
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        if let Some((_, rest)) = line.split_once("/version address=") {
            let address = rest.trim().to_owned();
            return address; // and the log's reader is closed here
        }
        line.clear();
    }
    panic!("it ended without naming its admin address");
}

fn metrics(admin: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_neither_fetching_nor_the_process() {
    let issuer = "http://127.0.0.1:9/realms/shop"; // refuses connections: a warning each second or two
    let arguments = [
        "serve",
        "--issuer",
        issuer,
        "--audience",
        "a",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut running = Running(vidimus(&arguments).stderr(Stdio::piped()).spawn().unwrap());
    let admin = admin(&mut running.0);
    let failed = |page: &str| {
        let line = page.lines().find(|line| line.contains("outcome=\"connect\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while failed(&metrics(&admin)) < 3 {
        assert!(Instant::now() < deadline, "fetching has stopped: {}", metrics(&admin));
        std::thread::sleep(Duration::from_millis(100));
    }
    let kill = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
