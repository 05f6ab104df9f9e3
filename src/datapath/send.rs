//! Send: NBLs to frames (`nc-ndis-miniport_send_net_buffer_lists`).
//!
//! A chain is done within the call: every frame is on the wire, or its NBL has failed, before the chain is completed, in
//! order and in one call. Sender memory is only read.

use ndis::{CompletedChain, IpsecSendHeader, NetBuffer, SendChain, SendContext, SendNbl, Status, processor};

use super::{
    buffers::{Buffer, Line},
    vlan,
};
use crate::{
    adapter::Adapter,
    nic::{Protection, Transmitter, engine::SendHeader, frame},
};

/// Sends a chain.
pub(crate) fn send(adapter: &Adapter, mut chain: SendChain, context: SendContext<'_>) {
    if let Err(status) = adapter.bars.check() {
        return chain.complete(status, context.irql);
    }
    let Some(mut memory) = adapter.transmit_buffers.take() else {
        return chain.complete(Status::RESOURCES, context.irql);
    };
    let mut transmitter = adapter.nic.transmitter(processor::current());
    let mut completed = CompletedChain::new();
    while let Some(nbl) = chain.pop_front() {
        let status = match send_nbl(adapter, &nbl, &mut memory, &mut transmitter) {
            Ok(()) => Status::SUCCESS,
            Err(status) => {
                transmitter.count_error();
                status
            }
        };
        completed.push(nbl, status);
    }
    let progress = transmitter.finish();
    adapter.transmit_buffers.give(memory);
    adapter.pending_deletes.complete(&adapter.nic.slots, progress);
    completed.complete(context.irql);
}

/// Sends the frames of one NBL, up to the first that fails.
fn send_nbl(
    adapter: &Adapter,
    nbl: &SendNbl,
    memory: &mut [u8],
    transmitter: &mut Transmitter<'_, Buffer, Line>,
) -> Result<(), Status> {
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
        let mut len = assemble(adapter, &buffer, memory)?;
        if let Some(protection) = protection {
            // An unknown handle or a packet that the SA does not cover: fail, whatever the reason; never send it in clear.
            transmitter.protect(&mut memory[..len], protection).map_err(|_| Status::FAILURE)?;
        }
        if let Some(tag) = nbl.vlan() {
            len += vlan::TAG_LEN;
            vlan::insert(&mut memory[..len], tag);
        }
        transmitter.transmit(&memory[..len]);
    }
    Ok(())
}

fn send_header(header: IpsecSendHeader) -> SendHeader {
    SendHeader {
        trailer: ipsec::esp::Trailer { pad_len: header.pad_length, next_header: header.next_header },
        esp_offset: header.esp_offset.into(),
    }
}

/// Copies a frame out of its MDLs to the start of `memory`, pads it to the minimum with zeros, and says how long it is.
/// There is room for a tag behind it.
fn assemble(adapter: &Adapter, buffer: &NetBuffer<'_>, memory: &mut [u8]) -> Result<usize, Status> {
    let len = buffer.len();
    if !(frame::HEADER_LEN..=adapter.settings.max_frame as usize).contains(&len) {
        return Err(Status::INVALID_LENGTH);
    }
    let padded = len.max(frame::MIN_LEN);
    if memory.len() < padded + vlan::TAG_LEN {
        return Err(Status::INVALID_LENGTH);
    }
    let (data, rest) = memory.split_at_mut(len);
    buffer.copy_to(data)?;
    rest[..padded - len].fill(0);
    Ok(padded)
}
