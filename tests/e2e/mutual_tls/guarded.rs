//! What holds with and without certificates: which request is meant, by whose credential, and that
//! nobody passes whom Vidimus has not let pass.

use std::time::Duration;

use super::cases::Scene;
use crate::everyday::STEERING;
use crate::process::until;

/// Paths that some service reads as `/admin/`.
pub(crate) const ODD: [&str; 20] = [
    "/orders/../admin/",
    "/orders/x/../../admin/",
    "/orders/..//admin/",
    "/orders/%2e%2e/admin/",
    "/orders/.%2E/admin/",
    "/orders/..%2fadmin/",
    "/orders/..%5cadmin/",
    "/orders/..\\admin/",
    "/orders/..;/admin/",
    "/orders/..%3b/admin/",
    "/orders/%252e%252e/admin/",
    "//admin/",
    "/./admin/",
    "/%61dmin/",
    "/orders/..;x/admin/",
    "/orders/..%3f/admin/",
    "/orders/..%23/admin/",
    "/orders/.%09./admin/",
    "/orders/..%0a/admin/",
    "/orders/..%252fadmin/",
];

/// All of it. The sidecar has ended afterwards.
pub(crate) async fn all(scene: &Scene<'_>) {
    credentials(scene).await;
    paths(scene).await;
    steering(scene).await;
    without_vidimus(scene).await;
}

/// Whichever of two the edge would pass on, the service might read the other.
async fn credentials(scene: &Scene<'_>) {
    let (nobody, token) = (&scene.clients.nobody, &scene.tokens.plain);
    for (case, other) in [
        ("its token twice", format!("Bearer {token}")),
        ("its token and another", "Bearer another".to_owned()),
        ("its token and a password", "Basic YWxpY2U6c2VjcmV0".to_owned()),
    ] {
        let headers = [("authorization".to_owned(), other)];
        let got = scene.ask(nobody, "/orders/", Some(token), &headers).await;
        let refused = got.starts_with("400") || got.starts_with("401");
        let ok = refused && !got.contains("the service got");
        scene.table.judged(&format!("two credentials: {case}"), "400, or 401", &got, ok);
    }
}

/// `/admin/` wants a token that is bound, this one is not.
async fn paths(scene: &Scene<'_>) {
    let before = scene.service.count();
    let mut others = Vec::new();
    for path in ODD {
        let answer = scene.clients.nobody.get(path, Some(&scene.tokens.plain), &[]).await;
        if !(400..500).contains(&answer.status) {
            others.push(format!("{path}: {}", answer.page()));
        }
    }
    let got = format!("{} arrived {}", scene.service.count() - before, others.join("; "));
    let case = format!("{} paths that some services read as /admin/", ODD.len());
    scene.table.same(&case, "0 arrived", got.trim_end());
}

/// The service gets none of them.
async fn steering(scene: &Scene<'_>) {
    let headers = STEERING.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let (nobody, token) = (&scene.clients.nobody, &scene.tokens.plain);
    let got = scene.ask(nobody, "/orders/", Some(token), &headers).await;
    scene.table.same("headers by which some services route", "200", &got);
}

/// The edge cannot ask: it lets nobody pass.
async fn without_vidimus(scene: &Scene<'_>) {
    scene.sidecar.signal("TERM");
    let ended = until(Duration::from_secs(10), async || {
        (scene.sidecar.admin("/healthz").await.status == 0).then_some(())
    });
    scene.table.same("Vidimus ends", "true", &ended.await.is_some().to_string());
    let (clients, tokens) = (scene.clients, scene.tokens);
    for (case, client, token) in [
        ("its own certificate", &clients.partner, Some(&*tokens.bound)),
        ("stolen, no certificate", &clients.nobody, Some(&*tokens.bound)),
        ("no token", &clients.nobody, None),
    ] {
        let got = scene.ask(client, "/orders/", token, &[]).await;
        let case = format!("without Vidimus: {case}");
        scene.table.same(&case, "503, Retry-After 5", &got);
    }
}
