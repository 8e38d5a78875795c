//! What to do about it.

use crate::check::{Denial, ReplyError};
use crate::issuer::FetchError;

/// Against an issuer that cannot be asked. The error itself says what happened.
pub(super) fn for_error(error: &FetchError) -> &'static str {
    match error {
        FetchError::Connect(why) if why.contains("fatal alert") => {
            "the realm refuses our TLS: is the CA of our certificate in Keycloak's `truststore-paths`?"
        }
        FetchError::Connect(_) => {
            "check name, port and firewall, and that Keycloak runs; a private CA belongs into `ca_file`; an \
             inside address into `fetch_base`"
        }
        FetchError::Timeout(_) | FetchError::Broken(_) => {
            "check that Keycloak is not overloaded, and that no proxy stands between (NO_PROXY)"
        }
        FetchError::Status(404) => "compare `issuer` with the claim `iss` of your tokens",
        FetchError::Status(401 | 403) => {
            "compare client_id, auth and the secret; if the answer is not Keycloak's, see what stands between"
        }
        FetchError::Status(_) => "see Keycloak's own log",
        FetchError::Redirect(_) => "use the final address, mostly https instead of http",
        FetchError::TooLarge | FetchError::NotJson(_) | FetchError::Malformed(_) => {
            "something else than Keycloak answers there: a login portal, a proxy's error page"
        }
        FetchError::Metadata(_) => {
            "compare with what the address answers in a browser; `endpoint` in [realm.introspection] names \
             one by hand"
        }
        FetchError::OtherIssuer(_) => {
            "set `issuer` to exactly that; or, if Keycloak is asked by an inside address, set Keycloak's \
             option `hostname` to the public URL"
        }
        FetchError::Insecure => {
            "use https; or insecure_http = true if the network between is yours alone"
        }
        FetchError::Keys(_) => "look into the realm's keys: Realm settings, Keys",
        FetchError::Credentials { status: 403, .. } => {
            "in Keycloak, that client: \"Client authentication\" on (a public client may not introspect)"
        }
        FetchError::Credentials { .. } => {
            "in Keycloak, that client, tab Credentials: compare authenticator and secret with client_id, \
             auth and client_secret here; with private_key_jwt, tab Keys: is the certificate or JWKS of this \
             key there? (after an import wait 10 s)"
        }
        FetchError::Secret(_) => "see that this user may read the file",
        FetchError::Busy | FetchError::Open => "try again in a moment",
        FetchError::Reply(ReplyError::Signature) => {
            "the realm's signed answers must be by its published keys, for our client; compare both clocks"
        }
        FetchError::Reply(_) => "something else than an introspection endpoint answers there",
    }
}

/// Against lightweight tokens that nobody is asked about: no mapper helps there.
pub(super) const ADD_INTROSPECTION: &str = "add [realm.introspection]: the token leaves out what the policy needs, and only the realm can tell";

/// Against a token that is refused; empty where the refusal says it all.
pub(super) fn for_denial(denial: Denial) -> &'static str {
    match denial {
        Denial::Audience => {
            "in Keycloak, add an audience mapper for one of these to the client that obtains the tokens (if \
             the realm was asked, with \"Add to token introspection\" on); or correct `audience`"
        }
        Denial::Issuer => {
            "compare with `issuer`, byte for byte; if it changes with the address by which Keycloak is \
             called, set Keycloak's option `hostname`"
        }
        Denial::Opaque => {
            "add [realm.introspection] to the realm that issued it, with \"opaque\" in `use_for`; if several \
             realms of the policy have it, `introspect_realm` to the policy"
        }
        Denial::Inactive => {
            "its session has ended, or the realm misses our client in its audience: `vidimus doctor -c FILE - \
             <TOKEN_FILE` tells more"
        }
        Denial::TokenType => "send the access token, not the ID or refresh token",
        Denial::AlgorithmForbidden => {
            "put its algorithm into `algorithms`; symmetric ones (refresh tokens have one) are never accepted"
        }
        Denial::HeaderType => "put its `typ` into `header_types`",
        Denial::NotYetValid | Denial::IssuedInFuture => {
            "compare both clocks (NTP), or raise `leeway`"
        }
        Denial::Expired => "get a fresh one; if it is fresh, compare both clocks (NTP)",
        Denial::KeyUnknown => "it was issued by another Keycloak or before its keys were replaced",
        Denial::Signature => "it was changed after it was issued, or cut off when it was copied",
        Denial::CertificateMissing => {
            "give its certificate (--certificate FILE) to have it compared. In the sidecar: the client must \
             show the certificate that it got the token with, and the edge forward it, see [client_certificate]"
        }
        Denial::CertificateMismatch => {
            "the client must show the certificate that it got the token with"
        }
        Denial::CertificateUnacceptable => {
            "renew the client's certificate, or compare it with the rules of [client_certificate]"
        }
        Denial::CertificateUntrusted => "put the edge's address into `trusted_proxies`",
        Denial::CertificateMalformed => {
            "compare `provider` in [client_certificate] with what the edge sends"
        }
        Denial::CertificateRepeated => "the edge must delete the client's own copy of the header",
        Denial::ConfirmationMissing => {
            "in Keycloak, that client, tab Advanced: OAuth 2.0 Mutual TLS Certificate Bound Access Tokens Enabled, on"
        }
        Denial::ConfirmationUnknown => "Vidimus knows x5t#S256 (RFC 8705)",
        Denial::DpopUnproven => "Vidimus cannot check DPoP proofs yet",
        Denial::ScopeMissing => {
            "the client must ask for the scope, and Keycloak have it as a client scope with \"Include in \
             token scope\""
        }
        Denial::RoleMissing => "give the user or service account one of these roles",
        Denial::IntrospectionUnavailable | Denial::KeysUnavailable | Denial::KeysCoolingDown => {
            "`vidimus doctor` says what is wrong with the realm"
        }
        Denial::VerificationUnavailable => {
            "too many tokens came at once whose signature takes long: have Keycloak sign with ES256 or RS256"
        }
        Denial::PolicyUnknown => "write [policy.NAME], or correct --policy",
        Denial::QuestionUnreadable => "see the log: it says why",
        Denial::TokenTooLarge => {
            "raise max_size in [token], and with it what the edge takes as headers (nginx: large_client_header_buffers)"
        }
        Denial::TokenMalformed | Denial::CredentialMalformed => {
            "give the token alone, as it stands after \"Bearer \""
        }
        Denial::ClaimMalformed
        | Denial::CriticalHeader
        | Denial::CredentialRepeated
        | Denial::Encrypted
        | Denial::ExpiryMissing
        | Denial::KeyAlgorithm
        | Denial::KeyIdMissing
        | Denial::NoCredential => "",
    }
}
