//! A gate inside somebody's process: built from a file or typed settings, several of them, on runtimes
//! that come and go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
use prometheus::Registry;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};
use vidimus::builder::{Algorithm, Introspection, Policy, Realm, reqwest};
use vidimus::check::{CertificateError, ClientCertificate, Limits, RawToken, Thumbprint, UnixTime};
use vidimus::gate::{ManualClock, NoReply, Refresh, Source};
use vidimus::telemetry::GateMetrics;
use vidimus::testing::{Fault, INTROSPECTOR, Issuer};
use vidimus::{BuildError, Config, Decision, Denial, Facts, Gate, GateBuilder, Grant};

const SECOND: Duration = Duration::from_secs(1);

fn realm(issuer: &Issuer) -> Realm {
    Realm::new(issuer.issuer()).audience(["orders-api"])
}

async fn gate(issuer: &Issuer) -> Gate {
    let gate = GateBuilder::new().realm(realm(issuer)).build().unwrap();
    timeout(5 * SECOND, gate.ready()).await.expect("the embedded issuer answers");
    gate
}

async fn judge(gate: &Gate, token: &str) -> Result<Grant, Denial> {
    match gate.check(&Facts::new("default", Ok(RawToken::new(token)))).await {
        Decision::Allow(grant) => Ok(grant),
        Decision::Deny(refusal) => Err(refusal.denial),
    }
}

fn faults(builder: &GateBuilder) -> Vec<String> {
    match builder.config() {
        Err(BuildError::Settings(errors)) => {
            errors.to_string().lines().map(str::to_owned).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gate_of_typed_settings_judges_once_it_is_ready() {
    let issuer = Issuer::local().await.unwrap();
    issuer.set_fault(Some(Fault::ServerError));
    let gate = GateBuilder::new().realm(realm(&issuer)).build().unwrap();
    assert!(timeout(SECOND / 5, gate.ready()).await.is_err(), "there are no keys yet");
    assert!(!gate.is_ready());
    let token = issuer.token(json!({ "azp": null, "client_id": "cli" })).unwrap();

    let other = Issuer::local().await.unwrap();
    let both = GateBuilder::new().realm(realm(&issuer)).realm(realm(&other).name("other"));
    let both = both.build().unwrap();
    assert!(timeout(SECOND / 5, both.ready()).await.is_err(), "one of two has keys");
    assert_eq!(other.asked().1, 1);

    issuer.set_fault(None);
    timeout(5 * SECOND, gate.ready()).await.expect("tried again after 1 s");
    timeout(5 * SECOND, both.ready()).await.expect("both have keys");
    gate.ready().await; // and stays so
    assert!(gate.is_ready());
    let grant = judge(&gate, &token).await.unwrap();
    assert_eq!(grant.issuer(), issuer.issuer());
    assert_eq!(grant.subject(), Some("f1d0ca5e-0000-4000-8000-a11ce0000001"));
    assert_eq!(grant.client(), Some("cli"));
    assert_eq!(grant.scopes().collect::<Vec<_>>(), ["openid", "orders:read", "email", "profile"]);
    assert_eq!(grant.realm_roles().count(), 3);
    assert_eq!(grant.client_roles("orders-api").collect::<Vec<_>>(), ["viewer"]);
    assert_eq!(grant.client_roles("other").count(), 0);
    for (role, held) in [
        ("realm:offline_access", true),
        ("realm:viewer", false),
        ("orders-api:viewer", true),
        ("viewer", true), // of the first audience
        ("offline_access", false),
        ("other:viewer", false),
        ("", false),
    ] {
        assert_eq!(grant.has_role(role), held, "{role:?}");
    }
    assert_eq!(grant.certificate(), None);
    assert!(grant.expires() > gate.live().now());
}

#[tokio::test]
async fn claims_come_as_a_type_of_ones_own_and_errors_tell_no_values() {
    #[derive(serde::Deserialize)]
    struct Mine<'a> {
        department: Department,
        email: &'a str,
        #[serde(rename = "allowed-origins")]
        origins: Vec<String>,
        level: Option<u8>,
    }
    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Department {
        Sales,
    }
    #[derive(serde::Deserialize, Debug)]
    struct Wrong {
        #[expect(dead_code, reason = "it is never read")]
        email: u32,
    }
    #[derive(serde::Deserialize, Debug)]
    struct Missing {
        #[expect(dead_code, reason = "it is never read")]
        office: String,
    }
    let issuer = Issuer::local().await.unwrap();
    let gate = gate(&issuer).await;
    let token = issuer.token(json!({ "department": "sales" })).unwrap();
    let grant = judge(&gate, &token).await.unwrap();
    let mine = grant.claims::<Mine<'_>>().unwrap();
    assert_eq!((mine.department, mine.email), (Department::Sales, "alice@example.com"));
    assert_eq!((mine.origins.len(), mine.level), (1, None));
    assert_eq!(grant.claims::<serde_json::Value>().unwrap()["azp"], "orders-web");

    let wrong = grant.claims::<Wrong>().unwrap_err();
    assert!(wrong.to_string().contains("expected u32"), "{wrong}");
    let missing = grant.claims::<Missing>().unwrap_err();
    assert!(missing.to_string().contains("\"office\""), "{missing}");
    let token = issuer.token(json!({ "department": "secret-lab" })).unwrap();
    let grant = judge(&gate, &token).await.unwrap();
    let Err(department) = grant.claims::<Mine<'_>>() else { panic!("it is none of the variants") };
    for text in [format!("{wrong:?} {wrong}"), format!("{department:?} {department}")] {
        assert!(!text.contains("alice") && !text.contains("secret-lab"), "{text}");
    }
}

#[tokio::test]
async fn a_file_serves_the_sidecar_and_the_library_alike() {
    let issuer = Issuer::local().await.unwrap();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:1\"]\n[[realm]]\nissuer = {:?}\naudience = [\"orders-api\"]\n\
         [policy.default]\nscopes = [\"orders:read\"]\n",
        issuer.issuer()
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vidimus.toml");
    std::fs::write(&file, &text).unwrap();
    for gate in [Gate::from_file(&file).unwrap(), Gate::from_toml(&text).unwrap()] {
        timeout(5 * SECOND, gate.ready()).await.unwrap();
        assert!(judge(&gate, &issuer.token(json!({})).unwrap()).await.is_ok());
        let token = issuer.token(json!({ "scope": "openid" })).unwrap();
        assert_eq!(judge(&gate, &token).await.unwrap_err(), Denial::ScopeMissing);
    }
    let error = Gate::from_toml("[[realm]]\nissuer = 7\n[serve]\n").unwrap_err().to_string();
    assert!(error.contains("configuration:2:") && error.contains("configuration:3:"), "{error}");
    // As a main that returns it prints it.
    let printed: Box<dyn std::error::Error> = Gate::from_toml("[[realm]]").unwrap_err().into();
    assert_eq!(format!("{printed:?}"), printed.to_string());
    let printed = Config::parse("[[realm]]", "file").unwrap_err();
    assert_eq!(format!("{printed:?}"), printed.to_string());
    let error = Gate::from_file(folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml") && error.contains("cannot be read"), "{error}");
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let builder =
        || GateBuilder::new().realm(Realm::new("https://id.example.com/realms/a").audience(["x"]));
    let error = builder().build().unwrap_err();
    assert!(matches!(error, BuildError::NoRuntime), "{error:?}");
    assert!(error.to_string().contains("#[tokio::main]"));

    // Nor does a check that would have to wait, under whatever else polls it.
    let runtime = Runtime::new().unwrap();
    let gate = {
        let _inside = runtime.enter();
        builder().build().unwrap()
    };
    let token = vidimus::testing::SigningKey::generate("k", Algorithm::ES256).unwrap();
    let claims = json!({
        "iss": "https://id.example.com/realms/a", "aud": "x", "typ": "Bearer", "exp": 1_u64 << 40,
    });
    let token = token.sign(&claims).unwrap();
    let mut check = std::pin::pin!(judge(&gate, &token));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = check.as_mut().poll(&mut context) else {
        panic!("it waits for what nobody can bring")
    };
    assert_eq!(result.unwrap_err(), Denial::KeysUnavailable);
}

#[tokio::test]
async fn a_client_of_the_applications_is_asked_through_and_brings_nothing_by_redirect() {
    let issuer = Issuer::local().await.unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&asked);
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(no_trust())
        .redirect(reqwest::redirect::Policy::custom(move |attempt| {
            seen.fetch_add(1, Ordering::SeqCst);
            attempt.follow()
        }))
        .no_proxy()
        .build()
        .unwrap();
    let build = |client: reqwest::Client| {
        GateBuilder::new().realm(realm(&issuer)).http_client(client).build().unwrap()
    };
    let gate = build(client.clone());
    timeout(5 * SECOND, gate.ready()).await.unwrap();
    drop(gate);

    // The same pages, by way of somebody who sends everybody there.
    let aside = redirecting_to(&issuer).await;
    let realm = realm(&issuer).fetch_base(&aside);
    let gate = GateBuilder::new().realm(realm).http_client(client.clone()).build().unwrap();
    assert!(timeout(SECOND / 2, gate.ready()).await.is_err());
    assert!(asked.load(Ordering::SeqCst) > 0, "it was this client that was asked with");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let key = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    std::fs::write(&file, key.cert.pem()).unwrap();
    let realm = self::realm(&issuer).ca_file(&file);
    let both = GateBuilder::new().realm(realm).http_client(client);
    assert!(faults(&both)[0].contains("realm[0].ca_file"), "{:?}", faults(&both));
}

async fn redirecting_to(issuer: &Issuer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, target) = (listener.local_addr().unwrap(), issuer.address());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(&mut stream).lines();
            let first = lines.next_line().await.unwrap().unwrap();
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let path = first.split(' ').nth(1).unwrap();
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: http://{target}{path}\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{own}")
}

/// reqwest looks for a provider of its own otherwise.
fn no_trust() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[tokio::test]
async fn keys_may_come_from_elsewhere_and_time_from_a_clock_of_ones_own() {
    let key = support::ec_key("k1");
    let keys = support::jwks(&[&key]);
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(support::NOW)));
    let gate = GateBuilder::new()
        .realm(Realm::new(support::ISSUER).audience(["orders-api"]))
        .clock(Arc::clone(&clock) as _)
        .source(move |live| {
            live.publish_keys(support::ISSUER, keys);
            Arc::new(Nothing)
        })
        .build()
        .unwrap();
    gate.ready().await;
    let token = key.sign(&support::claims(json!({}))).unwrap();
    assert!(judge(&gate, &token).await.is_ok());
    clock.advance(306 * SECOND);
    assert_eq!(judge(&gate, &token).await.unwrap_err(), Denial::Expired);
}

struct Nothing;

impl Source for Nothing {
    fn refresh(
        &self,
        _: &str,
        _: &str,
        _: bool,
    ) -> std::pin::Pin<Box<dyn Future<Output = Refresh> + Send + '_>> {
        Box::pin(std::future::ready(Refresh::Done))
    }

    fn introspect(
        &self,
        _: &str,
        _: vidimus::check::OwnedToken,
        _: bool,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<vidimus::check::Reply, NoReply>> + Send + '_>>
    {
        Box::pin(std::future::ready(Err(NoReply)))
    }
}

#[tokio::test]
async fn the_last_clone_takes_the_tasks_with_it() {
    let issuer = Issuer::local().await.unwrap();
    let before = alive();
    let introspection = Introspection::new(INTROSPECTOR.0).client_secret(INTROSPECTOR.1);
    let realm = realm(&issuer).introspection(introspection);
    let gate = GateBuilder::new().realm(realm).build().unwrap();
    gate.ready().await;
    let clone = gate.clone();
    assert!(alive() > before);

    // A question is under way when the last clone goes, and nobody waits for it any more.
    issuer.set_introspection_fault(Some(Fault::Hang));
    let opaque = issuer.opaque_token(json!({})).unwrap();
    assert!(timeout(SECOND / 5, judge(&gate, &opaque)).await.is_err());
    drop(gate);
    sleep(SECOND / 20).await;
    assert!(alive() > before, "a clone is left");
    let asked = issuer.asked();
    drop(clone);
    let deadline = Instant::now() + SECOND;
    // The issuer's end of the hanging connection may take a moment.
    while alive() > before + 1 {
        assert!(Instant::now() < deadline, "{} tasks, {before} before", alive());
        sleep(SECOND / 100).await;
    }
    assert_eq!(issuer.asked(), asked);
}

fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn the_full_jwt_is_there_for_calling_on_where_the_policy_keeps_it() {
    let issuer = Issuer::local().await.unwrap();
    issuer.set_jwt_claim(true);
    let introspection = Introspection::new(INTROSPECTOR.0).client_secret(INTROSPECTOR.1);
    let gate = GateBuilder::new()
        .realm(realm(&issuer).introspection(introspection.prefer_jwt()))
        .policy(Policy::new("keeps").keep_jwt())
        .policy(Policy::new("default"))
        .build()
        .unwrap();
    gate.ready().await;
    let ask = async |policy: &str, token: &str| match gate
        .check(&Facts::new(policy, Ok(RawToken::new(token))))
        .await
    {
        Decision::Allow(grant) => grant.jwt().map(|jwt| jwt.expose().to_owned()),
        Decision::Deny(refusal) => panic!("{refusal:?}"),
    };
    let full = issuer.token(json!({})).unwrap();
    assert_eq!(ask("keeps", &full).await, Some(full.clone()));
    assert_eq!(ask("default", &full).await, None, "nobody asked for it");
    for token in [issuer.opaque_token(json!({})), issuer.lightweight_token(json!({}))] {
        let told = ask("keeps", &token.unwrap()).await.expect("the realm gave it");
        assert_eq!(told.split('.').count(), 3);
        assert_eq!(judge(&gate, &told).await.unwrap().subject().map(str::len), Some(36));
    }
    let Decision::Allow(grant) = gate.check(&Facts::new("keeps", Ok(RawToken::new(&full)))).await
    else {
        panic!("it is good")
    };
    assert!(grant.identity().all(|(_, value)| value != *full), "it stands in no header");
}

#[tokio::test]
async fn two_gates_with_different_settings_do_not_know_each_other() {
    let issuer = Issuer::local().await.unwrap();
    let strict = GateBuilder::new()
        .realm(Realm::new(issuer.issuer()).audience(["billing-api"]))
        .policy(Policy::new("default").roles(["realm:admin"]))
        .build()
        .unwrap();
    let open = gate(&issuer).await;
    strict.ready().await;
    let (one, other) = (
        issuer.token(json!({})).unwrap(),
        json!({ "aud": "billing-api", "realm_access": { "roles": ["admin"] } }),
    );
    let other = issuer.token(other).unwrap();
    for _ in 0..2 {
        assert!(judge(&open, &one).await.is_ok());
        assert_eq!(judge(&strict, &one).await.unwrap_err(), Denial::Audience);
        assert!(judge(&strict, &other).await.is_ok());
        assert_eq!(judge(&open, &other).await.unwrap_err(), Denial::Audience);
    }
    drop(strict);
    assert!(judge(&open, &one).await.is_ok());
}

#[tokio::test]
async fn the_application_keeps_its_own_providers_and_registries() {
    let issuer = Issuer::local().await.unwrap();
    let gate = gate(&issuer).await;
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "it was installed by Vidimus");
    assert!(prometheus::gather().iter().all(|family| !family.name().starts_with("vidimus")));

    // Had it used the default, none could be installed; did it use this one, it would panic.
    static PANICS: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| panic!("Vidimus signs with the application's provider"),
        verifier_factory: |_, _| panic!("Vidimus verifies with the application's provider"),
        key_utils: KeyUtils::new_unimplemented(),
    };
    let token = issuer.token(json!({})).unwrap();
    assert!(judge(&gate, &token).await.is_ok());
    PANICS.install_default().expect("it was free");
    assert!(judge(&gate, &issuer.token(json!({ "sub": "bob" })).unwrap()).await.is_ok());

    let registry = Registry::new();
    let metrics = GateMetrics::new(&gate).unwrap();
    registry.register(Box::new(metrics.clone())).unwrap();
    assert!(
        registry.register(Box::new(GateMetrics::new(&gate).unwrap())).is_err(),
        "twice the same"
    );
    let decision = gate.check(&Facts::new("default", Err(Denial::NoCredential))).await;
    metrics.observer("orders")(&decision, Duration::from_micros(3));
    let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let told = text();
    for line in [
        "vidimus_decisions_total{edge=\"orders\",outcome=\"deny\",policy=\"default\",realm=\"\",reason=\"no_credential\"} 1",
        "vidimus_jwks_keys{realm=\"test\"} 2",
        "vidimus_jwks_refresh_total{outcome=\"ok\",realm=\"test\"} 1",
        "vidimus_check_seconds_count 1",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(!told.contains("vidimus_connections"), "{told}");
    drop(gate);
    assert_eq!(text(), "", "the registry does not keep the gate alive");
}

#[tokio::test]
async fn several_gates_fit_one_registry_under_names_of_their_own() {
    let issuer = Issuer::local().await.unwrap();
    let introspection = Introspection::new(INTROSPECTOR.0).client_secret(INTROSPECTOR.1);
    let asking = realm(&issuer).introspection(introspection);
    let (one, other) = (gate(&issuer).await, GateBuilder::new().realm(asking).build().unwrap());
    other.ready().await;
    let registry = Registry::new();
    let metrics = GateMetrics::named(&one, "orders").unwrap();
    registry.register(Box::new(metrics.clone())).unwrap();
    registry.register(Box::new(GateMetrics::named(&other, "billing").unwrap())).unwrap();
    for (gate, why) in [(&one, "that name is taken"), (&other, "and so is it for another gate")] {
        let twice = GateMetrics::named(gate, "orders").unwrap();
        assert!(registry.register(Box::new(twice)).is_err(), "{why}");
    }
    let decision = one.check(&Facts::new("default", Err(Denial::NoCredential))).await;
    metrics.observer("http")(&decision, Duration::from_micros(3));
    let told = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "vidimus_decisions_total{edge=\"http\",gate=\"orders\",outcome=\"deny\",policy=\"default\",realm=\"\",reason=\"no_credential\"} 1",
        "vidimus_jwks_keys{gate=\"orders\",realm=\"test\"} 2",
        "vidimus_jwks_keys{gate=\"billing\",realm=\"test\"} 2",
        "vidimus_introspection_seconds_count{gate=\"billing\",realm=\"test\"} 0",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let types = || told.lines().filter(|line| line.starts_with("# TYPE"));
    let once: std::collections::BTreeSet<_> = types().collect();
    assert!(once.len() > 10, "{told}");
    assert_eq!(types().count(), once.len(), "a series is described twice");
    for line in told.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("gate=\"orders\"") || line.contains("gate=\"billing\""), "{line}");
    }
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_a_request_leaves_a_gate_that_others_can_ask() {
    let home = Runtime::new().unwrap();
    let (issuer, gate) = home.block_on(async {
        let issuer = Issuer::local().await.unwrap();
        let introspection = Introspection::new(INTROSPECTOR.0).client_secret(INTROSPECTOR.1);
        let realm = realm(&issuer).introspection(introspection);
        let gate = GateBuilder::new().realm(realm).build().unwrap();
        gate.ready().await;
        (issuer, gate)
    });
    let good = issuer.token(json!({})).unwrap();
    let opaque = issuer.opaque_token(json!({ "aud": "orders-api" })).unwrap();

    // Another runtime asks, and ends while its question is under way.
    issuer.set_introspection_fault(Some(Fault::Hang));
    let guest = Runtime::new().unwrap();
    guest.block_on(async {
        assert!(judge(&gate, &good).await.is_ok());
        assert!(timeout(SECOND / 5, judge(&gate, &opaque)).await.is_err());
    });
    drop(guest); // waits for its end; who joined the question before that would be told 503
    issuer.set_introspection_fault(None);
    let known = issuer.opaque_token(json!({})).unwrap();
    home.block_on(async {
        assert_eq!(judge(&gate, &opaque).await.unwrap_err(), Denial::Inactive, "asked anew");
        assert!(judge(&gate, &known).await.is_ok());
    });

    // Its own runtime ends: what is known stays, and the rest is refused at once instead of after 5 s.
    issuer.set_fault(Some(Fault::Hang)); // and whoever waits for a fetch at that moment waits no longer
    let last = Runtime::new().unwrap();
    let waiting = last.spawn({
        let (gate, claims) = (gate.clone(), issuer.claims());
        async move {
            let stranger = support::ec_key("rotated-in").sign(&claims).unwrap();
            let began = Instant::now();
            (judge(&gate, &stranger).await.unwrap_err(), began.elapsed())
        }
    });
    while issuer.asked().1 < 2 {
        std::thread::sleep(SECOND / 100);
    }
    home.shutdown_background();
    last.block_on(async {
        let (denial, took) = waiting.await.unwrap();
        assert_eq!(denial, Denial::KeysUnavailable);
        assert!(took < 2 * SECOND, "{took:?}");
        assert!(judge(&gate, &good).await.is_ok());
        let began = Instant::now();
        let stranger = support::ec_key("unknown").sign(&issuer.claims()).unwrap();
        assert_eq!(judge(&gate, &stranger).await.unwrap_err(), Denial::KeysUnavailable);
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    });
}

#[tokio::test]
async fn a_dropped_check_and_a_panic_in_what_was_injected_leave_a_gate_that_works() {
    struct Broken;
    impl ClientCertificate for Broken {
        fn thumbprint(&self) -> Result<Option<Thumbprint>, CertificateError> {
            panic!("a mistake of the application's")
        }
    }
    let issuer = Issuer::local().await.unwrap();
    let gate = gate(&issuer).await;
    let bound = json!({ "cnf": { "x5t#S256": support::THUMBPRINT } });
    let bound = issuer.token(bound).unwrap();
    let asking = gate.clone();
    let panicked = tokio::spawn(async move {
        let credential = Ok(RawToken::new(&bound));
        let facts = Facts { policy: "default", credential, certificate: &Broken };
        asking.check(&facts).await
    });
    assert!(panicked.await.unwrap_err().is_panic());

    issuer.set_fault(Some(Fault::Hang));
    let stranger = support::ec_key("unknown").sign(&issuer.claims()).unwrap();
    for _ in 0..10 {
        let asked = timeout(SECOND / 100, judge(&gate, &stranger)).await;
        assert!(asked.is_err(), "it waits for a fetch: {asked:?}");
    }
    assert!(judge(&gate, &issuer.token(json!({})).unwrap()).await.is_ok());
    assert_eq!(Limits::default().token, 16 * 1024);
}
