//! `vidimus doctor` and `vidimus inspect` at a real Keycloak: every finding provoked.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::scene::{Lines, Scene, VIDIMUS, configuration};
use crate::sidecar::VIDIMUS as PROGRAM;

/// What a command prints about a token from its standard input, and how it ends.
fn run(scene: &Scene<'_>, command: &str, file: &str, token: &str) -> (String, i32) {
    let path = scene.folder.join("doctor.toml");
    fs::write(&path, file).expect("the configuration file");
    let mut child = Command::new(PROGRAM)
        .args([command, "--config"])
        .arg(&path)
        .args((!token.is_empty()).then_some("-"))
        .current_dir(scene.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("vidimus starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    stdin.write_all(token.as_bytes()).expect("the token is read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code().unwrap_or(-1))
}

/// A row: a finding that must be there, and the exit code.
fn found(scene: &Scene<'_>, case: &str, (text, code): &(String, i32), wanted: &str, exit: i32) {
    let held = *code == exit && text.contains(wanted);
    let got = if held { format!("{wanted}; exit {code}") } else { format!("exit {code}: {text}") };
    scene.table.judged(case, &format!("{wanted}; exit {exit}"), &got, held);
}

/// With the audience rule, or without.
pub(crate) async fn findings(scene: &Scene<'_>, ruled: bool) {
    let keycloak = scene.keycloak;
    let issuer = keycloak.issuer();
    let at = |issuer: &str, lines: Lines<'_>| configuration(issuer, lines);
    let doctor = |file: &str, token: &str| run(scene, "doctor", file, token);
    let file = at(&issuer, Lines::of(VIDIMUS));

    let healthy = doctor(&file, "");
    found(scene, "doctor: reachable", &healthy, "they name exactly this issuer", 0);
    found(scene, "doctor: keys", &healthy, "usable: ", 0);
    found(scene, "doctor: credentials", &healthy, "accepts client vidimus", 0);
    let own =
        if ruled { "calls a token not active, fresh as it is" } else { "vidimus's own is active" };
    found(scene, "doctor: a token of its own", &healthy, own, 0);

    let nowhere = issuer.replace("/shop", "/shp");
    found(
        scene,
        "doctor: no such realm",
        &doctor(&at(&nowhere, Lines::of(VIDIMUS)), ""),
        "it answered 404",
        1,
    );
    let elsewhere = issuer.replace("127.0.0.1", "localhost");
    let base = format!("fetch_base = \"{}\"", keycloak.base.replace("127.0.0.1", "localhost"));
    let other = at(&issuer, Lines { realm: &base, ..Lines::of(VIDIMUS) });
    found(scene, "doctor: another issuer", &doctor(&other, ""), &format!("{elsewhere:?}"), 1);
    let down = at("http://127.0.0.1:9/realms/shop", Lines::of(VIDIMUS));
    found(scene, "doctor: nobody there", &doctor(&down, ""), "cannot connect", 1);
    for (case, lines, said) in [
        ("wrong secret", "client_id = \"vidimus\"\nclient_secret = \"wrong\"", "it says: "),
        (
            "public client",
            "client_id = \"vidimus-public\"\nclient_secret = \"x\"",
            "may not introspect",
        ),
        ("no such client", "client_id = \"nobody\"\nclient_secret = \"x\"", "tab Credentials"),
    ] {
        found(
            scene,
            &format!("doctor: {case}"),
            &doctor(&at(&issuer, Lines::of(lines)), ""),
            said,
            1,
        );
    }
    let wrong = format!("{VIDIMUS}\nendpoint = \"{issuer}/introspect\"");
    found(
        scene,
        "doctor: wrong endpoint",
        &doctor(&at(&issuer, Lines::of(&wrong)), ""),
        "is set by hand",
        1,
    );

    let (light, plain) =
        (keycloak.token("orders-light").await, keycloak.token("orders-light-plain").await);
    found(
        scene,
        "doctor: a good token",
        &doctor(&file, &light),
        "the realm calls it active, for ",
        0,
    );
    let (mapper, exit) = if ruled { ("BAD   active", 1) } else { ("the realm calls it active", 0) };
    found(scene, "doctor: a token without our client in aud", &doctor(&file, &plain), mapper, exit);
    let without = file.replace(&format!("[realm.introspection]\n{VIDIMUS}"), "");
    found(
        scene,
        "doctor: lightweight, and nobody is asked",
        &doctor(&without, &light),
        "add [realm.introspection]",
        1,
    );
    let forward = Lines { policy: "forward_jwt = \"X-Jwt\"", ..Lines::of(VIDIMUS) };
    found(
        scene,
        "doctor: no full JWT to forward",
        &doctor(&at(&issuer, forward), &light),
        "Support JWT",
        0,
    );
    let alice = keycloak.alice("orders-light").await;
    keycloak.log_out("orders-light", &alice.refresh).await;
    found(scene, "doctor: logged out", &doctor(&file, &alice.access), "its session has ended", 1);

    let inspect = |token: &str| run(scene, "inspect", &file, token);
    found(scene, "inspect: lightweight", &inspect(&light), "asked: the realm calls it active", 0);
    let full = keycloak.token("orders-es256").await;
    found(scene, "inspect: full", &inspect(&full), "ok    introspection  not needed", 0);
    found(scene, "inspect: logged out", &inspect(&alice.access), "reason inactive", 1);
    found(scene, "inspect: an ID token", &inspect(&alice.id), "reason token_type", 1);
    found(scene, "inspect: a refresh token", &inspect(&alice.refresh), "reason algorithm", 1);
    let wrong = keycloak.token("no-audience").await;
    found(scene, "inspect: for nobody", &inspect(&wrong), "reason audience", 1);
}
