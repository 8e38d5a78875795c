//! `vidimus_decisions_total`, counted for most requests without a look at its labels.
//!
//! To find a series takes longer than to judge a known token's audience, scopes and roles. So the series that
//! were found are kept in slots, by what gave them their labels: the edge, the policy and the realm. Only for
//! requests that may pass: refusals have more labels, and cost more anyway.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState as FastHash;
use prometheus::{IntCounter, IntCounterVec};

use crate::check::{Decision, Denial, Grant, Policy, RealmRules};

/// Each has two, beside each other in memory. Those that find both taken look at the labels: some 30 of 1,000
/// realms. A power of two.
const SLOTS: usize = 4096;

pub(super) struct Decisions {
    series: IntCounterVec,
    slots: Box<[ArcSwapOption<Allowed>]>,
    hasher: FastHash,
}

/// One series, and whose it is.
struct Allowed {
    edge: &'static str,
    policy: Weak<Policy>,
    realm: Weak<RealmRules>,
    count: IntCounter,
}

impl Decisions {
    /// The labels of `series` are [`LABELS`].
    pub(super) fn new(series: IntCounterVec) -> Self {
        let slots = (0..SLOTS).map(|_| ArcSwapOption::empty()).collect();
        Self { series, slots, hasher: FastHash::default() }
    }

    pub(super) fn count(&self, edge: &'static str, decision: &Decision) {
        match decision {
            Decision::Allow(grant) => self.allowed(edge, grant),
            Decision::Deny(refusal) => {
                let realm = refusal.realm.as_ref().map_or("", |realm| &realm.name);
                let policy = refusal.policy.as_ref().map_or("", |policy| policy.name());
                let (outcome, reason) = (outcome(refusal.denial), refusal.denial.answer().label);
                self.series.with_label_values(&[edge, realm, policy, outcome, reason]).inc();
            }
        }
    }

    fn allowed(&self, edge: &'static str, grant: &Grant) {
        let (policy, realm) = (grant.policy(), grant.realm());
        // Where they lie in memory is as good as a name: a `Weak` keeps the place from being used again.
        let owner = (Arc::as_ptr(policy).addr(), Arc::as_ptr(realm).addr(), edge.as_ptr().addr());
        let first = self.hasher.hash_one(owner) as usize & (SLOTS - 1);
        for place in [first, first ^ 1] {
            let slot = &self.slots[place];
            let held = slot.load();
            match &*held {
                Some(found) if found.is_of(edge, policy, realm) => return found.count.inc(),
                // Two that share it must not take turns.
                Some(other) if !other.is_gone() => {}
                Some(_) | None => {
                    let (policy, realm) = (Arc::downgrade(policy), Arc::downgrade(realm));
                    let count = self.of(edge, grant);
                    count.inc();
                    slot.store(Some(Arc::new(Allowed { edge, policy, realm, count })));
                    return;
                }
            }
        }
        self.of(edge, grant).inc();
    }

    fn of(&self, edge: &str, grant: &Grant) -> IntCounter {
        let (realm, policy) = (&*grant.realm().name, grant.policy().name());
        self.series.with_label_values(&[edge, realm, policy, "allow", "ok"])
    }
}

impl Allowed {
    fn is_of(&self, edge: &str, policy: &Arc<Policy>, realm: &Arc<RealmRules>) -> bool {
        self.edge == edge
            && self.policy.as_ptr() == Arc::as_ptr(policy)
            && self.realm.as_ptr() == Arc::as_ptr(realm)
    }

    /// The configuration has changed since.
    fn is_gone(&self) -> bool {
        self.policy.strong_count() == 0 || self.realm.strong_count() == 0
    }
}

pub(super) const LABELS: [&str; 5] = ["edge", "realm", "policy", "outcome", "reason"];

/// `unavailable` is not the client's fault, and worth an alert; `deny` is daily business.
fn outcome(denial: Denial) -> &'static str {
    if denial.answer().status == 503 { "unavailable" } else { "deny" }
}
