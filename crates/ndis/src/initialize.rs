//! Initialising an adapter, in the order NDIS wants (`[initializing-a-miniport-adapter]`), as types:
//! [`Initializing`] -> general attributes -> [`Attributed`] -> [`Initialized`].

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

use ndis_sys::{
    NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
    NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1, NDIS_MINIPORT_INIT_PARAMETERS,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
    NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1, NdisMSetMiniportAttributes,
};

use crate::adapter::{Context, Handle};
use crate::attributes::{GeneralAttributes, OffloadAttributes};
use crate::config::Configuration;
use crate::driver::DriverRef;
use crate::miniport::Miniport;
use crate::status::{Result, Status};

/// Makes a lifetime unique to one call: it can be neither lengthened nor shortened, so a value of one call cannot be
/// returned from another.
pub(crate) type Brand<'i> = PhantomData<fn(&'i ()) -> &'i ()>;

/// An adapter that is being initialised and has its registration attributes set.
pub struct Initializing<'i, M: Miniport> {
    context: NonNull<Context<M>>,
    driver: &'i DriverRef<M::Driver>,
    if_index: u32,
    net_luid: u64,
    brand: Brand<'i>,
}

impl<'i, M: Miniport> Initializing<'i, M> {
    /// Sets the registration attributes.
    ///
    /// # Safety
    ///
    /// `context` is live for `'i`, its NDIS handle and `parameters` are those of the MiniportInitializeEx in progress.
    pub(crate) unsafe fn begin(
        context: NonNull<Context<M>>,
        driver: &'i DriverRef<M::Driver>,
        parameters: *const NDIS_MINIPORT_INIT_PARAMETERS,
    ) -> Result<Self> {
        let registration = M::REGISTRATION;
        let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
            RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
                Header: NDIS_OBJECT_HEADER {
                    Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
                    Revision: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
                    Size: NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
                },
                MiniportAdapterContext: context.as_ptr().cast(),
                AttributeFlags: registration.flags,
                CheckForHangTimeInSeconds: registration.check_for_hang_seconds,
                InterfaceType: registration.interface_type,
            },
        };
        // SAFETY: the handle is the one of the initialisation in progress, and the attributes are complete.
        let status = unsafe {
            NdisMSetMiniportAttributes(Context::header(context).as_ref().ndis(), &raw mut attributes)
        };
        Status::from_raw(status).ok()?;
        let (if_index, net_luid) = if parameters.is_null() {
            (0, 0)
        } else {
            // SAFETY: NDIS's structure, valid during MiniportInitializeEx; both fields are in revision 1.
            unsafe { ((*parameters).IfIndex, (*parameters).NetLuid.Value) }
        };
        Ok(Self { context, driver, if_index, net_luid, brand: PhantomData })
    }

    /// A handle for the adapter to keep.
    #[must_use]
    pub fn handle(&self) -> Handle {
        // SAFETY: the context is live during the initialisation.
        unsafe { Handle::new(Context::header(self.context)) }
    }

    /// The driver, for the adapter to keep.
    #[must_use]
    pub fn driver(&self) -> DriverRef<M::Driver> {
        self.driver.clone()
    }

    /// IfIndex: the interface index.
    #[must_use]
    pub fn if_index(&self) -> u32 {
        self.if_index
    }

    /// NetLuid: the locally unique identifier of the interface.
    #[must_use]
    pub fn net_luid(&self) -> u64 {
        self.net_luid
    }

    /// Opens the adapter's configuration. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What NdisOpenConfigurationEx returns: RESOURCES or FAILURE.
    pub fn configuration(&self) -> Result<Configuration<'_>> {
        // SAFETY: the handle is the one of the initialisation in progress, which outlives the borrow of `self`.
        unsafe { Configuration::open(Context::header(self.context).as_ref().ndis()) }
    }

    /// Sets the general attributes, which must come before all further ones. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What NdisMSetMiniportAttributes returns; the initialisation can only fail then.
    pub fn set_general(self, attributes: &GeneralAttributes) -> Result<Attributed<'i, M>> {
        // SAFETY: the handle is the one of the initialisation in progress.
        unsafe { attributes.set(Context::header(self.context).as_ref().ndis()) }?;
        Ok(Attributed { init: self })
    }
}

impl<M: Miniport> fmt::Debug for Initializing<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initializing").field("if_index", &self.if_index).finish_non_exhaustive()
    }
}

/// An adapter that is being initialised and has its general attributes set.
#[derive(Debug)]
pub struct Attributed<'i, M: Miniport> {
    init: Initializing<'i, M>,
}

impl<'i, M: Miniport> Attributed<'i, M> {
    /// A handle for the adapter to keep.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.init.handle()
    }

    /// The driver, for the adapter to keep.
    #[must_use]
    pub fn driver(&self) -> DriverRef<M::Driver> {
        self.init.driver()
    }

    /// Sets the task-offload attributes; leave it out if nothing is offloaded. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What NdisMSetMiniportAttributes returns.
    pub fn set_offload(&self, attributes: &OffloadAttributes) -> Result<()> {
        // SAFETY: the handle is the one of the initialisation in progress.
        unsafe { attributes.set(Context::header(self.init.context).as_ref().ndis()) }
    }

    /// Moves the adapter to its place in the context. NDIS will call it once MiniportInitializeEx has returned.
    pub fn finish(self, adapter: M) -> Initialized<'i, M> {
        let context = self.init.context;
        // SAFETY: the context is live and its miniport not initialised: there is one `Initializing` per context, and `self`,
        // made of it, is consumed.
        unsafe { Context::miniport(context).write(adapter) };
        Initialized { context, brand: PhantomData }
    }
}

/// The result of a successful initialisation.
///
/// # Invariants
///
/// The miniport of `context` is initialised and belongs to this value; handlers cannot reach it yet.
#[must_use = "return it from `initialize`"]
pub struct Initialized<'i, M: Miniport> {
    context: NonNull<Context<M>>,
    brand: Brand<'i>,
}

impl<M: Miniport> Initialized<'_, M> {
    /// Leaves the miniport in its place, for the context to own.
    pub(crate) fn settle(self) {
        mem::forget(self);
    }
}

impl<M: Miniport> Drop for Initialized<'_, M> {
    fn drop(&mut self) {
        // SAFETY: by the invariant the miniport is initialised, unused by anybody else and ours to drop.
        unsafe { Context::drop_miniport(self.context) };
    }
}

impl<M: Miniport> fmt::Debug for Initialized<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initialized").finish_non_exhaustive()
    }
}
