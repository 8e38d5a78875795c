//! Keycloak's keys change while requests run, and attackers make up keys that never were.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::caller::{Caller, Load, Tally};
use crate::mutual_tls::edge::{EDGE, Edge};
use crate::mutual_tls::envoy::ENVOY;
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::{COOLDOWN, House, REFRESH, beside, everyday, tokens};

/// The longest pause between two fetches is 110 % of `refresh`; the rest is for the fetch.
const WITHDRAWN_WITHIN: Duration = Duration::from_millis(12_500);

/// A new RS256 key comes, the old one goes. Tokens of the new key pass at once, those of other keys
/// all the time, and those of the old key until its removal has come round. Envoy asks the same sidecar
/// by gRPC meanwhile.
pub(crate) async fn under_load(house: &House, table: &Table) {
    let keycloak = &house.keycloak;
    let old = keycloak.active_kid("RS256").await;
    let provider = keycloak.key_provider(&old).await;
    let of_old_key = house.token("orders-rs256").await;
    table.same("the old token is of the old key", &old, &tokens::kid(&of_old_key));
    let mut others = Vec::new();
    for client in ["orders-es256", "orders-ps256", "orders-eddsa"] {
        others.push(house.token(client).await);
    }
    let keys = house.sidecar.metric("vidimus_jwks_keys", "shop").await;
    table.same("keys before", "4", &keys.to_string());

    let _envoy = Edge::start(&ENVOY, house.nginx.folder(), &keycloak.certificates).await;
    let envoy = Caller::secure(EDGE, keycloak.certificates.trusted());
    let (asked, lanes) = (house.site.asked(), 2);
    let old_by_grpc = Load::start(&envoy, "/orders/load", std::slice::from_ref(&of_old_key), lanes);
    let other_by_grpc = Load::start(&envoy, "/orders/load", &others, 1);
    let old_load = Load::start(&house.site, "/orders/load", &[of_old_key], lanes);
    let other_load = Load::start(&house.site, "/orders/load", &others, 2);
    let enough = AtomicBool::new(false);
    let script = async {
        sleep(Duration::from_secs(1)).await;
        keycloak.add_rsa_key(200).await;
        let new = keycloak.active_kid("RS256").await;
        sleep(Duration::from_secs(3)).await;
        let removed = Instant::now();
        keycloak.remove_key(&provider).await;
        sleep(WITHDRAWN_WITHIN + Duration::from_secs(1)).await;
        enough.store(true, Ordering::Relaxed);
        (new, removed)
    };
    let ((fresh, fresh_by_grpc), (new, removed)) =
        tokio::join!(fresh(house, &envoy, &enough), script);
    let (old_load, other_load) = (old_load.end().await, other_load.end().await);
    let (old_by_grpc, other_by_grpc) = (old_by_grpc.end().await, other_by_grpc.end().await);
    let asked = house.site.asked() - asked;
    table.judged(
        "requests during the rotation",
        "at least 1000",
        &asked.to_string(),
        asked >= 1000,
    );

    table.judged("there is a new key", &format!("not {old}"), &new, new != old);
    for (case, kid) in [("the old key", &old), ("the new key", &new)] {
        let tally = fresh.get(kid).cloned().unwrap_or_default();
        let case = format!("fresh tokens of {case}");
        table.judged(&case, "only 200", &tally.told(), tally.only(&[200]));
    }
    table.same("fresh tokens are of", "2 keys", &format!("{} keys", fresh.len()));
    let (told, ok) = (fresh_by_grpc.told(), fresh_by_grpc.only(&[200]));
    table.judged("fresh tokens of either, by gRPC", "only 200", &told, ok);
    for (by, load) in [("", &other_load), (", by gRPC", &other_by_grpc)] {
        let case = format!("tokens of keys that stay{by}");
        table.judged(&case, "only 200", &load.told(), load.only(&[200]));
    }

    for (by, load) in [("", &old_load), (", by gRPC", &old_by_grpc)] {
        let turns = &load.turns;
        let took = turns.iter().map(|(at, ..)| at.saturating_duration_since(removed)).max();
        let took = took.unwrap_or_default();
        let once =
            turns.len() == lanes && turns.iter().all(|(_, from, to)| (*from, *to) == (200, 401));
        let in_time = took <= WITHDRAWN_WITHIN && turns.iter().all(|(at, ..)| *at >= removed);
        let got = format!("{}, {} turns, {took:.1?} after", load.told(), turns.len());
        let expected = format!("200, then 401, within {WITHDRAWN_WITHIN:?}");
        let case = format!("tokens of the removed key{by}");
        table.judged(&case, &expected, &got, once && in_time);
        let told = load.samples.get(&401).map(crate::caller::Answer::told).unwrap_or_default();
        table.same("why", UNKNOWN, &told);
    }
    let keys = house.sidecar.metric("vidimus_jwks_keys", "shop").await;
    table.same("keys afterwards", "4", &keys.to_string());
}

const UNKNOWN: &str = "401 invalid_token: the token's signing key is not published by its issuer";

/// Gets tokens one after the other, and presents each at once, and then to Envoy too: what came back, by
/// key, and from Envoy.
async fn fresh(
    house: &House,
    envoy: &Caller,
    enough: &AtomicBool,
) -> (BTreeMap<String, Tally>, Tally) {
    let (mut tallies, mut by_grpc) = (BTreeMap::<String, Tally>::new(), Tally::default());
    while !enough.load(Ordering::Relaxed) {
        let token = house.token("orders-rs256").await;
        let answer = house.site.get("/orders/fresh", Some(&token)).await;
        tallies.entry(tokens::kid(&token)).or_default().add(answer);
        by_grpc.add(envoy.get("/orders/fresh", Some(&token)).await);
        sleep(Duration::from_millis(20)).await;
    }
    (tallies, by_grpc)
}

/// A key that does not exist is asked for once per cool-down, however often it is named.
pub(crate) async fn unknown_keys(house: &House, table: &Table) {
    let good = house.token("orders-rs256").await;
    let unknown = tokens::of_key(&good, "never-was");
    house.used(&unknown);
    // Within the cool-down that the removed key's tokens have caused, it would not be decided: 503.
    sleep(COOLDOWN * 3 / 2).await;
    table.same("an unknown key", UNKNOWN, &house.ask("/orders/", Some(&unknown)).await);

    let (before, began) = (house.sidecar.fetches().await, Instant::now());
    let load = Load::start(&house.site, "/orders/load", &[unknown], 4);
    sleep(Duration::from_secs(3)).await;
    let tally = load.end().await;
    let (fetched, took) = (house.sidecar.fetches().await - before, began.elapsed());
    let ok = tally.only(&[401]) && tally.total() > 100;
    table.judged("an unknown key, again and again", "only 401, many", &tally.told(), ok);
    // Scheduled ones come after 90 % of `refresh` at the earliest.
    let allowed = took.div_duration_f64(COOLDOWN) + took.div_duration_f64(REFRESH * 9 / 10) + 2.0;
    let got = format!("{fetched} in {took:.1?}");
    let ok = fetched >= 1 && fetched as f64 <= allowed;
    table.judged("fetches that it caused", "one per second", &got, ok);
}

/// Two hundred keys that do not exist, at once, at a sidecar that asks every 10 s at most.
pub(crate) async fn attack(house: &House, table: &Table) {
    let configuration = beside(&house.keycloak.issuer(), "5m", "10s");
    // It logs all it can, for the look into the logs at the end.
    let sidecar = Sidecar::start(house.nginx.folder(), "attacked", "trace", &configuration).await;
    let ready = sidecar.gets_ready(Duration::from_secs(10)).await;
    table.judged("a second sidecar is ready", "true", &ready.to_string(), ready);

    let good = house.token("orders-rs256").await;
    let (before, began) = (sidecar.fetches().await, Instant::now());
    let mut burst = JoinSet::new();
    for number in 0..200 {
        let (edge, token) =
            (sidecar.edge().clone(), tokens::of_key(&good, &format!("never-{number}")));
        house.used(&token);
        burst.spawn(async move { edge.get("/auth", Some(&token)).await });
    }
    let mut tally = Tally::default();
    burst.join_all().await.into_iter().for_each(|answer| tally.add(answer));
    let took = began.elapsed();
    let got = sidecar.edge().get("/auth", Some(&good)).await.told();
    table.same("a good token in the middle of it", "200", &got);
    sleep(Duration::from_secs(1)).await;
    let fetched = sidecar.fetches().await - before;
    let ok = tally.total() == 200 && tally.only(&[401, 503]) && took < Duration::from_secs(3);
    let got = format!("{}, in {took:.1?}", tally.told());
    table.judged("200 unknown keys at once", "only 401 or 503, in less than 3 s", &got, ok);
    if let Some(answer) = tally.samples.get(&503) {
        table.same("503 says when to come back", "503, Retry-After 5", &answer.told());
    }
    let ok = (1..=2).contains(&fetched);
    table.judged("fetches that they caused", "1 or 2", &fetched.to_string(), ok);
    let told = sidecar.log();
    table.same("their names in its log", "false", &told.contains("never-1").to_string());
    let got = everyday::h2c(sidecar.edge(), &good).await;
    table.same("h2c, with all of it logged", "2 200 orders-rs256", &got);
}
