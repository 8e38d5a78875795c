//! Who waits for which fetch: single flight and cool-down, as pure bookkeeping.
//!
//! A round is one fetch. It may be scheduled, or forced by an unknown `kid`; forced ones are at least
//! a cool-down apart, whoever asks. A `kid` counts as not published only if a round that began after
//! the question did not bring it: until then the answer is "not known yet", never "no".

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::check::KeySet;
use crate::gate::Refresh;

/// As many different unknown `kid`s are remembered; an attacker may send any number. Kept as keyed
/// hashes: a `kid` may be long.
const MAX_KIDS: usize = 256;

/// How one fetch ended.
pub(super) struct Round {
    pub(super) number: u64,
    /// What it brought, or nothing.
    pub(super) keys: Option<Arc<KeySet>>,
    /// The `kid`s asked for before it began.
    asked: HashSet<u64>,
}

/// The questions that are open, and the last answer.
pub(super) struct Rounds {
    cooldown: Duration,
    last: Arc<Round>,
    /// Asked for since the last fetch began.
    open: HashSet<u64>,
    /// The fetch that is running, by what was asked for before it began.
    running: Option<HashSet<u64>>,
    last_forced: Option<Instant>,
    wanted: bool,
    hasher: RandomState,
}

/// What to do about an unknown `kid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more to learn.
    Answer(Refresh),
    /// Wait until this round has ended, then ask again; the fetcher may need waking.
    Wait(u64),
}

impl Rounds {
    pub(super) fn new(cooldown: Duration) -> Self {
        let last = Arc::new(Round { number: 0, keys: None, asked: HashSet::new() });
        let (open, running) = (HashSet::new(), None);
        let hasher = RandomState::new();
        Self { cooldown, last, open, running, last_forced: None, wanted: false, hasher }
    }

    /// Somebody holds a token with a `kid` that is not known, or, without `has_keys`, whose realm has
    /// none that are fresh enough to use.
    pub(super) fn ask(&mut self, kid: &str, has_keys: bool, now: Instant) -> Step {
        if has_keys
            && self.last.keys.as_ref().is_some_and(|keys| keys.with_kid(kid).next().is_some())
        {
            return Step::Answer(Refresh::Done); // it has come meanwhile
        }
        if self.running.is_some() {
            // Its answer may have been on its way before the question: if it brings nothing, ask on.
            return Step::Wait(self.last.number + 1);
        }
        let kid = self.hasher.hash_one(kid);
        let cooling_down = self.last_forced.is_some_and(|then| now < then + self.cooldown);
        if cooling_down && self.last.keys.is_none() {
            return Step::Answer(Refresh::Unreachable);
        }
        if cooling_down && has_keys && self.last.asked.contains(&kid) {
            return Step::Answer(Refresh::Done);
        }
        self.wanted = true; // now, or as soon as it is allowed
        if self.open.len() < MAX_KIDS {
            self.open.insert(kid);
        }
        match cooling_down {
            true => Step::Answer(Refresh::CoolingDown),
            false => Step::Wait(self.last.number + 1),
        }
    }

    /// When a forced fetch is due, if one is wanted.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.wanted.then(|| self.last_forced.map_or(now, |then| then + self.cooldown))
    }

    /// A fetch begins, scheduled or forced.
    pub(super) fn begin(&mut self, now: Instant) {
        if std::mem::take(&mut self.wanted) {
            self.last_forced = Some(now);
        }
        self.running = Some(std::mem::take(&mut self.open));
    }

    /// It has ended.
    pub(super) fn end(&mut self, keys: Option<Arc<KeySet>>) -> Arc<Round> {
        let mut asked = self.running.take().unwrap_or_default();
        if keys.is_some() && self.last.keys.is_some() {
            // What an earlier round did not find, and this one neither, is still not published.
            let room = MAX_KIDS.saturating_sub(asked.len());
            asked.extend(self.last.asked.iter().take(room).copied());
        }
        self.last = Arc::new(Round { number: self.last.number + 1, keys, asked });
        Arc::clone(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(10);

    fn keys(kid: &str) -> Option<Arc<KeySet>> {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let jwks =
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#);
        Some(Arc::new(KeySet::parse(jwks.as_bytes()).unwrap()))
    }

    /// A realm whose first, scheduled fetch has brought key `a`.
    fn started(now: Instant) -> Rounds {
        let mut rounds = Rounds::new(COOLDOWN);
        rounds.begin(now);
        rounds.end(keys("a"));
        rounds
    }

    #[test]
    fn an_unknown_kid_forces_one_fetch_that_all_wait_for() {
        let now = Instant::now();
        let mut rounds = started(now);
        assert_eq!(rounds.due(now), None);
        assert_eq!(rounds.ask("b", true, now), Step::Wait(2));
        assert_eq!(rounds.ask("b", true, now), Step::Wait(2));
        assert_eq!(rounds.ask("c", true, now), Step::Wait(2));
        assert_eq!(rounds.due(now), Some(now));
        rounds.begin(now);
        assert_eq!(rounds.due(now), None);
        rounds.end(keys("b"));
        assert_eq!(rounds.ask("b", true, now), Step::Answer(Refresh::Done), "it is there");
        assert_eq!(
            rounds.ask("c", true, now),
            Step::Answer(Refresh::Done),
            "it is certainly not there"
        );
    }

    #[test]
    fn within_the_cooldown_a_new_kid_is_not_known_yet_and_fetched_as_soon_as_allowed() {
        let now = Instant::now();
        let mut rounds = started(now);
        rounds.ask("b", true, now);
        rounds.begin(now);
        rounds.end(keys("a"));
        let later = now + COOLDOWN / 2;
        assert_eq!(rounds.ask("c", true, later), Step::Answer(Refresh::CoolingDown));
        assert_eq!(rounds.due(later), Some(now + COOLDOWN));
        rounds.begin(now + COOLDOWN);
        rounds.end(keys("c"));
        assert_eq!(rounds.ask("c", true, now + COOLDOWN), Step::Answer(Refresh::Done));
    }

    #[test]
    fn a_question_during_a_fetch_is_not_answered_by_it_with_no() {
        let now = Instant::now();
        let mut rounds = started(now);
        rounds.begin(now); // scheduled; the issuer's answer is on its way
        assert_eq!(rounds.ask("b", true, now), Step::Wait(2));
        rounds.end(keys("a"));
        assert_eq!(rounds.ask("b", true, now), Step::Wait(3), "so it asks on");
        assert_eq!(rounds.due(now), Some(now));
    }

    #[test]
    fn an_unreachable_issuer_is_never_taken_for_a_missing_key() {
        let now = Instant::now();
        let mut rounds = started(now);
        rounds.ask("b", true, now);
        rounds.begin(now);
        rounds.end(None);
        assert_eq!(rounds.ask("b", true, now), Step::Answer(Refresh::Unreachable));
        assert_eq!(rounds.ask("b", true, now + COOLDOWN), Step::Wait(3));
    }

    #[test]
    fn keys_that_are_too_old_to_use_are_fetched_although_the_kid_is_among_them() {
        let now = Instant::now();
        let mut rounds = started(now);
        assert_eq!(rounds.ask("a", true, now), Step::Answer(Refresh::Done));
        assert_eq!(rounds.ask("a", false, now), Step::Wait(2));
        assert_eq!(rounds.due(now), Some(now));
        rounds.begin(now);
        rounds.end(keys("a"));
        assert_eq!(rounds.ask("a", false, now), Step::Answer(Refresh::CoolingDown));
        assert_eq!(rounds.due(now), Some(now + COOLDOWN));
    }

    #[test]
    fn a_million_kids_cost_one_fetch_and_bounded_memory() {
        let now = Instant::now();
        let mut rounds = started(now);
        rounds.ask("first", true, now);
        rounds.begin(now);
        rounds.end(keys("a"));
        for kid in 0..1_000_000 {
            assert_eq!(rounds.ask(&kid.to_string(), true, now), Step::Answer(Refresh::CoolingDown));
        }
        assert_eq!(rounds.open.len(), MAX_KIDS);
        rounds.begin(now + COOLDOWN);
        assert!(rounds.end(keys("a")).asked.len() <= MAX_KIDS);
    }
}
