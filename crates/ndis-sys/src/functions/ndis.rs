//! Functions of ndis.sys.

use crate::{
    BOOLEAN, CCHAR, CM_RESOURCE_LIST, DEVICE_OBJECT, DRIVER_OBJECT, EX_POOL_PRIORITY, LARGE_INTEGER,
    LOCK_STATE_EX, LONG, MDL, NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_PARAMETER,
    NDIS_DEVICE_OBJECT_ATTRIBUTES, NDIS_EVENT, NDIS_HANDLE, NDIS_IO_WORKITEM_ROUTINE,
    NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_MINIPORT_DRIVER_CHARACTERISTICS, NDIS_OID_REQUEST,
    NDIS_PARAMETER_TYPE, NDIS_PORT_NUMBER, NDIS_RW_LOCK_EX, NDIS_SPIN_LOCK, NDIS_STATUS,
    NDIS_STATUS_INDICATION, NDIS_STRING, NDIS_TIMER_CHARACTERISTICS, NET_BUFFER, NET_BUFFER_LIST,
    NET_BUFFER_LIST_POOL_PARAMETERS, NET_BUFFER_POOL_PARAMETERS, PVOID, SIZE_T, UCHAR, UINT, ULONG,
    UNICODE_STRING, USHORT,
};

#[cfg(doc)] // for links
use crate::*;

imports! { "ndis.sys" =>
    /// Registers a miniport driver; from DriverEntry, which returns its status. The characteristics are
    /// copied. PASSIVE_LEVEL. `[nf-ndis-ndismregisterminiportdriver]`
    pub fn NdisMRegisterMiniportDriver(
        DriverObject: *mut DRIVER_OBJECT,
        RegistryPath: *mut UNICODE_STRING,
        MiniportDriverContext: NDIS_HANDLE,
        MiniportDriverCharacteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
        NdisMiniportDriverHandle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Undoes [`NdisMRegisterMiniportDriver`]. PASSIVE_LEVEL. `[nf-ndis-ndismderegisterminiportdriver]`
    pub fn NdisMDeregisterMiniportDriver(NdisMiniportDriverHandle: NDIS_HANDLE);
    /// Sets attributes of an adapter, from [`MINIPORT_INITIALIZE`]: registration first, then general, then
    /// others. PASSIVE_LEVEL. `[nf-ndis-ndismsetminiportattributes]`
    pub fn NdisMSetMiniportAttributes(
        NdisMiniportHandle: NDIS_HANDLE,
        MiniportAttributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
    ) -> NDIS_STATUS;
    /// Opens an adapter's registry parameters. PASSIVE_LEVEL. `[nf-ndis-ndisopenconfigurationex]`
    pub fn NdisOpenConfigurationEx(
        ConfigObject: *mut NDIS_CONFIGURATION_OBJECT,
        ConfigurationHandle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Reads a parameter; what it returns lives until the configuration is closed. PASSIVE_LEVEL.
    /// `[nf-ndis-ndisreadconfiguration]`
    pub fn NdisReadConfiguration(
        Status: *mut NDIS_STATUS,
        ParameterValue: *mut *mut NDIS_CONFIGURATION_PARAMETER,
        ConfigurationHandle: NDIS_HANDLE,
        Keyword: *mut NDIS_STRING,
        ParameterType: NDIS_PARAMETER_TYPE,
    );
    /// Reads the `NetworkAddress` keyword as bytes, which live until the configuration is closed.
    /// PASSIVE_LEVEL. `[nf-ndis-ndisreadnetworkaddress]`
    pub fn NdisReadNetworkAddress(
        Status: *mut NDIS_STATUS,
        NetworkAddress: *mut PVOID,
        NetworkAddressLength: *mut UINT,
        ConfigurationHandle: NDIS_HANDLE,
    );
    /// Closes the configuration and frees what was read. PASSIVE_LEVEL. `[nf-ndis-ndiscloseconfiguration]`
    pub fn NdisCloseConfiguration(ConfigurationHandle: NDIS_HANDLE);
    /// Makes a pool of lists; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisallocatenetbufferlistpool]`
    pub fn NdisAllocateNetBufferListPool(
        NdisHandle: NDIS_HANDLE,
        Parameters: *mut NET_BUFFER_LIST_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    /// Frees a pool, all of whose lists were freed. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisfreenetbufferlistpool]`
    pub fn NdisFreeNetBufferListPool(PoolHandle: NDIS_HANDLE);
    /// Makes a pool of NET_BUFFERs; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisallocatenetbufferpool]`
    pub fn NdisAllocateNetBufferPool(
        NdisHandle: NDIS_HANDLE,
        Parameters: *mut NET_BUFFER_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    /// Frees a pool, all of whose NET_BUFFERs were freed. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisfreenetbufferpool]`
    pub fn NdisFreeNetBufferPool(PoolHandle: NDIS_HANDLE);
    /// Allocates a list with one NET_BUFFER over an MDL chain; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisallocatenetbufferandnetbufferlist]`
    pub fn NdisAllocateNetBufferAndNetBufferList(
        PoolHandle: NDIS_HANDLE,
        ContextSize: USHORT,
        ContextBackFill: USHORT,
        MdlChain: *mut MDL,
        DataOffset: ULONG,
        DataLength: SIZE_T,
    ) -> *mut NET_BUFFER_LIST;
    /// Allocates a list; null on failure. At most DISPATCH_LEVEL. `[nf-nblapi-ndisallocatenetbufferlist]`
    pub fn NdisAllocateNetBufferList(
        PoolHandle: NDIS_HANDLE,
        ContextSize: USHORT,
        ContextBackFill: USHORT,
    ) -> *mut NET_BUFFER_LIST;
    /// Frees a list, with the NET_BUFFER that was allocated with it; not its MDLs. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisfreenetbufferlist]`
    pub fn NdisFreeNetBufferList(NetBufferList: *mut NET_BUFFER_LIST);
    /// Allocates a NET_BUFFER over an MDL chain; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisallocatenetbuffer]`
    pub fn NdisAllocateNetBuffer(
        PoolHandle: NDIS_HANDLE,
        MdlChain: *mut MDL,
        DataOffset: ULONG,
        DataLength: SIZE_T,
    ) -> *mut NET_BUFFER;
    /// Frees a NET_BUFFER; not its MDLs. At most DISPATCH_LEVEL. `[nf-nblapi-ndisfreenetbuffer]`
    pub fn NdisFreeNetBuffer(NetBuffer: *mut NET_BUFFER);
    /// Allocates an MDL over non-paged memory; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-mdlapi-ndisallocatemdl]`
    pub fn NdisAllocateMdl(NdisHandle: NDIS_HANDLE, VirtualAddress: PVOID, Length: UINT) -> *mut MDL;
    /// Frees an MDL of [`NdisAllocateMdl`]; not its memory. At most DISPATCH_LEVEL. `[nf-mdlapi-ndisfreemdl]`
    pub fn NdisFreeMdl(Mdl: *mut MDL);
    /// A pointer to the first bytes of a NET_BUFFER, in place if they are contiguous and aligned, else
    /// copied to `Storage`; null if neither works or the data is shorter. At most DISPATCH_LEVEL.
    /// `[nf-nblapi-ndisgetdatabuffer]`
    pub fn NdisGetDataBuffer(
        NetBuffer: *mut NET_BUFFER,
        BytesNeeded: ULONG,
        Storage: PVOID,
        AlignMultiple: UINT,
        AlignOffset: UINT,
    ) -> PVOID;
    /// Completes sends; the lists are no longer the miniport's. Hold no lock. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndismsendnetbufferlistscomplete]`
    pub fn NdisMSendNetBufferListsComplete(
        MiniportAdapterHandle: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        SendCompleteFlags: ULONG,
    );
    /// Indicates received frames, until returned or, with [`NDIS_RECEIVE_FLAGS_RESOURCES`], during the call.
    /// Hold no lock. At most DISPATCH_LEVEL. `[nf-ndis-ndismindicatereceivenetbufferlists]`
    pub fn NdisMIndicateReceiveNetBufferLists(
        MiniportAdapterHandle: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        PortNumber: NDIS_PORT_NUMBER,
        NumberOfNetBufferLists: ULONG,
        ReceiveFlags: ULONG,
    );
    /// Indicates a change of state. At most DISPATCH_LEVEL. `[nf-ndis-ndismindicatestatusex]`
    pub fn NdisMIndicateStatusEx(
        MiniportAdapterHandle: NDIS_HANDLE,
        StatusIndication: *mut NDIS_STATUS_INDICATION,
    );
    /// Completes a pending OID request. At most DISPATCH_LEVEL. `[nf-ndis-ndismoidrequestcomplete]`
    pub fn NdisMOidRequestComplete(
        MiniportAdapterHandle: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
        Status: NDIS_STATUS,
    );
    /// Completes a pending direct OID request. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndismdirectoidrequestcomplete]`
    pub fn NdisMDirectOidRequestComplete(
        MiniportAdapterHandle: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
        Status: NDIS_STATUS,
    );
    /// Completes a pending pause. At most DISPATCH_LEVEL. `[nf-ndis-ndismpausecomplete]`
    pub fn NdisMPauseComplete(MiniportAdapterHandle: NDIS_HANDLE);
    /// Completes a pending restart. At most DISPATCH_LEVEL. `[nf-ndis-ndismrestartcomplete]`
    pub fn NdisMRestartComplete(MiniportAdapterHandle: NDIS_HANDLE, Status: NDIS_STATUS);
    /// Completes a pending reset. At most DISPATCH_LEVEL. `[nf-ndis-ndismresetcomplete]`
    pub fn NdisMResetComplete(
        MiniportAdapterHandle: NDIS_HANDLE,
        Status: NDIS_STATUS,
        AddressingReset: BOOLEAN,
    );
    /// Allocates non-paged memory, not zeroed; null on failure. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndisallocatememorywithtagpriority]`
    pub fn NdisAllocateMemoryWithTagPriority(
        NdisHandle: NDIS_HANDLE,
        Length: UINT,
        Tag: ULONG,
        Priority: EX_POOL_PRIORITY,
    ) -> PVOID;
    /// Frees memory; `Length` and `MemoryFlags` are 0 for [`NdisAllocateMemoryWithTagPriority`]. At most
    /// DISPATCH_LEVEL. `[nf-ndis-ndisfreememory]`
    pub fn NdisFreeMemory(VirtualAddress: PVOID, Length: UINT, MemoryFlags: UINT);
    /// Frees memory of [`NdisAllocateMemoryWithTagPriority`]. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndisfreememorywithtagpriority]`
    pub fn NdisFreeMemoryWithTagPriority(NdisHandle: NDIS_HANDLE, VirtualAddress: PVOID, Tag: ULONG);
    /// Initialises a spin lock. Any IRQL. `[nf-ndis-ndisallocatespinlock]`
    pub fn NdisAllocateSpinLock(SpinLock: *mut NDIS_SPIN_LOCK);
    /// Raises to DISPATCH_LEVEL and acquires the lock. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndisacquirespinlock]`
    pub fn NdisAcquireSpinLock(SpinLock: *mut NDIS_SPIN_LOCK);
    /// Releases the lock and lowers to the IRQL before. DISPATCH_LEVEL. `[nf-ndis-ndisreleasespinlock]`
    pub fn NdisReleaseSpinLock(SpinLock: *mut NDIS_SPIN_LOCK);
    /// Ends the use of a spin lock. Any IRQL. `[nf-ndis-ndisfreespinlock]`
    pub fn NdisFreeSpinLock(SpinLock: *mut NDIS_SPIN_LOCK);
    /// Allocates a read/write lock; null on failure. At most DISPATCH_LEVEL. `[nf-ndis-ndisallocaterwlock]`
    pub fn NdisAllocateRWLock(NdisHandle: NDIS_HANDLE) -> *mut NDIS_RW_LOCK_EX;
    /// Acquires the lock for reading; not recursively. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndisacquirerwlockread]`
    pub fn NdisAcquireRWLockRead(Lock: *mut NDIS_RW_LOCK_EX, LockState: *mut LOCK_STATE_EX, Flags: UCHAR);
    /// Acquires the lock for writing. At most DISPATCH_LEVEL. `[nf-ndis-ndisacquirerwlockwrite]`
    pub fn NdisAcquireRWLockWrite(Lock: *mut NDIS_RW_LOCK_EX, LockState: *mut LOCK_STATE_EX, Flags: UCHAR);
    /// Releases the lock, with the state of its acquisition. DISPATCH_LEVEL. `[nf-ndis-ndisreleaserwlock]`
    pub fn NdisReleaseRWLock(Lock: *mut NDIS_RW_LOCK_EX, LockState: *mut LOCK_STATE_EX);
    /// Frees a read/write lock. At most DISPATCH_LEVEL. `[nf-ndis-ndisfreerwlock]`
    pub fn NdisFreeRWLock(Lock: *mut NDIS_RW_LOCK_EX);
    /// Allocates a timer. At most DISPATCH_LEVEL. `[nf-ndis-ndisallocatetimerobject]`
    pub fn NdisAllocateTimerObject(
        NdisHandle: NDIS_HANDLE,
        TimerCharacteristics: *mut NDIS_TIMER_CHARACTERISTICS,
        pTimerObject: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Sets a timer: `DueTime` in units of 100 ns, negative is relative; a period in ms, or 0. [`TRUE`] if
    /// it was set already. At most DISPATCH_LEVEL. `[nf-ndis-ndissettimerobject]`
    pub fn NdisSetTimerObject(
        TimerObject: NDIS_HANDLE,
        DueTime: LARGE_INTEGER,
        MillisecondsPeriod: LONG,
        FunctionContext: PVOID,
    ) -> BOOLEAN;
    /// Cancels a timer; [`TRUE`] if it was set. The function may still be running. At most DISPATCH_LEVEL;
    /// PASSIVE_LEVEL for a periodic timer. `[nf-ndis-ndiscanceltimerobject]`
    pub fn NdisCancelTimerObject(TimerObject: NDIS_HANDLE) -> BOOLEAN;
    /// Frees a timer that is neither set nor running. At most DISPATCH_LEVEL.
    /// `[nf-ndis-ndisfreetimerobject]`
    pub fn NdisFreeTimerObject(TimerObject: NDIS_HANDLE);
    /// Allocates a work item; null on failure. At most DISPATCH_LEVEL. `[nf-ndis-ndisallocateioworkitem]`
    pub fn NdisAllocateIoWorkItem(NdisObjectHandle: NDIS_HANDLE) -> NDIS_HANDLE;
    /// Queues a work item. At most DISPATCH_LEVEL. `[nf-ndis-ndisqueueioworkitem]`
    pub fn NdisQueueIoWorkItem(
        NdisIoWorkItemHandle: NDIS_HANDLE,
        Routine: NDIS_IO_WORKITEM_ROUTINE,
        WorkItemContext: PVOID,
    );
    /// Frees a work item that is not queued. At most DISPATCH_LEVEL. `[nf-ndis-ndisfreeioworkitem]`
    pub fn NdisFreeIoWorkItem(NdisIoWorkItemHandle: NDIS_HANDLE);
    /// Initialises an event, not signalled. Any IRQL. `[nf-ndis-ndisinitializeevent]`
    pub fn NdisInitializeEvent(Event: *mut NDIS_EVENT);
    /// Signals an event. At most DISPATCH_LEVEL. `[nf-ndis-ndissetevent]`
    pub fn NdisSetEvent(Event: *mut NDIS_EVENT);
    /// Resets an event. At most DISPATCH_LEVEL. `[nf-ndis-ndisresetevent]`
    pub fn NdisResetEvent(Event: *mut NDIS_EVENT);
    /// Waits until the event is signalled; [`FALSE`] if `MsToWait` milliseconds passed first; 0 is for ever.
    /// PASSIVE_LEVEL. `[nf-ndis-ndiswaitevent]`
    pub fn NdisWaitEvent(Event: *mut NDIS_EVENT, MsToWait: UINT) -> BOOLEAN;
    /// Waits for some microseconds at least. At most APC_LEVEL. `[nf-ndis-ndismsleep]`
    pub fn NdisMSleep(MicrosecondsToSleep: ULONG);
    /// Milliseconds since the system started. Any IRQL. `[nf-ndis-ndisgetsystemuptimeex]`
    pub fn NdisGetSystemUpTimeEx(pSystemUpTime: *mut LARGE_INTEGER);
    /// The processor this runs on, counted over all groups. DISPATCH_LEVEL.
    /// `[nf-ndis-ndiscurrentprocessorindex]`
    pub fn NdisCurrentProcessorIndex() -> ULONG;
    /// Processors of the system. PASSIVE_LEVEL. `[nf-ndis-ndissystemprocessorcount]`
    pub fn NdisSystemProcessorCount() -> CCHAR;
    /// Processors of a group, or of [`ALL_PROCESSOR_GROUPS`]. Any IRQL.
    /// `[nf-ndis-ndisgroupactiveprocessorcount]`
    pub fn NdisGroupActiveProcessorCount(Group: USHORT) -> ULONG;
    /// The version of NDIS, `NDIS_RUNTIME_VERSION_…`. At most DISPATCH_LEVEL. `[nf-ndis-ndisgetversion]`
    pub fn NdisGetVersion() -> UINT;
    /// Device objects and resources of an adapter; each pointer may be null. PASSIVE_LEVEL.
    /// `[nf-ndis-ndismgetdeviceproperty]`
    pub fn NdisMGetDeviceProperty(
        MiniportAdapterHandle: NDIS_HANDLE,
        PhysicalDeviceObject: *mut *mut DEVICE_OBJECT,
        FunctionalDeviceObject: *mut *mut DEVICE_OBJECT,
        NextDeviceObject: *mut *mut DEVICE_OBJECT,
        AllocatedResources: *mut *mut CM_RESOURCE_LIST,
        AllocatedResourcesTranslated: *mut *mut CM_RESOURCE_LIST,
    );
    /// Writes to the system's event log, with `NumberOfErrorValues` more arguments of type ULONG. At most
    /// DISPATCH_LEVEL. `[nf-ndis-ndiswriteerrorlogentry]`
    pub fn NdisWriteErrorLogEntry(
        NdisAdapterHandle: NDIS_HANDLE,
        ErrorCode: ULONG,
        NumberOfErrorValues: ULONG,
        ...
    );
    /// Makes a control device. PASSIVE_LEVEL. `[nf-ndis-ndisregisterdeviceex]`
    pub fn NdisRegisterDeviceEx(
        NdisHandle: NDIS_HANDLE,
        DeviceObjectAttributes: *mut NDIS_DEVICE_OBJECT_ATTRIBUTES,
        pDeviceObject: *mut *mut DEVICE_OBJECT,
        NdisDeviceHandle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Removes a control device. PASSIVE_LEVEL. `[nf-ndis-ndisderegisterdeviceex]`
    pub fn NdisDeregisterDeviceEx(NdisDeviceHandle: NDIS_HANDLE);
}
