//! Tokens that verify, and that Keycloak calls not active because something is set up in another way
//! than it wants: the log tells what.

use std::time::Duration;

use crate::introspection::ALGORITHM;
use crate::process::until;
use crate::scene::{INACTIVE, Lines, Scene, UNAVAILABLE, VIDIMUS, configuration};
use crate::sidecar::Sidecar;
use crate::table::Table;

/// Keycloak's word about a token is for clients in its `aud` only, if it has the audience rule: then the
/// log says what to do. ID and refresh tokens pass nowhere, whatever it says of them.
pub(crate) async fn audience(scene: &Scene<'_>, ruled: bool) {
    let Scene { keycloak, table, .. } = *scene;
    let answer = if ruled { INACTIVE } else { "200" };
    let expected = format!("{answer}; a call");
    let sidecar = scene.sidecar("audience", Lines::of(VIDIMUS)).await;
    let (own, alice) =
        (keycloak.token("orders-light-plain").await, keycloak.alice("orders-light-plain").await);
    scene.row("lightweight, without audience mapper", &sidecar, &own, &expected).await;
    scene.row("the same, alice's", &sidecar, &alice.access, &expected).await;
    let counted = sidecar.metric("vidimus_introspection_verified_inactive_total", "shop").await;
    let expected_count = if ruled { "2" } else { "0" };
    table.same("counted as verified and inactive", expected_count, &counted.to_string());
    let hint =
        "none has been active yet. Either Keycloak (since 26.6.2 and 26.4.12) misses our client";
    hinted(table, &sidecar, hint, ruled);
    let own = keycloak.token("orders-light").await;
    scene.row("with audience mapper", &sidecar, &own, "200; a call").await;

    let all = format!("{VIDIMUS}\nuse_for = [\"all\"]");
    let sidecar = scene.sidecar("audience-all", Lines::of(&all)).await;
    let (other, full) = (keycloak.token("orders-rs256").await, keycloak.alice("orders-full").await);
    let case = "use_for all: full, without audience mapper";
    scene.row(case, &sidecar, &other, &expected).await;
    hinted(table, &sidecar, "Most likely because its `aud` does not hold our client id", ruled);
    let case = "use_for all: full, with audience mapper";
    scene.row(case, &sidecar, &full.access, "200; a call").await;
    for (case, token, why) in [
        ("an ID token", &full.id, "the token is not an access token"),
        ("a refresh token", &full.refresh, ALGORITHM),
    ] {
        let expected = format!("401 invalid_token: {why}; no call");
        scene.row(&format!("use_for all: {case}"), &sidecar, token, &expected).await;
    }
}

/// Whether the log tells this, and tells it once.
pub(crate) fn hinted(table: &Table, sidecar: &Sidecar, hint: &str, expected: bool) {
    let log = sidecar.log();
    let lines = log.lines().filter(|line| line.contains("called not active by its realm"));
    let lines: Vec<&str> = lines.collect();
    let told = lines.len() == 1 && lines[0].contains(hint) && lines[0].contains("realm=\"shop\"");
    let (case, got) = ("the log tells why, once", lines.join(" AND "));
    match expected {
        true => table.judged(case, hint, &got, told),
        false => table.same("the log has nothing to tell", "", &got),
    }
}

/// Keycloak compares a token's `iss` with the address it is asked by.
pub(crate) async fn another_address(scene: &Scene<'_>) {
    let Scene { keycloak, table, .. } = *scene;
    let (light, full) =
        (keycloak.token("orders-light").await, keycloak.token("orders-es256").await);
    let there = keycloak.base.replace("127.0.0.1", "localhost");
    let endpoint = format!("{there}/realms/shop/protocol/openid-connect/token/introspect");
    let lines = format!("{VIDIMUS}\nendpoint = \"{endpoint}\"");
    let sidecar = scene.sidecar("elsewhere", Lines::of(&lines)).await;
    let expected = format!("{INACTIVE}; a call");
    scene.row("asked by another host name", &sidecar, &light, &expected).await;
    hinted(table, &sidecar, "Or Keycloak is asked under another host name", true);

    let base = format!("fetch_base = \"{there}\"");
    let configuration =
        configuration(&keycloak.issuer(), Lines { realm: &base, ..Lines::of(VIDIMUS) });
    let sidecar = Sidecar::start(scene.folder, "fetch-base", "trace", &configuration).await;
    let names = format!("its metadata are those of issuer \"{there}/realms/shop\"");
    let said = until(Duration::from_secs(5), async || sidecar.log().contains(&names).then_some(()));
    let said = said.await.is_some();
    table.judged("fetch_base is another name: the log tells", &names, &said.to_string(), said);
    for (case, token) in [("full", &full), ("lightweight", &light)] {
        let expected = format!("{UNAVAILABLE}; no call");
        scene.row(&format!("fetch_base is another name: {case}"), &sidecar, token, &expected).await;
    }
}
