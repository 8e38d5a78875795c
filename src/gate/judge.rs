//! One look at the state of one moment: a decision, or what is missing for one.

use std::sync::Arc;

use super::apart::Proven;
use super::cache::{Known, Moment};
use super::introspection::{Answer, Question};
use super::snapshot::Version;
use super::{Inner, Refresh, Snapshot};
use crate::check::{
    ClientCertificate, Decision, Denial, Facts, Grant, Lookup, OwnedToken, Policy, RawToken,
    RealmRules, Refusal, UnixTime, Verification, Verified, authorize, verify, verify_unless_slow,
};

impl Inner {
    /// Judges by the state of this moment and by what has been learnt for this request.
    pub(super) fn judge(&self, facts: &Facts<'_>, learnt: &Learnt) -> Result<Decision, Missing> {
        let snapshot = self.live.load();
        let Some(policy) = snapshot.policy(facts.policy) else {
            let refusal = Refusal { denial: Denial::PolicyUnknown, policy: None, realm: None };
            return Ok(Decision::Deny(refusal));
        };
        let (now, certificate) = (self.live.now(), facts.certificate);
        let case = Case { inner: self, snapshot: &snapshot, policy, now, certificate, learnt };
        match facts.credential {
            Err(denial) => case.deny(denial, None),
            Ok(token) if token.len() > snapshot.limits.token => {
                case.deny(Denial::TokenTooLarge, None)
            }
            Ok(token) => case.token(token),
        }
    }
}

/// One look at one request.
struct Case<'a> {
    inner: &'a Inner,
    snapshot: &'a Snapshot,
    policy: &'a Arc<Policy>,
    now: UnixTime,
    certificate: &'a dyn ClientCertificate,
    learnt: &'a Learnt,
}

impl Case<'_> {
    fn token(&self, token: RawToken<'_>) -> Result<Decision, Missing> {
        let (cache, version) = (&self.inner.cache, self.snapshot.version);
        match self.learnt.proven(token, version) {
            Some(Ok(proof)) => {
                cache.tidy(self.moment());
                return self.judged(token, proof);
            }
            Some(Err(realm)) => {
                cache.keep_refusal(token, *realm, self.moment());
                return self.deny(Denial::Signature, *realm);
            }
            None => {}
        }
        let key = token.key();
        if let Some(proof) = cache.proof(key, version) {
            match self.proven(token, &proof) {
                Err(Denial::KeyUnknown) => cache.forget_proof(key), // another may sign for it
                // The keys are too old. Should they come back as they were, so does the proof.
                Err(Denial::KeysUnavailable) => {}
                Err(denial) => return self.deny(denial, Some(proof.realm())),
                Ok(result) => return result,
            }
        }
        let moment = self.moment();
        if let Some(realm) = cache.refusal(token, moment) {
            cache.missed();
            return self.deny(Denial::Signature, realm);
        }
        let (realms, limits) = (&self.snapshot.realms, self.snapshot.limits);
        let found = match self.learnt.on_the_spot {
            true => verify(token, self.policy, realms, limits, self.now),
            false => match verify_unless_slow(token, self.policy, realms, limits, self.now) {
                Ok(found) => found,
                Err(realm) => return self.missing(realm, |_| What::Signature(token.to_owned())),
            },
        };
        if !matches!(found, Verification::Introspect { .. }) {
            cache.missed();
        }
        match found {
            Verification::Verified(verified) => {
                let proof = Arc::new(verified);
                cache.keep_proof(key, Arc::clone(&proof), moment);
                cache.tidy(moment);
                self.judged(token, &proof)
            }
            Verification::Reject { denial, realm } => {
                if denial == Denial::Signature {
                    cache.keep_refusal(token, realm, moment);
                }
                self.deny(denial, realm)
            }
            Verification::Needs(lookup) => self.missing(lookup.realm, |_| What::Keys(lookup)),
            Verification::Introspect { realm } => self.told(token, realm, None),
        }
    }

    /// A token whose signature was good a moment ago.
    fn judged(&self, token: RawToken<'_>, proof: &Arc<Verified>) -> Result<Decision, Missing> {
        let result = self.proven(token, proof);
        result.unwrap_or_else(|denial| self.deny(denial, Some(proof.realm())))
    }

    /// A token whose signature is good: judged as it is, or by what its realm says about it.
    fn proven(
        &self,
        token: RawToken<'_>,
        proof: &Arc<Verified>,
    ) -> Result<Result<Decision, Missing>, Denial> {
        match self.authorize(proof) {
            Ok(grant) => Ok(Ok(Decision::Allow(grant.for_token(token)))),
            Err(Denial::IntrospectionUnavailable) => {
                Ok(self.told(token, proof.realm(), Some(proof)))
            }
            Err(denial) => Err(denial),
        }
    }

    /// A token that its realm must be asked about.
    fn told(
        &self,
        token: RawToken<'_>,
        place: usize,
        presented: Option<&Arc<Verified>>,
    ) -> Result<Decision, Missing> {
        let known = Known { digest: token.digest(), realm: place };
        let version = self.snapshot.version;
        let just_told = self.learnt.answer_to(&known, version.rules);
        let kept = || self.inner.cache.answer(&known, version, self.inner.live.uptime());
        let mut answer = just_told.clone().or_else(kept);
        if let (None, None, Some(Ok(proof))) = (&just_told, presented, &answer)
            && self.authorize(proof).err() == Some(Denial::KeyUnknown)
        {
            // The key of the JWT in it was withdrawn: perhaps another one signs now.
            self.inner.cache.forget_answer(&known);
            answer = None;
        }
        match answer {
            Some(Err(denial)) => self.deny(denial, Some(place)),
            Some(Ok(proof)) => match self.authorize(&proof) {
                Ok(grant) => Ok(Decision::Allow(grant.for_token(token))),
                Err(denial) => self.deny(denial, Some(place)),
            },
            None => self.missing(place, |realm| match realm.introspection.clone() {
                None => What::Nothing,
                Some(rules) => What::Answer(Box::new(Question {
                    known,
                    place,
                    realm: Arc::clone(realm),
                    rules,
                    version,
                    token: token.to_owned(),
                    presented: presented.cloned(),
                })),
            }),
        }
    }

    fn moment(&self) -> Moment {
        let version = self.snapshot.version;
        Moment { version, now: self.now, uptime: self.inner.live.uptime() }
    }

    fn authorize(&self, proof: &Arc<Verified>) -> Result<Grant, Denial> {
        authorize(proof, self.policy, &self.snapshot.realms, self.certificate, self.now)
    }

    fn deny(&self, denial: Denial, realm: Option<usize>) -> Result<Decision, Missing> {
        let realm = realm.and_then(|place| self.snapshot.realms.get(place));
        let realm = realm.map(|realm| Arc::clone(realm.rules()));
        Ok(Decision::Deny(Refusal { denial, policy: Some(Arc::clone(self.policy)), realm }))
    }

    fn missing(
        &self,
        place: usize,
        what: impl FnOnce(&Arc<RealmRules>) -> What,
    ) -> Result<Decision, Missing> {
        let Some(realm) = self.snapshot.realms.get(place) else {
            return self.deny(Denial::Issuer, None);
        };
        let (policy, realm) = (Arc::clone(self.policy), Arc::clone(realm.rules()));
        Err(Missing { what: what(&realm), policy, realm })
    }
}

/// What has been asked for since a request came in: each at most once.
#[derive(Default)]
pub(super) struct Learnt {
    /// Of a signature that takes long.
    pub(super) proven: Option<Proven>,
    /// Such a signature is verified here: it cannot be anywhere else.
    pub(super) on_the_spot: bool,
    pub(super) refresh: Option<Refresh>,
    /// Under which rules.
    pub(super) answer: Option<(Known, u64, Answer)>,
}

impl Learnt {
    /// Whether nobody has been asked under these rules. A reload in between is no fault of the request's.
    pub(super) fn lacks_answer(&self, rules: u64) -> bool {
        self.answer.as_ref().is_none_or(|(_, then, _)| *then != rules)
    }

    /// What the token's signature has shown. The cache may not have kept it: it is full, or the token about
    /// to end.
    fn proven(
        &self,
        token: RawToken<'_>,
        version: Version,
    ) -> Option<&Result<Arc<Verified>, Option<usize>>> {
        let proven = self.proven.as_ref()?;
        (proven.version == version && proven.digest == token.digest()).then_some(&proven.found)
    }

    fn answer_to(&self, known: &Known, rules: u64) -> Option<Answer> {
        let (asked, then, answer) = self.answer.as_ref()?;
        (asked == known && *then == rules).then(|| answer.clone())
    }
}

/// What a decision waits for.
pub(super) struct Missing {
    pub(super) what: What,
    policy: Arc<Policy>,
    pub(super) realm: Arc<RealmRules>,
}

pub(super) enum What {
    Keys(Lookup),
    Answer(Box<Question>),
    /// Of this token, which takes long to verify.
    Signature(OwnedToken),
    /// The configuration changed in between.
    Nothing,
}

impl Missing {
    /// It was asked for, and is still missing.
    pub(super) fn deny(self, learnt: &Learnt) -> Decision {
        let denial = match (self.what, learnt.refresh) {
            (What::Keys(lookup), Some(Refresh::Done)) if lookup.has_keys => Denial::KeyUnknown,
            (What::Keys(lookup), Some(Refresh::CoolingDown)) if lookup.has_keys => {
                Denial::KeysCoolingDown
            }
            (What::Keys(_), _) => Denial::KeysUnavailable,
            (What::Signature(_), _) => Denial::VerificationUnavailable,
            (What::Answer(_) | What::Nothing, _) => Denial::IntrospectionUnavailable,
        };
        Decision::Deny(Refusal { denial, policy: Some(self.policy), realm: Some(self.realm) })
    }
}
