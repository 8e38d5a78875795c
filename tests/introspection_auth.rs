//! How our client proves itself when it asks about tokens: every way, over real sockets, and what it
//! proves itself with changing under its name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/realm.rs"]
mod realm;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use realm::*;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore};
use vidimus::check::*;
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::issuer::*;
use vidimus::testing::key::SigningKey;

const UNAVAILABLE: Option<Denial> = Some(Denial::IntrospectionUnavailable);

fn value(secret: &str) -> SecretSource {
    SecretSource::Value(Secret::new(secret))
}

#[tokio::test]
async fn a_secret_passes_in_the_header_and_in_the_form() {
    for (id, secret) in [
        (CLIENT, SECRET),
        ("a:b", "c:d"),
        ("söhne & co", "pass wörd+%2B%"),
        ("a=b&c", "&client_secret=x;#?/\\\"'~*-._"),
        (" ", ":"),
    ] {
        let issuer = embedded().await;
        issuer.set_introspection_client(id, secret);
        issuer.set_audience_rule(false);
        for auth in [ClientAuth::Basic(value(secret)), ClientAuth::Post(value(secret))] {
            let asks = introspection(auth, |settings| settings.client_id = id.into());
            let asking = Asking::start(settings(issuer.issuer(), asks));
            assert_eq!(asking.denial(&opaque(&issuer)).await, None, "{id}");
        }
        assert_eq!(issuer.introspected(), 2);
    }
}

#[tokio::test]
async fn a_secret_stands_in_one_place_and_is_form_urlencoded_in_the_header() {
    let realm = FakeRealm::start().await;
    let (id, secret) = ("a b:c", "ü%+&");
    for auth in [ClientAuth::Basic(value(secret)), ClientAuth::Post(value(secret))] {
        let asks = introspection(auth, |settings| settings.client_id = id.into());
        assert_eq!(Asking::start(settings(&realm.issuer, asks)).denial("opaque").await, None);
    }
    let [basic, post] = &*realm.asked() else { panic!() };
    let fields = |form: &[(&str, &str)]| {
        form.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let question = [("token", "opaque"), ("token_type_hint", "access_token")];
    // RFC 6749 §2.3.1 and appendix B.
    let header = format!("Basic {}", STANDARD.encode("a+b%3Ac:%C3%BC%25%2B%26"));
    assert_eq!(basic.header("authorization"), Some(&*header));
    assert_eq!(basic.form, fields(&question));
    assert_eq!(post.header("authorization"), None);
    let more = [("client_id", id), ("client_secret", secret)];
    assert_eq!(post.form, fields(&[&question[..], &more].concat()));
    for asked in [basic, post] {
        assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    }
}

#[tokio::test]
async fn a_client_that_the_realm_refuses_is_never_the_callers_fault() {
    let ways: [fn(SecretSource) -> ClientAuth; 2] = [ClientAuth::Basic, ClientAuth::Post];
    for way in ways {
        for (id, secret) in [(CLIENT, "wrong"), ("nobody", SECRET), ("demo-public", "")] {
            let issuer = embedded().await;
            let asks = introspection(way(value(secret)), |settings| settings.client_id = id.into());
            let asking = Asking::start(settings(issuer.issuer(), asks));
            for asked in 1..=3 {
                let denial = asking.denial(&opaque(&issuer)).await;
                assert_eq!(denial, UNAVAILABLE, "{id}");
                assert_eq!(denial.unwrap().answer().status, 503);
                assert_eq!((asking.outcome("credentials"), issuer.introspected()), (asked, asked));
            }
        }
    }
    // RFC 6749 §5.2: a client may be refused with 400, too.
    for (status, code, label) in [
        (400, "invalid_client", "credentials"),
        (400, "unauthorized_client", "credentials"),
        (400, "invalid_request", "status"),
        (401, "invalid_request", "credentials"), // Keycloak before 26.7
        (401, "", "status"),
        (403, "access_denied", "credentials"),
    ] {
        let issuer = embedded().await;
        let asking = Asking::start(settings(issuer.issuer(), with_secret(|_| {})));
        let answer = (status, "application/json", json!({ "error": code }).to_string());
        issuer.set_introspection_answer(Some(answer));
        assert_eq!(asking.denial(&opaque(&issuer)).await, UNAVAILABLE, "{status} {code}");
        assert_eq!(asking.outcome(label), 1, "{status} {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let ways: [fn(SecretSource) -> ClientAuth; 2] = [ClientAuth::Basic, ClientAuth::Post];
    for way in ways {
        let issuer = embedded().await;
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let asks = introspection(way(SecretSource::File(file.clone())), |_| {});
        let asking = Asking::start(settings(issuer.issuer(), asks));
        assert_eq!(asking.denial(&opaque(&issuer)).await, None);
        for round in 0..5 {
            let secret = format!("rotated-{round}");
            issuer.set_introspection_client(CLIENT, &secret);
            std::fs::write(&file, format!("{secret}\r\n")).unwrap();
            // All of them are refused once, and all but one find the file read already.
            let tokens = (0..30).map(|_| opaque(&issuer)).collect();
            for (denial, _) in asking.denials(tokens).await {
                assert_eq!(denial, None, "round {round}");
            }
        }
        assert_eq!(asking.stats().outcomes.into_iter().collect::<Vec<_>>(), [("active", 151)]);
    }
}

#[tokio::test]
async fn a_rotated_secret_is_found_before_the_realm_refuses_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "old").unwrap();
    let realm = FakeRealm::start().await;
    let asks = introspection(ClientAuth::Post(SecretSource::File(file.clone())), |_| {});
    let asking = Asking::start(settings(&realm.issuer, asks));
    std::fs::write(&file, "new").unwrap();
    assert_eq!(asking.denial("opaque-1").await, None);
    // A file is looked at once a second.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(asking.denial("opaque-2").await, None);
    let secrets: Vec<_> = realm.asked().iter().map(|it| it.form["client_secret"].clone()).collect();
    assert_eq!(secrets, ["old", "new"]);
}

#[tokio::test]
async fn a_secret_file_that_cannot_be_used_leaves_the_last_good_secret() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 6] = [
        ("removed", |_| {}),
        ("a folder", |file| std::fs::create_dir(file).unwrap()),
        ("empty", |file| std::fs::write(file, "").unwrap()),
        ("a line break", |file| std::fs::write(file, "\n").unwrap()),
        ("two lines", |file| std::fs::write(file, "a\nb\n").unwrap()),
        ("no text", |file| std::fs::write(file, [0xff]).unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    for (what, spoil) in spoils {
        std::fs::write(&file, SECRET).unwrap();
        let issuer = embedded().await;
        let asks = introspection(ClientAuth::Basic(SecretSource::File(file.clone())), |_| {});
        let asking = Asking::start(settings(issuer.issuer(), asks));
        assert_eq!(asking.denial(&opaque(&issuer)).await, None);
        std::fs::remove_file(&file).unwrap();
        spoil(&file);
        issuer.set_introspection_client(CLIENT, "rotated"); // so that the file is looked at
        assert_eq!(asking.denial(&opaque(&issuer)).await, UNAVAILABLE, "{what}");
        assert_eq!(asking.outcome("credentials"), 1, "{what}");
        issuer.set_introspection_client(CLIENT, SECRET);
        assert_eq!(asking.denial(&opaque(&issuer)).await, None, "{what}");
        let _ = std::fs::remove_dir(&file);
        std::fs::write(&file, "rotated").unwrap();
        issuer.set_introspection_client(CLIENT, "rotated");
        assert_eq!(asking.denial(&opaque(&issuer)).await, None, "{what}, then good");
    }
}

#[tokio::test]
async fn a_file_that_was_seen_half_written_is_looked_at_again_soon() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "old").unwrap();
    let realm = FakeRealm::start().await;
    let asks = introspection(ClientAuth::Post(SecretSource::File(file.clone())), |_| {});
    let asking = Asking::start(settings(&realm.issuer, asks));
    let pause = Duration::from_millis(1_050);
    for (content, number) in [("", 1), ("new", 2)] {
        std::fs::write(&file, content).unwrap();
        tokio::time::sleep(pause).await;
        assert_eq!(asking.denial(&format!("opaque-{number}")).await, None);
    }
    let secrets: Vec<_> = realm.asked().iter().map(|it| it.form["client_secret"].clone()).collect();
    assert_eq!(secrets, ["old", "new"]);
}

/// A file of tests/data/keys.
fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys").join(name)
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// Header and claims of an assertion, if this key has signed it.
fn proven(assertion: &str, key: &SigningKey) -> (Value, Value) {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let keys = json!({ "keys": [key.jwk()] }).to_string();
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    assert!(keys.keys()[0].verify(message.as_bytes(), &bytes(signature)));
    let (header, claims) = message.split_once('.').unwrap();
    let json = |text: &str| serde_json::from_slice(&bytes(text)).unwrap();
    (json(header), json(claims))
}

#[tokio::test]
async fn an_assertion_is_made_for_one_question_to_this_realm() {
    let folder = tempfile::tempdir().unwrap();
    let rsa = folder.path().join("rsa.pem");
    let der = std::fs::read(key_file("test-only-rsa-2048.pk8")).unwrap();
    std::fs::write(&rsa, pem("PRIVATE KEY", &der)).unwrap();
    let (es256, ed25519) =
        (key_file("test-only-es256.pk8.pem"), key_file("test-only-ed25519.pk8.pem"));
    for (algorithm, file, key_id) in [
        (Algorithm::ES256, &es256, Some("ours-1")),
        (Algorithm::ES256, &es256, None),
        (Algorithm::EdDSA, &ed25519, Some("ours-2")),
        (Algorithm::RS256, &rsa, Some("ours-3")),
        (Algorithm::PS256, &rsa, Some("ours-4")),
    ] {
        let realm = FakeRealm::start().await;
        let key = std::fs::read(file).unwrap();
        let key = SigningKey::from_pem("any", algorithm, &key).unwrap();
        let id = key_id.map(str::to_owned);
        let auth = ClientAuth::PrivateKey { file: file.clone(), algorithm, key_id: id };
        let asking = Asking::start(settings(&realm.issuer, introspection(auth, |_| {})));
        for token in many(3) {
            assert_eq!(asking.denial(&token).await, None, "{algorithm:?}");
        }
        let now = SystemClock.now().as_secs();
        let mut seen = std::collections::BTreeSet::new();
        for asked in realm.asked() {
            assert_eq!(asked.header("authorization"), None);
            let names: Vec<&str> = asked.form.keys().map(|name| &**name).collect();
            let mut expected = [
                "token",
                "token_type_hint",
                "client_id",
                "client_assertion",
                "client_assertion_type",
            ];
            expected.sort_unstable();
            assert_eq!(names, expected);
            assert_eq!(asked.form["client_id"], CLIENT);
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(asked.form["client_assertion_type"], kind);
            let (header, claims) = proven(&asked.form["client_assertion"], &key);
            let mut expected = json!({ "alg": algorithm.name(), "typ": "JWT" });
            if let Some(id) = key_id {
                expected["kid"] = json!(id);
            }
            assert_eq!(header, expected);
            let time = |name: &str| claims[name].as_i64().unwrap();
            assert!((now - 5..=now).contains(&time("iat")), "{claims}");
            assert!((1..=60).contains(&(time("exp") - time("iat"))), "{claims}");
            let jti = claims["jti"].as_str().unwrap();
            assert!(jti.len() >= 16 && seen.insert(jti.to_owned()), "{claims}");
            let expected = json!({
                "iss": CLIENT, "sub": CLIENT, "aud": realm.issuer, "jti": jti,
                "iat": time("iat"), "exp": time("exp"),
            });
            assert_eq!(claims, expected);
        }
        assert_eq!(seen.len(), 3);
    }
}

#[tokio::test]
async fn a_question_that_is_asked_again_has_an_assertion_of_its_own() {
    let realm = FakeRealm::start().await;
    let answer = good_answer(&realm.issuer);
    let first = std::sync::atomic::AtomicBool::new(true);
    realm.tells(move |_| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        (!first).then(|| json_page(&answer))
    });
    let file = key_file("test-only-es256.pk8.pem");
    let auth = ClientAuth::PrivateKey { file, algorithm: Algorithm::ES256, key_id: None };
    let asking = Asking::start(settings(&realm.issuer, introspection(auth, |_| {})));
    assert_eq!(asking.denial("opaque").await, None);
    let [first, second] = &*realm.asked() else { panic!() };
    assert_ne!(first.form["client_assertion"], second.form["client_assertion"]);
}

#[tokio::test]
async fn a_rotated_key_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let fresh = || {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        let key = SigningKey::from_pem("any", Algorithm::ES256, pem.as_bytes()).unwrap();
        (pem, key)
    };
    let (old, _) = fresh();
    std::fs::write(&file, old).unwrap();
    let auth =
        ClientAuth::PrivateKey { file: file.clone(), algorithm: Algorithm::ES256, key_id: None };
    let realm = FakeRealm::start().await;
    let asking = Asking::start(settings(&realm.issuer, introspection(auth, |_| {})));
    assert_eq!(asking.denial("opaque-1").await, None);
    let (new, key) = fresh();
    std::fs::write(&file, new).unwrap();
    let answer = good_answer(&realm.issuer);
    let keys = json!({ "keys": [key.jwk()] }).to_string();
    realm.tells(move |asked| {
        let (message, signature) = asked.form["client_assertion"].rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let keys = KeySet::parse(keys.as_bytes()).unwrap();
        let refused = page(401, "application/json", r#"{"error":"invalid_client"}"#);
        let good = keys.keys()[0].verify(message.as_bytes(), &signature);
        Some(if good { json_page(&answer) } else { refused })
    });
    assert_eq!(asking.denial("opaque-2").await, None);
    assert_eq!(realm.asked().len(), 3);
}

/// A certificate and its key, by `ca`.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Identity {
    fn by(ca: &Ca, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.signed_by(&key, ca).unwrap(), key }
    }

    fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}

/// A realm whose introspection endpoint for certificates is on another port than all else.
struct Mtls {
    folder: tempfile::TempDir,
    ca: Ca,
    realm: FakeRealm,
    by_certificate: FakeRealm,
}

impl Mtls {
    async fn start() -> Self {
        let ca = ca("test CA");
        let server = Identity::by(&ca, "localhost");
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server.key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![server.certificate.der().clone()], key)
            .unwrap();
        let by_certificate = FakeRealm::listen(Some(TlsAcceptor::from(Arc::new(tls)))).await;
        let realm = FakeRealm::start().await;
        let alias = format!("{}/introspect", by_certificate.base);
        realm.publishes("mtls_endpoint_aliases", json!({ "introspection_endpoint": alias }));
        let answer = good_answer(&realm.issuer);
        by_certificate.tells(move |_| Some(json_page(&answer)));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca, realm, by_certificate }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a client with this certificate is to be.
    fn shows(&self, identity: &Identity) {
        std::fs::write(self.file("tls.pem"), identity.certificate.pem()).unwrap();
        std::fs::write(self.file("tls.key"), identity.key.serialize_pem()).unwrap();
    }

    fn settings(&self) -> IssuerSettings {
        let (certificate_file, key_file) = (self.file("tls.pem"), self.file("tls.key"));
        let auth = ClientAuth::Tls { certificate_file, key_file };
        let ca_file = Some(self.file("ca.pem"));
        IssuerSettings { ca_file, ..settings(&self.realm.issuer, introspection(auth, |_| {})) }
    }
}

#[tokio::test]
async fn a_certificate_is_shown_at_the_endpoint_for_certificates() {
    let world = Mtls::start().await;
    let ours = Identity::by(&world.ca, "vidimus");
    world.shows(&ours);
    let asking = Asking::start(world.settings());
    assert_eq!(asking.denial("opaque").await, None);
    let [asked] = &*world.by_certificate.asked() else { panic!() };
    assert_eq!(asked.certificate, Some(ours.der()));
    assert_eq!(asked.form["client_id"], CLIENT);
    assert_eq!((asked.form.len(), asked.header("authorization")), (3, None));
    assert!(world.realm.asked().is_empty());

    // Who proves himself in another way asks at the other one.
    let other = IssuerSettings { introspection: with_secret(|_| {}), ..world.settings() };
    assert_eq!(Asking::start(other).denial("opaque").await, None);
    assert_eq!((world.by_certificate.asked().len(), world.realm.asked().len()), (1, 1));
}

#[tokio::test]
async fn a_wrong_certificate_or_server_is_never_the_callers_fault() {
    let world = Mtls::start().await;
    let endpoint: url::Url = format!("{}/introspect", world.by_certificate.base).parse().unwrap();
    world.shows(&Identity::by(&ca("another CA"), "vidimus"));
    let wrong = world.settings();
    let mut none = world.settings();
    none.introspection = with_secret(|settings| settings.endpoint = Some(endpoint));
    for (what, settings) in [("wrong", wrong), ("none", none)] {
        let asking = Asking::start(settings);
        assert_eq!(asking.denial("opaque").await, UNAVAILABLE, "{what}");
        assert_eq!(asking.outcome("connect"), 1, "{what}");
    }
    // A good one is not shown to a server whom ca_file does not vouch for.
    world.shows(&Identity::by(&world.ca, "vidimus"));
    std::fs::write(world.file("other.pem"), ca("another CA").pem()).unwrap();
    let ca_file = Some(world.file("other.pem"));
    let asking = Asking::start(IssuerSettings { ca_file, ..world.settings() });
    assert_eq!(asking.denial("opaque").await, UNAVAILABLE);
    assert_eq!(asking.outcome("connect"), 1);
    assert!(world.by_certificate.asked().is_empty());
}

#[tokio::test]
async fn a_rotated_certificate_is_picked_up_even_if_seen_half_written() {
    let world = Mtls::start().await;
    let (old, new) = (Identity::by(&world.ca, "old"), Identity::by(&world.ca, "new"));
    world.shows(&old);
    let asking = Asking::start(world.settings());
    assert_eq!(asking.denial("opaque-1").await, None);
    // Two files cannot change at once: between them the pair does not fit.
    let pause = Duration::from_millis(1_050);
    std::fs::write(world.file("tls.pem"), new.certificate.pem()).unwrap();
    tokio::time::sleep(pause).await;
    assert_eq!(asking.denial("opaque-2").await, None);
    world.shows(&new);
    tokio::time::sleep(pause).await;
    assert_eq!(asking.denial("opaque-3").await, None);
    let shown = |asked: Vec<Asked>| asked.into_iter().map(|it| it.certificate.unwrap());
    let shown: Vec<_> = shown(world.by_certificate.asked()).collect();
    assert_eq!(shown, [old.der(), old.der(), new.der()]);
}

#[tokio::test]
async fn a_certificate_that_was_rotated_because_the_realm_refuses_the_old_one_costs_no_request() {
    let world = Mtls::start().await;
    let (old, new) = (Identity::by(&world.ca, "old"), Identity::by(&world.ca, "new"));
    world.shows(&old);
    let asking = Asking::start(world.settings());
    assert_eq!(asking.denial("opaque-1").await, None);
    world.shows(&new);
    let (answer, expected) = (good_answer(&world.realm.issuer), new.der());
    world.by_certificate.tells(move |asked| {
        let good = asked.certificate.as_ref() == Some(&expected);
        let refused = page(401, "application/json", r#"{"error":"invalid_client"}"#);
        Some(if good { json_page(&answer) } else { refused })
    });
    assert_eq!(asking.denial("opaque-2").await, None);
}
