//! Memory of the lab that a driver is given: closed, opened and poisoned as its owner changes.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use crate::bytes::first_other;
use crate::machine::Machine;
use crate::machine::guard::{Guarded, What};
use crate::rules;

const FREED: u8 = 0xdd;

/// Zeroed memory of the lab, 16-byte aligned, that a driver is given.
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// The pages that hold it, if it has some of its own.
    pages: Option<Guarded>,
}

// SAFETY: the memory belongs to its record alone; addresses are not tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: the record is only shared for its address.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn zeroed(size: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { start, layout, pages: None })
    }

    /// As [`Memory::zeroed`], with pages of its own on a machine that guards them; `what` names it.
    pub(crate) fn guarded(machine: &Machine, size: usize, what: &'static str) -> Option<Self> {
        let pages = if machine.options.guard { Guarded::new(size) } else { None };
        let Some(pages) = pages else { return Self::zeroed(size) };
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        let address = pages.start() + pages.bytes() - layout.size().next_multiple_of(16);
        pages.name(What::Structure(what, address, size));
        Some(Self { start: NonNull::new(address as *mut u8)?, layout, pages: Some(pages) })
    }

    /// Keeps everyone from touching it for now, if it has pages of its own.
    pub(crate) fn close(&self, rule: &'static rules::Rule) {
        if let Some(pages) = &self.pages {
            pages.close(rule);
        }
    }

    /// Undoes [`Memory::close`].
    pub(crate) fn open(&self) {
        if let Some(pages) = &self.pages {
            pages.open();
        }
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(crate) fn at<T>(&self, offset: usize) -> *mut T {
        debug_assert!(offset + size_of::<T>() <= self.layout.size());
        // SAFETY: offsets are computed by this module, within the size it asked for.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// Nobody has any business with it from now on; a touch breaks `rule`.
    pub(crate) fn poison(&self, rule: &'static rules::Rule) {
        if let Some(pages) = &self.pages {
            pages.retire(rule);
            return;
        }
        // SAFETY: the whole of the allocation, which nobody reads any more.
        unsafe { std::ptr::write_bytes(self.start.as_ptr(), FREED, self.layout.size()) };
    }

    pub(crate) fn intact(&self) -> bool {
        if self.pages.is_some() {
            // A touch would have trapped.
            return true;
        }
        // SAFETY: the allocation is initialised: zeroed when made, poisoned when freed.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) };
        first_other(bytes, FREED).is_none()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.pages.is_some() {
            return;
        }
        // SAFETY: allocated with this layout in `zeroed`, freed once, here.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
