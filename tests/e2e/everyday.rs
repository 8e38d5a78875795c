//! The days when everything runs: who passes and as whom, who does not, and what the service says.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use crate::House;
use crate::caller::{Answer, Caller};
use crate::process::run;
use crate::service::own_body;
use crate::table::Table;
use crate::tokens::{self, claims, with_claim};

/// What a client sends who would like to be somebody else.
pub(crate) const FORGED: [(&str, &str); 21] = [
    ("x-auth-request-user", "mallory"),
    ("X_Auth_Request_User", "mallory"),
    ("X.Auth.Request.User", "mallory"),
    ("X-Auth-Request-Preferred-Username", "mallory"),
    ("x-auth-request-email", "mallory@example.com"),
    ("X-Auth-Request-Client", "mallory"),
    ("X-Auth-Request-Scope", "orders:write"),
    ("X-Auth-Request-Roles", "admin"),
    ("X_AUTH_REQUEST_ROLES", "admin"),
    ("X-Auth_Request-User", "mallory"),
    // All other characters that HTTP allows in a name.
    ("X~Auth~Request~User", "mallory"),
    ("X!Auth!Request!User", "mallory"),
    ("X#Auth#Request#User", "mallory"),
    ("X$Auth$Request$User", "mallory"),
    ("X%Auth%Request%User", "mallory"),
    ("X&Auth&Request&User", "mallory"),
    ("X'Auth'Request'User", "mallory"),
    ("X*Auth*Request*User", "mallory"),
    ("X+Auth+Request+User", "mallory"),
    ("X^Auth^Request^User", "mallory"),
    ("X|Auth`Request`User", "mallory"),
];

/// Headers by which some frameworks route, rewrite or take an identity.
pub(crate) const STEERING: [(&str, &str); 9] = [
    ("X-Original-URL", "/admin/"),
    ("X-Original-URI", "/admin/"),
    ("X-Rewrite-URL", "/admin/"),
    ("Forwarded", "host=evil.example.com"),
    ("X-Forwarded-Prefix", "/admin"),
    ("X-Forwarded-Uri", "/admin/"),
    ("X-Forwarded-User", "mallory"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("ssl-client-cert", "mallory"),
];

/// Tokens of every algorithm pass; the service gets what they say, and nothing of what the client says.
pub(crate) async fn identity(house: &House, table: &Table) {
    for algorithm in ["RS256", "ES256", "PS256", "EdDSA"] {
        let token = house.token(&format!("orders-{}", algorithm.to_lowercase())).await;
        let signed = tokens::algorithm(&token);
        let got = forge(house, Method::GET, &token).await;
        let expected = format!("200 {algorithm} GET {}", tokens::identity(&token).join(" "));
        table.same(
            &format!("{algorithm}, with forged identity headers"),
            &expected,
            &got.replacen("200 ", &format!("200 {signed} "), 1),
        );
    }

    let alice = house.alice().await.access;
    let got = forge(house, Method::POST, &alice).await;
    let expected = format!("200 POST {}", tokens::identity(&alice).join(" "));
    table.same("alice, POST, with forged identity headers", &expected, &got);
    let name = "preferred-username=alice";
    table.judged("alice by her name", name, &got, got.contains(&format!("{name} ")));

    let path = house.path("/orders/");
    house.site.get(&path, Some(&alice)).await;
    let arrived = house.service.arrived(&path);
    let token = arrived.map(|arrived| arrived.headers.contains_key("authorization"));
    table.same("the service does not get the token", "Some(false)", &format!("{token:?}"));

    let (path, bearer) = (house.path("/orders/"), format!("Bearer {alice}"));
    let headers: Vec<_> = STEERING.into_iter().chain([("authorization", &*bearer)]).collect();
    let answer = house.site.send(Method::GET, &path, &headers).await;
    let came = house.service.arrived(&path).map(|arrived| {
        STEERING.iter().filter(|(name, _)| arrived.headers.contains_key(*name)).count()
    });
    let case = "headers that steer some services do not reach it";
    table.same(case, "200 Some(0)", &format!("{} {came:?}", answer.told()));

    let answer = house.sidecar.edge().get("/auth/named", Some(&alice)).await;
    let case = "a name with umlauts in a header of one's own";
    table.same(
        case,
        "200 Zo%C3%AB M%C3%BCller",
        &format!("{} {}", answer.told(), answer.header("x-name")),
    );
}

/// Asks with forged headers; tells the answer, and what the service got.
pub(crate) async fn forge(house: &House, method: Method, token: &str) -> String {
    let path = house.path("/orders/");
    let bearer = format!("bearer {token}");
    let headers: Vec<_> = FORGED.into_iter().chain([("authorization", &*bearer)]).collect();
    let answer = house.site.send(method, &path, &headers).await;
    match house.service.arrived(&path) {
        Some(arrived) => {
            format!("{} {} {}", answer.told(), arrived.method, arrived.identity().join(" "))
        }
        None => answer.told(),
    }
}

/// Everything else is refused, for the right reason, and does not reach the service.
pub(crate) async fn refusals(house: &House, table: &Table) {
    let short = house.token("short-lived").await;
    table.same("short-lived, at once", "200", &house.ask("/orders/", Some(&short)).await);

    let good = house.token("orders-rs256").await;
    let alice = house.alice().await;
    let audience = "401 invalid_token: the token is not meant for this service";
    let algorithm = "401 invalid_token: the token's signature algorithm is not accepted";
    let signature = "401 invalid_token: the token's signature is not valid";
    let huge = format!("{good}{}", "A".repeat(17 * 1024 - good.len()));
    for (case, token, expected) in [
        ("garbage", "garbage".to_owned(), "401 invalid_token: the token is not a JWT"),
        ("alg: none", tokens::unsigned(&good), algorithm),
        ("another subject", with_claim(&good, "sub", json!("mallory")), signature),
        ("a later exp", with_claim(&good, "exp", json!(4_000_000_000_u64)), signature),
        ("17 KiB", huge, "401 invalid_token: the token is too large"),
        ("no-audience", house.token("no-audience").await, audience),
        ("lightweight, without audience", house.token("orders-light").await, audience),
        ("an ID token", alice.id, "401 invalid_token: the token is not an access token"),
        ("a refresh token", alice.refresh, algorithm),
        (
            "of realm master",
            house.keycloak.admin_token().await,
            "401 invalid_token: the token's issuer is not accepted here",
        ),
    ] {
        house.used(&token);
        table.same(case, expected, &house.ask("/orders/", Some(&token)).await);
    }
    let got = house.ask("/orders/", None).await;
    table.same("no token: a challenge without error", "401 Bearer realm=\"default\"", &got);
    let options = house.site.send(Method::OPTIONS, "/orders/", &[]).await;
    table.same("OPTIONS without token", "401 Bearer realm=\"default\"", &options.told());

    let bearer = format!("Bearer {good}");
    for (case, second) in [("two tokens", &*bearer), ("a token and a password", "Basic YTpi")] {
        let path = house.path("/orders/");
        let headers = [("authorization", &*bearer), ("authorization", second)];
        let status = house.site.send(Method::GET, &path, &headers).await.status;
        let refused = matches!(status, 400 | 401) && house.service.arrived(&path).is_none();
        table.judged(case, "400 of nginx, or 401", &status.to_string(), refused);
    }

    table.same("/admin/ with role admin", "200", &house.ask("/admin/", Some(&good)).await);
    let other = house.token("orders-es256").await;
    let got = house.ask("/admin/", Some(&other)).await;
    let expected = "403 insufficient_scope: the token lacks a role";
    table.same("/admin/ without role admin", expected, &got);
    for (path, expected) in [
        ("/_vidimus/default", "404"), // nginx's question to Vidimus is nobody else's
        ("/elsewhere", "404"),
        ("/orders/..;/admin/", "400"),
        ("/orders/%252e%252e/admin/", "400"),
    ] {
        let got = house.site.get(path, Some(&good)).await.told();
        table.same(path, expected, &got);
    }

    let lifetime = claims(&short)["exp"].as_u64().zip(claims(&short)["iat"].as_u64());
    let lifetime = lifetime.map(|(exp, iat)| exp - iat);
    table.same("short-lived lives for", "Some(3)", &format!("{lifetime:?}"));
    sleep(Duration::from_secs(4)).await;
    let got = house.ask("/orders/", Some(&short)).await;
    table.same("short-lived, afterwards", "401 invalid_token: the token has expired", &got);
}

/// What nginx does not pass on: policies it does not name, HEAD, h2c.
pub(crate) async fn directly(house: &House, table: &Table) {
    let edge = house.sidecar.edge();
    let (reader, other) = (house.token("orders-reader").await, house.token("orders-rs256").await);
    let got = edge.get("/auth/reader", Some(&reader)).await.told();
    table.same("policy reader, with the scope", "200", &got);
    let got = edge.get("/auth/reader", Some(&other)).await;
    let expected = "403 Bearer realm=\"reader\", error=\"insufficient_scope\", \
                    error_description=\"the token lacks a scope\", scope=\"orders:read\"";
    let got = format!("{} {}", got.status, got.header("www-authenticate"));
    table.same("policy reader, without the scope", expected, &got);
    let got = edge.get("/auth/nobody", Some(&other)).await;
    table.same("a policy that does not exist", "403", &got.told());

    let bearer = format!("Bearer {other}");
    for (case, headers) in [("200", &[("authorization", &*bearer)][..]), ("401", &[])] {
        let get = edge.send(Method::GET, "/auth", headers).await;
        let head = edge.send(Method::HEAD, "/auth", headers).await;
        let case = format!("HEAD answers as GET does, without body: {case}");
        let expected = Answer { body: String::new(), ..get };
        table.same(&case, &plain(&expected), &plain(&head));
    }

    table.same("h2c with prior knowledge", "2 200 orders-rs256", &h2c(edge, &other).await);
}

/// Asks over HTTP/2 without TLS: version, status, and whom the answer vouches for.
pub(crate) async fn h2c(edge: &Caller, token: &str) -> String {
    let format = "%{http_version} %{http_code} %header{x-auth-request-client}";
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", format, "-H"]);
    curl.arg(format!("Authorization: Bearer {token}")).arg(format!("{}/auth", edge.base()));
    run(&mut curl).await.1
}

/// Status, body and every header but the time, and the length that an empty body may tell or not.
fn plain(answer: &Answer) -> String {
    let headers = answer.headers.iter();
    let headers = headers.filter(|(name, it)| *name != "date" && **it != "0");
    let mut headers: Vec<String> = headers.map(|(name, it)| format!("{name}: {it:?}")).collect();
    headers.sort();
    format!("{} {} {}", answer.status, headers.join(", "), answer.body)
}

/// The service's own answers pass as they are, also those that look like Vidimus'; without it, 502.
pub(crate) async fn service(house: &mut House, table: &Table) {
    let token = house.token("orders-rs256").await;
    for (status, header, value) in [
        (500, "content-type", "text/x-own"),
        (503, "retry-after", "77"),
        (401, "www-authenticate", "Basic realm=\"own\""),
        (403, "content-type", "text/x-own"),
    ] {
        let path = format!("/orders/answer-{status}");
        let answer = house.site.get(&path, Some(&token)).await;
        let got = format!("{} {} {}", answer.status, answer.header(header), answer.body);
        let expected = format!("{status} {value} {}", own_body(status));
        table.same(&format!("the service answers {status}"), expected.trim(), got.trim());
    }
    house.service.stop().await;
    let got = house.ask("/orders/", Some(&token)).await;
    table.same("the service is down", "502", &got);
    let got = house.ask("/orders/", None).await;
    table.same("the service is down, no token", "401 Bearer realm=\"default\"", &got);
    house.service.start_again().await;
    table.same("the service is back", "200", &house.ask("/orders/", Some(&token)).await);
}
