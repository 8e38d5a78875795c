//! Typed settings: each fault told at once, each the file's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::time::Duration;

use vidimus::builder::{
    Algorithm, BindingRule, ForwardedCertificate, Introspection, Policy, Provider, Realm, UseFor,
};
use vidimus::{BuildError, Config, GateBuilder};

const SECOND: Duration = Duration::from_secs(1);

fn faults(builder: &GateBuilder) -> Vec<String> {
    match builder.config() {
        Err(BuildError::Settings(errors)) => {
            errors.to_string().lines().map(str::to_owned).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_fault_of_typed_settings_is_told_in_one_error() {
    let builder = GateBuilder::new()
        .realm(Realm::new("ftp://id.example.com/realms/shop").leeway(301 * SECOND))
        .realm(
            Realm::new("http://id.example.com/realms/a").audience(["x"]).ca_file("/does/not/exist"),
        )
        .realm(Realm::new("https://id.example.com/realms/b").audience(["x"]).algorithms([]))
        .policy(Policy::new("two words").header("X-User", "sub").header("X-User", "email"))
        .policy(Policy::new("p").realms(["nobody"]).scopes(["a b"]).roles([":"]))
        .policy(Policy::new("p"))
        .token_sources(["query:token"])
        .max_token_size(1)
        .cache_bytes(1)
        .trusted_proxies(["everybody"]);
    let faults = faults(&builder);
    for part in [
        "realm[0].issuer",
        "realm[0].audience",
        "(Realm::audience)",
        "(Realm::leeway)",
        "(Policy::roles)",
        "(GateBuilder::cache_bytes)",
        "realm[0].leeway",
        "realm[1].issuer: found http://id.example.com/realms/a: plain http",
        "realm[1].ca_file",
        "realm[2].algorithms: found an empty list",
        "two words",
        "policy.two words.headers.X-User: found it twice",
        "policy.p: found it twice",
        "policy.p.realms",
        "policy.p.scopes",
        "policy.p.roles",
        "token.sources",
        "token.max_size",
        "cache.max_bytes",
        "server.trusted_proxies",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:#?}");
    }
    assert!(faults.iter().all(|fault| fault.starts_with("GateBuilder: ")), "{faults:#?}");
    let methods = faults.iter().filter_map(|fault| fault.strip_suffix(')')?.rsplit_once("::"));
    let methods: Vec<_> = methods.map(|(_, method)| format!("pub fn {method}(")).collect();
    assert!(methods.len() > 8, "{faults:#?}");
    let code = ["mod", "realm", "policy"].map(|file| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/builder");
        std::fs::read_to_string(folder.join(file).with_extension("rs")).unwrap()
    });
    for method in methods {
        assert!(code.iter().any(|code| code.contains(&method)), "there is no {method}..)");
    }
    assert!(
        matches!(builder.build(), Err(BuildError::Settings(_))),
        "before any runtime is missed"
    );
    assert!(self::faults(&GateBuilder::new())[0].contains("at least one [[realm]]"));
}

#[test]
fn every_typed_setting_is_the_files_setting() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    let signer = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&signer).unwrap();
    std::fs::write(&ca, authority.pem()).unwrap();
    std::fs::write(&key, signer.serialize_pem()).unwrap();
    let text = format!(
        r#"
        [server]
        trusted_proxies = ["10.0.0.0/8", "unix"]
        [token]
        sources = ["authorization", "cookie:at"]
        max_size = "8KiB"
        [client_certificate]
        provider = "envoy"
        header = "x-cert"
        append_forward = true
        ca_file = {ca:?}
        check_validity = true
        require_key_usage = ["digitalSignature"]
        require_extended_key_usage = ["clientAuth", "1.2.3"]
        [cache]
        max_bytes = "2MiB"
        [[realm]]
        issuer = "http://id.example.com/realms/shop"
        name = "one"
        audience = ["orders-api", "b"]
        algorithms = ["ES256"]
        leeway = "1s 500ms"
        header_types = ["at+jwt"]
        fetch_base = "http://127.0.0.1:1"
        insecure_http = true
        [realm.jwks]
        refresh = "1m"
        cooldown = "2s"
        max_stale = "1h"
        [realm.introspection]
        client_id = "me"
        auth = "client_secret_post"
        client_secret_file = {secret:?}
        use_for = ["all"]
        cache_ttl = "7s"
        inactive_ttl = "3s"
        timeout = "1s"
        max_concurrent = 5
        prefer_jwt = true
        endpoint = "https://id.example.com/introspect"
        [[realm]]
        issuer = "https://id.example.com/realms/two"
        insecure_any_audience = true
        [realm.introspection]
        client_id = "me"
        auth = "private_key_jwt"
        client_key_file = {key:?}
        client_key_algorithm = "ES256"
        client_key_id = "k2"
        [policy.p]
        realms = ["one"]
        audience = ["b"]
        scopes = ["s"]
        roles = ["r", "realm:q"]
        binding = "mtls"
        introspect_realm = "one"
        forward_jwt = "X-Token"
        keep_jwt = true
        [policy.p.headers]
        X-User = "sub"
        [policy.p.metadata]
        user = "sub"
        "#
    );
    let one = Realm::new("http://id.example.com/realms/shop")
        .name("one")
        .audience(["orders-api", "b"])
        .algorithms([Algorithm::ES256])
        .leeway(Duration::from_millis(1500))
        .header_types(["at+jwt"])
        .fetch_base("http://127.0.0.1:1")
        .insecure_http()
        .refresh(60 * SECOND)
        .cooldown(2 * SECOND)
        .max_stale(3600 * SECOND)
        .introspection(
            Introspection::new("me")
                .client_secret_post()
                .client_secret_file(&secret)
                .use_for(UseFor { opaque: false, lightweight: false, all: true })
                .cache_ttl(7 * SECOND)
                .inactive_ttl(3 * SECOND)
                .timeout(SECOND)
                .max_concurrent(5)
                .prefer_jwt()
                .endpoint("https://id.example.com/introspect"),
        );
    let builder = GateBuilder::new()
        .trusted_proxies(["10.0.0.0/8", "unix"])
        .token_sources(["authorization", "cookie:at"])
        .max_token_size(8 * 1024)
        .client_certificate(
            ForwardedCertificate::new(Provider::Envoy)
                .header("x-cert")
                .append_forward()
                .ca_file(&ca)
                .check_validity()
                .require_key_usage(["digitalSignature"])
                .require_extended_key_usage(["clientAuth", "1.2.3"]),
        )
        .cache_bytes(2 << 20)
        .realm(one)
        .realm(
            Realm::new("https://id.example.com/realms/two").insecure_any_audience().introspection(
                Introspection::new("me")
                    .private_key_jwt(&key, Algorithm::ES256)
                    .client_key_id("k2"),
            ),
        )
        .policy(
            Policy::new("p")
                .realms(["one"])
                .audience(["b"])
                .scopes(["s"])
                .roles(["r", "realm:q"])
                .binding(BindingRule::Mtls)
                .introspect_realm("one")
                .forward_jwt("X-Token")
                .keep_jwt()
                .metadata("user", "sub")
                .header("X-User", "sub"),
        );
    let typed = builder.config().unwrap();
    let file = Config::parse(&text, "file").unwrap();
    assert_eq!(format!("{typed:#?}"), format!("{file:#?}"));
}

#[cfg(unix)]
#[test]
fn a_path_that_the_document_cannot_hold_is_refused_and_never_another_one() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/run/\xff/secret"));
    let realm = |issuer: &str| Realm::new(issuer).audience(["x"]);
    let builder = GateBuilder::new()
        .realm(realm("https://id.example.com/realms/a"))
        .realm(
            realm("https://id.example.com/realms/b")
                .ca_file(path)
                .introspection(Introspection::new("me").client_secret_file(path)),
        )
        .client_certificate(ForwardedCertificate::new(Provider::Nginx).ca_file(path));
    let mut faults = faults(&builder);
    faults.sort();
    let allowed = "found a path that is not UTF-8; allowed: one that is UTF-8";
    assert_eq!(
        faults,
        [
            format!("GateBuilder: client_certificate.ca_file: {allowed}"),
            format!("GateBuilder: realm[1].ca_file: {allowed}"),
            format!("GateBuilder: realm[1].introspection.client_secret_file: {allowed}"),
        ]
    );
}
