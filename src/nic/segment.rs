//! The virtual Ethernet segment: one shared wire. Every frame that a port transmits reaches every other port
//! of the segment whose filter accepts it, in the order of transmission.
//!
//! May touch: its own lock and, below it, the ports' locks (always in that order). Any IRQL up to
//! `DISPATCH_LEVEL`.

use super::port::{FrameBuffer, Interrupt, Port};
use crate::kernel::{OutOfMemory, PoolArc, PoolVec, SpinLock, empty_vec};

/// One wire.
pub struct Segment<B, I> {
    id: u32,
    ports: SpinLock<PoolVec<PoolArc<Port<B, I>>>>,
}

impl<B: FrameBuffer, I: Interrupt> Segment<B, I> {
    fn new(id: u32) -> Self {
        Self { id, ports: SpinLock::new(empty_vec()) }
    }
}

/// All segments of the machine, by the number that the `SegmentId` keyword gives. Each comes with its first port and goes
/// with its last.
pub struct Segments<B, I> {
    list: SpinLock<PoolVec<PoolArc<Segment<B, I>>>>,
}

impl<B: FrameBuffer, I: Interrupt> Segments<B, I> {
    /// No segment yet.
    pub const fn new() -> Self {
        Self { list: SpinLock::new(empty_vec()) }
    }

    /// Plugs `port` into segment `id` of `segments`.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the port is not plugged in.
    pub fn plug_in(
        segments: &PoolArc<Self>,
        id: u32,
        port: PoolArc<Port<B, I>>,
    ) -> Result<Plug<B, I>, OutOfMemory> {
        let mut list = segments.list.lock();
        let known = list.iter().find(|segment| segment.id == id).cloned();
        let segment = if let Some(segment) = known {
            segment
        } else {
            list.try_reserve(1).map_err(|_| OutOfMemory)?;
            let segment = PoolArc::try_new(Segment::new(id))?;
            list.push(segment.clone());
            segment
        };
        // From here on a failure drops the plug, which removes the segment again if it is new.
        let plug = Plug { segments: segments.clone(), segment, port };
        let plugged = {
            let mut ports = plug.segment.ports.lock();
            ports.try_reserve(1).map(|()| ports.push(plug.port.clone()))
        };
        drop(list);
        plugged.map_err(|_| OutOfMemory)?;
        Ok(plug)
    }
}

impl<B: FrameBuffer, I: Interrupt> Default for Segments<B, I> {
    fn default() -> Self {
        Self::new()
    }
}

/// A port that is plugged into a segment; unplugged on drop.
pub struct Plug<B: FrameBuffer, I: Interrupt> {
    segments: PoolArc<Segments<B, I>>,
    segment: PoolArc<Segment<B, I>>,
    port: PoolArc<Port<B, I>>,
}

impl<B: FrameBuffer, I: Interrupt> Plug<B, I> {
    /// The port.
    pub fn port(&self) -> &Port<B, I> {
        &self.port
    }

    /// Puts a frame on the wire. It has reached all ports when this returns; this one does not hear itself.
    pub fn transmit(&self, bytes: &[u8]) {
        for port in self.segment.ports.lock().iter() {
            if !PoolArc::ptr_eq(port, &self.port) {
                port.deliver(bytes);
            }
        }
    }
}

impl<B: FrameBuffer, I: Interrupt> Drop for Plug<B, I> {
    /// When this returns, no frame reaches the port any more.
    fn drop(&mut self) {
        let mut list = self.segments.list.lock();
        let deserted = {
            let mut ports = self.segment.ports.lock();
            ports.retain(|other| !PoolArc::ptr_eq(other, &self.port));
            ports.is_empty()
        };
        if deserted {
            list.retain(|other| !PoolArc::ptr_eq(other, &self.segment));
        }
    }
}
