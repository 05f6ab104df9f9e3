//! Handles, and the state word of a slot that they are compared with.
//!
//! Both have the same layout, so that a lookup is one load and one comparison:
//!
//! ```text
//!  63 (31)          18 17    16 15            0
//! | generation        | phase  | slot index    |
//! ```
//!
//! A handle always has phase `Live`, which is 0, and a generation that is not: it is never 0, and equals a state word only
//! while the slot holds that very entry.

use core::fmt;
use core::num::NonZeroUsize;

/// The most slots that a table can have.
pub const MAX_CAPACITY: u32 = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 16;
const PHASE_BITS: u32 = 2;
const GENERATION_SHIFT: u32 = INDEX_BITS + PHASE_BITS;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
const PHASE_MASK: usize = ((1 << PHASE_BITS) - 1) << INDEX_BITS;

/// The last generation of a slot: 2^46 - 1 where pointers have 64 bits, 2^14 - 1 where they have 32. The first is 1.
///
/// Each reuse of a slot takes the next generation. A slot whose entry of this generation has been
/// reclaimed is **worn out**: it is never used again (see [`Stats::worn_out`](crate::Stats)), so that no
/// handle value is ever issued twice in a table's life. At 5 million reuses of one and the same slot
/// per second that takes 162 days on 64 bits.
pub const MAX_GENERATION: usize = usize::MAX >> GENERATION_SHIFT;

/// The first generation of a slot: not 0, so that no handle is 0.
pub(crate) const MIN_GENERATION: usize = 1;

/// Names one entry of a table, now and for ever: generation and slot index in one pointer-sized
/// value that is never 0.
///
/// A handle whose entry was retired, that belongs to another slot or that was made up is recognised by
/// every function that takes one. (A made-up value that *equals* the handle of a live entry is that handle;
/// start the generations somewhere unguessable, [`Config::first_generation`](crate::Config), where that matters.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Handle(NonZeroUsize);

impl Handle {
    /// The handle with this raw value, or `None` when no table could have issued it.
    ///
    /// `Some` does not mean that the entry exists: only a lookup tells.
    #[inline]
    pub const fn from_raw(raw: usize) -> Option<Self> {
        let state = State(raw);
        if !state.is(Phase::Live) || state.generation() < MIN_GENERATION {
            return None;
        }
        match NonZeroUsize::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The raw value, to be carried as an opaque pointer-sized number; never 0.
    #[inline]
    pub const fn into_raw(self) -> usize {
        self.0.get()
    }

    /// The slot index, for dumps. Below the table's capacity if the table issued this handle.
    #[inline]
    pub const fn index(self) -> u32 {
        State(self.0.get()).index()
    }

    /// The generation, for dumps.
    #[inline]
    pub const fn generation(self) -> usize {
        State(self.0.get()).generation()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({}:{})", self.index(), self.generation())
    }
}

/// What a slot is doing. The order of a life is Free, Built, Live, Retired, Free (next generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Phase {
    /// Published: the only phase in which readers touch the key and the value. 0, as it is the one that lookups test for.
    Live = 0,
    /// In the free list, or owned by the writer that took it from there.
    Free = 1,
    /// Complete, but not published: owned by its writer until the index holds it.
    Built = 2,
    /// Unpublished: owned by the retiring writer, then by the limbo list, then by whoever pops it from there.
    Retired = 3,
}

/// The state word of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) usize);

impl State {
    /// `generation` is at least [`MIN_GENERATION`], for handles are made of states without a check.
    pub(crate) const fn new(generation: usize, phase: Phase, index: u32) -> Self {
        debug_assert!(generation >= MIN_GENERATION);
        Self(generation << GENERATION_SHIFT | (phase as usize) << INDEX_BITS | index as usize)
    }

    /// The same entry in another phase.
    pub(crate) const fn to(self, phase: Phase) -> Self {
        Self(self.0 & !PHASE_MASK | (phase as usize) << INDEX_BITS)
    }

    #[inline]
    pub(crate) const fn is(self, phase: Phase) -> bool {
        self.0 & PHASE_MASK == (phase as usize) << INDEX_BITS
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 16 bits")]
    pub(crate) const fn index(self) -> u32 {
        (self.0 & INDEX_MASK) as u32
    }

    pub(crate) const fn generation(self) -> usize {
        self.0 >> GENERATION_SHIFT
    }

    /// The handle that finds this entry while it is live.
    #[inline]
    pub(crate) const fn to_handle(self) -> Handle {
        let raw = self.to(Phase::Live).0;
        // SAFETY: the states of slots have a generation of at least 1, so neither word is 0. (Said of the state as well, it spares
        // who makes an `Option` of the handle a comparison.)
        Handle(unsafe {
            core::hint::assert_unchecked(self.0 != 0);
            NonZeroUsize::new_unchecked(raw)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_live_values_are_handles() {
        assert_eq!(Handle::from_raw(0), None);
        for index in [0, 1, 77, MAX_CAPACITY - 1] {
            for generation in [1, 2, 12345 % MAX_GENERATION, MAX_GENERATION] {
                for phase in [Phase::Free, Phase::Live, Phase::Built, Phase::Retired] {
                    let state = State::new(generation, phase, index);
                    let handle = Handle::from_raw(state.0);
                    assert_eq!(handle.is_some(), phase == Phase::Live);
                    if let Some(handle) = handle {
                        assert_ne!(handle.into_raw(), 0);
                        assert_eq!((handle.index(), handle.generation()), (index, generation));
                        assert_eq!(Handle::from_raw(handle.into_raw()), Some(handle));
                    }
                    assert!(state.is(phase) && state.to(Phase::Free).is(Phase::Free));
                    assert_eq!(state.to(Phase::Live).to(phase), state);
                    assert_eq!(state.to_handle().into_raw(), state.to(Phase::Live).0);
                }
            }
        }
    }
}
