//! Registration of the one miniport (`[nf-ndis-ndismregisterminiportdriver]`).

use core::cell::UnsafeCell;
use core::ptr;

use ndis_sys::{
    DRIVER_OBJECT, NDIS_HANDLE, NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2, NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2, NDIS_STATUS, NDIS_STATUS_BAD_CHARACTERISTICS,
    NDIS_STATUS_SUCCESS, UNICODE_STRING,
};

use crate::{device, memory, report};

/// What the miniport registered.
#[derive(Clone, Copy)]
pub(crate) struct Miniport {
    pub(crate) context: NDIS_HANDLE,
    pub(crate) handlers: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
}

struct Registered(UnsafeCell<Option<Miniport>>);

// SAFETY: written in DriverEntry and in unload only, before and after all devices; Wine handles a driver's Plug and Play
// requests on one thread.
unsafe impl Sync for Registered {}

static REGISTERED: Registered = Registered(UnsafeCell::new(None));

/// What is registered, if something is.
pub(crate) fn get() -> Option<Miniport> {
    // SAFETY: see `Registered`.
    unsafe { *REGISTERED.0.get() }
}

/// # Safety
/// As NDIS documents it: called from DriverEntry with its arguments.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMRegisterMiniportDriver(
    driver: *mut DRIVER_OBJECT,
    _registry_path: *mut UNICODE_STRING,
    context: NDIS_HANDLE,
    characteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    handle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    // SAFETY: a driver passes a structure of at least its header.
    let header = unsafe { (*characteristics).Header };
    report::line(format_args!(
        "register type={:#x} revision={} size={}",
        header.Type, header.Revision, header.Size
    ));
    if header.Type != NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS
        || header.Revision < NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2
        || header.Size < NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2
    {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    // SAFETY: its size says that it is that long.
    let handlers = unsafe { *characteristics };
    report::line(format_args!(
        "characteristics ndis={}.{} driver={}.{} flags={:#x}",
        handlers.MajorNdisVersion,
        handlers.MinorNdisVersion,
        handlers.MajorDriverVersion,
        handlers.MinorDriverVersion,
        handlers.Flags
    ));
    if !all_handlers(driver, &handlers) {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    // SAFETY: see `Registered`; the driver object and the handle's place are DriverEntry's.
    unsafe {
        *REGISTERED.0.get() = Some(Miniport { context, handlers });
        device::take_over(driver.cast());
        *handle = REGISTERED.0.get().cast();
    }
    NDIS_STATUS_SUCCESS
}

/// Whether all handlers are there that a miniport must have, each inside its image; each is written down.
fn all_handlers(driver: *mut DRIVER_OBJECT, handlers: &NDIS_MINIPORT_DRIVER_CHARACTERISTICS) -> bool {
    let image = device::image(driver.cast());
    macro_rules! address {
        ($handler:ident) => {
            (stringify!($handler), handlers.$handler.map(|function| function as *const () as usize))
        };
    }
    let mandatory = [
        address!(InitializeHandlerEx),
        address!(HaltHandlerEx),
        address!(UnloadHandler),
        address!(PauseHandler),
        address!(RestartHandler),
        address!(OidRequestHandler),
        address!(SendNetBufferListsHandler),
        address!(ReturnNetBufferListsHandler),
        address!(CancelSendHandler),
        address!(DevicePnPEventNotifyHandler),
        address!(ShutdownHandlerEx),
        address!(CancelOidRequestHandler),
    ];
    let optional = [
        address!(SetOptionsHandler),
        address!(CheckForHangHandlerEx),
        address!(ResetHandlerEx),
        address!(DirectOidRequestHandler),
        address!(CancelDirectOidRequestHandler),
    ];
    let mut good = true;
    for (index, (name, handler)) in mandatory.iter().chain(&optional).enumerate() {
        let place = match handler {
            None => "null",
            Some(address) if image.contains(address) => "image",
            Some(_) => "elsewhere",
        };
        report::line(format_args!("handler name={name} in={place}"));
        good &= place == "image" || place == "null" && index >= mandatory.len();
    }
    good
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMDeregisterMiniportDriver(handle: NDIS_HANDLE) {
    let ours = ptr::eq(handle, REGISTERED.0.get().cast());
    report::line(format_args!("deregister handle={}", if ours { "registered" } else { "unknown" }));
    // SAFETY: see `Registered`.
    unsafe { *REGISTERED.0.get() = None };
}

/// The driver is unloaded: its own handler, then what it left behind.
pub(crate) fn unload(driver: *mut DRIVER_OBJECT) {
    report::line(format_args!("unload"));
    if let Some(handler) = get().and_then(|miniport| miniport.handlers.UnloadHandler) {
        // SAFETY: the driver is registered and has no adapter any more.
        unsafe { handler(driver) };
    }
    let left = memory::left();
    report::line(format_args!(
        "unloaded registered={} pools={} lists={} mdls={}",
        get().is_some(),
        left.pools,
        left.lists,
        left.mdls
    ));
}
