//! Receive: frames that have arrived to NBLs, and returned buffers to the NIC
//! (`nf-ndis-ndismindicatereceivenetbufferlists`).

use ndis::{
    CryptoStatus, IpsecReceive, IpsecReceiveHeader, Irql, ReceiveBatch, ReceiveBuffer, ReceiveFlags,
    ReceiveOob, ReturnedChain, processor,
};

use super::{buffers::Buffer, vlan};
use crate::{
    adapter::{Adapter, gate::Traffic, settings::RECEIVE_BUFFERS},
    nic::{Crypto, port::FrameBuffer},
};

/// The adapter's DPC: takes what has arrived, in order, and indicates it.
///
/// A frame that cannot be indicated now (paused, asleep) is a discard, and its buffer goes back to the NIC.
///
/// Once it has done as many frames as the NIC has buffers, it leaves the rest to another DPC: as long as others send, frames may
/// go on arriving, and a DPC must not keep its processor (`guidelines-for-writing-dpc-routines`).
pub(crate) fn poll(adapter: &Adapter, irql: Irql<'_>) {
    let port = adapter.nic.port();
    // A reset waits for the frames in hand.
    let _pass = adapter.pass(Traffic::Packets);
    let mut done = 0;
    while let Some(mut arrived) = port.poll() {
        let mut receiver = adapter.nic.receiver(processor::current());
        let mut batch = ReceiveBatch::new();
        let open = adapter.packets().is_ok();
        done += arrived.len();
        for frame in arrived.drain(..) {
            let (mut buffer, len) = (frame.buffer, frame.len);
            let bytes = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
            if !open {
                receiver.count_discard();
                repost(adapter, buffer.0);
                continue;
            }
            // The engine sees the frame as a NIC does, without the tag; the sums count it as it came.
            let (tag, len) = vlan::strip(bytes);
            if len > adapter.settings.max_frame as usize {
                // From a station with longer frames; the room behind it is for a tag.
                receiver.count_error();
                repost(adapter, buffer.0);
                continue;
            }
            let crypto = receiver.receive(&mut bytes[..len]);
            let oob = ReceiveOob { vlan: tag, ..describe(crypto) };
            if let Err(buffer) = batch.push(buffer.0, len, &oob) {
                repost(adapter, buffer);
            }
        }
        port.finish(arrived);
        let progress = receiver.finish();
        adapter.pending_deletes.complete(&adapter.nic.slots, progress);
        if let Err(mut refused) = adapter.handle.indicate_receive(batch, ReceiveFlags::NONE, irql) {
            while let Some(buffer) = refused.pop_front() {
                repost(adapter, buffer);
            }
        }
        if done >= RECEIVE_BUFFERS as usize {
            return port.poll_later();
        }
    }
}

/// Buffers that the drivers above are done with.
pub(crate) fn return_buffers(adapter: &Adapter, chain: ReturnedChain) {
    for buffer in chain {
        repost(adapter, buffer);
    }
}

fn repost(adapter: &Adapter, buffer: ReceiveBuffer) {
    // The port has room for every buffer of the adapter; one too many would simply be freed.
    drop(adapter.nic.port().post(Buffer::new(buffer)));
}

/// What the NIC found, in NDIS's words (`receiving-network-data-with-ipsec-offload-version-2`).
fn describe(crypto: Crypto) -> ReceiveOob {
    let done = |crypto_status| IpsecReceive { crypto_done: true, crypto_status, ..IpsecReceive::default() };
    match crypto {
        Crypto::NotDone => ReceiveOob::default(),
        Crypto::DeletionWanted => ReceiveOob {
            ipsec: Some(IpsecReceive { sa_delete_req: true, ..IpsecReceive::default() }),
            ..ReceiveOob::default()
        },
        Crypto::Verified(trailer) => ReceiveOob {
            ipsec: Some(done(CryptoStatus::Success)),
            ipsec_header: Some(IpsecReceiveHeader {
                next_header: trailer.next_header,
                pad_length: trailer.pad_len,
            }),
            ..ReceiveOob::default()
        },
        Crypto::Failed(error) => ReceiveOob {
            ipsec: Some(done(match error {
                ipsec::esp::OpenError::AuthenticationFailed => CryptoStatus::TransportEspAuthFailed,
                ipsec::esp::OpenError::InvalidPacketSyntax(_) => CryptoStatus::InvalidPacketSyntax,
            })),
            ..ReceiveOob::default()
        },
    }
}
