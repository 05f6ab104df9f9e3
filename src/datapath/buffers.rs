//! Frame memory, and the NIC's view of NDIS's things: its receive buffers and its interrupt.

use core::ops::{Deref, DerefMut};

use ndis::{Handle, ReceiveBuffer};
use try_lock::{Locked, TryLock};

use super::vlan;
use crate::{
    adapter::settings::Settings,
    kernel::{OutOfMemory, PoolVec, empty_vec},
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

/// Memory in which frames are put together before they go on the wire, one buffer for each send call in progress. Nobody waits
/// for one: who finds all in use allocates.
pub(crate) struct TransmitBuffers {
    spare: PoolVec<TryLock<PoolVec<u8>>>,
    count: u32,
    len: usize,
}

/// A buffer while a send call has it.
pub(super) enum TransmitBuffer<'a> {
    Spare(Locked<'a, PoolVec<u8>>),
    Allocated(PoolVec<u8>),
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
            spare.push(TryLock::new(allocate(len)?));
        }
        Ok(Self { spare, count, len })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// A buffer, with whatever a former frame left in it: this processor's, if no other send call that began on it has it.
    pub(super) fn take(&self, processor: u32) -> Option<TransmitBuffer<'_>> {
        let (others, first) = self.spare.split_at_checked(processor as usize)?;
        let spare = first.iter().chain(others).find_map(TryLock::try_lock);
        spare.map(TransmitBuffer::Spare).or_else(|| allocate(self.len).ok().map(TransmitBuffer::Allocated))
    }
}

impl Deref for TransmitBuffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Spare(buffer) => buffer,
            Self::Allocated(buffer) => buffer,
        }
    }
}

impl DerefMut for TransmitBuffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Spare(buffer) => buffer,
            Self::Allocated(buffer) => buffer,
        }
    }
}

fn allocate(len: usize) -> Result<PoolVec<u8>, OutOfMemory> {
    let mut buffer = empty_vec();
    buffer.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    buffer.resize(len, 0);
    Ok(buffer)
}
