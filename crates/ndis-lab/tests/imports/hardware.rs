//! Hardware that is not there: a card's driver is refused by every function, as its page says.

use super::*;

#[allow(non_snake_case)]
unsafe extern "win64" {
    fn NdisMRegisterInterruptEx(
        handle: NDIS_HANDLE,
        context: NDIS_HANDLE,
        characteristics: *mut [usize; 12],
        interrupt: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    fn NdisMDeregisterInterruptEx(interrupt: NDIS_HANDLE);
    fn NdisMMapIoSpace(address: *mut PVOID, handle: NDIS_HANDLE, physical: i64, length: u32) -> NDIS_STATUS;
    fn NdisMUnmapIoSpace(handle: NDIS_HANDLE, address: PVOID, length: u32);
    fn NdisMRegisterIoPortRange(
        offset: *mut PVOID,
        handle: NDIS_HANDLE,
        first: u32,
        count: u32,
    ) -> NDIS_STATUS;
    fn NdisMRegisterScatterGatherDma(
        handle: NDIS_HANDLE,
        description: PVOID,
        dma: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    fn NdisMAllocateSharedMemory(
        handle: NDIS_HANDLE,
        length: u32,
        cached: u8,
        address: *mut PVOID,
        physical: *mut i64,
    );
    fn NdisMGetBusData(handle: NDIS_HANDLE, space: u32, offset: u32, buffer: PVOID, length: u32) -> u32;
    fn MmMapIoSpace(physical: i64, length: usize, cache: i32) -> PVOID;
    fn MmUnmapIoSpace(address: PVOID, length: usize);
}

/// `NDIS_STATUS_RESOURCE_CONFLICT`
const CONFLICT: NDIS_STATUS = 0xc001_001e_u32.cast_signed();

fn interrupt(isr: usize) -> [usize; 12] {
    let mut characteristics = [0; 12];
    (characteristics[1], characteristics[2]) = (isr, isr);
    characteristics
}

#[test]
fn a_card_that_is_not_there_is_refused_what_it_asks_for() {
    unsafe fn claim(handle: NDIS_HANDLE) {
        let mut bytes = [0x5a_u8; 64];
        assert_eq!(NdisMGetBusData(handle, 0, 0, bytes.as_mut_ptr().cast(), 64), 0);
        assert_eq!(bytes, [0x5a; 64]);
        // Whatever was in the variables is no handle and no address.
        let mut place: PVOID = 8 as PVOID;
        assert_eq!(NdisMMapIoSpace(&mut place, handle, 0xfe00_0000, 4096), CONFLICT);
        assert!(place.is_null());
        place = 8 as PVOID;
        assert_eq!(NdisMRegisterIoPortRange(&mut place, handle, 0x300, 32), CONFLICT);
        assert!(place.is_null());
        let mut handler = interrupt(claim as unsafe fn(NDIS_HANDLE) as usize);
        place = 8 as PVOID;
        assert_eq!(NdisMRegisterInterruptEx(handle, handle, &mut handler, &mut place), CONFLICT);
        assert!(place.is_null());
        // The miniport is no bus master.
        place = 8 as PVOID;
        assert_eq!(NdisMRegisterScatterGatherDma(handle, null_mut(), &mut place), NDIS_STATUS_NOT_SUPPORTED);
        assert!(place.is_null());
        let mut physical = 8;
        place = 8 as PVOID;
        NdisMAllocateSharedMemory(handle, 4096, 1, &mut place, &mut physical);
        assert!(place.is_null() && physical == 0);
        assert!(MmMapIoSpace(0xfe00_0000, 4096, 0).is_null());
    }
    clean(claim);
    let lab = lab().build();
    clean_on(&lab, claim);
    let asked = [
        "MmMapIoSpace",
        "NdisMAllocateSharedMemory",
        "NdisMGetBusData",
        "NdisMMapIoSpace",
        "NdisMRegisterInterruptEx",
        "NdisMRegisterIoPortRange",
        "NdisMRegisterScatterGatherDma",
    ];
    assert_eq!(lab.hardware(), asked);
}

#[test]
fn what_was_never_given_is_not_given_back() {
    unsafe fn deregister(_: NDIS_HANDLE) {
        NdisMDeregisterInterruptEx(null_mut());
    }
    unsafe fn unmap(handle: NDIS_HANDLE) {
        NdisMUnmapIoSpace(handle, null_mut(), 4096);
    }
    unsafe fn unmap_kernel(_: NDIS_HANDLE) {
        MmUnmapIoSpace(null_mut(), 4096);
    }
    unsafe fn no_handler(handle: NDIS_HANDLE) {
        let (mut handler, mut place) = (interrupt(0), null_mut());
        NdisMRegisterInterruptEx(handle, handle, &mut handler, &mut place);
    }
    unsafe fn of_the_driver(_: NDIS_HANDLE) {
        let mut place = null_mut();
        NdisMMapIoSpace(&mut place, mini::driver_handle(), 0xfe00_0000, 4096);
    }
    breaks(rules::HANDLE_UNKNOWN, deregister);
    breaks(rules::PARAMETER, unmap);
    breaks(rules::PARAMETER, unmap_kernel);
    breaks(rules::PARAMETER, no_handler);
    breaks(rules::HANDLE_UNKNOWN, of_the_driver);
}
