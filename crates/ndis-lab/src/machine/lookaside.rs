//! Lookaside lists, and the lists that are linked through their entries: SLIST_HEADER and LIST_ENTRY.
//!
//! The WDK's headers inline most of a lookaside list: they pop from its SLIST_HEADER, and call the `Allocate`
//! and `Free` of the list when that is empty or full. A list of the lab has a depth of 0, as under Driver
//! Verifier, so that each entry is a pool block of its own, which is watched like any other.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{AddressMap, Machine, Origin, Stopped};
use crate::rules;

/// `GENERAL_LOOKASIDE` of x64: its size, and the fields that the headers' code reads.
pub(crate) mod layout {
    pub(crate) const SIZE: usize = 96;
    pub(crate) const MAXIMUM_DEPTH: usize = 18;
    pub(crate) const TYPE: usize = 36;
    pub(crate) const TAG: usize = 40;
    pub(crate) const ENTRY_SIZE: usize = 44;
    pub(crate) const ALLOCATE: usize = 48;
    pub(crate) const FREE: usize = 56;
    pub(crate) const LIST_ENTRY: usize = 64;
}

/// `KERNEL_SECURITY_CHECK_FAILURE`, and its code for a list that does not hang together.
const SECURITY_CHECK: u32 = 0x139;
const CORRUPT_LIST: u64 = 3;
/// Locks of the lab for SLIST_HEADERs, by address: their 16 bytes change together.
const SHARDS: usize = 16;

struct List {
    origin: Origin,
}

/// All lookaside lists that were initialised and not deleted.
#[derive(Default)]
pub(crate) struct Lookasides {
    table: Mutex<AddressMap<List>>,
    slists: [Mutex<()>; SHARDS],
}

/// What a lookaside list is made of.
pub(crate) struct Parameters {
    /// `POOL_TYPE`.
    pub(crate) pool_type: i32,
    pub(crate) size: usize,
    pub(crate) tag: u32,
    /// The routines by which entries come and go.
    pub(crate) allocate: usize,
    pub(crate) free: usize,
}

impl Lookasides {
    pub(crate) fn census(&self) -> Vec<Origin> {
        self.table.lock().values().map(|list| list.origin).collect()
    }

    /// A list that lies in these bytes and was not deleted; takes it out.
    pub(crate) fn remove_within(&self, range: &std::ops::Range<usize>) -> Option<usize> {
        let mut table = self.table.lock();
        let found = table.keys().copied().find(|address| range.contains(address))?;
        table.remove(&found);
        Some(found)
    }
}

impl Machine {
    /// Initialises a lookaside list.
    pub(crate) fn initialize_lookaside(&self, address: usize, parameters: &Parameters) {
        if !address.is_multiple_of(16) {
            self.violate(rules::LOOKASIDE_USE, format!("{address:#x} is not aligned to 16 bytes"));
        }
        if parameters.tag == 0 {
            self.violate(rules::POOL_TAG_ZERO, "Tag of a lookaside list");
        }
        if parameters.size < 16 {
            let text = format!("entries of {} bytes: the list links them, which takes 16", parameters.size);
            self.violate(rules::LOOKASIDE_USE, text);
        }
        let list = List { origin: Origin::here() };
        if self.lookasides.table.lock().insert(address, list).is_some() {
            self.violate(rules::LOOKASIDE_USE, format!("lookaside list {address:#x} is initialised again"));
        }
        // SAFETY: the driver gives a lookaside list that it owns and nobody uses; the offsets lie within.
        unsafe {
            std::ptr::write_bytes(address as *mut u8, 0, layout::SIZE);
            ((address + layout::MAXIMUM_DEPTH) as *mut u16).write(256);
            ((address + layout::TYPE) as *mut i32).write(parameters.pool_type);
            ((address + layout::TAG) as *mut u32).write(parameters.tag);
            ((address + layout::ENTRY_SIZE) as *mut u32)
                .write(u32::try_from(parameters.size).unwrap_or(u32::MAX));
            ((address + layout::ALLOCATE) as *mut usize).write(parameters.allocate);
            ((address + layout::FREE) as *mut usize).write(parameters.free);
            let link = address + layout::LIST_ENTRY;
            (link as *mut [usize; 2]).write([link, link]);
        }
    }

    /// Deletes a lookaside list.
    pub(crate) fn delete_lookaside(&self, address: usize) -> Result<(), Stopped> {
        if self.lookasides.table.lock().remove(&address).is_none() {
            let text = format!("lookaside list {address:#x} is not initialised, or was deleted before");
            self.violate(rules::LOOKASIDE_USE, text);
            return Err(self.stop(0xc2, [address as u64, 0, 0, 0], "deletion of what is no lookaside list"));
        }
        Ok(())
    }

    /// An entry comes back to the pool: it must be one that a lookaside list allocated.
    pub(crate) fn free_entry(&self, entry: usize, allocated_by: &str) -> Result<(), Stopped> {
        if let Some((block, true)) = self.pool.find(entry)
            && block.origin.function != allocated_by
        {
            self.violate(rules::LOOKASIDE_USE, format!("this is no entry of a lookaside list: {block}"));
        }
        self.free(entry, None)
    }

    fn slist_lock(&self, header: usize) -> &Mutex<()> {
        &self.lookasides.slists[header / 16 % SHARDS]
    }

    /// Checks that a header or an entry of an SLIST is aligned.
    fn check_slist(&self, address: usize, what: &str) -> bool {
        let good = address != 0 && address.is_multiple_of(16);
        if !good {
            self.violate(rules::LIST_USE, format!("{what} at {address:#x} is not aligned to 16 bytes"));
        }
        good
    }

    /// `InterlockedPushEntrySList`: the entry that was first.
    pub(crate) fn push_slist(&self, header: usize, entry: usize) -> usize {
        if !self.check_slist(header, "SLIST_HEADER") || !self.check_slist(entry, "SLIST_ENTRY") {
            return 0;
        }
        let _guard = self.slist_lock(header).lock();
        let head = Header(header);
        let first = head.first();
        // SAFETY: the driver gives an entry that it owns.
        unsafe { (entry as *mut usize).write(first) };
        head.set(entry, head.depth().wrapping_add(1));
        first
    }

    /// `InterlockedPopEntrySList`: the first entry, or 0.
    pub(crate) fn pop_slist(&self, header: usize) -> usize {
        if !self.check_slist(header, "SLIST_HEADER") {
            return 0;
        }
        let _guard = self.slist_lock(header).lock();
        let head = Header(header);
        let first = head.first();
        if first != 0 {
            // SAFETY: an entry that was pushed and not popped belongs to the list.
            let next = unsafe { (first as *const usize).read() };
            head.set(next, head.depth().wrapping_sub(1));
        }
        first
    }

    /// `InterlockedFlushSList`: the whole list.
    pub(crate) fn flush_slist(&self, header: usize) -> usize {
        if !self.check_slist(header, "SLIST_HEADER") {
            return 0;
        }
        let _guard = self.slist_lock(header).lock();
        let head = Header(header);
        let first = head.first();
        head.set(0, 0);
        first
    }

    /// Checks that a LIST_ENTRY hangs together with its neighbours; stops the machine if it does not.
    pub(crate) fn check_list(&self, entry: usize) -> Result<(), Stopped> {
        // SAFETY: the driver passes a list whose entries it keeps; links are read, nothing else.
        let (next, previous, back, forth) = unsafe {
            let [next, previous] = (entry as *const [usize; 2]).read();
            if next == 0 || previous == 0 {
                (next, previous, 0, 0)
            } else {
                ((next), previous, (next as *const usize).add(1).read(), (previous as *const usize).read())
            }
        };
        if back == entry && forth == entry {
            return Ok(());
        }
        let text =
            format!("LIST_ENTRY {entry:#x} leads to {next:#x} and {previous:#x}, which do not lead back");
        self.violate(rules::LIST_USE, text);
        Err(self.stop(SECURITY_CHECK, [CORRUPT_LIST, entry as u64, 0, 0], "a list is corrupt"))
    }
}

/// An SLIST_HEADER of x64: depth and sequence in the first word, the first entry in the second.
struct Header(usize);

impl Header {
    fn depth(&self) -> u16 {
        // SAFETY: an aligned header of the driver; the headers' code reads the depth at any time, so that it
        // is accessed atomically.
        unsafe { AtomicU16::from_ptr(self.0 as *mut u16) }.load(Ordering::Relaxed)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: as above, 16 bytes.
        unsafe { AtomicU64::from_ptr((self.0 + 8 * index) as *mut u64) }
    }

    fn first(&self) -> usize {
        // Relaxed: the lock of this header is held, here and below. The low four bits are not the entry's.
        usize::try_from(self.word(1).load(Ordering::Relaxed) & !15).unwrap_or(0)
    }

    fn set(&self, first: usize, depth: u16) {
        let sequence = (self.word(0).load(Ordering::Relaxed) >> 16).wrapping_add(1);
        self.word(0).store(sequence << 16 | u64::from(depth), Ordering::Relaxed);
        // HeaderType, the lowest bit, is 1: a header of 16 bytes.
        self.word(1).store(first as u64 | 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Options;

    #[repr(C, align(16))]
    struct Aligned([usize; 2]);

    #[test]
    fn entries_come_back_last_in_first_out_and_are_counted() {
        let machine = Machine::new(Options::for_tests());
        let header = Aligned([0; 2]);
        let entries = [const { Aligned([0; 2]) }; 3];
        let at = |item: &Aligned| std::ptr::from_ref(item) as usize;
        let head = at(&header);
        assert_eq!(machine.pop_slist(head), 0);
        for entry in &entries {
            machine.push_slist(head, at(entry));
        }
        assert_eq!(Header(head).depth(), 3);
        assert_eq!(machine.pop_slist(head), at(&entries[2]));
        assert_eq!(machine.flush_slist(head), at(&entries[1]));
        assert_eq!(Header(head).depth(), 0);
        assert_eq!(machine.violations(), []);
        machine.push_slist(head, at(&entries[0]) + 8);
        assert_eq!(machine.take_violations()[0].rule, rules::LIST_USE);
    }
}
