//! A small Ethernet miniport with ESP offload, written on `ndis-sys` alone, as one writes it in C. All adapters of
//! the driver share one wire. It is good; each [`Mutation`](super::mutation::Mutation) makes it wrong in one place.

// All of it stands on the contract of the NDIS callbacks (the context is the one that was registered, lists and
// requests are valid until they are completed, what adapters share is touched under the one lock) and on no other,
// so that proofs of the single blocks would say the same thing a hundred times.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![allow(clippy::cast_possible_truncation, clippy::borrow_as_ptr, clippy::cast_ptr_alignment)]
#![allow(
    clippy::doc_markdown,
    clippy::bool_to_int_with_if,
    clippy::struct_excessive_bools,
    clippy::too_many_lines
)]
#![allow(non_upper_case_globals)] // the names of the header, in patterns

mod attributes;
mod crash;
mod device;
mod esp;
mod life;
mod memory;
mod objects;
mod oids;
mod receive;
mod sa;
mod send;
mod settings;
mod states;
mod status;
mod system;
mod tasks;

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::*;

use super::mutation::{Mutation as M, is};
use life::{halt, initialize};

/// Pool tag: `muta` in a debugger.
const TAG: u32 = u32::from_le_bytes(*b"muta");
const HEADER: usize = 14;
const MIN_FRAME: usize = 60;
const GROUPS: usize = 32;
const SLOTS: usize = 16;
/// An address where there is no memory.
const WILD: usize = 0x1234_5000;

/// The lock over everything that adapters share, and their list.
struct Wire {
    lock: UnsafeCell<NDIS_SPIN_LOCK>,
    adapters: UnsafeCell<[*mut Adapter; 16]>,
    generation: UnsafeCell<u32>,
}

// SAFETY: touched under its own lock.
unsafe impl Sync for Wire {}

static WIRE: Wire = Wire {
    // SAFETY: a spin lock of zeros is one that is not initialised yet.
    lock: UnsafeCell::new(unsafe { zeroed() }),
    adapters: UnsafeCell::new([null_mut(); 16]),
    generation: UnsafeCell::new(0),
};
/// The driver's DRIVER_OBJECT.
static OBJECT: AtomicPtr<DRIVER_OBJECT> = AtomicPtr::new(null_mut());
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static GLOBAL: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// Handle of the adapter that was halted last.
static HALTED: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// The wire's lock while it is held.
struct Guard;

fn lock() -> Guard {
    // SAFETY: DriverEntry allocates the lock before anything can call this, and it lies in a static.
    unsafe { NdisAcquireSpinLock(WIRE.lock.get()) };
    Guard
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: the guard stands for the acquisition in `lock`.
        unsafe { NdisReleaseSpinLock(WIRE.lock.get()) };
    }
}

/// Frames and bytes of one class.
#[derive(Clone, Copy, Default)]
struct Count {
    packets: u64,
    octets: u64,
}

/// Unicast, multicast, broadcast.
type Counts = [Count; 3];

/// A receive buffer.
struct Rx {
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    mdl: *mut MDL,
    data: *mut u8,
    next: *mut Rx,
}

/// What is offloaded: of checksums bit 0 sends, bit 1 receives.
#[derive(Clone, Copy)]
struct Config {
    ip: u8,
    tcp: u8,
    udp: u8,
    large: bool,
    ah: bool,
    esp: bool,
}

/// What can be.
const HARDWARE: Config = Config { ip: 3, tcp: 3, udp: 3, large: true, ah: true, esp: true };

/// An SA slot.
#[derive(Clone, Copy)]
struct Sa {
    /// 0: the slot is free.
    handle: usize,
    inbound: bool,
    destination: [u8; 4],
    /// ESP, if it has that.
    esp: bool,
    spi: [u8; 4],
    key: [u8; 36],
    key_length: usize,
    /// AH, if it has that.
    ah: bool,
    ah_spi: [u8; 4],
    ah_key: [u8; 20],
    /// Has extended sequence numbers, whose high half this is.
    extended: bool,
    high: u32,
}

struct Adapter {
    handle: NDIS_HANDLE,
    pool: NDIS_HANDLE,
    timer: NDIS_HANDLE,
    running: bool,
    pausing: bool,
    removed: bool,
    low_power: bool,
    ever_ran: bool,
    /// Receives with NDIS, and calls under way.
    outstanding: u32,
    mac: [u8; 6],
    permanent: [u8; 6],
    filter: u32,
    groups: [[u8; 6]; GROUPS],
    group_count: usize,
    max_frame: usize,
    free: *mut Rx,
    free_count: usize,
    received: Counts,
    sent: Counts,
    discards: u64,
    send_errors: u64,
    config: Config,
    receive_on: bool,
    sas: [Sa; SLOTS],
    /// SAs that were added in this life.
    adds: usize,
    /// Send calls in progress, and a DELETE_SA that waits for their end.
    sending: u32,
    waiting: *mut NDIS_OID_REQUEST,
    /// What `OID_GEN_MACHINE_NAME` set.
    name: *mut u8,
    pended: AtomicPtr<NDIS_OID_REQUEST>,
    dpc: UnsafeCell<KDPC>,
    lock: UnsafeCell<NDIS_SPIN_LOCK>,
    /// Paged memory, of a mutant.
    paged: *mut u8,
    /// For a mutant that completes it again.
    last_sent: *mut NET_BUFFER_LIST,
    /// What mutants keep a pointer to that is not theirs any more.
    kept: *mut u8,
    /// A work item of a mutant.
    item: NDIS_HANDLE,
}

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size }
}

unsafe fn allocate(size: usize) -> *mut c_void {
    ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG)
}

unsafe fn free(block: *mut c_void) {
    ExFreePoolWithTag(block, TAG);
}

fn check(status: NDIS_STATUS) -> Result<(), NDIS_STATUS> {
    if status == NDIS_STATUS_SUCCESS { Ok(()) } else { Err(status) }
}

/// The driver's entry point.
pub(crate) unsafe extern "win64" fn driver_entry(
    object: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
) -> NTSTATUS {
    OBJECT.store(object, Ordering::Relaxed);
    NdisAllocateSpinLock(WIRE.lock.get());
    *WIRE.adapters.get() = [null_mut(); 16];
    let global = allocate(32);
    if global.is_null() {
        return NDIS_STATUS_RESOURCES;
    }
    GLOBAL.store(global, Ordering::Relaxed);
    let status = register(object, path);
    if status != NDIS_STATUS_SUCCESS {
        if !is(M::EntryLeaks) {
            free(global);
        }
        if is(M::EntryDeregistersNothing) {
            NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::Relaxed));
        }
        return if is(M::EntryOtherStatus) {
            NDIS_STATUS_FAILURE
        } else if is(M::EntrySucceedsUnregistered) {
            NDIS_STATUS_SUCCESS
        } else {
            status
        };
    }
    if is(M::RegisteredTwice) {
        let first = DRIVER.load(Ordering::Relaxed);
        register(object, path);
        DRIVER.store(first, Ordering::Relaxed);
    }
    // One more step after registration, which may fail.
    let status = device::register();
    if status != NDIS_STATUS_SUCCESS {
        if !is(M::EntryStaysRegistered) {
            NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::Relaxed));
        }
        free(global);
        return status;
    }
    crash::register();
    NDIS_STATUS_SUCCESS
}

unsafe fn register(object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS {
    let mut c: NDIS_MINIPORT_DRIVER_CHARACTERISTICS = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2;
    c.Header = header(
        NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
        if is(M::CharacteristicsSize) { size + 4 } else { size },
    );
    if is(M::CharacteristicsRevision) {
        let size = NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1;
        c.Header = header(NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS, 1, size);
    }
    if is(M::CharacteristicsType) {
        c.Header.Type = NDIS_OBJECT_TYPE_DEFAULT;
    }
    c.MajorNdisVersion = 6;
    c.MinorNdisVersion = if is(M::CharacteristicsVersion) { 31 } else { 30 };
    c.Flags = if is(M::CharacteristicsFlags) { 0x10 } else { 0 };
    c.InitializeHandlerEx = Some(initialize);
    c.HaltHandlerEx = Some(halt);
    c.UnloadHandler = (!is(M::UnloadHandlerMissing)).then_some(unload);
    c.PauseHandler = (!is(M::PauseHandlerMissing)).then_some(states::pause);
    c.RestartHandler = Some(states::restart);
    c.OidRequestHandler = Some(oids::oid_request);
    c.SendNetBufferListsHandler = (!is(M::SendHandlerMissing)).then_some(send::send);
    c.ReturnNetBufferListsHandler = (!is(M::ReturnHandlerMissing)).then_some(receive::return_lists);
    c.CancelSendHandler = Some(send::cancel_send);
    c.DevicePnPEventNotifyHandler = Some(states::pnp_event);
    c.ShutdownHandlerEx = (!is(M::ShutdownHandlerMissing)).then_some(states::shutdown);
    c.CancelOidRequestHandler = (!is(M::HandlerMissing)).then_some(oids::cancel_oid);
    c.CheckForHangHandlerEx = Some(states::check_for_hang);
    c.ResetHandlerEx = (!is(M::HangWithoutReset)).then_some(states::reset);
    c.DirectOidRequestHandler = (!is(M::CancelWithoutDirect)).then_some(sa::direct_oid);
    c.CancelDirectOidRequestHandler = (!is(M::DirectWithoutCancel)).then_some(sa::cancel_direct_oid);
    let mut handle = null_mut();
    let status = NdisMRegisterMiniportDriver(object, path, null_mut(), &mut c, &mut handle);
    DRIVER.store(handle, Ordering::Relaxed);
    status
}

ndis_fn! {
    unsafe extern fn unload(_object: *mut DRIVER_OBJECT) {
        let halted = HALTED.load(Ordering::Relaxed);
        if is(M::HandleAfterHalt) && !halted.is_null() {
            NdisMPauseComplete(halted);
        }
        if is(M::HandleMadeUp) {
            NdisMPauseComplete(0x1234 as NDIS_HANDLE);
        }
        crash::deregister();
        device::deregister();
        if !is(M::UnloadLeaks) {
            free(GLOBAL.load(Ordering::Relaxed));
        }
        if !is(M::NoDeregister) {
            NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::Relaxed));
        }
        if is(M::DeregisteredTwice) {
            NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::Relaxed));
        }
    }
}
