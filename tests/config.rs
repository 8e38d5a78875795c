//! The configuration: what is good, what every default is, and what is said about each mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::time::Duration;

use vidimus::check::{Algorithm, AudienceRule, Role};
use vidimus::config::{Config, ConfigErrors};

const MINIMAL: &str =
    "[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\naudience = [\"orders-api\"]\n";

fn errors(text: &str) -> ConfigErrors {
    match Config::parse(text, "vidimus.toml") {
        Ok(_) => panic!("no mistake was found in:\n{text}"),
        Err(errors) => errors,
    }
}

#[test]
fn a_realm_with_issuer_and_audience_is_enough() {
    let config = Config::parse(MINIMAL, "test").unwrap();
    let realm = &config.rules.realms[0];
    assert_eq!(&*realm.name, "shop");
    assert_eq!(realm.audience, AudienceRule::OneOf(vec!["orders-api".into()]));
    assert_eq!(realm.algorithms, Algorithm::ALL);
    assert_eq!(realm.leeway, Duration::from_secs(5));
    assert_eq!(realm.header_types, ["JWT", "at+jwt"]);
    assert_eq!(realm.max_stale, Duration::from_secs(24 * 3600));
    assert_eq!(config.issuers[0].refresh, Duration::from_secs(300));
    assert_eq!(config.issuers[0].cooldown, Duration::from_secs(10));
    assert_eq!(config.server.listen.len(), 1);
    assert_eq!(config.server.listen[0].to_string(), "127.0.0.1:9180");
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:9181");
    assert_eq!(config.server.socket_mode, 0o660);
    assert_eq!(config.server.drain_timeout, Duration::from_secs(20));
    assert_eq!(config.rules.limits.token, 16 * 1024);
    assert_eq!(config.cache_bytes, 64 * 1024 * 1024);
    assert_eq!(config.edge.trusted.0.len(), 3);
    assert_eq!(config.edge.sources.len(), 1);
    let policy = &config.rules.policies[0];
    assert_eq!((policy.name(), policy.headers.len()), ("default", 6));
    assert!(policy.accepts_realm(0) && policy.roles.is_empty() && policy.scopes.is_empty());
}

#[test]
fn everything_can_be_set() {
    let config = Config::parse(
        r#"
        [server]
        listen = ["127.0.0.1:1", "unix:/tmp/x.sock"]
        admin = "[::1]:2"
        socket_mode = "0600"
        trusted_proxies = ["10.0.0.0/8", "unix"]
        drain_timeout = "1m"
        [token]
        sources = ["authorization", "cookie:at", "header:x-token"]
        max_size = "8KiB"
        [[realm]]
        name = "a"
        issuer = "https://id.example.com/realms/shop"
        audience = ["orders-api", "billing"]
        algorithms = ["ES256"]
        leeway = "0s"
        header_types = ["at+jwt"]
        fetch_base = "http://keycloak:8080"
        insecure_http = true
        [realm.jwks]
        refresh = "10s"
        cooldown = "1s"
        max_stale = "1h"
        [[realm]]
        name = "b"
        issuer = "https://id.example.com/realms/staff"
        insecure_any_audience = true
        [cache]
        max_bytes = "1GiB"
        [policy.default]
        realms = ["a"]
        audience = ["billing"]
        scopes = ["orders:read"]
        roles = ["realm:admin", "x:viewer", "editor"]
        [policy.default.headers]
        "X-Team" = "https://example.com/team"
        [policy.staff]
        realms = ["b"]
        "#,
        "test",
    )
    .unwrap();
    assert_eq!(config.rules.realms[1].audience, AudienceRule::InsecureAny);
    let policy = &config.rules.policies[0];
    assert!(policy.accepts_realm(0) && !policy.accepts_realm(1));
    let client =
        |client: &str, role: &str| Role::Client { client: client.into(), role: role.into() };
    assert_eq!(
        policy.roles,
        [Role::Realm("admin".into()), client("x", "viewer"), client("billing", "editor")]
    );
    assert_eq!(policy.headers.len(), 1);
    assert_eq!(config.issuers[0].fetch_base.as_ref().unwrap().as_str(), "http://keycloak:8080/");
}

#[test]
fn every_mistake_is_named_with_key_line_and_what_is_allowed() {
    let realm = |more: &str| format!("{MINIMAL}{more}");
    for (text, line, path, found) in [
        // Line 1 is [[realm]], 2 the issuer, 3 the audience.
        ("".into(), 0, "realm", "no realm"),
        ("[server]\nlisten = \"127.0.0.1:1\"".into(), 2, "server.listen", "\"127.0.0.1:1\""),
        (
            format!("[server]\nlisten = [\"localhost:80\"]\n{MINIMAL}"),
            2,
            "server.listen[0]",
            "\"localhost:80\"",
        ),
        (format!("[server]\nlisten = []\n{MINIMAL}"), 2, "server.listen", "an empty list"),
        (
            format!("[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n{MINIMAL}"),
            1,
            "server.listen",
            "127.0.0.1:1 twice",
        ),
        (
            format!("[server]\nlisten = [\"127.0.0.1:9181\"]\n{MINIMAL}"),
            1,
            "server.listen",
            "the admin address 127.0.0.1:9181",
        ),
        (format!("[server]\nadmin = 9181\n{MINIMAL}"), 2, "server.admin", "the number 9181"),
        (format!("[server]\nadmin = \"x\"\n{MINIMAL}"), 2, "server.admin", "\"x\""),
        (format!("[server]\nsocket_mode = \"999\"\n{MINIMAL}"), 2, "server.socket_mode", "\"999\""),
        (
            format!("[server]\ntrusted_proxies = [\"anybody\"]\n{MINIMAL}"),
            2,
            "server.trusted_proxies[0]",
            "\"anybody\"",
        ),
        (
            format!("[server]\ndrain_timeout = 20\n{MINIMAL}"),
            2,
            "server.drain_timeout",
            "the number 20",
        ),
        (
            format!("[server]\ndrain_timeout = \"2h\"\n{MINIMAL}"),
            2,
            "server.drain_timeout",
            "\"2h\"",
        ),
        (format!("[server]\nlissten = []\n{MINIMAL}"), 2, "server.lissten", "an unknown key"),
        (
            format!("[token]\nsources = [\"query:token\"]\n{MINIMAL}"),
            2,
            "token.sources[0]",
            "\"query:token\"",
        ),
        (format!("[token]\nmax_size = \"1GiB\"\n{MINIMAL}"), 2, "token.max_size", "\"1GiB\""),
        (format!("[cache]\nmax_bytes = \"lots\"\n{MINIMAL}"), 2, "cache.max_bytes", "\"lots\""),
        (format!("server = 1\n{MINIMAL}"), 1, "server", "the number 1"),
        (format!("[serve]\n{MINIMAL}"), 1, "serve", "an unknown key"),
        ("[[realm]]\naudience = [\"a\"]".into(), 1, "realm[0].issuer", "nothing"),
        ("[realm]\nissuer = \"x\"".into(), 1, "realm", "a table"),
        (
            "[[realm]]\nissuer = \"id.example.com\"\naudience = [\"a\"]".into(),
            2,
            "realm[0].issuer",
            "\"id.example.com\"",
        ),
        ("[[realm]]\nissuer = \"\"\naudience = [\"a\"]".into(), 2, "realm[0].issuer", "\"\""),
        (
            "[[realm]]\nissuer = \" https://id.example.com/x\"\naudience = [\"a\"]".into(),
            2,
            "realm[0].issuer",
            "\" https://id.example.com/x\"",
        ),
        (realm("fetch_base = \"https://u:p@kc\""), 4, "realm[0].fetch_base", "a URL with a user"),
        (
            format!("[token]\nsources = [\"header:x-a\", \"header:X-A\"]\n{MINIMAL}"),
            1,
            "token.sources",
            "header:x-a twice",
        ),
        (
            "[[realm]]\nissuer = \"https://u:p@id.example.com/x\"\naudience = [\"a\"]".into(),
            2,
            "realm[0].issuer",
            "a URL with a user or password",
        ),
        (
            "[[realm]]\nissuer = \"https://id.example.com/x?a=b\"\naudience = [\"a\"]".into(),
            2,
            "realm[0].issuer",
            "\"https://id.example.com/x?a=b\"",
        ),
        (
            "[[realm]]\nissuer = \"https://id.example.com/shop\"".into(),
            1,
            "realm[0].audience",
            "nothing",
        ),
        (
            realm("insecure_any_audience = true"),
            1,
            "realm[0].audience",
            "both audience and insecure_any_audience",
        ),
        (realm("name = \"a b\""), 4, "realm[0].name", "the name \"a b\""),
        (realm("algorithms = [\"HS256\"]"), 4, "realm[0].algorithms[0]", "\"HS256\""),
        (realm("algorithms = [\"none\"]"), 4, "realm[0].algorithms[0]", "\"none\""),
        (realm("algorithms = []"), 4, "realm[0].algorithms", "an empty list"),
        (realm("leeway = \"1d\""), 4, "realm[0].leeway", "\"1d\""),
        (realm("header_types = [\"a b\"]"), 4, "realm[0].header_types[0]", "\"a b\""),
        (realm("fetch_base = \"keycloak\""), 4, "realm[0].fetch_base", "\"keycloak\""),
        (realm("ca_file = \"/nonexistent.pem\""), 4, "realm[0].ca_file", "/nonexistent.pem"),
        (realm("insecure_http = \"yes\""), 4, "realm[0].insecure_http", "\"yes\""),
        (realm("[realm.jwks]\nrefresh = \"1s\""), 5, "realm[0].jwks.refresh", "\"1s\""),
        (realm("[realm.jwks]\ncooldown = \"0s\""), 5, "realm[0].jwks.cooldown", "\"0s\""),
        (realm("[realm.jwks]\nmax_stale = \"5m\""), 4, "realm[0].jwks.max_stale", "5m"),
        (realm("[realm.jwks]\nurl = \"x\""), 5, "realm[0].jwks.url", "an unknown key"),
        (format!("{MINIMAL}{MINIMAL}"), 5, "realm[1].issuer", "the issuer of realm \"shop\" again"),
        (
            realm("[[realm]]\nissuer = \"https://b/shop\"\naudience = [\"a\"]"),
            5,
            "realm[1].issuer",
            "the name \"shop\" again",
        ),
        (realm("[policy.\"a/b\"]"), 4, "policy.a/b", "the name \"a/b\""),
        (realm("[policy]\ndefault = 1"), 5, "policy.default", "the number 1"),
        (realm("[policy.default]\nrealms = [\"x\"]"), 5, "policy.default.realms[0]", "\"x\""),
        (realm("[policy.default]\nrealms = []"), 5, "policy.default.realms", "an empty list"),
        (realm("[policy.default]\naudience = [\"x\"]"), 5, "policy.default.audience[0]", "\"x\""),
        (realm("[policy.default]\nscopes = [\"a b\"]"), 5, "policy.default.scopes[0]", "\"a b\""),
        (realm("[policy.default]\nscopes = [1]"), 5, "policy.default.scopes[0]", "the number 1"),
        (
            realm("[policy.default]\nroles = [\"realm:\"]"),
            5,
            "policy.default.roles[0]",
            "\"realm:\"",
        ),
        (realm("[policy.default]\nroles = []"), 5, "policy.default.roles", "an empty list"),
        (realm("[policy.default]\nbinding = \"tls\""), 5, "policy.default.binding", "\"tls\""),
        (
            realm("[policy.default.headers]\n\"Content-Length\" = \"sub\""),
            5,
            "policy.default.headers.Content-Length",
            "the header name \"Content-Length\"",
        ),
        (
            realm("[policy.default.headers]\n\"A B\" = \"sub\""),
            5,
            "policy.default.headers.A B",
            "the header name \"A B\"",
        ),
        (realm("[policy.default.headers]\nX-A = \"\""), 5, "policy.default.headers.X-A", "\"\""),
        (
            realm("[policy.default.headers]\nX-A = \"a\"\nX_a = \"b\""),
            6,
            "policy.default.headers.X_a",
            "\"X_a\" beside \"X-A\"",
        ),
        ("[server".into(), 1, "", "a mistake in the syntax"),
        ("a = 1\na = 2".into(), 2, "", "a mistake in the syntax"),
    ] {
        let text: String = text;
        let errors = errors(&text);
        let hit = errors.iter().find(|error| error.path == path && error.found.starts_with(found));
        let hit =
            hit.unwrap_or_else(|| panic!("expected {path}: {found}\nof\n{text}\ngot\n{errors}"));
        assert_eq!(hit.line, line, "{errors}");
        assert!(!hit.allowed.is_empty(), "{errors}");
        assert!(errors.to_string().contains(&hit.allowed));
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_together_in_its_order() {
    let text = "[server]\nadmin = 1\n[[realm]]\nissuer = \"x\"\nleeway = \"y\"\n[tokens]\n";
    let errors = errors(text);
    let paths: Vec<_> = errors.iter().map(|error| (error.line, &*error.path)).collect();
    assert_eq!(
        paths,
        [
            (2, "server.admin"),
            (3, "realm[0].audience"),
            (4, "realm[0].issuer"),
            (5, "realm[0].leeway"),
            (6, "tokens")
        ]
    );
    let said = errors.to_string();
    assert_eq!(said.lines().count(), 5);
    assert!(
        said.starts_with("vidimus.toml:2: server.admin: found the number 1; allowed: "),
        "{said}"
    );
    assert!(said.contains("did you mean `token`?"), "{said}");
}

/// A good file, and more in its realm.
fn with(more: &str) -> String {
    format!("{MINIMAL}{more}\n")
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    for address in ["https://me:hunter2@id.example.com/a", "https://me:hunter2@id example.com/a"] {
        for text in [
            format!("[[realm]]\nissuer = \"{address}\"\naudience = [\"a\"]"),
            with(&format!("fetch_base = \"{address}\"")),
            with(&format!(
                "[realm.introspection]\nclient_id = \"a\"\nclient_secret = \"b\"\nendpoint = \"{address}\""
            )),
        ] {
            let errors = errors(&text);
            assert!(!format!("{errors:?} {errors}").contains("hunter2"), "{errors}");
            let told = errors.iter().filter(|error| error.found == "a URL with a user or password");
            assert_eq!(told.count(), 1, "{errors}");
            assert_eq!(errors.iter().count(), 1, "{errors}");
        }
    }
}

#[test]
fn whatever_a_name_holds_its_mistake_is_one_line_without_control_characters() {
    for name in ["a\\nb", "a\\u001b[31mb", "a\\u202eb", "a\\u0085b"] {
        for text in [
            with(&format!("[policy.\"{name}\"]\nscopes = [\"a b\"]")),
            with(&format!("[policy.default.headers]\n\"{name}\" = \"sub\"")),
            with(&format!("\"{name}\" = 1")),
            with(&format!("name = \"{name}\"\n[policy.default]\nrealms = [\"x\"]")),
            format!("[server]\nlisten = [\"unix:/{name}\", \"unix:/{name}\"]\n{}", with("")),
            format!("a = 1\n\"{name}\" = \"\"\"x"),
        ] {
            let errors = errors(&text);
            for line in errors.to_string().lines() {
                assert!(line.starts_with("vidimus.toml:"), "{name} breaks a line: {errors}");
                assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            }
            for error in errors.iter() {
                assert!(!error.path.contains(char::is_control), "{:?}", error.path);
            }
        }
    }
}

#[test]
fn plain_http_is_for_this_machine_or_on_purpose() {
    let config = |issuer: &str, more: &str| {
        Config::parse(
            &format!("[[realm]]\nissuer = \"{issuer}\"\naudience = [\"a\"]\n{more}"),
            "test",
        )
    };
    assert!(config("http://localhost:8080/realms/a", "").is_ok());
    assert!(config("http://id.example.com/realms/a", "insecure_http = true").is_ok());
    assert!(config("https://id.example.com/realms/a", "fetch_base = \"https://kc:8443\"").is_ok());
    assert!(
        config("https://id.example.com/realms/a", "fetch_base = \"http://127.0.0.1:8080\"").is_ok()
    );
    let error = config("http://id.example.com/realms/a", "").unwrap_err().to_string();
    assert!(
        error.contains("test:2: realm[0].issuer:") && error.contains("insecure_http = true"),
        "{error}"
    );
    let error = config("https://id.example.com/a", "fetch_base = \"http://kc:8080\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("test:4: realm[0].fetch_base:") && error.contains("insecure_http = true"),
        "{error}"
    );
}

#[test]
fn an_unreadable_file_says_so() {
    let error = Config::load("/nonexistent/vidimus.toml".as_ref()).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/vidimus.toml: cannot be read: No such file"),
        "{error}"
    );
}

#[test]
fn metadata_are_names_and_claims() {
    let text = format!(
        "{MINIMAL}[policy.default.metadata]\nuser = \"sub\"\nroles = \"realm_access.roles\""
    );
    let config = Config::parse(&text, "test").unwrap();
    let names: Vec<_> = config.rules.policies[0].metadata.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["roles", "user"]);
    let said = errors(&format!("{MINIMAL}[policy.default.metadata]\nuser = \"\"")).to_string();
    assert!(
        said.contains("policy.default.metadata.user") && said.contains("user = \"sub\""),
        "{said}"
    );
    let said = errors(&format!("{MINIMAL}[policy.default]\nmetadata = 1")).to_string();
    assert!(said.contains("policy.default.metadata"), "{said}");
}

#[test]
fn the_reference_configuration_is_good_and_names_every_key() {
    let text = include_str!("../deploy/vidimus.toml");
    Config::parse(text, "deploy/vidimus.toml").unwrap_or_else(|errors| panic!("{errors}"));
    for key in [
        "listen",
        "admin",
        "socket_mode",
        "trusted_proxies",
        "drain_timeout",
        "sources",
        "max_size",
        "name",
        "issuer",
        "audience",
        "insecure_any_audience",
        "algorithms",
        "leeway",
        "header_types",
        "fetch_base",
        "insecure_http",
        "ca_file",
        "refresh",
        "cooldown",
        "max_stale",
        "max_bytes",
        "realms",
        "scopes",
        "roles",
        "introspect_realm",
        "forward_jwt",
        "keep_jwt",
        "client_id",
        "client_secret",
        "client_secret_file",
        "client_secret_env",
        "auth",
        "client_key_file",
        "client_key_algorithm",
        "client_key_id",
        "client_certificate_file",
        "use_for",
        "cache_ttl",
        "inactive_ttl",
        "timeout",
        "max_concurrent",
        "prefer_jwt",
        "endpoint",
        "provider",
        "header",
        "append_forward",
        "check_validity",
        "require_key_usage",
        "require_extended_key_usage",
        "binding",
    ] {
        let named = text.lines().any(|line| {
            line.trim_start_matches(['#', ' '])
                .split('=')
                .next()
                .is_some_and(|name| name.trim() == key)
        });
        assert!(named, "deploy/vidimus.toml does not show `{key}`");
    }
}

/// Those that lie beside the edges' files, and the one that Kubernetes mounts.
#[test]
fn the_other_configurations_of_deploy_are_good() {
    for (name, text) in [
        ("caddy", include_str!("../deploy/caddy/vidimus.toml")),
        ("envoy", include_str!("../deploy/envoy/vidimus.toml")),
        ("traefik", include_str!("../deploy/traefik/vidimus.toml")),
    ] {
        Config::parse(text, name).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let kubernetes = include_str!("../deploy/kubernetes/vidimus.yaml");
    let (_, map) = kubernetes.split_once("vidimus.toml: |\n").unwrap();
    let (text, _) = map.split_once("\n---\n").unwrap();
    Config::parse(text, "kubernetes").unwrap_or_else(|errors| panic!("{errors}"));
}
