//! The slot: one entry, its state word and its links. With [`storage`](crate::storage), one of the two places
//! with `unsafe` cells.

use core::cell;
use core::mem::MaybeUninit;

use crate::handle::{Handle, Phase, State};
use crate::key::OUTBOUND;
use crate::sync::{AtomicU32, AtomicUsize, Ordering, UnsafeCell};

/// "No slot" in a link.
pub(crate) const NONE: u32 = 0x1_ffff;
/// The bits of a link or of `place` that name a slot.
pub(crate) const LINK_MASK: u32 = 0x1_ffff;
/// In `place`: this chain node is retired, and its successor is frozen.
pub(crate) const MARK: u32 = 1 << 31;
/// In `place`: the entry sits in a lane of its bucket, whose number the low bits are; else it is a chain node.
pub(crate) const LANE: u32 = 1 << 30;

/// One slot, in declaration order: 8 bytes of links, the key of 24 bytes, 8 bytes of state, the value.
///
/// # Invariants
///
/// Who may touch `key` and `value` follows from the phase in `state` alone:
///
/// 1. *Free*: the writer that popped the slot from the free list, and nobody else.
/// 2. *Built*: the same writer. (Others may make it Live once the index holds it, see `index`.)
/// 3. *Live*: anybody who is pinned (see `epoch`) and loaded Live **while pinned** may read both, until unpinned.
///    Nobody writes.
/// 4. *Retired*: those readers still, until each has unpinned; and the writer that retired it, which may read the key.
///    After the grace period, whoever popped the slot from its limbo list owns it, drops the value and makes it Free.
#[repr(C)]
pub(crate) struct Slot<V> {
    /// Next in the free list or in a limbo list.
    pub(crate) link: AtomicU32,
    /// Where the index holds the entry: `LANE | lane`, or as a chain node, the next node and `MARK`.
    /// Readers on a chain may still need it while `link` is used by a limbo list, hence two words.
    pub(crate) place: AtomicU32,
    key: UnsafeCell<[u64; 3]>,
    /// Beside the value, which is all that a lookup by handle touches, and beside the key.
    pub(crate) state: AtomicUsize,
    value: cell::UnsafeCell<MaybeUninit<V>>,
}

// SAFETY: by the invariants a slot hands out `&V` on any thread (V: Sync), and drops or returns a value on
// another thread than the one that gave it (V: Send). The key is plain numbers under the same rules.
unsafe impl<V: Send + Sync> Sync for Slot<V> {}
// SAFETY: a slot owns its value.
unsafe impl<V: Send> Send for Slot<V> {}

impl<V> Slot<V> {
    /// Makes a Free slot at `at`, part by part: a value may be too large to go over the stack.
    ///
    /// # Safety
    ///
    /// `at` is valid for writes, aligned, and the caller's alone.
    pub(crate) unsafe fn init(at: *mut Self, index: u32, generation: usize, next: u32) {
        let state = State::new(generation, Phase::Free, index).0;
        // SAFETY: the fields lie in what the contract gives; `value` is uninitialised as it is.
        unsafe {
            (&raw mut (*at).state).write(AtomicUsize::new(state));
            (&raw mut (*at).link).write(AtomicU32::new(next));
            (&raw mut (*at).place).write(AtomicU32::new(0));
            (&raw mut (*at).key).write(UnsafeCell::new(OUTBOUND));
        }
    }

    /// Whether this is the live entry of `handle` now.
    ///
    /// `SeqCst`: this is the load L of the proof in `epoch`; a plain load on x86, `ldar` on arm64, as Acquire
    /// would be. It also acquires what the publishing store released: key and value are complete.
    #[inline]
    pub(crate) fn holds(&self, handle: Handle) -> bool {
        self.state.load(Ordering::SeqCst) == handle.into_raw()
    }

    /// The state, to see whether it is Live. Ordering: as [`holds`](Self::holds).
    #[inline]
    pub(crate) fn state(&self) -> State {
        State(self.state.load(Ordering::SeqCst))
    }

    /// Puts the entry in place.
    ///
    /// # Safety
    ///
    /// The caller owns the slot, which is Free (invariant 1).
    pub(crate) unsafe fn fill(&self, key: [u64; 3], value: V) {
        // SAFETY: the caller owns the slot, so nobody else accesses either cell.
        self.key.with_mut(|cell| unsafe { cell.write(key) });
        // SAFETY: as above; the old content is uninitialised or was moved out, so nothing is leaked by overwriting.
        unsafe { self.value.get().cast::<V>().write(value) };
    }

    /// Moves the value out, uninitialised from here on.
    ///
    /// # Safety
    ///
    /// The caller owns the slot, it was filled, and its value has been neither taken nor dropped since.
    pub(crate) unsafe fn take(&self) -> V {
        // SAFETY: the caller owns the slot, and the value is initialised.
        unsafe { (*self.value.get()).assume_init_read() }
    }

    /// Drops the value where it lies, so that what its `Drop` overwrites is the only copy.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take).
    pub(crate) unsafe fn drop_value(&self) {
        // SAFETY: the caller owns the slot, and the value is initialised.
        unsafe { (*self.value.get()).assume_init_drop() };
    }

    /// The key words.
    ///
    /// # Safety
    ///
    /// The caller is pinned and loaded Live (or Built, of an entry that the index holds) while pinned;
    /// or owns the slot, or retired its entry and has not yet put it into limbo; stays so while the reference is used; and
    /// the slot was filled.
    #[inline]
    pub(crate) unsafe fn key(&self) -> &[u64; 3] {
        // SAFETY: by the contract nobody writes the cell now (invariants 3 and 4), and it was written before the
        // state that the caller acquired.
        self.key.with(|cell| unsafe { &*cell })
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// The caller is pinned and loaded Live while pinned, and stays pinned while the reference is used.
    #[inline]
    pub(crate) unsafe fn value(&self) -> &V {
        // SAFETY: invariant 3: initialised, and not written or dropped before the caller unpins.
        unsafe { (*self.value.get()).assume_init_ref() }
    }
}
