//! Proofs, each by the very token that it is of.
//!
//! Who is asked for least makes room at once, and nothing is written down for later. The other caches end
//! their entries by time, and keep queues and counts for that: too much for what every new token goes through.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Builder;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

use super::cache::Moment;
use crate::check::{TokenDigest, TokenKey, Verified};

/// What an entry takes beside its claims and its name.
const ENTRY_OVERHEAD: usize = 320;

/// With a token of 1.1 KB.
const USUAL_ENTRY: u64 = 3328;

/// Each part of the cache has a lock of its own, and about so much of the memory: room for the largest answer
/// of a realm (1 MiB) and what is made of it, and little enough for nobody to notice that a sweep holds its
/// lock.
const BYTES_OF_A_PART: u64 = 2 * 1024 * 1024;

const MOST_PARTS: u64 = 4096;

/// Of the memory, for what has been asked for again: tokens live for minutes, so not nearly all of it.
const HOT: f64 = 0.9;

/// So often, at most, proofs that have ended are given up: in seconds.
const SWEEP: u64 = 60;

/// Up to a number of bytes.
pub(super) struct Proofs {
    cache: Arc<Kept>,
    /// By the gate's uptime, in seconds.
    swept: AtomicU64,
}

type Kept = Cache<OwnedName, Proof, ByBytes>;

/// Of which token a proof is, and which realm said so, if one was asked.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) key: TokenKey<'a>,
    pub(super) asked: Option<usize>,
}

struct OwnedName {
    signed: Box<[u8]>,
    signature: TokenDigest,
    asked: Option<usize>,
}

#[derive(Clone)]
pub(super) struct Proof {
    pub(super) verified: Arc<Verified>,
    /// The configuration it was made under.
    pub(super) rules: u64,
    /// By the gate's uptime; only what a realm said ends so.
    pub(super) until: Duration,
}

impl Proofs {
    #[expect(clippy::expect_used, reason = "`build` asks for two numbers, and gets both")]
    pub(super) fn new(max_bytes: u64) -> Self {
        let parts = 1_u64 << (max_bytes / BYTES_OF_A_PART).clamp(1, MOST_PARTS).ilog2();
        let entries = max_bytes / USUAL_ENTRY;
        let options = OptionsBuilder::new()
            .shards(usize::try_from(parts).unwrap_or(1))
            .estimated_items_capacity(usize::try_from(entries).unwrap_or(usize::MAX))
            .weight_capacity(max_bytes)
            .hot_allocation(HOT)
            .build()
            .expect("both capacities");
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let cache = Arc::new(Cache::with_options(options, ByBytes, hasher, lifecycle));
        Self { cache, swept: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, name: Name<'_>) -> Option<Proof> {
        self.cache.get(&name)
    }

    pub(super) fn insert(&self, name: Name<'_>, proof: Proof) {
        self.cache.insert(name.to_owned(), proof);
    }

    /// Has proofs given up that have ended, now and then. For those who answer: a thread that stands back for
    /// them would hand that on to the one that begins here, and hold locks while it does.
    pub(super) fn tidy(&self, moment: Moment) {
        if self.is_due(moment) {
            let cache = Arc::clone(&self.cache);
            // Apart: some 100,000 proofs take milliseconds. Without a thread they wait for the next time.
            let _ = Builder::new().name(NAME.into()).spawn(move || sweep(&cache, moment));
        }
    }

    pub(super) fn remove(&self, name: Name<'_>) {
        self.cache.remove(&name);
    }

    /// How many, and about how many bytes.
    pub(super) fn size(&self, moment: Moment) -> (u64, u64) {
        if self.is_due(moment) {
            sweep(&self.cache, moment);
        }
        (self.cache.len() as u64, self.cache.weight())
    }

    /// Says so to one of those who ask at the same time.
    fn is_due(&self, moment: Moment) -> bool {
        let (swept, now) = (self.swept.load(Relaxed), moment.uptime.as_secs());
        now >= swept.saturating_add(SWEEP)
            && self.swept.compare_exchange(swept, now, Relaxed, Relaxed).is_ok()
    }
}

/// As the system lists the thread.
const NAME: &str = "vidimus-sweep";

fn sweep(cache: &Kept, moment: Moment) {
    cache.retain(|_, proof| proof.holds(moment));
}

impl Proof {
    /// Whether it may still be used. The leeway belongs to judging: within it the proof may be gone, and the
    /// token is verified anew.
    fn holds(&self, moment: Moment) -> bool {
        let lasts = self.verified.claims().expires() > moment.now || self.until != Duration::MAX;
        lasts && self.until > moment.uptime && self.rules >= moment.version.rules
    }
}

impl Name<'_> {
    fn to_owned(self) -> OwnedName {
        let TokenKey { signed, signature } = self.key;
        OwnedName { signed: signed.into(), signature, asked: self.asked }
    }
}

/// By the signature alone: the rest is compared, byte by byte, where that is the same.
impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.key.signature, self.asked).hash(hasher);
    }
}

impl Equivalent<OwnedName> for Name<'_> {
    fn equivalent(&self, other: &OwnedName) -> bool {
        self.key.signature == other.signature
            && self.asked == other.asked
            && *self.key.signed == *other.signed
    }
}

impl OwnedName {
    fn as_name(&self) -> Name<'_> {
        let key = TokenKey { signed: &self.signed, signature: self.signature };
        Name { key, asked: self.asked }
    }
}

impl Hash for OwnedName {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.as_name().hash(hasher);
    }
}

impl PartialEq for OwnedName {
    fn eq(&self, other: &Self) -> bool {
        self.as_name().equivalent(other)
    }
}

impl Eq for OwnedName {}

#[derive(Clone)]
struct ByBytes;

impl Weighter<OwnedName, Proof> for ByBytes {
    fn weight(&self, name: &OwnedName, proof: &Proof) -> u64 {
        (proof.verified.memory() + name.signed.len() + ENTRY_OVERHEAD) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::UnixTime;
    use crate::gate::snapshot::Version;

    #[test]
    fn sweeps_are_a_minute_apart_whatever_the_clock_does() {
        let proofs = Proofs::new(1 << 20);
        let mut swept = 0;
        for second in 0..600_i64 {
            for (now, since) in [(second, 0), (-300, 0), (second * 1_000, 2)] {
                let uptime = Duration::from_secs((second - since).max(0).unsigned_abs());
                let now = UnixTime::from_secs(now);
                swept +=
                    u32::from(proofs.is_due(Moment { version: Version::default(), now, uptime }));
            }
        }
        assert_eq!(swept, 9);
    }

    #[test]
    fn parts_share_the_bound_and_there_may_be_none() {
        for (bytes, parts) in [
            (0, 1),
            (1 << 20, 1),
            (33 << 20, 16),
            (64 << 20, 32),
            (64 << 30, 4096),
            (u64::MAX, 4096),
        ] {
            let proofs = Proofs::new(bytes);
            assert_eq!(proofs.cache.num_shards(), parts, "{bytes}");
            assert!(proofs.cache.shard_capacity() >= bytes / parts as u64, "{bytes}");
        }
    }
}
