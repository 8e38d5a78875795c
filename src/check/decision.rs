//! What comes out, and the one table from a refusal to its answer.

use std::fmt;
use std::sync::Arc;

use super::{Grant, Policy, RealmRules};

/// The judgement on one request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Let it pass, as this caller.
    Allow(Grant),
    /// Do not.
    Deny(Refusal),
}

impl Decision {
    /// `reason` in metrics and logs: `ok`, or the denial's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Allow(_) => "ok",
            Self::Deny(refusal) => refusal.denial.answer().label,
        }
    }
}

/// A denial, and under which policy and realm it fell, as far as those were known.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which rule.
    pub denial: Denial,
    /// The policy, if it exists.
    pub policy: Option<Arc<Policy>>,
    /// The realm, once the token was known to be its own.
    pub realm: Option<Arc<RealmRules>>,
}

/// As an error: the denial's text, and nothing of policy and realm.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.denial.fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// Which rule refused. Each has its row in [`Denial::answer`], and no other meaning anywhere. As text it is
/// the row's description, which holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denial {
    /// `alg` is `none`, symmetric, unknown, or not in the realm's list (RFC 8725 §3.1).
    AlgorithmForbidden,
    /// `aud` names none of the audiences the realm or the policy accepts.
    Audience,
    /// A claim that is looked at is missing its type: text where a number belongs, and the like.
    ClaimMalformed,
    /// What the edge forwards as the client's certificate is none.
    CertificateMalformed,
    /// The token is bound to another certificate (RFC 8705 §3).
    CertificateMismatch,
    /// The token is bound to a certificate, and the client has shown none.
    CertificateMissing,
    /// The client's certificate came more than once, or from two places: one may be the client's own
    /// invention, or the proxy's.
    CertificateRepeated,
    /// The client's certificate has expired, or is not of an authority or kind that is asked for.
    CertificateUnacceptable,
    /// The token is bound to a certificate, and whoever asks may not speak for a client.
    CertificateUntrusted,
    /// The policy wants a token that is bound, and this one is not, or not in that way.
    ConfirmationMissing,
    /// A `cnf` (RFC 7800) of a kind or shape that nobody here understands.
    ConfirmationUnknown,
    /// The JOSE header has `crit`: an extension nobody here understands (RFC 7515 §4.1.11).
    CriticalHeader,
    /// `Authorization: Bearer` without a well-formed token after it.
    CredentialMalformed,
    /// More than one credential, in one place or in several.
    CredentialRepeated,
    /// The token is bound to a DPoP key (RFC 9449), whose proof cannot be checked here yet.
    DpopUnproven,
    /// Five parts: a JWE, which Keycloak never issues as an access token.
    Encrypted,
    /// `exp` is missing: the token would never end.
    ExpiryMissing,
    /// `exp` is past.
    Expired,
    /// The JOSE header's `typ` is none of the realm's `header_types`.
    HeaderType,
    /// The issuer says that the token is not active: expired, revoked, its user logged out, or unknown.
    Inactive,
    /// The issuer would have to be asked about the token (RFC 7662), and cannot be now.
    IntrospectionUnavailable,
    /// `iat` lies in the future.
    IssuedInFuture,
    /// `iss` is no realm of the policy.
    Issuer,
    /// The key with that `kid` is for another algorithm.
    KeyAlgorithm,
    /// The JOSE header has no `kid`.
    KeyIdMissing,
    /// No published signing key has that `kid`.
    KeyUnknown,
    /// An unknown `kid` so soon after the last forced fetch that no other is allowed yet.
    KeysCoolingDown,
    /// The realm's keys were never had, are too old, or cannot be fetched now.
    KeysUnavailable,
    /// No credential.
    NoCredential,
    /// `nbf` lies in the future.
    NotYetValid,
    /// Not a JWS, and the policy names nobody to ask about it.
    Opaque,
    /// The edge named a policy that does not exist.
    PolicyUnknown,
    /// What the edge's proxy asked could not be read: no question, too long, or too slow.
    QuestionUnreadable,
    /// None of the policy's roles.
    RoleMissing,
    /// Not all of the policy's scopes.
    ScopeMissing,
    /// The signature is not that key's.
    Signature,
    /// Not a well-formed JWS: parts, base64url, JSON, duplicate members.
    TokenMalformed,
    /// Longer than the limit.
    TokenTooLarge,
    /// The signature takes long to verify, and too many of that kind wait.
    VerificationUnavailable,
    /// Claim `typ` is not `Bearer` or `DPoP`: an ID, refresh, offline or logout token.
    TokenType,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.answer().description)
    }
}

impl std::error::Error for Denial {}

/// How a denial leaves: the same for every edge, before the edge's own habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The error code of RFC 6750 §3.1, or none where no token came.
    pub error: Option<&'static str>,
    /// `reason` in metrics and logs.
    pub label: &'static str,
    /// `error_description`: names the rule, never anything the caller sent.
    pub description: &'static str,
}

impl Answer {
    /// The same as a code of gRPC (`google.rpc.Code`).
    pub const fn grpc_code(self) -> u8 {
        match self.status {
            400 => 3,  // INVALID_ARGUMENT
            401 => 16, // UNAUTHENTICATED
            503 => 14, // UNAVAILABLE
            _ => 7,    // PERMISSION_DENIED
        }
    }
}

impl Denial {
    /// Every denial once: for metrics, and for tests that must cover all.
    pub const ALL: &'static [Self] = &[
        Self::AlgorithmForbidden,
        Self::Audience,
        Self::ClaimMalformed,
        Self::CertificateMalformed,
        Self::CertificateMismatch,
        Self::CertificateMissing,
        Self::CertificateRepeated,
        Self::CertificateUnacceptable,
        Self::CertificateUntrusted,
        Self::ConfirmationMissing,
        Self::ConfirmationUnknown,
        Self::CriticalHeader,
        Self::CredentialMalformed,
        Self::CredentialRepeated,
        Self::DpopUnproven,
        Self::Encrypted,
        Self::ExpiryMissing,
        Self::Expired,
        Self::HeaderType,
        Self::Inactive,
        Self::IntrospectionUnavailable,
        Self::IssuedInFuture,
        Self::Issuer,
        Self::KeyAlgorithm,
        Self::KeyIdMissing,
        Self::KeyUnknown,
        Self::KeysCoolingDown,
        Self::KeysUnavailable,
        Self::NoCredential,
        Self::NotYetValid,
        Self::Opaque,
        Self::PolicyUnknown,
        Self::QuestionUnreadable,
        Self::RoleMissing,
        Self::ScopeMissing,
        Self::Signature,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::VerificationUnavailable,
        Self::TokenType,
    ];

    /// The table. Exhaustive on purpose: a new denial without its row does not compile.
    ///
    #[doc = include_str!("denials.md")]
    pub const fn answer(self) -> Answer {
        match self {
            Self::NoCredential => Answer {
                status: 401,
                error: None,
                label: "no_credential",
                description: "no access token was sent",
            },

            Self::CredentialMalformed => {
                bad_request("credential_malformed", "the credential is not a bearer token")
            }
            Self::CredentialRepeated => {
                bad_request("credential_repeated", "more than one credential was sent")
            }

            Self::TokenTooLarge => bad_token("token_too_large", "the token is too large"),
            Self::TokenMalformed => bad_token("token_malformed", "the token is malformed"),
            Self::Opaque => bad_token("token_opaque", "the token is not a JWT"),
            Self::Encrypted => bad_token("token_encrypted", "encrypted tokens are not accepted"),
            Self::CriticalHeader => {
                bad_token("critical_header", "the token asks for an unknown critical extension")
            }
            Self::AlgorithmForbidden => {
                bad_token("algorithm", "the token's signature algorithm is not accepted")
            }
            Self::HeaderType => bad_token("header_type", "the token's header type is not accepted"),
            Self::ClaimMalformed => {
                bad_token("claim_malformed", "a claim of the token has the wrong type")
            }
            Self::Issuer => bad_token("issuer", "the token's issuer is not accepted here"),
            Self::TokenType => bad_token("token_type", "the token is not an access token"),
            Self::ExpiryMissing => bad_token("expiry_missing", "the token has no expiry"),
            Self::Expired => bad_token("expired", "the token has expired"),
            Self::NotYetValid => bad_token("not_yet_valid", "the token is not valid yet"),
            Self::IssuedInFuture => {
                bad_token("issued_in_future", "the token was issued in the future")
            }
            Self::KeyIdMissing => bad_token("key_id_missing", "the token names no signing key"),
            Self::KeyUnknown => {
                bad_token("key_unknown", "the token's signing key is not published by its issuer")
            }
            Self::KeyAlgorithm => {
                bad_token("key_algorithm", "the token's signing key is for another algorithm")
            }
            Self::Signature => bad_token("signature", "the token's signature is not valid"),
            Self::Audience => bad_token("audience", "the token is not meant for this service"),
            Self::Inactive => bad_token("inactive", "the token is not active"),
            Self::CertificateMalformed => bad_request(
                "certificate_malformed",
                "the client certificate that was forwarded cannot be read",
            ),
            Self::CertificateRepeated => bad_request(
                "certificate_repeated",
                "it is not clear which certificate is the client's",
            ),
            Self::CertificateMismatch => bad_token(
                "certificate_mismatch",
                "the token is bound to another client certificate",
            ),
            Self::CertificateMissing => bad_token(
                "certificate_missing",
                "the token is bound to a client certificate and none was shown",
            ),
            Self::CertificateUnacceptable => bad_token(
                "certificate_unacceptable",
                "the client certificate has expired or is not accepted here",
            ),
            Self::CertificateUntrusted => bad_token(
                "certificate_untrusted",
                "the token is bound to a client certificate and this proxy may not forward one",
            ),
            Self::ConfirmationMissing => bad_token(
                "confirmation_missing",
                "the token is not bound to a key as it must be here",
            ),
            Self::ConfirmationUnknown => bad_token(
                "confirmation_unknown",
                "the token is bound to a key in a way that is not known here",
            ),
            Self::DpopUnproven => bad_token(
                "dpop_unproven",
                "the token is bound to a DPoP key, whose proof cannot be checked here",
            ),

            Self::ScopeMissing => no_rights("scope", "the token lacks a scope"),
            Self::RoleMissing => no_rights("role", "the token lacks a role"),
            Self::PolicyUnknown => Answer {
                status: 403,
                error: Some("access_denied"),
                label: "policy_unknown",
                description: "the policy that was asked for does not exist",
            },

            Self::KeysUnavailable => {
                cannot_decide("keys_unavailable", "the issuer's keys are out of reach")
            }
            Self::QuestionUnreadable => {
                cannot_decide("question_unreadable", "the proxy's question could not be read")
            }
            Self::KeysCoolingDown => {
                cannot_decide("keys_cooling_down", "the token's signing key is not known yet")
            }
            Self::IntrospectionUnavailable => cannot_decide(
                "introspection_unavailable",
                "the issuer cannot be asked about the token now",
            ),
            Self::VerificationUnavailable => cannot_decide(
                "verification_unavailable",
                "the token's signature cannot be verified now",
            ),
        }
    }
}

const fn bad_request(label: &'static str, description: &'static str) -> Answer {
    Answer { status: 400, error: Some("invalid_request"), label, description }
}

const fn bad_token(label: &'static str, description: &'static str) -> Answer {
    Answer { status: 401, error: Some("invalid_token"), label, description }
}

const fn no_rights(label: &'static str, description: &'static str) -> Answer {
    Answer { status: 403, error: Some("insufficient_scope"), label, description }
}

/// Not the client's fault: never 401.
const fn cannot_decide(label: &'static str, description: &'static str) -> Answer {
    Answer { status: 503, error: Some("temporarily_unavailable"), label, description }
}

/// The value of `WWW-Authenticate` (RFC 6750 §3).
pub struct Challenge<'a>(&'a Refusal);

impl Refusal {
    /// The challenge that goes with a 401, or with a 403 that a better token would cure.
    pub fn challenge(&self) -> Option<Challenge<'_>> {
        match self.denial.answer() {
            Answer { status: 400 | 401, .. } => Some(Challenge(self)),
            Answer { error: Some("insufficient_scope"), .. } => Some(Challenge(self)),
            _ => None,
        }
    }
}

impl fmt::Display for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { denial, policy, .. } = self.0;
        let realm = policy.as_ref().map_or("vidimus", |policy| policy.name());
        write!(f, "Bearer realm=\"{realm}\"")?;
        let answer = denial.answer();
        if let Some(error) = answer.error {
            write!(f, ", error=\"{error}\", error_description=\"{}\"", answer.description)?;
        }
        if let (Denial::ScopeMissing, Some(policy)) = (denial, policy) {
            write!(f, ", scope=\"{}\"", policy.scopes.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_is_listed_once_with_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> =
            Denial::ALL.iter().map(|denial| denial.answer().label).collect();
        assert_eq!(labels.len(), Denial::ALL.len());
        // The last variant's number is the count: a variant that ALL lacks shows here.
        assert_eq!(Denial::TokenType as usize + 1, Denial::ALL.len());
        for (position, denial) in Denial::ALL.iter().enumerate() {
            assert_eq!(*denial as usize, position);
        }
    }

    #[test]
    fn the_documents_table_is_the_tables() {
        let table = include_str!("denials.md");
        assert_eq!(table.lines().count(), Denial::ALL.len() + 2);
        for denial in Denial::ALL {
            let Answer { status, error, label, .. } = denial.answer();
            let error = error.map_or_else(|| "none".to_owned(), |error| format!("`{error}`"));
            let row =
                format!("| [`{denial:?}`](Denial::{denial:?}) | {status} | {error} | `{label}` |");
            assert!(table.contains(&row), "denials.md lacks {row}");
        }
    }

    #[test]
    fn as_an_error_a_refusal_says_which_rule() {
        let refusal = Refusal { denial: Denial::Expired, policy: None, realm: None };
        let error: Box<dyn std::error::Error> = refusal.into();
        assert_eq!(error.to_string(), "the token has expired");
        assert_eq!(Denial::Expired.to_string(), error.to_string());
    }

    #[test]
    fn descriptions_are_fit_for_a_quoted_string() {
        // RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E
        for denial in Denial::ALL {
            let text = denial.answer().description;
            assert!(
                text.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)),
                "{text}"
            );
        }
    }

    #[test]
    fn no_token_means_a_challenge_without_an_error_code() {
        let refusal = Refusal { denial: Denial::NoCredential, policy: None, realm: None };
        assert_eq!(refusal.challenge().unwrap().to_string(), "Bearer realm=\"vidimus\"");
    }

    #[test]
    fn a_missing_scope_names_the_scopes_to_ask_for() {
        let mut policy = Policy::new("orders", vec![0]);
        policy.scopes = vec!["orders:read".into(), "orders:write".into()];
        let refusal =
            Refusal { denial: Denial::ScopeMissing, policy: Some(Arc::new(policy)), realm: None };
        assert_eq!(
            refusal.challenge().unwrap().to_string(),
            "Bearer realm=\"orders\", error=\"insufficient_scope\", \
             error_description=\"the token lacks a scope\", scope=\"orders:read orders:write\""
        );
    }

    #[test]
    fn an_outage_is_no_challenge() {
        let refusal = Refusal { denial: Denial::KeysUnavailable, policy: None, realm: None };
        assert!(refusal.challenge().is_none());
    }
}
