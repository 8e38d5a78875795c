//! Every edge × every denial, in memory: what leaves for each refusal. A denial without a row fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/envoy.rs"]
mod envoy;
mod support;

use std::sync::atomic::Ordering;

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};
use support::*;
use vidimus::check::*;
use vidimus::edge::certificate::{CertificateHeader, Provider};
use vidimus::edge::ext_authz_grpc::{self, Question};
use vidimus::edge::forwarded::{Peer, TrustedProxies};
use vidimus::edge::http::HttpEdge;
use vidimus::edge::x509::CertificateRules;
use vidimus::edge::{Edge, EdgeSettings};
use vidimus::gate::Refresh;
use vidimus::testing::key::SigningKey;

/// A way to provoke a denial.
struct Case {
    policy: &'static str,
    headers: Vec<String>,
    certificates: Vec<String>,
    peer: Peer,
    header: CertificateHeader,
    before: fn(&World),
    /// The question is no question, which over HTTP cannot be.
    unreadable: bool,
}

impl Case {
    fn new(policy: &'static str, headers: Vec<String>) -> Self {
        let (certificates, peer) = (Vec::new(), Peer::Unix);
        let header = CertificateHeader::new(Provider::Thumbprint);
        Self { policy, headers, certificates, peer, header, before: |_| {}, unreadable: false }
    }
}

/// How each denial comes about. A new one needs its row here, or a test fails.
fn provoke(denial: Denial, world: &World) -> Case {
    let bearer = |token: String| vec![format!("Bearer {token}")];
    let changed = |change: Value| bearer(world.token(change));
    let with_header =
        |header: Value| bearer(world.key.sign_with_header(&header, &claims(json!({}))).unwrap());
    let stranger = || bearer(ec_key("unknown").sign(&claims(json!({}))).unwrap());
    let bound = || bearer(world.token(json!({ "cnf": { "x5t#S256": THUMBPRINT } })));
    let mut case = Case::new("default", Vec::new());
    case.headers = match denial {
        Denial::NoCredential => vec![],
        Denial::CredentialMalformed => vec!["Bearer a b".into()],
        Denial::CredentialRepeated => {
            let token = format!("Bearer {}", world.token(json!({})));
            vec![token.clone(), token]
        }
        Denial::TokenTooLarge => bearer("A".repeat(16 * 1024 + 1)),
        Denial::TokenMalformed => bearer("a.b.c".into()),
        Denial::Opaque => bearer("2YotnFZFEjr1zCsicMWpAA".into()),
        Denial::Encrypted => bearer("a.b.c.d.e".into()),
        Denial::CriticalHeader => {
            with_header(json!({ "alg": "ES256", "kid": "k1", "crit": ["exp"] }))
        }
        Denial::AlgorithmForbidden => with_header(json!({ "alg": "none", "kid": "k1" })),
        Denial::HeaderType => {
            with_header(json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" }))
        }
        Denial::KeyIdMissing => with_header(json!({ "alg": "ES256" })),
        Denial::KeyAlgorithm => with_header(json!({ "alg": "RS256", "kid": "k1" })),
        Denial::ClaimMalformed => changed(json!({ "aud": 1 })),
        Denial::Issuer => changed(json!({ "iss": "https://evil.example.com" })),
        Denial::TokenType => changed(json!({ "typ": "ID" })),
        Denial::ExpiryMissing => changed(json!({ "exp": "(absent)" })),
        Denial::Expired => changed(json!({ "exp": NOW - 60 })),
        Denial::NotYetValid => changed(json!({ "nbf": NOW + 60 })),
        Denial::IssuedInFuture => changed(json!({ "iat": NOW + 60 })),
        Denial::Audience => changed(json!({ "aud": "billing-api" })),
        Denial::Inactive => {
            world.answers(json!({ "active": false }));
            case.policy = "asking";
            bearer("2YotnFZFEjr1zCsicMWpAA".into())
        }
        Denial::IntrospectionUnavailable => {
            case.policy = "asking";
            bearer("2YotnFZFEjr1zCsicMWpAA".into())
        }
        Denial::DpopUnproven => changed(json!({ "cnf": { "jkt": "x" } })),
        Denial::ConfirmationUnknown => changed(json!({ "cnf": {} })),
        Denial::ConfirmationMissing => {
            case.policy = "bound";
            changed(json!({}))
        }
        Denial::CertificateMissing => bound(),
        Denial::CertificateMismatch => {
            case.certificates = vec!["00".repeat(32)];
            bound()
        }
        Denial::CertificateMalformed => {
            case.certificates = vec!["00".repeat(20)]; // a SHA-1
            bound()
        }
        Denial::CertificateRepeated => {
            case.certificates = vec![THUMBPRINT.into(); 2];
            bound()
        }
        Denial::CertificateUnacceptable => {
            // Nothing but a hash is forwarded, and the rules want to see the period.
            case.header.rules = Some(CertificateRules::new());
            case.certificates = vec![THUMBPRINT.into()];
            bound()
        }
        Denial::CertificateUntrusted => {
            case.certificates = vec![THUMBPRINT.into()];
            case.peer = Peer::Ip([10, 0, 0, 1].into());
            bound()
        }
        Denial::Signature => bearer(ec_key("k1").sign(&claims(json!({}))).unwrap()),
        Denial::VerificationUnavailable => {
            let slow = SigningKey::generate("slow", Algorithm::ES384).unwrap();
            world.live.publish_keys(ISSUER, jwks(&[&slow]));
            world.breaks.store(true, Ordering::SeqCst);
            bearer(slow.sign(&claims(json!({}))).unwrap())
        }
        Denial::KeyUnknown => stranger(),
        Denial::KeysCoolingDown => {
            case.before = |world| world.when_asked(|_| Refresh::CoolingDown);
            stranger()
        }
        Denial::KeysUnavailable => {
            case.before = |world| world.when_asked(|_| Refresh::Unreachable);
            stranger()
        }
        Denial::ScopeMissing => {
            case.policy = "reader";
            changed(json!({}))
        }
        Denial::RoleMissing => {
            case.policy = "admin";
            changed(json!({}))
        }
        Denial::PolicyUnknown => {
            case.policy = "../admin";
            changed(json!({}))
        }
        Denial::QuestionUnreadable => {
            case.unreadable = true;
            vec![]
        }
        new => panic!("{new:?} has no row here"),
    };
    case
}

/// What an edge made of a question.
type Answered = (Decision, Response<Full<Bytes>>);

/// What becomes of a refusal's status there. Exhaustive: a new edge needs its row here.
fn status(edge: Edge, status: u16) -> u16 {
    match (edge, status) {
        // nginx knows 401 and 403; 503 is nobody's fault and stays.
        (Edge::Http(HttpEdge::AuthRequest), 400) => 401,
        // Envoy may be told to let requests pass when it gets a 5xx.
        (Edge::Http(HttpEdge::ExtAuthz), 503) => 403,
        (Edge::Http(HttpEdge::AuthRequest | HttpEdge::ExtAuthz) | Edge::ExtAuthzGrpc, status) => {
            status
        }
    }
}

/// Asks an edge as its proxy does, and takes its answer as that proxy does. Exhaustive.
async fn ask(edge: Edge, world: &World, case: &Case) -> Answered {
    let mut header = case.header.clone();
    let mut certificates = case.certificates.clone();
    if edge == Edge::ExtAuthzGrpc {
        header = CertificateHeader::new(Provider::Envoy); // no other counts there
        header.rules = case.header.rules.clone();
        certificates.iter_mut().for_each(|value| value.insert_str(0, "Hash="));
    }
    let name = header.name.clone();
    let settings = EdgeSettings {
        sources: vec!["authorization".parse().unwrap()],
        trusted: TrustedProxies::default(),
        certificate: Some(header),
    };
    let certificates = certificates.iter().map(|value| (name.as_str(), &**value));
    let credentials = case.headers.iter().map(|value| (AUTHORIZATION.as_str(), &**value));
    let headers: Vec<_> = credentials.chain(certificates).collect();
    match edge {
        Edge::Http(edge) => {
            let path = match edge {
                HttpEdge::AuthRequest => format!("/auth/{}", case.policy),
                HttpEdge::ExtAuthz => format!("/ext_authz/{}//orders?x=/auth/admin", case.policy),
            };
            let mut request = Request::builder().uri(path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request.body(()).unwrap();
            let (found, policy) = HttpEdge::of(request.uri().path()).unwrap();
            assert_eq!(found, edge);
            let decision = edge.decide(&world.gate, &settings, &request, case.peer, policy).await;
            let answer = edge.answer(&decision);
            (decision, answer)
        }
        Edge::ExtAuthzGrpc if case.unreadable => {
            let denial = Denial::QuestionUnreadable;
            let refusal = Refusal { denial, policy: None, realm: None };
            let answer = envoy::answer(&ext_authz_grpc::refuse(&refusal, &[]));
            (Decision::Deny(refusal), answer)
        }
        Edge::ExtAuthzGrpc => {
            let message = Bytes::from(envoy::question(case.policy, &headers));
            let question = Question::read(&message).unwrap();
            let (gate, peer) = (&world.gate, case.peer);
            let decision = ext_authz_grpc::decide(gate, &settings, &question, peer, |_, _| {});
            let decision = decision.await;
            let answer = envoy::answer(&ext_authz_grpc::answer(&decision, &question, &[]));
            (decision, answer)
        }
    }
}

#[tokio::test]
async fn every_denial_leaves_every_edge_as_the_contract_says() {
    let all = Edge::ALL.into_iter().flat_map(|edge| Denial::ALL.iter().map(move |d| (edge, *d)));
    for (edge, denial) in all {
        let world = World::introspecting(|rules| {
            rules.policies.iter_mut().for_each(|policy| policy.introspect_realm = None);
            let mut asking = Policy::new("asking", vec![0]);
            asking.introspect_realm = Some(0);
            rules.policies.push(asking);
            let mut bound = Policy::new("bound", vec![0]);
            bound.binding = BindingRule::Required;
            rules.policies.push(bound);
        });
        let case = provoke(denial, &world);
        if case.unreadable && matches!(edge, Edge::Http(_)) {
            continue;
        }
        (case.before)(&world);
        let (decision, answer) = ask(edge, &world, &case).await;
        let Decision::Deny(refusal) = decision else { panic!("{denial:?} was allowed") };
        assert_eq!(refusal.denial, denial);

        let row = denial.answer();
        let expected = status(edge, row.status);
        assert_eq!(answer.status(), expected, "{denial:?}");
        let known: &[u16] = match edge {
            Edge::Http(HttpEdge::AuthRequest) => &[401, 403, 503],
            Edge::Http(HttpEdge::ExtAuthz) => &[400, 401, 403],
            Edge::ExtAuthzGrpc => &[400, 401, 403, 503],
        };
        assert!(known.contains(&expected), "{denial:?}");
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers().contains_key(RETRY_AFTER), row.status == 503, "{denial:?}");

        let challenge =
            answer.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        match (expected, row.error) {
            (401, None) => assert_eq!(challenge.as_deref(), Some("Bearer realm=\"default\"")),
            (400 | 401, Some(error)) | (403, Some(error @ "insufficient_scope")) => {
                let challenge = challenge.unwrap();
                let wanted =
                    format!("error=\"{error}\", error_description=\"{}\"", row.description);
                assert!(challenge.starts_with("Bearer realm=\""), "{challenge}");
                assert!(challenge.contains(&wanted), "{challenge}");
                assert_eq!(
                    challenge.contains("scope=\"orders:read orders:list\""),
                    denial == Denial::ScopeMissing
                );
            }
            _ => assert_eq!(challenge, None, "{denial:?}"),
        }
        for name in answer.headers().keys() {
            assert!(!name.as_str().starts_with("x-auth-request"), "{denial:?} names an identity");
        }

        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.get("error").and_then(Value::as_str), row.error, "{denial:?}");
        assert_eq!(body["error_description"], row.description);
    }
}

#[tokio::test]
async fn an_allowed_request_carries_every_identity_header_empty_or_not() {
    let world = World::new();
    let cases = [
        (
            json!({}),
            [
                "f1d0ca5e-0000-4000-8000-a11ce0000001",
                "alice",
                "alice@example.com",
                "orders-web",
                "openid orders:read email profile",
                "offline_access,uma_authorization,default-roles-demo",
            ],
        ),
        (
            json!({ "sub": "(absent)", "preferred_username": "(absent)", "email": "(absent)",
                 "azp": "(absent)", "scope": "(absent)", "realm_access": "(absent)" }),
            [""; 6],
        ),
        (
            json!({ "preferred_username": "a\r\nX-Admin: true", "email": null, "sub": "ü",
                 "azp": "", "scope": " ", "realm_access": { "roles": ["a,b", "c d", "\u{0}"] } }),
            ["%C3%BC", "a%0D%0AX-Admin: true", "", "", "%20", "a%2Cb,c d,%00"],
        ),
    ];
    for (edge, (change, expected)) in
        Edge::ALL.into_iter().flat_map(|edge| cases.iter().map(move |case| (edge, case)))
    {
        let headers = vec![format!("Bearer {}", world.token(change.clone()))];
        let case = Case::new("default", headers);
        let (_, answer) = ask(edge, &world, &case).await;
        assert_eq!(answer.status(), 200, "{change}");
        let headers = IdentityHeaders::default();
        let named = headers.names().zip(expected);
        let empty = named.clone().filter(|(_, value)| value.is_empty());
        let empty = empty.map(|(name, _)| name.to_string());
        let aliases = headers.names().map(|name| name.as_str().replace('-', "_"));
        let empty = empty.chain(aliases).collect::<Vec<_>>().join(",");
        let removed = answer.headers().get("x-envoy-auth-headers-to-remove");
        let removed = removed.map_or("", |names| names.to_str().unwrap());
        match edge {
            Edge::Http(HttpEdge::AuthRequest) => assert_eq!(removed, ""),
            Edge::Http(HttpEdge::ExtAuthz) | Edge::ExtAuthzGrpc => assert_eq!(removed, empty),
        }
        for (name, expected) in named {
            let values: Vec<_> = answer.headers().get_all(name).iter().collect();
            assert_eq!(values, [*expected], "{name}");
        }
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test]
async fn what_another_policy_hands_on_is_removed_and_never_what_this_one_does() {
    let world = World::introspecting(|rules| {
        for (name, headers, jwt) in
            [("one", &["x-reader"][..], None), ("two", &["x-staff", "x-reader"], Some("x-jwt"))]
        {
            let mut policy = Policy::new(name, vec![0]);
            let header = |name| (HeaderName::from_static(name), ClaimPath::new("sub"));
            policy.headers = headers.iter().copied().map(header).collect();
            policy.forward_jwt = jwt.map(HeaderName::from_static);
            rules.policies.push(policy);
        }
    });
    for edge in [Edge::Http(HttpEdge::ExtAuthz), Edge::ExtAuthzGrpc] {
        for (policy, sent, expected) in [
            ("one", &["x-reader"][..], &["x-staff", "x_staff", "x-jwt", "x_jwt", "x_reader"][..]),
            ("two", &["x-reader", "x-staff", "x-jwt"], &["x_reader", "x_staff", "x_jwt"]),
        ] {
            let case = Case::new(policy, vec![format!("Bearer {}", world.token(json!({})))]);
            let (_, answer) = ask(edge, &world, &case).await;
            let removed = answer.headers()["x-envoy-auth-headers-to-remove"].to_str().unwrap();
            let removed: Vec<_> = removed.split(',').collect();
            for name in expected.iter().chain(&["x-auth-request-user", "x_auth_request_roles"]) {
                assert!(removed.contains(name), "{edge:?} {policy} {name}: {removed:?}");
            }
            for name in sent {
                assert!(!removed.contains(name), "{edge:?} {policy} {name}: {removed:?}");
                assert!(!answer.headers()[*name].is_empty(), "{edge:?} {policy} {name}");
            }
        }
    }
}

#[tokio::test]
async fn no_refusal_ever_echoes_what_the_caller_sent() {
    let world = World::new();
    let secret = "s3cr3t-marker";
    let header = json!({ "alg": "ES256", "kid": secret, "typ": "JWT" });
    for (policy, headers) in [
        ("default", vec![format!("Bearer {secret}")]),
        ("default", vec![format!("Bearer {secret},{secret}")]),
        ("s3cr3t-marker", vec![]),
        ("default", vec![format!("Bearer {}", world.token(json!({ "iss": secret })))]),
        ("default", vec![format!("Bearer {}", world.token(json!({ "aud": secret })))]),
        (
            "default",
            vec![format!(
                "Bearer {}",
                world.key.sign_with_header(&header, &claims(json!({}))).unwrap()
            )],
        ),
    ] {
        let case = Case::new(policy, headers);
        let (decision, answer) = ask(Edge::Http(HttpEdge::AuthRequest), &world, &case).await;
        assert_ne!(answer.status(), 200);
        let said = format!("{:?} {:?}", decision, answer.headers());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(!said.contains(secret), "{said}");
        assert!(!String::from_utf8_lossy(&body).contains(secret));
    }
}
