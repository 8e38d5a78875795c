//! The proofs that are asked for most, where one look finds them.
//!
//! The cache keeps count of what is asked for, so as to know what to give up; that costs more than the look
//! itself. In front of it stands a table without a lock: a slot for each of some digests, filled with what was
//! found in the cache. It only ever shortens the way: a look in 16 goes on to the cache, so that this one goes
//! on counting, and what is no longer there leaves its slot then.

use std::cell::Cell;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::cache::Known;

/// A slot for so many bytes of the cache. What a slot holds may outlive its place in the cache by some looks:
/// with usual tokens 3 % of the bound at most.
const BYTES_PER_SLOT: u64 = 64 * 1024;

const MOST_SLOTS: u64 = 4096;

/// So many looks for each that goes on to the cache.
const LOOKS: u32 = 16;

pub(super) struct Front<T>(Box<[ArcSwapOption<(Known, T)>]>);

impl<T: Clone> Front<T> {
    pub(super) fn new(cache_bytes: u64) -> Self {
        let slots = (cache_bytes / BYTES_PER_SLOT).clamp(1, MOST_SLOTS);
        Self((0..slots.next_power_of_two()).map(|_| ArcSwapOption::empty()).collect())
    }

    /// What is known, by the slot or else by the cache.
    pub(super) fn get(&self, known: &Known, cache: impl FnOnce() -> Option<T>) -> Option<T> {
        let (slot, counts) = (self.slot(known), counts());
        if !counts
            && let Some(entry) = &*slot.load()
            && entry.0 == *known
        {
            return Some(entry.1.clone());
        }
        let found = cache();
        match &found {
            // Not each time: two that share a slot would take turns in it.
            Some(value) if counts || slot.load().is_none() => {
                slot.store(Some(Arc::new((*known, value.clone()))));
            }
            Some(_) => {}
            None => self.forget(known),
        }
        found
    }

    pub(super) fn forget(&self, known: &Known) {
        let slot = self.slot(known);
        if slot.load().as_ref().is_some_and(|entry| entry.0 == *known) {
            slot.store(None);
        }
    }

    fn slot(&self, known: &Known) -> &ArcSwapOption<(Known, T)> {
        // A power of two, and a digest: any of its bits do.
        &self.0[known.digest.first_bits() as usize & (self.0.len() - 1)]
    }
}

/// Whether it is this look's turn to be counted, by the cache.
fn counts() -> bool {
    thread_local!(static TURN: Cell<u32> = const { Cell::new(0) });
    let turn = TURN.with(|turn| turn.replace((turn.get() + 1) % LOOKS));
    turn == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::RawToken;

    fn known(token: &str) -> Known {
        Known { digest: RawToken::new(token).digest(), asked: None }
    }

    #[test]
    fn one_look_in_sixteen_goes_on_and_what_is_gone_leaves_its_slot() {
        let (front, asked) = (Front::new(1 << 20), Cell::new(0));
        let look = |value: Option<u8>| {
            front.get(&known("a"), || {
                asked.set(asked.get() + 1);
                value
            })
        };
        for _ in 0..160 {
            assert_eq!(look(Some(7)), Some(7));
        }
        assert!((10..=11).contains(&asked.get()), "{asked:?}");
        // The cache has given it up.
        let last = (0..16).map(|_| look(None)).filter(Option::is_some).count();
        assert!(last < 16);
        assert_eq!(look(None), None, "it does not come back");
        assert_eq!(look(Some(8)), Some(8));
        front.forget(&known("a"));
        assert_eq!(look(None), None, "forgotten at once");
    }

    #[test]
    fn neighbours_in_one_slot_are_told_apart() {
        let front = Front::new(0); // a single slot
        for turn in 0..100u32 {
            for token in ["a", "b", "c"] {
                assert_eq!(front.get(&known(token), || Some(token)), Some(token), "{turn}");
                let asked = Known { asked: Some(1), ..known(token) };
                assert_eq!(front.get(&asked, || None), None, "another realm's word");
            }
        }
    }
}
