//! IRPs, device objects and access checks of ntoskrnl.exe, and what NDIS does with IRPs of its devices.

use ndis_sys::{
    BOOLEAN, CCHAR, CM_RESOURCE_LIST, DEVICE_OBJECT, IRP, KPROCESSOR_MODE, MDL, NDIS_HANDLE, NTSTATUS, PVOID,
    ULONG,
};

use super::{Call, Function, UP_TO_DISPATCH, exports, shell};
use crate::machine::Stopped;
use crate::machine::io::{
    IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_PNP, STATUS_INVALID_DEVICE_REQUEST,
};
use crate::machine::ob::STATUS_ACCESS_DENIED;
use crate::machine::security::{Descriptor, FILE_MAPPING, map};
use crate::rules;

const STATUS_INVALID_SECURITY_DESCR: NTSTATUS = 0xc000_0079_u32.cast_signed();

/// What NDIS does with an IRP of one of its miniports' devices.
fn ndis_irp(call: &Call<'_>, irp: usize) -> Result<NTSTATUS, Stopped> {
    let Some((major, _, _)) = call.irp_request(irp) else {
        call.violate(rules::PARAMETER, format!("{irp:#x} is no IRP that lives"));
        return Ok(STATUS_INVALID_DEVICE_REQUEST);
    };
    let status = match major {
        // Anyone may open the device; requests are checked one by one.
        IRP_MJ_CREATE | IRP_MJ_CLEANUP | IRP_MJ_CLOSE | IRP_MJ_PNP => 0,
        // NDIS answers some requests about statistics for management tools; the lab has none such.
        _ => STATUS_INVALID_DEVICE_REQUEST,
    };
    call.end_irp(irp, status)
}

/// The dispatch routine that NDIS puts into every place of a miniport's DRIVER_OBJECT.
pub(crate) unsafe extern "win64" fn ndis_dispatch(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    static FUNCTION: Function = Function { name: "ndis!DRIVER_DISPATCH", irql: UP_TO_DISPATCH };
    shell(&FUNCTION, |call| ndis_irp(call, irp as usize))
}

/// The dispatch routine of a driver that set none.
pub(crate) unsafe extern "win64" fn invalid_dispatch(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    static FUNCTION: Function = Function { name: "IopInvalidDeviceRequest", irql: UP_TO_DISPATCH };
    shell(&FUNCTION, |call| call.end_irp(irp as usize, STATUS_INVALID_DEVICE_REQUEST))
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn IofCompleteRequest(call, irp: *mut IRP, _boost: CCHAR) {
        call.complete_irp(irp as usize)
    }

    UP_TO_DISPATCH fn IoIs32bitProcess(_, _irp: *mut IRP) -> BOOLEAN {
        // Processes of the lab are 64-bit ones.
        Ok(0)
    }

    UP_TO_DISPATCH fn IoBuildPartialMdl(call, source: *mut MDL, target: *mut MDL, address: PVOID, length: ULONG) {
        call.build_partial_mdl(source, target, address as usize, length);
        Ok(())
    }

    UP_TO_DISPATCH fn MmUnlockPages(call, mdl: *mut MDL) {
        call.unlock_pages(mdl);
        Ok(())
    }

    UP_TO_DISPATCH fn MmUnmapLockedPages(call, base: PVOID, mdl: *mut MDL) {
        call.unmap_pages(base, mdl);
        Ok(())
    }

    UP_TO_DISPATCH fn MmIsVerifierEnabled(_, flags: *mut ULONG) -> NTSTATUS {
        // STATUS_NOT_SUPPORTED: the driver is not being verified, as far as it can see; what it does
        // under the verifier is not what it does for its users.
        // SAFETY: the caller's variable.
        unsafe { flags.write(0) };
        Ok(0xc000_00bb_u32.cast_signed())
    }

    PASSIVE_ONLY fn IoGetFileObjectGenericMapping(_) -> *const u32 {
        static MAPPING: [u32; 4] = FILE_MAPPING;
        Ok(MAPPING.as_ptr())
    }

    PASSIVE_ONLY fn SeCaptureSubjectContext(call, context: PVOID) {
        // SAFETY: the caller's SECURITY_SUBJECT_CONTEXT, which is opaque to it.
        unsafe { std::ptr::write_bytes(context.cast::<u8>(), 0, 32) };
        call.capture_subject(context as usize);
        Ok(())
    }

    PASSIVE_ONLY fn SeReleaseSubjectContext(call, context: PVOID) {
        call.release_subject(context as usize);
        Ok(())
    }

    PASSIVE_ONLY fn SeAccessCheck(
        call, descriptor: *const u8, context: PVOID, _locked: BOOLEAN, desired: ULONG, previous: ULONG,
        _privileges: PVOID, mapping: *const [u32; 4], mode: KPROCESSOR_MODE, granted: *mut ULONG,
        status: *mut NTSTATUS,
    ) -> BOOLEAN {
        // SAFETY: the caller's mapping, which is not written.
        let mapping = unsafe { *mapping };
        let answer = |access: Option<u32>, error: NTSTATUS| {
            // SAFETY: the caller's two variables.
            unsafe {
                granted.write(access.unwrap_or(0));
                status.write(if access.is_some() { 0 } else { error });
            }
            Ok(u8::from(access.is_some()))
        };
        if mode == 0 {
            let all = if desired & 0x0200_0000 != 0 { mapping[3] } else { desired };
            return answer(Some(map(all & !0x0200_0000, mapping) | previous), 0);
        }
        let Some(token) = call.subject(context as usize) else { return answer(None, STATUS_ACCESS_DENIED) };
        if descriptor.is_null() {
            return answer(None, STATUS_ACCESS_DENIED);
        }
        // SAFETY: the caller's descriptor.
        let bytes = unsafe { Descriptor::copy(descriptor) };
        let Some(descriptor) = Descriptor::read(&bytes) else {
            call.violate(rules::PARAMETER, "the security descriptor is damaged, or not self-relative");
            return answer(None, STATUS_INVALID_SECURITY_DESCR);
        };
        let access = descriptor.check(&token, map(desired, mapping), mapping);
        answer(access.map(|access| access | previous), STATUS_ACCESS_DENIED)
    }
} }

exports! { NDIS in "ndis.sys" {
    PASSIVE_ONLY fn NdisMGetDeviceProperty(
        call, handle: NDIS_HANDLE, physical: *mut *mut DEVICE_OBJECT, functional: *mut *mut DEVICE_OBJECT,
        next: *mut *mut DEVICE_OBJECT, resources: *mut *mut CM_RESOURCE_LIST, translated: *mut *mut CM_RESOURCE_LIST,
    ) {
        let Some(adapter) = call.named_adapter(handle) else { return Ok(()) };
        let device = adapter.device();
        let (pdo, fdo) = device.map_or((0, 0), |device| (device.physical(), device.address()));
        // SAFETY: each is NULL or the caller's variable. A root-enumerated device has no resources,
        // and right below it lies its bus driver's.
        unsafe {
            for (variable, value) in [(physical, pdo), (functional, fdo), (next, pdo)] {
                if let Some(variable) = variable.as_mut() {
                    *variable = value as *mut DEVICE_OBJECT;
                }
            }
            for variable in [resources, translated] {
                if let Some(variable) = variable.as_mut() {
                    *variable = std::ptr::null_mut();
                }
            }
        }
        Ok(())
    }
} }
