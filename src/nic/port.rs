//! A port: where a station is plugged into a segment. Frames that its filter accepts are written into
//! buffers the host has posted, as a NIC's DMA would, and wait until the host polls.
//!
//! May touch: its own lock, the buffers that were posted to it, the interrupt line. Any IRQL up to
//! `DISPATCH_LEVEL`.

use super::{
    counters::Tally,
    filter::{MacAddress, MulticastFull, PacketFilter, ReceiveFilter},
    frame,
};
use crate::kernel::{OutOfMemory, PoolVec, SpinLock};

/// Memory for one received frame, lent to the NIC until a frame is in it.
pub trait FrameBuffer: Send {
    /// The whole block.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// The line by which the NIC tells its host that frames have arrived.
pub trait Interrupt: Send + Sync {
    /// Asks for a poll, soon, at `DISPATCH_LEVEL`. Callable with a spin lock held.
    fn raise(&self);
}

/// A frame that has come off the wire, unprocessed.
pub struct Arrived<B> {
    /// The posted buffer, the frame at its start.
    pub buffer: B,
    /// Bytes of frame in it.
    pub len: usize,
}

/// Frames in the order of their arrival. Goes back to the port with [`Port::finish`].
pub type Batch<B> = PoolVec<Arrived<B>>;

/// Where one station meets the wire.
pub struct Port<B, I> {
    interrupt: I,
    state: SpinLock<State<B>>,
}

/// Invariants: `posted.len() + arrived.len() + what the host holds <= capacity` of each vector, so that no
/// push allocates; `polling` is set from the moment the interrupt is raised until a poll finds nothing left,
/// so that there is one poller at a time and frames stay in order.
struct State<B> {
    filter: ReceiveFilter,
    receiving: bool,
    polling: bool,
    posted: PoolVec<B>,
    arrived: Batch<B>,
    spare: Option<Batch<B>>,
    /// What the port itself dropped since the last poll.
    dropped: Tally,
}

impl<B: FrameBuffer, I: Interrupt> Port<B, I> {
    /// A stopped port for `station` with room for `capacity` buffers, none posted yet.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is kept.
    pub fn try_new(station: MacAddress, capacity: usize, interrupt: I) -> Result<Self, OutOfMemory> {
        Ok(Self {
            interrupt,
            state: SpinLock::new(State {
                filter: ReceiveFilter::new(station),
                receiving: false,
                polling: false,
                posted: with_capacity(capacity)?,
                arrived: with_capacity(capacity)?,
                spare: Some(with_capacity(capacity)?),
                dropped: Tally::default(),
            }),
        })
    }

    /// Lends the NIC a buffer. One beyond the port's capacity is handed back.
    ///
    /// # Errors
    /// The buffer itself.
    pub fn post(&self, buffer: B) -> Result<(), B> {
        let mut state = self.state.lock();
        push_within_capacity(&mut state.posted, buffer)
    }

    /// Starts taking frames off the wire.
    pub fn start(&self) {
        self.state.lock().receiving = true;
    }

    /// Stops taking frames. Those that have arrived are still there to poll.
    pub fn stop(&self) {
        self.state.lock().receiving = false;
    }

    /// Sets the kinds of frame to take.
    pub fn set_packet_filter(&self, filter: PacketFilter) {
        self.state.lock().filter.set_packet_filter(filter);
    }

    /// Replaces the multicast list.
    ///
    /// # Errors
    /// [`MulticastFull`]; the old list stays.
    pub fn set_groups(&self, groups: impl ExactSizeIterator<Item = MacAddress>) -> Result<(), MulticastFull> {
        self.state.lock().filter.set_groups(groups)
    }

    /// Puts a frame from the wire into a posted buffer and raises the interrupt; counts a discard when
    /// there is no buffer for it.
    pub(super) fn deliver(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        let Some(destination) = frame::destination(bytes) else { return };
        if !state.filter.accepts(destination) {
            return;
        }
        let buffer = if state.receiving { state.posted.pop() } else { None };
        let Some(mut buffer) = buffer else {
            state.dropped.discards += 1;
            return;
        };
        let Some(room) = buffer.bytes_mut().get_mut(..bytes.len()) else {
            // Longer than this station's maximum frame.
            state.dropped.errors += 1;
            let posted = push_within_capacity(&mut state.posted, buffer);
            debug_assert!(posted.is_ok(), "a popped buffer has its place");
            return;
        };
        room.copy_from_slice(bytes);
        let arrived = push_within_capacity(&mut state.arrived, Arrived { buffer, len: bytes.len() });
        debug_assert!(arrived.is_ok(), "every posted buffer has a place among the arrived");
        if !state.polling {
            state.polling = true;
            self.interrupt.raise();
        }
    }

    /// Takes what has arrived. `None` ends the poll: the next frame raises the interrupt again. To end it before that, there is
    /// [`poll_later`](Self::poll_later).
    pub fn poll(&self) -> Option<Batch<B>> {
        let mut state = self.state.lock();
        if state.arrived.is_empty() {
            state.polling = false;
            return None;
        }
        let Some(spare) = state.spare.take() else {
            debug_assert!(false, "one poller at a time");
            return None;
        };
        Some(core::mem::replace(&mut state.arrived, spare))
    }

    /// Ends a poll that has not found the end: the interrupt is raised again at once.
    pub fn poll_later(&self) {
        self.interrupt.raise();
    }

    /// Gives back a batch of [`Port::poll`]; buffers still in it are posted again.
    pub fn finish(&self, mut batch: Batch<B>) {
        let mut state = self.state.lock();
        for arrived in batch.drain(..) {
            let posted = push_within_capacity(&mut state.posted, arrived.buffer);
            debug_assert!(posted.is_ok(), "a buffer of this port has its place");
        }
        state.spare = Some(batch);
    }

    /// What the port dropped since this was last asked.
    pub fn take_dropped(&self) -> Tally {
        core::mem::take(&mut self.state.lock().dropped)
    }
}

fn with_capacity<T>(capacity: usize) -> Result<PoolVec<T>, OutOfMemory> {
    let mut vec = crate::kernel::empty_vec();
    vec.try_reserve_exact(capacity).map_err(|_| OutOfMemory)?;
    Ok(vec)
}

/// Pushes without ever allocating: the lock is held, and memory was taken at creation.
fn push_within_capacity<T>(vec: &mut PoolVec<T>, value: T) -> Result<(), T> {
    if vec.len() == vec.capacity() {
        return Err(value);
    }
    vec.push(value);
    Ok(())
}
