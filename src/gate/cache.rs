//! What need not be worked out twice: proofs, and for a moment, refusals.
//!
//! The cache holds proofs, never verdicts: a hit saves the signature or the call, and nothing else. Of a
//! token it keeps SHA-256, or what its signature covers and SHA-256 of that signature: a copy of this memory
//! is no collection of tokens. What a realm answered is kept under that realm: another one's word about the
//! same token is not its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::sync::Cache;

use super::proofs::{Name, Proof, Proofs};
use super::snapshot::Version;
use crate::check::{Denial, RawToken, TokenDigest, TokenKey, UnixTime, Verified};

/// How long a refused signature is remembered. Long enough that a bad token in a loop costs nothing;
/// a key that changes meanwhile ends it at once.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(10);

/// How many are remembered: about 2 MiB, whoever sends them.
const MAX_REFUSALS: u64 = 10_000;

/// The longest `inactive_ttl` that the configuration allows; each entry also knows its own end.
const MAX_NEGATIVE_LIFETIME: Duration = Duration::from_secs(3600);

pub(super) struct TokenCache {
    proofs: Proofs,
    refusals: Cache<TokenDigest, (Version, Option<usize>)>,
    /// By the gate's uptime, in milliseconds: none is left from then on.
    refusals_until: AtomicU64,
    negatives: Cache<Known, Negative>,
    hits: AtomicU64,
    misses: AtomicU64,
    refusal_hits: AtomicU64,
    answer_hits: AtomicU64,
}

/// When something is asked of the cache, or told it.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) version: Version,
    pub(super) now: UnixTime,
    /// The gate's.
    pub(super) uptime: Duration,
}

/// A token that a realm is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) digest: TokenDigest,
    pub(super) realm: usize,
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
            proofs: Proofs::new(max_bytes),
            refusals: Cache::builder()
                .max_capacity(MAX_REFUSALS)
                .time_to_live(REFUSAL_LIFETIME)
                .build(),
            refusals_until: AtomicU64::new(0),
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
    pub(super) fn proof(&self, key: TokenKey<'_>, version: Version) -> Option<Arc<Verified>> {
        let proof = self.verified(key, version);
        self.hits.fetch_add(u64::from(proof.is_some()), Relaxed);
        proof
    }

    /// Whether a proof or a refused signature is there. It counts as neither hit nor miss.
    pub(super) fn knows(&self, token: RawToken<'_>, moment: Moment) -> bool {
        self.verified(token.key(), moment.version).is_some()
            || self.refused(token, moment).is_some()
    }

    fn verified(&self, key: TokenKey<'_>, version: Version) -> Option<Arc<Verified>> {
        let proof = self.proofs.get(Name { key, asked: None });
        proof.filter(|proof| proof.rules == version.rules).map(|proof| proof.verified)
    }

    /// A token that may be in the cache was not.
    pub(super) fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// Keeps a proof that another look may use. It stays until others displace it, or its token has ended
    /// and [`Self::tidy`] finds it; [`authorize`](crate::check::authorize) judges `exp` on each hit.
    pub(super) fn keep_proof(&self, key: TokenKey<'_>, verified: Arc<Verified>, moment: Moment) {
        // The leeway belongs to judging: within it the proof may be gone, and the token is verified anew.
        if verified.claims().expires() > moment.now {
            let proof = Proof { verified, rules: moment.version.rules, until: Duration::MAX };
            self.proofs.insert(Name { key, asked: None }, proof);
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
        let active = self.proofs.get(known.name()).filter(fits);
        let negative = || self.negatives.get(known).filter(|no| current(no.rules, no.until));
        let answer = match active {
            Some(proof) => Some(Ok(proof.verified)),
            None => negative().map(|no| Err(no.denial)),
        };
        self.answer_hits.fetch_add(u64::from(answer.is_some()), Relaxed);
        answer
    }

    pub(super) fn forget_answer(&self, known: &Known) {
        self.proofs.remove(known.name());
    }

    /// Keeps what a realm said: "active" at most until the token ends.
    pub(super) fn keep_answer(
        &self,
        known: Known,
        answer: Result<Arc<Verified>, Denial>,
        kept: Duration,
        moment: Moment,
    ) {
        let rules = moment.version.rules;
        match answer {
            Ok(verified) => {
                let lifetime = verified.claims().expires().since(moment.now).min(kept);
                let until = moment.uptime.saturating_add(lifetime);
                self.negatives.invalidate(&known);
                self.proofs.insert(known.name(), Proof { verified, rules, until });
            }
            Err(denial) => {
                let until = moment.uptime.saturating_add(kept);
                self.proofs.remove(known.name());
                self.negatives.insert(known, Negative { denial, rules, until });
            }
        }
    }

    pub(super) fn forget_proof(&self, key: TokenKey<'_>) {
        self.proofs.remove(Name { key, asked: None });
    }

    /// Whether this token's signature was refused a moment ago, under these very rules and keys; and
    /// the place of the realm it claimed to be from.
    pub(super) fn refusal(&self, token: RawToken<'_>, moment: Moment) -> Option<Option<usize>> {
        let refusal = self.refused(token, moment);
        self.refusal_hits.fetch_add(u64::from(refusal.is_some()), Relaxed);
        refusal
    }

    fn refused(&self, token: RawToken<'_>, moment: Moment) -> Option<Option<usize>> {
        // Mostly there is none at all: then the token need not be digested for this.
        if millis(moment.uptime) > self.refusals_until.load(Relaxed) {
            return None;
        }
        let refusal = self.refusals.get(&token.digest());
        refusal.filter(|(then, _)| *then == moment.version).map(|(_, realm)| realm)
    }

    pub(super) fn keep_refusal(&self, token: RawToken<'_>, realm: Option<usize>, moment: Moment) {
        self.refusals.insert(token.digest(), (moment.version, realm));
        let until = millis(moment.uptime.saturating_add(REFUSAL_LIFETIME));
        self.refusals_until.fetch_max(until, Relaxed);
    }

    /// For those who answer, when something new has come: gives up what has ended.
    pub(super) fn tidy(&self, moment: Moment) {
        self.proofs.tidy(moment);
    }

    pub(super) fn stats(&self, moment: Moment) -> CacheStats {
        let (entries, bytes) = self.proofs.size(moment);
        CacheStats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            refusal_hits: self.refusal_hits.load(Relaxed),
            answer_hits: self.answer_hits.load(Relaxed),
            entries,
            bytes,
        }
    }
}

impl Known {
    /// Digested whole: what is no JWS has its secret anywhere.
    fn name(&self) -> Name<'static> {
        let key = TokenKey { signed: b"", signature: self.digest };
        Name { key, asked: Some(self.realm) }
    }
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}
