//! Frame memory, and the NIC's view of NDIS's things: its receive buffers and its interrupt.

use ndis::{Handle, ReceiveBuffer};

use super::vlan;
use crate::{
    adapter::settings::Settings,
    kernel::{OutOfMemory, PoolVec, SpinLock, empty_vec},
    nic::port::{FrameBuffer, Interrupt},
};

/// A receive buffer of NDIS, as the NIC is lent it.
pub struct Buffer(pub(super) ReceiveBuffer);

impl Buffer {
    /// For the NIC.
    pub(crate) fn new(buffer: ReceiveBuffer) -> Self {
        Self(buffer)
    }
}

impl FrameBuffer for Buffer {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }
}

/// The adapter's DPC, as the NIC's interrupt line.
pub struct Line(Handle);

impl Line {
    /// The line to the adapter of `handle`.
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }
}

impl Interrupt for Line {
    fn raise(&self) {
        // False: queued already, or halted; neither needs another.
        let _ = self.0.queue_dpc();
    }
}

/// Bytes of the longest frame, with an 802.1Q tag.
pub(crate) fn buffer_len(settings: &Settings) -> usize {
    settings.max_frame as usize + vlan::TAG_LEN
}

/// Memory in which frames are put together before they go on the wire, one buffer for each send call in progress.
pub(crate) struct TransmitBuffers {
    spare: SpinLock<PoolVec<PoolVec<u8>>>,
    count: u32,
    len: usize,
}

impl TransmitBuffers {
    /// `count` buffers of `len` bytes. More sends in progress than that allocate for themselves.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn try_new(count: u32, len: usize) -> Result<Self, OutOfMemory> {
        let mut spare = empty_vec();
        spare.try_reserve_exact(count as usize).map_err(|_| OutOfMemory)?;
        for _ in 0..count {
            spare.push(allocate(len)?);
        }
        Ok(Self { spare: SpinLock::new(spare), count, len })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// A buffer, with whatever a former frame left in it.
    pub(super) fn take(&self) -> Option<PoolVec<u8>> {
        let spare = self.spare.lock().pop();
        spare.or_else(|| allocate(self.len).ok())
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: PoolVec<u8>) {
        let mut spare = self.spare.lock();
        if spare.len() < spare.capacity() {
            spare.push(buffer);
        }
    }
}

fn allocate(len: usize) -> Result<PoolVec<u8>, OutOfMemory> {
    let mut buffer = empty_vec();
    buffer.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    buffer.resize(len, 0);
    Ok(buffer)
}
