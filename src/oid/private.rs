//! The driver's own OIDs (`docs/oids.md`): the SA table, and the order to wedge the device.

use ipsec::algorithm::Algorithm;
use ndis::{OidCompletion, OidRequest, Regular, SetError, Status, processor};
use ndis_sys as sys;

use crate::{
    adapter::Adapter,
    dump::{self, ENTRY_LEN, Entry, SUMMARY_LEN, Summary, WEDGE_LEN},
    kernel::{OutOfMemory, PoolVec, empty_vec},
    nic::{
        ReceiveIpsec,
        sa::{Direction, Sa},
        slots::Handle,
    },
};

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

/// IP protocol 50.
const PROTOCOL_ESP: u8 = 50;

/// Answers with the whole table. A buffer too short for what there is gets nothing but the length it needs; that may have
/// grown by the next request.
pub(super) fn sa_table<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    let needed = SUMMARY_LEN + adapter.nic.slots.stats().occupancy as usize * ENTRY_LEN;
    if request.output_len() < needed {
        return request.fail_needed(Status::BUFFER_TOO_SHORT, needed);
    }
    match collect(adapter) {
        Ok(table) => request.answer_bytes(&table),
        Err(OutOfMemory) => request.fail(Status::RESOURCES),
    }
}

/// The dump. Memory first: while a batch of look-ups lasts, nothing that is deleted is freed.
fn collect(adapter: &Adapter) -> Result<PoolVec<u8>, OutOfMemory> {
    let (slots, device) = (&adapter.nic.slots, adapter.nic.device());
    let room = slots.stats().occupancy as usize;
    let mut table = empty_vec();
    table.try_reserve_exact(SUMMARY_LEN + room * ENTRY_LEN).map_err(|_| OutOfMemory)?;
    table.extend_from_slice(&[0; SUMMARY_LEN]);
    let incarnation = device.incarnation();
    let mut entries = 0;
    let reader = slots.enter(processor::current());
    for (handle, sa) in reader.iter().take(room) {
        table.extend_from_slice(&entry(handle, sa, incarnation).to_bytes());
        entries += 1;
    }
    let progress = reader.leave();
    adapter.pending_deletes.complete(slots, progress);
    let (stats, switches) = (slots.stats(), adapter.nic.switches());
    let summary = Summary {
        entries,
        capacity: stats.capacity,
        added: stats.inserted,
        deleted: stats.retired,
        refused: stats.refused,
        skipped: adapter.pending_deletes.skipped(),
        waiting: stats.pending,
        resets: device.resets(),
        wedged: device.is_wedged(),
        transmits: switches.transmit,
        receives: switches.receive == ReceiveIpsec::On,
        asks_to_delete: switches.receive == ReceiveIpsec::AskToDelete,
    };
    if let Some(room) = table.first_chunk_mut() {
        *room = summary.to_bytes();
    }
    Ok(table)
}

fn entry(handle: Handle, sa: &Sa, incarnation: u32) -> Entry {
    let counters = sa.counters();
    Entry {
        handle: handle.into_raw() as u64,
        generation: handle.generation() as u64,
        slot: handle.index(),
        inbound: sa.direction() == Direction::Inbound,
        loaded: sa.is_loaded(incarnation),
        spi: sa.spi(),
        protocol: PROTOCOL_ESP,
        encryption: match sa.algorithm() {
            Algorithm::AesGcm128 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128,
            Algorithm::AesGcm192 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
            Algorithm::AesGcm256 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
        },
        authentication: 0,
        sequence_high: sa.esn().map(crate::nic::esn::Esn::high),
        source: sa.source().into(),
        destination: sa.destination().into(),
        packets: counters.packets,
        octets: counters.octets,
        errors: counters.failures,
    }
}

/// Wedges the device, if the adapter is set up for that.
pub(super) fn wedge<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    if !adapter.settings.fault_injection {
        return request.fail(Status::NOT_SUPPORTED);
    }
    request.set_bytes(|input| {
        let frames = dump::read_wedge_order(input).map_err(|error| match error {
            dump::DumpError::Truncated => SetError { status: Status::INVALID_LENGTH, needed: WEDGE_LEN },
            dump::DumpError::Header => Status::INVALID_DATA.into(),
        })?;
        adapter.nic.device().wedge_after(frames);
        adapter.listen();
        Ok(WEDGE_LEN)
    })
}
