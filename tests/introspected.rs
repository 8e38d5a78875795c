//! Introspection as the gate does it: what it makes of a realm's answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use support::*;
use vidimus::check::*;
use vidimus::gate::{NoReply, Refresh};
use vidimus::testing::key::SigningKey;

#[tokio::test]
async fn active_must_be_the_json_boolean_true() {
    for (answer, expected) in [
        (json!({ "active": "true" }), Denial::IntrospectionUnavailable),
        (json!({ "active": 1 }), Denial::IntrospectionUnavailable),
        (json!({ "active": null }), Denial::IntrospectionUnavailable),
        (json!({ "active": [true] }), Denial::IntrospectionUnavailable),
        (active(json!({ "active": "true" })), Denial::IntrospectionUnavailable),
        (active(json!({ "active": "(absent)" })), Denial::IntrospectionUnavailable),
        (json!([true]), Denial::IntrospectionUnavailable),
        (json!({ "active": false }), Denial::Inactive),
        (active(json!({ "active": false })), Denial::Inactive),
    ] {
        let world = World::introspecting(|_| {});
        world.answers(answer.clone());
        assert_eq!(world.denial("default", OPAQUE).await, Some(expected), "{answer}");
    }
    let world = World::introspecting(|_| {});
    let twice = active(json!({})).to_string().replace("{\"", "{\"active\":false,\"");
    world.tells(move |_| Reply::json(twice.clone().into()).map_err(|_| NoReply));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::IntrospectionUnavailable));
    // CVE-2026-18208: a good JWT beside "not active".
    let world = World::introspecting(|_| {});
    world.answers(json!({ "active": false, "jwt": world.token(json!({})) }));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Inactive));
}

#[tokio::test]
async fn an_active_answer_is_judged_like_the_claims_of_a_token() {
    for (change, expected) in [
        (json!({}), None),
        (json!({ "typ": "(absent)" }), None),
        (json!({ "token_type": "(absent)" }), None),
        (json!({ "token_type": "bearer", "typ": "bearer" }), None),
        (json!({ "typ": "(absent)", "token_type": "(absent)" }), Some(Denial::TokenType)),
        (json!({ "typ": "ID", "token_type": "ID" }), Some(Denial::TokenType)),
        (json!({ "token_type": "ID" }), Some(Denial::TokenType)),
        (json!({ "typ": "Refresh" }), Some(Denial::TokenType)),
        (json!({ "token_type": 1 }), Some(Denial::ClaimMalformed)),
        (json!({ "iss": "(absent)" }), Some(Denial::Issuer)), // CAMEL-24448
        (json!({ "iss": OTHER_ISSUER }), Some(Denial::Issuer)),
        (json!({ "iss": format!("{ISSUER}/") }), Some(Denial::Issuer)),
        (json!({ "exp": "(absent)" }), Some(Denial::ExpiryMissing)),
        (json!({ "exp": NOW - 60 }), Some(Denial::Expired)),
        (json!({ "exp": "soon" }), Some(Denial::ClaimMalformed)),
        (json!({ "nbf": NOW + 60 }), Some(Denial::NotYetValid)),
        (json!({ "iat": NOW + 60 }), Some(Denial::IssuedInFuture)),
        (json!({ "aud": "billing-api" }), Some(Denial::Audience)),
        (json!({ "aud": "(absent)" }), Some(Denial::Audience)),
        (json!({ "cnf": { "x5t#S256": "A" } }), Some(Denial::ConfirmationUnknown)),
        (json!({ "cnf": { "x5t#S256": THUMBPRINT } }), Some(Denial::CertificateMissing)),
        (json!({ "cnf": null }), Some(Denial::ConfirmationUnknown)),
        // A DPoP token is never a bearer token, whatever became of its `cnf`.
        (json!({ "typ": "DPoP", "token_type": "DPoP" }), Some(Denial::DpopUnproven)),
        (json!({ "token_type": "DPoP" }), Some(Denial::DpopUnproven)),
    ] {
        let world = World::introspecting(|_| {});
        world.answers(active(change.clone()));
        assert_eq!(world.denial("default", OPAQUE).await, expected, "{change}");
        assert_eq!(world.denial("default", OPAQUE).await, expected, "{change}, remembered");
        // What time alone cures is not remembered.
        let early = matches!(expected, Some(Denial::NotYetValid | Denial::IssuedInFuture));
        assert_eq!(world.introspected(), if early { 2 } else { 1 }, "{change}");
    }
}

#[tokio::test]
async fn an_answer_about_another_token_is_nobodys() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "jti": "onltac:another" })));
    let token = world.token(lightweight(json!({})));
    let unavailable = Some(Denial::IntrospectionUnavailable);
    assert_eq!(world.denial("default", &token).await, unavailable);
    assert_eq!(world.denial("default", &token).await, unavailable);
    assert_eq!(world.introspected(), 2, "never remembered");
}

#[tokio::test]
async fn the_full_jwt_of_an_answer_is_verified_like_any_token() {
    type Mint = fn(&World) -> Value;
    let cases: [(&str, Mint, bool); 11] = [
        ("good", |world| json!(world.token(json!({}))), true),
        ("an ID token", |world| json!(world.token(json!({ "typ": "ID" }))), false),
        ("expired", |world| json!(world.token(json!({ "exp": NOW - 60 }))), false),
        ("bound", |world| json!(world.token(json!({ "cnf": {} }))), false),
        ("another's", |world| json!(world.token(json!({ "jti": "other" }))), false),
        ("foreign", |world| json!(world.token(json!({ "iss": OTHER_ISSUER }))), false),
        ("forged", |_| json!(ec_key("k1").sign(&claims(json!({}))).unwrap()), false),
        ("by an unknown key", |_| json!(ec_key("k9").sign(&claims(json!({}))).unwrap()), false),
        (
            "symmetric",
            |world| {
                json!(
                    world
                        .key
                        .sign_with_header(
                            &json!({ "alg": "HS512", "kid": "k1" }),
                            &claims(json!({}))
                        )
                        .unwrap()
                )
            },
            false,
        ),
        ("no JWT", |_| json!("opaque"), false),
        ("no text", |_| json!(1), false),
    ];
    for (what, mint, passes) in cases {
        let world = World::introspecting(|_| {});
        world.answers(active(json!({ "jwt": mint(&world) })));
        // The realm's fault, not the token's: never 401, and asked again each time.
        let expected = (!passes).then_some(Denial::IntrospectionUnavailable);
        assert_eq!(world.denial("default", OPAQUE).await, expected, "{what}");
        assert_eq!(world.denial("default", OPAQUE).await, expected, "{what}");
        assert_eq!(world.introspected(), if passes { 1 } else { 2 }, "{what}");
        let unusable: u64 = world.gate.unusable_answers().iter().map(|(.., count)| count).sum();
        assert_eq!(unusable, if passes { 0 } else { 2 }, "{what}");
    }
    // What it is for is the token's affair.
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "jwt": world.token(json!({ "aud": "billing-api" })) })));
    assert_eq!(world.denial("default", OPAQUE).await, Some(Denial::Audience));
    // The claims that count are the signed ones.
    let world = World::introspecting(|_| {});
    let roles = json!({ "realm_access": { "roles": ["admin"] } });
    let mut answer = active(roles);
    answer["jwt"] = json!(world.token(json!({})));
    world.answers(answer);
    assert_eq!(world.denial("admin", OPAQUE).await, Some(Denial::RoleMissing));
}

/// An answer as RFC 9701 §5 has it; changed.
fn signed(key: &SigningKey, kind: &str, change: Value, answer: Value) -> Reply {
    let mut claims = json!({
        "iss": ISSUER, "aud": "vidimus", "iat": NOW, "token_introspection": answer,
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = json!({ "alg": "ES256", "kid": key.kid(), "typ": kind });
    Reply::signed(key.sign_with_header(&header, &claims).unwrap().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_signed_answer_is_one_of_this_realm_for_us_made_now() {
    const KIND: &str = "token-introspection+jwt";
    let unavailable = Some(Denial::IntrospectionUnavailable);
    for (what, kind, change, answer, expected) in [
        ("good", KIND, json!({}), active(json!({})), None),
        ("long name", "application/token-introspection+jwt", json!({}), active(json!({})), None),
        ("aud a list", KIND, json!({ "aud": ["x", "vidimus"] }), active(json!({})), None),
        ("inactive", KIND, json!({}), json!({ "active": false }), Some(Denial::Inactive)),
        ("an access token", "JWT", json!({}), active(json!({})), unavailable),
        ("for others", KIND, json!({ "aud": "other" }), active(json!({})), unavailable),
        ("for nobody", KIND, json!({ "aud": null }), active(json!({})), unavailable),
        ("of another realm", KIND, json!({ "iss": OTHER_ISSUER }), active(json!({})), unavailable),
        ("old", KIND, json!({ "iat": NOW - 66 }), active(json!({})), unavailable),
        ("from the future", KIND, json!({ "iat": NOW + 6 }), active(json!({})), unavailable),
        ("without a date", KIND, json!({ "iat": null }), active(json!({})), unavailable),
        ("without an answer", KIND, json!({}), json!(null), unavailable),
        ("active a text", KIND, json!({}), json!({ "active": "true" }), unavailable),
        (
            "for another audience",
            KIND,
            json!({}),
            active(json!({ "aud": "x" })),
            Some(Denial::Audience),
        ),
    ] {
        let world = World::introspecting(|_| {});
        let reply = signed(&world.key, kind, change, answer);
        world.tells(move |_| Ok(reply.clone()));
        assert_eq!(world.denial("default", OPAQUE).await, expected, "{what}");
    }
    let world = World::introspecting(|_| {});
    let reply = signed(&ec_key("k1"), KIND, json!({}), active(json!({})));
    world.tells(move |_| Ok(reply.clone()));
    assert_eq!(world.denial("default", OPAQUE).await, unavailable, "forged");
    let world = World::introspecting(|_| {});
    world.tells(|_| Ok(Reply::signed(b"{\"active\":true}").unwrap()));
    assert_eq!(world.denial("default", OPAQUE).await, unavailable, "no JWS");
}

#[tokio::test]
async fn a_signed_answer_by_a_new_key_fetches_it_once() {
    let world = World::introspecting(|_| {});
    let new = ec_key("k2");
    let reply = signed(&new, "token-introspection+jwt", json!({}), active(json!({})));
    world.tells(move |_| Ok(reply.clone()));
    world.when_asked(move |live| {
        live.publish_keys(ISSUER, jwks(&[&new]));
        Refresh::Done
    });
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!((world.introspected(), world.asked()), (1, 1));
}

#[tokio::test]
async fn the_full_jwt_is_handed_on_where_the_policy_says_so() {
    const HEADER: HeaderName = HeaderName::from_static("x-auth-request-access-token");
    let world = World::introspecting(|rules| {
        rules.realms[0].introspection.as_mut().unwrap().keep_jwt = true;
        rules.policies[0].forward_jwt = Some(HEADER);
    });
    let forwarded = async |policy: &str, token: &str| {
        let Decision::Allow(grant) = world.decide(policy, token).await else { panic!() };
        let all: Vec<_> = grant.identity().collect();
        all.into_iter()
            .find(|(name, _)| *name == HEADER)
            .map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    let full = world.token(json!({}));
    world.answers(active(json!({ "jwt": full.clone() })));
    assert_eq!(forwarded("default", OPAQUE).await, Some(full.clone()), "the one of the answer");
    assert_eq!(forwarded("both", OPAQUE).await, None, "only where the policy says so");
    let presented = world.token(json!({ "azp": "other" }));
    assert_eq!(forwarded("default", &presented).await, Some(presented), "a full one as it came");
    world.answers(active(json!({ "jti": "onltac:5c0ffee5" })));
    let light = world.token(lightweight(json!({})));
    assert_eq!(forwarded("default", &light).await, Some(String::new()), "none was given");
}

#[tokio::test]
async fn a_jwt_that_nobody_asked_for_is_a_claim_like_any_other() {
    let world = World::introspecting(|rules| {
        rules.realms[0].introspection.as_mut().unwrap().prefer_jwt = false;
    });
    world.answers(active(json!({ "jwt": "of no meaning here" })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
}

#[tokio::test]
async fn the_header_type_of_the_full_jwt_is_our_own_clients() {
    let world = World::introspecting(|rules| {
        rules.realms[0].header_types = vec!["at+jwt".into()];
    });
    world.answers(active(json!({ "jwt": world.token(json!({})) })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    let header = json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" });
    let logout = world.key.sign_with_header(&header, &claims(json!({}))).unwrap();
    world.answers(active(json!({ "jwt": logout })));
    let denial = world.denial("default", "another-opaque-token").await;
    assert_eq!(denial, Some(Denial::IntrospectionUnavailable));
}

#[tokio::test]
async fn once_the_realm_was_asked_the_token_itself_is_no_longer_handed_on() {
    let world = World::introspecting(|rules| {
        rules.realms[0].introspection.as_mut().unwrap().use_for.all = true;
        rules.policies[0].forward_jwt = Some(HeaderName::from_static("x-jwt"));
    });
    // A role was taken away since the token was issued.
    world.answers(active(json!({ "realm_access": { "roles": ["user"] } })));
    let token = world.token(json!({ "realm_access": { "roles": ["admin"] } }));
    let Decision::Allow(grant) = world.decide("default", &token).await else { panic!() };
    let identity: HeaderMap = grant.identity().map(|(name, value)| (name.clone(), value)).collect();
    assert_eq!(identity["x-auth-request-roles"], "user");
    assert_eq!(identity["x-jwt"], "", "it would still say admin");
}

#[tokio::test]
async fn a_withdrawn_key_of_the_full_jwt_has_the_realm_asked_again() {
    let world = World::introspecting(|_| {});
    world.answers(active(json!({ "jwt": world.token(json!({})) })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    let new = ec_key("k2");
    world.live.publish_keys(ISSUER, jwks(&[&new]));
    world.answers(active(json!({ "jwt": new.sign(&claims(json!({}))).unwrap() })));
    assert_eq!(world.denial("default", OPAQUE).await, None);
    assert_eq!(world.introspected(), 2);
}
