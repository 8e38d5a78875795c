//! Properties that hold for any input: nothing panics, nothing unsigned passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;
use vidimus::check::*;
use vidimus::testing::key::SigningKey;

fn verify_now(token: &str, keys: &[&SigningKey]) -> Verification {
    let mut realms = Realms::new(vec![rules(ISSUER)]).unwrap();
    let now = UnixTime::from_secs(NOW);
    realms.set_keys(0, jwks(keys), now);
    let policy = Policy::new("default", vec![0]);
    verify(RawToken::new(token), &policy, &realms, Limits::default(), now)
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..8)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_refused_and_nothing_panics(text in ".*") {
        let refused = matches!(verify_now(&text, &[&ec_key("k1")]), Verification::Reject { .. });
        prop_assert!(refused);
    }

    #[test]
    fn any_three_parts_are_refused_and_nothing_panics(
        header in json_value(), payload in json_value(), signature in prop::collection::vec(any::<u8>(), 0..128)
    ) {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.{}", part(&header), part(&payload), URL_SAFE_NO_PAD.encode(signature));
        let refused = matches!(verify_now(&token, &[&ec_key("k1")]), Verification::Reject { .. });
        prop_assert!(refused);
    }

    #[test]
    fn changing_any_byte_of_a_good_token_spoils_it(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let key = rsa_key("k1", Algorithm::RS256);
        let good = key.sign(&claims(json!({}))).unwrap();
        let passes = matches!(verify_now(&good, &[&key]), Verification::Verified(_));
        prop_assert!(passes);
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(changed) = String::from_utf8(bytes) {
            let passes = matches!(verify_now(&changed, &[&key]), Verification::Verified(_));
            prop_assert!(!passes, "at {}", at);
        }
    }

    #[test]
    fn any_claim_of_any_type_is_judged_without_panic(name in "(iss|aud|exp|nbf|iat|typ|scope|realm_access|resource_access|cnf|sub|azp|other)", value in json_value()) {
        let key = ec_key("k1");
        let token = key.sign(&claims(json!({ name: value }))).unwrap();
        let policy = Arc::new(Policy::new("default", vec![0]));
        let mut realms = Realms::new(vec![rules(ISSUER)]).unwrap();
        let now = UnixTime::from_secs(NOW);
        realms.set_keys(0, jwks(&[&key]), now);
        if let Verification::Verified(proof) = verify(RawToken::new(&token), &policy, &realms, Limits::default(), now)
            && let Ok(grant) = authorize(&Arc::new(proof), &policy, &realms, &NoCertificate, now)
        {
            for (_, value) in grant.identity() {
                prop_assert!(value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_jwks_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = KeySet::parse(&bytes);
    }

    #[test]
    fn any_entries_of_a_jwks_are_read_or_skipped(entries in prop::collection::vec(json_value(), 0..8)) {
        let good = ec_key("good").jwk();
        let count = entries.len();
        let mut entries = entries;
        entries.push(good);
        let set = KeySet::parse(json!({ "keys": entries }).to_string().as_bytes());
        let set = set.expect("one good key is enough");
        prop_assert_eq!((set.keys().len(), set.skipped().len()), (1, count));
    }

    #[test]
    fn strict_json_reads_what_serde_json_writes(value in json_value()) {
        let text = value.to_string();
        let ours = Json::parse(text.clone().into_bytes(), JsonLimits { depth: 64, values: 100_000 }).unwrap();
        let ours = serde_json::to_value(ours.root()).unwrap();
        prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).unwrap());
    }
}
