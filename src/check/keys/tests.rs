use serde_json::{Value, json};

use super::*;

/// RFC 8037 appendix A.2.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn ed(change: Value) -> Value {
    let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "alg": "EdDSA", "x": ED25519 });
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => jwk.as_object_mut().unwrap().remove(name),
            _ => jwk.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    jwk
}

fn rsa(bits: usize, change: Value) -> Value {
    let mut n = vec![0xff; bits / 8];
    if !bits.is_multiple_of(8) {
        n.insert(0, (1 << (bits % 8)) - 1);
    }
    let mut jwk = json!({ "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(n) });
    for (name, value) in change.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

fn read(entries: &[Value]) -> KeySet {
    let document = json!({ "keys": entries }).to_string();
    match KeySet::parse(document.as_bytes()) {
        Ok(set) => set,
        Err(KeySetError::NoUsableKey(skipped)) => KeySet { keys: Vec::new(), skipped },
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_key_is_bound_to_one_algorithm_when_it_is_read() {
    let set = read(&[
        ed(json!({})),
        ed(json!({ "alg": null, "use": null })),
        rsa(2048, json!({ "alg": "PS512" })),
        rsa(8192, json!({})),
        json!({ "kty": "RSA", "kid": "r", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 256]) }),
    ]);
    let algorithms: Vec<_> = set.keys().iter().map(Key::algorithm).collect();
    use Algorithm::*;
    assert_eq!(algorithms, [EdDSA, EdDSA, PS512, RS256, RS256]);
    assert_eq!(set.skipped(), []);
}

#[test]
fn what_cannot_verify_is_skipped_and_never_fatal() {
    let point = URL_SAFE_NO_PAD.encode([1; 32]);
    let ec = |crv: &str, alg: &str, x: &str| json!({ "kty": "EC", "kid": "e", "crv": crv, "alg": alg, "x": x, "y": point });
    for (name, entry) in [
        ("for encryption", ed(json!({ "use": "enc" }))),
        ("Keycloak's RSA-OAEP", rsa(2048, json!({ "use": "enc", "alg": "RSA-OAEP" }))),
        ("for SPIFFE", ed(json!({ "use": "jwt-svid" }))),
        ("key_ops without verify", ed(json!({ "use": null, "key_ops": ["sign"] }))),
        ("key_ops of a wrong type", ed(json!({ "key_ops": "verify" }))),
        ("no kid", ed(json!({ "kid": null }))),
        ("kid a number", ed(json!({ "kid": 1 }))),
        ("private", ed(json!({ "d": ED25519 }))),
        ("symmetric", json!({ "kty": "oct", "kid": "o", "alg": "HS256", "k": "AAAA" })),
        ("alg for another kty", ed(json!({ "alg": "RS256" }))),
        ("alg symmetric", rsa(2048, json!({ "alg": "HS256" }))),
        ("alg none", rsa(2048, json!({ "alg": "none" }))),
        ("alg a number", rsa(2048, json!({ "alg": 1 }))),
        ("alg unknown", rsa(2048, json!({ "alg": "RS999" }))),
        ("EC alg for RSA", rsa(2048, json!({ "alg": "ES256" }))),
        ("short RSA", rsa(2047, json!({}))),
        ("1024 bits", rsa(1024, json!({}))),
        ("long RSA", rsa(8193, json!({}))),
        ("even exponent", rsa(2048, json!({ "e": "AQAC" }))),
        ("exponent 1", rsa(2048, json!({ "e": "AQ" }))),
        ("exponent 0", rsa(2048, json!({ "e": "AA" }))),
        ("no exponent", rsa(2048, json!({ "e": "" }))),
        ("huge exponent", rsa(2048, json!({ "e": "AQAAAAAB" }))),
        ("padded base64", rsa(2048, json!({ "e": "AQAB==" }))),
        ("short point", ec("P-256", "ES256", "AQ")),
        ("wrong curve for alg", ec("P-256", "ES384", &point)),
        ("P-521", ec("P-521", "ES512", &point)),
        ("secp256k1", ec("secp256k1", "ES256K", &point)),
        ("Ed448", ed(json!({ "crv": "Ed448" }))),
        ("short Ed25519", ed(json!({ "x": "AQ" }))),
        ("no kty", ed(json!({ "kty": null }))),
        ("post-quantum", json!({ "kty": "AKP", "kid": "m", "alg": "ML-DSA-65", "pub": "AAAA" })),
        ("a text", json!("key")),
        ("null", json!(null)),
    ] {
        let set = read(&[entry, ed(json!({ "kid": "good" }))]);
        assert_eq!(set.skipped().len(), 1, "{name}");
        assert_eq!(set.keys().len(), 1, "{name}: the good one stays");
    }
}

#[test]
fn a_document_that_is_no_jwks_is_refused_whole() {
    for (document, expected) in [
        ("{}", KeySetError::NotAKeySet),
        ("[]", KeySetError::NotAKeySet),
        (r#"{"keys":{}}"#, KeySetError::NotAKeySet),
        (r#"{"keys":[]}"#, KeySetError::NoUsableKey(Vec::new())),
        (r#"{"keys":[],"keys":[]}"#, KeySetError::Json(JsonError::Duplicate)),
    ] {
        assert_eq!(KeySet::parse(document.as_bytes()).err(), Some(expected), "{document}");
    }
    for document in ["", "<html>", r#"{"keys":["#] {
        assert!(matches!(KeySet::parse(document.as_bytes()), Err(KeySetError::Json(_))));
    }
}

#[test]
fn a_key_id_changes_with_kid_algorithm_and_key() {
    let id = |entry| read(&[entry]).keys()[0].id();
    let first = id(rsa(2048, json!({})));
    assert_eq!(first, id(rsa(2048, json!({}))));
    assert_ne!(first, id(rsa(2048, json!({ "kid": "other" }))));
    assert_ne!(first, id(rsa(2048, json!({ "alg": "PS256" }))));
    assert_ne!(first, id(rsa(2056, json!({}))));
    let zero_led = URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat());
    assert_eq!(first, id(rsa(2048, json!({ "n": zero_led }))), "leading zeros change nothing");
}

#[test]
fn keys_with_one_kid_are_all_found() {
    let set = read(&[ed(json!({})), rsa(2048, json!({ "kid": "k" })), ed(json!({ "kid": "z" }))]);
    assert_eq!(set.with_kid("k").count(), 2);
    assert_eq!(set.with_kid("K").count(), 0);
}
