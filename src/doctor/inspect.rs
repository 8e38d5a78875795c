//! `vidimus inspect`: one token under one policy, rule by rule.
//!
//! The judgement is made by the same functions as in the sidecar, on keys and answers fetched anew; what
//! is told about the rules follows from where it ended. The token itself is never printed, nor is its
//! signature.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::given::{doubt, given};
use super::held::Held;
use super::remedy::{ADD_INTROSPECTION, for_denial, for_error};
use super::report::shown;
use super::{Error, Patient, Report};
use crate::check::{
    AudienceRule, Denial, Grant, Introspected, Limits, Policy, RawToken, RealmRules, UnixTime,
    Verification, Verified, authorize, verify,
};
use crate::config::Config;

/// The rules in the order in which they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Form,
    Claims,
    Issuer,
    Algorithm,
    Times,
    Key,
    Signature,
    Binding,
    Introspection,
    Audience,
    Scopes,
    Roles,
}

impl Rule {
    const ALL: [Self; 12] = [
        Self::Form,
        Self::Claims,
        Self::Issuer,
        Self::Algorithm,
        Self::Times,
        Self::Key,
        Self::Signature,
        Self::Binding,
        Self::Introspection,
        Self::Audience,
        Self::Scopes,
        Self::Roles,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Times => "times",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Binding => "binding",
            Self::Introspection => "introspection",
            Self::Audience => "audience",
            Self::Scopes => "scopes",
            Self::Roles => "roles",
        }
    }

    /// Where a token fell that was denied so.
    fn of(denial: Denial) -> Self {
        match denial {
            Denial::NoCredential
            | Denial::CredentialMalformed
            | Denial::CredentialRepeated
            | Denial::PolicyUnknown
            | Denial::QuestionUnreadable
            | Denial::TokenTooLarge
            | Denial::TokenMalformed
            | Denial::Encrypted
            | Denial::CriticalHeader => Self::Form,
            Denial::ClaimMalformed | Denial::TokenType | Denial::ExpiryMissing => Self::Claims,
            Denial::Issuer => Self::Issuer,
            Denial::AlgorithmForbidden | Denial::HeaderType => Self::Algorithm,
            Denial::Expired | Denial::NotYetValid | Denial::IssuedInFuture => Self::Times,
            Denial::KeyIdMissing
            | Denial::KeyUnknown
            | Denial::KeysUnavailable
            | Denial::KeysCoolingDown => Self::Key,
            Denial::KeyAlgorithm | Denial::Signature | Denial::VerificationUnavailable => {
                Self::Signature
            }
            Denial::CertificateMalformed
            | Denial::CertificateMismatch
            | Denial::CertificateMissing
            | Denial::CertificateRepeated
            | Denial::CertificateUnacceptable
            | Denial::CertificateUntrusted
            | Denial::ConfirmationMissing
            | Denial::ConfirmationUnknown
            | Denial::DpopUnproven => Self::Binding,
            Denial::Opaque | Denial::Inactive | Denial::IntrospectionUnavailable => {
                Self::Introspection
            }
            Denial::Audience => Self::Audience,
            Denial::ScopeMissing => Self::Scopes,
            Denial::RoleMissing => Self::Roles,
        }
    }
}

/// Explains what becomes of a token under a policy, if its client holds this certificate (PEM), or none.
///
/// # Errors
/// If the policy does not exist, the certificate is none, or a file that the configuration names cannot be
/// used.
pub async fn inspect(
    config: &Config,
    policy: &str,
    token: &str,
    certificate: Option<&str>,
) -> Result<Report, Error> {
    let held = Held::new(certificate, config.edge.certificate.as_ref())?;
    let names = config.rules.policies.iter().map(Policy::name).collect::<Vec<_>>().join(", ");
    let found = config.rules.policies.iter().find(|found| found.name() == policy);
    let found =
        found.ok_or_else(|| format!("there is no policy {policy:?}; there are: {names}"))?;
    let token = match given(token) {
        Ok(token) => token,
        Err((denial, instead)) => {
            let mut report = Report::default();
            report.title(format!("no token, under policy {policy}"));
            report.bad("form", instead.into(), for_denial(denial).into());
            report.title(verdict(denial));
            return Ok(report);
        }
    };
    let mut case = Case::new(config, found, token, held);
    let outcome = case.judge().await?;
    Ok(case.tell(outcome))
}

/// nginx knows no 400.
fn verdict(denial: Denial) -> String {
    let answer = denial.answer();
    let status = if answer.status == 400 { 401 } else { answer.status };
    format!("decision: {status}, reason {}: {}", answer.label, answer.description)
}

struct Case<'a> {
    config: &'a Config,
    policy: &'a Policy,
    token: RawToken<'a>,
    held: Held<'a>,
    /// As they stand in the token, unverified; after introspection, as the realm told them.
    header: Option<Value>,
    claims: Option<Value>,
    now: UnixTime,
    realm: Option<&'a RealmRules>,
    /// What went wrong on the way to the realm, with the remedy.
    trouble: Vec<(String, &'static str)>,
    /// How introspection went.
    introspection: Option<String>,
}

impl<'a> Case<'a> {
    fn new(config: &'a Config, policy: &'a Policy, token: RawToken<'a>, held: Held<'a>) -> Self {
        let part = |number: usize| {
            let part = token.expose().split('.').nth(number)?;
            let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
            serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
        };
        let (header, claims) = (part(0), part(1));
        let (now, realm) = (UnixTime::default(), None);
        let (trouble, introspection) = (Vec::new(), None);
        Self { config, policy, token, held, header, claims, now, realm, trouble, introspection }
    }

    async fn judge(&mut self) -> Result<Result<Grant, Denial>, Error> {
        let limits = self.config.rules.limits;
        if self.token.len() > limits.token {
            return Ok(Err(Denial::TokenTooLarge));
        }
        // Whose it says it is; or whom the policy asks about opaque ones.
        let realms = self.config.rules.realms.iter();
        let issuer = self.claims.as_ref().and_then(|claims| claims["iss"].as_str());
        let place = match issuer {
            Some(issuer) => realms.into_iter().position(|realm| *realm.issuer == *issuer),
            None => self.policy.introspect_realm,
        };
        let place = place.filter(|place| self.policy.accepts_realm(*place));
        let Some(place) = place else {
            return Ok(self.without_realm(limits));
        };
        self.realm = Some(&self.config.rules.realms[place]);
        let mut patient = Patient::new(self.config, place)?;
        self.fetch(&mut patient).await;

        let policy = Arc::new(self.alone(place));
        let presented = match verify(self.token, &policy, &patient.realms, limits, self.now) {
            Verification::Verified(verified) => Some(Arc::new(verified)),
            Verification::Introspect { .. } => None,
            Verification::Reject { denial, .. } => return Ok(Err(denial)),
            Verification::Needs(lookup) if lookup.has_keys => return Ok(Err(Denial::KeyUnknown)),
            Verification::Needs(_) => return Ok(Err(Denial::KeysUnavailable)),
        };
        if let Some(presented) = &presented {
            match authorize(presented, &policy, &patient.realms, &self.held, self.now) {
                Err(Denial::IntrospectionUnavailable) => {}
                decided => return Ok(decided),
            }
        }
        Ok(match self.introspect(&patient, presented.as_deref()).await {
            Ok(told) => authorize(&Arc::new(told), &policy, &patient.realms, &self.held, self.now),
            Err(denial) => Err(denial),
        })
    }

    /// No realm can be asked: what is wrong shows without keys.
    fn without_realm(&self, limits: Limits) -> Result<Grant, Denial> {
        let none = crate::check::Realms::new(Vec::new()).map_err(|_| Denial::Issuer)?;
        let policy = Policy::new(self.policy.name(), Vec::new());
        match verify(self.token, &policy, &none, limits, self.now) {
            Verification::Reject { denial, .. } => Err(denial),
            _ => Err(Denial::Issuer),
        }
    }

    /// The policy, over this one realm alone.
    fn alone(&self, place: usize) -> Policy {
        let mut policy = Policy::new(self.policy.name(), vec![0]);
        policy.audience = self.policy.audience.clone();
        policy.scopes = self.policy.scopes.clone();
        policy.roles = self.policy.roles.clone();
        policy.binding = self.policy.binding;
        policy.headers = self.policy.headers.clone();
        policy.forward_jwt = self.policy.forward_jwt.clone();
        policy.keep_jwt = self.policy.keep_jwt;
        policy.introspect_realm = (self.policy.introspect_realm == Some(place)).then_some(0);
        policy
    }

    async fn fetch(&mut self, patient: &mut Patient) {
        let fetched = match patient.probe.metadata().await {
            Ok(_) => patient.probe.keys().await,
            Err(error) => Err(error),
        };
        self.now = patient.live.now();
        match fetched {
            Ok(keys) => patient.realms.set_keys(0, keys, self.now),
            Err(error) => self.trouble.push((error.error.to_string(), for_error(&error.error))),
        }
    }

    async fn introspect(
        &mut self,
        patient: &Patient,
        presented: Option<&Verified>,
    ) -> Result<Verified, Denial> {
        let reply = patient.probe.introspect(&self.token.to_owned()).await.map_err(|error| {
            self.introspection = Some("asked in vain".into());
            self.trouble.push((error.error.to_string(), for_error(&error.error)));
            Denial::IntrospectionUnavailable
        })?;
        self.now = patient.live.now();
        match patient.read(&reply, presented) {
            Ok(Introspected::Active(told)) => {
                self.introspection = Some("asked: the realm calls it active".into());
                self.claims = serde_json::to_value(told.claims().all()).ok();
                Ok(told)
            }
            Ok(Introspected::Inactive) => {
                self.introspection = Some("the realm was asked".into());
                Err(Denial::Inactive)
            }
            Ok(Introspected::Refused(denial)) => {
                let why = denial.answer().description;
                self.introspection = Some(format!("the realm calls it active, yet {why}"));
                Err(denial)
            }
            other => {
                let why = match other {
                    Err(why) => why,
                    Ok(_) => "its answer is signed with a key that it does not publish".into(),
                };
                self.introspection = Some("asked in vain".into());
                self.trouble.push((why, "see `vidimus doctor`"));
                Err(Denial::IntrospectionUnavailable)
            }
        }
    }

    fn tell(&self, outcome: Result<Grant, Denial>) -> Report {
        let mut report = Report::default();
        let name = self.policy.name();
        report.title(format!("a token of {} bytes under policy {name}", self.token.len()));
        let denied = outcome.as_ref().err().copied();
        let mut fell = denied.map(Rule::of);
        if denied.is_some() && self.introspection.as_ref().is_some_and(|how| how.contains("yet")) {
            fell = Some(Rule::Introspection);
        }
        let opaque = self.header.is_none() || self.claims.is_none();
        let unsigned = [Rule::Algorithm, Rule::Key, Rule::Signature];
        for rule in Rule::ALL {
            let Some(found) = self.found(rule, opaque) else { continue };
            match (fell, denied) {
                (Some(fell), Some(denial)) if fell == rule => {
                    let description = denial.answer().description;
                    let cure = match denial {
                        Denial::Audience | Denial::ScopeMissing | Denial::RoleMissing
                            if self.lacks_introspection() =>
                        {
                            ADD_INTROSPECTION
                        }
                        denial => for_denial(denial),
                    };
                    report.bad(rule.name(), format!("{description}: {found}"), cure.into());
                    break;
                }
                _ if opaque && self.introspection.is_none() && unsigned.contains(&rule) => {}
                _ => report.good(rule.name(), found),
            }
        }
        if let Some(denial) = denied.filter(|_| report.is_good()) {
            // The rule it fell by is none that this kind of token shows.
            let rule = fell.map_or("token", Rule::name);
            report.bad(rule, denial.answer().description.into(), for_denial(denial).into());
        }
        for (what, remedy) in &self.trouble {
            report.note("the realm", what.clone(), (*remedy).into());
        }
        report.title(match &outcome {
            Ok(_) => "decision: 200, with these headers".into(),
            Err(denial) => verdict(*denial),
        });
        if let Ok(grant) = &outcome {
            for (header, value) in grant.identity() {
                let forwarded = self.policy.forward_jwt.as_ref() == Some(header);
                let value = match (forwarded, value.len()) {
                    (true, 1..) => format!("(the full JWT, {} bytes)", value.len()),
                    _ => shown(value.to_str().unwrap_or("")),
                };
                match forwarded && value.is_empty() {
                    false => report.good("header", format!("{header}: {value}")),
                    true => report.note(
                        "header",
                        format!("{header}: empty, there is no full JWT to forward"),
                        "prefer_jwt, and \"Support JWT claim in Introspection Response\" in Keycloak".into(),
                    ),
                }
            }
        }
        report
    }

    fn lacks_introspection(&self) -> bool {
        let jti = self.claims.as_ref().and_then(|claims| claims["jti"].as_str()).unwrap_or("");
        let light = matches!(jti.as_bytes(), [_, _, b'l', b't', _, _, b':', ..]);
        light && self.realm.is_some_and(|realm| realm.introspection.is_none())
    }

    /// What the token has to show for a rule, and what the rule wants; nothing if it does not apply.
    fn found(&self, rule: Rule, opaque: bool) -> Option<String> {
        let claim = |name: &str| {
            let value = self.claims.as_ref().and_then(|claims| claims.get(name));
            value.map_or_else(
                || "nothing".into(),
                |value| match value.as_str() {
                    Some(text) => shown(text),
                    None => shown(&value.to_string()),
                },
            )
        };
        let head = |name: &str| {
            let value = self.header.as_ref().and_then(|header| header.get(name));
            value.map_or_else(
                || "nothing".into(),
                |value| shown(value.as_str().unwrap_or("no text")),
            )
        };
        let or = |names: &[Box<str>]| names.join(" or ");
        let at = |name: &str| {
            let time = self.claims.as_ref().and_then(|claims| claims[name].as_i64());
            time.map_or(String::new(), |time| {
                let seconds = time.saturating_sub(self.now.as_secs());
                match seconds {
                    0.. => format!("{name} in {seconds} s; "),
                    _ => format!("{name} {} s ago; ", seconds.unsigned_abs()),
                }
            })
        };
        Some(match rule {
            Rule::Form if opaque => match self.token.expose().matches('.').count() {
                0 | 1 => format!("opaque: no JWT{}", doubt(self.token.expose())),
                parts => format!("{} parts", parts + 1),
            },
            Rule::Form => match self.token.expose().matches('.').count() {
                2 => "a JWT of three parts".into(),
                dots => format!("{} parts", dots + 1),
            },
            _ if opaque && rule < Rule::Introspection && rule != Rule::Claims => return None,
            Rule::Claims if opaque => return None,
            Rule::Claims => {
                let light = claim("jti").as_bytes().get(2..4) == Some(b"lt");
                let light = if light { ", a lightweight token" } else { "" };
                format!("typ {}{light}", claim("typ"))
            }
            Rule::Issuer => {
                let realms = self.config.rules.realms.iter().enumerate();
                let ours = realms.filter(|(place, _)| self.policy.accepts_realm(*place));
                let ours: Vec<_> = ours.map(|(_, realm)| &*realm.issuer).collect();
                format!("iss {}, wanted {}", claim("iss"), ours.join(" or "))
            }
            Rule::Algorithm => format!("alg {}, typ {}", head("alg"), head("typ")),
            Rule::Times => {
                let leeway = self.realm.map_or(0, |realm| realm.leeway.as_secs());
                format!("{}{}{}leeway {leeway} s", at("exp"), at("nbf"), at("iat"))
            }
            Rule::Key => format!("kid {}", head("kid")),
            Rule::Signature => format!("{} by the key {}", head("alg"), head("kid")),
            Rule::Binding => match self.claims.as_ref().and_then(|claims| claims.get("cnf")) {
                None => "none".into(),
                Some(cnf) if cnf.get("x5t#S256").is_none() => format!("cnf {}", claim("cnf")),
                Some(_) => format!("cnf {}; {}", claim("cnf"), self.held.told(self.now)),
            },
            Rule::Introspection => match &self.introspection {
                Some(how) => how.clone(),
                None if opaque => "the realm must be asked".into(),
                None if self.lacks_introspection() => {
                    "not asked: the token is lightweight, and the realm has no [realm.introspection]".into()
                }
                None => "not needed".into(),
            },
            Rule::Audience => {
                let realm = self.realm.map_or(String::new(), |realm| match &realm.audience {
                    AudienceRule::OneOf(names) => or(names),
                    AudienceRule::InsecureAny => "any".into(),
                });
                let narrow = self.policy.audience.as_ref();
                let narrow = narrow.map_or(String::new(), |names| format!(", and {}", or(names)));
                format!("aud {}, wanted {realm}{narrow}", claim("aud"))
            }
            Rule::Scopes => match &*self.policy.scopes {
                [] => "none wanted".into(),
                wanted => format!("scope {}, wanted {}", claim("scope"), wanted.join(" and ")),
            },
            Rule::Roles => {
                let wanted: Vec<_> = self.policy.roles.iter().map(ToString::to_string).collect();
                match &*wanted {
                    [] => "none wanted".into(),
                    wanted => format!(
                        "realm_access {}, resource_access {}, wanted {}",
                        claim("realm_access"),
                        claim("resource_access"),
                        wanted.join(" or ")
                    ),
                }
            }
        })
    }
}
