//! A wild pointer that a driver passes to a function stops the simulated machine, by name, and not the process.

#![cfg(target_os = "linux")]

use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance, without_provenance_mut};

use ndis_lab::{Lab, LabError, rules};
use ndis_sys::{
    DRIVER_OBJECT, KeAcquireSpinLockRaiseToDpc, KeInitializeDpc, KeInitializeEvent, KeSetEvent,
    NDIS_STATUS_SUCCESS, NET_BUFFER, NTSTATUS, NdisAcquireSpinLock, NdisAllocateSpinLock, NdisGetDataBuffer,
    NdisMRegisterMiniportDriver, RtlInitUnicodeString, UNICODE_STRING,
};

/// No memory, an address that no processor takes, and a null pointer with an offset.
const WILD: [usize; 3] = [0x1234_5678_9ac0, 0xdead_beef_dead_bec0, 0x40];

/// Defines drivers whose DriverEntry does one thing with each of the wild addresses.
macro_rules! drivers {
    ($($name:ident($address:ident, $driver:ident, $registry:ident) $body:block)*) => {
        const DRIVERS: &[(&str, [ndis_sys::DRIVER_INITIALIZE; 3])] = &[$((
            stringify!($name),
            [$name::<{ WILD[0] }>, $name::<{ WILD[1] }>, $name::<{ WILD[2] }>],
        )),*];
        $(
            #[allow(non_snake_case)]
            unsafe extern "win64" fn $name<const ADDRESS: usize>(
                $driver: *mut DRIVER_OBJECT,
                $registry: *mut UNICODE_STRING,
            ) -> NTSTATUS {
                let ($address, _, _) = (ADDRESS, $driver, $registry);
                // SAFETY: the mistake that the lab has to survive: the pointers lead nowhere.
                unsafe { $body }
                NDIS_STATUS_SUCCESS
            }
        )*
    };
}

drivers! {
    KeAcquireSpinLockRaiseToDpc_(at, driver, registry) {
        KeAcquireSpinLockRaiseToDpc(without_provenance_mut(at));
    }
    NdisAllocateSpinLock_(at, driver, registry) {
        NdisAllocateSpinLock(without_provenance_mut(at));
    }
    NdisAcquireSpinLock_(at, driver, registry) {
        NdisAcquireSpinLock(without_provenance_mut(at));
    }
    KeInitializeEvent_(at, driver, registry) {
        KeInitializeEvent(without_provenance_mut(at), 0, 0);
    }
    KeSetEvent_(at, driver, registry) {
        KeSetEvent(without_provenance_mut(at), 0, 0);
    }
    KeInitializeDpc_(at, driver, registry) {
        KeInitializeDpc(without_provenance_mut(at), None, null_mut());
    }
    RtlInitUnicodeString_(at, driver, registry) {
        let mut string: UNICODE_STRING = zeroed();
        RtlInitUnicodeString(&raw mut string, without_provenance(at));
    }
    NdisMRegisterMiniportDriver_(at, driver, registry) {
        let mut handle = null_mut();
        let characteristics = without_provenance_mut(at);
        NdisMRegisterMiniportDriver(driver, registry, null_mut(), characteristics, &raw mut handle);
    }
    NdisGetDataBuffer_(at, driver, registry) {
        NdisGetDataBuffer(without_provenance_mut(at), 16, null_mut(), 1, 0);
    }
    // The pointer is not an argument, but in a structure that one leads to.
    NdisGetDataBuffer_its_MDL(at, driver, registry) {
        let mut buffer: NET_BUFFER = zeroed();
        buffer.DataLength = 64;
        buffer.MdlChain = without_provenance_mut(at);
        buffer.CurrentMdl = buffer.MdlChain;
        NdisGetDataBuffer(&raw mut buffer, 16, null_mut(), 1, 0);
    }
}

#[test]
fn a_wild_pointer_stops_the_machine_only() {
    for (name, entries) in DRIVERS {
        for (entry, address) in entries.iter().zip(WILD) {
            let lab = Lab::builder().build();
            // SAFETY: its mistake is one that the lab survives.
            let error = unsafe { lab.load_native(*entry, "wild") }.unwrap_err();
            let LabError::BugCheck(bugcheck) = error else { panic!("{name} {address:#x}: {error}") };
            let violations = lab.violations();
            let caught = violations.iter().find(|violation| {
                [rules::POINTER_WILD, rules::PARAMETER, rules::LOCK_NOT_ALLOCATED].contains(&violation.rule)
            });
            let report = caught.unwrap_or_else(|| panic!("{name} {address:#x}: {violations:#?}")).to_string();
            let function = name.split('_').next().unwrap();
            assert!(report.contains(function) && report.contains("DriverEntry"), "{report}");
            assert_eq!(bugcheck.function, Some(function), "{bugcheck}");
            if caught.is_some_and(|violation| violation.rule == rules::POINTER_WILD) {
                // Somewhere in the structure at the address.
                let touched = usize::try_from(bugcheck.parameters[0]).unwrap();
                assert!(touched.wrapping_sub(address) < 512, "{bugcheck} for {address:#x}");
                assert_eq!(bugcheck.code, 0x50, "{bugcheck}");
            }
        }
    }
}
