//! The functions NDIS calls: they turn NDIS's pointers into the layer's types and call the [`Miniport`].
//!
//! All of them are `extern` functions that cannot unwind; a panic in the driver ends in its panic handler.

use core::marker::PhantomData;
use core::ptr::NonNull;

use ndis_sys::{
    BOOLEAN, DRIVER_OBJECT, KDPC, NDIS_HALT_ACTION, NDIS_HANDLE, NDIS_MINIPORT_INIT_PARAMETERS,
    NDIS_MINIPORT_PAUSE_PARAMETERS, NDIS_MINIPORT_RESTART_PARAMETERS, NDIS_OID_REQUEST, NDIS_PORT_NUMBER,
    NDIS_RETURN_FLAGS_DISPATCH_LEVEL, NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK, NDIS_SEND_FLAGS_DISPATCH_LEVEL,
    NDIS_SHUTDOWN_ACTION, NDIS_STATUS, NET_BUFFER_LIST, NET_DEVICE_PNP_EVENT, PVOID, ULONG, ndis_fn,
};

use crate::adapter::{Context, Header};
use crate::driver::{Driver, DriverCell};
use crate::initialize::Initializing;
use crate::irql::Irql;
use crate::miniport::{HaltAction, Miniport, SendContext, ShutdownAction};
use crate::nbl::{CancelId, NblList, ReturnedChain, SendChain};
use crate::oid::{Direct, OidPath, OidRequest, Regular, RequestId};
use crate::pause::{Pause, Restart};
use crate::pnp::PnpEvent;
use crate::reset::Reset;
use crate::rundown::Entered;
use crate::status::Status;

/// The callbacks of a driver whose adapters are `M`.
///
/// Every callback with a `context` argument requires what NDIS guarantees: `context` is the MiniportAdapterContext of an
/// adapter that is not halted yet, that is, a live [`Context<M>`].
pub(crate) struct Callbacks<M>(PhantomData<M>);

/// The typed pointer of a MiniportAdapterContext.
///
/// # Safety
///
/// `context` is the address of a live `Context<M>`.
unsafe fn context<M: Miniport>(context: NDIS_HANDLE) -> NonNull<Context<M>> {
    // SAFETY: addresses of live blocks are not null.
    unsafe { NonNull::new_unchecked(context.cast()) }
}

/// Enters the handlers' gate and gives the miniport, if the adapter is initialised and not halting.
///
/// # Safety
///
/// `context` is live for `'a`.
unsafe fn enter<'a, M: Miniport>(context: NonNull<Context<M>>) -> Option<(Entered<'a>, &'a M)> {
    // SAFETY: the header of a live context is initialised and only accessed shared.
    let header: &'a Header = unsafe { Context::header(context).as_ref() };
    let entered = header.handlers.enter()?;
    // SAFETY: the gate is open, so the miniport is initialised, and it is not dropped before `entered` is. Callers drop the
    // reference with or before `entered`; the lifetimes are equal, and the pair is taken apart only in this module.
    Some((entered, unsafe { &*Context::miniport(context) }))
}

impl<M: Miniport> Callbacks<M> {
    ndis_fn! {
        /// MINIPORT_INITIALIZE.
        pub(crate) unsafe extern fn initialize(ndis: NDIS_HANDLE, driver: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS {
            // SAFETY: MiniportDriverContext is what `DriverCell::load` registered: the address of the driver's static cell.
            let cell: &'static DriverCell<M::Driver> = unsafe { &*driver.cast() };
            let Some(driver) = cell.get() else { return Status::FAILURE.raw() };
            let Some(context) = Context::<M>::allocate(ndis, Some(Self::deferred)) else {
                return Status::RESOURCES.raw();
            };
            // SAFETY: the context was made for this call and is live until it is released below or in `halt`.
            let result = unsafe { Initializing::begin(context, &driver, parameters) };
            match result.and_then(|init| M::initialize(&driver, init)) {
                Ok(initialized) => {
                    // The brand on `Initialized` proves that it is this context's.
                    initialized.settle();
                    // SAFETY: the context is live and its miniport in place.
                    unsafe { Context::open(context) };
                    Status::SUCCESS.raw()
                }
                Err(status) => {
                    // SAFETY: PASSIVE_LEVEL; NDIS drops the context when initialisation fails, so its reference is ours to
                    // give up. No miniport is in place: `Initialized` was dropped, if there was one.
                    unsafe {
                        Context::close_calls(context);
                        Context::release(context);
                    }
                    status.as_failure().raw()
                }
            }
        }

        /// MINIPORT_HALT.
        pub(crate) unsafe extern fn halt(context: NDIS_HANDLE, action: NDIS_HALT_ACTION) {
            // SAFETY: NDIS's guarantee, see the type.
            let context = unsafe { self::context::<M>(context) };
            // SAFETY: PASSIVE_LEVEL. The adapter is paused and NDIS starts nothing new on it, so the waits end. After the first
            // step nobody but us uses the miniport, after the third nobody calls NDIS about the adapter, and the DPC is idle:
            // the miniport can be dropped and NDIS's reference given up.
            unsafe {
                Context::close_handlers(context);
                (*Context::miniport(context)).halt(HaltAction::from_raw(action));
                Context::close_calls(context);
                Context::drop_miniport(context);
                Context::release(context);
            }
        }

        /// MINIPORT_PAUSE.
        pub(crate) unsafe extern fn pause(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS {
            // SAFETY: NDIS's guarantee.
            let context = unsafe { self::context::<M>(context) };
            let header = Context::header(context);
            // SAFETY: the context is live during the call.
            let Some((entered, miniport)) = (unsafe { enter(context) }) else { return Status::SUCCESS.raw() };
            // SAFETY: the header is live during the call.
            unsafe { header.as_ref() }.traffic.close_receive();
            // SAFETY: NDIS has just asked for the pause of this adapter.
            let outcome = miniport.pause(unsafe { Pause::new(header) });
            // The pause may complete, and the halt wait for the gate, from here on.
            drop(entered);
            // SAFETY: called once, still in MiniportPause.
            unsafe { outcome.into_status(header) }
        }

        /// MINIPORT_RESTART.
        pub(crate) unsafe extern fn restart(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS {
            // SAFETY: NDIS's guarantee.
            let context = unsafe { self::context::<M>(context) };
            // SAFETY: the context is live during the call.
            let Some((_entered, miniport)) = (unsafe { enter(context) }) else { return Status::FAILURE.raw() };
            // SAFETY: the header is live during the call.
            let traffic = unsafe { &(*Context::header(context).as_ptr()).traffic };
            // Receives may be indicated as soon as MiniportRestart is entered.
            traffic.open_receive();
            match miniport.restart(Restart::new()) {
                Ok(()) => Status::SUCCESS.raw(),
                Err(status) => {
                    traffic.close_receive();
                    status.as_failure().raw()
                }
            }
        }

        /// MINIPORT_OID_REQUEST.
        pub(crate) unsafe extern fn oid_request(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
            // SAFETY: NDIS's guarantee, for the context and for the request, which is ours until completed.
            unsafe { Self::request::<Regular>(context, request) }
        }

        /// MINIPORT_DIRECT_OID_REQUEST.
        pub(crate) unsafe extern fn direct_oid_request(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
            // SAFETY: as for `oid_request`.
            unsafe { Self::request::<Direct>(context, request) }
        }

        /// MINIPORT_CANCEL_OID_REQUEST.
        pub(crate) unsafe extern fn cancel_oid_request(context: NDIS_HANDLE, request_id: PVOID) {
            // SAFETY: NDIS's guarantee.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) }
                && let Some(id) = RequestId::from_raw(request_id)
            {
                miniport.cancel_oid_request(id);
            }
        }

        /// MINIPORT_CANCEL_DIRECT_OID_REQUEST.
        pub(crate) unsafe extern fn cancel_direct_oid_request(context: NDIS_HANDLE, request_id: PVOID) {
            // SAFETY: NDIS's guarantee.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) }
                && let Some(id) = RequestId::from_raw(request_id)
            {
                miniport.cancel_direct_oid_request(id);
            }
        }

        /// MINIPORT_SEND_NET_BUFFER_LISTS.
        pub(crate) unsafe extern fn send(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, port: NDIS_PORT_NUMBER, flags: ULONG) {
            // SAFETY: NDIS's guarantee.
            let context = unsafe { self::context::<M>(context) };
            let header = Context::header(context);
            // SAFETY: the chain is ours and null-terminated.
            let list = unsafe { NblList::from_chain(chain) };
            // One unit per NBL, ended by its completion, and one for this handler.
            // SAFETY: the header is live while NDIS's send is not completed.
            let ready = unsafe { (*header.as_ptr()).traffic.begin(list.len() + 1) };
            // SAFETY: the list's NBLs are ours with the units just begun.
            let chain = unsafe { SendChain::from_list(list, header) };
            // SAFETY: NDIS tells the level, which this handler does not change.
            let irql = unsafe { Irql::new(flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0) };
            if ready {
                // SAFETY: started traffic means that the miniport is in place, and it is not dropped while our unit lasts.
                let miniport = unsafe { &*Context::miniport(context) };
                let check_for_loopback = flags & NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK != 0;
                miniport.send(chain, SendContext { irql, port, check_for_loopback });
            } else {
                chain.complete(Status::PAUSED, irql);
            }
            // SAFETY: the handler's unit is ours; nothing of the adapter is used after it.
            unsafe { Header::end_traffic(header, 1) };
        }

        /// MINIPORT_RETURN_NET_BUFFER_LISTS.
        pub(crate) unsafe extern fn return_buffers(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, flags: ULONG) {
            // SAFETY: NDIS's guarantee.
            let context = unsafe { self::context::<M>(context) };
            let header = Context::header(context);
            // SAFETY: NDIS gives back a null-terminated chain of NBLs that we indicated.
            let list = unsafe { NblList::from_chain(chain) };
            let count = list.len();
            // SAFETY: the header is live: the returned NBLs' units are not ended yet. The miniport is used only if it is there.
            let ready = unsafe { (*header.as_ptr()).traffic.begin(1) };
            // SAFETY: the NBLs came from `ReceiveBatch`, which lets nothing else out.
            let chain = unsafe { ReturnedChain::from_list(list) };
            if ready {
                // SAFETY: started traffic means that the miniport is in place, and it is not dropped while our unit lasts.
                let miniport = unsafe { &*Context::miniport(context) };
                // SAFETY: NDIS tells the level, which this handler does not change.
                let irql = unsafe { Irql::new(flags & NDIS_RETURN_FLAGS_DISPATCH_LEVEL != 0) };
                miniport.return_buffers(chain, irql);
            } else {
                drop(chain);
            }
            // SAFETY: the units of the NBLs that came back, which `indicate_receive` began, and the handler's own are ours;
            // nothing of the adapter is used after them.
            unsafe { Header::end_traffic(header, count + 1) };
        }

        /// MINIPORT_CANCEL_SEND.
        pub(crate) unsafe extern fn cancel_send(context: NDIS_HANDLE, cancel_id: PVOID) {
            // SAFETY: NDIS's guarantee.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) } {
                miniport.cancel_send(CancelId::from_raw(cancel_id));
            }
        }

        /// MINIPORT_CHECK_FOR_HANG.
        pub(crate) unsafe extern fn check_for_hang(context: NDIS_HANDLE) -> BOOLEAN {
            // SAFETY: NDIS's guarantee.
            let hung = unsafe { enter(self::context::<M>(context)) }
                .is_some_and(|(_entered, miniport)| miniport.check_for_hang());
            BOOLEAN::from(hung)
        }

        /// MINIPORT_RESET.
        pub(crate) unsafe extern fn reset(context: NDIS_HANDLE, addressing: *mut BOOLEAN) -> NDIS_STATUS {
            // SAFETY: NDIS's guarantee.
            let context = unsafe { self::context::<M>(context) };
            let header = Context::header(context);
            // SAFETY: the context is live during the call.
            let Some((_entered, miniport)) = (unsafe { enter(context) }) else { return Status::FAILURE.raw() };
            // SAFETY: NDIS has just asked for the reset of this adapter.
            let (status, resend) = miniport.reset(unsafe { Reset::new(header) }).into_status(header);
            if let Some(mut addressing) = NonNull::new(addressing) {
                // SAFETY: NDIS's out-parameter, valid during the call.
                unsafe { *addressing.as_mut() = BOOLEAN::from(resend) };
            }
            status
        }

        /// MINIPORT_DEVICE_PNP_EVENT_NOTIFY.
        pub(crate) unsafe extern fn pnp_event(context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
            // SAFETY: NDIS's guarantee, for the context and the event.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) }
                // SAFETY: as above.
                && let Some(event) = unsafe { PnpEvent::from_raw(event) }
            {
                miniport.pnp_event(event);
            }
        }

        /// MINIPORT_SHUTDOWN.
        pub(crate) unsafe extern fn shutdown(context: NDIS_HANDLE, action: NDIS_SHUTDOWN_ACTION) {
            // SAFETY: NDIS's guarantee. Entering the gate is an atomic addition, which HIGH_LEVEL allows.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) } {
                miniport.shutdown(ShutdownAction::from_raw(action));
            }
        }

        /// KDEFERRED_ROUTINE of the adapter's DPC.
        pub(crate) unsafe extern fn deferred(_dpc: *mut KDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
            // SAFETY: the DPC's context is the adapter context, which is not freed before DPCs in progress have ended.
            if let Some((_entered, miniport)) = unsafe { enter(self::context::<M>(context)) } {
                // SAFETY: a DPC runs at DISPATCH_LEVEL throughout.
                miniport.deferred(unsafe { Irql::new(true) });
            }
        }
    }

    /// # Safety
    ///
    /// `context` is live, and `request` is a request that NDIS hands to this adapter on path `K` in this call.
    unsafe fn request<K: Dispatch<M>>(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        // SAFETY: the caller's contract.
        let context = unsafe { self::context::<M>(context) };
        let Some(request) = NonNull::new(request) else { return Status::INVALID_PARAMETER.raw() };
        // SAFETY: as above.
        let Some((_entered, miniport)) = (unsafe { enter(context) }) else {
            return Status::ADAPTER_NOT_READY.raw();
        };
        // SAFETY: the request is this call's, and NDIS does not halt the adapter while it is not completed.
        let request = unsafe { OidRequest::from_raw(request, Context::header(context)) };
        // The brand on the completion proves that it is this request's.
        K::dispatch(miniport, request)
    }
}

/// Which method of the miniport takes requests of a path.
trait Dispatch<M: Miniport>: OidPath {
    fn dispatch(miniport: &M, request: OidRequest<'_, Self>) -> NDIS_STATUS;
}

impl<M: Miniport> Dispatch<M> for Regular {
    fn dispatch(miniport: &M, request: OidRequest<'_, Self>) -> NDIS_STATUS {
        miniport.oid_request(request).into_status()
    }
}

impl<M: Miniport> Dispatch<M> for Direct {
    fn dispatch(miniport: &M, request: OidRequest<'_, Self>) -> NDIS_STATUS {
        miniport.direct_oid_request(request).into_status()
    }
}

ndis_fn! {
    /// MINIPORT_UNLOAD.
    pub(crate) unsafe extern fn unload<D: Driver>(_driver_object: *mut DRIVER_OBJECT) {
        // SAFETY: NDIS unloads what `DriverCell::load` registered from the same cell, once, after all adapters were halted.
        unsafe { D::cell().unload() };
    }
}
