//! All that a judgement needs, of one moment: swapped whole, read without a lock.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState as FastHash;
use tokio::sync::watch;

use super::Clock;
use super::cache::Moment;
use crate::check::{KeySet, Limits, Policy, RealmRules, Realms, SameIssuer, UnixTime};

/// Policies, realms and their keys as they stand together.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) realms: Realms,
    pub(super) policies: Arc<HashMap<Box<str>, Arc<Policy>, FastHash>>,
    pub(super) limits: Limits,
    pub(super) version: Version,
}

/// Tells what was learnt under other rules or keys from what still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Counts configurations: a proof of an older one is not used.
    pub(super) rules: u64,
    /// Counts changes of any realm's keys: a refused signature is tried again.
    pub(super) keys: u64,
}

impl Snapshot {
    /// The realms.
    pub fn realms(&self) -> &Realms {
        &self.realms
    }

    /// The names of all policies, in no order.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(|name| &**name)
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }
}

/// The rules a gate works by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Realms; policies refer to them by their place here.
    pub realms: Vec<RealmRules>,
    /// Policies, each with its own name, as [`Policy::new`] has made it.
    pub policies: Vec<Policy>,
    /// How large a token may be.
    pub limits: Limits,
}

/// Rules that leave it to chance which of two counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// Two realms have one issuer.
    SameIssuer(SameIssuer),
    /// Two policies have this name.
    SamePolicy(Box<str>),
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameIssuer(error) => error.fmt(f),
            Self::SamePolicy(name) => write!(f, "two policies have the name {name}"),
        }
    }
}

impl std::error::Error for RulesError {}

/// The current snapshot, and the one way to change it.
pub struct Live {
    current: ArcSwap<Snapshot>,
    ready: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

impl Live {
    /// Starts with rules and no keys.
    ///
    /// # Errors
    /// If two realms have the same issuer, or two policies the same name.
    pub fn new(rules: Rules, clock: Arc<dyn Clock>) -> Result<Self, RulesError> {
        let current = ArcSwap::from_pointee(Snapshot::new(rules)?);
        Ok(Self { current, ready: watch::Sender::new(false), clock })
    }

    /// The snapshot of this moment.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Now, by the gate's clock.
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// How long the gate's clock has run.
    pub fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { version: self.load().version, now: self.now(), uptime: self.uptime() }
    }

    /// Whether every realm had keys at some moment. It stays so: a realm that is added later, or an
    /// issuer that goes away, must not take a whole fleet out of rotation.
    pub fn was_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until every realm has had keys, for as long as that takes.
    pub async fn ready(&self) {
        // The sender is our own: waiting cannot end otherwise.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Works by other rules from now on. Realms that stay keep their keys; proofs made under the old
    /// rules are not used again.
    ///
    /// This alone is no reload: it starts no fetching for realms that are new, and ends none, so they have
    /// no keys unless [`publish_keys`](Self::publish_keys) brings them. For other settings build another
    /// gate.
    ///
    /// # Errors
    /// If two realms have the same issuer, or two policies the same name; then nothing changes.
    pub fn replace_rules(&self, rules: Rules) -> Result<(), RulesError> {
        let fresh = Snapshot::new(rules)?;
        self.current.rcu(|old| {
            let mut new = fresh.clone();
            new.version = Version { rules: old.version.rules + 1, keys: old.version.keys };
            for realm in old.realms.iter() {
                let place = new.realms.place_of(&realm.rules().issuer);
                if let (Some(place), Some(keys), Some(at)) =
                    (place, realm.last_keys(), realm.fetched())
                {
                    new.realms.set_keys(place, Arc::clone(keys), at);
                }
            }
            new
        });
        self.latch_readiness(); // the one that was missing may have gone
        Ok(())
    }

    /// Has everything proven and asked anew.
    pub fn forget_proofs(&self) {
        self.current.rcu(|old| {
            let mut new = Snapshot::clone(old);
            new.version.rules += 1;
            new
        });
    }

    /// Takes over newly fetched keys of the realm with this issuer; forgotten if there is none.
    pub fn publish_keys(&self, issuer: &str, keys: Arc<KeySet>) {
        let now = self.clock.now();
        self.current.rcu(|old| {
            let mut new = Snapshot::clone(old);
            if let Some(place) = old.realms.place_of(issuer) {
                let known = old.realms.get(place).and_then(|realm| realm.last_keys());
                if known.is_none_or(|known| !known.same_keys(&keys)) {
                    new.version.keys += 1;
                }
                new.realms.set_keys(place, Arc::clone(&keys), now);
            }
            new
        });
        self.latch_readiness();
    }

    fn latch_readiness(&self) {
        let ready = self.current.load().realms.iter().all(|realm| realm.last_keys().is_some());
        if ready && !self.ready.send_replace(true) {
            tracing::info!("ready: every realm has keys");
        }
    }
}

impl Snapshot {
    fn new(mut rules: Rules) -> Result<Self, RulesError> {
        Policy::introduce(&mut rules.policies);
        let mut policies =
            HashMap::with_capacity_and_hasher(rules.policies.len(), FastHash::default());
        for policy in rules.policies {
            if let Some(twin) = policies.insert(policy.name().into(), Arc::new(policy)) {
                return Err(RulesError::SamePolicy(twin.name().into()));
            }
        }
        Ok(Self {
            realms: Realms::new(rules.realms).map_err(RulesError::SameIssuer)?,
            policies: Arc::new(policies),
            limits: rules.limits,
            version: Version::default(),
        })
    }
}
