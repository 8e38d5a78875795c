//! `vidimus doctor` and `vidimus inspect` at the embedded issuer: every finding provoked, and every
//! explanation the same as the sidecar's decision.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use serde_json::{Value, json};
use support::changed;
use vidimus::check::{Decision, Facts, RawToken, Thumbprint};
use vidimus::config::Config;
use vidimus::doctor::{Grade, doctor, inspect};
use vidimus::gate::{Clock as _, SystemClock};
use vidimus::server::Server;
use vidimus::testing::samples;
use vidimus::testing::{Fault, INTROSPECTOR, Issuer};

async fn issuer() -> Issuer {
    let keys = Issuer::fresh_keys().unwrap();
    Issuer::start(([127, 0, 0, 1], 0).into(), "shop", keys).await.unwrap()
}

/// As an operator would write it, at ports that nobody else has.
fn configuration(issuer: &str, introspection: &str, policies: &str) -> Config {
    let text = format!(
        r#"
        [server]
        listen = ["127.0.0.1:0"]
        admin = "127.0.0.1:0"
        [[realm]]
        issuer = "{issuer}"
        audience = ["orders-api"]
        {introspection}
        [policy.default]
        {policies}
        "#
    );
    Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"))
}

fn asking(secret: &str) -> String {
    let client = INTROSPECTOR.0;
    format!("[realm.introspection]\nclient_id = \"{client}\"\nclient_secret = \"{secret}\"")
}

fn claims(issuer: &Issuer, change: Value) -> Value {
    changed(samples::claims(issuer.issuer(), SystemClock.now().as_secs()), &change)
}

/// The bad findings and the notes, with their remedies.
async fn troubles(config: &Config, token: Option<&str>) -> Vec<(Grade, &'static str, String)> {
    let report = doctor(config, token).await.unwrap();
    let troubles = report.findings().filter(|finding| finding.grade != Grade::Good);
    let troubles: Vec<_> = troubles
        .map(|finding| {
            (finding.grade, finding.subject, format!("{} -> {}", finding.found, finding.remedy))
        })
        .collect();
    assert_eq!(report.is_good(), troubles.iter().all(|(grade, ..)| *grade != Grade::Bad));
    troubles
}

#[tokio::test]
async fn a_healthy_realm_has_no_bad_finding() {
    let issuer = issuer().await;
    let config = configuration(issuer.issuer(), &asking(INTROSPECTOR.1), "");
    let found = troubles(&config, None).await;
    assert!(matches!(&*found, [(Grade::Note, "audience", _)]), "{found:?}");
    let token =
        issuer.lightweight_token(claims(&issuer, json!({ "aud": ["orders-api", "vidimus"] })));
    let report = doctor(&config, Some(&token.unwrap())).await.unwrap();
    assert!(report.is_good(), "{report}");
    assert!(
        report.to_string().contains("the realm calls it active, for orders-api, vidimus"),
        "{report}"
    );
}

#[tokio::test]
async fn whatever_is_wrong_with_the_issuer_is_named_with_a_remedy() {
    let issuer = issuer().await;
    let other = issuer.issuer().replace("/shop", "/shp");
    for (fault, at, subject, said) in [
        (None, "http://127.0.0.1:9/realms/shop", "metadata", "cannot connect"),
        (None, &*other, "metadata", "it answered 404"),
        (Some(Fault::OtherIssuer), issuer.issuer(), "metadata", "set `issuer` to exactly that"),
        (Some(Fault::Html), issuer.issuer(), "metadata", "not JSON"),
        (Some(Fault::Redirect), issuer.issuer(), "metadata", "redirects are not followed"),
        (Some(Fault::ServerError), issuer.issuer(), "metadata", "see Keycloak's own log"),
        (Some(Fault::NoKeys), issuer.issuer(), "keys", "Realm settings, Keys"),
    ] {
        issuer.set_fault(fault);
        let found = troubles(&configuration(at, &asking(INTROSPECTOR.1), ""), None).await;
        let wanted = |(grade, name, text): &(Grade, &str, String)| {
            *grade == Grade::Bad && *name == subject && text.contains(said)
        };
        assert!(found.iter().any(wanted), "{fault:?}: {found:?}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_introspection_is_named_with_a_remedy() {
    let issuer = issuer().await;
    let config = configuration(issuer.issuer(), &asking("wrong"), "");
    let found = troubles(&config, None).await;
    let [(Grade::Bad, "introspection", text)] = &*found else { panic!("{found:?}") };
    assert!(text.contains("it answered 401 invalid_client") && text.contains("tab Credentials"));

    let config = configuration(issuer.issuer(), &asking(INTROSPECTOR.1), "");
    let yes = r#"{"active":true,"iss":"x"}"#.to_owned();
    for (status, kind, body, said) in [
        (
            403,
            "application/json",
            r#"{"error":"invalid_request"}"#.to_owned(),
            "Client authentication",
        ),
        (403, "text/html", "<html>".to_owned(), "it answered 403"),
        (200, "application/json", yes, "invented just now"),
        (200, "text/html", "<html>".to_owned(), "not JSON"),
        (200, "application/json", "{}".to_owned(), "no JSON object with `active`"),
        (404, "text/plain", String::new(), "404"),
    ] {
        issuer.set_introspection_answer(Some((status, kind, body)));
        let found = troubles(&config, None).await;
        assert!(
            matches!(&*found, [(Grade::Bad, "introspection", text)] if text.contains(said)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_verifies_and_is_not_active_gets_the_likely_reason() {
    let issuer = issuer().await;
    let all = asking(INTROSPECTOR.1) + "\nuse_for = [\"all\"]";
    let config = configuration(issuer.issuer(), &all, "");
    let keys = Issuer::fresh_keys().unwrap();
    issuer.set_keys(keys.clone());
    let full = keys[0].sign(&claims(&issuer, json!({}))).unwrap();
    let found = troubles(&config, Some(&full)).await;
    assert!(
        found.iter().any(|(grade, subject, text)| *grade == Grade::Bad
            && *subject == "active"
            && text.contains("(orders-api, account) lacks vidimus")
            && text.contains("add an audience mapper")),
        "{found:?}"
    );

    let light = issuer.lightweight_token(claims(&issuer, json!({}))).unwrap();
    let found = troubles(&config, Some(&light)).await;
    assert!(
        found.iter().any(|(_, _, text)| text.contains("either add an audience mapper")),
        "{found:?}"
    );

    let opaque =
        issuer.opaque_token(claims(&issuer, json!({ "aud": ["orders-api", "vidimus"] }))).unwrap();
    assert!(doctor(&config, Some(&opaque)).await.unwrap().is_good());
    issuer.end_session(&opaque);
    let found = troubles(&config, Some(&opaque)).await;
    assert!(found.iter().any(|(_, _, text)| text.contains("its session has ended")), "{found:?}");

    // Without use_for = ["all"] nobody asks about a full token.
    let config = configuration(issuer.issuer(), &asking(INTROSPECTOR.1), "");
    assert!(doctor(&config, Some(&full)).await.unwrap().is_good());
    for (token, said) in [
        (keys[0].sign(&claims(&issuer, json!({ "typ": "ID" }))).unwrap(), "not an access token"),
        (keys[0].sign(&claims(&issuer, json!({ "exp": 1 }))).unwrap(), "has expired"),
        ("a.b.c".into(), "the token is malformed"),
        (
            keys[0].sign(&claims(&issuer, json!({ "iss": "https://x" }))).unwrap(),
            "issuer is not accepted",
        ),
    ] {
        let found = troubles(&config, Some(&token)).await;
        assert!(found.iter().any(|(_, _, text)| text.contains(said)), "{found:?}");
    }
}

#[tokio::test]
async fn a_forwarded_jwt_that_is_not_given_is_noted() {
    let issuer = issuer().await;
    let prefer = asking(INTROSPECTOR.1) + "\nprefer_jwt = true";
    let config = configuration(issuer.issuer(), &prefer, "forward_jwt = \"X-Jwt\"");
    let token =
        issuer.lightweight_token(claims(&issuer, json!({ "aud": ["orders-api", "vidimus"] })));
    let token = token.unwrap();
    let found = troubles(&config, Some(&token)).await;
    assert!(
        found
            .iter()
            .any(|(_, subject, text)| *subject == "prefer_jwt" && text.contains("Support JWT")),
        "{found:?}"
    );
    issuer.set_jwt_claim(true);
    let found = troubles(&config, Some(&token)).await;
    assert!(found.iter().all(|(_, subject, _)| *subject != "prefer_jwt"), "{found:?}");
}

#[tokio::test]
async fn inspect_comes_to_the_decision_of_the_sidecar_and_never_prints_the_token() {
    let issuer = issuer().await;
    let keys = Issuer::fresh_keys().unwrap();
    issuer.set_keys(keys.clone());
    let policies =
        "[policy.admin]\nroles = [\"realm:admin\"]\n[policy.reader]\nscopes = [\"orders:list\"]";
    let config = configuration(issuer.issuer(), &asking(INTROSPECTOR.1), policies);
    let server = Server::start(config.clone()).await.unwrap();
    let sign = |change: Value| keys[0].sign(&claims(&issuer, change)).unwrap();
    let active = json!({ "aud": ["orders-api", "vidimus"] });
    let light = |change: Value| {
        issuer.lightweight_token(changed(claims(&issuer, active.clone()), &change)).unwrap()
    };
    let ended = light(json!({}));
    issuer.end_session(&ended);
    let stranger = Issuer::fresh_keys().unwrap();
    let tokens = [
        sign(json!({})),
        sign(json!({ "aud": "billing-api" })),
        sign(json!({ "exp": 1 })),
        sign(json!({ "nbf": 9_999_999_999_i64 })),
        sign(json!({ "typ": "ID" })),
        sign(json!({ "iss": "https://evil.example.com\u{1b}[2J" })),
        sign(json!({ "cnf": { "jkt": "x" } })),
        sign(json!({ "exp": "soon" })),
        sign(json!({ "realm_access": { "roles": ["admin"] } })),
        stranger[0].sign(&claims(&issuer, json!({}))).unwrap(),
        stranger[1]
            .sign_with_header(
                &json!({ "alg": "EdDSA", "kid": keys[1].kid() }),
                &claims(&issuer, json!({})),
            )
            .unwrap(),
        keys[0]
            .sign_with_header(&json!({ "alg": "HS256", "kid": "x" }), &claims(&issuer, json!({})))
            .unwrap(),
        keys[0].sign_with_header(&json!({ "alg": "ES256" }), &claims(&issuer, json!({}))).unwrap(),
        light(json!({})),
        light(json!({ "aud": ["vidimus"] })),
        light(json!({ "typ": "Bearer", "cnf": { "jkt": "x" } })),
        ended,
        issuer.opaque_token(claims(&issuer, active.clone())).unwrap(),
        issuer
            .opaque_token(claims(&issuer, json!({ "aud": ["orders-api", "vidimus"], "typ": "ID" })))
            .unwrap(),
        "2YotnFZFEjr1zCsicMWpAA".into(),
        "a.b.c".into(),
        "a.b.c.d.e".into(),
        "A".repeat(20_000),
    ];
    while !server.gate().live().was_ready() {
        tokio::task::yield_now().await;
    }
    for policy in ["default", "admin", "reader"] {
        for token in &tokens {
            let facts = Facts::new(policy, Ok(RawToken::new(token)));
            let decided = match server.gate().check(&facts).await {
                Decision::Allow(_) => "decision: 200, with these headers".to_owned(),
                Decision::Deny(refusal) => {
                    let answer = refusal.denial.answer();
                    format!("decision: {}, reason {}: ", answer.status, answer.label)
                }
            };
            let report = inspect(&config, policy, token, None).await.unwrap();
            let said = report.to_string();
            assert!(said.contains(&decided), "{decided} is not in:\n{said}");
            assert_eq!(report.is_good(), decided.contains("200"), "{said}");
            let signature = token.rsplit('.').next().unwrap();
            assert!(signature.len() < 20 || !said.contains(signature), "{said}");
            assert!(!said.contains("\u{1b}[2J"), "a claim reached the terminal as it was");
        }
    }
}

#[tokio::test]
async fn a_lightweight_token_without_introspection_is_not_sent_after_mappers() {
    let issuer = issuer().await;
    let config = configuration(issuer.issuer(), "", "");
    let token = issuer.lightweight_token(claims(&issuer, json!({}))).unwrap();
    let found = troubles(&config, Some(&token)).await;
    let bad = found.iter().find(|(grade, ..)| *grade == Grade::Bad).unwrap();
    assert!(bad.2.contains("add [realm.introspection]"), "{found:?}");
    let said = inspect(&config, "default", &token, None).await.unwrap().to_string();
    assert!(said.contains("not asked: the token is lightweight"), "{said}");
    assert!(said.contains("-> add [realm.introspection]"), "{said}");
    assert!(!said.contains("mapper"), "{said}");
}

#[tokio::test]
async fn an_opaque_token_is_sent_to_nobody_if_it_may_be_several_realms() {
    let (one, two) = (issuer().await, issuer().await);
    let realm = |issuer: &Issuer, name: &str| {
        let (at, asking) = (issuer.issuer(), asking(INTROSPECTOR.1));
        format!(
            "[[realm]]\nname = \"{name}\"\nissuer = \"{at}\"\naudience = [\"orders-api\"]\n{asking}\n"
        )
    };
    let policies = "[policy.default]\nintrospect_realm = \"one\"";
    let text = format!("{}{}{policies}", realm(&one, "one"), realm(&two, "two"));
    let config = Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let active = json!({ "aud": ["orders-api", "vidimus"] });
    let token = one.opaque_token(claims(&one, active)).unwrap();
    let found = troubles(&config, Some(&token)).await;
    assert!(
        found.iter().any(|(_, _, text)| text.contains("inspect -c FILE -p POLICY")),
        "{found:?}"
    );
    assert_eq!((one.introspected(), two.introspected()), (1, 1), "invented ones only");
    assert!(inspect(&config, "default", &token, None).await.unwrap().is_good());
    assert_eq!((one.introspected(), two.introspected()), (2, 1));
}

#[tokio::test]
async fn an_endpoint_that_was_set_by_hand_is_named_as_the_fault() {
    let issuer = issuer().await;
    let wrong = format!("{}\nendpoint = \"{}/nowhere\"", asking(INTROSPECTOR.1), issuer.issuer());
    let found = troubles(&configuration(issuer.issuer(), &wrong, ""), None).await;
    assert!(
        matches!(&*found, [(Grade::Bad, _, text)] if text.contains("`endpoint` is set by hand")),
        "{found:?}"
    );
}

#[tokio::test]
async fn inspect_compares_a_bound_token_with_the_certificate_it_is_given() {
    let issuer = issuer().await;
    let certificate = |name: &str| {
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    };
    let (own, other) = (certificate("own"), certificate("other"));
    let thumbprint = Thumbprint::of(own.der()).to_string();
    let cnf = json!({ "cnf": { "x5t#S256": thumbprint } });
    let keys = Issuer::fresh_keys().unwrap();
    issuer.set_keys(keys.clone());
    let token = keys[0].sign(&claims(&issuer, cnf)).unwrap();
    let (own, other) = (own.pem(), other.pem());
    let section = "[client_certificate]\nprovider = \"nginx\"\n";
    let strict = "[client_certificate]\nprovider = \"nginx\"\nrequire_key_usage = [\"cRLSign\"]\n";
    for (section, given, expected) in [
        (section, Some(&own), "decision: 200"),
        (section, Some(&other), "decision: 401, reason certificate_mismatch"),
        (section, None, "decision: 401, reason certificate_missing"),
        (section, None, "no certificate given (--certificate FILE)"),
        ("", Some(&own), "decision: 401, reason certificate_missing"),
        ("", Some(&own), "there is no [client_certificate]"),
        (strict, Some(&own), "decision: 401, reason certificate_unacceptable"),
        (strict, Some(&own), "but it lacks a key usage of `require_key_usage`"),
    ] {
        let config = configuration(issuer.issuer(), "", section);
        let report = inspect(&config, "default", &token, given.map(String::as_str)).await.unwrap();
        let said = report.to_string();
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
        assert!(said.contains(&thumbprint), "{said}");
        assert_eq!(report.is_good(), said.contains("decision: 200"), "{said}");
    }
    let config = configuration(issuer.issuer(), "", section);
    assert!(inspect(&config, "default", &token, Some("no PEM")).await.is_err());
}
