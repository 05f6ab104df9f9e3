//! The direct OIDs of IPsec Task Offload Version 2.

use std::mem::offset_of;

use ndis_sys::*;

use super::{Adapter, M, SLOTS, Sa, TAG, WIRE, free, is, lock};

ndis_fn! {
    pub(super) unsafe extern fn direct_oid(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        if (*adapter).removed {
            return NDIS_STATUS_NOT_ACCEPTED;
        }
        if is(M::DirectSleeps) {
            NdisMSleep(1);
        }
        if is(M::DirectPaged) {
            let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
            if !block.is_null() {
                free(block);
            }
        }
        let data = &mut (*request).DATA.SET_INFORMATION;
        let length = data.InformationBufferLength as usize;
        let buffer = data.InformationBuffer.cast::<u8>();
        if (*request).RequestType != NdisRequestSetInformation {
            return NDIS_STATUS_NOT_SUPPORTED;
        }
        let status = match data.Oid {
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA => add_list(adapter, buffer, length),
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => add_ex(adapter, buffer, length),
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA => delete(adapter, buffer, length),
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA => update(adapter, buffer, length),
            _ => NDIS_STATUS_NOT_SUPPORTED,
        };
        if status == NDIS_STATUS_INVALID_LENGTH && !is(M::SaNeededMissing) {
            data.BytesNeeded = u32::from(match data.Oid {
                OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA => NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
                OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
                OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA => NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
                _ => NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1,
            });
        }
        if status == NDIS_STATUS_SUCCESS {
            data.BytesRead = length as u32;
        }
        let deletes = data.Oid == OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA && status == NDIS_STATUS_SUCCESS;
        if is(M::DeleteWakeUpLost) && deletes && { let _guard = lock(); (*adapter).sending } > 0 {
            // The last send may end just here, and find nobody who waits.
            KeGetCurrentIrql();
            let _guard = lock();
            (*adapter).waiting = request;
            return NDIS_STATUS_PENDING;
        }
        if is(M::DirectNeverEnds) && status == NDIS_STATUS_SUCCESS {
            return NDIS_STATUS_PENDING;
        }
        if is(M::DirectTwice) && status == NDIS_STATUS_SUCCESS {
            NdisMDirectOidRequestComplete((*adapter).handle, request, status);
            NdisMDirectOidRequestComplete((*adapter).handle, request, status);
            return NDIS_STATUS_PENDING;
        }
        if is(M::DirectOddStatus) && status == NDIS_STATUS_SUCCESS {
            return 0x4000_0123;
        }
        if is(M::DirectLocked) {
            NdisAcquireSpinLock((*adapter).lock.get());
        }
        if is(M::DirectWrongCompletion) && status == NDIS_STATUS_SUCCESS {
            NdisMOidRequestComplete((*adapter).handle, request, status);
            return NDIS_STATUS_PENDING;
        }
        status
    }

    pub(super) unsafe extern fn cancel_direct_oid(_context: NDIS_HANDLE, _id: PVOID) {}
}

unsafe fn word(at: *const u8) -> u32 {
    at.cast::<u32>().read_unaligned()
}

/// What both kinds of ADD_SA have in common.
struct Request {
    count: u32,
    flags: u32,
    /// IPv4 source and destination.
    endpoints: *const u8,
    udp_esp: u32,
    association: *const u8,
    key: *const u8,
    key_length: usize,
}

/// A key of the request, by the ALGORITHM_INFO that names it.
unsafe fn key<'a>(request: &Request, algorithm: *const u8) -> Option<&'a [u8]> {
    let (length, offset) = (word(algorithm.add(4)) as usize, word(algorithm.add(8)) as usize);
    let slack = if is(M::KeyBoundOff) { 1 } else { 0 };
    let within = offset.checked_add(length)? <= request.key_length + slack;
    within.then(|| std::slice::from_raw_parts(request.key.add(offset), length))
}

/// ESP of a SECURITY_ASSOCIATION, into an SA.
unsafe fn add_esp(request: &Request, association: *const u8, sa: &mut Sa) -> Option<()> {
    let key = key(request, association.add(28))?;
    let right = match word(association.add(28)) {
        8 => 20,
        0x10 => 28,
        0x20 => 36,
        _ if is(M::AnyAlgorithm) => key.len(),
        _ => return None,
    };
    if key.len() != right && !is(M::KeyLengthIgnored) || !(5..=36).contains(&key.len()) {
        return None;
    }
    let authentication = word(association.add(12));
    if authentication != 0 && is(M::AuthenticationNotIgnored) {
        return None;
    }
    sa.esp = true;
    sa.spi = association.add(8).cast::<[u8; 4]>().read();
    sa.key[..key.len()].copy_from_slice(key);
    sa.key_length = key.len();
    sa.extended = word(association) & IPSEC_OFFLOAD_V2_ESN_SA != 0;
    sa.high = word(association.add(44));
    Some(())
}

/// AH of a SECURITY_ASSOCIATION, into an SA: HMAC-SHA-1-96, without extended sequence numbers.
unsafe fn add_ah(request: &Request, association: *const u8, sa: &mut Sa) -> Option<()> {
    let key = key(request, association.add(12))?;
    let sha = word(association.add(12)) == IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1;
    if !sha || word(association) & IPSEC_OFFLOAD_V2_ESN_SA != 0 {
        return None;
    }
    sa.ah = true;
    sa.ah_spi = association.add(8).cast::<[u8; 4]>().read();
    sa.ah_key = key.try_into().ok()?;
    Some(())
}

unsafe fn add(adapter: *mut Adapter, request: &Request) -> Option<usize> {
    let ip6 = request.flags & IPSEC_OFFLOAD_V2_IPv6 != 0 && !is(M::Ip6Accepted);
    let udp_esp = if is(M::UdpEspAccepted) { 0 } else { request.udp_esp };
    if ip6 || udp_esp != 0 {
        return None;
    }
    let mut sa = Sa {
        handle: 0,
        inbound: request.flags & IPSEC_OFFLOAD_V2_INBOUND != 0,
        destination: request.endpoints.add(4).cast::<[u8; 4]>().read(),
        esp: false,
        spi: [0; 4],
        key: [0; 36],
        key_length: 0,
        ah: false,
        ah_spi: [0; 4],
        ah_key: [0; 20],
        extended: false,
        high: 0,
    };
    // ESP, AH, or ESP and then AH.
    let operation = |at: usize| unsafe { word(request.association.add(48 * at + 4)).cast_signed() };
    let second = request.association.add(48);
    match (request.count, operation(0), operation(1)) {
        (2, IPsecOffloadV2Esp, IPsecOffloadV2Ah) => {
            add_esp(request, request.association, &mut sa)?;
            add_ah(request, second, &mut sa)?;
        }
        (1, IPsecOffloadV2Ah, _) => add_ah(request, request.association, &mut sa)?,
        (count, IPsecOffloadV2Esp, _) if count == 1 || is(M::CountIgnored) => {
            add_esp(request, request.association, &mut sa)?;
        }
        _ => return None,
    }
    let guard = lock();
    let on = !sa.esp || (*adapter).config.esp;
    let on = on && (!sa.ah || (*adapter).config.ah);
    if !on && !is(M::OffAddsSas) {
        return None;
    }
    let generation = WIRE.generation.get();
    *generation = (*generation).wrapping_add(1).max(1);
    let usable = if is(M::CapacityShort) { SLOTS - 1 } else { SLOTS };
    let slot = (&mut (*adapter).sas)[..usable].iter_mut().enumerate().find(|(_, sa)| sa.handle == 0);
    let (at, slot) = match slot {
        Some((at, slot)) => (at, slot),
        // One too many: the last slot gets another tenant.
        None if is(M::CapacityOffByOne) => (SLOTS, &mut (*adapter).sas[SLOTS - 1]),
        None => return None,
    };
    (*adapter).adds += 1;
    let number = if is(M::HandleIsSlot) {
        1
    } else if is(M::HandlesOfLife) {
        (*adapter).adds
    } else {
        *generation as usize
    };
    sa.handle = number << 8 | (at + 1);
    *slot = sa;
    if is(M::AddDisturbsOthers) && at > 0 {
        // Not under the lock, and not on its own slot: another SA is wrong for a moment.
        let other = &raw mut (*adapter).sas[0];
        let key = (*other).key[0];
        (*other).key[0] = !key;
        drop(guard);
        for _ in 0..20_000 {
            std::hint::spin_loop();
        }
        (*other).key[0] = key;
    }
    Some(if is(M::HandleZero) { 0 } else { sa.handle })
}

unsafe fn add_ex(adapter: *mut Adapter, buffer: *mut u8, length: usize) -> NDIS_STATUS {
    type Raw = IPSEC_OFFLOAD_V2_ADD_SA_EX;
    let fixed = usize::from(NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1);
    if length < fixed {
        return NDIS_STATUS_INVALID_LENGTH;
    }
    let handle = buffer.add(offset_of!(Raw, OffloadHandle)).cast::<usize>();
    if !is(M::FailedHandleKept) {
        handle.write_unaligned(0);
    }
    let size = buffer.add(2).cast::<u16>().read_unaligned();
    if usize::from(size) < fixed {
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    let key_length = word(buffer.add(offset_of!(Raw, KeyLength))) as usize;
    let key_offset = word(buffer.add(offset_of!(Raw, KeyOffset))) as usize;
    let slack = if is(M::KeyOffsetBoundOff) { 1 } else { 0 };
    if key_offset.checked_add(key_length).is_none_or(|end| end > length + slack) {
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    let request = Request {
        count: word(buffer.add(offset_of!(Raw, NumExtHdrs))),
        flags: word(buffer.add(offset_of!(Raw, Flags))),
        endpoints: buffer.add(offset_of!(Raw, Endpoints)),
        udp_esp: word(buffer.add(offset_of!(Raw, UdpEspEncapsulation))),
        association: buffer.add(offset_of!(Raw, SecAssoc)),
        key: buffer.add(key_offset),
        key_length,
    };
    match add(adapter, &request) {
        Some(number) => {
            handle.write_unaligned(number);
            NDIS_STATUS_SUCCESS
        }
        None => NDIS_STATUS_INVALID_PARAMETER,
    }
}

unsafe fn add_list(adapter: *mut Adapter, buffer: *mut u8, length: usize) -> NDIS_STATUS {
    type Raw = IPSEC_OFFLOAD_V2_ADD_SA;
    let fixed = usize::from(NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1);
    if length < fixed {
        return NDIS_STATUS_INVALID_LENGTH;
    }
    let (mut node, mut any, mut all, mut nodes) = (buffer, false, true, 0);
    while !node.is_null() && nodes < 1000 {
        nodes += 1;
        let handle = node.add(offset_of!(Raw, OffloadHandle)).cast::<usize>();
        handle.write_unaligned(0);
        let size = node.add(2).cast::<u16>().read_unaligned();
        if usize::from(size) < fixed {
            all = false;
            break;
        }
        let key_length = word(node.add(offset_of!(Raw, KeyLength))) as usize;
        let request = Request {
            count: word(node.add(offset_of!(Raw, NumExtHdrs))),
            flags: word(node.add(offset_of!(Raw, Flags))),
            endpoints: node.add(offset_of!(Raw, Endpoints)),
            udp_esp: word(node.add(offset_of!(Raw, UdpEspEncapsulation))),
            association: node.add(offset_of!(Raw, SecAssoc)),
            key: node.add(offset_of!(Raw, KeyData)),
            key_length,
        };
        // The key lies in the node; only the first one's length is known, and the request says no more.
        let added = if key_length <= 1 << 16 && !(node == buffer && key_length > length - 168) {
            add(adapter, &request)
        } else {
            None
        };
        if let Some(number) = added {
            handle.write_unaligned(number);
            any = true;
        } else {
            all = false;
            if is(M::ListFailedHandleSet) {
                handle.write_unaligned(0x10);
            }
            if is(M::ListStopsAtBad) {
                break;
            }
        }
        node = node.add(offset_of!(Raw, Next)).cast::<*mut u8>().read_unaligned();
        if node == buffer {
            break;
        }
    }
    let good = if is(M::ListAllOrNothing) { all } else { any || is(M::ListAlwaysSucceeds) };
    if good { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_FAILURE }
}

unsafe fn delete(adapter: *mut Adapter, buffer: *mut u8, length: usize) -> NDIS_STATUS {
    type Raw = IPSEC_OFFLOAD_V2_DELETE_SA;
    let fixed = usize::from(NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1);
    if length < fixed {
        return NDIS_STATUS_INVALID_LENGTH;
    }
    let (mut node, mut nodes) = (buffer, 0);
    while !node.is_null() && (nodes < 1000 || is(M::DeleteUnbounded)) {
        nodes += 1;
        let size = node.add(2).cast::<u16>().read_unaligned();
        if usize::from(size) < fixed {
            return NDIS_STATUS_INVALID_PARAMETER;
        }
        let handle = node.add(offset_of!(Raw, OffloadHandle)).cast::<usize>().read_unaligned();
        {
            let _guard = lock();
            if is(M::DeletePairs) && (*adapter).sas.iter().any(|sa| sa.handle == handle && sa.inbound) {
                // All that this peer has.
                for slot in &mut (*adapter).sas {
                    slot.handle = 0;
                }
            }
            for slot in &mut (*adapter).sas {
                let slot_only = is(M::DeleteBySlot) && handle != 0 && slot.handle & 0xff == handle & 0xff;
                if handle != 0 && (slot.handle == handle || slot_only) {
                    slot.handle = 0;
                    if !is(M::KeysNotWiped) {
                        slot.key = [0; 36];
                        slot.ah_key = [0; 20];
                    }
                }
            }
        }
        if is(M::DeleteFirstOnly) {
            break;
        }
        node = node.add(offset_of!(Raw, Next)).cast::<*mut u8>().read_unaligned();
    }
    NDIS_STATUS_SUCCESS
}

/// The high half of one SA's sequence number.
unsafe fn update(adapter: *mut Adapter, buffer: *mut u8, length: usize) -> NDIS_STATUS {
    type Raw = IPSEC_OFFLOAD_V2_UPDATE_SA;
    if length < usize::from(NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1) {
        return NDIS_STATUS_INVALID_LENGTH;
    }
    if is(M::UpdateSucceeds) {
        return NDIS_STATUS_SUCCESS;
    }
    let handle = buffer.add(offset_of!(Raw, OffloadHandle)).cast::<usize>().read_unaligned();
    let operation = word(buffer.add(offset_of!(Raw, Operation))).cast_signed();
    let spi = buffer.add(offset_of!(Raw, Spi)).cast::<[u8; 4]>().read();
    let high = word(buffer.add(offset_of!(Raw, SequenceNumberHighOrder)));
    let _guard = lock();
    let found = (*adapter).sas.iter_mut().find(|sa| {
        handle != 0
            && sa.handle == handle
            && (sa.spi == spi || is(M::UpdateAnySpi))
            && operation == IPsecOffloadV2Esp
    });
    match found {
        Some(sa) if sa.extended => {
            if !is(M::UpdateIgnored) {
                sa.high = high;
            }
            NDIS_STATUS_SUCCESS
        }
        _ => NDIS_STATUS_INVALID_PARAMETER,
    }
}
