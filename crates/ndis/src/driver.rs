//! The driver image: [`Driver`], its one static cell, DriverEntry and unload.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use ndis_sys::{
    DRIVER_OBJECT, NDIS_HANDLE, NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2, NDIS_OBJECT_HEADER,
    NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS, NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
    NTSTATUS, NdisMDeregisterMiniportDriver, NdisMRegisterMiniportDriver, UNICODE_STRING,
};

use crate::Miniport;
use crate::callbacks::{self, Callbacks};
use crate::status::{Result, Status};

/// A miniport driver image: what exists once from DriverEntry to MiniportDriverUnload.
///
/// Implement it together with [`Miniport`], give [`cell`](Self::cell) a `static` made by [`DriverCell::new`], and call
/// [`driver_entry`] from DriverEntry.
pub trait Driver: Sized + Send + Sync + 'static {
    /// The driver's adapters.
    type Adapter: Miniport<Driver = Self>;

    /// The driver's own version.
    const VERSION: DriverVersion;

    /// The one static that holds the driver while it is loaded. Always the same one.
    fn cell() -> &'static DriverCell<Self>;

    /// Makes the driver-wide state. Called in DriverEntry, before NDIS knows the driver. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// Any error becomes the result of DriverEntry, and the driver is not loaded.
    fn load() -> Result<Self>;
}

/// A driver's version, for NDIS_MINIPORT_DRIVER_CHARACTERISTICS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion {
    /// MajorDriverVersion.
    pub major: u8,
    /// MinorDriverVersion.
    pub minor: u8,
}

/// The NDIS version the layer registers: 6.30, Windows 8 and later.
pub const NDIS_VERSION: (u8, u8) = (6, 30);

/// The static home of a [`Driver`].
///
/// # Invariants
///
/// `state` is 0 (empty), `BUSY` (owned by the thread that loads or unloads), or the number of [`DriverRef`]s plus
/// one (loaded: `driver` is initialised and is not moved or dropped). `handle` is written by the owner only.
pub struct DriverCell<D> {
    state: AtomicUsize,
    driver: UnsafeCell<MaybeUninit<D>>,
    handle: UnsafeCell<NDIS_HANDLE>,
}

// SAFETY: `driver` is reached from several threads as `&D` only, which `D: Sync` allows, and made and dropped by whatever
// thread loads and unloads, which `D: Send` allows; `handle` belongs to the loading or unloading thread.
unsafe impl<D: Send + Sync> Sync for DriverCell<D> {}

impl<D> DriverCell<D> {
    const BUSY: usize = usize::MAX;

    /// An empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            driver: UnsafeCell::new(MaybeUninit::uninit()),
            handle: UnsafeCell::new(ptr::null_mut()),
        }
    }
}

impl<D> Default for DriverCell<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> fmt::Debug for DriverCell<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverCell").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<D: Driver> DriverCell<D> {
    /// # Safety
    ///
    /// The arguments are those of DriverEntry, at PASSIVE_LEVEL.
    unsafe fn load(
        &'static self,
        driver_object: *mut DRIVER_OBJECT,
        registry_path: *mut UNICODE_STRING,
    ) -> Result<()> {
        // Acquire: sees the end of an earlier unload. One image loads once; a second load of the same static is refused.
        if self.state.compare_exchange(0, Self::BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(Status::FAILURE);
        }
        let driver = match D::load() {
            Ok(driver) => driver,
            Err(status) => {
                self.state.store(0, Ordering::Release); // pairs with the Acquire above
                return Err(status);
            }
        };
        // SAFETY: BUSY makes the cell ours.
        unsafe { (*self.driver.get()).write(driver) };
        // Release: pairs with the Acquire in `get`. NDIS may initialise adapters as soon as it is told about the driver.
        self.state.store(1, Ordering::Release);
        let mut characteristics = characteristics::<D>();
        let context = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the first two arguments are DriverEntry's, as the caller promises; the callbacks fit their types and expect
        // this context; the characteristics are complete, and NDIS copies them. `handle` is written by nobody else: unload
        // cannot come before DriverEntry has returned.
        let status = unsafe {
            NdisMRegisterMiniportDriver(
                driver_object,
                registry_path,
                context,
                &raw mut characteristics,
                self.handle.get(),
            )
        };
        let result = Status::from_raw(status).ok();
        if result.is_err() {
            self.clear();
        }
        result
    }

    /// MiniportDriverUnload. PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// Called by NDIS, once, for a driver that `load` registered, after all its adapters were halted.
    pub(crate) unsafe fn unload(&self) {
        // SAFETY: `load` succeeded, so the handle is the one NDIS gave, and nobody writes it any more.
        unsafe { NdisMDeregisterMiniportDriver(*self.handle.get()) };
        self.clear();
    }

    /// Drops the driver, unless something still refers to it: then it stays for good, and so does the cell.
    fn clear(&self) {
        // Acquire: pairs with the Release of every dropped `DriverRef`.
        if self.state.compare_exchange(1, Self::BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            // SAFETY: BUSY makes the cell ours and the driver is initialised; no reference to it is left: callbacks are over
            // and no `DriverRef` exists.
            unsafe { (*self.driver.get()).assume_init_drop() };
            self.state.store(0, Ordering::Release); // pairs with the Acquire in `load`
        }
    }

    /// The loaded driver, or `None`.
    pub(crate) fn get(&'static self) -> Option<DriverRef<D>> {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state == 0 || state >= Self::BUSY - 1 {
                return None;
            }
            // Acquire: pairs with the Release in `load`.
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(DriverRef { cell: self }),
                Err(seen) => state = seen,
            }
        }
    }
}

fn characteristics<D: Driver>() -> NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
    type C<D> = Callbacks<<D as Driver>::Adapter>;
    let resettable = <D::Adapter as Miniport>::RESETTABLE;
    NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
            Revision: NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
            Size: NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
        },
        MajorNdisVersion: NDIS_VERSION.0,
        MinorNdisVersion: NDIS_VERSION.1,
        MajorDriverVersion: D::VERSION.major,
        MinorDriverVersion: D::VERSION.minor,
        Flags: 0,
        SetOptionsHandler: None,
        InitializeHandlerEx: Some(C::<D>::initialize),
        HaltHandlerEx: Some(C::<D>::halt),
        UnloadHandler: Some(callbacks::unload::<D>),
        PauseHandler: Some(C::<D>::pause),
        RestartHandler: Some(C::<D>::restart),
        OidRequestHandler: Some(C::<D>::oid_request),
        SendNetBufferListsHandler: Some(C::<D>::send),
        ReturnNetBufferListsHandler: Some(C::<D>::return_buffers),
        CancelSendHandler: Some(C::<D>::cancel_send),
        CheckForHangHandlerEx: if resettable { Some(C::<D>::check_for_hang) } else { None },
        ResetHandlerEx: if resettable { Some(C::<D>::reset) } else { None },
        DevicePnPEventNotifyHandler: Some(C::<D>::pnp_event),
        ShutdownHandlerEx: Some(C::<D>::shutdown),
        CancelOidRequestHandler: Some(C::<D>::cancel_oid_request),
        DirectOidRequestHandler: Some(C::<D>::direct_oid_request),
        CancelDirectOidRequestHandler: Some(C::<D>::cancel_direct_oid_request),
    }
}

/// A counted reference to the loaded driver, for adapters to keep.
///
/// The driver's state is dropped at unload if no such reference is left, and kept for good otherwise.
pub struct DriverRef<D: Driver> {
    cell: &'static DriverCell<D>,
}

impl<D: Driver> Deref for DriverRef<D> {
    type Target = D;

    fn deref(&self) -> &D {
        // SAFETY: by the cell's invariant the driver is initialised, and stays so while the count includes this reference.
        unsafe { (*self.cell.driver.get()).assume_init_ref() }
    }
}

impl<D: Driver> Clone for DriverRef<D> {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing reference. The count cannot come near the top: each reference takes memory.
        self.cell.state.fetch_add(1, Ordering::Relaxed);
        Self { cell: self.cell }
    }
}

impl<D: Driver> Drop for DriverRef<D> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `clear`.
        self.cell.state.fetch_sub(1, Ordering::Release);
    }
}

impl<D: Driver> fmt::Debug for DriverRef<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverRef").finish_non_exhaustive()
    }
}

/// The body of DriverEntry: loads the driver and registers it with NDIS.
///
/// The result is to be returned from DriverEntry unchanged. If registration fails, everything is undone; NDIS then does not
/// call unload (`[nf-ndis-ndismregisterminiportdriver]`).
///
/// # Safety
///
/// The arguments are those the kernel passed to DriverEntry, and it is called there once, at PASSIVE_LEVEL. `D::cell()` always
/// gives the same `static`, of the image that `driver_object` stands for.
pub unsafe fn driver_entry<D: Driver>(
    driver_object: *mut c_void,
    registry_path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    match unsafe { D::cell().load(driver_object.cast(), registry_path) } {
        Ok(()) => Status::SUCCESS.raw(),
        Err(status) => status.as_failure().raw(),
    }
}
