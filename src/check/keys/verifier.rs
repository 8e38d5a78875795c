//! The seam to the library that computes signatures: ring, or AWS-LC with the feature `aws-lc`.

use super::{Algorithm, Public, SkipReason};

/// A public key, made ready as far as the library can.
pub(super) trait Verify: Clone + Send + Sync + Sized {
    /// For this algorithm, which fits the key.
    ///
    /// # Errors
    /// If the library cannot use it.
    fn new(algorithm: Algorithm, public: Public) -> Result<Self, SkipReason>;

    /// Whether `signature` over `message` was made with the private half.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool;
}

#[cfg(not(feature = "aws-lc"))]
pub(super) use by_ring::Verifier;

#[cfg(feature = "aws-lc")]
pub(super) use by_aws_lc::Verifier;

#[cfg(not(feature = "aws-lc"))]
mod by_ring {
    use ring::signature::*;

    use super::{Algorithm, Public, SkipReason, Verify};

    /// ring has no prepared keys: it reads the numbers at each signature.
    #[derive(Clone)]
    pub(in super::super) struct Verifier {
        algorithm: Algorithm,
        public: Public,
    }

    impl Verify for Verifier {
        fn new(algorithm: Algorithm, public: Public) -> Result<Self, SkipReason> {
            match algorithm {
                Algorithm::ES512 => Err("ES512 needs a build with the feature aws-lc"),
                _ => Ok(Self { algorithm, public }),
            }
        }

        fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
            let rsa = |parameters| match &self.public {
                Public::Rsa { n, e } => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
                }
                Public::Point(_) => false,
            };
            let point = |algorithm: &'static dyn VerificationAlgorithm| match &self.public {
                Public::Point(point) => {
                    UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
                }
                Public::Rsa { .. } => false,
            };
            match self.algorithm {
                Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
                Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
                Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
                Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
                Algorithm::PS384 => rsa(&RSA_PSS_2048_8192_SHA384),
                Algorithm::PS512 => rsa(&RSA_PSS_2048_8192_SHA512),
                Algorithm::ES256 => point(&ECDSA_P256_SHA256_FIXED),
                Algorithm::ES384 => point(&ECDSA_P384_SHA384_FIXED),
                Algorithm::ES512 => false,
                Algorithm::EdDSA => point(&ED25519),
            }
        }
    }
}

#[cfg(feature = "aws-lc")]
mod by_aws_lc {
    use aws_lc_rs::signature::*;

    use super::{Algorithm, Public, SkipReason, Verify};

    /// The key as AWS-LC reads it, once.
    #[derive(Clone)]
    pub(in super::super) struct Verifier(ParsedPublicKey);

    impl Verify for Verifier {
        fn new(algorithm: Algorithm, public: Public) -> Result<Self, SkipReason> {
            let rsa = |parameters: &'static RsaParameters| match &public {
                Public::Rsa { n, e } => {
                    RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
                }
                Public::Point(_) => None,
            };
            let point = |algorithm: &'static dyn VerificationAlgorithm| match &public {
                Public::Point(point) => ParsedPublicKey::new(algorithm, point).ok(),
                Public::Rsa { .. } => None,
            };
            let key = match algorithm {
                Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
                Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
                Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
                Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
                Algorithm::PS384 => rsa(&RSA_PSS_2048_8192_SHA384),
                Algorithm::PS512 => rsa(&RSA_PSS_2048_8192_SHA512),
                Algorithm::ES256 => point(&ECDSA_P256_SHA256_FIXED),
                Algorithm::ES384 => point(&ECDSA_P384_SHA384_FIXED),
                Algorithm::ES512 => point(&ECDSA_P521_SHA512_FIXED),
                Algorithm::EdDSA => point(&ED25519),
            };
            key.map(Self).ok_or("its numbers are no key")
        }

        fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
            self.0.verify_sig(message, signature).is_ok()
        }
    }
}
