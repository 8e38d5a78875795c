//! What need not be worked out twice: proofs, and for a moment, refusals.
//!
//! The cache holds proofs, never verdicts: a hit saves the signature or the call, and nothing else. The
//! maps are keyed by the token's SHA-256, so a copy of this memory is no collection of tokens. What a
//! realm answered is kept under that realm: another one's word about the same token is not its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use super::front::{Front, Store};
use super::snapshot::Version;
use crate::check::{Denial, TokenDigest, UnixTime, Verified};

/// How long a refused signature is remembered. Long enough that a bad token in a loop costs nothing;
/// a key that changes meanwhile ends it at once.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(10);

/// How many are remembered: about 2 MiB, whoever sends them.
const MAX_REFUSALS: u64 = 10_000;

/// The longest `inactive_ttl` that the configuration allows; each entry also knows its own end.
const MAX_NEGATIVE_LIFETIME: Duration = Duration::from_secs(3600);

/// What an entry costs beside its claims: digest, counters, the cache's own nodes and queues.
const ENTRY_OVERHEAD: usize = 512;

pub(super) struct TokenCache {
    proofs: Cache<Known, Proof>,
    front: Front<Proof>,
    refusals: Cache<TokenDigest, (Version, Option<usize>)>,
    negatives: Cache<Known, Negative>,
    hits: AtomicU64,
    misses: AtomicU64,
    refusal_hits: AtomicU64,
    answer_hits: AtomicU64,
}

/// A token, and which realm has been asked about it, if any.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) digest: TokenDigest,
    pub(super) asked: Option<usize>,
}

#[derive(Clone)]
struct Proof {
    verified: Arc<Verified>,
    /// The configuration it was made under.
    rules: u64,
    lifetime: Duration,
    /// By the gate's uptime; only what a realm said ends so.
    until: Duration,
}

/// A realm said "not active", or something that no token may be.
#[derive(Clone, Copy)]
struct Negative {
    denial: Denial,
    rules: u64,
    until: Duration,
}

/// Counters of the proof cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Signatures not checked again.
    pub hits: u64,
    /// Tokens not found.
    pub misses: u64,
    /// Bad signatures not checked again.
    pub refusal_hits: u64,
    /// Answers of introspection used again.
    pub answer_hits: u64,
    /// Proofs held.
    pub entries: u64,
    /// About how much memory they take.
    pub bytes: u64,
}

impl TokenCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            proofs: Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|_, proof: &Proof| weight(&proof.verified))
                .expire_after(UntilExpiry)
                .build(),
            front: Front::new(max_bytes),
            refusals: Cache::builder()
                .max_capacity(MAX_REFUSALS)
                .time_to_live(REFUSAL_LIFETIME)
                .build(),
            negatives: Cache::builder()
                .max_capacity(MAX_REFUSALS)
                .time_to_live(MAX_NEGATIVE_LIFETIME)
                .build(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refusal_hits: AtomicU64::new(0),
            answer_hits: AtomicU64::new(0),
        }
    }

    /// A proof made under the current rules.
    pub(super) fn proof(&self, digest: &TokenDigest, version: Version) -> Option<Arc<Verified>> {
        let known = Known { digest: *digest, asked: None };
        let proof = self.front.get(&known, |proof| proof.rules == version.rules, &self.proofs);
        self.hits.fetch_add(u64::from(proof.is_some()), Ordering::Relaxed);
        proof.map(|proof| proof.verified)
    }

    /// Whether a proof or a refused signature is there. It counts as neither hit nor miss.
    pub(super) fn knows(&self, digest: &TokenDigest, version: Version) -> bool {
        let known = Known { digest: *digest, asked: None };
        self.proofs.get(&known).is_some_and(|proof| proof.rules == version.rules)
            || self.refusals.get(digest).is_some_and(|(then, _)| then == version)
    }

    /// A token that may be in the cache was not.
    pub(super) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a proof until its token ends, and no longer.
    pub(super) fn keep_proof(
        &self,
        digest: TokenDigest,
        verified: Arc<Verified>,
        version: Version,
        now: UnixTime,
    ) {
        // The leeway belongs to judging: within it the proof may be gone, and the token is verified anew.
        let lifetime = verified.claims().expires().since(now);
        if lifetime > Duration::ZERO {
            let proof = Proof { verified, rules: version.rules, lifetime, until: Duration::MAX };
            self.insert(Known { digest, asked: None }, proof);
        }
    }

    /// What the realm said about the token a short while ago, under the current rules.
    pub(super) fn answer(
        &self,
        known: &Known,
        version: Version,
        uptime: Duration,
    ) -> Option<Result<Arc<Verified>, Denial>> {
        let current = |rules, until| rules == version.rules && uptime < until;
        let fits = |proof: &Proof| current(proof.rules, proof.until);
        let active = self.front.get(known, fits, &self.proofs);
        let negative = || self.negatives.get(known).filter(|no| current(no.rules, no.until));
        let answer = match active {
            Some(proof) => Some(Ok(proof.verified)),
            None => negative().map(|no| Err(no.denial)),
        };
        self.answer_hits.fetch_add(u64::from(answer.is_some()), Ordering::Relaxed);
        answer
    }

    pub(super) fn forget_answer(&self, known: &Known) {
        self.invalidate(known);
    }

    /// Keeps what a realm said: "active" at most until the token ends.
    pub(super) fn keep_answer(
        &self,
        known: Known,
        answer: Result<Arc<Verified>, Denial>,
        version: Version,
        asked: Duration,
        kept: Duration,
        now: UnixTime,
    ) {
        let rules = version.rules;
        match answer {
            Ok(verified) => {
                let lifetime = verified.claims().expires().since(now).min(kept);
                let until = asked.saturating_add(lifetime);
                self.negatives.invalidate(&known);
                self.insert(known, Proof { verified, rules, lifetime, until });
            }
            Err(denial) => {
                let until = asked.saturating_add(kept);
                self.invalidate(&known);
                self.negatives.insert(known, Negative { denial, rules, until });
            }
        }
    }

    pub(super) fn forget_proof(&self, digest: &TokenDigest) {
        self.invalidate(&Known { digest: *digest, asked: None });
    }

    fn insert(&self, known: Known, proof: Proof) {
        self.proofs.insert(known, proof);
        self.front.forget(&known);
    }

    fn invalidate(&self, known: &Known) {
        self.proofs.invalidate(known);
        self.front.forget(known);
    }

    /// Whether this token's signature was refused a moment ago, under these very rules and keys; and
    /// the place of the realm it claimed to be from.
    pub(super) fn refusal(&self, digest: &TokenDigest, version: Version) -> Option<Option<usize>> {
        let refusal = self.refusals.get(digest).filter(|(then, _)| *then == version);
        if refusal.is_some() {
            self.refusal_hits.fetch_add(1, Ordering::Relaxed);
        }
        refusal.map(|(_, realm)| realm)
    }

    pub(super) fn keep_refusal(&self, digest: TokenDigest, version: Version, realm: Option<usize>) {
        self.refusals.insert(digest, (version, realm));
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.proofs.run_pending_tasks(); // moka counts late
        self.front.tidy(&self.proofs);
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            refusal_hits: self.refusal_hits.load(Ordering::Relaxed),
            answer_hits: self.answer_hits.load(Ordering::Relaxed),
            entries: self.proofs.entry_count(),
            bytes: self.proofs.weighted_size(),
        }
    }
}

impl Store<Proof> for Cache<Known, Proof> {
    fn get(&self, known: &Known) -> Option<Proof> {
        Cache::get(self, known)
    }

    fn has(&self, known: &Known) -> bool {
        self.contains_key(known)
    }

    fn bytes(&self, proof: &Proof) -> u32 {
        weight(&proof.verified)
    }
}

fn weight(verified: &Verified) -> u32 {
    u32::try_from(verified.memory() + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

struct UntilExpiry;

impl Expiry<Known, Proof> for UntilExpiry {
    fn expire_after_create(&self, _: &Known, proof: &Proof, _: Instant) -> Option<Duration> {
        // The cache's own clock is coarse; authorize() judges `exp` exactly on every request.
        Some(proof.lifetime.min(Duration::from_secs(366 * 24 * 3600)))
    }

    fn expire_after_update(
        &self,
        key: &Known,
        proof: &Proof,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, proof, now)
    }
}
