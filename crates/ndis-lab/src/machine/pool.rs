//! The kernel pool: exact alignment, canaries, poison, quarantine, and a record of every block.
//!
//! A block smaller than a page is aligned to 16 bytes, and half of the time to no more than that; it
//! does not cross a page. A larger one starts on a page. The bytes before and behind a block are
//! canaries down to the last byte, and freed blocks stay poisoned in quarantine for a while.

use std::alloc::{self, Layout};
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

use super::grave;
use super::guard::{Guarded, What};
use super::{DISPATCH, Machine, Origin, Stopped, thread};
use crate::bytes::{fill_words, first_other, first_other_word};
use crate::rules;

const PAGE: usize = 4096;
/// Bytes of canary before a small block, at least.
const FRONT: usize = 16;
/// Bytes of canary behind a block, at least.
const BACK: usize = 32;
const CANARY: u8 = 0xc5;
/// Fresh memory that the caller did not ask to be zeroed.
const FRESH: u8 = 0xba;
/// Freed bytes that are kept from reuse.
const QUARANTINE: usize = 4 << 20;
/// A request beyond this is refused, as a machine with finite memory would.
const MAX_BLOCK: usize = 1 << 30;
/// `BAD_POOL_CALLER`.
const BAD_POOL_CALLER: u32 = 0xc2;

/// Which pool a block comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Always resident.
    NonPaged,
    /// Pageable: not to be touched at `DISPATCH_LEVEL`.
    Paged,
}

/// A live pool block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolBlock {
    /// Its address.
    pub address: usize,
    /// Bytes asked for.
    pub size: usize,
    /// The tag, as a 32-bit value; see [`tag_text`].
    pub tag: u32,
    /// Paged or not.
    pub kind: PoolKind,
    /// Who allocated it.
    pub origin: Origin,
}

/// A pool tag as debuggers show it: `b"Ipsn"` for `'nspI'`.
pub fn tag_text(tag: u32) -> String {
    tag.to_le_bytes().iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect()
}

impl std::fmt::Display for PoolBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:#x}, tag '{}', {}", self.size, self.address, tag_text(self.tag), self.origin)
    }
}

/// Where the memory of a block comes from.
enum Raw {
    Heap(NonNull<u8>, Layout),
    /// Pages of its own.
    Pages(Guarded),
}

/// The memory behind a block.
struct Block {
    info: PoolBlock,
    raw: Raw,
    /// Who freed it.
    freed: Option<Origin>,
    /// The pointer that it is filled with since.
    grave: usize,
}

// SAFETY: a block is memory that the table alone owns; addresses are not tied to a thread.
unsafe impl Send for Block {}

impl Block {
    /// Canary bytes before and behind the block: (address, length).
    fn fences(&self) -> [(usize, usize); 2] {
        let (raw, total) = match &self.raw {
            Raw::Heap(raw, layout) => (raw.as_ptr() as usize, layout.size()),
            Raw::Pages(pages) => (pages.start(), pages.bytes()),
        };
        let end = self.info.address + self.info.size;
        let front = (self.info.address - raw).min(64);
        [(self.info.address - front, front), (end, (raw + total - end).min(64))]
    }

    /// The first fence byte that is no canary, as a distance from the block's start.
    fn damage(&self) -> Option<isize> {
        self.fences().into_iter().find_map(|(address, len)| {
            // SAFETY: fences lie within the block's own allocation, initialised when it was made.
            let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, len) };
            let at = first_other(bytes, CANARY)?;
            Some((address + at).cast_signed() - self.info.address.cast_signed())
        })
    }

    fn fill(&self, value: u8) {
        // SAFETY: the block's bytes lie within its allocation; the driver gave them up or has not
        // seen them yet.
        unsafe { std::ptr::write_bytes(self.info.address as *mut u8, value, self.info.size) };
    }

    /// What happened to it, for reports.
    fn past(&self) -> Vec<(&'static str, Origin)> {
        let freed = self.freed.map(|origin| ("freed", origin));
        [("allocated", self.info.origin)].into_iter().chain(freed).collect()
    }

    /// The first byte that changed since the block was freed.
    fn touched(&self) -> Option<usize> {
        if matches!(self.raw, Raw::Pages(_)) {
            // A touch would have trapped.
            return None;
        }
        // SAFETY: the block is in quarantine: its allocation is still ours.
        let bytes = unsafe { std::slice::from_raw_parts(self.info.address as *const u8, self.info.size) };
        first_other_word(bytes, self.grave)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Raw::Heap(raw, layout) = &self.raw {
            // SAFETY: allocated with this layout in `allocate`, freed once, here.
            unsafe { alloc::dealloc(raw.as_ptr(), *layout) };
        }
    }
}

/// Sees a block's last bytes before it is poisoned.
pub(crate) type FreeHook = dyn Fn(&PoolBlock, &[u8]) + Send + Sync;

/// A block, the offset of a byte that should not have been written, and what happened to the block.
type Damage = (PoolBlock, isize, Vec<(&'static str, Origin)>);

#[derive(Default)]
struct Blocks {
    live: BTreeMap<usize, Block>,
    quarantine: VecDeque<Block>,
    quarantined: usize,
    allocations: u64,
}

#[derive(Default)]
pub(crate) struct Pool {
    blocks: Mutex<Blocks>,
    hook: Mutex<Option<Arc<FreeHook>>>,
}

impl Pool {
    pub(crate) fn census(&self) -> Vec<PoolBlock> {
        self.blocks.lock().live.values().map(|block| block.info.clone()).collect()
    }

    pub(crate) fn set_hook(&self, hook: Option<Arc<FreeHook>>) {
        *self.hook.lock() = hook;
    }

    /// The block that holds `address`, live or freed: (block, live).
    pub(crate) fn find(&self, address: usize) -> Option<(PoolBlock, bool)> {
        let blocks = self.blocks.lock();
        let holds = |info: &PoolBlock| address >= info.address && address < info.address + info.size;
        let live = blocks.live.range(..=address).next_back().map(|(_, block)| &block.info);
        if let Some(info) = live.filter(|info| holds(info)) {
            return Some((info.clone(), true));
        }
        blocks.quarantine.iter().map(|b| &b.info).find(|info| holds(info)).map(|info| (info.clone(), false))
    }

    /// What happened to the freed block that starts at `address`.
    fn past(&self, address: usize) -> Vec<(&'static str, Origin)> {
        let blocks = self.blocks.lock();
        let freed = blocks.quarantine.iter().rev().find(|block| block.info.address == address);
        freed.map(Block::past).unwrap_or_default()
    }

    /// Blocks whose canaries are damaged, or that were written after they were freed.
    fn damaged(&self) -> (Vec<Damage>, Vec<Damage>) {
        let blocks = self.blocks.lock();
        let overrun =
            blocks.live.values().filter_map(|b| Some((b.info.clone(), b.damage()?, b.past()))).collect();
        let used = blocks
            .quarantine
            .iter()
            .filter_map(|b| Some((b.info.clone(), b.touched()?.cast_signed(), b.past())))
            .collect();
        (overrun, used)
    }
}

/// Where a block of `size` bytes goes: the layout of its allocation and its distance from the start.
fn place(size: usize, odd: bool) -> Option<(Layout, usize)> {
    if size >= PAGE {
        let total = size.checked_next_multiple_of(PAGE)?.checked_add(2 * PAGE)?;
        return Some((Layout::from_size_align(total, PAGE).ok()?, PAGE));
    }
    let front = if odd { FRONT } else { 2 * FRONT };
    let total = front + size + BACK;
    if total <= PAGE {
        // An allocation aligned to its own size rounded up does not cross a page.
        return Some((Layout::from_size_align(total, total.next_power_of_two().max(32)).ok()?, front));
    }
    // Nearly a page: start on one, or 16 bytes behind its start if that still fits.
    let start = if odd && size + FRONT <= PAGE { PAGE + FRONT } else { PAGE };
    Some((Layout::from_size_align(2 * PAGE + BACK, PAGE).ok()?, start))
}

impl Machine {
    /// Allocates pool memory; null if it is refused.
    pub(crate) fn allocate(&self, size: usize, tag: u32, kind: PoolKind, zero: bool) -> *mut u8 {
        let irql = thread::irql();
        if kind == PoolKind::Paged && irql >= DISPATCH {
            self.violate(rules::IRQL_PAGED, format!("{size} bytes of paged pool, tag '{}'", tag_text(tag)));
        }
        if tag == 0 {
            self.violate(rules::POOL_TAG_ZERO, format!("{size} bytes"));
        }
        if size == 0 {
            self.violate(rules::POOL_ZERO_SIZE, format!("tag '{}'", tag_text(tag)));
        }
        if size > MAX_BLOCK || self.fault(size, tag) {
            return std::ptr::null_mut();
        }
        let origin = Origin::here();
        let mut blocks = self.pool.blocks.lock();
        blocks.allocations += 1;
        let odd = blocks.allocations & 1 == 1;
        let pages = if self.options.guard { Guarded::new(size) } else { None };
        let (raw, address) = if let Some(pages) = pages {
            // Small blocks end where their page does, as far as their alignment lets them.
            let room = if size >= PAGE { pages.bytes() } else { size.max(1).next_multiple_of(16) };
            let address = pages.start() + pages.bytes() - room;
            (Raw::Pages(pages), address)
        } else {
            let Some((layout, start)) = place(size, odd) else { return std::ptr::null_mut() };
            // SAFETY: the layout's size is not zero: it holds canaries at least.
            let Some(raw) = NonNull::new(unsafe { alloc::alloc(layout) }) else {
                return std::ptr::null_mut();
            };
            (Raw::Heap(raw, layout), raw.as_ptr() as usize + start)
        };
        let info = PoolBlock { address, size, tag, kind, origin };
        let block = Block { info, raw, freed: None, grave: 0 };
        for (fence, len) in block.fences() {
            // SAFETY: fences lie within the allocation that was just made.
            unsafe { std::ptr::write_bytes(fence as *mut u8, CANARY, len) };
        }
        block.fill(if zero { 0 } else { FRESH });
        if let Raw::Pages(pages) = &block.raw {
            pages.name(What::Pool(block.info.clone()));
        }
        blocks.live.insert(address, block);
        address as *mut u8
    }

    /// Frees pool memory. `tag`: what the caller names, or `None` where the function takes none.
    pub(crate) fn free(&self, address: usize, tag: Option<u32>) -> Result<(), Stopped> {
        let mut blocks = self.pool.blocks.lock();
        let Some(mut block) = blocks.live.remove(&address) else {
            drop(blocks);
            return Err(self.bad_free(address, tag));
        };
        drop(blocks);
        if block.info.kind == PoolKind::Paged && thread::irql() >= DISPATCH {
            self.violate(rules::IRQL_PAGED, format!("free of {}", block.info));
        }
        if let Some(tag) = tag.filter(|tag| *tag != block.info.tag) {
            let text = format!("freed with tag '{}': {}", tag_text(tag), block.info);
            self.violate_past(None, rules::POOL_WRONG_TAG, text, &block.past());
        }
        if let Some(offset) = block.damage() {
            let text = format!("byte {offset} was written of {}", block.info);
            self.violate_past(None, rules::POOL_OVERRUN, text, &block.past());
        }
        block.freed = Some(Origin::here());
        let range = address..address + block.info.size;
        if let Some(dpc) = self.dpcs.within(range.clone()) {
            self.violate(rules::POOL_IN_USE, format!("KDPC {dpc:#x} is queued in {}", block.info));
            self.remove_dpc(dpc as *mut ndis_sys::KDPC);
        }
        if let Some((what, address)) = self.work.within(&range) {
            self.violate(rules::POOL_IN_USE, format!("{what}, {address:#x}, lies in {}", block.info));
            self.forget_work(address);
        }
        if let Some(record) = self.crash_record_within(&range) {
            let text =
                format!("bugcheck callback record {record:#x} is registered, and lies in {}", block.info);
            self.violate(rules::POOL_IN_USE, text);
        }
        if let Some(resource) = self.resources.remove_within(&range) {
            self.violate(
                rules::RESOURCE_USE,
                format!("ERESOURCE {resource:#x} was not deleted and lies in {}", block.info),
            );
        }
        if let Some(list) = self.lookasides.remove_within(&range) {
            self.violate(
                rules::LOOKASIDE_USE,
                format!("lookaside list {list:#x} was not deleted and lies in {}", block.info),
            );
        }
        if let Some((table, name, held)) = self.tables.remove_within(&range) {
            self.violate(
                rules::TABLE_USE,
                format!("{name} {table:#x}, which holds {held} elements, lies in {}", block.info),
            );
        }
        self.locks.forget(&range);
        let lock = thread::with(|t| t.held.borrow().iter().find(|l| range.contains(&l.address)).copied());
        if let Some(lock) = lock {
            self.violate(
                rules::POOL_IN_USE,
                format!("{} {:#x} is held in {}", lock.kind, lock.address, block.info),
            );
        }
        let hook = self.pool.hook.lock().clone();
        if let Some(hook) = hook {
            // SAFETY: the block was taken out of the table, so the bytes are ours alone.
            hook(&block.info, unsafe { std::slice::from_raw_parts(address as *const u8, block.info.size) });
        }
        match &block.raw {
            Raw::Heap(..) => {
                let rule = rules::POOL_USE_AFTER_FREE;
                block.grave = grave::bury(rule, "pool block", address, block.freed);
                // SAFETY: the block was taken out of the table, so its bytes are ours alone.
                unsafe { fill_words(address as *mut u8, block.info.size, block.grave) };
            }
            Raw::Pages(pages) => pages.retire(rules::POOL_USE_AFTER_FREE, block.freed),
        }
        let mut evicted = Vec::new();
        let mut blocks = self.pool.blocks.lock();
        blocks.quarantined += block.info.size;
        blocks.quarantine.push_back(block);
        while blocks.quarantined > QUARANTINE {
            let Some(block) = blocks.quarantine.pop_front() else { break };
            blocks.quarantined -= block.info.size;
            evicted.push(block);
        }
        drop(blocks);
        for block in evicted {
            if let Some(offset) = block.touched() {
                let text = format!("byte {offset} was written of {}", block.info);
                self.violate_past(None, rules::POOL_USE_AFTER_FREE, text, &block.past());
            }
        }
        Ok(())
    }

    fn bad_free(&self, address: usize, tag: Option<u32>) -> Stopped {
        let tag = u64::from(tag.unwrap_or(0));
        match self.pool.find(address) {
            Some((block, false)) if block.address == address => {
                let past = self.pool.past(address);
                self.violate_past(None, rules::POOL_DOUBLE_FREE, format!("freed before: {block}"), &past);
                self.stop(BAD_POOL_CALLER, [7, 0, tag, address as u64], "pool block freed twice")
            }
            found => {
                let what = found.map_or_else(
                    || format!("{address:#x} is no pool block"),
                    |(block, _)| format!("{address:#x} lies inside {block}"),
                );
                self.violate(rules::POOL_UNKNOWN_FREE, what);
                self.stop(BAD_POOL_CALLER, [0x46, address as u64, 0, tag], "free of what is no pool block")
            }
        }
    }

    /// Looks at every canary and at all of quarantine. Returns how many blocks were damaged.
    pub(crate) fn sweep_pool(&self) -> usize {
        let (overrun, used) = self.pool.damaged();
        let count = overrun.len() + used.len();
        for (rule, damages) in [(rules::POOL_OVERRUN, overrun), (rules::POOL_USE_AFTER_FREE, used)] {
            for (block, offset, past) in damages {
                self.violate_past(None, rule, format!("byte {offset} was written of {block}"), &past);
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Options;

    fn machine() -> Arc<Machine> {
        Machine::new(Options {
            processors: 2,
            ndis_version: 0x0006_0050,
            timeout: std::time::Duration::from_secs(1),
            guard: false,
            seed: None,
            stub_imports: false,
            known: crate::rules::KnownRules::default(),
        })
    }

    #[test]
    fn small_blocks_are_aligned_to_sixteen_and_no_more() {
        let machine = machine();
        for size in (1..PAGE).step_by(7) {
            let mut seen = [false; 2];
            for _ in 0..2 {
                let address = machine.allocate(size, 1, PoolKind::NonPaged, true) as usize;
                assert_eq!(address % 16, 0, "{size}");
                assert_eq!(address / PAGE, (address + size - 1) / PAGE, "{size} crosses a page");
                seen[address / 16 % 2] = true;
                machine.free(address, Some(1)).unwrap();
            }
            assert!(seen[0] && (seen[1] || size > PAGE - 16), "{size}");
        }
        for size in [PAGE, PAGE + 1, 3 * PAGE] {
            let address = machine.allocate(size, 1, PoolKind::NonPaged, true) as usize;
            assert_eq!(address % PAGE, 0);
            machine.free(address, Some(1)).unwrap();
        }
        assert!(machine.violations().is_empty());
    }

    #[test]
    fn one_byte_too_far_is_seen_on_either_side() {
        for (size, offset) in
            [(1, 1), (40, 40), (40, -1), (4090, 4090), (4096, 4096), (5000, 5000), (5000, -1)]
        {
            for _ in 0..2 {
                let machine = machine();
                let address = machine.allocate(size, 7, PoolKind::NonPaged, false);
                // SAFETY: the byte lies in the block's fence, which belongs to the same allocation.
                unsafe { address.offset(offset).write(0) };
                machine.free(address as usize, Some(7)).unwrap();
                let found = machine.violations();
                assert_eq!(found.len(), 1, "{size} {offset}");
                assert_eq!(found[0].rule, rules::POOL_OVERRUN);
            }
        }
    }

    #[test]
    fn wrong_tags_double_frees_and_late_writes_are_told_apart() {
        let machine = machine();
        let first = machine.allocate(100, 1, PoolKind::NonPaged, true);
        machine.free(first as usize, Some(2)).unwrap();
        // SAFETY: the block is in quarantine, so its memory still exists.
        unsafe { first.add(99).write(1) };
        assert_eq!(machine.sweep_pool(), 1);
        let rules: Vec<_> = machine.take_violations().iter().map(|v| v.rule.id).collect();
        assert_eq!(rules, ["pool-wrong-tag", "pool-use-after-free"]);
        machine.free(first as usize, Some(1)).unwrap_err();
        assert_eq!(machine.violations()[0].rule, rules::POOL_DOUBLE_FREE);
        assert_eq!(machine.bugcheck().unwrap().code, BAD_POOL_CALLER);
    }
}
