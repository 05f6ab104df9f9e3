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
        MiniportAdapterContext: if is(M::ContextNull) { null_mut() } else { context.cast() },
        AttributeFlags: if is(M::AttributeFlagsUnknown) { 0x8000 } else { 0 }
            | NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
            | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK,
        CheckForHangTimeInSeconds: if is(M::HangTimeOdd) { 3 } else { 0 },
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(handle, &mut a)
}

/// All of the general attributes' statistics.
const STATISTICS: u32 = 0x0879_ffff;

unsafe fn set_general(adapter: *mut Adapter) -> NDIS_STATUS {
    let mut power: NDIS_PM_CAPABILITIES = zeroed();
    power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2);
    if is(M::PowerCapabilitiesRevision) {
        power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1);
    }
    let mut old_power = [0_u64; 8];
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
    g.MtuSize = if is(M::MtuWithHeader) { mtu + 14 } else { mtu };
    g.Flags = if is(M::GeneralFlags) { 1 } else { 0 };
    g.MaxXmitLinkSpeed = 10_000_000_000;
    g.XmitLinkSpeed = if is(M::LinkSpeedUnset) { 0 } else { 10_000_000_000 };
    g.MaxRcvLinkSpeed = 10_000_000_000;
    g.RcvLinkSpeed = 10_000_000_000;
    g.MediaConnectState = if is(M::ConnectStateOdd) { 7 } else { MediaConnectStateConnected };
    g.MediaDuplexState = MediaDuplexStateFull;
    g.LookaheadSize = if is(M::LookaheadTooLarge) { mtu + 14 } else { mtu };
    g.MacOptions = NDIS_MAC_OPTION_8021P_PRIORITY | NDIS_MAC_OPTION_8021Q_VLAN | NDIS_MAC_OPTION_NO_LOOPBACK;
    if is(M::PriorityNotClaimed) {
        g.MacOptions &= !NDIS_MAC_OPTION_8021P_PRIORITY;
    }
    if is(M::MacOptionsReserved) {
        g.MacOptions |= 0x8000_0000;
    }
    g.SupportedPacketFilters = if is(M::NoFilters) { 0 } else { 0x2f };
    g.MaxMulticastListSize = if is(M::FewGroups) { 8 } else { 32 };
    g.MacAddressLength = if is(M::MacLength) { 8 } else { 6 };
    let permanent = if is(M::PermanentFollows) { (*adapter).mac } else { (*adapter).permanent };
    g.PermanentMacAddress[..6].copy_from_slice(&permanent);
    g.CurrentMacAddress[..6].copy_from_slice(&(*adapter).mac);
    if is(M::PermanentIsGroup) {
        g.PermanentMacAddress[0] |= 1;
    }
    if is(M::CurrentUnset) {
        g.CurrentMacAddress[..6].fill(0);
    }
    g.AccessType = if is(M::AccessTypeUnset) { 0 } else { NET_IF_ACCESS_BROADCAST };
    g.ConnectionType = if is(M::ConnectionTypeUnset) { 0 } else { NET_IF_CONNECTION_DEDICATED };
    g.IfType = if is(M::IfTypeLoopback) { 24 } else { IF_TYPE_ETHERNET_CSMACD };
    g.SupportedStatistics = if is(M::StatisticsFlagsMixed) { oids::STATISTICS_VALID } else { STATISTICS };
    g.SupportedOidList = oids.as_ptr().cast_mut();
    g.SupportedOidListLength = match size_of_val(oids) as u32 {
        length if is(M::OidListCounted) => length / 4,
        length if is(M::OidListHalf) => (length / 2) & !3,
        length => length,
    };
    g.PowerManagementCapabilitiesEx = if is(M::PowerCapabilitiesMissing) { null_mut() } else { &mut power };
    if is(M::PowerCapabilitiesOld) {
        g.PowerManagementCapabilities = (&raw mut old_power).cast();
    }
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
    if is(M::OffloadRevision) {
        hardware.Header = header(NDIS_OBJECT_TYPE_OFFLOAD, 2, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2);
    }
    if is(M::OffloadSizeof) {
        default.Header.Size += 4;
    }
    if is(M::DefaultAboveHardware) {
        hardware.LsoV2.IPv4.MaxOffLoadSize = 30_000;
    }
    if is(M::IpsecV1Claimed) {
        // IPsecV1.Encapsulation.
        (&raw mut hardware).cast::<u8>().add(52).cast::<u32>().write(NDIS_ENCAPSULATION_IEEE_802_3);
    }
    let o = &mut a.OffloadAttributes;
    o.Header = header(
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
        1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
    );
    o.DefaultOffloadConfiguration = if is(M::DefaultMissing) { null_mut() } else { &mut default };
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

/// What a mutant keeps of its configuration.
static KEPT: std::sync::atomic::AtomicPtr<u8> = std::sync::atomic::AtomicPtr::new(null_mut());

/// A number, or `None` if there is none.
unsafe fn read_number(configuration: NDIS_HANDLE, keyword: &str) -> Option<u32> {
    let mut words: Vec<u16> = keyword.encode_utf16().collect();
    let length = (words.len() * 2) as u16;
    let mut name = NDIS_STRING { Length: length, MaximumLength: length, Buffer: words.as_mut_ptr() };
    let (mut status, mut value) = (0, null_mut());
    NdisReadConfiguration(&mut status, &mut value, configuration, &mut name, NdisParameterInteger);
    if is(M::StatusUnchecked) {
        return Some((*value).ParameterData.IntegerData);
    }
    let found = status == NDIS_STATUS_SUCCESS && (*value).ParameterType == NdisParameterInteger;
    if found && is(M::StringKept) {
        KEPT.store(value.cast(), Ordering::Relaxed);
    }
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
    if is(M::ConfigurationReadClosed) {
        read_number(configuration, "*JumboPacket");
    }
    if is(M::AddressKept) && mac.is_some() {
        KEPT.store(address.cast(), Ordering::Relaxed);
    }
    let kept = KEPT.swap(null_mut(), Ordering::Relaxed);
    if !kept.is_null() {
        kept.write_volatile(1);
    }
    if trusted {
        return Err(NDIS_STATUS_FAILURE);
    }
    Ok(Settings { mac, max_frame, config })
}

ndis_fn! {
    pub(super) unsafe extern fn initialize(handle: NDIS_HANDLE, _driver: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS {
        spoil_pool(handle);
        let flags = if is(M::ContextNotZeroed) { POOL_FLAG_UNINITIALIZED } else { 0 };
        let adapter = ExAllocatePool2(POOL_FLAG_NON_PAGED | flags, size_of::<Adapter>(), TAG).cast::<Adapter>();
        if adapter.is_null() {
            return NDIS_STATUS_RESOURCES;
        }
        (*adapter).handle = handle;
        if is(M::ParametersKept) {
            (*adapter).kept = parameters.cast();
        }
        let index = if is(M::SharedAddress) { 7 } else { (*parameters).IfIndex as u8 };
        (*adapter).permanent = [2, 0x77, 0, 0, 0, index];
        match build(adapter) {
            Ok(()) if is(M::InitializePends) => NDIS_STATUS_PENDING,
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
    super::objects::spoil();
    if is(M::PoolOverrun) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            block.add(40).write(1);
            free(block.cast());
        }
    }
    if is(M::PoolUnderrun) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            block.sub(1).write(1);
            free(block.cast());
        }
    }
    if is(M::ReadAfterFree) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            free(block.cast());
            block.read_volatile();
        }
    }
    if is(M::PointerAfterFree) {
        // A list element that is followed after it was freed.
        let block = allocate(40).cast::<*mut u8>();
        if !block.is_null() {
            block.write(null_mut());
            free(block.cast());
            let next = block.read_volatile();
            if !next.is_null() {
                next.read_volatile();
            }
        }
    }
    if is(M::PagedFreedAtDispatch) {
        let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
        if !block.is_null() {
            let old = KeRaiseIrqlToDpcLevel();
            free(block);
            KeLowerIrql(old);
        }
    }
    if is(M::WorkItemLeft) {
        NdisAllocateIoWorkItem(handle);
    }
    if is(M::WorkItemQueuedTwice) {
        let item = NdisAllocateIoWorkItem(handle);
        if !item.is_null() {
            // Often: a worker might take it out of the queue just in time, once or twice.
            for _ in 0..20 {
                NdisQueueIoWorkItem(item, Some(work), null_mut());
            }
            NdisMSleep(1_000_000);
            NdisFreeIoWorkItem(item);
        }
    }
    if is(M::MdlFreedTwice) || is(M::MdlOnStack) || is(M::MdlPaged) {
        let mut local = [0_u8; 64];
        let block =
            ExAllocatePool2(if is(M::MdlPaged) { POOL_FLAG_PAGED } else { POOL_FLAG_NON_PAGED }, 64, TAG);
        let data = if is(M::MdlOnStack) { (&raw mut local).cast() } else { block };
        let mdl = NdisAllocateMdl(handle, data, 64);
        if !mdl.is_null() {
            NdisFreeMdl(mdl);
            if is(M::MdlFreedTwice) {
                NdisFreeMdl(mdl);
            }
        }
        if !block.is_null() {
            free(block);
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
    if is(M::RegistrationTwice) {
        check(set_registration(handle, adapter))?;
    }
    let settings = read_settings(handle)?;
    (*adapter).mac = settings.mac.unwrap_or((*adapter).permanent);
    (*adapter).max_frame = settings.max_frame;
    (*adapter).config = settings.config;
    if !is(M::SpinLockNotAllocated) {
        NdisAllocateSpinLock((*adapter).lock.get());
    }
    if is(M::SpinLockNotAllocated) || is(M::SpinLockFreed) {
        if is(M::SpinLockFreed) {
            NdisFreeSpinLock((*adapter).lock.get());
        }
        NdisAcquireSpinLock((*adapter).lock.get());
        NdisReleaseSpinLock((*adapter).lock.get());
    }
    if is(M::WorkItemAtHalt) {
        (*adapter).item = NdisAllocateIoWorkItem(handle);
    }
    (*adapter).name = allocate(64).cast();
    if is(M::PagedTouchedAtDispatch) {
        (*adapter).paged = ExAllocatePool2(POOL_FLAG_PAGED, 64, TAG).cast();
    }
    if (*adapter).name.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(
            if is(M::ListPoolType) { NDIS_OBJECT_TYPE_OFFLOAD } else { NDIS_OBJECT_TYPE_DEFAULT },
            1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        ProtocolId: 0,
        fAllocateNetBuffer: if is(M::ListPoolWithoutBuffers) { 0 } else { 1 },
        ContextSize: if is(M::ListPoolContextOdd) { 8 } else { 0 },
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
            if is(M::TimerRevision) { 2 } else { 1 },
            NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        ),
        AllocationTag: if is(M::TimerWithoutTag) { 0 } else { TAG },
        TimerFunction: (!is(M::TimerWithoutFunction)).then_some(oids::tick),
        FunctionContext: adapter.cast(),
    };
    check(NdisAllocateTimerObject(handle, &mut timer, &mut (*adapter).timer))?;
    if !is(M::DpcNotInitialised) {
        KeInitializeDpc((*adapter).dpc.get(), Some(oids::complete_pended), adapter.cast());
    }
    if is(M::GeneralMissing) {
        return plug_in(adapter);
    }
    if is(M::OffloadBeforeGeneral) {
        check(set_offload(adapter))?;
    }
    check(set_general(adapter))?;
    if is(M::GeneralTwice) {
        check(set_general(adapter))?;
    }
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
    if !(*rx).mdl.is_null() && !is(M::MdlLeft) {
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
    if is(M::TimerFreedTwice) && !(*adapter).timer.is_null() {
        NdisFreeTimerObject((*adapter).timer);
    }
    if is(M::TimerSetFreed) && !(*adapter).timer.is_null() {
        NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
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
    if !(*adapter).item.is_null() {
        NdisQueueIoWorkItem((*adapter).item, Some(work), null_mut());
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
    pub(super) unsafe extern fn restart(context: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        if is(M::RestartAttributesTrusted) {
            (*parameters).RestartAttributes.cast::<u8>().read_volatile();
        }
        if is(M::AttributesInRestart) {
            set_offload(adapter);
        }
        if is(M::ParametersKept) {
            (*adapter).kept.write_volatile(1);
        }
        if is(M::PauseCompletedUnasked) {
            NdisMPauseComplete((*adapter).handle);
        }
        if is(M::RestartCompletedTooLate) {
            NdisMRestartComplete((*adapter).handle, NDIS_STATUS_SUCCESS);
        }
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
        if is(M::EventOverread) && !(*event).InformationBuffer.is_null() {
            (*event).InformationBuffer.cast::<u8>().add(4096).read_volatile();
        }
        if is(M::EventTrusted) {
            (*event).InformationBuffer.cast::<u32>().read_volatile();
        }
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
        if is(M::ShutdownAllocates) {
            allocate(16);
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
        if is(M::HangAlways) { TRUE } else { FALSE }
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
        if is(M::ResetTwice) {
            NdisMResetComplete((*adapter).handle, NDIS_STATUS_SUCCESS, FALSE);
        }
        if is(M::ResetOddStatus) {
            return NDIS_STATUS_INVALID_DATA;
        }
        if is(M::ResetDropsSas) {
            for slot in &mut (*adapter).sas {
                slot.handle = 0;
            }
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
    let code = if is(M::StatusForeign) {
        NDIS_STATUS_RESET_START
    } else if is(M::StatusOld) {
        NDIS_STATUS_MEDIA_CONNECT
    } else {
        NDIS_STATUS_LINK_STATE
    };
    let size = if is(M::StatusShort) { 20 } else { size_of::<NDIS_LINK_STATE>() as u32 };
    indicate(adapter, code, (&raw mut state).cast(), size);
}

/// Indicates a status.
pub(super) unsafe fn indicate(adapter: *mut Adapter, code: NDIS_STATUS, buffer: PVOID, size: u32) {
    let mut indication: NDIS_STATUS_INDICATION = zeroed();
    indication.Header =
        header(NDIS_OBJECT_TYPE_STATUS_INDICATION, 1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1);
    if is(M::StatusRevision) {
        indication.Header.Revision = 2;
    }
    indication.SourceHandle = if is(M::StatusSource) { null_mut() } else { (*adapter).handle };
    indication.PortNumber = if is(M::StatusPort) { 1 } else { 0 };
    indication.StatusCode = code;
    indication.StatusBuffer = if is(M::StatusNoBuffer) { null_mut() } else { buffer };
    indication.StatusBufferSize = size;
    NdisMIndicateStatusEx((*adapter).handle, &mut indication);
}
