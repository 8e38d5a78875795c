//! The proofs that are asked for most, where one look finds them.
//!
//! The cache keeps count of what is asked for, so as to know what to give up; that costs more than the look
//! itself. In front of it stands a table without a lock: a slot for each of some digests, filled with what was
//! found in the cache. It only ever shortens the way: a look in 16 goes on to the cache, so that this one goes
//! on counting. What the cache no longer has leaves its slot by then, or when another slot's turn comes.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::cache::Known;

/// A slot for so many bytes of the cache.
const BYTES_PER_SLOT: u64 = 128 * 1024;

/// What is larger has no slot. So what slots hold beyond the cache's bound, for some looks, is 6 % of it at
/// most.
const LARGEST: u32 = 8 * 1024;

const MOST_SLOTS: u64 = 4096;

/// One look of so many goes on to the cache: a power of two.
const LOOKS: u64 = 16;

pub(super) struct Front<T> {
    slots: Box<[Slot<T>]>,
    next: AtomicUsize,
}

type Slot<T> = ArcSwapOption<(Known, T)>;

impl<T: Clone> Front<T> {
    pub(super) fn new(cache_bytes: u64) -> Self {
        let slots = 1 << (cache_bytes / BYTES_PER_SLOT).clamp(1, MOST_SLOTS).ilog2();
        let slots = (0..slots).map(|_| Slot::empty()).collect();
        Self { slots, next: AtomicUsize::new(0) }
    }

    /// What is known and still fits, by the slot or else by the cache, which also says how many bytes it
    /// takes.
    pub(super) fn get(
        &self,
        known: &Known,
        fits: impl Fn(&T) -> bool,
        cache: &impl Store<T>,
    ) -> Option<T> {
        let (slot, counts) = (self.slot(known), counts());
        let held = slot.load();
        let here = held.as_ref().filter(|entry| entry.0 == *known && fits(&entry.1));
        if let (Some(entry), false) = (here, counts) {
            return Some(entry.1.clone());
        }
        let found = cache.get(known).filter(|value| fits(value));
        match &found {
            None => self.forget(known),
            // Not each time: two that share a slot would take turns in it.
            Some(value) if here.is_none() && (counts || held.is_none()) => {
                if cache.bytes(value) <= LARGEST {
                    slot.store(Some(Arc::new((*known, value.clone()))));
                }
            }
            Some(_) => {}
        }
        if counts {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            tidy(&self.slots[next & (self.slots.len() - 1)], cache);
        }
        found
    }

    pub(super) fn forget(&self, known: &Known) {
        let slot = self.slot(known);
        if slot.load().as_ref().is_some_and(|entry| entry.0 == *known) {
            slot.store(None);
        }
    }

    /// Gives up what the cache no longer has.
    pub(super) fn tidy(&self, cache: &impl Store<T>) {
        self.slots.iter().for_each(|slot| tidy(slot, cache));
    }

    fn slot(&self, known: &Known) -> &Slot<T> {
        let asked = known.asked.map_or(0, |realm| realm + 1);
        // A power of two, and a digest: any of its bits do.
        &self.slots
            [(known.digest.first_bits() as usize).wrapping_add(asked) & (self.slots.len() - 1)]
    }
}

/// What stands behind.
pub(super) trait Store<T> {
    /// Asks, and is counted.
    fn get(&self, known: &Known) -> Option<T>;
    /// Asks, and is not counted.
    fn has(&self, known: &Known) -> bool;
    fn bytes(&self, value: &T) -> u32;
}

fn tidy<T>(slot: &Slot<T>, cache: &impl Store<T>) {
    if slot.load().as_ref().is_some_and(|entry| !cache.has(&entry.0)) {
        slot.store(None);
    }
}

/// Whether it is this look's turn to be counted. By chance (xorshift), since tokens come in patterns.
fn counts() -> bool {
    thread_local!(static CHANCE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
    CHANCE.with(|chance| {
        let mut bits = chance.get();
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        chance.set(bits);
        bits & (LOOKS - 1) == 0
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::check::RawToken;

    #[derive(Default)]
    struct Cache {
        values: HashMap<Known, u32>,
        asked: Cell<usize>,
    }

    impl Store<u32> for Cache {
        fn get(&self, known: &Known) -> Option<u32> {
            self.asked.set(self.asked.get() + 1);
            self.values.get(known).copied()
        }

        fn has(&self, known: &Known) -> bool {
            self.values.contains_key(known)
        }

        fn bytes(&self, value: &u32) -> u32 {
            *value
        }
    }

    fn known(token: &str) -> Known {
        Known { digest: RawToken::new(token).digest(), asked: None }
    }

    fn slots_in_use(front: &Front<u32>) -> usize {
        front.slots.iter().filter(|slot| slot.load().is_some()).count()
    }

    #[test]
    fn some_looks_go_on_and_what_is_gone_leaves_its_slot() {
        let (front, mut cache) = (Front::new(64 << 20), Cache::default());
        cache.values.insert(known("a"), 7);
        for _ in 0..1600 {
            assert_eq!(front.get(&known("a"), |_| true, &cache), Some(7));
        }
        assert!((50..=200).contains(&cache.asked.get()), "{:?}", cache.asked);
        cache.values.clear(); // it has given it up
        assert!((0..1600).any(|_| front.get(&known("a"), |_| true, &cache).is_none()));
        assert_eq!(slots_in_use(&front), 0);
        cache.values.insert(known("a"), 8);
        assert_eq!(front.get(&known("a"), |_| true, &cache), Some(8));
        cache.values.clear();
        front.forget(&known("a"));
        assert_eq!(front.get(&known("a"), |_| true, &cache), None, "forgotten at once");
    }

    #[test]
    fn what_does_not_fit_is_asked_for_at_once_and_replaced() {
        let (front, mut cache) = (Front::new(64 << 20), Cache::default());
        cache.values.insert(known("a"), 1);
        while slots_in_use(&front) == 0 {
            front.get(&known("a"), |_| true, &cache);
        }
        cache.values.insert(known("a"), 2);
        for _ in 0..100 {
            assert_eq!(front.get(&known("a"), |value| *value == 2, &cache), Some(2));
        }
        cache.values.clear();
        assert_eq!(front.get(&known("a"), |value| *value == 3, &cache), None);
        assert_eq!(slots_in_use(&front), 0);
    }

    #[test]
    fn others_looks_and_tidying_empty_the_slots_of_what_is_gone() {
        let (front, mut cache) = (Front::new(64 << 20), Cache::default());
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let fill = |cache: &mut Cache| {
            for name in &names {
                cache.values.insert(known(name), 1);
                front.get(&known(name), |_| true, cache);
            }
            cache.values.clear();
        };
        fill(&mut cache);
        assert!(slots_in_use(&front) > 50);
        (0..front.slots.len() * 32)
            .for_each(|_| assert!(front.get(&known("?"), |_| true, &cache).is_none()));
        assert_eq!(slots_in_use(&front), 0, "a slot for each look that counts");
        fill(&mut cache);
        front.tidy(&cache);
        assert_eq!(slots_in_use(&front), 0);
    }

    #[test]
    fn what_is_large_has_no_slot() {
        let (front, mut cache) = (Front::new(64 << 20), Cache::default());
        cache.values.insert(known("a"), LARGEST + 1);
        for _ in 0..100 {
            assert!(front.get(&known("a"), |_| true, &cache).is_some());
        }
        assert_eq!((cache.asked.get(), slots_in_use(&front)), (100, 0));
    }

    #[test]
    fn neighbours_in_one_slot_are_told_apart() {
        let (front, mut cache) = (Front::new(0), Cache::default()); // a single slot
        for (value, token) in ["a", "b", "c"].iter().enumerate() {
            cache.values.insert(known(token), value as u32);
        }
        for _ in 0..100 {
            for (value, token) in ["a", "b", "c"].iter().enumerate() {
                assert_eq!(front.get(&known(token), |_| true, &cache), Some(value as u32));
                let asked = Known { asked: Some(1), ..known(token) };
                assert_eq!(front.get(&asked, |_| true, &cache), None, "another realm's word");
            }
        }
    }
}
