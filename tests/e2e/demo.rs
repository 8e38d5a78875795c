//! What needs no Keycloak: `vidimus demo` keeps what it prints, and commands end with their codes.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use vidimus::testing::samples::CERTIFICATE;

use crate::process::{Guard, run, signal, until};
use crate::sidecar::VIDIMUS;
use crate::table::Table;

/// A row of the table that the demo prints.
#[derive(Debug)]
struct Printed {
    sample: String,
    path: String,
    status: String,
    why: String,
}

#[tokio::test]
async fn the_demo_gives_to_curl_what_its_table_says() {
    let table = Table::new();
    table.area("vidimus demo");
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (out, log) = (folder.path().join("out"), folder.path().join("log"));
    let mut demo = Command::new(VIDIMUS)
        .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--issuer-listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file for what it prints"))
        .stderr(File::create(&log).expect("a file for what it logs"))
        .kill_on_drop(true)
        .spawn()
        .expect("vidimus starts");
    let _guard = Guard::of(demo.id().expect("its process"));
    let printed = until(Duration::from_secs(20), async || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        text.contains("It stays up").then_some(text)
    });
    let printed = printed.await.unwrap_or_else(|| {
        panic!("no table: {}", fs::read_to_string(&log).unwrap_or_default());
    });

    let rows = rows(&printed);
    table.same("samples", "14", &rows.len().to_string());
    let token = token(&printed);
    let curls = printed.lines().map(str::trim).filter(|line| line.starts_with("curl -"));
    let curls: Vec<&str> = curls.collect();
    let sidecar = curls.iter().find_map(|line| line.strip_suffix("/auth")?.rsplit(' ').next());
    let sidecar = sidecar.expect("a curl line that asks /auth");
    let admin =
        curls.iter().find_map(|line| line.strip_prefix("curl -s http://")?.split('/').next());
    let admin = admin.expect("a curl line that asks the admin address");

    for row in &rows {
        let header = match &*row.sample {
            "no-token" => String::new(),
            "bound" => format!(
                "-H \"Authorization: Bearer $(token bound)\" -H \"X-Client-Cert-Sha256: {CERTIFICATE}\""
            ),
            sample => format!("-H \"Authorization: Bearer $(token {sample})\""),
        };
        let script = format!("{token}\ncurl -s -i {header} {sidecar}{}", row.path);
        let expected = format!("{} {}", row.status, row.why);
        table.same(
            &format!("{} at {}", row.sample, row.path),
            &expected,
            &told(&sh(&script).await),
        );
    }
    table.same("curl lines", "7", &curls.len().to_string());
    for line in &curls {
        let got = sh(&format!("{token}\n{line}")).await;
        let sample = rows.iter().find(|row| line.contains(&format!("$(token {})", row.sample)));
        let case = line.split("  ").next().unwrap_or(line);
        match sample {
            Some(row) => table.same(case, &format!("{} {}", row.status, row.why), &told(&got)),
            None => {
                let series = got.matches("vidimus_decisions_total{").count();
                table.judged(case, "series", &format!("{series} series"), series > 1);
            }
        }
    }

    let health = async || run(Command::new(VIDIMUS).args(["health", "--admin", admin])).await.0;
    table.same("vidimus health", "Some(0)", &format!("{:?}", health().await));
    demo.id().into_iter().for_each(|process| signal(process, "TERM"));
    let ended = timeout(Duration::from_secs(30), demo.wait()).await.ok().and_then(Result::ok);
    let code = ended.and_then(|status| status.code());
    table.same("SIGTERM: exit code", "Some(0)", &format!("{code:?}"));
    table.same("vidimus health, afterwards", "Some(1)", &format!("{:?}", health().await));
    table.finish();
}

#[tokio::test]
async fn commands_end_with_the_code_that_tells_why() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a scratch file");
        path.display().to_string()
    };
    let good = "[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\naudience = [\"a\"]\n";
    let (good, bad) = (write("good.toml", good), write("bad.toml", "[server]\nlisten = 1\n"));
    let table = Table::new();
    table.area("exit codes");
    for (arguments, code) in [
        (&["version"][..], 0),
        (&["--help"], 0),
        (&["check-config", "-c", &good], 0),
        (&["check-config", "-c", &bad], 1),
        (&["health", "--admin", "127.0.0.1:1"], 1),
        (&["serve"], 64),
        (&["no-such-command"], 64),
        (&["serve", "-c", &bad], 78),
        (&["serve", "-c", "/no/such/file"], 78),
    ] {
        let got = run(Command::new(VIDIMUS).args(arguments).stderr(Stdio::null())).await.0;
        let case = arguments.join(" ").replace(&folder.path().display().to_string(), "");
        table.same(&case, &format!("Some({code})"), &format!("{got:?}"));
    }
    table.finish();
}

/// The shell function that it prints: `token SAMPLE`.
pub(crate) fn token(printed: &str) -> String {
    let token = printed.split_once("  token() {").and_then(|(_, rest)| rest.split_once("; }"));
    token.map(|(body, _)| format!("token() {{{body}; }}")).expect("the token function")
}

/// Columns begin where their headlines do.
fn rows(printed: &str) -> Vec<Printed> {
    let mut lines = printed.lines().skip_while(|line| !line.contains("what was sent"));
    let headlines = lines.next().expect("a headline");
    let places = ["asked at", "answer", "why"].map(|it| headlines.find(it).expect("a column"));
    let [path, status, why] = places;
    let rows = lines.take_while(|line| !line.is_empty());
    rows.map(|line| Printed {
        sample: line.split_whitespace().next().unwrap_or_default().to_owned(),
        path: line[path..status].trim().to_owned(),
        status: line[status..why].trim().to_owned(),
        why: line[why..].trim().to_owned(),
    })
    .collect()
}

pub(crate) async fn sh(script: &str) -> String {
    let (code, out) = run(Command::new("sh").args(["-c", script])).await;
    assert!(code != Some(127), "a command is missing (apt-get install curl): {script}");
    out
}

/// What `curl -i` wrote, in the words of the demo's table.
fn told(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no answer");
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, it)| it);
        values.next().unwrap_or_default().to_owned()
    };
    if status == "200" {
        return format!("200 welcome, {}", header("x-auth-request-preferred-username"));
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    format!("{status} {}", body["error_description"].as_str().unwrap_or_default())
}
