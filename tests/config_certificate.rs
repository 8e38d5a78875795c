//! `[client_certificate]` and `binding`: what is good, every default, and what is said about each mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use vidimus::check::BindingRule;
use vidimus::config::Config;
use vidimus::edge::certificate::{CertificateHeader, Provider};

const REALM: &str =
    "[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\naudience = [\"orders-api\"]\n";

fn header(lines: &str) -> Option<CertificateHeader> {
    let text = format!("{REALM}{lines}");
    Config::parse(&text, "vidimus.toml")
        .unwrap_or_else(|errors| panic!("{errors}"))
        .edge
        .certificate
}

#[test]
fn without_the_section_no_certificate_is_looked_for() {
    assert!(header("").is_none());
}

#[test]
fn a_provider_is_enough_and_brings_keycloaks_header() {
    for (provider, name) in [
        ("nginx", "ssl-client-cert"),
        ("envoy", "x-forwarded-client-cert"),
        ("haproxy", "ssl_client_cert"),
        ("apache", "ssl_client_cert"),
        ("rfc9440", "client-cert"),
        ("traefik", "x-forwarded-tls-client-cert"),
        ("awsalb", "x-amzn-mtls-clientcert-leaf"),
        ("thumbprint", "x-client-cert-sha256"),
    ] {
        let header = header(&format!("[client_certificate]\nprovider = \"{provider}\"")).unwrap();
        assert_eq!((header.provider.name(), header.name.as_str()), (provider, name));
        assert!(header.rules.is_none());
    }
    assert_eq!(Provider::ALL.len(), 8, "each has its row above");
    let header = header("[client_certificate]\nprovider = \"nginx\"\nheader = \"X-Cert\"").unwrap();
    assert_eq!(header.name, "x-cert");
}

#[test]
fn any_key_of_the_second_line_brings_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    fs::write(&file, ca.pem()).unwrap();
    for line in [
        format!("ca_file = \"{}\"", file.display()),
        "check_validity = true".into(),
        "require_key_usage = [\"digitalSignature\"]".into(),
        "require_extended_key_usage = [\"clientAuth\", \"1.3.6.1.4.1.311.20.2.2\"]".into(),
    ] {
        let lines = format!("[client_certificate]\nprovider = \"nginx\"\n{line}");
        assert!(header(&lines).unwrap().rules.is_some(), "{line}");
    }
    let lines = "[client_certificate]\nprovider = \"nginx\"\ncheck_validity = false";
    assert!(header(lines).unwrap().rules.is_none());
}

#[test]
fn each_binding_has_a_name() {
    for (name, rule) in [
        ("if-bound", BindingRule::IfBound),
        ("required", BindingRule::Required),
        ("mtls", BindingRule::Mtls),
        ("dpop", BindingRule::Dpop),
    ] {
        let text = format!("{REALM}[policy.default]\nbinding = \"{name}\"");
        let config = Config::parse(&text, "vidimus.toml").unwrap();
        assert_eq!(config.rules.policies[0].binding, rule);
    }
    let config = Config::parse(REALM, "vidimus.toml").unwrap();
    assert_eq!(config.rules.policies[0].binding, BindingRule::IfBound, "the default");
}

#[test]
fn each_mistake_is_told_with_its_line_and_what_is_allowed() {
    let section = |lines: &str| format!("[client_certificate]\n{lines}");
    for (text, line, key, found, allowed) in [
        (section(""), 4, "client_certificate.provider", "nothing", "nginx, envoy, haproxy"),
        (section("provider = \"\""), 5, "client_certificate.provider", "\"\"", "thumbprint"),
        (section("provider = \"Nginx\""), 5, "client_certificate.provider", "Nginx", "nginx"),
        (section("provider = 1"), 5, "client_certificate.provider", "1", "text"),
        (
            section("provider = \"nginx\"\nheader = \"a b\""),
            6,
            "client_certificate.header",
            "a b",
            "the name of a header",
        ),
        (
            section("provider = \"nginx\"\nheader = \"Authorization\""),
            6,
            "client_certificate.header",
            "Authorization",
            "HTTP's own",
        ),
        (
            section("provider = \"nginx\"\nheaders = \"X\""),
            6,
            "client_certificate.headers",
            "unknown",
            "header",
        ),
        (
            section("provider = \"nginx\"\nca_file = \"/nonexistent/ca.pem\""),
            6,
            "client_certificate.ca_file",
            "No such file",
            "PEM certificates",
        ),
        (
            section("provider = \"nginx\"\nca_file = \"Cargo.toml\""),
            6,
            "client_certificate.ca_file",
            "no certificate",
            "PEM certificates",
        ),
        (
            section("provider = \"nginx\"\nrequire_key_usage = [\"signing\"]"),
            6,
            "client_certificate.require_key_usage",
            "signing",
            "digitalSignature",
        ),
        (
            section("provider = \"nginx\"\nrequire_extended_key_usage = [\"client\"]"),
            6,
            "client_certificate.require_extended_key_usage",
            "client",
            "clientAuth",
        ),
        (
            section("provider = \"thumbprint\"\ncheck_validity = true"),
            5,
            "client_certificate.provider",
            "thumbprint",
            "nginx, envoy, haproxy, apache, rfc9440, traefik, awsalb: ca_file, check_validity",
        ),
        (
            section("provider = \"nginx\"\n[token]\nsources = [\"header:ssl-client-cert\"]"),
            5,
            "client_certificate.provider",
            "where a token may stand",
            "another header",
        ),
        (
            section("provider = \"nginx\"\nappend_forward = true"),
            4,
            "client_certificate.append_forward",
            "true",
            "\"envoy\" alone",
        ),
        (
            "[policy.default]\nbinding = \"optional\"".into(),
            5,
            "policy.default.binding",
            "optional",
            "if-bound",
        ),
    ] {
        let Err(errors) = Config::parse(&format!("{REALM}{text}"), "vidimus.toml") else {
            panic!("no mistake was found in:\n{text}");
        };
        let said = errors.to_string();
        for part in [&format!("vidimus.toml:{line}"), key, found, allowed] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}\nabout:\n{text}");
        }
    }
}

#[test]
fn check_config_tells_who_can_never_pass() {
    let section = "[client_certificate]\nprovider = \"nginx\"\ncheck_validity = true\n";
    let policy = |binding: &str| format!("[policy.default]\nbinding = \"{binding}\"\n");
    for (text, part, there) in [
        (section.to_owned(), "of provider nginx, in the header ssl-client-cert, examined", true),
        (policy("mtls"), "certificate-bound tokens only", true),
        (policy("mtls"), "without [client_certificate] there is none", true),
        (policy("required"), "without [client_certificate] there is none", true),
        (policy("dpop"), "cannot be checked yet", true),
        (policy("mtls") + section, "warning: policy default refuses every token", false),
        (policy("mtls"), "warning: policy default refuses every token", true),
        (
            format!("{}{section}[server]\ntrusted_proxies = []", policy("mtls")),
            "trusted_proxies is empty",
            true,
        ),
        (policy("if-bound"), "refuses every token", false),
        (
            "[client_certificate]\nprovider = \"envoy\"\ncheck_validity = true".into(),
            "note: Envoy must send the whole certificate",
            true,
        ),
    ] {
        let config = Config::parse(&format!("{REALM}{text}"), "vidimus.toml").unwrap();
        let said = config.summary().join("\n");
        assert_eq!(said.contains(part), there, "{part:?} in:\n{said}\nabout:\n{text}");
    }
}
