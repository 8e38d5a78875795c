//! `vidimus doctor` and `vidimus inspect`: what is wrong with a realm, and with a token, and what to do
//! about it. Both ask the real issuer, once, by the very ways that the sidecar asks it.

mod given;
mod held;
mod inspect;
mod remedy;
mod report;

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};

pub use inspect::inspect;
pub use report::{Finding, Grade, Report};

use crate::check::{
    Denial, Introspected, JsonRef, Key, Limits, OwnedToken, Policy, RawToken, RealmRules, Realms,
    Reply, SameIssuer, TokenForm, Verification, Verified, introspected, verify,
};
use crate::config::Config;
use crate::gate::{Live, Rules, SystemClock};
use crate::issuer::{ClientError, FetchError, Probe, Probed};
use remedy::for_error;

/// Why nothing could be examined at all.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Examines every realm of a configuration; with a token of one of them, also what that realm makes of
/// it.
///
/// # Errors
/// If a file that the configuration names cannot be used.
pub async fn doctor(config: &Config, token: Option<&str>) -> Result<Report, Error> {
    let mut report = Report::default();
    let token = match token.map(given::given).transpose() {
        Ok(token) => token,
        Err((denial, instead)) => {
            report.bad("token", instead.into(), remedy::for_denial(denial).into());
            return Ok(report);
        }
    };
    let (mut seen, mut why) = (false, None);
    let opaque =
        |rules: &&RealmRules| rules.introspection.as_ref().is_some_and(|i| i.use_for.opaque);
    let several = config.rules.realms.iter().filter(opaque).count() > 1;
    for place in 0..config.rules.realms.len() {
        let mut patient = Patient::new(config, place)?;
        patient.asks_opaque = !several; // a token is sent to nobody but its own realm
        report.title(format!("realm {}: {}", patient.name(), patient.issuer()));
        patient.examine(token.is_none(), &mut report).await;
        if let Some(token) = token {
            match patient.examine_token(token, &mut report).await {
                Ok(()) => seen = true,
                // Of another realm, perhaps; what else is wrong with it is told in the end.
                Err(denial) => why = why.filter(|why| specific(*why)).or(Some(denial)),
            }
        }
    }
    if let Some(denial) = why.filter(|_| !seen) {
        report.title("the token".into());
        if denial == Denial::Opaque && several {
            let what = "it is opaque, and several realms introspect such tokens".into();
            let cure = "`vidimus inspect -c FILE -p POLICY -` asks the one that the policy names";
            report.note("token", what, cure.into());
            return Ok(report);
        }
        report.bad("token", denial.answer().description.into(), remedy::for_denial(denial).into());
    }
    Ok(report)
}

fn specific(denial: Denial) -> bool {
    !matches!(denial, Denial::Issuer | Denial::Opaque)
}

/// One realm, and how to ask it.
struct Patient {
    probe: Probe,
    rules: RealmRules,
    /// It alone, with its keys once they have been fetched.
    realms: Realms,
    live: Arc<Live>,
    /// Whether it can be asked about tokens.
    introspects: bool,
    /// Whether `endpoint` is set.
    by_hand: bool,
    /// Whether there is a `[client_certificate]`.
    certificates: bool,
    /// Whether it may be asked about opaque ones, which may be another realm's.
    asks_opaque: bool,
}

impl Patient {
    fn new(config: &Config, place: usize) -> Result<Self, Error> {
        let (rules, settings) = (&config.rules.realms[place], &config.issuers[place]);
        let by_hand = settings.introspection.as_ref().is_some_and(|i| i.endpoint.is_some());
        let live = Live::new(Rules::default(), Arc::new(SystemClock))?;
        let live = Arc::new(live);
        let probe = Probe::new(settings.clone(), Arc::clone(&live))
            .map_err(|error: ClientError| error.to_string())?;
        let realms =
            Realms::new(vec![rules.clone()]).map_err(|error: SameIssuer| error.to_string())?;
        Ok(Self {
            probe,
            rules: rules.clone(),
            realms,
            live,
            introspects: false,
            by_hand,
            certificates: config.edge.certificate.is_some(),
            asks_opaque: false,
        })
    }

    fn name(&self) -> &str {
        &self.rules.name
    }

    fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    /// What can be said without a token; `alone` if there is none.
    async fn examine(&mut self, alone: bool, report: &mut Report) {
        let places = match self.probe.metadata().await {
            Ok(places) => places,
            Err(error) => return report.failed("metadata", &error, for_error(&error.error)),
        };
        report.good(
            "metadata",
            format!("reachable; they name exactly this issuer; keys at {}", places.jwks),
        );
        match self.probe.keys().await {
            Err(error) => report.failed("keys", &error, for_error(&error.error)),
            Ok(keys) => {
                let usable: Vec<_> = keys.keys().iter().map(named).collect();
                report.good("keys", format!("usable: {}", usable.join(", ")));
                for skipped in keys.skipped() {
                    let kid = skipped.kid.as_deref().unwrap_or("without kid");
                    report.good(
                        "keys",
                        format!("not used: {} ({})", report::shown(kid), skipped.reason),
                    );
                }
                let unusable = |key: &&Key| !self.rules.algorithms.contains(&key.algorithm());
                for key in keys.keys().iter().filter(unusable) {
                    report.note(
                        "keys",
                        format!("{}: tokens that it signs are refused", named(key)),
                        "put its algorithm into `algorithms` if clients of yours use it".into(),
                    );
                }
                self.realms.set_keys(0, keys, self.live.now());
            }
        }
        match places.introspection {
            None => report.note(
                "introspection",
                "not configured: opaque and lightweight tokens are refused".into(),
                "add [realm.introspection] if clients of the realm have such tokens".into(),
            ),
            Some(Err(error)) => report.failed("introspection", &error, self.cure(&error.error)),
            Some(Ok(place)) => self.examine_introspection(&place, alone, report).await,
        }
    }

    /// An invented token shows whether our client is accepted; a token of its own, whether the realm
    /// wants our client in `aud`.
    async fn examine_introspection(&mut self, place: &str, alone: bool, report: &mut Report) {
        let client = self.client().to_owned();
        match self.probe.introspect(&invented()).await {
            Err(error) => return report.failed("introspection", &error, self.cure(&error.error)),
            Ok(Reply::Active(_)) => {
                return report.bad(
                    "introspection",
                    format!("{place} calls a token active that was invented just now"),
                    "something answers there that is no introspection endpoint: do not use it"
                        .into(),
                );
            }
            Ok(_) => report.good(
                "introspection",
                format!("{place} accepts client {client} and calls an invented token not active"),
            ),
        }
        self.introspects = true;
        if !alone {
            return; // the token tells more
        }
        let Ok(token) = self.probe.own_token().await else {
            return report.note(
                "audience",
                format!("cannot tell whether the realm wants {client} in `aud`: the client gets no token of its own"),
                "give doctor a token of one of your users: vidimus doctor -c FILE - <TOKEN_FILE".into(),
            );
        };
        match self.ask(&token, None).await {
            Ok(Introspected::Inactive) => report.note(
                "audience",
                format!(
                    "the realm calls a token not active, fresh as it is, whose `aud` lacks {client}: \
                     Keycloak since 26.6.2 (and 26.4.12)"
                ),
                format!(
                    "the clients whose tokens are introspected need an audience mapper for {client}; try \
                     one of their tokens: vidimus doctor -c FILE - <TOKEN_FILE"
                ),
            ),
            Ok(_) => report.good(
                "audience",
                format!("a token of {client}'s own is active; those of others need the mapper too"),
            ),
            Err(why) => report.bad("introspection", why, String::new()),
        }
    }

    /// What the realm makes of a token; or why it is none of the realm's.
    async fn examine_token(
        &mut self,
        token: RawToken<'_>,
        report: &mut Report,
    ) -> Result<(), Denial> {
        let mut policy = Policy::new("doctor", vec![0]);
        policy.introspect_realm = self.asks_opaque.then_some(0);
        let limits = Limits { token: 1024 * 1024 };
        let found = verify(token, &policy, &self.realms, limits, self.live.now());
        let presented = match found {
            Verification::Verified(verified) => {
                report.good("token", "its signature is by a key of this realm".into());
                self.examine_binding(&verified, report);
                Some(verified)
            }
            Verification::Introspect { .. } => None,
            Verification::Reject { realm: None, denial } => return Err(denial),
            Verification::Reject { denial, .. } => {
                let (what, cure) = (denial.answer().description, remedy::for_denial(denial));
                report.bad("token", what.into(), cure.into());
                return Ok(());
            }
            Verification::Needs(lookup) if !lookup.has_keys => {
                let what = "the realm's keys could not be fetched: nothing can be said about it";
                report.note("token", what.into(), String::new());
                return Ok(());
            }
            Verification::Needs(_) => {
                let what = "the realm does not publish the key that its header names";
                report.bad("token", what.into(), String::new());
                return Ok(());
            }
        };
        let regular = |verified: &Verified| verified.claims().form() == TokenForm::Regular;
        let all = self.rules.introspection.as_ref().is_some_and(|rules| rules.use_for.all);
        if presented.as_ref().is_some_and(regular) && !all {
            report.good("token", "it is a full token: the realm is not asked about it".into());
        } else if presented.as_ref().is_some_and(|v| v.claims().form() == TokenForm::Lightweight)
            && self.rules.introspection.is_none()
        {
            let what = "it is lightweight, and this realm has no [realm.introspection]";
            report.bad("token", what.into(), remedy::ADD_INTROSPECTION.into());
        } else if self.introspects {
            self.examine_answer(&token.to_owned(), presented.as_ref(), report).await;
        }
        Ok(())
    }

    async fn examine_answer(
        &self,
        token: &OwnedToken,
        presented: Option<&Verified>,
        report: &mut Report,
    ) {
        let client = self.client();
        let reply = match self.probe.introspect(token).await {
            Ok(reply) => reply,
            Err(error) => return report.failed("token", &error, for_error(&error.error)),
        };
        match self.read(&reply, presented) {
            Ok(Introspected::Active(told)) => {
                let aud: Vec<_> = told.claims().audience().map(report::shown).collect();
                report.good("token", format!("the realm calls it active, for {}", aud.join(", ")));
                let wants_jwt = self.rules.introspection.as_ref().is_some_and(|i| i.keep_jwt);
                let has_jwt =
                    matches!(&reply, Reply::Active(json) if json.root().get("jwt").is_some());
                if wants_jwt && !has_jwt {
                    report.note(
                        "prefer_jwt",
                        "the answer holds no full JWT, so there is none to hand on".into(),
                        format!(
                            "prefer_jwt = true, and in Keycloak, client {client}, Advanced: \"Support JWT \
                             claim in Introspection Response\" on"
                        ),
                    );
                }
            }
            Ok(Introspected::Refused(denial)) => {
                let (what, cure) = (denial.answer().description, remedy::for_denial(denial));
                report.bad("token", format!("the realm calls it active, yet {what}"), cure.into());
            }
            Ok(Introspected::Inactive) => self.explain_inactive(presented, report),
            Ok(Introspected::Needs(_)) => report.bad(
                "token",
                "the answer is signed with a key that the realm does not publish".into(),
                "the introspecting client must sign asymmetrically in Keycloak".into(),
            ),
            Err(error) => report.bad("token", error.to_string(), String::new()),
        }
    }

    /// Whose certificate it needs; `inspect` compares it.
    fn examine_binding(&self, verified: &Verified, report: &mut Report) {
        let cnf = verified.claims().all().get("cnf").and_then(|cnf| cnf.get("x5t#S256"));
        let Some(thumbprint) = cnf.and_then(JsonRef::as_str) else { return };
        let what = format!("it is bound to the client certificate {}", report::shown(thumbprint));
        let compare = "`vidimus inspect -c FILE --certificate client.pem` compares";
        match self.certificates {
            true => report.note("token", what, compare.into()),
            false => report.bad(
                "token",
                format!("{what}, and there is no [client_certificate]"),
                "add [client_certificate]: without it bound tokens are refused".into(),
            ),
        }
    }

    fn explain_inactive(&self, presented: Option<&Verified>, report: &mut Report) {
        let client = self.client();
        let Some(presented) = presented else {
            let what = "the realm calls the opaque token not active".into();
            let cure = "it is unknown there, has expired, or its session has ended";
            return report.bad("token", what, cure.into());
        };
        let aud: Vec<_> = presented.claims().audience().collect();
        let lacks = !aud.is_empty() && !aud.contains(&client);
        let shown = aud.iter().map(|aud| report::shown(aud)).collect::<Vec<_>>().join(", ");
        let what = match lacks {
            true => format!(
                "it verifies, and the realm calls it not active: its `aud` ({shown}) lacks {client}"
            ),
            false => "it verifies, and the realm calls it not active".into(),
        };
        let mapper = format!(
            "add an audience mapper for {client}, with \"Add to token introspection\", to the client that \
             obtains these tokens (Keycloak wants it since 26.6.2 and 26.4.12)"
        );
        let cure = match lacks {
            true => mapper,
            false => format!(
                "either {mapper}; or its session has ended; or Keycloak is asked under another host name \
                 than it issues tokens by (set its option `hostname`). Keycloak's own log has the reason"
            ),
        };
        report.bad("active", what, cure);
    }

    fn cure(&self, error: &FetchError) -> &'static str {
        match (error, self.by_hand) {
            (FetchError::Credentials { .. } | FetchError::Secret(_), _) | (_, false) => {
                for_error(error)
            }
            (_, true) => {
                "`endpoint` is set by hand: remove it to use the one of the realm's metadata"
            }
        }
    }

    async fn ask(
        &self,
        token: &OwnedToken,
        own: Option<&Verified>,
    ) -> Result<Introspected, String> {
        let reply: Probed<Reply> = self.probe.introspect(token).await;
        let reply = reply.map_err(|error| error.error.to_string())?;
        self.read(&reply, own)
    }

    fn read(&self, reply: &Reply, own: Option<&Verified>) -> Result<Introspected, String> {
        let now = self.live.now();
        introspected(reply, own, 0, &self.realms, now).map_err(|error| error.to_string())
    }

    fn client(&self) -> &str {
        self.rules.introspection.as_ref().map_or("", |rules| &rules.client_id)
    }
}

fn named(key: &Key) -> String {
    format!("{} {}", key.algorithm().name(), report::shown(key.kid()))
}

/// A token that no issuer has issued.
fn invented() -> OwnedToken {
    let mut random = [0; 16];
    let _ = SystemRandom::new().fill(&mut random); // without randomness it is still no token
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    RawToken::new(&format!("vidimus-doctor-{text}")).to_owned()
}
