//! Memory of user-mode processes, and what drivers do with it: probe, lock and map.
//!
//! On Linux the pages of such memory exist once and are mapped twice while a driver has them mapped:
//! at the user's address, and at a system address that goes when the driver unlocks the pages. A
//! driver that uses it longer faults. On other hosts the system address is the user's.

use ndis_sys::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL,
    MDL_WRITE_OPERATION, NTSTATUS, PVOID,
};
use parking_lot::Mutex;

use super::{AddressMap, Machine, Origin};
use crate::rules;

pub(crate) const PAGE: usize = 4096;
const STATUS_ACCESS_VIOLATION: NTSTATUS = 0xc000_0005_u32.cast_signed();
const STATUS_DATATYPE_MISALIGNMENT: NTSTATUS = 0x8000_0002_u32.cast_signed();
const STATUS_WORKING_SET_QUOTA: NTSTATUS = 0xc000_00a1_u32.cast_signed();
/// `PROCESS_HAS_LOCKED_PAGES`.
const PROCESS_HAS_LOCKED_PAGES: u32 = 0x76;

/// Pages of a process.
#[derive(Debug)]
pub(crate) struct Pages {
    address: usize,
    length: usize,
    #[cfg(target_os = "linux")]
    file: std::os::fd::OwnedFd,
}

/// A second mapping of pages.
#[derive(Debug)]
struct Mapping {
    address: usize,
    /// Bytes to unmap; 0 where the host has one mapping only.
    length: usize,
}

#[cfg(target_os = "linux")]
mod host {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    pub(super) fn create(length: usize) -> Option<OwnedFd> {
        // SAFETY: the name is a C string; the descriptor that comes back is ours alone.
        unsafe {
            let raw = libc::memfd_create(c"user memory".as_ptr(), libc::MFD_CLOEXEC);
            if raw < 0 {
                return None;
            }
            let file = OwnedFd::from_raw_fd(raw);
            let size = libc::off_t::try_from(length).ok()?;
            (libc::ftruncate(file.as_raw_fd(), size) == 0).then_some(file)
        }
    }

    pub(super) fn map(file: &OwnedFd, offset: usize, length: usize, write: bool) -> Option<usize> {
        let offset = libc::off_t::try_from(offset).ok()?;
        let access = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address that the host chooses.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, file.as_raw_fd(), offset)
        };
        (address != libc::MAP_FAILED).then_some(address as usize)
    }

    pub(super) fn unmap(address: usize, length: usize) {
        // SAFETY: a mapping that `map` made and that its one owner gives up.
        unsafe { libc::munmap(address as *mut libc::c_void, length) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if self.length > 0 {
            host::unmap(self.address, self.length);
        }
    }
}

impl Pages {
    /// Zeroed pages; `None` if the host refuses them.
    pub(crate) fn new(length: usize) -> Option<Self> {
        let length = length.max(1).checked_next_multiple_of(PAGE)?;
        #[cfg(target_os = "linux")]
        {
            let file = host::create(length)?;
            let address = host::map(&file, 0, length, true)?;
            Some(Self { address, length, file })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let layout = std::alloc::Layout::from_size_align(length, PAGE).ok()?;
            // SAFETY: the layout's size is not zero.
            let address = unsafe { std::alloc::alloc_zeroed(layout) } as usize;
            (address != 0).then_some(Self { address, length })
        }
    }

    pub(crate) fn address(&self) -> usize {
        self.address
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    #[cfg(target_os = "linux")]
    fn map(&self, address: usize, length: usize, write: bool) -> Option<(usize, Mapping)> {
        let within = address - self.address;
        let start = within & !(PAGE - 1);
        let end = (within + length).next_multiple_of(PAGE);
        let mapped = host::map(&self.file, start, end - start, write)?;
        Some((mapped + within - start, Mapping { address: mapped, length: end - start }))
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps)] // as on Linux, where the host may refuse
    fn map(&self, address: usize, _length: usize, _write: bool) -> Option<(usize, Mapping)> {
        Some((address, Mapping { address, length: 0 }))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        host::unmap(self.address, self.length);
        #[cfg(not(target_os = "linux"))]
        if let Ok(layout) = std::alloc::Layout::from_size_align(self.length, PAGE) {
            // SAFETY: allocated with this layout in `new`, freed once, here.
            unsafe { std::alloc::dealloc(self.address as *mut u8, layout) };
        }
    }
}

/// The host puts its own code and data above this address, and the lab's memory with it.
const KERNEL: usize = 0x5000_0000_0000;

struct Region {
    process: usize,
    address: usize,
    length: usize,
    writable: bool,
    pages: std::sync::Weak<Pages>,
}

/// Locked pages of an MDL.
struct Locked {
    process: usize,
    /// Of user memory; `None` for the kernel's own.
    pages: Option<std::sync::Arc<Pages>>,
    write: bool,
    mapping: Option<Mapping>,
    origin: Origin,
}

/// User memory and locks of pages.
#[derive(Default)]
pub(crate) struct Users {
    regions: Mutex<Vec<Region>>,
    locked: Mutex<AddressMap<Locked>>,
    /// Partial MDLs, and what they are parts of.
    partial: Mutex<AddressMap<usize>>,
}

impl Users {
    /// Makes memory of a process known.
    pub(crate) fn add(&self, process: usize, pages: &std::sync::Arc<Pages>, writable: bool) {
        self.regions.lock().push(Region {
            process,
            address: pages.address(),
            length: pages.length(),
            writable,
            pages: std::sync::Arc::downgrade(pages),
        });
    }

    /// Memory of a process goes.
    pub(super) fn remove(&self, address: usize) {
        self.regions.lock().retain(|region| region.address != address);
    }

    /// Whether an address lies in memory that a process has or had.
    pub(super) fn knows(&self, address: usize) -> bool {
        let within = |region: &Region| (region.address..region.address + region.length).contains(&address);
        self.regions.lock().iter().any(within)
    }

    /// MDLs whose pages are locked, by who locked them.
    pub(crate) fn census(&self) -> Vec<Origin> {
        self.locked.lock().values().map(|locked| locked.origin).collect()
    }

    /// The pages that hold all these bytes of a process.
    fn find(
        &self,
        process: usize,
        address: usize,
        length: usize,
        write: bool,
    ) -> Option<std::sync::Arc<Pages>> {
        let end = address.checked_add(length)?;
        let mut regions = self.regions.lock();
        regions.retain(|region| region.pages.strong_count() > 0);
        let holds = |r: &&Region| {
            r.process == process
                && r.address <= address
                && end <= r.address + r.length
                && (r.writable || !write)
        };
        regions.iter().find(holds)?.pages.upgrade()
    }
}

impl Machine {
    /// Whether memory at this address would be a program's. Programs and the kernel share one address space here: what lies
    /// low, where no host puts anything, is a program's, and so is the memory of processes; all else is the kernel's.
    pub(super) fn is_user(&self, address: usize) -> bool {
        address < KERNEL || self.users.knows(address)
    }

    /// `ProbeForRead`, `ProbeForWrite`: the status that is raised, or 0. As on Windows, reads are probed for whose memory it
    /// is, and writes also for whether it is there and can be written.
    pub(crate) fn probe(&self, address: usize, length: usize, alignment: u32, write: bool) -> NTSTATUS {
        if !matches!(alignment, 1 | 2 | 4 | 8 | 16) {
            self.violate(rules::PARAMETER, format!("Alignment {alignment}"));
        }
        if length == 0 {
            return 0;
        }
        if !address.is_multiple_of(alignment.max(1) as usize) {
            return STATUS_DATATYPE_MISALIGNMENT;
        }
        let last = address.checked_add(length - 1);
        if !last.is_some_and(|last| self.is_user(address) && self.is_user(last)) {
            return STATUS_ACCESS_VIOLATION;
        }
        let there = || self.users.find(self.current_process(false), address, length, true).is_some();
        if write && !there() { STATUS_ACCESS_VIOLATION } else { 0 }
    }

    /// `MmProbeAndLockPages`: a status is raised as an exception.
    pub(crate) fn lock_pages(&self, mdl: *mut MDL, user: bool, write: bool) -> NTSTATUS {
        if !self.packets.is_mdl(mdl as usize) {
            self.violate(rules::MDL_LOCK, format!("MDL {mdl:p} was not allocated, or was freed"));
            return STATUS_ACCESS_VIOLATION;
        }
        // SAFETY: the MDL lives, as the table says, and the driver owns it.
        let (flags, address, length) = unsafe {
            ((*mdl).MdlFlags, (*mdl).StartVa as usize + (*mdl).ByteOffset as usize, (*mdl).ByteCount as usize)
        };
        if flags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) != 0 {
            self.violate(
                rules::MDL_LOCK,
                format!("MDL {mdl:p} has flags {flags:#x}: its pages are locked already"),
            );
        }
        let process = self.current_process(false);
        let pages = self.users.find(process, address, length, write);
        if user && pages.is_none() {
            return STATUS_ACCESS_VIOLATION;
        }
        if self.fault(length, 0) {
            return STATUS_WORKING_SET_QUOTA;
        }
        let locked = Locked { process, pages, write, mapping: None, origin: Origin::here() };
        self.users.locked.lock().insert(mdl as usize, locked);
        // SAFETY: as above.
        unsafe {
            (*mdl).MdlFlags |= MDL_PAGES_LOCKED | if write { MDL_WRITE_OPERATION } else { 0 };
            (*mdl).Process = self.ob.process_object(process).unwrap_or(0) as *mut ndis_sys::EPROCESS;
        }
        0
    }

    /// `MmUnlockPages`; a mapping goes with it.
    pub(crate) fn unlock_pages(&self, mdl: *mut MDL) {
        let Some(locked) = self.users.locked.lock().remove(&(mdl as usize)) else {
            self.violate(rules::MDL_LOCK, format!("the pages of MDL {mdl:p} are not locked"));
            return;
        };
        let parts = self.users.partial.lock().values().filter(|whole| **whole == mdl as usize).count();
        if parts > 0 {
            self.violate(
                rules::MDL_LOCK,
                format!("MDL {mdl:p} is unlocked, and {parts} partial MDLs use its pages"),
            );
        }
        drop(locked);
        // SAFETY: it was locked, so it is an MDL that lives and that the driver owns.
        unsafe {
            (*mdl).MdlFlags &= !(MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_WRITE_OPERATION);
            (*mdl).MappedSystemVa = std::ptr::null_mut();
        }
    }

    /// Maps locked pages of a user; `None` if they are not such.
    pub(crate) fn map_user(&self, mdl: *mut MDL, write: bool) -> Option<PVOID> {
        let mut table = self.users.locked.lock();
        let locked = table.get_mut(&(mdl as usize))?;
        let pages = locked.pages.clone()?;
        // SAFETY: it is locked, so it is an MDL that lives and that the driver owns.
        let (flags, address, length) = unsafe {
            ((*mdl).MdlFlags, (*mdl).StartVa as usize + (*mdl).ByteOffset as usize, (*mdl).ByteCount as usize)
        };
        if flags & MDL_MAPPED_TO_SYSTEM_VA != 0 || self.fault(length, 0) {
            return Some(std::ptr::null_mut());
        }
        let Some((mapped, mapping)) = pages.map(address, length, write && locked.write) else {
            return Some(std::ptr::null_mut());
        };
        locked.mapping = Some(mapping);
        // SAFETY: as above.
        unsafe {
            (*mdl).MappedSystemVa = mapped as PVOID;
            (*mdl).MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
        }
        Some(mapped as PVOID)
    }

    /// `MmUnmapLockedPages`.
    pub(crate) fn unmap_pages(&self, base: PVOID, mdl: *mut MDL) {
        // SAFETY: the driver vouches for its MDL.
        let (flags, mapped) = unsafe { ((*mdl).MdlFlags, (*mdl).MappedSystemVa) };
        if flags & MDL_MAPPED_TO_SYSTEM_VA == 0 || mapped != base {
            self.violate(rules::MDL_LOCK, format!("MDL {mdl:p} is not mapped at {base:p}"));
            return;
        }
        if let Some(locked) = self.users.locked.lock().get_mut(&(mdl as usize)) {
            locked.mapping = None;
        }
        // SAFETY: as above.
        unsafe {
            (*mdl).MdlFlags &= !MDL_MAPPED_TO_SYSTEM_VA;
            (*mdl).MappedSystemVa = std::ptr::null_mut();
        }
    }

    /// `IoBuildPartialMdl`.
    pub(crate) fn build_partial_mdl(&self, source: *mut MDL, target: *mut MDL, address: usize, length: u32) {
        if !self.packets.is_mdl(source as usize) || !self.packets.is_mdl(target as usize) {
            self.violate(
                rules::PARAMETER,
                format!("MDL {source:p} or {target:p} was not allocated, or was freed"),
            );
            return;
        }
        // SAFETY: both live, as the table says, and the driver owns them.
        unsafe {
            let start = (*source).StartVa as usize + (*source).ByteOffset as usize;
            let end = start + (*source).ByteCount as usize;
            let length =
                if length == 0 { u32::try_from(end.saturating_sub(address)).unwrap_or(0) } else { length };
            if address < start || address + length as usize > end {
                self.violate(
                    rules::PARAMETER,
                    format!(
                        "{length} bytes at {address:#x} are not within the source, {start:#x} to {end:#x}"
                    ),
                );
                return;
            }
            let room = usize::try_from((*target).Size).unwrap_or(0);
            if crate::packet::mdl_bytes(address, length) > room {
                self.violate(rules::PARAMETER, format!("the target MDL is too small for {length} bytes"));
                return;
            }
            if (*source).MdlFlags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) == 0 {
                self.violate(rules::MDL_LOCK, format!("the pages of source MDL {source:p} are not locked"));
            }
            (*target).MdlFlags =
                MDL_PARTIAL | (*source).MdlFlags & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA);
            (*target).Process = (*source).Process;
            (*target).StartVa = (address & !(PAGE - 1)) as PVOID;
            (*target).ByteOffset = u32::try_from(address % PAGE).unwrap_or(0);
            (*target).ByteCount = length;
            (*target).MappedSystemVa = match (*source).MappedSystemVa as usize {
                0 => std::ptr::null_mut(),
                base => (base + address - start) as PVOID,
            };
        }
        self.users.partial.lock().insert(target as usize, source as usize);
    }

    /// An MDL is about to be freed.
    pub(crate) fn check_unlocked(&self, mdl: *mut MDL) {
        self.users.partial.lock().remove(&(mdl as usize));
        if self.users.locked.lock().remove(&(mdl as usize)).is_some() {
            self.violate(rules::MDL_LOCK, format!("MDL {mdl:p} is freed with its pages locked"));
        }
    }

    /// A process ends: its pages must not be locked.
    pub(crate) fn check_process_pages(&self, process: usize) {
        let found = self
            .users
            .locked
            .lock()
            .values()
            .find(|l| l.process == process && l.pages.is_some())
            .map(|l| l.origin);
        if let Some(origin) = found {
            self.violate(rules::MDL_LOCK, format!("process {process} ends with pages locked {origin}"));
            let _ = self.stop(
                PROCESS_HAS_LOCKED_PAGES,
                [0, process as u64, 1, 0],
                "a process ends with locked pages",
            );
        }
        self.users.regions.lock().retain(|region| region.process != process);
    }
}
