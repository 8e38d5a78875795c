//! What it costs to hold a token to its certificate: `cargo bench --bench binding`; ends with 1 if a bound
//! of the table is passed in each of five attempts.
//!
//! Each row is a request from question to decision, its token known: a bound one with its certificate in
//! that provider's spelling, against the same one unbound. The two take turns, and the median of their
//! differences counts.

#![allow(clippy::expect_used, reason = "a bench that cannot start should say so and stop")]

mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use support::{NoSource, ready};
use vidimus::check::*;
use vidimus::edge::EdgeSettings;
use vidimus::edge::certificate::{CertificateHeader, Provider};
use vidimus::edge::credential::Source::Authorization;
use vidimus::edge::forwarded::Peer;
use vidimus::edge::http::HttpEdge;
use vidimus::edge::x509::CertificateRules;
use vidimus::gate::{Gate, Live, ManualClock, Rules};
use vidimus::testing::key::SigningKey;
use vidimus::testing::samples;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com/realms/shop";
const ROUNDS: usize = 61;
const TIMES: u32 = 1000;

/// What SHA-256 of the certificate takes, in microseconds, on the machine for which the bounds hold.
const SHA256: f64 = 0.55;

struct Row {
    case: &'static str,
    header: CertificateHeader,
    value: String,
    /// In microseconds.
    bound: Option<f64>,
}

fn main() -> ExitCode {
    let (der, pem, ca) = certificate();
    let escaped = escaped(&pem);
    let hex: String = Thumbprint::of(&der).as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let base64 = STANDARD.encode(&der);
    println!("an RSA certificate of {} bytes; nginx' header has {}", der.len(), escaped.len());

    let row = |case, provider, value: &str, bound| {
        let (header, value) = (CertificateHeader::new(provider), value.to_owned());
        Row { case, header, value, bound }
    };
    let both = format!("Hash={hex};Cert=\"{escaped}\"");
    let mut examined = row("nginx, with ca_file", Provider::Nginx, &escaped, None);
    let rules = CertificateRules::new().issued_by(ca.as_bytes()).expect("an authority");
    examined.header.rules = Some(rules);
    let rows = [
        row("nginx", Provider::Nginx, &escaped, Some(3.0)),
        examined,
        row("apache", Provider::Apache, &pem.replace('\n', " "), Some(3.0)),
        row("haproxy", Provider::Haproxy, &base64, Some(3.0)),
        row("rfc9440", Provider::Rfc9440, &format!(":{base64}:"), Some(3.0)),
        row("envoy, Cert", Provider::Envoy, &format!("Cert=\"{escaped}\""), Some(3.0)),
        row("envoy, Hash and Cert", Provider::Envoy, &both, Some(3.0)),
        row("envoy, Hash", Provider::Envoy, &format!("By=spiffe://a;Hash={hex}"), Some(0.3)),
        row("thumbprint, hex", Provider::Thumbprint, &hex, Some(0.3)),
        row(
            "thumbprint, base64url",
            Provider::Thumbprint,
            &Thumbprint::of(&der).to_string(),
            Some(0.3),
        ),
    ];

    let key = SigningKey::generate("k", Algorithm::ES256).expect("randomness");
    let gate = gate(&key);
    let mut claims = samples::claims(ISSUER, NOW);
    claims["cnf"] = json!({ "x5t#S256": Thumbprint::of(&der).to_string() });
    let bound_token = key.sign(&claims).expect("randomness");
    let members = claims.as_object_mut().expect("an object");
    let cnf = members.remove("cnf").expect("it has one");
    members.insert("nothing".into(), cnf); // as long as the other
    let free_token = key.sign(&claims).expect("randomness");

    // On a slower or busier machine everything takes longer, and the bounds grow alike.
    let hash = || {
        black_box(Thumbprint::of(black_box(&der)));
    };
    let (_, sha256) = difference(hash, || ());
    let slow = (sha256 / SHA256).max(1.0);
    println!("its SHA-256 alone takes {sha256:.2} µs here: bounds times {slow:.2}");
    println!("{:<24} {:>9} {:>9} {:>9}", "provider", "adds µs", "bound µs", "whole µs");
    let mut passed = true;
    for row in rows {
        let settings = EdgeSettings {
            sources: vec![Authorization],
            certificate: Some(row.header.clone()),
            ..EdgeSettings::default()
        };
        let ask = |token: &str| {
            let request = Request::builder()
                .uri("/auth")
                .header("host", "vidimus")
                .header("authorization", format!("Bearer {token}"))
                .header(&row.header.name, &row.value);
            request.body(()).expect("a request")
        };
        let (bound, free) = (ask(&bound_token), ask(&free_token));
        let decide = |request: &Request<()>| {
            let edge = HttpEdge::AuthRequest;
            let decision = edge.decide(&gate, &settings, request, Peer::Unix, "default");
            assert!(matches!(ready(decision), Decision::Allow(_)), "{}", row.case);
        };
        let mut best = f64::MAX;
        let mut whole = 0.0;
        for _ in 0..5 {
            let (adds, all) = difference(|| decide(&bound), || decide(&free));
            if adds < best {
                (best, whole) = (adds, all);
            }
            if row.bound.is_none_or(|bound| best <= bound * slow) {
                break;
            }
        }
        let limit = row.bound.map_or_else(|| "-".into(), |bound| bound.to_string());
        let ok = row.bound.is_none_or(|bound| best <= bound * slow);
        let verdict = if ok { "" } else { "  NO" };
        println!("{:<24} {best:>9.2} {limit:>9} {whole:>9.2}{verdict}", row.case);
        passed &= ok;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The median of A - B in microseconds, and of A.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn difference(a: impl Fn(), b: impl Fn()) -> (f64, f64) {
    let time = |work: &dyn Fn()| {
        let began = std::time::Instant::now();
        (0..TIMES).for_each(|_| work());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    };
    let mut rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (time(&a), time(&b))).map(|(a, b)| (a - b, a)).collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    rounds[ROUNDS / 2]
}

fn gate(key: &SigningKey) -> Gate {
    let now = UnixTime::from_secs(NOW);
    let mut rules = RealmRules::new(ISSUER);
    rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
    let rules = Rules {
        realms: vec![rules],
        policies: vec![Policy::new("default", vec![0])],
        limits: Limits::default(),
    };
    let live = Arc::new(Live::new(rules, Arc::new(ManualClock::at(now))).expect("one realm"));
    let jwks = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
    live.publish_keys(ISSUER, Arc::new(KeySet::parse(&jwks).expect("a JWKS")));
    Gate::new(live, Arc::new(NoSource), 64 << 20)
}

/// A client's certificate as companies issue them, in DER and PEM, and its authority's in PEM.
fn certificate() -> (Vec<u8>, String, String) {
    let rsa = include_bytes!("../tests/data/keys/test-only-rsa-2048.pk8");
    let key = KeyPair::try_from(&rsa[..]).expect("an RSA key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Example Corporation Clients CA 3");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&key).expect("a certificate").pem();
    let mut client = CertificateParams::new(["orders-web.partners.example.com".to_owned()])
        .expect("a host name");
    for (kind, text) in [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Example Partner GmbH"),
        (DnType::OrganizationalUnitName, "Platform"),
        (DnType::CommonName, "orders-web.partners.example.com"),
    ] {
        client.distinguished_name.push(kind, text);
    }
    client.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(ca, &key);
    let certificate = client.signed_by(&key, &issuer).expect("a certificate");
    (certificate.der().to_vec(), certificate.pem(), authority)
}

/// `$ssl_client_escaped_cert`: everything but what RFC 3986 leaves alone.
fn escaped(pem: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    pem.bytes().map(one).collect()
}
