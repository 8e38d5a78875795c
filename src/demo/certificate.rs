//! The client's certificate of the samples, as each proxy forwards it.

use crate::config::Provider;
use crate::testing::samples::CERTIFICATE;

/// The header in which the files of deploy/ forward it, and its value. The providers of whole
/// certificates read each other's spelling.
pub(super) fn forwarded(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::Nginx => ("ssl-client-cert", DER),
        Provider::Envoy => ("x-forwarded-client-cert", HASH),
        Provider::Haproxy => ("SSL_CLIENT_CERT", DER),
        // Behind Apache stands nginx, which drops names with underscores.
        Provider::Apache => ("SSL-Client-Cert", DER),
        Provider::Rfc9440 => ("Client-Cert", DER),
        Provider::Traefik => ("X-Forwarded-Tls-Client-Cert", DER),
        Provider::AwsAlb => ("X-Amzn-Mtls-Clientcert-Leaf", DER),
        Provider::Thumbprint => ("X-Client-Cert-Sha256", CERTIFICATE),
    }
}

/// [`CERTIFICATE`] as Envoy says it.
const HASH: &str = "Hash=0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";

/// RFC 8705's own example, appendix A.
const DER: &str = "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";
