//! Plug and Play, as NDIS does it for miniports: it puts its own AddDevice, dispatch and unload routines into the driver
//! object that the miniport registered.

use core::ops::Range;
use core::ptr;

use windows_sys::Wdk::Foundation::{DEVICE_OBJECT, DRIVER_OBJECT, IRP};
use windows_sys::Wdk::Storage::FileSystem::{DO_DEVICE_INITIALIZING, IO_NO_INCREMENT};
use windows_sys::Wdk::System::SystemServices::{
    FILE_DEVICE_SECURE_OPEN, IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL,
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice, IofCallDriver,
    IofCompleteRequest,
};
use windows_sys::Win32::Foundation::{NTSTATUS, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use windows_sys::Win32::System::Ioctl::FILE_DEVICE_PHYSICAL_NETCARD;

use crate::adapter::Adapter;
use crate::{miniport, report};

/// Where the driver's image lies.
pub(crate) fn image(driver: *mut DRIVER_OBJECT) -> Range<usize> {
    // SAFETY: a live driver object.
    let (start, size) = unsafe { ((*driver).DriverStart as usize, (*driver).DriverSize as usize) };
    start..start + size
}

/// Puts the routines into the driver object.
///
/// # Safety
/// `driver` is the object that DriverEntry was called with.
pub(crate) unsafe fn take_over(driver: *mut DRIVER_OBJECT) {
    // SAFETY: the driver is being initialised, and its object belongs to it.
    unsafe {
        (*(*driver).DriverExtension).AddDevice = Some(add_device);
        (*driver).MajorFunction[IRP_MJ_PNP as usize] = Some(plug_and_play);
        (*driver).DriverUnload = Some(unload);
    }
}

unsafe extern "system" fn unload(driver: *const DRIVER_OBJECT) {
    miniport::unload(driver.cast_mut().cast());
}

/// A device below the adapter's: makes the adapter's own on top of it.
unsafe extern "system" fn add_device(driver: *const DRIVER_OBJECT, below: *const DEVICE_OBJECT) -> NTSTATUS {
    let mut device = ptr::null_mut();
    let extension = size_of::<Adapter>() as u32;
    // SAFETY: both objects are Wine's and live; the extension has room for an adapter, and starts as zeroes.
    unsafe {
        let status = IoCreateDevice(
            driver,
            extension,
            ptr::null(),
            FILE_DEVICE_PHYSICAL_NETCARD,
            FILE_DEVICE_SECURE_OPEN,
            false,
            &raw mut device,
        );
        report::line(format_args!("add-device status={status:#010x}"));
        if status != STATUS_SUCCESS {
            return status;
        }
        let next = IoAttachDeviceToDeviceStack(device, below);
        let adapter = (*device).DeviceExtension.cast::<Adapter>();
        adapter.write(Adapter::new(below.cast_mut(), next));
        (*device).Flags &= !DO_DEVICE_INITIALIZING;
    }
    STATUS_SUCCESS
}

unsafe extern "system" fn plug_and_play(device: *const DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the device is one of `add_device`'s; Wine sends its requests one after the other.
    let adapter = unsafe { &*(*device).DeviceExtension.cast::<Adapter>() };
    // SAFETY: the request is ours until it is passed on or completed.
    let minor = unsafe { u32::from((*current(irp)).MinorFunction) };
    match minor {
        // On Windows the bus starts first. Here it has nothing to start, and once it has completed the request, our own
        // failure could no longer be told.
        IRP_MN_START_DEVICE if !adapter.start() => {
            // SAFETY: the request is ours, and completed once.
            unsafe {
                (*irp).IoStatus.Anonymous.Status = STATUS_UNSUCCESSFUL;
                IofCompleteRequest(irp, IO_NO_INCREMENT as i8);
            }
            return STATUS_UNSUCCESSFUL;
        }
        IRP_MN_SURPRISE_REMOVAL => adapter.surprise(),
        IRP_MN_REMOVE_DEVICE => adapter.stop(),
        _ => {}
    }
    let below = adapter.next;
    // SAFETY: the request goes on to the device below, with our place in its stack given back (IoSkipCurrentIrpStackLocation).
    // After a removal nobody uses our device any more.
    unsafe {
        (*irp).CurrentLocation += 1;
        let next = current(irp).add(1);
        (*irp).Tail.Overlay.Anonymous2.Anonymous.CurrentStackLocation = next;
        let status = IofCallDriver(below, irp);
        if minor == IRP_MN_REMOVE_DEVICE {
            report::line(format_args!("remove-device status={status:#010x}"));
            IoDetachDevice(below);
            IoDeleteDevice(device);
        }
        status
    }
}

/// Our place in the request's stack.
///
/// # Safety
/// The request is ours.
unsafe fn current(irp: *mut IRP) -> *mut windows_sys::Wdk::Foundation::IO_STACK_LOCATION {
    // SAFETY: as the caller promises; NT sets the pointer in every request.
    unsafe { (*irp).Tail.Overlay.Anonymous2.Anonymous.CurrentStackLocation }
}
