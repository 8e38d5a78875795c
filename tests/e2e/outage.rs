//! Keycloak goes away and comes back. What is known stays known, what is not is 503, and nothing but
//! time is needed to recover.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::caller::Load;
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::{House, beside, tokens};

/// The longest pause between two fetches in vain is 110 % of `refresh`, 10 s.
const BACK_WITHIN: Duration = Duration::from_millis(12_500);

pub(crate) async fn outage(house: &mut House, table: &Table) {
    let known = house.token("orders-rs256").await;
    table.same("a token, presented before", "200", &house.ask("/orders/", Some(&known)).await);
    let never_shown = house.token("orders-es256").await;
    let unknown = tokens::of_key(&known, "never-was");
    house.used(&unknown);
    sleep(crate::COOLDOWN + Duration::from_millis(200)).await; // nothing of earlier areas cools down

    house.keycloak.stop();
    let load = Load::start(&house.site, "/orders/load", std::slice::from_ref(&known), 1);
    table.same("that token", "200", &house.ask("/orders/", Some(&known)).await);
    table.same("one never seen before", "200", &house.ask("/orders/", Some(&never_shown)).await);
    for case in ["an unknown key", "an unknown key, once more"] {
        let got = house.ask("/orders/", Some(&unknown)).await;
        table.same(case, "503, Retry-After 5", &got);
    }
    table.same("no token", "401 Bearer realm=\"default\"", &house.ask("/orders/", None).await);
    let admin = house.sidecar.admin("/readyz").await;
    table.same("the sidecar stays ready", "200 ready", &admin.page());

    // It fetches often, so that its pauses stay short however long Keycloak takes.
    let late = beside(&house.keycloak.issuer(), "10s", "1s");
    let late = Sidecar::start(house.nginx.folder(), "late", "info", &late).await;
    let admin = late.admin("/healthz").await;
    table.same("a sidecar started now is alive", "200 alive", &admin.page());
    let admin = late.admin("/readyz").await;
    let expected = "503 not ready / realm shop has had no keys yet";
    table.same("and not ready", expected, &admin.page());
    let got = late.edge().get("/auth", Some(&known)).await;
    table.same("and does not decide", "503, Retry-After 5", &got.told());
    let got = late.edge().get("/auth", None).await.told();
    table.same("but sees when there is no token", "401 Bearer realm=\"default\"", &got);
    let log = house.sidecar.log();
    let told =
        log.contains("cannot fetch signing keys") && log.contains("last good keys stay in use");
    table.same("the log tells that old keys serve", "true", &told.to_string());

    house.keycloak.start_again().await;
    let began = Instant::now();
    let ready = late.gets_ready(BACK_WITHIN).await;
    let got = format!("{ready}, after {:.1?}", began.elapsed());
    table.judged("Keycloak is back: the late one gets ready", "true", &got, ready);
    let fresh = house.token("orders-rs256").await;
    let got = late.edge().get("/auth", Some(&fresh)).await.told();
    table.same("and lets a fresh token pass", "200", &got);
    table.same("as the other one does", "200", &house.ask("/orders/", Some(&fresh)).await);
    let tally = load.end().await;
    table.judged("requests all the while", "only 200", &tally.told(), tally.only(&[200]));
    let failed =
        late.fetches().await - late.metric("vidimus_jwks_refresh_total", "outcome=\"ok\"").await;
    table.judged("failed fetches are counted", "some", &failed.to_string(), failed > 0);
}
