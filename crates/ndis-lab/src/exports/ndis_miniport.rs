//! What a miniport calls to register, to set attributes, and to complete what NDIS asked for.

use ndis_sys::{
    DRIVER_OBJECT, NDIS_HANDLE, NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_OID_REQUEST, NDIS_STATUS, NDIS_STATUS_BAD_CHARACTERISTICS, NDIS_STATUS_BAD_VERSION,
    NDIS_STATUS_FAILURE, NDIS_STATUS_INDICATION, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, UNICODE_STRING,
};

use super::exports;
use crate::adapter::{attributes, indication::ErrorLogEntry};
use crate::driver::DriverCore;
use crate::machine::thread::handler;
use crate::machine::{Entry, Machine, PASSIVE, Stopped};
use crate::rules;

/// NDIS versions that exist: minor numbers of major version 6.
const MINORS: &[u8] = &[0, 1, 20, 30, 40, 50, 51, 60, 70, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89];

/// The handlers that every miniport has.
fn missing_handlers(c: &NDIS_MINIPORT_DRIVER_CHARACTERISTICS) -> Vec<&'static str> {
    [
        ("InitializeHandlerEx", c.InitializeHandlerEx.is_some()),
        ("HaltHandlerEx", c.HaltHandlerEx.is_some()),
        ("UnloadHandler", c.UnloadHandler.is_some()),
        ("PauseHandler", c.PauseHandler.is_some()),
        ("RestartHandler", c.RestartHandler.is_some()),
        ("OidRequestHandler", c.OidRequestHandler.is_some()),
        ("SendNetBufferListsHandler", c.SendNetBufferListsHandler.is_some()),
        ("ReturnNetBufferListsHandler", c.ReturnNetBufferListsHandler.is_some()),
        ("CancelSendHandler", c.CancelSendHandler.is_some()),
        ("DevicePnPEventNotifyHandler", c.DevicePnPEventNotifyHandler.is_some()),
        ("ShutdownHandlerEx", c.ShutdownHandlerEx.is_some()),
        ("CancelOidRequestHandler", c.CancelOidRequestHandler.is_some()),
    ]
    .into_iter()
    .filter(|(_, there)| !there)
    .map(|(name, _)| name)
    .collect()
}

/// What DriverUnload of a pure miniport is: NDIS' routine. Only the lab unloads, so it is never run.
extern "win64" fn ndis_unload(_: *mut DRIVER_OBJECT) {}

/// Checks and copies the characteristics.
///
/// # Safety
/// `characteristics` points to a structure as large as its header says.
unsafe fn register(
    machine: &Machine,
    core: &std::sync::Arc<DriverCore>,
    context: NDIS_HANDLE,
    characteristics: *const NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
) -> Result<usize, NDIS_STATUS> {
    // SAFETY: header and versions lie within the shortest revision.
    let (header, major, minor) = unsafe {
        ((*characteristics).Header, (*characteristics).MajorNdisVersion, (*characteristics).MinorNdisVersion)
    };
    let newest = machine.options.ndis_version & 0xffff;
    if major != 6 || !MINORS.contains(&minor) || u32::from(minor) > newest {
        machine.violate(rules::REGISTER_CHARACTERISTICS, format!("NDIS version {major}.{minor}"));
        return Err(NDIS_STATUS_BAD_VERSION);
    }
    let shape = attributes::check_characteristics(header, minor).map_err(|text| {
        machine.violate(rules::REGISTER_CHARACTERISTICS, format!("{text} (NDIS {major}.{minor})"));
        NDIS_STATUS_BAD_CHARACTERISTICS
    })?;
    // SAFETY: as many bytes are copied as the checked revision has; handlers are nullable pointers,
    // for which zero is a value.
    let copy = unsafe {
        let mut copy: NDIS_MINIPORT_DRIVER_CHARACTERISTICS = std::mem::zeroed();
        std::ptr::copy_nonoverlapping(
            characteristics.cast::<u8>(),
            (&raw mut copy).cast(),
            usize::from(shape.size).min(size_of_val(&copy)),
        );
        copy
    };
    let known = ndis_sys::NDIS_INTERMEDIATE_DRIVER | ndis_sys::NDIS_WDM_DRIVER;
    if copy.Flags & !known != 0 {
        machine.violate(rules::REGISTER_CHARACTERISTICS, format!("Flags {:#x}", copy.Flags));
    }
    let missing = missing_handlers(&copy);
    if !missing.is_empty() {
        machine.violate(rules::REGISTER_HANDLERS, format!("{} is NULL", missing.join(", ")));
        return Err(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    if copy.DirectOidRequestHandler.is_some() != copy.CancelDirectOidRequestHandler.is_some() {
        machine.violate(
            rules::REGISTER_HANDLERS,
            "DirectOidRequestHandler and CancelDirectOidRequestHandler go together",
        );
        return Err(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    if copy.CheckForHangHandlerEx.is_some() && copy.ResetHandlerEx.is_none() {
        machine.violate(rules::REGISTER_HANDLERS, "CheckForHangHandlerEx without ResetHandlerEx");
        return Err(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    if machine.fault(0, 0) {
        return Err(NDIS_STATUS_RESOURCES);
    }
    Ok(machine.register_driver(core, context as usize, copy))
}

fn driver_of(machine: &Machine, handle: NDIS_HANDLE) -> Option<std::sync::Arc<DriverCore>> {
    machine.objects.lock().drivers.get(&(handle as usize)).cloned()
}

exports! { TABLE in "ndis.sys" {
    PASSIVE_ONLY fn NdisMRegisterMiniportDriver(
        call, object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING, context: NDIS_HANDLE,
        characteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS, handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        let Some(core) = driver_of(call, object as NDIS_HANDLE) else {
            call.violate(rules::PARAMETER, format!("{object:p} is not the DRIVER_OBJECT that DriverEntry got"));
            return Ok(NDIS_STATUS_FAILURE);
        };
        if path.is_null() || handle.is_null() || characteristics.is_null() {
            call.violate(rules::PARAMETER, "a pointer is NULL");
            return Ok(NDIS_STATUS_FAILURE);
        }
        if core.registration.lock().is_some() {
            call.violate(rules::REGISTER_ONCE, "the driver is registered already");
            return Ok(NDIS_STATUS_FAILURE);
        }
        // SAFETY: the caller's structure.
        let number = match unsafe { register(call, &core, context, characteristics) } {
            Ok(number) => number,
            Err(status) => return Ok(status),
        };
        core.own_unload(ndis_unload as *const () as usize);
        core.own_dispatch(super::io::ndis_dispatch as *const () as usize);
        // SAFETY: the caller's variable.
        unsafe { handle.write(number as NDIS_HANDLE) };
        set_options(call, &core, number, context)
    }

    PASSIVE_ONLY fn NdisMDeregisterMiniportDriver(call, handle: NDIS_HANDLE) {
        let core = driver_of(call, handle);
        let registered = core.as_ref().is_some_and(|core| core.registration.lock().take().is_some());
        if !registered {
            call.violate(rules::REGISTER_ONCE, format!("{handle:p} is no registered driver"));
        }
        if let Some(core) = core {
            let left = call.adapters.read().values().filter(|adapter| adapter.driver.id == core.id).count();
            if left > 0 {
                call.violate(rules::REGISTER_ONCE, format!("the driver deregisters with {left} adapters"));
            }
        }
        call.objects.lock().drivers.remove(&(handle as usize));
        Ok(())
    }

    PASSIVE_ONLY fn NdisMSetMiniportAttributes(
        call, handle: NDIS_HANDLE, attributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
    ) -> NDIS_STATUS {
        let Some(adapter) = call.named_adapter(handle) else { return Ok(NDIS_STATUS_FAILURE) };
        // SAFETY: the caller's structure.
        Ok(unsafe { call.set_attributes(&adapter, attributes) })
    }

    UP_TO_DISPATCH fn NdisMIndicateStatusEx(call, handle: NDIS_HANDLE, indication: *mut NDIS_STATUS_INDICATION) {
        if let Some(adapter) = call.named_adapter(handle) {
            // SAFETY: the caller's structure.
            unsafe { call.indicate_status(&adapter, indication) };
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMOidRequestComplete(
        call, handle: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST, status: NDIS_STATUS,
    ) {
        if let Some(adapter) = call.named_adapter(handle) {
            call.check_no_lock("an OID request is completed");
            call.complete_oid(&adapter, request, status, false);
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMDirectOidRequestComplete(
        call, handle: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST, status: NDIS_STATUS,
    ) {
        if let Some(adapter) = call.named_adapter(handle) {
            call.check_no_lock("a direct OID request is completed");
            call.complete_oid(&adapter, request, status, true);
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMPauseComplete(call, handle: NDIS_HANDLE) {
        if let Some(adapter) = call.named_adapter(handle) {
            adapter.check_paused(call);
            if !adapter.pause.lock().complete(NDIS_STATUS_SUCCESS) {
                call.violate_for(&adapter, rules::STATE_COMPLETION, "no pause is pending");
            }
            call.notify();
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMRestartComplete(call, handle: NDIS_HANDLE, status: NDIS_STATUS) {
        if let Some(adapter) = call.named_adapter(handle) {
            if !adapter.restart.lock().complete(status) {
                call.violate_for(&adapter, rules::STATE_COMPLETION, "no restart is pending");
            }
            call.notify();
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMResetMiniport(call, handle: NDIS_HANDLE) {
        if let Some(adapter) = call.named_adapter(handle) {
            // Without the handler there is nothing that NDIS could call.
            if adapter.driver.characteristics().is_none_or(|c| c.ResetHandlerEx.is_none()) {
                call.violate_for(&adapter, rules::PARAMETER, "a reset is asked for, and there is no MiniportResetEx");
            }
            // Release: pairs with `Adapter::reset_asked`.
            adapter.reset_asked.store(true, std::sync::atomic::Ordering::Release);
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMRemoveMiniport(call, handle: NDIS_HANDLE) -> NDIS_STATUS {
        let Some(adapter) = call.named_adapter(handle) else { return Ok(ndis_sys::NDIS_STATUS_FAILURE) };
        // Release: pairs with `Adapter::removal_asked`.
        adapter.removal_asked.store(true, std::sync::atomic::Ordering::Release);
        Ok(ndis_sys::NDIS_STATUS_SUCCESS)
    }

    UP_TO_DISPATCH fn NdisMResetComplete(call, handle: NDIS_HANDLE, status: NDIS_STATUS, addressing: u8) {
        if let Some(adapter) = call.named_adapter(handle) {
            adapter.check_reset(call);
            call.check_no_lock("a reset is completed");
            let mut reset = adapter.reset.lock();
            reset.1 = addressing != 0;
            let right = reset.0.complete(status);
            drop(reset);
            if !right {
                call.violate_for(&adapter, rules::STATE_COMPLETION, "no reset is pending");
            }
            call.notify();
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisWriteErrorLogEntry(
        call, handle: NDIS_HANDLE, code: u32, count: u32, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize,
    ) {
        // The values are variadic: as many as `count` says were passed, the rest is the caller's stack.
        let all = [a, b, c, d, e, f];
        let values = all[..all.len().min(count as usize)].to_vec();
        if let Some(adapter) = call.named_adapter(handle) {
            adapter.indications.log.lock().push(ErrorLogEntry { code, values });
        }
        Ok(())
    }
} }

/// Calls MiniportSetOptions, inside of the registration.
fn set_options(
    machine: &Machine,
    core: &std::sync::Arc<DriverCore>,
    number: usize,
    context: NDIS_HANDLE,
) -> Result<NDIS_STATUS, Stopped> {
    let Some(options) = core.characteristics().and_then(|c| c.SetOptionsHandler) else {
        return Ok(NDIS_STATUS_SUCCESS);
    };
    let entry = Entry { handler: handler::SET_OPTIONS, driver: core.id, adapter: None, irql: PASSIVE };
    let args = [number as u64, context as u64, 0, 0, 0, 0, 0, 0];
    // SAFETY: the registered handler with its two arguments.
    let status = unsafe { machine.enter(entry, options as usize, args) }?;
    let status = ((status & 0xffff_ffff) as u32).cast_signed();
    if status != NDIS_STATUS_SUCCESS {
        *core.registration.lock() = None;
        machine.objects.lock().drivers.remove(&number);
    }
    Ok(status)
}
