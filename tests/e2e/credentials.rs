//! How Vidimus proves itself to Keycloak: every way there is, and what is told of credentials that are
//! wrong.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::scene::{Lines, OPAQUE, Scene, UNAVAILABLE, VIDIMUS};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keys");

/// `client_secret_basic`, `client_secret_post`, `private_key_jwt` with keys of four kinds,
/// `tls_client_auth`.
pub(crate) async fn ways(scene: &Scene<'_>) {
    let keycloak = scene.keycloak;
    let tokens = [keycloak.token("orders-light").await, keycloak.token("orders-light").await];
    let rsa = pem_of_rsa_key(scene.folder);
    let mut ways: Vec<(String, String)> = ["client_secret_basic", "client_secret_post"]
        .map(|auth| (auth.to_owned(), format!("{VIDIMUS}\nauth = \"{auth}\"")))
        .into();
    for (algorithm, file) in [
        ("ES256", format!("{KEYS}/test-only-es256.pk8.pem")),
        ("EdDSA", format!("{KEYS}/test-only-ed25519.pk8.pem")),
        ("RS256", rsa.clone()),
        ("PS256", rsa),
    ] {
        let lines = signing(&file, algorithm, &algorithm.to_lowercase());
        ways.push((format!("private_key_jwt, {algorithm}"), lines));
    }
    for (way, lines) in ways {
        let sidecar = scene.sidecar(&way.replace(", ", "-"), Lines::of(&lines)).await;
        // Keycloak takes an assertion once.
        for (token, case) in tokens.iter().zip([way.clone(), format!("{way}, once more")]) {
            scene.row(&case, &sidecar, token, "200; a call").await;
        }
    }

    let token = keycloak.secure_token("orders-light").await;
    for (name, expected) in [("vidimus-tls", "200; a call"), ("stranger", REFUSED)] {
        let file = |name: &str| keycloak.certificates.file(name).display().to_string();
        let realm = format!("ca_file = \"{}\"", file("ca.pem"));
        let introspection = format!(
            "client_id = \"vidimus-tls\"\nauth = \"tls_client_auth\"\n\
             client_certificate_file = \"{}\"\nclient_key_file = \"{}\"",
            file(&format!("{name}.pem")),
            file(&format!("{name}.key")),
        );
        let lines = Lines { realm: &realm, ..Lines::of(&introspection) };
        let issuer = format!("{}/realms/shop", keycloak.secure_base);
        let sidecar = scene.sidecar_of(name, &issuer, lines).await;
        let case = format!("tls_client_auth, the certificate is {name}'s");
        scene.row(&case, &sidecar, &token, expected).await;
    }
}

const REFUSED: &str = "503, Retry-After 5; a call";

/// Wrong credentials are never the token's fault. The log says what is wrong; a secret that is put right
/// in its file is used at once.
pub(crate) async fn wrong(scene: &Scene<'_>) {
    let (keycloak, table) = (scene.keycloak, scene.table);
    let (light, full) =
        (keycloak.token("orders-light").await, keycloak.token("orders-es256").await);
    let file = scene.folder.join("secret-of-vidimus");
    fs::write(&file, "a-wrong-secret\n").expect("a scratch file");
    let lines = format!("client_id = \"vidimus\"\nclient_secret_file = \"{}\"", file.display());
    let sidecar = scene.sidecar("wrong", Lines::of(&lines)).await;
    for case in ["lightweight", "lightweight, again", "lightweight, and again"] {
        scene.row(&format!("a wrong secret: {case}"), &sidecar, &light, REFUSED).await;
    }
    scene.row("a wrong secret: opaque", &sidecar, OPAQUE, REFUSED).await;
    scene.row("a wrong secret: full", &sidecar, &full, "200; no call").await;
    let count = async |labels: &str| sidecar.metric("vidimus_decisions_total", labels).await;
    let reason = "outcome=\"unavailable\",policy=\"default\",realm=\"shop\",\
                  reason=\"introspection_unavailable\"";
    let got = format!("{} of {}", count(reason).await, count("").await);
    table.same("decisions: introspection_unavailable", "4 of 5", &got);
    complained(scene, &sidecar.log(), CREDENTIALS);

    fs::write(&file, "vidimus-secret\n").expect("a scratch file");
    scene.row("the right secret, without reload", &sidecar, &light, "200; a call").await;
    let log = sidecar.log();
    let told = ["the client's credentials have changed", "introspection works again"]
        .map(|text| log.contains(text));
    table.same("the log tells", "[true, true]", &format!("{told:?}"));

    let other = signing(&format!("{KEYS}/test-only-es256.pk8.pem"), "ES256", "never-was");
    for (case, lines, why) in [
        (
            "a public client",
            VIDIMUS.replacen("vidimus", "vidimus-public", 1),
            "our client may not introspect; it must be confidential",
        ),
        ("no such client", VIDIMUS.replacen("vidimus", "nobody", 1), CREDENTIALS),
        (
            "a secret, where a key is wanted",
            VIDIMUS.replacen("vidimus", "vidimus-key", 1),
            CREDENTIALS,
        ),
        ("a key that Keycloak does not know", other, CREDENTIALS),
    ] {
        let sidecar = scene.sidecar(&case.replace([',', ' '], "-"), Lines::of(&lines)).await;
        scene.row(case, &sidecar, &light, &format!("{UNAVAILABLE}; a call")).await;
        complained(scene, &sidecar.log(), why);
    }
}

const CREDENTIALS: &str = "it does not accept our client's credentials";

/// One line says which realm, and what is wrong.
fn complained(scene: &Scene<'_>, log: &str, why: &str) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("cannot introspect")).collect();
    let told = |line: &str| {
        line.contains("WARN")
            && line.contains("realm=\"shop\"")
            && line.contains(why)
            && line.contains("reason=\"credentials\"")
    };
    let ok = lines.len() == 1 && told(lines[0]);
    scene.table.judged("the log tells, once", why, &lines.join(" AND "), ok);
}

/// The lines of Keycloak's client `vidimus-key`.
fn signing(file: &str, algorithm: &str, kid: &str) -> String {
    format!(
        "client_id = \"vidimus-key\"\nauth = \"private_key_jwt\"\nclient_key_file = \"{file}\"\n\
         client_key_algorithm = \"{algorithm}\"\nclient_key_id = \"{kid}\""
    )
}

/// The RSA key of the tests is kept as ring wants it.
fn pem_of_rsa_key(folder: &Path) -> String {
    let der = fs::read(format!("{KEYS}/test-only-rsa-2048.pk8")).expect("the key");
    let file = folder.join("rsa.pk8.pem");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    fs::write(&file, pem).expect("a scratch file");
    file.display().to_string()
}
