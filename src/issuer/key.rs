//! Keys that sign: our client's, for `private_key_jwt`, and those of the embedded issuer, which are made
//! when it starts and never stored.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::check::Algorithm;

/// A private key under a `kid`, for one algorithm.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    pair: Arc<Pair>,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    /// ES512, which ring does not have.
    #[cfg(feature = "aws-lc")]
    Ecdsa521(aws_lc_rs::signature::EcdsaKeyPair),
}

/// The machine could not make a key: no randomness, or not a key of that algorithm.
#[derive(Debug)]
pub struct KeyError;

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no signing key of that algorithm")
    }
}

impl std::error::Error for KeyError {}

impl SigningKey {
    /// Makes a new ES256, ES384 or EdDSA key; with the feature `aws-lc` also one for ES512. (ring does not make RSA keys: see
    /// [`Self::from_rsa_pkcs8`].)
    ///
    /// # Errors
    /// For RSA algorithms, or without randomness.
    pub fn generate(kid: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let ecdsa = |curve| {
            let document = EcdsaKeyPair::generate_pkcs8(curve, &random).map_err(|_| KeyError)?;
            EcdsaKeyPair::from_pkcs8(curve, document.as_ref(), &random).map_err(|_| KeyError)
        };
        let pair = match algorithm {
            Algorithm::ES256 => Pair::Ecdsa(ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            Algorithm::ES384 => Pair::Ecdsa(ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)?),
            Algorithm::EdDSA => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| KeyError)?;
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError)?)
            }
            #[cfg(feature = "aws-lc")]
            Algorithm::ES512 => {
                use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
                let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING);
                Pair::Ecdsa521(pair.map_err(|_| KeyError)?)
            }
            _ => return Err(KeyError),
        };
        Ok(Self { kid: kid.to_owned(), algorithm, pair: Arc::new(pair) })
    }

    /// Takes an RSA key (PKCS #8, DER) for one of RS* or PS*.
    ///
    /// # Errors
    /// If it is no RSA key, or the algorithm not RSA's.
    pub fn from_rsa_pkcs8(kid: &str, algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        rsa_encoding(algorithm).ok_or(KeyError)?;
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError)?;
        Ok(Self { kid: kid.to_owned(), algorithm, pair: Arc::new(Pair::Rsa(pair)) })
    }

    /// Reads a private key (PKCS #8, PEM: `-----BEGIN PRIVATE KEY-----`) for one algorithm.
    ///
    /// # Errors
    /// If there is none, or it is not for that algorithm.
    pub fn from_pem(kid: &str, algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError)?;
        let der = key.secret_pkcs8_der();
        let ecdsa = |curve| EcdsaKeyPair::from_pkcs8(curve, der, &SystemRandom::new());
        let pair = match algorithm {
            Algorithm::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ecdsa),
            Algorithm::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Pair::Ecdsa),
            #[cfg(feature = "aws-lc")]
            Algorithm::ES512 => {
                use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, der);
                Ok(Pair::Ecdsa521(pair.map_err(|_| KeyError)?))
            }
            // openssl leaves the public half out, which ring would like to compare.
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519),
            _ => return Self::from_rsa_pkcs8(kid, algorithm, der),
        };
        let pair = Arc::new(pair.map_err(|_| KeyError)?);
        Ok(Self { kid: kid.to_owned(), algorithm, pair })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, as a realm publishes it.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2); // after the sign that both are there
            json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
        };
        let mut jwk = match &*self.pair {
            Pair::Ecdsa(pair) => {
                let point = pair.public_key().as_ref();
                ec(if point.len() == 65 { "P-256" } else { "P-384" }, point)
            }
            #[cfg(feature = "aws-lc")]
            Pair::Ecdsa521(pair) => {
                ec("P-521", aws_lc_rs::signature::KeyPair::public_key(pair).as_ref())
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) })
            }
            Pair::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": text(&public.n), "e": text(&public.e) })
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm.name());
        jwk
    }

    /// Signs claims as Keycloak does: header `alg`, `typ: JWT`, `kid` unless it is empty.
    ///
    /// # Errors
    /// Without randomness.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let mut header = json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        if !self.kid.is_empty() {
            header["kid"] = json!(self.kid);
        }
        self.sign_with_header(&header, claims)
    }

    /// Signs under any header.
    ///
    /// # Errors
    /// Without randomness.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> Result<String, KeyError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The bare signature over a message.
    ///
    /// # Errors
    /// Without randomness.
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Ecdsa(pair) => {
                pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError)
            }
            #[cfg(feature = "aws-lc")]
            Pair::Ecdsa521(pair) => {
                let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message);
                signature.map(|s| s.as_ref().to_vec()).map_err(|_| KeyError)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(self.algorithm).ok_or(KeyError)?;
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).map_err(|_| KeyError)?;
                Ok(signature)
            }
        }
    }
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_SHA256),
        Algorithm::PS384 => Some(&RSA_PSS_SHA384),
        Algorithm::PS512 => Some(&RSA_PSS_SHA512),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 | Algorithm::EdDSA => None,
    }
}
