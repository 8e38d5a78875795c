//! Tokens that Keycloak is asked about (RFC 7662): lightweight and opaque ones, and no others.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::House;
use crate::caller::Tally;
use crate::lifecycle::take_over;
use crate::realm::Tokens;
use crate::scene::{INACTIVE, Lines, OPAQUE, Scene, VIDIMUS};
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::tokens::{self, claims, of_key, part, with_claim};

/// Lightweight tokens pass as what Keycloak says of them; what is no token of the realm causes no call.
pub(crate) async fn who_passes(scene: &Scene<'_>) {
    let Scene { keycloak, table, .. } = *scene;
    let sidecar = scene.sidecar("asks", Lines::of(VIDIMUS)).await;
    let (short, since) = (keycloak.token("orders-light-short").await, Instant::now());
    scene.row("lightweight, lives for 3 s", &sidecar, &short, "200; a call").await;

    let (own, full) = (keycloak.token("orders-light").await, keycloak.alice("orders-full").await);
    let alice = keycloak.alice("orders-light").await.access;
    let said = ["aud", "realm_access", "email"].map(|name| !claims(&alice)[name].is_null());
    let case = "a lightweight token says aud, roles, email";
    table.same(case, "[false, false, false]", &format!("{said:?}"));
    for (case, token, expected) in [
        ("a service account's", &own, of_service_account(&own)),
        ("alice's", &alice, of_alice(&alice, &full.access)),
    ] {
        scene.row(&format!("lightweight, {case}"), &sidecar, token, "200; a call").await;
        scene.row(&format!("{case}, again"), &sidecar, token, "200; no call").await;
        let got = sidecar.edge().get("/auth", Some(token)).await.identity();
        table.same(&format!("{case}: whom it vouches for"), &told(&expected), &told(&got));
    }
    for (path, case, token, expected) in [
        ("/auth/admin", "role admin, told", &own, "200; no call"),
        ("/auth/admin", "no role admin, told", &alice, NO_ROLE),
        ("/auth/reader", "scope orders:read", &own, "200; no call"),
    ] {
        scene.row_at(path, case, &sidecar, token, expected).await;
    }

    for client in ["orders-rs256", "orders-es256", "orders-ps256", "orders-eddsa", "orders-full"] {
        let token = keycloak.token(client).await;
        scene.row(&format!("full, of {client}"), &sidecar, &token, "200; no call").await;
    }
    scene.row("full, alice's", &sidecar, &full.access, "200; no call").await;
    for (case, token, why) in never_asked_about(scene, &own, &full).await {
        let expected = format!("401 invalid_token: {why}; no call");
        scene.row(&case, &sidecar, &token, &expected).await;
    }
    opaque(scene, &sidecar, &own).await;
    sleep_until(since + Duration::from_millis(3_100)).await;
    let expected = "401 invalid_token: the token has expired; no call";
    scene.row("the one that lives for 3 s, after them", &sidecar, &short, expected).await;
}

const NO_ROLE: &str = "403 insufficient_scope: the token lacks a role; no call";

/// Keycloak issues no opaque tokens: what looks like one is asked about, and is none.
async fn opaque(scene: &Scene<'_>, sidecar: &Sidecar, own: &str) {
    for (case, token) in [
        ("a random string", OPAQUE.to_owned()),
        ("with a dot", "2YotnFZFEjr1.zCsicMWpAA".to_owned()),
        ("with padding", format!("{OPAQUE}==")),
        ("a good one without its signature", format!("{}.{}", part(own, 0), part(own, 1))),
    ] {
        let expected = format!("{INACTIVE}; a call");
        scene.row(&format!("opaque, {case}"), sidecar, &token, &expected).await;
        let expected = format!("{INACTIVE}; no call");
        scene.row(&format!("opaque, {case}, again"), sidecar, &token, &expected).await;
    }
    let mut tally = Tally::default();
    for number in 0..10 {
        let token = tokens::without_algorithm(number);
        tally.add(sidecar.edge().get("/auth", Some(&token)).await);
    }
    let ok = tally.total() == 10 && tally.only(&[401, 503]);
    let case = "ten to which Keycloak answers 400";
    scene.table.judged(case, "401 or 503", &tally.told(), ok);
    let next = scene.keycloak.token("orders-light").await;
    scene.row("a good one after them", sidecar, &next, "200; a call").await;
}

/// What no question is worth, and why: a good lightweight token and alice's full ones, changed.
async fn never_asked_about(
    scene: &Scene<'_>,
    own: &str,
    full: &Tokens,
) -> Vec<(String, String, &'static str)> {
    let (malformed, signature) = ("the token is malformed", "the token's signature is not valid");
    let signed = own.rsplit_once('.').expect("three parts").0;
    let other = format!("{signed}.{}", part(&full.access, 2));
    let foreign = scene.keycloak.admin_token().await;
    let elsewhere = scene.keycloak.token("no-audience").await;
    let unknown = "the token's signing key is not published by its issuer";
    let mut all = vec![
        ("of another key".to_owned(), of_key(own, "never-was"), unknown),
        ("another subject".to_owned(), with_claim(own, "sub", json!("mallory")), signature),
        ("another signature".to_owned(), other, signature),
        (
            "full, calls itself lightweight".to_owned(),
            with_claim(&full.access, "jti", json!("onltro:x")),
            signature,
        ),
        ("alg: none".to_owned(), tokens::unsigned(own), ALGORITHM),
        (
            "of realm master, lightweight".to_owned(),
            foreign,
            "the token's issuer is not accepted here",
        ),
        (
            "full, for another service".to_owned(),
            elsewhere,
            "the token is not meant for this service",
        ),
        ("an ID token".to_owned(), full.id.clone(), "the token is not an access token"),
        ("a refresh token".to_owned(), full.refresh.clone(), ALGORITHM),
    ];
    // Keycloak calls all of these active but the last.
    all.push((
        "a good lightweight one, spelt otherwise".to_owned(),
        tokens::respelt(own),
        malformed,
    ));
    for (end, why) in [
        (".", malformed),
        ("..", "encrypted tokens are not accepted"),
        ("=", malformed),
        (".x", malformed),
    ] {
        all.push((format!("a good lightweight one and {end:?}"), format!("{own}{end}"), why));
    }
    all
}

pub(crate) const ALGORITHM: &str = "the token's signature algorithm is not accepted";

/// What Keycloak says of the service account of `orders-light`.
fn of_service_account(token: &str) -> Vec<String> {
    let rest = json!({
        "preferred_username": "service-account-orders-light",
        "email": "orders-light@example.com",
        "realm_access": { "roles": ["admin"] },
    });
    with_the_rest(token, &rest)
}

/// What it says of alice, whom a full token of hers describes.
fn of_alice(token: &str, full: &str) -> Vec<String> {
    with_the_rest(token, &claims(full))
}

/// A lightweight token has client and scope in it; the rest is told.
fn with_the_rest(token: &str, rest: &Value) -> Vec<String> {
    let mut all = claims(token);
    for name in ["sub", "preferred_username", "email", "realm_access"] {
        if !rest[name].is_null() {
            all[name] = rest[name].clone();
        }
    }
    tokens::identity_of(&all)
}

/// In one line. Keycloak tells roles in any order.
fn told(identity: &[String]) -> String {
    let sorted = |pair: &String| match pair.strip_prefix("roles=") {
        None => pair.clone(),
        Some(roles) => {
            let mut roles: Vec<&str> = roles.split(',').collect();
            roles.sort_unstable();
            format!("roles={}", roles.join(","))
        }
    };
    identity.iter().map(sorted).collect::<Vec<_>>().join(" ")
}

/// Keycloak gives the full token beside the claims to a client that may have it.
pub(crate) async fn full_jwt(scene: &Scene<'_>) {
    let Scene { keycloak, table, .. } = *scene;
    let policy = "forward_jwt = \"X-Auth-Request-Access-Token\"";
    let client =
        "client_id = \"vidimus-jwt\"\nclient_secret = \"vidimus-jwt-secret\"\nprefer_jwt = true";
    let lines = Lines { policy, ..Lines::of(client) };
    let sidecar = scene.sidecar("jwt", lines).await;
    let forwarded = async |sidecar: &Sidecar, token: &str| {
        let answer = sidecar.edge().get("/auth", Some(token)).await;
        let jwt = answer.headers.get("x-auth-request-access-token").map(|it| it.to_str());
        let jwt = jwt.transpose().ok().flatten().unwrap_or("no header").to_owned();
        keycloak.remember(&jwt);
        (answer.told(), jwt)
    };

    let light = keycloak.alice("orders-light").await.access;
    let (full, short) =
        (keycloak.token("orders-eddsa").await, keycloak.token("orders-light").await);
    scene.row("prefer_jwt: lightweight", &sidecar, &light, "200; a call").await;
    let (status, jwt) = forwarded(&sidecar, &light).await;
    let whole = jwt.split('.').filter(|part| !part.is_empty()).count() == 3;
    let got = match whole {
        true => {
            let claims = claims(&jwt);
            let aud =
                claims["aud"].as_array().is_some_and(|aud| aud.contains(&"orders-api".into()));
            let same = claims["jti"] == self::claims(&light)["jti"];
            format!("{status}, {}, aud {aud}, jti {same}", claims["preferred_username"])
        }
        false => format!("{status}, {jwt:?}"),
    };
    table.same("forward_jwt: its full token", "200, \"alice\", aud true, jti true", &got);
    if whole {
        // It still calls itself lightweight, and there might be another one to forward.
        scene.row("that full token, presented itself", &sidecar, &jwt, "200; a call").await;
        let case = "the same, where none is forwarded";
        scene.row_at("/auth/reader", case, &sidecar, &jwt, "200; no call").await;
        let (_, again) = forwarded(&sidecar, &light).await;
        table.same("the lightweight one again: the same", "true", &(again == jwt).to_string());
    }
    scene.row("prefer_jwt: a service account's", &sidecar, &short, "200; a call").await;
    scene.row("a full one", &sidecar, &full, "200; no call").await;
    let (_, jwt) = forwarded(&sidecar, &full).await;
    table.same("forward_jwt: is that one", "true", &(jwt == full).to_string());

    let lines = format!("{VIDIMUS}\nprefer_jwt = true");
    let sidecar = scene.sidecar("jwt-off", Lines { policy, ..Lines::of(&lines) }).await;
    scene.row("a client that may not have it", &sidecar, &light, "200; a call").await;
    let (status, jwt) = forwarded(&sidecar, &light).await;
    table.same("forward_jwt: an empty header", "200 \"\"", &format!("{status} {jwt:?}"));
}

/// The main sidecar introspects from now on, behind nginx.
pub(crate) async fn through_nginx(house: &House, table: &Table) {
    let light = house.token("orders-light").await;
    let without = "401 invalid_token: the token is not meant for this service";
    table.same(
        "lightweight, no introspection",
        without,
        &house.ask("/orders/", Some(&light)).await,
    );
    take_over(house, table, &configuration(house)).await;

    let (alice, full) = (house.keycloak.alice("orders-light").await, house.alice().await);
    for (case, token, expected) in [
        ("a service account's", &light, of_service_account(&light)),
        ("alice's", &alice.access, of_alice(&alice.access, &full.access)),
    ] {
        let got = crate::everyday::forge(house, http::Method::GET, token).await;
        let got = got.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let case = format!("lightweight, {case}, with forged identity headers");
        table.same(&case, &format!("200 GET {}", told(&expected)), &told(&got));
    }
    table.same("/admin/ with role admin", "200", &house.ask("/admin/", Some(&light)).await);
    let got = house.ask("/admin/", Some(&alice.access)).await;
    table.same("/admin/ without", "403 insufficient_scope: the token lacks a role", &got);
    table.same("opaque", INACTIVE, &house.ask("/orders/", Some(OPAQUE)).await);
    table.same("full", "200", &house.ask("/orders/", Some(&full.access)).await);
}

/// What the main sidecar then reads.
fn configuration(house: &House) -> String {
    let main = crate::configuration(&house.keycloak.issuer(), "");
    format!(
        "{main}\n[realm.introspection]\n{VIDIMUS}\ncache_ttl = \"{:?}\"\n",
        crate::revocation::CACHE_TTL
    )
}
