//! Linked natively: functions of the kernel are symbols that a host defines, here this test.
#![cfg(any(not(windows), feature = "hosted"))]

use core::ptr::null_mut;
use ndis_sys::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often an MDL was mapped.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

const MAPPING: usize = 0x7000;

ndis_fn! {
    #[unsafe(no_mangle)]
    unsafe extern fn MmMapLockedPagesSpecifyCache(
        _mdl: *mut MDL,
        mode: KPROCESSOR_MODE,
        caching: MEMORY_CACHING_TYPE,
        address: PVOID,
        bug_check: ULONG,
        priority: ULONG,
    ) -> PVOID {
        assert_eq!((mode, caching, address, bug_check), (KernelMode, MmCached, null_mut(), 0));
        assert_eq!(priority, NormalPagePriority.cast_unsigned() | MdlMappingNoExecute);
        // Relaxed: one thread.
        MAPPED.fetch_add(1, Ordering::Relaxed);
        core::ptr::without_provenance_mut(MAPPING)
    }
}

#[test]
fn an_mdl_is_mapped_once() {
    let priority = NormalPagePriority.cast_unsigned() | MdlMappingNoExecute;
    let mut mdl = MDL::zeroed();
    // SAFETY: the MDL is valid, and the function above stands in for the kernel's.
    let address = unsafe { MmGetSystemAddressForMdlSafe(&raw mut mdl, priority) };
    assert_eq!((address.addr(), MAPPED.load(Ordering::Relaxed)), (MAPPING, 1));

    for flag in [MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL] {
        mdl.MdlFlags = flag;
        mdl.MappedSystemVa = core::ptr::without_provenance_mut(MAPPING + 1);
        // SAFETY: as above.
        let address = unsafe { MmGetSystemAddressForMdlSafe(&raw mut mdl, priority) };
        assert_eq!((address.addr(), MAPPED.load(Ordering::Relaxed)), (MAPPING + 1, 1));
    }
}

#[test]
fn an_mdl_starts_in_its_first_page() {
    let mut mdl = MDL::zeroed();
    mdl.StartVa = core::ptr::without_provenance_mut(0x3000);
    mdl.ByteOffset = 0x123;
    // SAFETY: the MDL is valid.
    assert_eq!(unsafe { MmGetMdlVirtualAddress(&raw const mdl) }.addr(), 0x3123);
}

trait Driver {
    const STATUS: NDIS_STATUS;
}

struct Paused;

impl Driver for Paused {
    const STATUS: NDIS_STATUS = NDIS_STATUS_PAUSED;
}

struct Handlers;

impl Handlers {
    ndis_fn! {
        unsafe extern fn pause<D: Driver>(_context: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS {
            assert!(parameters.is_null());
            D::STATUS
        }
        unsafe extern fn cancel_send(_context: NDIS_HANDLE, _id: PVOID) {}
    }
}

#[test]
fn functions_fit_the_characteristics() {
    let mut characteristics = NDIS_MINIPORT_DRIVER_CHARACTERISTICS::zeroed();
    assert!(characteristics.HaltHandlerEx.is_none());
    characteristics.PauseHandler = Some(Handlers::pause::<Paused>);
    characteristics.CancelSendHandler = Some(Handlers::cancel_send);
    // SAFETY: the handler is the one above and takes null.
    let status = unsafe { characteristics.PauseHandler.unwrap()(null_mut(), null_mut()) };
    assert_eq!(status, NDIS_STATUS_PAUSED);
}

#[test]
fn slots_keep_their_bits() {
    let word = NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE::default()
        .with_CryptoDone(1)
        .with_CryptoStatus(CRYPTO_INVALID_PROTOCOL);
    assert_eq!(word.into_slot().addr(), (7 << 16) | 2);
    let word = NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE::from_slot(word.into_slot());
    assert_eq!((word.SaDeleteReq(), word.CryptoDone(), word.CryptoStatus()), (0, 1, CRYPTO_INVALID_PROTOCOL));
    assert_eq!(word.with_CryptoStatus(CRYPTO_SUCCESS).0, 2);
}
