//! Pointers that lead nowhere, each to a place of its own: what a driver finds where it reads memory that
//! it gave away. To follow one traps at an address that tells whose memory it was read from, so that the
//! report names the structure and who gave it away.
//!
//! This is for memory that has no pages of its own ([`super::guard`]), where the read itself cannot trap.
//! One range of addresses is reserved for the process and cut into lots, which are used in turn.

use parking_lot::Mutex;

use super::Origin;
use super::guard::host;
use crate::rules::Rule;

/// Bytes of a lot: how far from the pointer that it read a driver may reach and still be recognised.
const LOT: usize = 1 << 16;
/// Lots: more than structures are in quarantine at a time.
const LOTS: usize = 1 << 18;
/// What stands for a pointer where no addresses can be reserved.
const NOWHERE: usize = 0xdddd_dddd_dddd_dddd;

/// Whose memory is filled with pointers to a lot.
#[derive(Debug, Clone, Copy)]
struct Lot {
    rule: &'static Rule,
    what: &'static str,
    address: usize,
    gone: Option<Origin>,
    /// A function of the lab touched it: its first page is open.
    open: bool,
}

#[derive(Default)]
struct Graves {
    start: usize,
    lots: Vec<Lot>,
    next: usize,
}

static GRAVES: Mutex<Option<Graves>> = Mutex::new(None);

/// The pointer for memory that is given away: `what` at `address`, a touch of which breaks `rule`.
pub(crate) fn bury(rule: &'static Rule, what: &'static str, address: usize, gone: Option<Origin>) -> usize {
    let mut guard = GRAVES.lock();
    let graves =
        guard.get_or_insert_with(|| Graves { start: host::reserve(LOT * LOTS), ..Graves::default() });
    if graves.start == 0 {
        return NOWHERE;
    }
    let at = graves.next;
    graves.next = (at + 1) % LOTS;
    let lot = Lot { rule, what, address, gone, open: false };
    let place = graves.start + at * LOT + LOT / 2;
    if let Some(old) = graves.lots.get_mut(at) {
        if old.open {
            host::protect(place - LOT / 2, LOT, false);
        }
        *old = lot;
    } else {
        graves.lots.push(lot);
    }
    place
}

/// What a touch of `address` breaks, if a pointer of a lot led there; who gave the memory away.
pub(crate) fn explain(address: usize) -> Option<(&'static Rule, String, Option<Origin>)> {
    let guard = GRAVES.lock();
    let graves = guard.as_ref().filter(|graves| graves.start != 0)?;
    let lot = graves.lots.get(address.checked_sub(graves.start)? / LOT)?;
    let text = format!(
        "a pointer was followed that was read from the {} at {:#x}, which was no longer the driver's",
        lot.what, lot.address
    );
    Some((lot.rule, text, lot.gone))
}

/// A function of the lab touched `address` for the driver: opens the page, so that it can go on. `false` if
/// no lot is there. Called in the signal handler.
pub(crate) fn repair(address: usize) -> bool {
    let mut guard = GRAVES.lock();
    let Some(graves) = guard.as_mut().filter(|graves| graves.start != 0) else { return false };
    let Some(at) = address.checked_sub(graves.start).map(|offset| offset / LOT) else { return false };
    let start = graves.start + at * LOT;
    let Some(lot) = graves.lots.get_mut(at) else { return false };
    lot.open = true;
    host::protect(start, LOT, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn a_pointer_tells_whose_memory_it_was_read_from() {
        let first = bury(rules::SEND_TOUCHED, "NET_BUFFER_LIST", 0x1000, None);
        let second = bury(rules::OID_TOUCHED, "NDIS_OID_REQUEST", 0x2000, None);
        if first == NOWHERE {
            return;
        }
        assert_ne!(first, second);
        for offset in [-144_isize, 0, 144, 4096] {
            let (rule, text, _) = explain(first.wrapping_add_signed(offset)).unwrap();
            assert!(rule == rules::SEND_TOUCHED && text.contains("0x1000"), "{text}");
        }
        assert_eq!(explain(second).unwrap().0, rules::OID_TOUCHED);
        assert!(explain(0x1000).is_none());
    }
}
