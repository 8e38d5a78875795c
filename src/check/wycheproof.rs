//! The Wycheproof vectors (tests/data/wycheproof): what others got wrong.

use serde_json::{Value, json};

use super::token::Jws;
use super::verify::signed_by;
use super::*;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/wycheproof/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let document: Value = serde_json::from_str(&text).unwrap();
    document["testGroups"].as_array().unwrap().clone()
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn key_set(jwks: &Value) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes())
}

/// Runs signature vectors over keys made by `jwk` from each group; says how many were good and bad.
fn signatures(file: &str, jwk: impl Fn(&Value) -> Value) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for group in vectors(file) {
        let set = key_set(&json!([jwk(&group)])).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let passes = set.keys()[0].verify(&hex(&test["msg"]), &hex(&test["sig"]));
            match test["result"].as_str().unwrap() {
                "valid" => assert!(passes, "{file} {test}"),
                "invalid" => assert!(!passes, "{file} {test}"),
                // Legal by some reading; refusing is always right.
                "acceptable" => {}
                other => panic!("{other}"),
            }
            *if passes { &mut good } else { &mut bad } += 1;
        }
    }
    (good, bad)
}

fn rsa(algorithm: &str) -> impl Fn(&Value) -> Value {
    let algorithm = algorithm.to_owned();
    move |group| {
        let key = &group["publicKey"];
        let n = if key.is_object() {
            hex(&key["modulus"])
        } else {
            hex(&group["privateKey"]["modulus"])
        };
        let e = if key.is_object() { hex(&key["publicExponent"]) } else { vec![1, 0, 1] };
        json!({ "kty": "RSA", "kid": "w", "alg": algorithm, "n": base64url(&n), "e": base64url(&e) })
    }
}

fn ec(curve: &'static str) -> impl Fn(&Value) -> Value {
    move |group| {
        let point = hex(&group["publicKey"]["uncompressed"]);
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({ "kty": "EC", "kid": "w", "crv": curve, "x": base64url(x), "y": base64url(y) })
    }
}

#[test]
fn ecdsa_p256() {
    let (good, bad) = signatures("ecdsa_secp256r1_sha256_p1363_test.json", ec("P-256"));
    assert!(good > 100 && bad > 50, "{good} {bad}");
}

#[test]
fn ecdsa_p384() {
    let (good, bad) = signatures("ecdsa_secp384r1_sha384_p1363_test.json", ec("P-384"));
    assert!(good > 100 && bad > 50, "{good} {bad}");
}

#[test]
fn ed25519() {
    let jwk = |group: &Value| {
        let x = base64url(&hex(&group["publicKey"]["pk"]));
        json!({ "kty": "OKP", "kid": "w", "crv": "Ed25519", "x": x })
    };
    let (good, bad) = signatures("ed25519_test.json", jwk);
    assert!(good > 50 && bad > 50, "{good} {bad}");
}

#[test]
fn rsa_pkcs1() {
    let (good, bad) = signatures("rsa_signature_2048_sha256_test.json", rsa("RS256"));
    assert!(good >= 7 && bad > 200, "{good} {bad}");
}

#[test]
fn rsa_pss() {
    let (good, bad) = signatures("rsa_pss_2048_sha256_mgf1_32_test.json", rsa("PS256"));
    assert!(good > 20 && bad > 40, "{good} {bad}");
}

/// Whether a JWS would pass with these published keys, as far as signatures go.
fn passes(jws: &str, keys: &KeySet) -> bool {
    let Ok(jws) = Jws::parse(RawToken::new(jws), Limits::default()) else { return false };
    // A token must name its key; some vectors do not, and mean the only one there is.
    let kid = jws.header.key_id().unwrap_or_else(|| keys.keys()[0].kid());
    let found = signed_by(keys, kid, jws.header.algorithm, jws.signed, &jws.signature);
    matches!(found, Some(Ok(_)))
}

/// RFC 7520's example signs PS384 with a key published for PS256: one key, one algorithm here.
const OURS: [&str; 1] = ["Figure20"];

#[test]
fn jws() {
    let (mut good, mut bad, mut without_keys) = (0, 0, 0);
    for file in ["json_web_signature_test.json", "json_web_key_test.json"] {
        for group in vectors(file) {
            for test in group["tests"].as_array().unwrap() {
                let jws = match &test["jws"] {
                    Value::String(jws) => jws.clone(),
                    other => other.to_string(), // the JSON serialisation is no bearer token
                };
                let mut one = None;
                let keys = match group.get("public") {
                    Some(public) => {
                        key_set(public.get("keys").unwrap_or_else(|| one.insert(json!([public]))))
                    }
                    None => key_set(&json!([group["private"]])), // symmetric: no key of ours
                };
                let Ok(keys) = &keys else {
                    without_keys += 1;
                    continue;
                };
                let passes = passes(&jws, keys);
                *if passes { &mut good } else { &mut bad } += 1;
                let symmetric = jws.starts_with("eyJhbGciOiJIUz"); // {"alg":"HS
                match test["result"].as_str().unwrap() {
                    "valid" if OURS.contains(&test["comment"].as_str().unwrap()) => {
                        assert!(!passes);
                    }
                    "valid" if !symmetric => assert!(passes, "{file} {} {test}", group["comment"]),
                    _ => assert!(!passes, "{file} {} {test}", group["comment"]),
                }
            }
        }
    }
    println!("jws: {good} good, {bad} bad, {without_keys} under keys that are never published");
    assert!(good > 20 && bad > 200, "{good} {bad} {without_keys}");
}
