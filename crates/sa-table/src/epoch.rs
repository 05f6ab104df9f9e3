//! Epochs: who may still see a retired entry, and when nobody does.
//!
//! A thread that reads entries is **pinned**: it is counted in one of a few [`Line`]s (one per processor, say), under
//! the parity of the epoch number E that it saw. A line's counters are shared by whoever happens to use it, so a
//! thread that is preempted while pinned keeps nobody out: pinning is one `fetch_add`, unpinning one `fetch_sub`.
//!
//! * *Advance*: E may go from e to e + 1 when no line counts anybody under the parity of e - 1.
//! * *Stamp*: a retired entry is stamped with the value of E read after it was unpublished.
//! * *Grace*: an entry with stamp s is reclaimed when E is at least s + 3.
//!
//! # Proof: while a reader is pinned, no entry that it found live is reclaimed
//!
//! All operations named here are `SeqCst`: there is one order S of them, in which each load reads the latest
//! modification of its word that precedes it.
//!
//! A reader pins (F: `fetch_add` on a line), loads the state of entry X and finds Live (L), and later unpins
//! (U: `fetch_sub`). X's writer retires it (K: compare-exchange of the state), then loads E: the stamp s. Let y be
//! the value of E at F in S, and p the parity under which F counts; p need not be y's, as E may have moved
//! between the reader's look at E and F.
//!
//! 1. L found Live, so L precedes K in S. F precedes L. Hence the stamp is read after F: **s >= y**.
//! 2. Suppose E became y + 3 before U. Whoever moved E from y + 1 to y + 2 had loaded y + 1, so after F, and then scanned
//!    the lines: between F and U, when the reader's line counted it under p. The scan was for parity y: so p is not the
//!    parity of y. Likewise, whoever moved E from y + 2 to y + 3 scanned for the parity of y + 1: so p is not that
//!    one. There is no third parity. So **E < y + 3 until U**.
//! 3. X is reclaimed by a thread that loaded E >= s + 3 >= y + 3: after U in S. And *happens after*, too: the scan that let
//!    E pass read the line after U (a read-modify-write chain that U heads: it synchronizes), before it changed
//!    E, which the reclaimer loaded. All accesses of the reader to X happen before the drop of X.  ∎
//!
//! A reader that is **renewed** ([`Reader::renew`](crate::Reader::renew)) while E is still the value that it read when it
//! was pinned does nothing: its pin just lasts longer. The proof does not ask how long a pin lasts.
//!
//! (With s + 2, step 2 would fail for a reader that loads E, is preempted while E moves, and then counts itself.)
//!
//! # No wake-up is lost
//!
//! Whoever fails to advance because a line counts somebody, and does not mean to try again, has set that line's *wake* bit for that parity while the count
//! was not 0, by a read-modify-write of the same word that the count is in. The one who brings that count to 0 sees the
//! bit in what its `fetch_sub` returns: it must drive, that is, try to advance in its turn. So whenever somebody
//! is told "not yet", there is a pinned thread that will drive when it unpins, or a thread that is driving now.
//!
//! A reader that is renewed again and again does not put that off: who is blocked by a pin under the parity of e has found E
//! to be at least e + 1, as it scans for the parity of E - 1. The reader compares E with the e that it read, so it unpins at the
//! first renewal that sees E as it is; and if there is no other renewal, then it unpins when it leaves.
//!
//! # Why readers are not spared the two read-modify-writes
//!
//! They could be: readers that only store, and a barrier on all processors by whoever scans. But such a barrier interrupts every
//! reader, needs a system (or a kernel) that has one, and what it saves is a few nanoseconds of a batch of 32 lookups; on some
//! processors nothing, where a plain store right before a locked operation on the same word makes that one wait. Who has one
//! batch after the other renews the reader, and saves both.

use crate::sync::{AtomicU32, AtomicU64, Ordering, order_s};

/// Limbo lists, one for each residue of the stamp. Entries whose stamp is 3 behind E are safe, and by then nobody adds to
/// their list; see `Core::pop_limbo` in `shared`.
pub(crate) const LIMBOS: usize = 4;

/// What separates a stamp from the epoch in which its entries may be reclaimed.
pub(crate) const GRACE: u64 = 3;

/// A count that is never reached: each pin has a stack or a leaked guard behind it.
const MAX_PINS: u32 = 1 << 30;

/// A value on cache lines of its own; 128 bytes, as some processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Alone<T>(pub(crate) T);

/// The words that all threads share.
#[repr(C)]
pub(crate) struct Control {
    /// E. Read by every pin, written only by an advance.
    pub(crate) epoch: Alone<AtomicU64>,
    /// Top of the free list: slot in the low 17 bits, a tag above that changes with every pop and push.
    pub(crate) free: Alone<AtomicU64>,
    pub(crate) limbo: Alone<Limbo>,
}

pub(crate) struct Limbo {
    /// Tops of the limbo lists, in the format of `free`.
    pub(crate) tops: [AtomicU64; LIMBOS],
    /// Entries retired and not yet reclaimed, by the residue of their stamp. Incremented before the entry is in the
    /// list, decremented after its value has been dropped.
    pub(crate) pending: [AtomicU32; LIMBOS],
    /// Threads that are taking entries out of a list and dropping their values now; see `Core::is_over` in `shared`.
    pub(crate) reclaimers: AtomicU32,
    /// Slots that have had all their generations.
    pub(crate) worn_out: AtomicU32,
}

impl Control {
    pub(crate) fn new() -> Self {
        let empty = || AtomicU64::new(u64::from(crate::slot::NONE));
        Self {
            // Not 0, only so that `e - 3` and `e - 1` are numbers.
            epoch: Alone(AtomicU64::new(GRACE)),
            // `Storage` links all slots from 0 on.
            free: Alone(AtomicU64::new(0)),
            limbo: Alone(Limbo {
                tops: core::array::from_fn(|_| empty()),
                pending: core::array::from_fn(|_| AtomicU32::new(0)),
                reclaimers: AtomicU32::new(0),
                worn_out: AtomicU32::new(0),
            }),
        }
    }
}

/// One line: pin counters and the statistics of whoever uses it, on cache lines of its own.
#[repr(C, align(128))]
pub(crate) struct Line {
    /// For each parity a count of 31 bits and the wake bit.
    pins: [AtomicU32; 2],
    pub(crate) counters: [AtomicU64; COUNTERS],
}

/// The statistics that a line counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Inserted,
    Retired,
    Refused,
    Retries,
    Probes,
    Stale,
}

const COUNTERS: usize = 6;

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            pins: [AtomicU32::new(0), AtomicU32::new(0)],
            counters: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Adds to a statistic; nothing is ordered by it.
    #[inline]
    pub(crate) fn count(&self, counter: Counter, n: u32) {
        if n != 0 {
            // Relaxed: a statistic.
            self.counters[counter as usize].fetch_add(u64::from(n), Ordering::Relaxed);
        }
    }

    /// Adds 1 without a read-modify-write, for readers: what threads that share a line count in the same moment may count once.
    #[inline]
    pub(crate) fn count_here(&self, counter: Counter) {
        let counter = &self.counters[counter as usize];
        // Relaxed: a statistic.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Forgets all pins. `&mut` proves that nobody is pinned: leaked guards are all that can be counted.
    pub(crate) fn forget_pins(&self) {
        // Relaxed: the caller has the table for itself.
        for pins in &self.pins {
            pins.store(0, Ordering::Relaxed);
        }
    }
}

/// Set while somebody waits for the count to become 0.
const WAKE: u32 = 1 << 31;

/// What a pin is counted under: 0 or 1.
const fn parity(epoch: u64) -> usize {
    (epoch & 1) as usize
}

/// What an attempt to advance found.
pub(crate) enum Advance {
    /// E is no longer what it was: this thread or another one moved it.
    Moved,
    /// Somebody is pinned; who, if that was asked for, will drive when unpinning.
    Blocked,
}

/// Pins the calling thread in `line`, under the parity of the epoch that it gives.
///
/// # Panics
///
/// With 2^30 pins in one line: guards are being leaked in a loop, as `Arc` aborts in that case.
#[inline]
pub(crate) fn pin(epoch: &AtomicU64, line: &Line) -> u64 {
    // Relaxed: the proof holds whatever value this reads.
    let epoch = epoch.load(Ordering::Relaxed);
    let parity = parity(epoch);
    // SeqCst: F of the proof.
    let before = line.pins[parity].fetch_add(1, Ordering::SeqCst);
    order_s();
    if before & !WAKE >= MAX_PINS {
        leaked(line, parity);
    }
    epoch
}

#[cold]
fn leaked(line: &Line, parity: usize) -> ! {
    line.pins[parity].fetch_sub(1, Ordering::SeqCst);
    panic!("2^30 guards of one SA table are alive: they are being leaked");
}

/// Ends the pin that [`pin`] gave this epoch for. True if somebody waits for this: the caller must drive.
#[inline]
#[must_use]
pub(crate) fn unpin(line: &Line, epoch: u64) -> bool {
    let pins = &line.pins[parity(epoch)];
    // SeqCst: U of the proof (it releases this thread's reads of entries).
    if pins.fetch_sub(1, Ordering::SeqCst) != WAKE | 1 {
        return false;
    }
    // Should somebody have set the bit anew meanwhile, for a newer pin, then the drive that follows finds that pin and
    // sets it again. AcqRel: what the setter did before is visible to the drive.
    pins.fetch_and(!WAKE, Ordering::AcqRel);
    true
}

/// Whether who is in the way shall drive when unpinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody waits, or may: the first line in the way is told.
    Ask,
    /// The caller will try again itself.
    No,
}

/// Tries to move E from `e` to `e + 1`.
pub(crate) fn advance(epoch: &AtomicU64, lines: &[Line], e: u64, wake: Wake) -> Advance {
    let parity = parity(e.wrapping_sub(1));
    order_s();
    for line in lines {
        let pins = &line.pins[parity];
        // SeqCst: the scan of the proof.
        let mut word = pins.load(Ordering::SeqCst);
        while word & !WAKE != 0 {
            if word & WAKE != 0 || wake == Wake::No {
                return Advance::Blocked;
            }
            // SeqCst on success: it releases to the one who will see the bit what the caller has done before, and it is
            // in S with the counts. On failure this is the scan's load again.
            match pins.compare_exchange_weak(word, word | WAKE, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Advance::Blocked,
                Err(now) => word = now,
            }
        }
    }
    // SeqCst: part of the proof. It fails only when another thread has made the same step.
    let _ = epoch.compare_exchange(e, e.wrapping_add(1), Ordering::SeqCst, Ordering::SeqCst);
    Advance::Moved
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_pin_stops_the_epoch_within_two_steps_and_is_woken() {
        for older in [false, true] {
            let epoch = AtomicU64::new(8);
            let lines = [Line::new(), Line::new()];
            let p = pin(&epoch, &lines[1]);
            if older {
                epoch.store(9, Ordering::SeqCst);
            }
            let start = epoch.load(Ordering::SeqCst);
            let mut steps = 0;
            while let Advance::Moved = advance(&epoch, &lines, start + steps, Wake::Ask) {
                steps += 1;
                assert!(steps < GRACE, "the reader was overlooked");
            }
            assert_eq!(epoch.load(Ordering::SeqCst), start + steps);
            assert!(unpin(&lines[1], p), "the wake-up was lost");
            for step in 0..GRACE {
                assert!(matches!(advance(&epoch, &lines, start + steps + step, Wake::Ask), Advance::Moved));
            }
            assert!(lines[1].pins.iter().all(|pins| pins.load(Ordering::SeqCst) == 0));
        }
    }

    #[test]
    fn only_the_last_pin_of_a_line_is_woken() {
        let epoch = AtomicU64::new(8);
        let lines = [Line::new()];
        let pins = [pin(&epoch, &lines[0]), pin(&epoch, &lines[0])];
        assert!(matches!(advance(&epoch, &lines, 8, Wake::Ask), Advance::Moved));
        assert!(matches!(advance(&epoch, &lines, 9, Wake::No), Advance::Blocked));
        let unasked = pin(&epoch, &lines[0]);
        assert!(!unpin(&lines[0], unasked));
        assert!(matches!(advance(&epoch, &lines, 9, Wake::Ask), Advance::Blocked));
        let newer = pin(&epoch, &lines[0]);
        assert!(!unpin(&lines[0], pins[0]));
        assert!(!unpin(&lines[0], newer));
        assert!(unpin(&lines[0], pins[1]));
    }

    #[test]
    #[should_panic(expected = "leaked")]
    fn leaked_guards_are_caught_before_the_count_overflows() {
        let epoch = AtomicU64::new(8);
        let line = Line::new();
        line.pins[0].store(MAX_PINS, Ordering::SeqCst);
        pin(&epoch, &line);
    }
}
