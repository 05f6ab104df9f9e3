//! Memory with pages to itself, between pages that nobody may touch. What a driver was given and gave
//! back is closed: a later touch traps at once, and the trap is reported by the name of what lay there.
//!
//! One range of addresses is reserved for the process and cut into slots of whole pages. The table of
//! slots is also read in the signal handler, on threads that run driver code or copy driver memory:
//! neither holds its lock. Only Linux has traps that the lab can resume from; elsewhere there are no
//! slots, and memory comes from the heap.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Origin;
use super::pool::PoolBlock;
use crate::rules::{self, Rule};

pub(crate) const PAGE: usize = 4096;
/// Bytes of addresses that are reserved; pages are used as they are needed.
const RESERVED: usize = 1 << 38;
/// Slots that are open at a time: each costs the host two mappings of the 65,530 that a process has.
const MAX_OPEN: usize = 20_000;

/// What a slot holds.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A pool block.
    Pool(PoolBlock),
    /// A structure of the lab: NET_BUFFER_LIST, MDL…; where it starts, and its size.
    Structure(&'static str, usize, usize),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    /// As [`State::Open`], but the pages are "not resident": the next touch below DISPATCH_LEVEL brings
    /// them back.
    PagedOut,
    /// Given back; a touch breaks the rule.
    Closed(&'static Rule),
}

struct Slot {
    pages: usize,
    what: Option<What>,
    state: State,
    /// The rule by which it was closed last.
    last: Option<&'static Rule>,
    /// Who gave it away.
    gone: Option<Origin>,
}

impl Slot {
    fn is_paged(&self) -> bool {
        matches!(&self.what, Some(What::Pool(block)) if block.kind == super::pool::PoolKind::Paged)
    }
}

#[derive(Default)]
struct Table {
    start: usize,
    next: usize,
    /// By the first page.
    slots: BTreeMap<usize, Slot>,
    /// Slots that may be used again, by pages.
    free: HashMap<usize, Vec<usize>>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);
/// Open slots of paged pool.
static PAGED: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Addresses of closed slots that the lab touched on the driver's behalf.
static TOUCHED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Their number, so that nobody has to lock to find none.
static TOUCHES: AtomicUsize = AtomicUsize::new(0);

/// A slot. Dropping it lets others use its addresses.
#[derive(Debug)]
pub(crate) struct Guarded {
    first: usize,
    pages: usize,
}

#[cfg(target_os = "linux")]
pub(super) mod host {
    /// Reserves addresses; 0 if the host refuses.
    pub(in crate::machine) fn reserve(bytes: usize) -> usize {
        // SAFETY: a new anonymous mapping, placed by the host, that touches no other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { 0 } else { start as usize }
    }

    /// Opens or closes pages of the reserved range.
    pub(in crate::machine) fn protect(first: usize, bytes: usize, open: bool) -> bool {
        let protection = if open { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
        // SAFETY: whole pages of the lab's own reservation; nothing but slots lies there.
        unsafe { libc::mprotect(first as *mut libc::c_void, bytes, protection) == 0 }
    }

    /// Gives the contents of pages up; they read as zero when they are opened again.
    pub(super) fn discard(first: usize, bytes: usize) {
        // SAFETY: as above.
        unsafe { libc::madvise(first as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) mod host {
    pub(in crate::machine) fn reserve(_: usize) -> usize {
        0
    }
    pub(in crate::machine) fn protect(_: usize, _: usize, _: bool) -> bool {
        false
    }
    pub(super) fn discard(_: usize, _: usize) {}
}

impl Guarded {
    /// Zeroed pages for `bytes` bytes; `None` where there are none left.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let pages = bytes.max(1).div_ceil(PAGE);
        // Relaxed: a limit that need not be exact.
        if OPEN.load(Ordering::Relaxed) >= MAX_OPEN {
            return None;
        }
        let mut guard = TABLE.lock();
        let table = guard.get_or_insert_with(|| {
            let start = host::reserve(RESERVED);
            Table { start, next: start + PAGE, ..Table::default() }
        });
        if table.start == 0 {
            return None;
        }
        let first = if let Some(first) = table.free.get_mut(&pages).and_then(Vec::pop) {
            first
        } else {
            let first = table.next;
            let next = first.checked_add((pages + 1) * PAGE)?;
            if next > table.start + RESERVED {
                return None;
            }
            table.next = next;
            first
        };
        if !host::protect(first, pages * PAGE, true) {
            table.free.entry(pages).or_default().push(first);
            return None;
        }
        table.slots.insert(first, Slot { pages, what: None, state: State::Open, last: None, gone: None });
        OPEN.fetch_add(1, Ordering::Relaxed);
        Some(Self { first, pages })
    }

    /// Where its pages begin.
    pub(crate) fn start(&self) -> usize {
        self.first
    }

    /// Bytes of its pages.
    pub(crate) fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// Says what it holds, for reports.
    pub(crate) fn name(&self, what: What) {
        if let Some(slot) = TABLE.lock().as_mut().and_then(|table| table.slots.get_mut(&self.first)) {
            slot.what = Some(what);
            if slot.is_paged() {
                // Relaxed: only says that looking is worthwhile.
                PAGED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn set_state(&self, state: State, gone: Option<Origin>) {
        let mut guard = TABLE.lock();
        let Some(slot) = guard.as_mut().and_then(|table| table.slots.get_mut(&self.first)) else { return };
        let was_open = !matches!(slot.state, State::Closed(_));
        let is_open = !matches!(state, State::Closed(_));
        slot.state = state;
        if let State::Closed(rule) = state {
            slot.last = Some(rule);
            // What was given away stays so until it is given out again.
            slot.gone = gone.or(slot.gone);
        }
        host::protect(self.first, self.bytes(), is_open);
        // Relaxed: see where they are read.
        match (was_open, is_open) {
            (true, false) => {
                OPEN.fetch_sub(1, Ordering::Relaxed);
                if slot.is_paged() {
                    PAGED.fetch_sub(1, Ordering::Relaxed);
                }
            }
            (false, true) => {
                OPEN.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Closes the pages, contents kept: from now on a touch breaks `rule`. `gone`: who gave them away.
    pub(crate) fn close(&self, rule: &'static Rule, gone: Option<Origin>) {
        self.set_state(State::Closed(rule), gone);
    }

    /// Opens them again.
    pub(crate) fn open(&self) {
        self.set_state(State::Open, None);
    }

    /// Closes the pages for good; their contents are lost.
    pub(crate) fn retire(&self, rule: &'static Rule, gone: Option<Origin>) {
        self.close(rule, gone);
        host::discard(self.first, self.bytes());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.retire(rules::POOL_USE_AFTER_FREE, None);
        if let Some(table) = TABLE.lock().as_mut() {
            table.slots.remove(&self.first);
            table.free.entry(self.pages).or_default().push(self.first);
        }
    }
}

/// What a touch of `address` breaks, what lies there, and who gave it away; `None` if it is none of ours.
pub(crate) fn explain(address: usize) -> Option<(&'static Rule, String, Option<Origin>)> {
    super::grave::explain(address).or_else(|| explain_slot(address))
}

/// As [`explain`], only of what the driver has no business with at all.
pub(crate) fn explain_gone(address: usize) -> Option<(&'static Rule, String, Option<Origin>)> {
    let closed = || {
        let guard = TABLE.lock();
        let (first, slot) = guard.as_ref()?.slots.range(..=address).next_back()?;
        let within = address < first + slot.pages * PAGE;
        (within && matches!(slot.state, State::Closed(_))).then_some(())
    };
    super::grave::explain(address).or_else(|| closed().and_then(|()| explain_slot(address)))
}

fn explain_slot(address: usize) -> Option<(&'static Rule, String, Option<Origin>)> {
    let guard = TABLE.lock();
    let table = guard.as_ref()?;
    let (first, slot) = table.slots.range(..=address).next_back()?;
    if address >= first + (slot.pages + 1) * PAGE {
        return None;
    }
    let (name, start) = match slot.what.as_ref()? {
        What::Pool(block) => (block.to_string(), block.address),
        What::Structure(name, start, size) => (format!("{name}, {size} bytes at {start:#x}"), *start),
    };
    let offset = address.cast_signed() - start.cast_signed();
    let within = address < first + slot.pages * PAGE;
    // An open slot in whose pages someone trapped was closed then, and was opened by another thread since.
    let reopened = slot.last.filter(|_| within && matches!(slot.state, State::Open));
    match slot.state {
        State::Closed(rule) => Some((rule, format!("byte {offset} was touched of {name}"), slot.gone)),
        State::Open if reopened.is_some() => {
            Some((reopened?, format!("byte {offset} was touched of {name}"), slot.gone))
        }
        State::PagedOut if within => {
            Some((rules::IRQL_PAGED_ACCESS, format!("byte {offset} was touched of {name}"), None))
        }
        State::Open | State::PagedOut => {
            Some((rules::POOL_OVERRUN, format!("byte {offset} was touched, which lies behind {name}"), None))
        }
    }
}

/// As the past of what a report is about.
pub(crate) fn given_away(gone: Option<Origin>) -> Vec<(&'static str, Origin)> {
    gone.map(|origin| ("given away", origin)).into_iter().collect()
}

/// The host reports a touch of `address`, on a thread at `irql`; `lab` says that the lab made it for the
/// driver. Whether the touch may simply be repeated. Called in the signal handler.
pub(crate) fn repair(address: usize, irql: u8, lab: bool) -> bool {
    if lab && super::grave::repair(address) {
        note_touch(address);
        return true;
    }
    let mut guard = TABLE.lock();
    let Some(table) = guard.as_mut() else { return false };
    let Some((first, slot)) = table.slots.range_mut(..=address).next_back() else { return false };
    if address >= first + slot.pages * PAGE {
        return false;
    }
    match slot.state {
        State::PagedOut if irql < super::DISPATCH || lab => {
            slot.state = State::Open;
            host::protect(*first, slot.pages * PAGE, true)
        }
        // The lab cannot be left in the middle of a function: it goes on with what is there.
        State::Closed(_) if lab => {
            let opened = host::protect(*first, slot.pages * PAGE, true);
            note_touch(address);
            opened
        }
        _ => false,
    }
}

/// Whether a byte can be read, asked of the host without a trap.
#[cfg(target_os = "linux")]
pub(crate) fn readable(address: usize) -> bool {
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: 1 };
    // SAFETY: reads one byte of this process into a local; a bad address is an error, not a trap.
    unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) == 1 }
}

/// As above, as far as this host lets it be known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn readable(address: usize) -> bool {
    address >= PAGE
}

/// Remembers a touch that the lab made for the driver. Called in the signal handler.
fn note_touch(address: usize) {
    let mut touched = TOUCHED.lock();
    if touched.len() < touched.capacity() {
        touched.push(address);
    }
    // Relaxed: the lock orders the list.
    TOUCHES.fetch_add(1, Ordering::Relaxed);
}

/// Makes room for touches, so that the signal handler need not allocate.
pub(crate) fn prepare() {
    TOUCHED.lock().reserve(64);
}

/// Reports touches of closed memory by the lab on behalf of the driver that it works for.
pub(crate) fn report_touches(machine: &super::Machine) {
    // Relaxed: a function that misses one leaves it to the next.
    if TOUCHES.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut touched = TOUCHED.lock();
    let addresses: Vec<_> = touched.drain(..).collect();
    TOUCHES.store(0, Ordering::Relaxed);
    drop(touched);
    for address in addresses {
        if let Some((rule, text, gone)) = explain(address) {
            machine.violate_past(None, rule, text, &given_away(gone));
        }
    }
}

/// A thread goes to DISPATCH_LEVEL: paged pool is not resident from now on.
pub(crate) fn page_out() {
    // Relaxed: a block that was just allocated is paged out the next time.
    if PAGED.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut guard = TABLE.lock();
    let Some(table) = guard.as_mut() else { return };
    for (first, slot) in &mut table.slots {
        if matches!(slot.state, State::Open) && slot.is_paged() {
            slot.state = State::PagedOut;
            host::protect(*first, slot.pages * PAGE, false);
        }
    }
}
