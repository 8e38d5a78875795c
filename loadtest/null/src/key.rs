//! Keys, made for one machine's load test. ring makes no RSA keys: openssl does.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::options::Options;

pub(crate) enum Key {
    Rs256(RsaKeyPair),
    Es384(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

pub(crate) fn make(options: &Options) -> Outcome {
    let random = SystemRandom::new();
    let key = match options.need("alg")? {
        "ES384" => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random),
        "EdDSA" => Ed25519KeyPair::generate_pkcs8(&random),
        other => return Err(format!("cannot make a key for {other}").into()),
    };
    let key = key.map_err(|_| "no randomness")?;
    std::fs::write(options.need("out")?, key.as_ref())?;
    Ok(())
}

pub(crate) fn publish(options: &Options) -> Outcome {
    let key = Key::of(options)?;
    if let (Key::Rs256(pair), Some(file)) = (&key, options.get("der")) {
        std::fs::write(file, pair.public_key().as_ref())?;
    }
    println!("{}", key.jwk(options.need("kid")?, options.need("alg")?));
    Ok(())
}

impl Key {
    pub(crate) fn of(options: &Options) -> Outcome<Self> {
        let bytes = std::fs::read(Path::new(options.need("key")?))?;
        let refused = |error| format!("the key is refused: {error}");
        Ok(match options.need("alg")? {
            "RS256" => Self::Rs256(RsaKeyPair::from_pkcs8(&bytes).map_err(refused)?),
            "ES384" => {
                let (algorithm, random) = (&ECDSA_P384_SHA384_FIXED_SIGNING, SystemRandom::new());
                Self::Es384(EcdsaKeyPair::from_pkcs8(algorithm, &bytes, &random).map_err(refused)?)
            }
            "EdDSA" => Self::EdDsa(Ed25519KeyPair::from_pkcs8(&bytes).map_err(refused)?),
            other => return Err(format!("no algorithm {other}").into()),
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Outcome<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| "no randomness";
        Ok(match self {
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                signature
            }
            Self::Es384(pair) => pair.sign(&random, message).map_err(failed)?.as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    fn jwk(&self, kid: &str, alg: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Rs256(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": text(&public.n), "e": text(&public.e) })
            }
            Self::Es384(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
                json!({ "kty": "EC", "crv": "P-384", "x": text(x), "y": text(y) })
            }
            Self::EdDsa(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(alg);
        jwk["use"] = json!("sig");
        jwk
    }
}
