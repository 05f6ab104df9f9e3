//! Regular OIDs.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::status::{indicate, indicate_link};
use super::{Adapter, Config, Count, M, SLOTS, header, is, lock};

/// The supported list.
pub(super) static OIDS: [NDIS_OID; 30] = [
    OID_GEN_VENDOR_ID,
    OID_GEN_HARDWARE_STATUS,
    OID_GEN_TRANSMIT_BUFFER_SPACE,
    OID_GEN_RECEIVE_BUFFER_SPACE,
    OID_GEN_TRANSMIT_BLOCK_SIZE,
    OID_GEN_RECEIVE_BLOCK_SIZE,
    OID_GEN_VENDOR_DESCRIPTION,
    OID_GEN_VENDOR_DRIVER_VERSION,
    OID_GEN_MAXIMUM_TOTAL_SIZE,
    OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_INTERRUPT_MODERATION,
    OID_GEN_LINK_PARAMETERS,
    OID_GEN_MACHINE_NAME,
    OID_GEN_XMIT_OK,
    OID_GEN_RCV_OK,
    OID_GEN_STATISTICS,
    OID_GEN_MEDIA_SUPPORTED,
    OID_GEN_MAXIMUM_FRAME_SIZE,
    OID_802_3_PERMANENT_ADDRESS,
    OID_802_3_CURRENT_ADDRESS,
    OID_802_3_MULTICAST_LIST,
    OID_802_3_MAXIMUM_LIST_SIZE,
    OID_PNP_SET_POWER,
    OID_PNP_QUERY_POWER,
    OID_TCP_OFFLOAD_PARAMETERS,
    OID_OFFLOAD_ENCAPSULATION,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA,
];

/// `NDIS_STATISTICS_FLAGS_VALID_…` of what is counted.
pub(super) const STATISTICS_VALID: u32 = 0x003f_87ff;

/// What is offloaded.
pub(super) fn offload(config: Config) -> NDIS_OFFLOAD {
    let mut offload = NDIS_OFFLOAD {
        Header: header(NDIS_OBJECT_TYPE_OFFLOAD, 3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3),
        ..NDIS_OFFLOAD::default()
    };
    let checksum = |bit: u8| {
        let on = |setting: u8| u32::from(setting >> bit & 1);
        let bits = NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS::default();
        let any = (config.ip | config.tcp | config.udp) >> bit & 1 != 0;
        NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 {
            Encapsulation: if any { NDIS_ENCAPSULATION_IEEE_802_3 } else { 0 },
            Bits: bits
                .with_IpChecksum(on(config.ip))
                .with_TcpChecksum(on(config.tcp))
                .with_UdpChecksum(on(config.udp))
                .with_IpOptionsSupported(on(config.ip | config.tcp | config.udp)),
        }
    };
    offload.Checksum.IPv4Transmit = checksum(0);
    offload.Checksum.IPv4Receive = checksum(1);
    if config.large {
        offload.LsoV2.IPv4.Encapsulation = NDIS_ENCAPSULATION_IEEE_802_3;
        offload.LsoV2.IPv4.MaxOffLoadSize = 60_000;
        offload.LsoV2.IPv4.MinSegmentCount = 2;
    }
    if config.esp || config.ah {
        offload.IPsecV2 = NDIS_IPSEC_OFFLOAD_V2 {
            Encapsulation: NDIS_ENCAPSULATION_IEEE_802_3,
            Ah: config.ah.into(),
            Esp: config.esp.into(),
            AhEspCombined: TRUE,
            Transport: TRUE,
            LsoSupported: TRUE,
            Tunnel: TRUE,
            TransportTunnelCombined: TRUE,
            AuthenticationAlgorithms: IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1,
            ExtendedSequenceNumbers: TRUE,
            EncryptionAlgorithms: 0x38,
            SaOffloadCapacity: SLOTS as u32,
            ..NDIS_IPSEC_OFFLOAD_V2::default()
        };
    }
    offload
}

ndis_fn! {
    pub(super) unsafe extern fn oid_request(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        if (*adapter).removed && !is(M::RemovedAnswers) {
            return NDIS_STATUS_NOT_ACCEPTED;
        }
        if is(M::OidLeaks) {
            super::allocate(24);
        }
        if is(M::OidBufferKept) && !(*adapter).kept.is_null() {
            (*adapter).kept.write_volatile(1);
        }
        let status = match (*request).RequestType {
            NdisRequestQueryInformation | NdisRequestQueryStatistics => query(adapter, request),
            NdisRequestSetInformation => set(adapter, request),
            _ if is(M::MethodAccepted) => NDIS_STATUS_SUCCESS,
            _ => NDIS_STATUS_NOT_SUPPORTED,
        };
        let status = if is(M::OidOddStatus) && status == NDIS_STATUS_NOT_SUPPORTED { 0x1234_5678 } else { status };
        if is(M::OidBufferKept) && (*request).RequestType == NdisRequestSetInformation {
            (*adapter).kept = (*request).DATA.SET_INFORMATION.InformationBuffer.cast();
        }
        if is(M::OidCompletedInline) && status == NDIS_STATUS_SUCCESS {
            NdisMOidRequestComplete((*adapter).handle, request, status);
        }
        if is(M::OidUnknownCompleted) {
            NdisMOidRequestComplete((*adapter).handle, 0x10 as *mut NDIS_OID_REQUEST, NDIS_STATUS_SUCCESS);
        }
        if is(M::RequestChanged) {
            (*request).RequestId = 7 as PVOID;
        }
        status
    }

    pub(super) unsafe extern fn cancel_oid(context: NDIS_HANDLE, id: PVOID) {
        let adapter = context.cast::<Adapter>();
        let request = (*adapter).pended.load(Ordering::SeqCst);
        let matches = !request.is_null() && ((*request).RequestId == id || is(M::CancelEndsAny));
        if matches && !id.is_null() && !is(M::CancelIgnored) {
            (*adapter).pended.store(null_mut(), Ordering::SeqCst);
            let status = if is(M::CancelSucceeds) { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_REQUEST_ABORTED };
            NdisMOidRequestComplete((*adapter).handle, request, status);
            if is(M::CancelCompletesTwice) {
                NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_REQUEST_ABORTED);
            }
        }
    }

    pub(super) unsafe extern fn tick(_one: PVOID, context: PVOID, _two: PVOID, _three: PVOID) {
        KeInsertQueueDpc((*context.cast::<Adapter>()).dpc.get(), null_mut(), null_mut());
    }

    pub(super) unsafe extern fn complete_pended(_dpc: *mut KDPC, context: PVOID, _one: PVOID, _two: PVOID) {
        let adapter = context.cast::<Adapter>();
        if is(M::SleepInDpc) {
            NdisMSleep(1);
        }
        let request = (*adapter).pended.swap(null_mut(), Ordering::SeqCst);
        if request.is_null() {
            return;
        }
        let handle = (*adapter).handle;
        let length = (*request).DATA.SET_INFORMATION.InformationBufferLength;
        (*request).DATA.SET_INFORMATION.BytesRead = length;
        if is(M::OidWrongCompletion) {
            NdisMDirectOidRequestComplete(handle, request, NDIS_STATUS_SUCCESS);
        } else if is(M::OidCompletedPending) {
            NdisMOidRequestComplete(handle, request, NDIS_STATUS_PENDING);
        } else if is(M::OidCompletedUnderLock) {
            let _guard = lock();
            NdisMOidRequestComplete(handle, request, NDIS_STATUS_SUCCESS);
        } else if is(M::OidReadsLater) {
            NdisMOidRequestComplete(handle, request, NDIS_STATUS_SUCCESS);
            // As one logs what was done.
            let buffer = (&raw const (*request).DATA.SET_INFORMATION.InformationBuffer).read_volatile();
            buffer.cast::<u8>().read_volatile();
        } else if !is(M::CancelIgnored) {
            NdisMOidRequestComplete(handle, request, NDIS_STATUS_SUCCESS);
            if is(M::OidCompletedTwice) {
                NdisMOidRequestComplete(handle, request, NDIS_STATUS_SUCCESS);
            }
            if is(M::OidTouched) {
                (*request).DATA.SET_INFORMATION.BytesRead = 0;
            }
        }
    }
}

unsafe fn statistics(adapter: *mut Adapter) -> [u8; 152] {
    let _guard = lock();
    if is(M::LocksCrossed) {
        NdisAcquireSpinLock((*adapter).lock.get());
        NdisReleaseSpinLock((*adapter).lock.get());
    }
    let (r, s) = (&(*adapter).received, &(*adapter).sent);
    let octets = |counts: &[Count; 3]| counts.iter().map(|count| count.octets).sum::<u64>();
    let words = [
        (*adapter).discards,
        0,
        octets(r),
        r[0].packets,
        r[1].packets,
        r[2].packets,
        octets(s),
        s[0].packets,
        s[1].packets,
        s[2].packets,
        (*adapter).send_errors,
        0,
        r[0].octets,
        r[1].octets,
        r[2].octets,
        s[0].octets,
        s[1].octets,
        s[2].octets,
    ];
    let mut bytes = [0; 152];
    let size = if is(M::StatisticsSize) { 160_u16 } else { 152 };
    bytes[0] = NDIS_OBJECT_TYPE_DEFAULT;
    bytes[1] = 1;
    bytes[2..4].copy_from_slice(&size.to_le_bytes());
    let flags: u32 = if is(M::StatisticsFlagsUnset) { 0 } else { STATISTICS_VALID };
    bytes[4..8].copy_from_slice(&flags.to_le_bytes());
    for (chunk, word) in bytes[8..].chunks_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

unsafe fn query(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    let oid = (*request).DATA.QUERY_INFORMATION.Oid;
    let frame = (*adapter).max_frame as u32;
    let packets = |counts: [Count; 3]| counts.iter().map(|count| count.packets).sum::<u64>();
    match oid {
        OID_GEN_VENDOR_ID if is(M::ListedNotAnswered) => NDIS_STATUS_NOT_SUPPORTED,
        OID_GEN_VENDOR_ID => answer(request, &0x00ff_ffff_u32.to_le_bytes()),
        OID_GEN_HARDWARE_STATUS => answer(request, &0_u32.to_le_bytes()),
        OID_GEN_TRANSMIT_BUFFER_SPACE | OID_GEN_RECEIVE_BUFFER_SPACE => {
            answer(request, &(frame * 80).to_le_bytes())
        }
        OID_GEN_MAXIMUM_TOTAL_SIZE if is(M::TotalSizeWithoutHeader) => {
            answer(request, &(frame - 14).to_le_bytes())
        }
        OID_GEN_TRANSMIT_BLOCK_SIZE | OID_GEN_RECEIVE_BLOCK_SIZE | OID_GEN_MAXIMUM_TOTAL_SIZE => {
            answer(request, &frame.to_le_bytes())
        }
        OID_GEN_VENDOR_DESCRIPTION if is(M::DescriptionUnterminated) => answer(request, b"A small miniport"),
        OID_GEN_VENDOR_DESCRIPTION => answer(request, b"A small miniport\0"),
        OID_GEN_VENDOR_DRIVER_VERSION => answer(request, &0x0001_0002_u32.to_le_bytes()),
        OID_GEN_INTERRUPT_MODERATION => answer(request, &[0x80, 1, 12, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        OID_GEN_XMIT_OK => counter(request, packets((*adapter).sent)),
        OID_GEN_RCV_OK => counter(request, packets((*adapter).received)),
        OID_GEN_STATISTICS => answer(request, &statistics(adapter)),
        OID_802_3_PERMANENT_ADDRESS => answer(request, &(*adapter).permanent),
        OID_802_3_CURRENT_ADDRESS if is(M::CurrentIsPermanent) => answer(request, &(*adapter).permanent),
        OID_802_3_CURRENT_ADDRESS => answer(request, &(*adapter).mac),
        OID_802_3_MAXIMUM_LIST_SIZE if is(M::ListSizeDiffers) => answer(request, &16_u32.to_le_bytes()),
        OID_802_3_MAXIMUM_LIST_SIZE => answer(request, &32_u32.to_le_bytes()),
        OID_PNP_QUERY_POWER => answer(request, &[]),
        _ if is(M::UnknownSucceeds) => NDIS_STATUS_SUCCESS,
        _ => NDIS_STATUS_NOT_SUPPORTED,
    }
}

unsafe fn answer(request: *mut NDIS_OID_REQUEST, bytes: &[u8]) -> NDIS_STATUS {
    let data = &mut (*request).DATA.QUERY_INFORMATION;
    let (room, buffer) = (data.InformationBufferLength as usize, data.InformationBuffer.cast::<u8>());
    if room < bytes.len() {
        if is(M::ShortIsWritten) && room > 0 {
            buffer.copy_from_nonoverlapping(bytes.as_ptr(), room);
        }
        data.BytesNeeded = if is(M::NeededMissing) { 0 } else { bytes.len() as u32 };
        data.BytesWritten = if is(M::ShortCounts) { room as u32 } else { 0 };
        return NDIS_STATUS_INVALID_LENGTH;
    }
    if !bytes.is_empty() {
        buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
    if is(M::AnswerUnderruns) && !bytes.is_empty() {
        buffer.sub(1).write(1);
    }
    if is(M::AnswerOverruns) && !bytes.is_empty() {
        buffer.add(room).write(1);
    }
    let wrong = if is(M::WrittenTooMany) { room as u32 + 4 } else { 0 };
    data.BytesWritten = bytes.len() as u32 + wrong;
    if is(M::WrittenUnset) {
        data.BytesWritten = 0;
    }
    if is(M::WrittenIsRoom) {
        data.BytesWritten = room as u32;
    }
    NDIS_STATUS_SUCCESS
}

unsafe fn counter(request: *mut NDIS_OID_REQUEST, value: u64) -> NDIS_STATUS {
    let room = (*request).DATA.QUERY_INFORMATION.InformationBufferLength;
    let bytes = value.to_le_bytes();
    let status = match room {
        0..4 => {
            let status = answer(request, &bytes);
            (*request).DATA.QUERY_INFORMATION.BytesNeeded = 8;
            return status;
        }
        4..8 => answer(request, &bytes[..4]),
        _ if is(M::Counter32) => answer(request, &bytes[..4]),
        _ => answer(request, &bytes),
    };
    if room < 8 {
        (*request).DATA.QUERY_INFORMATION.BytesNeeded = 8;
    }
    status
}

unsafe fn short(request: *mut NDIS_OID_REQUEST, needed: u32) -> NDIS_STATUS {
    (*request).DATA.SET_INFORMATION.BytesNeeded = if is(M::SetNeededMissing) { 0 } else { needed };
    NDIS_STATUS_INVALID_LENGTH
}

unsafe fn set(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    let data = &mut (*request).DATA.SET_INFORMATION;
    let (oid, length) = (data.Oid, data.InformationBufferLength as usize);
    let input: &[u8] = if length == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data.InformationBuffer.cast::<u8>(), length)
    };
    let number = |at: usize| u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
    let least = match oid {
        OID_GEN_CURRENT_PACKET_FILTER
        | OID_GEN_CURRENT_LOOKAHEAD
        | OID_PNP_SET_POWER
        | OID_PNP_QUERY_POWER => 4,
        OID_GEN_INTERRUPT_MODERATION => 12,
        OID_GEN_LINK_PARAMETERS => 32,
        OID_TCP_OFFLOAD_PARAMETERS => 20,
        OID_OFFLOAD_ENCAPSULATION => 28,
        _ => 0,
    };
    if length < least {
        if is(M::ShortSetAccepted) && oid != OID_PNP_SET_POWER {
            return NDIS_STATUS_SUCCESS;
        }
        return short(request, if oid == OID_TCP_OFFLOAD_PARAMETERS { 26 } else { least as u32 });
    }
    let mut read = least;
    match oid {
        OID_GEN_CURRENT_PACKET_FILTER => {
            if length != 4 {
                return short(request, 4);
            }
            let filter = number(0);
            if is(M::FilterOnlyRunning) && !(*adapter).running {
                return NDIS_STATUS_NOT_ACCEPTED;
            }
            if is(M::RefusedFilterApplied) {
                (*adapter).filter = filter & 0x2f;
            }
            if filter & !0x2f != 0 && !is(M::UnsupportedFilterAccepted) {
                return NDIS_STATUS_NOT_SUPPORTED;
            }
            let _guard = lock();
            (*adapter).filter = filter;
            if is(M::SetWritesBuffer) {
                data.InformationBuffer.cast::<u8>().write(0xff);
            }
        }
        OID_GEN_CURRENT_LOOKAHEAD if is(M::SetReadMissing) => read = 0,
        OID_GEN_CURRENT_LOOKAHEAD | OID_PNP_QUERY_POWER => {}
        OID_GEN_LINK_PARAMETERS => return NDIS_STATUS_NOT_ACCEPTED,
        OID_GEN_INTERRUPT_MODERATION if is(M::ModerationSet) => {}
        OID_GEN_INTERRUPT_MODERATION => return NDIS_STATUS_INVALID_DATA,
        OID_GEN_MACHINE_NAME => return machine_name(adapter, request, input),
        OID_802_3_MULTICAST_LIST => match multicast(adapter, input) {
            Ok(()) => read = length,
            Err(status) => {
                data.BytesNeeded = if status == NDIS_STATUS_MULTICAST_FULL && !is(M::FullNeededMissing) {
                    192
                } else {
                    (length / 6 * 6) as u32
                };
                return status;
            }
        },
        OID_PNP_SET_POWER => return power(adapter, request, number(0)),
        OID_TCP_OFFLOAD_PARAMETERS => return parameters(adapter, request, input),
        OID_OFFLOAD_ENCAPSULATION => return encapsulation(adapter, request, input),
        OID_GEN_VENDOR_ID if is(M::QuerySet) => read = 4,
        _ => return NDIS_STATUS_NOT_SUPPORTED,
    }
    data.BytesRead = read as u32 + if is(M::ReadTooMany) { 8 } else { 0 };
    if is(M::IndicationRequired) && oid == OID_GEN_CURRENT_PACKET_FILTER {
        return NDIS_STATUS_INDICATION_REQUIRED;
    }
    NDIS_STATUS_SUCCESS
}

/// Kept, and pends: it ends by a timer and a DPC.
unsafe fn machine_name(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST, input: &[u8]) -> NDIS_STATUS {
    let keep = if is(M::NameUnbounded) { input.len() } else { input.len().min(64) };
    (*adapter).name.copy_from_nonoverlapping(input.as_ptr(), keep);
    (*adapter).pended.store(request, Ordering::SeqCst);
    // Mutants that show while it is pending take their time.
    let slow = [M::ResetLeavesPending, M::CancelCompletesTwice, M::CancelEndsAny, M::CancelSucceeds]
        .into_iter()
        .any(is);
    let due = if slow { -1_000_000 } else { -50_000 };
    NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: due }, 0, null_mut());
    NDIS_STATUS_PENDING
}

unsafe fn multicast(adapter: *mut Adapter, input: &[u8]) -> Result<(), NDIS_STATUS> {
    let (groups, rest) = input.as_chunks::<6>();
    if !rest.is_empty() && !is(M::OddListAccepted) {
        return Err(NDIS_STATUS_INVALID_LENGTH);
    }
    let _guard = lock();
    if groups.len() > (*adapter).groups.len() {
        if is(M::RefusedListClears) {
            (*adapter).group_count = 0;
        }
        if is(M::LongListAccepted) {
            return Ok(());
        }
        return Err(NDIS_STATUS_MULTICAST_FULL);
    }
    if is(M::ListMerged) && !groups.is_empty() {
        // Added at the end, as far as there is room.
        for group in groups {
            if (*adapter).group_count < 32 {
                (*adapter).groups[(*adapter).group_count] = *group;
                (*adapter).group_count += 1;
            } else {
                (*adapter).groups[31] = *group;
            }
        }
        return Ok(());
    }
    (&mut (*adapter).groups)[..groups.len()].copy_from_slice(groups);
    (*adapter).group_count = groups.len();
    Ok(())
}

unsafe fn power(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST, state: u32) -> NDIS_STATUS {
    let awake = match state.cast_signed() {
        NdisDeviceStateD0 => true,
        NdisDeviceStateD1 | NdisDeviceStateD2 | NdisDeviceStateD3 => false,
        _ if is(M::AnyPowerState) => true,
        _ => return NDIS_STATUS_INVALID_DATA,
    };
    if is(M::SleepRefused) && !awake {
        return NDIS_STATUS_FAILURE;
    }
    {
        let _guard = lock();
        (*adapter).low_power = !awake;
        if is(M::SleepDropsSas) {
            for slot in &mut (*adapter).sas {
                slot.handle = 0;
            }
        }
        if is(M::SleepClearsFilter) {
            (*adapter).filter = 0;
        }
    }
    let connect = match awake {
        true => MediaConnectStateConnected,
        false if is(M::AsleepDisconnected) => MediaConnectStateDisconnected,
        false => MediaConnectStateUnknown,
    };
    if !(is(M::AwakeNotTold) && awake) {
        indicate_link(adapter, connect);
    }
    (*request).DATA.SET_INFORMATION.BytesRead = 4;
    NDIS_STATUS_SUCCESS
}

unsafe fn tell_configuration(adapter: *mut Adapter) {
    if !is(M::ConfigurationNotTold) {
        let mut now = offload(if is(M::ConfigurationStale) { super::HARDWARE } else { (*adapter).config });
        if is(M::ConfigurationRevision) {
            now.Header = header(NDIS_OBJECT_TYPE_OFFLOAD, 2, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2);
        }
        let size = u32::from(NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3);
        indicate(adapter, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, (&raw mut now).cast(), size);
    }
}

unsafe fn parameters(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST, input: &[u8]) -> NDIS_STATUS {
    let (kind, revision, size) = (input[0], input[1], usize::from(u16::from_le_bytes([input[2], input[3]])));
    let known = match revision {
        0 => return NDIS_STATUS_INVALID_DATA,
        1 => 20,
        2 => 22,
        3 => 26,
        _ if is(M::LaterRevisionRefused) => return NDIS_STATUS_INVALID_DATA,
        _ => 26,
    };
    if is(M::RefusedIsTold) {
        tell_configuration(adapter);
    }
    let wrong = kind != NDIS_OBJECT_TYPE_DEFAULT || size < known || size > input.len();
    if wrong && !is(M::ParametersHeaderIgnored) || known > input.len() {
        return NDIS_STATUS_INVALID_DATA;
    }
    let mut config = (*adapter).config;
    if known >= 22 {
        match input[21] {
            0 => {}
            value @ 1..=4 => (config.ah, config.esp) = (matches!(value, 2 | 4), value > 2),
            _ => return NDIS_STATUS_INVALID_DATA,
        }
        match input[20] {
            0 | 1 => {}
            2..=4 => return NDIS_STATUS_INVALID_PARAMETER,
            _ => return NDIS_STATUS_INVALID_DATA,
        }
    }
    if is(M::ParametersInPart) {
        (*adapter).config = config;
    }
    for (at, checksum) in (4..).zip(&input[4..9]) {
        let setting = match at {
            4 => &mut config.ip,
            5 => &mut config.tcp,
            6 => &mut config.udp,
            _ => &mut 0,
        };
        match checksum {
            1..=4 if at < 7 => *setting = checksum - 1,
            0 | 1 => {}
            2..=4 if is(M::UnsupportedSwitchedOn) => {}
            2..=4 => return NDIS_STATUS_INVALID_PARAMETER,
            _ => return NDIS_STATUS_INVALID_DATA,
        }
    }
    for (at, large) in [(9, input[9]), (11, input[11]), (12, input[12])] {
        match large {
            1 | 2 if at == 11 => config.large = large == 2,
            0 | 1 => {}
            2 => return NDIS_STATUS_INVALID_PARAMETER,
            _ if is(M::MeaninglessAccepted) => {}
            _ => return NDIS_STATUS_INVALID_DATA,
        }
    }
    config.esp &= !is(M::SwitchedOnStaysOff);
    config.ah &= !is(M::SwitchedOnStaysOff);
    (*adapter).config = config;
    (*request).DATA.SET_INFORMATION.BytesRead = known as u32;
    if !is(M::RevisionNotTold) {
        (*request).SupportedRevision = revision.min(3);
    }
    if is(M::OffDropsSas) && !config.esp && !config.ah {
        for slot in &mut (*adapter).sas {
            slot.handle = 0;
        }
    }
    tell_configuration(adapter);
    NDIS_STATUS_SUCCESS
}

unsafe fn encapsulation(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST, input: &[u8]) -> NDIS_STATUS {
    let word = |at: usize| u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
    for family in [4, 16] {
        let (enabled, kind) = (word(family), word(family + 4));
        let ethernet = kind == NDIS_ENCAPSULATION_IEEE_802_3 || is(M::AnyEncapsulation);
        if enabled > 2 || enabled == NDIS_OFFLOAD_SET_ON && !ethernet {
            return NDIS_STATUS_INVALID_PARAMETER;
        }
    }
    match word(4) {
        NDIS_OFFLOAD_SET_ON => (*adapter).receive_on = true,
        NDIS_OFFLOAD_SET_OFF => (*adapter).receive_on = false,
        _ => {}
    }
    (*request).DATA.SET_INFORMATION.BytesRead = 28;
    tell_configuration(adapter);
    NDIS_STATUS_SUCCESS
}
