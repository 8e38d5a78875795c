//! The embedded issuer at introspection, over real HTTP: it stands in for Keycloak, so it must answer
//! like one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, RequestBuilder, redirect};
use serde_json::{Value, json};
use support::ec_key;
use tokio::time::{Instant, timeout};
use vidimus::check::KeySet;
use vidimus::config::{ListenAddr, Provider};
use vidimus::demo::{Addresses, Demo};
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::testing::form::Form;
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples::{self, CERTIFICATE, Sample};
use vidimus::testing::{CLIENT, Fault, INTROSPECTOR, Issuer};

struct World {
    issuer: Issuer,
    key: SigningKey,
    client: Client,
}

/// Status, content type and body.
type Answer = (u16, String, String);

impl World {
    async fn new() -> Self {
        let key = ec_key("k1");
        let issuer =
            Issuer::start(([127, 0, 0, 1], 0).into(), "shop", vec![key.clone()]).await.unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none());
        let client = client.tls_backend_preconfigured(tls).build().unwrap();
        Self { issuer, key, client }
    }

    /// Claims that are good at this moment, for an audience.
    fn claims(&self, audience: Value) -> Value {
        let mut claims = samples::claims(self.issuer.issuer(), SystemClock.now().as_secs());
        claims["aud"] = audience;
        claims
    }

    /// A token that introspection calls active.
    fn opaque(&self) -> String {
        self.issuer.opaque_token(self.claims(json!(["orders-api", "vidimus"]))).unwrap()
    }

    fn post(&self, page: &str, form: &[(&str, &str)]) -> RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client
            .post(format!("{}/protocol/openid-connect/{page}", self.issuer.issuer()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    /// A request to introspect, by the right client.
    fn ask(&self, form: &[(&str, &str)]) -> RequestBuilder {
        self.post("token/introspect", form).basic_auth(INTROSPECTOR.0, Some(INTROSPECTOR.1))
    }

    async fn introspect(&self, token: &str) -> Value {
        let (status, kind, body) = told(self.ask(&[("token", token)])).await;
        assert_eq!((status, &*kind), (200, "application/json"), "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn active(&self, token: &str) -> bool {
        let answer = self.introspect(token).await;
        let active = answer["active"].as_bool().unwrap();
        assert!(active || answer == json!({ "active": false }), "{answer}");
        active
    }

    /// What introspection tells, without what it adds.
    async fn claims_of(&self, token: &str) -> Value {
        let mut answer = self.introspect(token).await;
        for name in ["client_id", "username", "token_type", "active"] {
            answer.as_object_mut().unwrap().remove(name);
        }
        answer
    }

    async fn sample(&self, name: &str) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT.0),
            ("client_secret", CLIENT.1),
            ("sample", name),
        ];
        let (_, _, body) = told(self.post("token", &form)).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn metadata(&self) -> Value {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.issuer());
        serde_json::from_str(&told(self.client.get(address)).await.2).unwrap()
    }

    /// Whether the realm's key has signed a JWT.
    fn signed(&self, jwt: &str) -> bool {
        let keys = json!({ "keys": [self.key.jwk()] }).to_string();
        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        KeySet::parse(keys.as_bytes()).unwrap().keys()[0].verify(message.as_bytes(), &signature)
    }
}

async fn told(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

/// Header or payload of a JWT.
fn part(jwt: &str, place: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(place).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn refusal(status: u16, error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description });
    (status, "application/json".to_owned(), body.to_string())
}

#[tokio::test]
async fn an_active_token_is_told_with_all_its_claims_and_four_more() {
    let world = World::new().await;
    let claims = world.claims(json!(["orders-api", "vidimus"]));
    let token = world.issuer.opaque_token(claims.clone()).unwrap();
    let mut expected = claims;
    expected["client_id"] = json!("orders-web");
    expected["username"] = json!("alice");
    expected["token_type"] = json!("Bearer");
    expected["active"] = json!(true);
    assert_eq!(world.introspect(&token).await, expected);
    let answer = world.ask(&[("token", &token)]).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn each_sample_has_the_form_and_the_state_that_it_says() {
    let world = World::new().await;
    for (rule, active) in [
        (true, &["opaque", "lightweight"][..]),
        (
            false, // as in Keycloak before 26.6.2
            &[
                "good",
                "wrong-audience",
                "id-token",
                "opaque",
                "lightweight",
                "bound",
                "stolen",
                "role-missing",
                "admin",
            ],
        ),
    ] {
        world.issuer.set_audience_rule(rule);
        for sample in &Sample::ALL {
            let token = world.sample(sample.name).await;
            let expected = active.contains(&sample.name);
            assert_eq!(world.active(&token).await, expected, "{} {rule}", sample.name);
            match sample.form {
                Form::Opaque => assert!(token.len() == 43 && !token.contains('.'), "{token}"),
                Form::Full | Form::Lightweight => {
                    let good = world.signed(&token);
                    assert_eq!(good, sample.name != "forged", "{}", sample.name);
                }
            }
        }
    }
    let id_token = world.sample("id-token").await;
    assert_eq!(world.introspect(&id_token).await["token_type"], "ID", "as in Keycloak");
}

#[tokio::test]
async fn a_sample_is_bound_to_the_certificate_that_is_asked_for() {
    let world = World::new().await;
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (sample, x5t, expected) in [
        ("bound", None, json!({ "x5t#S256": CERTIFICATE })),
        ("bound", Some(other), json!({ "x5t#S256": other })),
        ("stolen", Some(other), json!({ "x5t#S256": other })),
        ("good", Some(other), json!(null)),
    ] {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT.0),
            ("client_secret", CLIENT.1),
            ("sample", sample),
        ];
        form.extend(x5t.map(|x5t| ("x5t", x5t)));
        let (_, _, body) = told(world.post("token", &form)).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let token = answer["access_token"].as_str().unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["cnf"], expected, "{sample} {x5t:?}");
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT.0),
        ("client_secret", CLIENT.1),
        ("sample", "bound"),
        ("x5t", "03:80"),
    ];
    let (status, _, body) = told(world.post("token", &form)).await;
    assert!(status == 400 && body.contains("43 characters"), "{body}");
}

#[tokio::test]
async fn no_two_tokens_share_a_jti() {
    let world = World::new().await;
    let mut seen = BTreeSet::new();
    for (name, kind) in [("good", "onrtac:"), ("lightweight", "onltac:")] {
        for _ in 0..2 {
            let jti = part(&world.sample(name).await, 1)["jti"].as_str().unwrap().to_owned();
            assert!(jti.starts_with(kind), "{jti}");
            seen.insert(jti);
        }
    }
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_lightweight_token_carries_little_and_introspection_tells_the_rest() {
    let world = World::new().await;
    let claims = world.claims(json!(["orders-api", "vidimus"]));
    let token = world.issuer.lightweight_token(claims.clone()).unwrap();
    let own = part(&token, 1);
    let names: Vec<&String> = own.as_object().unwrap().keys().collect();
    assert_eq!(names, ["azp", "exp", "iat", "iss", "jti", "scope", "sid", "typ"]);
    let answer = world.introspect(&token).await;
    for name in ["sub", "aud", "realm_access", "preferred_username", "exp"] {
        assert_eq!(answer[name], claims[name], "{name}");
    }
    assert_eq!(answer["jti"], own["jti"]);

    let mut bound = claims;
    bound["cnf"] = json!({ "jkt": "A" });
    let token = world.issuer.lightweight_token(bound).unwrap();
    assert_eq!(part(&token, 1)["cnf"], json!({ "jkt": "A" }));
}

#[tokio::test]
async fn tokens_of_every_form_are_good_ones_with_changes() {
    let world = World::new().await;
    let change = json!({ "sub": "me", "email": null });
    let tokens = [Issuer::token, Issuer::opaque_token, Issuer::lightweight_token];
    for token in tokens.map(|form| form(&world.issuer, change.clone()).unwrap()) {
        let told = world.introspect(&token).await;
        assert_eq!((&told["active"], &told["sub"]), (&json!(true), &json!("me")));
        assert_eq!((told.get("email"), &told["azp"]), (None, &json!("orders-web")));
    }
    world.issuer.set_introspection_client("another", "demo-secret");
    assert_eq!(world.issuer.claims()["aud"], json!(["orders-api", "another", "account"]));
}

#[tokio::test]
async fn it_tells_its_jwks_without_being_asked_over_http() {
    let world = World::new().await;
    let keys = KeySet::parse(world.issuer.jwks().to_string().as_bytes()).unwrap();
    assert_eq!(keys.with_kid(world.key.kid()).count(), 1);
    world.issuer.set_keys(Vec::new());
    assert_eq!(world.issuer.jwks(), json!({ "keys": [] }));
}

#[tokio::test]
async fn a_token_of_somebody_else_is_inactive() {
    let world = World::new().await;
    let claims = world.claims(json!("vidimus"));
    let other = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let now = SystemClock.now().as_secs();
    let good = world.key.sign(&claims).unwrap();
    let signature = good.rsplit_once('.').unwrap().1;
    let forged = world.key.sign(&other("sub", json!("mallory"))).unwrap();
    let forged = format!("{}.{signature}", forged.rsplit_once('.').unwrap().0);
    let lightweight = world.issuer.lightweight_token(claims.clone()).unwrap();
    for (case, token, active) in [
        ("a full token with the client in its audience", good.clone(), true),
        ("its signature under other claims", forged, false),
        ("another key of the same name", ec_key("k1").sign(&claims).unwrap(), false),
        ("a key that is not published", ec_key("k2").sign(&claims).unwrap(), false),
        ("another issuer", world.key.sign(&other("iss", json!("https://id"))).unwrap(), false),
        ("over", world.key.sign(&other("exp", json!(now))).unwrap(), false),
        ("over, opaque", world.issuer.opaque_token(other("exp", json!(now))).unwrap(), false),
        ("not yet", world.issuer.opaque_token(other("nbf", json!(now + 60))).unwrap(), false),
        ("for another", world.issuer.opaque_token(other("aud", json!("else"))).unwrap(), false),
        (
            "a lightweight token nobody has given out",
            { world.key.sign(&other("jti", json!("onltac:1"))).unwrap() },
            false,
        ),
        ("a jti alone", part(&lightweight, 1)["jti"].as_str().unwrap().to_owned(), false),
        ("nonsense", "nonsense".to_owned(), false),
        ("dots", "..".to_owned(), false),
        ("nothing", String::new(), false),
    ] {
        assert_eq!(world.active(&token).await, active, "{case}");
    }
    world.issuer.set_keys(vec![ec_key("k2")]);
    assert!(!world.active(&good).await, "its key was withdrawn");
}

#[tokio::test]
async fn a_session_that_ends_takes_its_token_with_it_and_no_other() {
    let world = World::new().await;
    let claims = world.claims(json!(["vidimus"]));
    let full = world.key.sign(&claims).unwrap();
    let lightweight = world.issuer.lightweight_token(claims.clone()).unwrap();
    let (opaque, other) = (world.opaque(), world.opaque());
    for token in [&full, &lightweight, &opaque] {
        assert!(world.active(token).await);
        world.issuer.end_session(token);
        assert!(!world.active(token).await);
    }
    assert!(world.active(&other).await);
}

#[tokio::test]
async fn only_the_introspecting_client_may_ask() {
    let world = World::new().await;
    let token = &*world.opaque();
    let form = |more: &[(&str, &str)]| {
        world.post("token/introspect", &[&[("token", token)], more].concat())
    };
    let (id, secret) = INTROSPECTOR;
    let failed = refusal(401, "invalid_client", "Authentication failed.");
    let public = refusal(403, "invalid_request", "Client not allowed.");
    for (case, request, expected) in [
        ("nobody", form(&[]), Some(&failed)),
        ("a wrong secret", form(&[]).basic_auth(id, Some("wrong")), Some(&failed)),
        ("another client", form(&[]).basic_auth(CLIENT.0, Some(CLIENT.1)), Some(&failed)),
        ("no Basic", form(&[]).bearer_auth(secret), Some(&failed)),
        ("the form, wrong", form(&[("client_id", id)]), Some(&failed)),
        ("a public client", form(&[("client_id", "demo-public")]), Some(&public)),
        ("a public client, Basic", form(&[]).basic_auth("demo-public", Some("")), Some(&public)),
        ("the form", form(&[("client_id", id), ("client_secret", secret)]), None),
        ("Basic", form(&[]).basic_auth(id, Some(secret)), None),
    ] {
        let answer = told(request).await;
        match expected {
            Some(expected) => assert_eq!(answer, *expected, "{case}"),
            None => assert_eq!(answer.0, 200, "{case}"),
        }
    }
    assert_eq!(world.issuer.introspected(), 9, "refusals count");
}

#[tokio::test]
async fn user_and_password_are_form_urlencoded_in_basic() {
    let world = World::new().await;
    world.issuer.set_introspection_client("https://sidecar", "a b+c%:&=ü");
    world.issuer.set_audience_rule(false);
    let token = &*world.opaque();
    let ask = |id: &str, secret: &str| {
        let form = [("token", token)];
        told(world.post("token/introspect", &form).basic_auth(id, Some(secret)))
    };
    let encoded = "a+b%2Bc%25%3A%26%3D%C3%BC";
    assert_eq!(ask("https%3A%2F%2Fsidecar", encoded).await.0, 200);
    assert_eq!(ask("https%3A%2F%2Fsidecar", "a b+c%:&=ü").await.0, 401);
}

#[tokio::test]
async fn a_request_that_is_no_good_form_is_refused() {
    let world = World::new().await;
    let token = &*world.opaque();
    let missing = refusal(400, "invalid_request", "Token not provided.");
    let twice = refusal(400, "invalid_request", "duplicated parameter");
    let kind = refusal(400, "invalid_request", "Unsupported token type.");
    assert_eq!(told(world.ask(&[])).await, missing);
    assert_eq!(told(world.ask(&[("token", token), ("token", token)])).await, twice);
    assert_eq!(told(world.ask(&[("token", token), ("a", "1"), ("a", "2")])).await, twice);
    assert_eq!(told(world.ask(&[("token", token), ("token_type_hint", "x")])).await, kind);
    let hinted = world.ask(&[("token", token), ("token_type_hint", "access_token")]);
    assert_eq!(told(hinted).await.0, 200);
    let json = world
        .client
        .post(format!("{}/protocol/openid-connect/token/introspect", world.issuer.issuer()));
    let json = json.basic_auth(INTROSPECTOR.0, Some(INTROSPECTOR.1)).body(format!("token={token}"));
    assert_eq!(told(json).await, missing, "a body of another type is no form");
}

#[tokio::test]
async fn the_claims_come_signed_too_if_the_client_may_have_them() {
    let world = World::new().await;
    let token = &*world.opaque();
    let jwt = async |token: &str, accept: &str| {
        let (_, _, body) = told(world.ask(&[("token", token)]).header("accept", accept)).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer.get("jwt").map(|jwt| jwt.as_str().unwrap().to_owned())
    };
    assert_eq!(jwt(token, "application/jwt").await, None);
    world.issuer.set_jwt_claim(true);
    assert_eq!(jwt(token, "application/jwt, application/json").await, None, "exactly, or not");
    assert_eq!(jwt("unknown", "application/jwt").await, None);
    let jwt = jwt(token, "application/jwt").await.unwrap();
    assert!(world.signed(&jwt));
    assert_eq!(part(&jwt, 1), world.claims_of(token).await);
}

#[tokio::test]
async fn answers_are_signed_for_those_who_ask_for_it() {
    let world = World::new().await;
    let media_type = "application/token-introspection+jwt";
    let algorithms = "introspection_signing_alg_values_supported";
    let metadata = world.metadata().await;
    let endpoint = format!("{}/protocol/openid-connect/token/introspect", world.issuer.issuer());
    assert_eq!(metadata["introspection_endpoint"], json!(endpoint));
    assert_eq!(metadata.get(algorithms), None);
    let token = &*world.opaque();
    for token in [token, "unknown"] {
        let ask = || world.ask(&[("token", token)]).header("accept", media_type);
        world.issuer.set_signed_answers(false);
        assert_eq!(told(ask()).await.1, "application/json");
        world.issuer.set_signed_answers(true);
        let (status, kind, jws) = told(ask()).await;
        assert_eq!((status, &*kind), (200, media_type));
        assert!(world.signed(&jws));
        let header = json!({ "alg": "ES256", "typ": "token-introspection+jwt", "kid": "k1" });
        assert_eq!(part(&jws, 0), header);
        let claims = part(&jws, 1);
        assert_eq!(claims["iss"], json!(world.issuer.issuer()));
        assert_eq!(claims["aud"], "vidimus");
        assert!(claims["iat"].is_i64());
        assert_eq!(claims["token_introspection"], world.introspect(token).await);
    }
    assert_eq!(world.metadata().await[algorithms], json!(["ES256", "EdDSA"]));
}

#[tokio::test]
async fn introspection_goes_wrong_on_command_and_keys_do_not() {
    let world = World::new().await;
    let token = &*world.opaque();
    for (fault, status, kind) in [
        (Fault::ServerError, 500, "text/html"),
        (Fault::Html, 200, "text/html;charset=UTF-8"),
        (Fault::Redirect, 302, "text/plain"),
        (Fault::Oversized, 200, "application/json"),
        (Fault::Truncated, 200, "application/json"),
    ] {
        world.issuer.set_introspection_fault(Some(fault));
        let (got, got_kind, body) = told(world.ask(&[("token", token)])).await;
        assert_eq!((got, &*got_kind), (status, kind), "{fault:?}");
        assert!(serde_json::from_str::<Value>(&body).is_err(), "{fault:?}");
        assert_eq!(world.metadata().await["issuer"], json!(world.issuer.issuer()), "{fault:?}");
    }
    world.issuer.set_introspection_fault(Some(Fault::Hang));
    let hung = timeout(Duration::from_millis(200), told(world.ask(&[("token", token)]))).await;
    assert!(hung.is_err());
    world.issuer.set_introspection_fault(Some(Fault::NoKeys));
    assert!(world.active(token).await);
    world.issuer.set_introspection_fault(None);
    world.issuer.set_fault(Some(Fault::ServerError));
    assert!(world.active(token).await);

    let fixed = (418, "text/plain", "no".to_owned());
    world.issuer.set_introspection_answer(Some(fixed.clone()));
    let answer = told(world.ask(&[("token", token)])).await;
    assert_eq!(answer, (fixed.0, fixed.1.to_owned(), fixed.2));
    world.issuer.set_introspection_answer(None);
    assert!(world.active(token).await);
}

#[tokio::test]
async fn a_delayed_answer_tells_how_things_stood_when_it_was_asked_for() {
    let world = World::new().await;
    let (token, delay) = (&*world.opaque(), Duration::from_millis(300));
    world.issuer.set_introspection_delay(delay);
    let began = Instant::now();
    let (answer, ()) = tokio::join!(world.active(token), async {
        while world.issuer.introspected() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(delay / 3).await;
        world.issuer.end_session(token);
    });
    assert!(answer && began.elapsed() >= delay, "{:?}", began.elapsed());
    assert!(!world.active(token).await);
}

#[tokio::test]
async fn introspection_ends_with_the_issuer() {
    let World { issuer, client, .. } = World::new().await;
    let address = format!("{}/protocol/openid-connect/token/introspect", issuer.issuer());
    issuer.set_introspection_fault(Some(Fault::Hang));
    let hung = tokio::spawn(client.post(&address).send());
    while issuer.introspected() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(issuer);
    assert!(timeout(Duration::from_secs(5), hung).await.unwrap().unwrap().is_err());
    assert!(client.post(&address).send().await.is_err());
}

#[tokio::test]
async fn it_listens_where_no_other_machine_reaches_it() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let address = address.parse().unwrap();
        let refused = Issuer::start(address, "shop", vec![ec_key("k1")]).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{address}: {refused}");
        assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
    }
}

/// Behind whatever edge it is tried.
#[tokio::test]
async fn the_demo_takes_certificates_as_every_provider_forwards_them_and_listens_at_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    for provider in Provider::ALL.iter().copied() {
        let socket = folder.path().join(provider.name());
        let addresses =
            Addresses { listen: ListenAddr::Unix(socket.clone()), admin: any, issuer: any };
        let demo = Demo::start(addresses, provider).await.unwrap();
        let table = demo.table().await.unwrap();
        let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name));
        assert!(row("bound ").unwrap().contains("welcome, alice"), "{provider}: {table}");
        assert!(row("stolen ").unwrap().contains("none was shown"), "{provider}: {table}");
        let curl = format!("--unix-socket {} ", socket.display());
        assert_eq!(demo.curl_lines().matches(&curl).count(), 6, "{provider}");
    }
}
