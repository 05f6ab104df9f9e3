//! SAs come and go: the direct OIDs, their bounds, and what is left of a key.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA_EX, NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_PARAMETER, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
};

use crate::adapter::HaltAction;
use crate::adapter::oid::Oid;
use crate::conformance::context::Context;
use crate::conformance::facts::GCM;
use crate::conformance::{Outcome, check, status_text};
use crate::ipsec_v2::{self, AddSaList, Association, DeleteSaList, Operation, SaParameters, update_sa};
use crate::transport::{Algorithm, Direction};

use super::{A, B, SPI, add, delete, delete_all, impossible, offered, parameters, transport_sa};

pub(super) fn add_sa_list(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let good = |spi: u32| transport_sa(algorithm, spi).parameters(Direction::Outbound);
    let (outcome, handles) = adapter.add_sa_list(&[good(0x101), impossible(), good(0x102)])?;
    let given: Vec<_> = handles.iter().map(Option::is_some).collect();
    check!(
        outcome.is_success(),
        "a list with two good SAs and a bad one ends with {}",
        status_text(outcome.status)
    );
    check!(given == [true, false, true], "good, bad and good SA: which have a handle: {given:?}");
    check!(handles[0] != handles[2], "two SAs have one handle");
    delete_all(&adapter, &handles)?;
    let (outcome, handles) = adapter.add_sa_list(&[good(0x103)])?;
    check!(outcome.is_success(), "a list of one good SA ends with {}", status_text(outcome.status));
    delete_all(&adapter, &handles)?;
    let (outcome, handles) = adapter.add_sa_list(&[impossible(), impossible()])?;
    check!(!outcome.is_success(), "a list of bad SAs succeeds");
    check!(handles.iter().all(Option::is_none), "a list of bad SAs fails and gives a handle");
    // A node that claims to be something else, and a list that never ends.
    let header = ndis_sys::NDIS_OBJECT_HEADER { Type: 0x80, Revision: 1, Size: 12 };
    let list = AddSaList::new(&[good(0x104), good(0x105)])?.with_header(1, header);
    adapter.oid(list.request())?;
    delete_all(&adapter, &list.handles())?;
    let list = AddSaList::new(&[good(0x106), good(0x107)])?.with_link(1, 0);
    adapter.oid(list.request())?;
    delete_all(&adapter, &list.handles())
}

/// Writes a word into a structure.
fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn add_sa_ex_malformed(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let good = transport_sa(algorithm, 0x201).parameters(Direction::Outbound).add_sa_ex();
    let handle_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
    let length_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength);
    let offset_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset);
    let count_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, NumExtHdrs);
    // IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION: the encryption algorithm lies at 28, in it the length of
    // its key at 4 and the key's place in the blob at 8.
    let encryption = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc) + 28;
    let total = u32::try_from(good.len()).unwrap_or(0);
    let wrong: [(&str, usize, u32); 12] = [
        ("NumExtHdrs 0", count_at, 0),
        ("NumExtHdrs 3", count_at, 3),
        ("NumExtHdrs of 32 bits", count_at, u32::MAX),
        ("KeyOffset at the end", offset_at, total),
        ("KeyOffset far behind the end", offset_at, u32::MAX - 3),
        (
            "KeyOffset one too far",
            offset_at,
            u32::from_le_bytes([good[offset_at], good[offset_at + 1], 0, 0]) + 1,
        ),
        ("KeyLength one too long", length_at, u32::try_from(algorithm.key_length()).unwrap_or(0) + 1),
        ("KeyLength of 32 bits", length_at, u32::MAX),
        ("an algorithm's key behind the blob", encryption + 8, 1),
        ("an algorithm's key far behind the blob", encryption + 8, u32::MAX - 7),
        ("an algorithm's key of 32 bits", encryption + 4, u32::MAX),
        ("no encryption identifier", encryption, 0),
    ];
    for (what, at, value) in wrong {
        let mut bytes = good.clone();
        put(&mut bytes, at, value);
        // What lay there before does not count as a handle.
        bytes[handle_at..handle_at + 8].fill(0x5a);
        let request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, bytes).direct();
        let outcome = adapter.oid(request)?;
        check!(!outcome.is_success(), "ADD_SA_EX with {what} succeeds");
        let handle = ipsec_v2::handle_of_add_sa_ex(&outcome.buffer);
        check!(
            handle.is_none(),
            "ADD_SA_EX with {what} ends with {} and OffloadHandle {:#x} instead of NULL",
            status_text(outcome.status),
            handle.unwrap_or_default()
        );
    }
    for length in 0..good.len() {
        let request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, good[..length].to_vec()).direct();
        let outcome = adapter.oid(request.misaligned(length))?;
        check!(!outcome.is_success(), "{length} of {} bytes of an ADD_SA_EX succeed", good.len());
    }
    let mut header = good.clone();
    header[2..4].copy_from_slice(&100_u16.to_le_bytes());
    let outcome = adapter.oid(Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, header).direct())?;
    check!(!outcome.is_success(), "ADD_SA_EX with Header.Size 100 succeeds");
    // None of them was kept: the same SA can still be added.
    let handle = add(&adapter, &transport_sa(algorithm, 0x201).parameters(Direction::Outbound))?;
    delete(&adapter, &[handle])
}

pub(super) fn algorithms(context: &Context) -> Outcome {
    let Some(ipsec) = context.facts()?.hardware().map(|hardware| hardware.IPsecV2) else { return Ok(()) };
    let adapter = context.running()?;
    let mut spi = 0x300;
    let attempt = |association: Association| -> Outcome<bool> {
        let (outcome, handle) = adapter.add_sa_ex(&parameters(false, association))?;
        check!(
            outcome.is_success() == handle.is_some(),
            "ADD_SA_EX ends with {}, and the handle is {handle:x?}",
            status_text(outcome.status)
        );
        if let Some(handle) = handle {
            delete(&adapter, &[handle])?;
        }
        Ok(handle.is_some())
    };
    let esp = |spi: u32, id: u32, length: usize| Association {
        operation: Operation::Esp,
        spi,
        esn: None,
        authentication: None,
        encryption: Some(ipsec_v2::Algorithm { id, key: vec![0x31; length], additional_info: 16 }),
    };
    for bit in 0..32 {
        let id = 1_u32 << bit;
        for length in [0, 1, 8, 16, 19, 20, 21, 24, 28, 32, 35, 36, 37, 64] {
            spi += 1;
            let taken = attempt(esp(spi, id, length))?;
            let right = Algorithm::ALL.iter().find(|a| a.identifier() == id).map(|a| a.key_length());
            let advertised = ipsec.EncryptionAlgorithms & id != 0;
            // AES-GCM needs no authentication; any other algorithm alone is encryption without it.
            let good = advertised && right == Some(length);
            check!(
                taken || !good,
                "ESP with encryption {id:#x} and a key of {length} bytes is advertised and refused"
            );
            let without_salt = right.is_some_and(|right| length + 4 == right);
            check!(
                !taken || good || without_salt,
                "ESP with encryption {id:#x} and a key of {length} bytes and no authentication is taken"
            );
            if taken && good {
                // For AES-GCM whatever authentication says is to be ignored.
                spi += 1;
                let mut both = esp(spi, id, length);
                both.authentication =
                    Some(ipsec_v2::Algorithm { id: 0xdead, key: Vec::new(), additional_info: 99 });
                check!(attempt(both)?, "with AES-GCM an authentication algorithm is not ignored");
            }
        }
    }
    for bits in [0, GCM | 1, 3, u32::MAX] {
        spi += 1;
        check!(!attempt(esp(spi, bits, 20))?, "ESP with encryption identifier {bits:#x} is taken");
    }
    if ipsec.Ah == 0 {
        let mut ah = esp(0x9000, GCM & 8, 20);
        ah.operation = Operation::Ah;
        check!(!attempt(ah)?, "an AH SA is taken, and AH is not advertised");
    }
    let id = GCM & ipsec.EncryptionAlgorithms & (GCM & ipsec.EncryptionAlgorithms).wrapping_neg();
    let key = Algorithm::ALL.iter().find(|a| a.identifier() == id).map_or(20, |a| a.key_length());
    let refused = |sa: &SaParameters, what: &str| -> Outcome {
        let (outcome, handle) = adapter.add_sa_ex(sa)?;
        check!(
            !outcome.is_success() && handle.is_none(),
            "{what} SA is taken, and {what} is not advertised: {}",
            status_text(outcome.status)
        );
        Ok(())
    };
    if ipsec.IPv6Supported == 0 {
        let (source, destination) = (A.to_ipv6_mapped().into(), B.to_ipv6_mapped().into());
        refused(&SaParameters::new(false, source, destination, esp(0x9002, id, key)), "an IPv6")?;
    }
    if ipsec.UdpEsp == 0 {
        let mut sa = parameters(false, esp(0x9003, id, key));
        // UDP encapsulation of transport ESP (RFC 3948).
        sa.udp_esp = 1;
        refused(&sa, "a UDP-ESP")?;
    }
    if ipsec.AhEspCombined == 0 {
        let mut sa = parameters(false, esp(0x9004, id, key));
        let ah = Association { operation: Operation::Ah, ..esp(0x9005, id, key) };
        sa.associations.push(ah);
        refused(&sa, "an AH+ESP")?;
    }
    if ipsec.ExtendedSequenceNumbers == 0 {
        let id = GCM & ipsec.EncryptionAlgorithms & (GCM & ipsec.EncryptionAlgorithms).wrapping_neg();
        let length = Algorithm::ALL.iter().find(|a| a.identifier() == id).map_or(20, |a| a.key_length());
        let mut esn = esp(0x9001, id, length);
        esn.esn = Some(1);
        check!(!attempt(esn)?, "an ESN SA is taken, and ExtendedSequenceNumbers is not advertised");
    }
    Ok(())
}

pub(super) fn capacity(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let capacity = context.facts()?.hardware().map_or(0, |hardware| hardware.IPsecV2.SaOffloadCapacity);
    let sa = |number: u32| transport_sa(algorithm, 0x1_0000 + number).parameters(Direction::Outbound);
    let mut handles = Vec::new();
    for number in 0..=capacity {
        let (outcome, handle) = adapter.add_sa_ex(&sa(number))?;
        let Some(handle) = handle else {
            check!(!outcome.is_success(), "ADD_SA_EX succeeds with a NULL handle");
            break;
        };
        handles.push(handle);
    }
    let taken = u32::try_from(handles.len()).unwrap_or(u32::MAX);
    check!(taken <= capacity, "{taken} SAs are taken, and SaOffloadCapacity is {capacity}");
    check!(
        taken == capacity,
        "{taken} SAs are taken, and SaOffloadCapacity is {capacity}: the next one is refused"
    );
    let mut sorted = handles.clone();
    sorted.sort_unstable();
    check!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "two SAs have one handle");
    let last = handles.len() - 1;
    for (at, round) in [0, last / 2, last, 0, 0, 0].into_iter().zip(1..) {
        let old = handles[at];
        delete(&adapter, &[old])?;
        handles[at] = add(&adapter, &sa(capacity + round))?;
        check!(handles[at] != old, "the handle of a deleted SA names the next one");
        let (outcome, more) = adapter.add_sa_ex(&sa(capacity + 100 + round))?;
        check!(more.is_none(), "one more than SaOffloadCapacity is taken: {}", status_text(outcome.status));
        // A list that deletes twice makes room once.
        adapter.delete_sas(&[old])?;
        let (_, more) = adapter.add_sa_ex(&sa(capacity + 200 + round))?;
        check!(more.is_none(), "deleting a deleted SA again makes room");
    }
    delete(&adapter, &handles)?;
    // All of the list: there is room for as many again.
    let again = (0..capacity.min(64)).map(|number| add(&adapter, &sa(capacity + 1000 + number)));
    let again = again.collect::<Outcome<Vec<_>>>()?;
    delete(&adapter, &again)
}

pub(super) fn delete_sa(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let sa = |spi: u32| transport_sa(algorithm, spi).parameters(Direction::Outbound);
    let handles = (0..4).map(|spi| add(&adapter, &sa(0x400 + spi))).collect::<Outcome<Vec<_>>>()?;
    // Nothing that names no SA may be followed.
    for unknown in [0, 1, usize::MAX, 0x1000, handles[0] ^ 1, handles[0].wrapping_add(1 << 32)] {
        if !handles.contains(&unknown) {
            adapter.delete_sas(&[unknown])?;
        }
    }
    delete(&adapter, &handles[..1])?;
    adapter.delete_sas(&[handles[1], handles[1], handles[0], handles[1]])?;
    let header = ndis_sys::NDIS_OBJECT_HEADER { Type: 0x80, Revision: 1, Size: 8 };
    adapter.oid(DeleteSaList::new(&handles[2..])?.with_header(1, header).request())?;
    for request in [
        DeleteSaList::new(&handles[2..])?.with_link(1, 0).request(),
        DeleteSaList::new(&handles[2..])?.with_link(0, 0).request(),
        DeleteSaList::new(&handles[2..])?.with_link(1, 1).request().at_dispatch(),
    ] {
        adapter.oid(request)?;
    }
    for length in [0, 4, 8, 23] {
        let oid = ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA;
        let outcome = adapter.oid(Oid::set(oid, vec![0; length]).direct())?;
        check!(!outcome.is_success(), "a DELETE_SA of {length} bytes succeeds");
    }
    adapter.delete_sas(&handles)?;
    let handle = add(&adapter, &sa(0x410))?;
    check!(!handles.contains(&handle), "the handle of a deleted SA is used again");
    delete(&adapter, &[handle])
}

pub(super) fn lengths(context: &Context) -> Outcome {
    let adapter = context.running()?;
    for (oid, name, fixed, size) in [
        (
            ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA,
            "ADD_SA",
            ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
            size_of::<ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA>(),
        ),
        (
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
            "ADD_SA_EX",
            ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
            size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>(),
        ),
        (
            ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA,
            "DELETE_SA",
            ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
            size_of::<ndis_sys::IPSEC_OFFLOAD_V2_DELETE_SA>(),
        ),
        (
            ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA,
            "UPDATE_SA",
            ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1,
            size_of::<ndis_sys::IPSEC_OFFLOAD_V2_UPDATE_SA>(),
        ),
    ] {
        for length in 0..usize::from(fixed) {
            let mut bytes = vec![0; size];
            bytes[..2].copy_from_slice(&[ndis_sys::NDIS_OBJECT_TYPE_DEFAULT, 1]);
            bytes[2..4].copy_from_slice(&fixed.to_ne_bytes());
            bytes.truncate(length);
            let outcome = adapter.oid(Oid::set(oid, bytes).direct())?;
            check!(
                [NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_BUFFER_TOO_SHORT].contains(&outcome.status),
                "{name} in {length} bytes ends with {}",
                status_text(outcome.status)
            );
            let needed = outcome.bytes_needed as usize;
            check!(
                (usize::from(fixed)..=size).contains(&needed),
                "{name} in {length} bytes: BytesNeeded is {needed}, and the structure has {fixed}"
            );
        }
    }
    Ok(())
}

pub(super) fn update_missing(context: &Context) -> Outcome {
    let adapter = context.running()?;
    for handle in [0, 1, usize::MAX] {
        for operation in [Operation::Esp, Operation::Ah] {
            let outcome = adapter.oid(update_sa(handle, operation, SPI, 1))?;
            check!(
                outcome.status == NDIS_STATUS_INVALID_PARAMETER,
                "UPDATE_SA of handle {handle:#x} ends with {}",
                status_text(outcome.status)
            );
        }
    }
    Ok(())
}

pub(super) fn keys_are_wiped(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let sas: Vec<_> = (0..6).map(|spi| transport_sa(algorithm, 0x700 + spi)).collect();
    let needles: Vec<Vec<u8>> = sas.iter().map(|sa| sa.key.bytes()[..16].to_vec()).collect();
    let found = Arc::new(AtomicUsize::new(0));
    let count = found.clone();
    context.lab.on_pool_free(move |_, bytes| {
        let holds = needles.iter().any(|key| bytes.windows(key.len()).any(|window| window == key));
        // Relaxed: read after all is quiet.
        count.fetch_add(usize::from(holds), Ordering::Relaxed);
    });
    let none = |when: &str| -> Outcome {
        let found = found.load(Ordering::Relaxed);
        check!(found == 0, "{found} blocks of memory were freed with a key in them, {when}");
        Ok(())
    };
    let adapter = context.driver()?.add_adapter(context.config())?;
    let first = add(&adapter, &sas[0].parameters(Direction::Outbound))?;
    delete(&adapter, &[first])?;
    let (_, handles) = adapter.add_sa_list(&[
        sas[1].parameters(Direction::Inbound),
        sas[2].parameters(Direction::Outbound),
        impossible(),
    ])?;
    delete_all(&adapter, &handles)?;
    std::thread::sleep(Duration::from_millis(1));
    none("after DELETE_SA")?;
    // Each allocation of an ADD_SA_EX fails once.
    for skip in 0..16 {
        let before = context.lab.fault_points();
        context.lab.fail_after(skip);
        let (_, handle) = adapter.add_sa_ex(&sas[3].parameters(Direction::Outbound))?;
        context.lab.clear_faults();
        delete_all(&adapter, &[handle])?;
        if context.lab.fault_points() - before <= skip {
            break;
        }
    }
    none("after an ADD_SA_EX that found no memory")?;
    add(&adapter, &sas[4].parameters(Direction::Inbound))?;
    add(&adapter, &sas[5].parameters(Direction::Outbound))?;
    adapter.restart()?;
    adapter.pause()?;
    adapter.halt(HaltAction::DeviceDisabled)?;
    none("after halt with SAs")
}
