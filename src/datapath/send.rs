//! Send: NBLs to frames (`nc-ndis-miniport_send_net_buffer_lists`).
//!
//! A chain is done within the call: every frame is on the wire, or its NBL has failed, before the chain is completed, in
//! order and in one call. Only a wedged device keeps sends (`held`). Sender memory is only read.

use ndis::{CompletedChain, IpsecSendHeader, NetBuffer, SendChain, SendContext, SendNbl, Status, processor};

use super::{
    buffers::{Buffer, Line},
    vlan,
};
use crate::{
    adapter::{Adapter, gate::Traffic},
    nic::{Protection, Transmitter, engine::SendHeader, frame},
};

/// Sends a chain.
pub(crate) fn send(adapter: &Adapter, mut chain: SendChain, context: SendContext<'_>) {
    // Dropped last: a reset that waits for it finds all sends completed.
    let pass = adapter.pass(Traffic::Packets);
    if let Err(status) = pass.bars.packets() {
        return chain.complete(status, context.irql);
    }
    let processor = processor::current();
    let Some(mut memory) = adapter.transmit_buffers.take(processor) else {
        return chain.complete(Status::RESOURCES, context.irql);
    };
    let mut transmitter = adapter.nic.transmitter(processor);
    let mut completed = CompletedChain::new();
    let mut stuck = SendChain::new();
    while let Some(nbl) = chain.pop_front() {
        let mut unsent = nbl.buffers().count();
        match send_nbl(adapter, &nbl, &mut memory, &mut transmitter, &mut unsent) {
            Ok(Taken::Sent) => completed.push(nbl, Status::SUCCESS),
            Ok(Taken::Stuck) => {
                // This one and all behind it. Both are this adapter's, so neither call can fail.
                drop(stuck.push_back(nbl));
                drop(stuck.append(core::mem::take(&mut chain)));
            }
            Err(status) => {
                transmitter.count_errors(unsent);
                completed.push(nbl, status);
            }
        }
    }
    let progress = transmitter.finish();
    drop(memory);
    adapter.pending_deletes.complete(&adapter.nic.slots, progress);
    completed.complete(context.irql);
    if !stuck.is_empty() {
        adapter.held_sends.hold(stuck);
        adapter.fail_held();
    }
}

/// What became of an NBL that nothing was wrong with.
enum Taken {
    /// Its frames are on the wire.
    Sent,
    /// The device has wedged over it.
    Stuck,
}

/// Sends the frames of one NBL, up to the first that fails, and takes those that went out off `unsent`.
fn send_nbl(
    adapter: &Adapter,
    nbl: &SendNbl,
    memory: &mut [u8],
    transmitter: &mut Transmitter<'_, Buffer, Line>,
    unsent: &mut usize,
) -> Result<Taken, Status> {
    let checksum = nbl.checksum();
    if nbl.large_send().is_some() || checksum.ip || checksum.tcp || checksum.udp {
        // Not offered. Sending the packet as it is would put a wrong one on the wire.
        return Err(Status::FAILURE);
    }
    let ipsec = nbl.ipsec();
    if ipsec.tunnel != 0 {
        return Err(Status::FAILURE);
    }
    let protection =
        (ipsec.transport != 0).then(|| Protection { sa: ipsec.transport, header: send_header(ipsec.header) });
    for buffer in nbl.buffers() {
        let mut len = assemble(adapter, buffer, memory)?;
        if !transmitter.admit() {
            return Ok(Taken::Stuck);
        }
        if let Some(protection) = protection {
            // An unknown handle, IPsec switched off, a packet that the SA does not cover: fail, whatever the reason; never
            // send it in clear.
            transmitter.protect(&mut memory[..len], protection).map_err(|_| Status::FAILURE)?;
        }
        if let Some(tag) = nbl.vlan() {
            len += vlan::TAG_LEN;
            vlan::insert(memory.get_mut(..len).ok_or(Status::INVALID_LENGTH)?, tag);
        }
        transmitter.transmit(&memory[..len]);
        *unsent -= 1;
    }
    Ok(Taken::Sent)
}

fn send_header(header: IpsecSendHeader) -> SendHeader {
    SendHeader {
        trailer: ipsec::esp::Trailer { pad_len: header.pad_length, next_header: header.next_header },
        esp_offset: header.esp_offset.into(),
    }
}

/// Copies a frame out of its MDLs to the start of `memory`, pads it to the minimum with zeros, and says how long it is.
fn assemble(adapter: &Adapter, buffer: NetBuffer<'_>, memory: &mut [u8]) -> Result<usize, Status> {
    let len = buffer.len();
    let padded = len.max(frame::MIN_LEN);
    if len < frame::HEADER_LEN || padded > memory.len() {
        return Err(Status::INVALID_LENGTH);
    }
    let (data, rest) = memory.split_at_mut(len);
    buffer.copy_to(data)?;
    // A tag that is in the frame already does not count (`sending-ethernet-frames`).
    let tag = if vlan::is_tagged(data) { vlan::TAG_LEN } else { 0 };
    if len > adapter.settings.max_frame as usize + tag {
        return Err(Status::INVALID_LENGTH);
    }
    rest[..padded - len].fill(0);
    Ok(padded)
}
