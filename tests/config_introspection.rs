//! `[realm.introspection]` and what policies say about it: what is good, and what is said about each
//! mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::time::Duration;

use vidimus::check::{Algorithm, UseFor};
use vidimus::config::{Config, ConfigErrors};
use vidimus::issuer::{ClientAuth, Secret, SecretSource};

const REALM: &str =
    "[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\naudience = [\"orders-api\"]\n";
const SECOND: &str =
    "[[realm]]\nissuer = \"https://id.example.com/realms/staff\"\naudience = [\"orders-api\"]\n";
const INTROSPECTION: &str =
    "[realm.introspection]\nclient_id = \"vidimus\"\nclient_secret = \"hunter2\"\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "vidimus.toml")
}

#[test]
fn a_client_and_its_secret_are_enough() {
    let config = parse(&format!("{REALM}{INTROSPECTION}")).unwrap();
    let rules = config.rules.realms[0].introspection.as_ref().unwrap();
    assert_eq!(&*rules.client_id, "vidimus");
    assert_eq!(rules.use_for, UseFor { opaque: true, lightweight: true, all: false });
    assert_eq!(rules.cache_ttl, Duration::from_secs(30));
    assert_eq!(rules.inactive_ttl, Duration::from_secs(5));
    assert!(!rules.keep_jwt);
    let settings = config.issuers[0].introspection.as_ref().unwrap();
    let secret = SecretSource::Value(Secret::new("hunter2"));
    assert_eq!(settings.auth, ClientAuth::Basic(secret));
    assert_eq!(settings.timeout, Duration::from_secs(2));
    assert_eq!(settings.max_concurrent, 64);
    assert!(!settings.prefer_jwt && settings.endpoint.is_none());
    assert_eq!(config.rules.policies[0].introspect_realm, Some(0));
    assert!(!format!("{config:?}").contains("hunter2"), "a secret was printed");
}

#[test]
fn everything_can_be_set() {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keys/test-only-es256.pk8.pem");
    let config = parse(&format!(
        r#"{REALM}
        [realm.introspection]
        client_id = "vidimus"
        auth = "private_key_jwt"
        client_key_file = "{key}"
        client_key_algorithm = "ES256"
        client_key_id = "k"
        use_for = ["all"]
        cache_ttl = "0s"
        inactive_ttl = "1m"
        timeout = "500ms"
        max_concurrent = 1
        prefer_jwt = true
        endpoint = "https://id.example.com/introspect"
        [policy.default]
        introspect_realm = "shop"
        forward_jwt = "X-Auth-Request-Access-Token"
        "#
    ))
    .unwrap();
    let rules = config.rules.realms[0].introspection.as_ref().unwrap();
    assert_eq!(rules.use_for, UseFor { opaque: true, lightweight: true, all: true });
    assert!(rules.keep_jwt, "a policy forwards it");
    let settings = config.issuers[0].introspection.as_ref().unwrap();
    let (algorithm, key_id) = (Algorithm::ES256, Some("k".into()));
    assert_eq!(settings.auth, ClientAuth::PrivateKey { file: key.into(), algorithm, key_id });
    assert_eq!(settings.endpoint.as_ref().unwrap().path(), "/introspect");
    let policy = &config.rules.policies[0];
    assert_eq!(policy.forward_jwt.as_ref().unwrap(), "x-auth-request-access-token");
}

#[test]
fn every_mistake_is_named_with_key_line_and_what_is_allowed() {
    // Line 4 is [realm.introspection], 5 the client, 6 the secret.
    let more = |lines: &str| format!("{REALM}{INTROSPECTION}{lines}");
    let instead =
        |lines: &str| format!("{REALM}[realm.introspection]\nclient_id = \"vidimus\"\n{lines}");
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keys/test-only-ed25519.pk8.pem");
    for (text, line, path, found) in [
        (format!("{REALM}[realm.introspection]\nclient_secret = \"s\""), 4, "client_id", "nothing"),
        (
            format!("{REALM}[realm.introspection]\nclient_id = \"\"\nclient_secret = \"s\""),
            4,
            "client_id",
            "nothing",
        ),
        (instead(""), 4, "client_secret_file", "nothing"),
        (instead("client_secret = \"\""), 6, "client_secret", "nothing"),
        (
            instead("client_secret = 12345"),
            6,
            "client_secret",
            "something that is not text in quotes",
        ),
        (
            more("client_key_id = \"k\""),
            7,
            "client_key_id",
            "a setting that client_secret_basic does not use",
        ),
        (
            more("auth = \"private_key_jwt\""),
            6,
            "client_secret",
            "a setting that private_key_jwt does not use",
        ),
        (
            more("client_key_algorithm = \"ES256\""),
            7,
            "client_key_algorithm",
            "a setting that client_secret_basic does not use",
        ),
        (
            instead("client_secret_env = \"VIDIMUS_NOT_THERE\""),
            6,
            "client_secret_env",
            "\"VIDIMUS_NOT_THERE\", which the environment does not have",
        ),
        (
            instead("client_secret_file = \"/nonexistent\""),
            6,
            "client_secret_file",
            "/nonexistent: No such file",
        ),
        (
            instead("client_secret_file = \"/dev/null\""),
            6,
            "client_secret_file",
            "/dev/null: not a regular file",
        ),
        (more("client_secret_env = \"X\""), 7, "client_secret_env", "a second secret"),
        (more("auth = \"none\""), 7, "auth", "\"none\""),
        (
            more("client_key_file = \"x\""),
            7,
            "client_key_file",
            "a setting that client_secret_basic does not use",
        ),
        (instead("auth = \"private_key_jwt\""), 4, "client_key_file", "nothing"),
        (
            instead("auth = \"private_key_jwt\"\nclient_key_file = \"x\""),
            4,
            "client_key_algorithm",
            "nothing",
        ),
        (
            instead(
                "auth = \"private_key_jwt\"\nclient_key_file = \"x\"\nclient_key_algorithm = \"HS256\"",
            ),
            8,
            "client_key_algorithm",
            "\"HS256\"",
        ),
        (
            instead(&format!(
                "auth = \"private_key_jwt\"\nclient_key_file = \"{pem}\"\nclient_key_algorithm = \"ES256\""
            )),
            7,
            "client_key_file",
            "no private key for ES256",
        ),
        (instead("auth = \"tls_client_auth\""), 4, "client_certificate_file", "nothing"),
        (instead("auth = \"tls_client_auth\""), 4, "client_key_file", "nothing"),
        (
            instead("auth = \"tls_client_auth\"\nclient_certificate_file = \"x\""),
            4,
            "client_key_file",
            "nothing",
        ),
        (
            instead(&format!(
                "auth = \"tls_client_auth\"\nclient_certificate_file = \"{pem}\"\nclient_key_file = \"{pem}\""
            )),
            7,
            "client_certificate_file",
            "there is no PEM certificate",
        ),
        (more("use_for = \"all\""), 7, "use_for", "\"all\""),
        (more("use_for = [\"jwt\"]"), 7, "use_for[0]", "\"jwt\""),
        (more("use_for = []"), 7, "use_for", "an empty list"),
        (more("cache_ttl = \"2h\""), 7, "cache_ttl", "\"2h\""),
        (more("inactive_ttl = 5"), 7, "inactive_ttl", "the number 5"),
        (more("timeout = \"50ms\""), 7, "timeout", "\"50ms\""),
        (more("timeout = \"6s\""), 7, "timeout", "\"6s\""),
        (more("max_concurrent = 0"), 7, "max_concurrent", "the number 0"),
        (more("max_concurrent = \"64\""), 7, "max_concurrent", "\"64\""),
        (more("max_concurrent = -1"), 7, "max_concurrent", "the number -1"),
        (more("prefer_jwt = 1"), 7, "prefer_jwt", "the number 1"),
        (more("endpoint = \"introspect\""), 7, "endpoint", "\"introspect\""),
        (more("endpoint = \"ftp://x/y\""), 7, "endpoint", "\"ftp://x/y\""),
        (more("endpoint = \"https://a:b@x/y\""), 7, "endpoint", "a URL with a user or password"),
        (more("endpoint = \"http://kc:8080/y\""), 7, "endpoint", "plain http to another machine"),
        (more("client_secrets = \"x\""), 7, "client_secrets", "an unknown key"),
    ] {
        let errors = match parse(&text) {
            Ok(_) => panic!("no mistake was found in:\n{text}"),
            Err(errors) => errors.to_string(),
        };
        let start = format!("vidimus.toml:{line}: realm[0].introspection.{path}: found ");
        let said = errors.lines().find(|said| said.starts_with(&start));
        let said = said.unwrap_or_else(|| panic!("{start:?} is not in:\n{errors}\n{text}"));
        assert!(said.contains(found), "{said}\n{text}");
        assert!(said.contains("; allowed: "), "{said}");
        // Another way to authenticate lacks all that it needs.
        let most = if text.contains("auth = ") { 3 } else { 1 };
        assert!(errors.lines().count() <= most, "{errors}\n{text}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn who_is_asked_about_opaque_tokens_is_never_a_guess() {
    let both = format!("{REALM}{INTROSPECTION}{SECOND}{INTROSPECTION}");
    for (text, path, found) in [
        (both.clone(), "policy.default.introspect_realm", "nothing"),
        (format!("{both}[policy.a]"), "policy.a.introspect_realm", "nothing"),
        (
            format!("{both}[policy.a]\nintrospect_realm = \"x\""),
            "policy.a.introspect_realm",
            "\"x\"",
        ),
        (
            format!("{both}[policy.a]\nrealms = [\"shop\"]\nintrospect_realm = \"staff\""),
            "policy.a.introspect_realm",
            "\"staff\"",
        ),
        (
            format!("{REALM}[policy.a]\nintrospect_realm = \"shop\""),
            "policy.a.introspect_realm",
            "\"shop\"",
        ),
        (
            format!(
                "{REALM}{INTROSPECTION}use_for = [\"lightweight\"]\n[policy.a]\nintrospect_realm = \"shop\""
            ),
            "policy.a.introspect_realm",
            "\"shop\"",
        ),
    ] {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(errors.contains(&format!("{path}: found {found}; allowed: ")), "{errors}\n{text}");
    }
    let policy = |more: &str| {
        let config = parse(&format!("{both}{more}")).unwrap_or_else(|errors| panic!("{errors}"));
        config.rules.policies[0].introspect_realm
    };
    assert_eq!(policy("[policy.a]\nintrospect_realm = \"staff\""), Some(1));
    assert_eq!(policy("[policy.a]\nrealms = [\"staff\"]"), Some(1), "its only one");
    assert_eq!(parse(REALM).unwrap().rules.policies[0].introspect_realm, None);
}

#[test]
fn the_full_jwt_is_forwarded_under_a_name_of_its_own() {
    let with = |lines: &str| format!("{REALM}{INTROSPECTION}[policy.default]\n{lines}");
    for name in [
        "Authorization",
        "Cookie",
        "x y",
        "",
        "X-Auth-Request-User",
        "x_auth_request_user",
        "Content-Length",
    ] {
        let errors = parse(&with(&format!("forward_jwt = \"{name}\""))).unwrap_err().to_string();
        assert!(errors.contains("policy.default.forward_jwt: found"), "{name}: {errors}");
    }
    let config = parse(&with("forward_jwt = \"X-Jwt\"")).unwrap();
    let notes = config.summary().join("\n");
    assert!(
        notes.contains("realm shop: asked about opaque and lightweight tokens, as client vidimus"),
        "{notes}"
    );
    assert!(notes.contains("no prefer_jwt"), "{notes}");
    assert!(config.rules.realms[0].introspection.as_ref().unwrap().keep_jwt);
}

#[test]
fn every_mistake_of_the_section_is_told_at_once() {
    let text = format!(
        "{REALM}[realm.introspection]\nauth = \"x\"\ntimeout = \"1h\"\nmax_concurrent = 0\nendpoint = \"x\""
    );
    let errors = parse(&text).unwrap_err().to_string();
    for key in ["client_id", "auth", "timeout", "max_concurrent", "endpoint"] {
        assert!(errors.contains(&format!("introspection.{key}: ")), "{key}: {errors}");
    }
}

#[test]
fn a_certificate_needs_https_and_a_key_in_the_wrong_place_is_sent_to_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (pem, key) = (file("c.pem", certificate.pem()), file("k.pem", key.serialize_pem()));
    let tls = format!(
        "[realm.introspection]\nclient_id = \"v\"\nauth = \"tls_client_auth\"\n\
         client_certificate_file = \"{pem}\"\nclient_key_file = \"{key}\"\n"
    );
    let http = REALM.replace("https://id.example.com", "http://127.0.0.1:8080");
    assert!(parse(&format!("{REALM}{tls}")).is_ok());
    let errors = parse(&format!("{http}{tls}")).unwrap_err().to_string();
    assert!(errors.contains("realm[0].issuer: found http://127.0.0.1:8080/"), "{errors}");
    assert!(errors.contains("tls_client_auth"), "{errors}");

    for (text, belongs) in [
        (format!("{REALM}client_secret = \"x\""), "[realm.introspection]"),
        (format!("{REALM}forward_jwt = \"X-Jwt\""), "[policy.NAME]"),
        (format!("{REALM}[policy.a]\nprefer_jwt = true"), "[realm.introspection]"),
        (format!("{REALM}{INTROSPECTION}introspect_realm = \"shop\""), "[policy.NAME]"),
    ] {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(errors.contains(&format!("allowed: it, but in {belongs}")), "{errors}");
    }
}
