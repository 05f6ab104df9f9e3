//! Interrupts, device memory, ports, DMA and buses, of ndis.sys and ntoskrnl.exe, for adapters that have none of it.
//!
//! An adapter of the lab is enumerated by the root: `AllocatedResources` of its parameters is NULL, and no bus answers
//! for it. Each function fails as its page says for such an adapter, so that the driver of a device that is not there
//! fails cleanly in MiniportInitializeEx. Handles and mappings that the functions never gave are not taken back.
//! [`crate::Lab::hardware`] tells what was asked for.

use ndis_sys::{
    NDIS_HANDLE, NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER, NDIS_STATUS, NET_BUFFER, PHYSICAL_ADDRESS, PVOID, UINT,
    ULONG,
};

use super::{Call, exports};
use crate::adapter::AdapterCore;
use crate::rules;

/// `NDIS_STATUS_RESOURCE_CONFLICT`: the resource is not the adapter's to claim.
const CONFLICT: NDIS_STATUS = 0xc001_001e_u32.cast_signed();
const RESOURCES: NDIS_STATUS = ndis_sys::NDIS_STATUS_RESOURCES;
const NOT_SUPPORTED: NDIS_STATUS = ndis_sys::NDIS_STATUS_NOT_SUPPORTED;

/// The part of `NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS` that line-based interrupts need.
#[repr(C)]
pub(crate) struct InterruptCharacteristics {
    header: [u8; 8],
    interrupt: usize,
    dpc: usize,
}

/// The adapter that a function names; notes what it asks for.
fn asked(call: &Call<'_>, handle: NDIS_HANDLE) -> Option<std::sync::Arc<AdapterCore>> {
    call.note_hardware();
    call.named_adapter(handle)
}

/// The registration attributes have to be there before hardware is claimed.
fn check_registered(call: &Call<'_>, adapter: &AdapterCore) {
    if adapter.attributes.lock().registration.is_none() {
        let text = "hardware is claimed before the registration attributes are set";
        call.violate(rules::ATTRIBUTE_ORDER, text);
    }
}

fn no_handle(call: &Call<'_>, handle: NDIS_HANDLE, of: &str) {
    call.note_hardware();
    call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of {of}"));
}

exports! { INTERRUPTS in "ndis.sys" {
    PASSIVE_ONLY fn NdisMRegisterInterruptEx(
        call, handle: NDIS_HANDLE, _context: NDIS_HANDLE, characteristics: *mut InterruptCharacteristics,
        interrupt: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        if let Some(adapter) = asked(call, handle) {
            check_registered(call, &adapter);
        }
        // SAFETY: the caller's structure, which has these fields in every revision.
        let (isr, dpc) = unsafe { ((*characteristics).interrupt, (*characteristics).dpc) };
        if isr == 0 || dpc == 0 {
            call.violate(rules::PARAMETER, "MiniportInterrupt and MiniportInterruptDPC are required");
        }
        // SAFETY: the caller's variable.
        unsafe { interrupt.write(std::ptr::null_mut()) };
        Ok(CONFLICT)
    }

    PASSIVE_ONLY fn NdisMDeregisterInterruptEx(call, interrupt: NDIS_HANDLE) {
        no_handle(call, interrupt, "an interrupt");
        Ok(())
    }

    ANY fn NdisMSynchronizeWithInterruptEx(
        call, interrupt: NDIS_HANDLE, _message: ULONG, _routine: PVOID, _context: PVOID,
    ) -> u8 {
        no_handle(call, interrupt, "an interrupt");
        Ok(0)
    }

    ANY fn NdisMQueueDpc(call, interrupt: NDIS_HANDLE, _message: ULONG, _processors: ULONG, _context: PVOID) -> ULONG {
        no_handle(call, interrupt, "an interrupt");
        Ok(0)
    }

    ANY fn NdisMQueueDpcEx(call, interrupt: NDIS_HANDLE, _message: ULONG, _processors: PVOID, _context: PVOID) -> usize {
        no_handle(call, interrupt, "an interrupt");
        Ok(0)
    }

    PASSIVE_ONLY fn NdisMConfigMSIXTableEntry(call, handle: NDIS_HANDLE, _parameters: PVOID) -> NDIS_STATUS {
        asked(call, handle);
        Ok(NOT_SUPPORTED)
    }
} }

exports! { SPACES in "ndis.sys" {
    PASSIVE_ONLY fn NdisMMapIoSpace(
        call, address: *mut PVOID, handle: NDIS_HANDLE, _physical: PHYSICAL_ADDRESS, length: UINT,
    ) -> NDIS_STATUS {
        if let Some(adapter) = asked(call, handle) {
            check_registered(call, &adapter);
        }
        if length == 0 {
            call.violate(rules::PARAMETER, "Length is 0");
        }
        // SAFETY: the caller's variable.
        unsafe { address.write(std::ptr::null_mut()) };
        Ok(CONFLICT)
    }

    PASSIVE_ONLY fn NdisMUnmapIoSpace(call, handle: NDIS_HANDLE, address: PVOID, _length: UINT) {
        asked(call, handle);
        call.violate(rules::PARAMETER, format!("{address:p} is not what NdisMMapIoSpace mapped"));
        Ok(())
    }

    PASSIVE_ONLY fn NdisMRegisterIoPortRange(
        call, offset: *mut PVOID, handle: NDIS_HANDLE, _first: UINT, _count: UINT,
    ) -> NDIS_STATUS {
        if let Some(adapter) = asked(call, handle) {
            check_registered(call, &adapter);
        }
        // SAFETY: the caller's variable.
        unsafe { offset.write(std::ptr::null_mut()) };
        Ok(CONFLICT)
    }

    PASSIVE_ONLY fn NdisMDeregisterIoPortRange(
        call, handle: NDIS_HANDLE, _first: UINT, _count: UINT, offset: PVOID,
    ) {
        asked(call, handle);
        call.violate(rules::PARAMETER, format!("{offset:p} is not what NdisMRegisterIoPortRange gave"));
        Ok(())
    }

    ANY fn NdisMGetBusData(
        call, handle: NDIS_HANDLE, _space: ULONG, _offset: ULONG, _buffer: PVOID, _length: ULONG,
    ) -> ULONG {
        // No byte could be read: no bus has the adapter.
        asked(call, handle);
        Ok(0)
    }

    ANY fn NdisMSetBusData(
        call, handle: NDIS_HANDLE, _space: ULONG, _offset: ULONG, _buffer: PVOID, _length: ULONG,
    ) -> ULONG {
        asked(call, handle);
        Ok(0)
    }
} }

exports! { DMA in "ndis.sys" {
    PASSIVE_ONLY fn NdisMRegisterScatterGatherDma(
        call, handle: NDIS_HANDLE, _description: PVOID, dma: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        let adapter = asked(call, handle);
        // SAFETY: the caller's variable.
        unsafe { dma.write(std::ptr::null_mut()) };
        let Some(adapter) = adapter else { return Ok(ndis_sys::NDIS_STATUS_FAILURE) };
        check_registered(call, &adapter);
        let master = adapter.attributes.lock().registration.is_some_and(|set| set.flags & NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER != 0);
        Ok(if master { RESOURCES } else { NOT_SUPPORTED })
    }

    PASSIVE_ONLY fn NdisMDeregisterScatterGatherDma(call, dma: NDIS_HANDLE) {
        no_handle(call, dma, "scatter/gather DMA");
        Ok(())
    }

    AT_DISPATCH fn NdisMAllocateNetBufferSGList(
        call, dma: NDIS_HANDLE, _buffer: *mut NET_BUFFER, _context: PVOID, _flags: ULONG, _list: PVOID, _size: ULONG,
    ) -> NDIS_STATUS {
        no_handle(call, dma, "scatter/gather DMA");
        Ok(ndis_sys::NDIS_STATUS_FAILURE)
    }

    AT_DISPATCH fn NdisMFreeNetBufferSGList(call, dma: NDIS_HANDLE, _list: PVOID, _buffer: *mut NET_BUFFER) {
        no_handle(call, dma, "scatter/gather DMA");
        Ok(())
    }

    PASSIVE_ONLY fn NdisMAllocateSharedMemory(
        call, handle: NDIS_HANDLE, _length: ULONG, _cached: u8, address: *mut PVOID, physical: *mut PHYSICAL_ADDRESS,
    ) {
        // There is no DMA that could share it.
        asked(call, handle);
        // SAFETY: the caller's variables.
        unsafe {
            address.write(std::ptr::null_mut());
            physical.write(PHYSICAL_ADDRESS { QuadPart: 0 });
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMAllocateSharedMemoryAsyncEx(
        call, dma: NDIS_HANDLE, _length: ULONG, _cached: u8, _context: PVOID,
    ) -> NDIS_STATUS {
        no_handle(call, dma, "scatter/gather DMA");
        Ok(ndis_sys::NDIS_STATUS_FAILURE)
    }

    UP_TO_DISPATCH fn NdisMFreeSharedMemory(
        call, handle: NDIS_HANDLE, _length: ULONG, _cached: u8, address: PVOID, _physical: PHYSICAL_ADDRESS,
    ) {
        asked(call, handle);
        call.violate(rules::PARAMETER, format!("{address:p} is not what NdisMAllocateSharedMemory gave"));
        Ok(())
    }
} }

exports! { KERNEL in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn MmMapIoSpace(call, _physical: PHYSICAL_ADDRESS, length: usize, _cache: i32) -> PVOID {
        call.note_hardware();
        if length == 0 {
            call.violate(rules::PARAMETER, "NumberOfBytes is 0");
        }
        Ok(std::ptr::null_mut())
    }

    UP_TO_DISPATCH fn MmMapIoSpaceEx(call, _physical: PHYSICAL_ADDRESS, length: usize, _protect: ULONG) -> PVOID {
        call.note_hardware();
        if length == 0 {
            call.violate(rules::PARAMETER, "NumberOfBytes is 0");
        }
        Ok(std::ptr::null_mut())
    }

    UP_TO_DISPATCH fn MmUnmapIoSpace(call, address: PVOID, _length: usize) {
        call.note_hardware();
        call.violate(rules::PARAMETER, format!("{address:p} is not what MmMapIoSpace mapped"));
        Ok(())
    }

    PASSIVE_ONLY fn IoGetDmaAdapter(call, _device: PVOID, _description: PVOID, registers: *mut ULONG) -> PVOID {
        call.note_hardware();
        // SAFETY: the caller's variable.
        unsafe { registers.write(0) };
        Ok(std::ptr::null_mut())
    }
} }
