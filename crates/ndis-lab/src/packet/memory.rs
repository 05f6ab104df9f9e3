//! Memory of the lab that a driver is given: closed, opened and poisoned as its owner changes.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use parking_lot::Mutex;

use crate::bytes::{fill_words, first_other_word};
use crate::machine::guard::{Guarded, What};
use crate::machine::{Machine, Origin, grave, thread};
use crate::rules;

/// Zeroed memory of the lab, 16-byte aligned, that a driver is given.
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// What lies there, for reports.
    what: &'static str,
    /// The pages that hold it, if it has some of its own.
    pages: Option<Guarded>,
    away: Mutex<Away>,
}

/// What memory is while its driver has no business with it.
#[derive(Default)]
struct Away {
    /// The pointer that it is filled with; 0 where it is not.
    grave: usize,
    /// What it held, where that is wanted again.
    saved: Option<Box<[u8]>>,
    /// Who gave it away.
    gone: Option<Origin>,
}

// SAFETY: the memory belongs to its record alone; addresses are not tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: the record is only shared for its address, and what changes in it has a lock.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn zeroed(size: usize) -> Option<Self> {
        Self::named(size, "structure")
    }

    fn named(size: usize, what: &'static str) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { start, layout, what, pages: None, away: Mutex::default() })
    }

    /// Memory for `what`, with pages of its own on a machine that guards them.
    pub(crate) fn guarded(machine: &Machine, size: usize, what: &'static str) -> Option<Self> {
        let pages = if machine.options.guard { Guarded::new(size) } else { None };
        let Some(pages) = pages else { return Self::named(size, what) };
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        let address = pages.start() + pages.bytes() - layout.size().next_multiple_of(16);
        pages.name(What::Structure(what, address, size));
        let start = NonNull::new(address as *mut u8)?;
        Some(Self { start, layout, what, pages: Some(pages), away: Mutex::default() })
    }

    /// Keeps everyone from touching it for now: its pages are closed, or what it holds is put aside.
    pub(crate) fn close(&self, rule: &'static rules::Rule) {
        let gone = Some(Origin::here());
        if let Some(pages) = &self.pages {
            pages.close(rule, gone);
            return;
        }
        let mut away = self.away.lock();
        if away.grave != 0 {
            return;
        }
        // SAFETY: the allocation is initialised: zeroed when it was made.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) };
        away.saved = Some(bytes.into());
        self.fill(&mut away, rule, gone);
    }

    /// Undoes [`Memory::close`]. Says where it was written in the meantime.
    pub(crate) fn open(&self) -> Option<usize> {
        if let Some(pages) = &self.pages {
            pages.open();
            return None;
        }
        let mut away = self.away.lock();
        let saved = away.saved.take()?;
        let written = self.written(&away);
        away.grave = 0;
        // SAFETY: as many bytes as the allocation has, of which they are a copy.
        unsafe { std::ptr::copy_nonoverlapping(saved.as_ptr(), self.start.as_ptr(), saved.len()) };
        written
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(crate) fn at<T>(&self, offset: usize) -> *mut T {
        debug_assert!(offset + size_of::<T>() <= self.layout.size());
        // SAFETY: offsets are computed by this module, within the size it asked for.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// Nobody has any business with it from now on; a touch breaks `rule`. Who calls is who gives it away,
    /// if it was not closed before.
    pub(crate) fn poison(&self, rule: &'static rules::Rule) {
        let known = self.away.lock().gone.is_some() || thread::with(thread::Thread::function).is_none();
        self.poison_by(rule, if known { None } else { Some(Origin::here()) });
    }

    /// As [`Memory::poison`]; `gone`: who gave it away.
    pub(crate) fn poison_by(&self, rule: &'static rules::Rule, gone: Option<Origin>) {
        if let Some(pages) = &self.pages {
            pages.retire(rule, gone);
        }
        let mut away = self.away.lock();
        let gone = away.gone.or(gone);
        if self.pages.is_some() {
            away.gone = gone;
        } else {
            self.fill(&mut away, rule, gone);
        }
    }

    /// Fills it with pointers that tell whose they were.
    fn fill(&self, away: &mut Away, rule: &'static rules::Rule, gone: Option<Origin>) {
        away.grave = grave::bury(rule, self.what, self.address(), gone);
        away.gone = gone;
        // SAFETY: the whole of the allocation, which nobody reads any more.
        unsafe { fill_words(self.start.as_ptr(), self.layout.size(), away.grave) };
    }

    fn written(&self, away: &Away) -> Option<usize> {
        // SAFETY: the allocation is initialised: zeroed when made, filled when given away.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) };
        first_other_word(bytes, away.grave)
    }

    /// Where it was written since it was given away.
    pub(crate) fn touched(&self) -> Option<usize> {
        if self.pages.is_some() {
            // A touch would have trapped.
            return None;
        }
        self.written(&self.away.lock())
    }

    /// Whether nobody wrote it since it was given away.
    pub(crate) fn intact(&self) -> bool {
        self.touched().is_none()
    }

    /// Who gave it away, for reports.
    pub(crate) fn past(&self, what: &'static str) -> Vec<(&'static str, Origin)> {
        self.away.lock().gone.map(|origin| (what, origin)).into_iter().collect()
    }

    /// What lies there.
    pub(crate) fn what(&self) -> &'static str {
        self.what
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
