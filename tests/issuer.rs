//! The issuer side against a real HTTP server that misbehaves on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{claims, ec_key, rules};
use tokio::time::{Instant, sleep};
use vidimus::check::*;
use vidimus::gate::{Clock as _, Gate, Live, Rules, SystemClock};
use vidimus::issuer::{IssuerSettings, Issuers};
use vidimus::testing::key::SigningKey;
use vidimus::testing::{Fault, Issuer};

struct World {
    issuer: Issuer,
    issuers: Arc<Issuers>,
    gate: Gate,
    key: SigningKey,
}

const SOON: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

fn settings(issuer: &str, refresh: Duration, cooldown: Duration) -> IssuerSettings {
    IssuerSettings { name: "shop".into(), refresh, cooldown, ..IssuerSettings::new(issuer) }
}

fn gate_for(settings: IssuerSettings) -> (Gate, Arc<Issuers>) {
    let rules = Rules {
        realms: vec![rules(&settings.issuer)],
        policies: vec![Policy::new("default", vec![0])],
        limits: Limits::default(),
    };
    let live = Arc::new(Live::new(rules, Arc::new(SystemClock)).unwrap());
    let issuers = Issuers::start(vec![settings], Arc::clone(&live)).unwrap();
    (Gate::new(live, Arc::clone(&issuers) as _, 1024 * 1024), issuers)
}

impl World {
    async fn new(refresh: Duration, cooldown: Duration) -> Self {
        let key = ec_key("k1");
        let issuer =
            Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]).await.unwrap();
        let (gate, issuers) = gate_for(settings(issuer.issuer(), refresh, cooldown));
        let world = Self { issuer, issuers, gate, key };
        until("the first keys", || world.kids() == ["k1"]).await;
        world
    }

    fn kids(&self) -> Vec<String> {
        let snapshot = self.gate.live().load();
        let keys = snapshot.realms().get(0).unwrap().last_keys().cloned();
        keys.map_or_else(Vec::new, |keys| {
            keys.keys().iter().map(|key| key.kid().to_owned()).collect()
        })
    }

    fn outcomes(&self, label: &str) -> u64 {
        self.issuers.outcomes()[0].1.get(label).copied().unwrap_or(0)
    }

    fn token(&self, key: &SigningKey) -> String {
        token(self.issuer.issuer(), key)
    }

    async fn denial(&self, token: &str) -> Option<Denial> {
        denial(&self.gate, token).await
    }
}

fn token(issuer: &str, key: &SigningKey) -> String {
    let now = SystemClock.now().as_secs();
    key.sign(&claims(json!({ "iss": issuer, "iat": now, "exp": now + 300 }))).unwrap()
}

async fn denial(gate: &Gate, token: &str) -> Option<Denial> {
    match gate.check(&Facts::new("default", Ok(RawToken::new(token)))).await {
        Decision::Allow(_) => None,
        Decision::Deny(refusal) => Some(refusal.denial),
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 10 s in vain for {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_with_an_unknown_key_cause_one_fetch() {
    let world = Arc::new(World::new(LONG, LONG).await);
    let new = ec_key("k2");
    world.issuer.set_keys(vec![new.clone(), world.key.clone()]);
    let before = world.issuer.asked();
    let token = Arc::new(world.token(&new));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (world, token) = (Arc::clone(&world), Arc::clone(&token));
        tasks.spawn(async move { world.denial(&token).await });
    }
    while let Some(result) = tasks.join_next().await {
        assert_eq!(result.unwrap(), None);
    }
    let (metadata, keys) = world.issuer.asked();
    assert_eq!((metadata - before.0, keys - before.1), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unknown_keys_cause_one_fetch_a_cooldown_and_never_pass() {
    let world = World::new(LONG, LONG).await;
    let before = world.issuer.asked().1;
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..1_000 {
        let header = json!({ "alg": "ES256", "kid": format!("random-{number}") });
        let now = SystemClock.now().as_secs();
        let payload = claims(json!({ "iss": world.issuer.issuer(), "iat": now, "exp": now + 300 }));
        let token = world.key.sign_with_header(&header, &payload).unwrap();
        seen.insert(world.denial(&token).await.unwrap().answer().label);
    }
    assert_eq!(world.issuer.asked().1 - before, 1);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["key_unknown", "keys_cooling_down"]);
    assert_eq!(world.denial(&world.token(&world.key)).await, None, "good tokens are not touched");
}

#[tokio::test]
async fn a_rotation_within_the_cooldown_is_answered_with_not_yet_and_then_with_yes() {
    let cooldown = Duration::from_millis(400);
    let world = World::new(LONG, cooldown).await;
    assert_eq!(world.denial(&world.token(&ec_key("stranger"))).await, Some(Denial::KeyUnknown));
    let new = ec_key("k2");
    world.issuer.set_keys(vec![new.clone()]);
    let token = world.token(&new);
    assert_eq!(world.denial(&token).await, Some(Denial::KeysCoolingDown));
    // The fetch that this request asked for comes by itself when it is allowed.
    until("the new key", || world.kids() == ["k2"]).await;
    assert_eq!(world.denial(&token).await, None);
}

#[tokio::test]
async fn whatever_an_issuer_answers_the_last_good_keys_stay() {
    let world = World::new(SOON, SOON).await;
    let token = world.token(&world.key);
    for (fault, label) in [
        (Fault::ServerError, "status"),
        (Fault::Html, "not_json"),
        (Fault::Redirect, "redirect"),
        (Fault::Oversized, "too_large"),
        (Fault::Truncated, "malformed"),
        (Fault::OtherIssuer, "other_issuer"),
        (Fault::NoKeys, "keys"),
        (Fault::OnlyEncryption, "keys"),
    ] {
        let before = world.outcomes(label);
        world.issuer.set_fault(Some(fault));
        until(label, || world.outcomes(label) > before).await;
        assert_eq!(world.kids(), ["k1"], "{fault:?}");
        assert_eq!(world.denial(&token).await, None, "{fault:?}");
        let good = world.outcomes("ok");
        world.issuer.set_fault(None);
        until("recovery", || world.outcomes("ok") > good).await;
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_a_request_no_longer_than_its_deadline() {
    let world = World::new(LONG, SOON).await;
    world.issuer.set_fault(Some(Fault::Hang));
    let began = Instant::now();
    assert_eq!(world.denial(&world.token(&ec_key("k2"))).await, Some(Denial::KeysUnavailable));
    let waited = began.elapsed();
    assert!((4..6).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(world.denial(&world.token(&world.key)).await, None);
}

#[tokio::test]
async fn starts_without_its_issuer_and_finds_it_by_itself() {
    // A port that nobody listens at, yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let name = format!("http://{address}/realms/shop");
    let (gate, issuers) = gate_for(settings(&name, SOON, SOON));
    let key = ec_key("k1");
    let token = token(&name, &key);
    assert_eq!(denial(&gate, &token).await, Some(Denial::KeysUnavailable));
    until("a failed fetch", || issuers.outcomes()[0].1.contains_key("connect")).await;

    let _issuer = Issuer::start(address, "shop", vec![key]).await.unwrap();
    until("keys", || gate.live().load().realms().get(0).unwrap().last_keys().is_some()).await;
    assert_eq!(denial(&gate, &token).await, None);
}

#[tokio::test]
async fn an_issuer_that_goes_away_leaves_its_keys_and_makes_unknown_ones_undecidable() {
    let World { issuer, issuers: _issuers, gate, key } = World::new(SOON, SOON).await;
    let (known, unknown) = (token(issuer.issuer(), &key), token(issuer.issuer(), &ec_key("k2")));
    drop(issuer);
    sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        assert_eq!(denial(&gate, &known).await, None);
        assert_eq!(denial(&gate, &unknown).await, Some(Denial::KeysUnavailable));
    }
}

#[tokio::test]
async fn a_withdrawn_key_is_gone_with_the_next_scheduled_fetch() {
    let world = World::new(SOON, LONG).await;
    let token = world.token(&world.key);
    assert_eq!(world.denial(&token).await, None);
    world.issuer.set_keys(vec![ec_key("k2")]);
    until("the new keys", || world.kids() == ["k2"]).await;
    assert_eq!(world.denial(&token).await, Some(Denial::KeyUnknown));
}

#[tokio::test]
async fn a_request_that_gives_up_leaves_the_fetch_to_the_others() {
    let world = World::new(LONG, LONG).await;
    let new = ec_key("k2");
    world.issuer.set_keys(vec![new.clone()]);
    let token = world.token(&new);
    let given_up = tokio::time::timeout(Duration::ZERO, world.denial(&token)).await;
    assert!(given_up.is_err());
    until("the new key", || world.kids() == ["k2"]).await;
    assert_eq!(world.denial(&token).await, None);
}

#[tokio::test]
async fn forced_fetches_do_not_put_off_looking_for_the_address_of_the_keys() {
    let refresh = Duration::from_millis(200);
    let world = World::new(refresh, Duration::from_millis(20)).await;
    let before = world.issuer.asked().0;
    let stranger = world.token(&ec_key("stranger"));
    let until = Instant::now() + refresh * 6;
    while Instant::now() < until {
        world.denial(&stranger).await;
        sleep(Duration::from_millis(10)).await;
    }
    let (metadata, keys) = world.issuer.asked();
    assert!(metadata - before >= 3, "{metadata} {before}");
    assert!(keys > metadata, "and the keys were fetched more often than that");
}

#[tokio::test]
async fn a_host_that_hangs_does_not_hold_up_another() {
    let key = ec_key("k1");
    let start = |keys| Issuer::start(([127, 0, 0, 1], 0).into(), "shop", keys);
    let (hung, good) =
        (start(vec![ec_key("x")]).await.unwrap(), start(vec![key.clone()]).await.unwrap());
    hung.set_fault(Some(Fault::Hang));
    // 200 realms at the hung host, one elsewhere.
    let mut all: Vec<_> = (0..200)
        .map(|number| IssuerSettings {
            fetch_base: Some(format!("http://{}", hung.address()).parse().unwrap()),
            ..settings(&format!("https://id.example.com/realms/{number}"), LONG, LONG)
        })
        .collect();
    all.push(settings(good.issuer(), LONG, LONG));
    let rules = Rules {
        realms: all.iter().map(|settings| rules(&settings.issuer)).collect(),
        policies: vec![Policy::new("default", vec![200])],
        limits: Limits::default(),
    };
    let live = Arc::new(Live::new(rules, Arc::new(SystemClock)).unwrap());
    let began = Instant::now();
    let issuers = Issuers::start(all, Arc::clone(&live)).unwrap();
    let gate = Gate::new(live, issuers as _, 1024 * 1024);
    assert_eq!(denial(&gate, &token(good.issuer(), &key)).await, None);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_thousand_and_some_wait_for_one_realm() {
    let world = Arc::new(World::new(LONG, LONG).await);
    world.issuer.set_fault(Some(Fault::Hang));
    let token = Arc::new(world.token(&ec_key("k2")));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3_000 {
        let (world, token) = (Arc::clone(&world), Arc::clone(&token));
        tasks.spawn(async move {
            let began = Instant::now();
            (world.denial(&token).await, began.elapsed())
        });
    }
    let (mut waited, mut at_once) = (0, 0);
    while let Some(result) = tasks.join_next().await {
        match result.unwrap() {
            (Some(Denial::KeysUnavailable), _) => waited += 1,
            (Some(Denial::KeysCoolingDown), took) if took < Duration::from_secs(4) => at_once += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((waited, at_once), (1_024, 1_976));
}

#[tokio::test]
async fn a_request_that_waits_while_its_realm_is_replaced_goes_on_with_the_new_one() {
    let world = World::new(LONG, LONG).await;
    let new = ec_key("k2");
    let token = world.token(&new);
    world.issuer.set_fault(Some(Fault::Hang));
    let waiting = {
        let (gate, token) = (world.gate.clone(), token.clone());
        tokio::spawn(async move { denial(&gate, &token).await })
    };
    sleep(Duration::from_millis(100)).await;
    world.issuer.set_fault(None);
    world.issuer.set_keys(vec![new]);
    let began = Instant::now();
    let other = settings(world.issuer.issuer(), LONG, SOON);
    world.issuers.replace(vidimus::issuer::Plan::prepare(vec![other]).unwrap());
    assert_eq!(waiting.await.unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn https_is_trusted_by_the_ca_file_and_by_nothing_else() {
    use tokio_rustls::rustls::{
        self,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (good_ca, other_ca) = (folder.path().join("good.pem"), folder.path().join("other.pem"));
    std::fs::write(&good_ca, pair.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other_ca, other.cert.pem()).unwrap();

    // A TLS front before the embedded issuer, which is reached by fetch_base.
    let key = ec_key("k1");
    let issuer =
        Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]).await.unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], private)
        .unwrap();
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", front.local_addr().unwrap().port());
    let (acceptor, backend) = (tokio_rustls::TlsAcceptor::from(Arc::new(tls)), issuer.address());
    tokio::spawn(async move {
        while let Ok((stream, _)) = front.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = tokio::net::TcpStream::connect(backend).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });

    let with_ca = |ca: Option<&std::path::Path>| IssuerSettings {
        fetch_base: Some(base.parse().unwrap()),
        ca_file: ca.map(Into::into),
        ..settings(issuer.issuer(), SOON, SOON)
    };
    let (gate, _issuers) = gate_for(with_ca(Some(&good_ca)));
    let good = token(issuer.issuer(), &key);
    until("keys over https", || gate.live().load().realms().get(0).unwrap().last_keys().is_some())
        .await;
    assert_eq!(denial(&gate, &good).await, None);

    for ca in [None, Some(other_ca.as_path())] {
        let (gate, issuers) = gate_for(with_ca(ca));
        until("a refused certificate", || issuers.outcomes()[0].1.contains_key("connect")).await;
        assert_eq!(denial(&gate, &good).await, Some(Denial::KeysUnavailable));
    }
    // Another CA under the same path: from the next change of configuration on, only that is trusted.
    let path = folder.path().join("ca.pem");
    std::fs::copy(&good_ca, &path).unwrap();
    let (gate, issuers) = gate_for(with_ca(Some(&path)));
    until("keys over https", || gate.live().load().realms().get(0).unwrap().last_keys().is_some())
        .await;
    std::fs::copy(&other_ca, &path).unwrap();
    issuers.replace(vidimus::issuer::Plan::prepare(vec![with_ca(Some(&path))]).unwrap());
    until("a refused certificate", || issuers.outcomes()[0].1.contains_key("connect")).await;

    for content in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        let bad = folder.path().join("bad.pem");
        std::fs::write(&bad, content).unwrap();
        let live = Arc::clone(gate.live());
        assert!(Issuers::start(vec![with_ca(Some(&bad))], live).is_err(), "{content:?}");
    }
}
