//! The sidecar as a process: it reloads, keeps connections, ends, comes again, and logs no token.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::caller::Load;
use crate::keycloak::Keycloak;
use crate::process::{log_files, until};
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::{House, beside, configuration, tokens};

/// SIGHUP: a broken file changes nothing, a good one takes effect, and no request suffers from either.
pub(crate) async fn reload(house: &House, table: &Table) {
    let issuer = house.keycloak.issuer();
    let good = configuration(&issuer, "");
    let (reader, other) = (house.token("orders-reader").await, house.token("orders-rs256").await);
    let load = Load::start(&house.site, "/orders/load", &[reader], 2);

    let broken = good.replace(r#"audience = ["orders-api"]"#, r#"audience = "orders-api""#);
    let line = 1 + broken.lines().take_while(|line| !line.starts_with("audience")).count();
    let said = house.sidecar.reload(&broken).await;
    let place = format!("main.toml:{line}: realm[0].audience: found");
    let told = said.contains("the old configuration stays in force") && said.contains(&place);
    table.judged("a broken file: the log says where", &place, said.trim(), told);
    table.same("the old rules hold", "200", &house.ask("/orders/", Some(&other)).await);

    take_over(house, table, &configuration(&issuer, r#"scopes = ["orders:read"]"#)).await;
    let got = house.ask("/orders/", Some(&other)).await;
    table.same("a stricter file", "403 insufficient_scope: the token lacks a scope", &got);
    take_over(house, table, &good).await;
    table.same("the first file again", "200", &house.ask("/orders/", Some(&other)).await);

    // The kernel accepts connections for it, and nobody answers.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute = mute.local_addr().map(|at| (at, mute)).expect("its address");
    let leeway = "leeway = \"0s\"\n";
    let hangs = good.replace(leeway, &format!("{leeway}fetch_base = \"http://{}\"\n", mute.0));
    take_over(house, table, &hangs).await;
    let (unknown, began) = (tokens::of_key(&other, "never-was"), Instant::now());
    let got = house.ask("/orders/", Some(&unknown)).await;
    let case = format!("the issuer hangs: an unknown key, after {:.1?}", began.elapsed());
    table.same(&case, "503, Retry-After 5", &got);
    let auth = house.nginx.logs().lines().rev().take(50).any(|line| line.contains(" auth=503 "));
    table.same("that was Vidimus' answer, not nginx' patience", "true", &auth.to_string());
    table.same("the issuer hangs: a known key", "200", &house.ask("/orders/", Some(&other)).await);
    take_over(house, table, &good).await;

    let tally = load.end().await;
    table.judged("requests all the while", "only 200", &tally.told(), tally.only(&[200]));
    let count = async |outcome: &str| house.sidecar.metric("vidimus_reloads_total", outcome).await;
    let got = format!("{} ok, {} failed", count("\"ok\"").await, count("\"failed\"").await);
    table.same("reloads are counted", "4 ok, 1 failed", &got);
}

/// Reloads, and lets some requests pass under the new rules.
pub(crate) async fn take_over(house: &House, table: &Table, configuration: &str) {
    let said = house.sidecar.reload(configuration).await;
    let told = said.contains("reloaded the configuration");
    table.judged("SIGHUP: another file is taken over", "reloaded", said.trim(), told);
    sleep(Duration::from_millis(300)).await;
}

/// nginx asks over connections that it keeps, whatever the answers are.
pub(crate) async fn connections(house: &House, table: &Table) {
    let good = house.token("orders-es256").await;
    let bad = tokens::unsigned(&good);
    let opened = async || house.sidecar.metric("vidimus_connections_total", "").await;
    let decided = async || house.sidecar.metric("vidimus_decisions_total", "").await;
    let before = (opened().await, decided().await);
    // Each lane presents the tokens in turn; without role admin the good one is a 403 below /admin/.
    let pass = Load::start(&house.site, "/orders/load", &[good.clone(), bad], 6);
    let lack = Load::start(&house.site, "/admin/load", &[good], 2);
    let target = before.1 + 1_500;
    until(Duration::from_secs(30), async || (decided().await >= target).then_some(())).await;
    let (pass, lack) = (pass.end().await, lack.end().await);
    let (opened, decided) = (opened().await - before.0, decided().await - before.1);
    let got = format!("{opened} for {decided} decisions");
    let ok = decided >= 1_000 && opened <= 100;
    table.judged("connections", "at most 100 for 1000", &got, ok);
    let got = format!("{}; {}", pass.told(), lack.told());
    let ok = pass.only(&[200, 401]) && pass.count(401) > 0 && lack.only(&[403]);
    table.judged("the answers", "200 and 401; 403", &got, ok);
}

/// SIGTERM while requests run; then nothing but 503 until another sidecar takes the socket's place.
pub(crate) async fn end(house: &mut House, table: &Table) {
    let token = house.token("orders-es256").await;
    let socket = house.nginx.folder().join("run/vidimus/edge.sock");
    table.same("there is a socket", "true", &socket.exists().to_string());
    let (passed, lanes) = (house.service.count(), 4);
    let load = Load::start(&house.site, "/orders/load", std::slice::from_ref(&token), lanes);
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    house.sidecar.signal("TERM");
    let code = house.sidecar.exit_code().await;
    let (took, gone) = (began.elapsed(), !socket.exists());
    sleep(Duration::from_millis(500)).await;
    let tally = load.end().await;

    table.same("SIGTERM: exit code", "Some(0)", &format!("{code:?}"));
    let in_time = took < Duration::from_secs(5);
    table.judged("it takes", "less than 5 s", &format!("{took:.1?}"), in_time);
    table.same("the socket is gone", "true", &gone.to_string());
    let once = tally.turns.iter().all(|(_, from, to)| (*from, *to) == (200, 503));
    let ok = tally.only(&[200, 503]) && tally.count(503) > 0 && tally.turns.len() == lanes && once;
    table.judged("requests meanwhile", "200, then 503", &tally.told(), ok);
    let passed = house.service.count() - passed;
    let case = "the service got exactly those that were answered with 200";
    table.same(case, &tally.count(200).to_string(), &passed.to_string());
    let got = house.ask("/orders/", Some(&token)).await;
    table.same("no sidecar", "503, Retry-After 5", &got);
    table.same("no sidecar, no token", "503, Retry-After 5", &house.ask("/orders/", None).await);

    let configuration = configuration(&house.keycloak.issuer(), "");
    house.sidecar = Sidecar::start(house.nginx.folder(), "again", "info", &configuration).await;
    house.sidecar.gets_ready(Duration::from_secs(10)).await;
    table.same("another sidecar", "200", &house.ask("/orders/", Some(&token)).await);
}

/// SIGTERM while a request waits for keys: it gets its answer, unless `drain_timeout` is over first.
#[tokio::test]
async fn a_request_that_waits_when_sigterm_comes_is_answered_in_time() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let issuer = format!("http://{}/realms/mute", mute.local_addr().expect("its address"));
    let token = tokens::made_up(&issuer);
    let folder = tempfile::tempdir().expect("a scratch folder");
    let table = Table::new();
    table.area("SIGTERM with a request in flight");
    // Who still waits when the time is over is told so if the process gets that far: its end is what counts.
    for (drain, answers, log) in [
        ("20s", &["503, Retry-After 5"][..], "ended\n"),
        ("1s", &["503, Retry-After 5", "no answer"], "did not finish"),
    ] {
        let configuration = beside(&issuer, "5m", "10s");
        let configuration = configuration
            .replace("[server]\n", &format!("[server]\ndrain_timeout = \"{drain}\"\n"));
        let mut sidecar = Sidecar::start(folder.path(), drain, "info", &configuration).await;
        let edge = sidecar.edge().clone();
        let (asked, ended) = tokio::join!(edge.get("/auth", Some(&token)), async {
            sleep(Duration::from_millis(500)).await;
            sidecar.signal("TERM");
            let began = Instant::now();
            (sidecar.exit_code().await, began.elapsed())
        });
        let told = asked.told();
        table.judged(
            &format!("drain_timeout {drain}: the request"),
            &answers.join(" or "),
            &told,
            answers.iter().any(|answer| told.starts_with(answer)),
        );
        let got = format!("{:?}, after {:.1?}", ended.0, ended.1);
        let limit = Duration::from_secs(if drain == "1s" { 2 } else { 6 });
        table.judged(
            &format!("drain_timeout {drain}: exit code"),
            "Some(0)",
            &got,
            ended.0 == Some(0) && ended.1 < limit,
        );
        let said = sidecar.log();
        table.judged(
            "what it logs",
            log.trim(),
            said.lines().last().unwrap_or_default(),
            said.contains(log),
        );
    }
    table.finish();
}

/// Nothing that was used as a token stands in a log, whole or in part, and no secret of a client.
pub(crate) fn logs(keycloak: &Keycloak, folder: &Path, table: &Table) {
    let used = keycloak.tokens();
    // Of each token the payload and the signature, or all of it if it has no such parts.
    let parts = used.iter().flat_map(|token| {
        token.split('.').enumerate().filter(|(place, _)| *place > 0 || !token.contains('.'))
    });
    let long: BTreeSet<&str> = parts.map(|(_, it)| it).filter(|it| it.len() > 20).collect();
    let long = Vec::from_iter(long);
    // As they stand in the configuration and in a Basic header; and how a signed assertion begins, in a word
    // of its own: the id of a key may hold these letters too.
    let secrets = ["-secret", "dmlkaW11cz", "\"eyJ", "=eyJ", " eyJ"];

    let (mut logs, mut bytes, mut wrong) = (0, 0, Vec::new());
    for path in log_files(folder) {
        let log = String::from_utf8_lossy(&fs::read(&path).expect("a log")).into_owned();
        (logs, bytes) = (logs + 1, bytes + log.len());
        let count = |texts: &[&str]| texts.iter().filter(|text| log.contains(**text)).count();
        let counts = [count(&long), count(&secrets), count(&["panicked", "[alert]"])];
        if counts != [0, 0, 0] {
            let telling = |line: &&str| {
                secrets
                    .iter()
                    .chain(&long)
                    .chain(&["panicked", "[alert]"])
                    .any(|it| line.contains(it))
            };
            let line = log.lines().find(telling).unwrap_or_default();
            wrong.push(format!("{counts:?} in {}: {line}", path.display()));
        }
    }
    let case = format!("in {logs} logs ({} KiB): of {} tokens", bytes / 1024, used.len());
    let ok = wrong.is_empty() && logs > 3 && bytes > 10_000 && used.len() > 20;
    let got = if wrong.is_empty() { "none".to_owned() } else { wrong.join("; ") };
    table.judged(&case, "none; no secrets, panics, alerts", &got, ok);
}
