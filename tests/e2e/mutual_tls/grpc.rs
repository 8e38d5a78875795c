//! What only an edge passes on that asks by gRPC: every refusal as Vidimus words it, and claims for the
//! edge itself.

use std::time::Duration;

use super::cases::Scene;
use super::envoy::ENVOY_BARE;
use crate::process::until;
use crate::tokens;

/// Nobody listens there.
const GONE: &str = "http://127.0.0.1:9/realms/gone";

/// After these the sidecar has other policies, and a realm that is out of reach.
pub(crate) async fn all(scene: &Scene<'_>, configuration: &str) {
    metadata(scene).await;
    let Scene { clients, sidecar, table, .. } = scene;
    let changed = configuration.replace("binding = \"mtls\"", "roles = [\"realm:nobodys\"]");
    let changed =
        format!("{changed}\n[[realm]]\nissuer = \"{GONE}\"\naudience = [\"orders-api\"]\n");
    let said = sidecar.reload(&changed).await;
    let reloaded = said.contains("reloaded the configuration");
    table.judged("a realm out of reach, and a role, by reload", "reloaded", said.trim(), reloaded);

    let made_up = tokens::made_up(GONE);
    let answer = clients.nobody.get(&scene.path("/orders/"), Some(&made_up), &[]).await;
    let expected = "503, Retry-After 5, no-store: the issuer's keys are out of reach";
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let why = body["error_description"].as_str().unwrap_or("no description");
    let got = format!("{}, {}: {why}", answer.told(), answer.header("cache-control"));
    table.same("its issuer out of reach: Vidimus' own 503", expected, &got);
    let got = scene.ask(&clients.partner, "/orders/", Some(&scene.tokens.bound), &[]).await;
    table.same("the other issuer's tokens", "200", &got);

    let answer = clients.partner.get(&scene.path("/admin/"), Some(&scene.tokens.bound), &[]).await;
    let expected = "403 Bearer realm=\"admin\", error=\"insufficient_scope\", \
                    error_description=\"the token lacks a role\"";
    let got = format!("{} {}", answer.status, answer.header("www-authenticate"));
    table.same("/admin/ without its role: the challenge", expected, &got);
    table.same("the same", "403 insufficient_scope: the token lacks a role", &answer.told());
}

/// What Vidimus hands to Envoy beside the identity header, where the log tells it.
async fn metadata(scene: &Scene<'_>) {
    if scene.edge.kind.name != ENVOY_BARE.name {
        return;
    }
    let path = scene.path("/orders/");
    scene.clients.partner.get(&path, Some(&scene.tokens.bound), &[]).await;
    let claims = tokens::claims(&scene.tokens.bound);
    let client = claims["azp"].as_str().unwrap_or("none");
    let logged = until(Duration::from_secs(5), async || {
        let logs = scene.edge.logs();
        let line = logs.lines().find(|line| line.contains(&path) && line.contains(" client="))?;
        Some(line.rsplit_once(' ').map(|(_, end)| end.to_owned()).unwrap_or_default())
    });
    let expected = format!("client=\"{client}\"");
    let got = logged.await.unwrap_or_default();
    scene.table.same("dynamic metadata in its log", &expected, &got);
}
