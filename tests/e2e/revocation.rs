//! What was good ends: sessions, keys, and Keycloak itself for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::House;
use crate::caller::Load;
use crate::inactive::hinted;
use crate::lifecycle::take_over;
use crate::process::until;
use crate::scene::{INACTIVE, Lines, Scene, UNAVAILABLE, VIDIMUS};
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::tokens::{kid, of_key};

/// So long an answer serves, here.
pub(crate) const CACHE_TTL: Duration = Duration::from_secs(2);

/// For a question and its answer, and for two more tries where nothing listens.
const SLACK: Duration = Duration::from_millis(700);

/// While nothing answers, questions are at most 8 s apart.
const BACK_WITHIN: Duration = Duration::from_secs(9);

/// A session that ends takes its lightweight tokens along within `cache_ttl`, and with `use_for = ["all"]`
/// its full ones.
pub(crate) async fn sessions(scene: &Scene<'_>) {
    let keycloak = scene.keycloak;
    let lines = format!("{VIDIMUS}\ncache_ttl = \"{CACHE_TTL:?}\"\ninactive_ttl = \"1s\"");
    let some = scene.sidecar("revoked", Lines::of(&lines)).await;
    let all = format!("{lines}\nuse_for = [\"all\"]");
    let all = scene.sidecar("revoked-all", Lines::of(&all)).await;

    let (light, full) = (keycloak.alice("orders-light").await, keycloak.alice("orders-full").await);
    let end = async {
        keycloak.log_out("orders-light", &light.refresh).await;
        keycloak.log_out("orders-full", &full.refresh).await;
    };
    let tokens = [
        ("lightweight, alice logs out", &some, &*light.access),
        ("full, alice logs out, use_for all", &all, &*full.access),
    ];
    scene.row("full, before", &some, &full.access, "200; no call").await;
    ends(scene, &tokens, end).await;
    scene.row("full, alice has logged out, no use_for", &some, &full.access, "200; no call").await;

    let (light, full) = (keycloak.alice("orders-light").await, keycloak.alice("orders-full").await);
    let tokens = [
        ("lightweight, an admin ends her sessions", &some, &*light.access),
        ("full, an admin ends her sessions, use_for all", &all, &*full.access),
    ];
    ends(scene, &tokens, keycloak.end_sessions_of_alice()).await;

    let (light, full) = (keycloak.alice("orders-light").await, keycloak.alice("orders-full").await);
    let tokens = [
        ("lightweight, she is disabled", &some, &*light.access),
        ("full, she is disabled, use_for all", &all, &*full.access),
    ];
    ends(scene, &tokens, keycloak.enable_alice(false)).await;
    keycloak.enable_alice(true).await;
    let back = until(Duration::from_secs(1) + SLACK, async || {
        (some.edge().get("/auth", Some(&light.access)).await.status == 200).then_some(())
    });
    let got = back.await.is_some();
    let case = "enabled again: 200 within inactive_ttl";
    scene.table.judged(case, "true", &got.to_string(), got);
    hinted(scene.table, &some, "most likely its user has logged out or was disabled", true);
}

/// Each token passes, its session ends, and soon it does not pass any more.
async fn ends(scene: &Scene<'_>, tokens: &[(&str, &Sidecar, &str)], end: impl Future<Output = ()>) {
    for (case, sidecar, token) in tokens {
        scene.row(&format!("{case}: before"), sidecar, token, "200; a call").await;
    }
    end.await;
    let ended = Instant::now();
    for (case, sidecar, token) in tokens {
        let refused = until(CACHE_TTL + SLACK, async || {
            let answer = sidecar.edge().get("/auth", Some(token)).await;
            (answer.status != 200).then(|| (answer.told(), ended.elapsed()))
        });
        let (told, after) =
            refused.await.unwrap_or_else(|| ("still 200".to_owned(), ended.elapsed()));
        let ok = told == INACTIVE && after <= CACHE_TTL + SLACK;
        let expected = format!("{INACTIVE}, within {CACHE_TTL:?}");
        scene.table.judged(case, &expected, &format!("{told}, after {after:.1?}"), ok);
    }
}

/// A new key signs tokens, and the JWTs in answers; then it is withdrawn.
pub(crate) async fn keys(scene: &Scene<'_>) {
    let (keycloak, table) = (scene.keycloak, scene.table);
    let cached = scene.sidecar("keys", Lines::of(VIDIMUS)).await;
    let lines = VIDIMUS.replace("\"vidimus", "\"vidimus-jwt") + "\nprefer_jwt = true";
    let lines = lines + "\ncache_ttl = \"100ms\"";
    let with_jwt = scene.sidecar("keys-jwt", Lines::of(&lines)).await;
    let old = keycloak.token("orders-light").await;
    scene.row("lightweight, of the old key", &cached, &old, "200; a call").await;
    scene.row("the same, with prefer_jwt", &with_jwt, &old, "200; a call").await;

    let provider = keycloak.add_rsa_key(300).await;
    let new = keycloak.token("orders-light").await;
    table.judged("there is a new key", "another", &kid(&new), kid(&new) != kid(&old));
    sleep(Duration::from_millis(200)).await;
    // The JWT in the answer is of a key that this sidecar has not seen.
    scene.row("the new key signs the JWT, not the token", &with_jwt, &old, "200; a call").await;
    scene.row("lightweight, of the new key", &cached, &new, "200; a call").await;
    scene.row("the same again", &cached, &new, "200; no call").await;
    scene.row("of the old key again", &cached, &old, "200; no call").await;

    keycloak.remove_key(&provider).await;
    let unknown = of_key(&old, "never-was");
    let gone = until(Duration::from_secs(3), async || {
        // Makes it ask for keys, once per `cooldown`.
        cached.edge().get("/auth", Some(&unknown)).await;
        let answer = cached.edge().get("/auth", Some(&new)).await;
        (answer.status == 401).then(|| answer.told())
    });
    let got = gone.await.unwrap_or_else(|| "still 200 or 503".to_owned());
    let expected = "401 invalid_token: the token's signing key is not published by its issuer";
    table.same("the new key is withdrawn: its tokens, answers kept", expected, &got);
    scene.row("those of the old key", &cached, &old, "200; no call").await;
}

/// Keycloak goes away and comes back, behind nginx: answers serve for `cache_ttl`, full tokens all the
/// time.
pub(crate) async fn outage(house: &mut House, table: &Table) {
    let (full, light) = (house.token("orders-es256").await, house.token("orders-light").await);
    let alice = house.keycloak.alice("orders-light").await.access;
    let (unseen, unseen_full) =
        (house.token("orders-light").await, house.token("orders-eddsa").await);
    for (case, token) in [("full", &full), ("lightweight", &light), ("alice's", &alice)] {
        table.same(&format!("{case}, before"), "200", &house.ask("/orders/", Some(token)).await);
    }
    let of_full = Load::start(&house.site, "/orders/load", &[full, unseen_full], 1);
    let of_light = Load::start(&house.site, "/orders/load", &[light], 1);
    let (lasting, asked) = (house.token("orders-light").await, Instant::now());
    table.same("a token, presented before", "200", &house.ask("/orders/", Some(&lasting)).await);
    house.keycloak.stop();
    table.same("lightweight, just presented", "200", &house.ask("/orders/", Some(&lasting)).await);
    let over = until(CACHE_TTL + Duration::from_secs(1), async || {
        let told = house.ask("/orders/", Some(&lasting)).await;
        (told != "200").then(|| (told, asked.elapsed()))
    });
    let (told, after) = over.await.unwrap_or_else(|| ("still 200".to_owned(), asked.elapsed()));
    let in_time = after >= CACHE_TTL && after <= CACHE_TTL + SLACK;
    let expected = format!("{UNAVAILABLE}, after {CACHE_TTL:?}");
    let got = format!("{told}, after {after:.1?}");
    table.judged("then", &expected, &got, told == UNAVAILABLE && in_time);
    for (case, token) in [("never seen", &*unseen), ("opaque", "2YotnFZFEjr1-never-shown-yet")] {
        table.same(case, UNAVAILABLE, &house.ask("/orders/", Some(token)).await);
    }
    table.same("no token", "401 Bearer realm=\"default\"", &house.ask("/orders/", None).await);
    let admin = house.sidecar.admin("/readyz").await;
    table.same("the sidecar stays ready", "200 ready", &admin.page());
    let open = until(Duration::from_secs(5), async || {
        let open = house.sidecar.metric("vidimus_introspection_breaker_open", "shop").await;
        (open == 1).then_some(())
    });
    table.same("it leaves Keycloak alone", "true", &open.await.is_some().to_string());

    house.keycloak.start_again().await;
    let began = Instant::now();
    let back = until(BACK_WITHIN, async || {
        (house.ask("/orders/", Some(&lasting)).await == "200").then(|| began.elapsed())
    });
    let (back, took) = (back.await, began.elapsed());
    let (expected, got) = (format!("200, within {BACK_WITHIN:?}"), format!("after {took:.1?}"));
    table.judged("Keycloak is back: lightweight", &expected, &got, back.is_some());
    for (case, token) in [("never seen", &unseen), ("alice's", &alice)] {
        table.same(case, "200", &house.ask("/orders/", Some(token)).await);
    }
    let (of_full, of_light) = (of_full.end().await, of_light.end().await);
    let (case, got) = ("full tokens all the while", of_full.told());
    table.judged(case, "only 200", &got, of_full.only(&[200]));
    let turns: Vec<_> = of_light.turns.iter().map(|(_, from, to)| (*from, *to)).collect();
    let ok = of_light.only(&[200, 503]) && turns == [(200, 503), (503, 200)];
    let got = format!("{}, {turns:?}", of_light.told());
    table.judged("lightweight tokens meanwhile", "200, 503, 200", &got, ok);
    let log = house.sidecar.log();
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    // One line a minute for each way to fail: Keycloak knows several while it starts.
    let (failed, works) = (told("cannot introspect"), told("introspection works again"));
    let (ok, got) = ((1..=8).contains(&failed) && works == 1, format!("{failed}, then {works}"));
    table.judged("lines in the log", "1 to 8, then 1", &got, ok);

    take_over(house, table, &crate::configuration(&house.keycloak.issuer(), "")).await;
    let without = "401 invalid_token: the token is not meant for this service";
    table.same("no introspection again", without, &house.ask("/orders/", Some(&lasting)).await);
}
