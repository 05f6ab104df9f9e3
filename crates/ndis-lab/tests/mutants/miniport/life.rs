//! Initialise, halt, restart, pause, reset, events.

use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::oids::{self, OIDS, offload};
use super::packets::make_buffers;
use super::{Adapter, Config, HALTED, HARDWARE, M, Rx, TAG, WIRE, allocate, check, free, header, is, lock};

/// Settings of an adapter.
struct Settings {
    mac: Option<[u8; 6]>,
    max_frame: usize,
    config: Config,
}

unsafe fn set_registration(handle: NDIS_HANDLE, context: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1;
    a.RegistrationAttributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, 1, size),
        MiniportAdapterContext: context.cast(),
        AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
            | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(handle, &mut a)
}

/// All of the general attributes' statistics.
const STATISTICS: u32 = 0x0879_ffff;

unsafe fn set_general(adapter: *mut Adapter) -> NDIS_STATUS {
    let mut power: NDIS_PM_CAPABILITIES = zeroed();
    power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2);
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2;
    let wrong = if is(M::GeneralSize) { 8 } else { 0 };
    let mtu = (*adapter).max_frame as u32 - 14;
    let mut twice = OIDS.to_vec();
    twice.push(OIDS[0]);
    let oids: &[u32] = if is(M::OidListedTwice) {
        &twice
    } else if is(M::OidNotListed) {
        &OIDS[1..]
    } else {
        &OIDS
    };
    let g = &mut a.GeneralAttributes;
    g.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, 2, size + wrong);
    g.MediaType = NdisMedium802_3;
    g.PhysicalMediumType = NdisPhysicalMedium802_3;
    g.MtuSize = mtu;
    g.MaxXmitLinkSpeed = 10_000_000_000;
    g.XmitLinkSpeed = 10_000_000_000;
    g.MaxRcvLinkSpeed = 10_000_000_000;
    g.RcvLinkSpeed = 10_000_000_000;
    g.MediaConnectState = MediaConnectStateConnected;
    g.MediaDuplexState = MediaDuplexStateFull;
    g.LookaheadSize = if is(M::LookaheadTooLarge) { mtu + 14 } else { mtu };
    g.MacOptions = NDIS_MAC_OPTION_8021P_PRIORITY | NDIS_MAC_OPTION_8021Q_VLAN | NDIS_MAC_OPTION_NO_LOOPBACK;
    g.SupportedPacketFilters = 0x2f;
    g.MaxMulticastListSize = 32;
    g.MacAddressLength = 6;
    let permanent = if is(M::PermanentFollows) { (*adapter).mac } else { (*adapter).permanent };
    g.PermanentMacAddress[..6].copy_from_slice(&permanent);
    g.CurrentMacAddress[..6].copy_from_slice(&(*adapter).mac);
    g.AccessType = if is(M::AccessTypeUnset) { 0 } else { NET_IF_ACCESS_BROADCAST };
    g.ConnectionType = NET_IF_CONNECTION_DEDICATED;
    g.IfType = IF_TYPE_ETHERNET_CSMACD;
    g.SupportedStatistics = if is(M::StatisticsFlagsMixed) { oids::STATISTICS_VALID } else { STATISTICS };
    g.SupportedOidList = oids.as_ptr().cast_mut();
    g.SupportedOidListLength = size_of_val(oids) as u32;
    g.PowerManagementCapabilitiesEx = &mut power;
    NdisMSetMiniportAttributes((*adapter).handle, &mut a)
}

unsafe fn set_offload(adapter: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let config = (*adapter).config;
    let mut hardware = offload(if is(M::HardwareFollowsKeyword) { config } else { HARDWARE });
    let mut default = offload(if is(M::OffloadKeywordIgnored) { HARDWARE } else { config });
    if is(M::OffloadHalfOff) {
        default.IPsecV2.Encapsulation = NDIS_ENCAPSULATION_IEEE_802_3;
    }
    let o = &mut a.OffloadAttributes;
    o.Header = header(
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
        1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
    );
    o.DefaultOffloadConfiguration = &mut default;
    o.HardwareOffloadCapabilities = &mut hardware;
    NdisMSetMiniportAttributes((*adapter).handle, &mut a)
}

unsafe fn open_configuration(handle: NDIS_HANDLE) -> Result<NDIS_HANDLE, NDIS_STATUS> {
    let size = NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1;
    let wrong = if is(M::ConfigurationSize) { 4 } else { 0 };
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, 1, size + wrong),
        NdisHandle: handle,
        Flags: if is(M::ConfigurationFlags) { 1 } else { 0 },
    };
    let mut configuration = null_mut();
    check(NdisOpenConfigurationEx(&mut object, &mut configuration))?;
    Ok(configuration)
}

/// A number, or `None` if there is none.
unsafe fn read_number(configuration: NDIS_HANDLE, keyword: &str) -> Option<u32> {
    let mut words: Vec<u16> = keyword.encode_utf16().collect();
    let length = (words.len() * 2) as u16;
    let mut name = NDIS_STRING { Length: length, MaximumLength: length, Buffer: words.as_mut_ptr() };
    let (mut status, mut value) = (0, null_mut());
    NdisReadConfiguration(&mut status, &mut value, configuration, &mut name, NdisParameterInteger);
    let found = status == NDIS_STATUS_SUCCESS && (*value).ParameterType == NdisParameterInteger;
    found.then(|| (*value).ParameterData.IntegerData)
}

unsafe fn read_settings(handle: NDIS_HANDLE) -> Result<Settings, NDIS_STATUS> {
    let configuration = open_configuration(handle)?;
    let (mut status, mut address, mut length) = (0, null_mut(), 0);
    NdisReadNetworkAddress(&mut status, &mut address, &mut length, configuration);
    let mut mac = None;
    if status == NDIS_STATUS_SUCCESS && length >= 6 && !is(M::AddressIgnored) {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(std::slice::from_raw_parts(address.cast::<u8>(), 6));
        let group = bytes[0] & 1 == 1 && !is(M::GroupAddressAccepted);
        let long = length != 6 && !is(M::LongAddressAccepted);
        if !group && bytes != [0; 6] && !long {
            mac = Some(bytes);
        }
    }
    let jumbo = read_number(configuration, "*JumboPacket");
    let mut trusted = false;
    let max_frame = match jumbo {
        Some(value @ 1514..=9014) => value as usize,
        Some(value) if is(M::KeywordClamped) => value.clamp(1514, 9014) as usize,
        Some(_) => {
            trusted = is(M::KeywordTrusted);
            1514
        }
        None => 1514,
    };
    let four = |keyword: &str| match read_number(configuration, keyword) {
        Some(value @ 0..=3) => value as u8,
        _ => 3,
    };
    let config = Config {
        ip: four("*IPChecksumOffloadIPv4"),
        tcp: four("*TCPChecksumOffloadIPv4"),
        udp: four("*UDPChecksumOffloadIPv4"),
        large: read_number(configuration, "*LsoV2IPv4") != Some(0),
        esp: four("*IPsecOffloadV2IPv4") & 2 != 0,
    };
    if is(M::ConfigurationClosedTwice) {
        NdisCloseConfiguration(configuration);
    }
    if !is(M::ConfigurationLeft) {
        NdisCloseConfiguration(configuration);
    }
    if trusted {
        return Err(NDIS_STATUS_FAILURE);
    }
    Ok(Settings { mac, max_frame, config })
}

ndis_fn! {
    pub(super) unsafe extern fn initialize(handle: NDIS_HANDLE, _driver: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS {
        spoil_pool(handle);
        let adapter = allocate(size_of::<Adapter>()).cast::<Adapter>();
        if adapter.is_null() {
            return NDIS_STATUS_RESOURCES;
        }
        (*adapter).handle = handle;
        let index = if is(M::SharedAddress) { 7 } else { (*parameters).IfIndex as u8 };
        (*adapter).permanent = [2, 0x77, 0, 0, 0, index];
        match build(adapter) {
            Ok(()) => NDIS_STATUS_SUCCESS,
            Err(status) => {
                if !is(M::InitializeLeaksAll) {
                    tear_down(adapter, is(M::InitializeLeaksPool));
                }
                if is(M::InitializeOddStatus) { 0x4000_0123 } else { status }
            }
        }
    }

    pub(super) unsafe extern fn halt(context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {
        let adapter = context.cast::<Adapter>();
        HALTED.store((*adapter).handle, Ordering::Relaxed);
        if is(M::HaltLeavesNeverRun) && !(*adapter).ever_ran {
            return;
        }
        tear_down(adapter, false);
    }
}

ndis_fn! {
    unsafe extern fn work(_context: PVOID, _item: NDIS_HANDLE) {
        NdisMSleep(20_000);
    }
}

/// What mutants do to pool memory and work items.
unsafe fn spoil_pool(handle: NDIS_HANDLE) {
    if is(M::PoolOverrun) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            block.add(40).write(1);
            free(block.cast());
        }
    }
    if is(M::PoolWrongTag) {
        let block = allocate(40);
        if !block.is_null() {
            ExFreePoolWithTag(block, TAG + 1);
        }
    }
    if is(M::PoolZeroSize) {
        let block = allocate(0);
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::PoolZeroTag) {
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 40, 0);
        if !block.is_null() {
            ExFreePool(block);
        }
    }
    if is(M::PoolNoPool) {
        let block = ExAllocatePool2(0, 40, TAG);
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::PoolInnerFree) {
        let block = allocate(64).cast::<u8>();
        if !block.is_null() {
            free(block.add(16).cast());
        }
    }
    if is(M::WorkItemFreedQueued) {
        let item = NdisAllocateIoWorkItem(handle);
        if !item.is_null() {
            NdisQueueIoWorkItem(item, Some(work), null_mut());
            NdisFreeIoWorkItem(item);
        }
    }
    if is(M::PoolWrongLength) {
        let block = NdisAllocateMemoryWithTagPriority(handle, 40, TAG, NormalPoolPriority);
        if !block.is_null() {
            NdisFreeMemory(block, 41, 0);
        }
    }
}

unsafe fn build(adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    let handle = (*adapter).handle;
    if is(M::GeneralFirst) {
        (*adapter).max_frame = 1514;
        (*adapter).mac = (*adapter).permanent;
        check(set_general(adapter))?;
    }
    if is(M::StatusTooEarly) {
        indicate_link(adapter, MediaConnectStateConnected);
    }
    check(set_registration(handle, adapter))?;
    let settings = read_settings(handle)?;
    (*adapter).mac = settings.mac.unwrap_or((*adapter).permanent);
    (*adapter).max_frame = settings.max_frame;
    (*adapter).config = settings.config;
    NdisAllocateSpinLock((*adapter).lock.get());
    (*adapter).name = allocate(64).cast();
    if is(M::PagedTouchedAtDispatch) {
        (*adapter).paged = ExAllocatePool2(POOL_FLAG_PAGED, 64, TAG).cast();
    }
    if (*adapter).name.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1),
        ProtocolId: 0,
        fAllocateNetBuffer: 1,
        ContextSize: 0,
        PoolTag: if is(M::ListPoolWithoutTag) { 0 } else { TAG },
        DataSize: 0,
    };
    (*adapter).pool = NdisAllocateNetBufferListPool(handle, &mut parameters);
    if (*adapter).pool.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    make_buffers(adapter)?;
    let mut timer = NDIS_TIMER_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
            1,
            NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        ),
        AllocationTag: TAG,
        TimerFunction: Some(oids::tick),
        FunctionContext: adapter.cast(),
    };
    check(NdisAllocateTimerObject(handle, &mut timer, &mut (*adapter).timer))?;
    if !is(M::DpcNotInitialised) {
        KeInitializeDpc((*adapter).dpc.get(), Some(oids::complete_pended), adapter.cast());
    }
    if is(M::GeneralMissing) {
        return plug_in(adapter);
    }
    check(set_general(adapter))?;
    check(set_offload(adapter))?;
    plug_in(adapter)
}

unsafe fn plug_in(adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    let _guard = lock();
    let place = (*WIRE.adapters.get()).iter_mut().find(|place| place.is_null());
    match place {
        Some(place) => {
            *place = adapter;
            Ok(())
        }
        None => Err(NDIS_STATUS_RESOURCES),
    }
}

unsafe fn free_buffer(rx: *mut Rx) {
    if !(*rx).list.is_null() && !is(M::HaltLeaksList) {
        NdisFreeNetBufferList((*rx).list);
        if is(M::ListTouchedFreed) {
            (*(*rx).list).Status = 1;
        }
        if is(M::ListFreedTwice) {
            NdisFreeNetBufferList((*rx).list);
        }
    }
    if !(*rx).mdl.is_null() {
        NdisFreeMdl((*rx).mdl);
    }
    if !(*rx).data.is_null() {
        free((*rx).data.cast());
    }
    free(rx.cast());
}

unsafe fn tear_down(adapter: *mut Adapter, leak: bool) {
    {
        let _guard = lock();
        for place in &mut *WIRE.adapters.get() {
            if *place == adapter {
                *place = null_mut();
            }
        }
    }
    if is(M::TimerSetAtHalt) && !(*adapter).timer.is_null() {
        NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
    } else if !(*adapter).timer.is_null() && !is(M::TimerLeft) {
        if is(M::TimerFreedSet) {
            NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
        } else if NdisCancelTimerObject((*adapter).timer) == FALSE {
            KeFlushQueuedDpcs();
        }
        NdisFreeTimerObject((*adapter).timer);
    }
    if is(M::ListPoolFreedFirst) && !(*adapter).pool.is_null() {
        NdisFreeNetBufferListPool((*adapter).pool);
        (*adapter).pool = null_mut();
    }
    let mut rx = (*adapter).free;
    while !rx.is_null() {
        let next = (*rx).next;
        free_buffer(rx);
        rx = next;
    }
    if !(*adapter).pool.is_null() && !is(M::ListPoolLeft) && !leak {
        NdisFreeNetBufferListPool((*adapter).pool);
    }
    if !(*adapter).paged.is_null() {
        free((*adapter).paged.cast());
    }
    if !(*adapter).name.is_null() && !is(M::HaltLeaksBlock) {
        free((*adapter).name.cast());
    }
    if !is(M::KeysNotWiped) {
        for slot in &mut (*adapter).sas {
            slot.key = [0; 36];
        }
    }
    if is(M::DpcQueuedAtHalt) {
        // It cannot run before the IRQL is lowered.
        let old = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc((*adapter).dpc.get(), null_mut(), null_mut());
        free(adapter.cast());
        KeLowerIrql(old);
        return;
    }
    free(adapter.cast());
    if is(M::ContextFreedTwice) {
        free(adapter.cast());
    }
    if is(M::UseAfterFree) {
        adapter.cast::<u8>().add(8).write(7);
    }
}

ndis_fn! {
    pub(super) unsafe extern fn restart(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        if is(M::RestartLeavesRunning) {
            (*adapter).running = true;
        }
        // Something to do that may fail.
        let block = allocate(24);
        if block.is_null() {
            return if is(M::RestartOddStatus) { 0x4000_0042 } else { NDIS_STATUS_RESOURCES };
        }
        free(block);
        let guard = lock();
        (*adapter).running = true;
        (*adapter).ever_ran = true;
        if is(M::RestartClearsFilter) {
            (*adapter).filter = 0;
        }
        drop(guard);
        if is(M::RestartNeverEnds) { NDIS_STATUS_PENDING } else { NDIS_STATUS_SUCCESS }
    }

    pub(super) unsafe extern fn pause(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        let guard = lock();
        if !is(M::PauseGoesOnReceiving) {
            (*adapter).running = false;
        }
        if is(M::PauseLosesBuffer) && !(*adapter).free.is_null() {
            // Twenty at once, so that it shows after a few pauses.
            let mut lost = null_mut::<Rx>();
            for _ in 0..20 {
                let rx = (*adapter).free;
                if rx.is_null() {
                    break;
                }
                (*adapter).free = (*rx).next;
                (*adapter).free_count -= 1;
                (*rx).next = lost;
                lost = rx;
            }
            drop(guard);
            while !lost.is_null() {
                let next = (*lost).next;
                free_buffer(lost);
                lost = next;
            }
            return NDIS_STATUS_SUCCESS;
        }
        if is(M::PauseClearsCounters) {
            (*adapter).sent = Default::default();
        }
        if is(M::PauseDropsSas) {
            for slot in &mut (*adapter).sas {
                slot.handle = 0;
            }
        }
        if is(M::PauseTooEarly) {
            return NDIS_STATUS_SUCCESS;
        }
        if is(M::PauseFails) && (*adapter).outstanding == 0 {
            return NDIS_STATUS_FAILURE;
        }
        if (*adapter).outstanding == 0 {
            drop(guard);
            if is(M::PauseTwice) {
                NdisMPauseComplete((*adapter).handle);
            }
            return NDIS_STATUS_SUCCESS;
        }
        (*adapter).pausing = !is(M::PauseNeverEnds);
        NDIS_STATUS_PENDING
    }

    pub(super) unsafe extern fn pnp_event(context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
        let _guard = lock();
        if (*event).DevicePnPEvent == NdisDevicePnPEventSurpriseRemoved || is(M::AnyEventRemoves) {
            (*context.cast::<Adapter>()).removed = true;
        }
    }

    pub(super) unsafe extern fn shutdown(context: NDIS_HANDLE, action: NDIS_SHUTDOWN_ACTION) {
        let adapter = context.cast::<Adapter>();
        if is(M::ShutdownCallsNdis) {
            indicate_link(adapter, MediaConnectStateUnknown);
        }
        if is(M::ShutdownLocks) {
            let _guard = lock();
        }
        if is(M::ShutdownFrees) && action == NdisShutdownPowerOff {
            free((*adapter).name.cast());
            (*adapter).name = null_mut();
        }
    }

    pub(super) unsafe extern fn check_for_hang(_context: NDIS_HANDLE) -> BOOLEAN {
        FALSE
    }

    pub(super) unsafe extern fn reset(context: NDIS_HANDLE, addressing: *mut BOOLEAN) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        *addressing = FALSE;
        if is(M::ResetAllocatesPaged) {
            let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
            if !block.is_null() {
                free(block);
            }
        }
        if is(M::ResetNeverEnds) {
            return NDIS_STATUS_PENDING;
        }
        let request = (*adapter).pended.swap(null_mut(), Ordering::SeqCst);
        if !request.is_null() {
            if is(M::ResetLeavesPending) {
                (*adapter).pended.store(request, Ordering::SeqCst);
            } else {
                NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_REQUEST_ABORTED);
            }
        }
        let _guard = lock();
        if is(M::ResetClearsFilter) {
            (*adapter).filter = 0;
        }
        if is(M::ResetEndsPause) {
            (*adapter).running = true;
        }
        NDIS_STATUS_SUCCESS
    }
}

/// Indicates a link state.
pub(super) unsafe fn indicate_link(adapter: *mut Adapter, connect: NDIS_MEDIA_CONNECT_STATE) {
    let mut state: NDIS_LINK_STATE = zeroed();
    let wrong = if is(M::StatusSize) { 4 } else { 0 };
    state.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_LINK_STATE_REVISION_1 + wrong);
    state.MediaConnectState = connect;
    let code = if is(M::StatusForeign) { NDIS_STATUS_RESET_START } else { NDIS_STATUS_LINK_STATE };
    indicate(adapter, code, (&raw mut state).cast(), size_of::<NDIS_LINK_STATE>() as u32);
}

/// Indicates a status.
pub(super) unsafe fn indicate(adapter: *mut Adapter, code: NDIS_STATUS, buffer: PVOID, size: u32) {
    let mut indication: NDIS_STATUS_INDICATION = zeroed();
    indication.Header =
        header(NDIS_OBJECT_TYPE_STATUS_INDICATION, 1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1);
    indication.SourceHandle = (*adapter).handle;
    indication.StatusCode = code;
    indication.StatusBuffer = buffer;
    indication.StatusBufferSize = size;
    NdisMIndicateStatusEx((*adapter).handle, &mut indication);
}
