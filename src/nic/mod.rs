//! The synthetic NIC: SA slots, an ESP engine, and a port on a virtual Ethernet segment.
//!
//! It knows nothing of NDIS: frames come as byte slices, receive memory as [`FrameBuffer`], its interrupt is an
//! [`Interrupt`]. What [`Nic`] offers is what a driver asks of a device, so that a real NIC could take its place.
//! May touch: `sa-table`, `ipsec`, and pool and locks of `kernel`. Any IRQL up to `DISPATCH_LEVEL`, but where a method
//! says otherwise; nothing here blocks.

pub mod counters;
pub mod engine;
pub mod filter;
pub mod frame;
pub mod port;
pub mod sa;
pub mod segment;
pub mod slots;

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ipsec::esp::{OpenError, Trailer};

use self::{
    counters::{Direction as Counters, Tally},
    engine::{ProtectError, SendHeader},
    filter::MacAddress,
    port::{FrameBuffer, Interrupt, Port},
    segment::{Plug, Segments},
    slots::{Progress, Slots},
};
use crate::kernel::{OutOfMemory, PoolArc};

/// How a NIC is built.
pub struct Config {
    /// The station address.
    pub station: MacAddress,
    /// The segment to plug into.
    pub segment: u32,
    /// SA slots, 1 to 65,536.
    pub sa_capacity: u32,
    /// Receive buffers that can be posted.
    pub receive_buffers: usize,
    /// Processors that may be at work at once.
    pub processors: u32,
    /// Another number for every NIC there has been; see [`Slots::try_new`].
    pub life: usize,
}

/// One NIC. All methods may be called on all processors at once.
pub struct Nic<B: FrameBuffer, I: Interrupt> {
    /// The SA slots.
    pub slots: Slots,
    plug: Plug<B, I>,
    sent: Counters,
    received: Counters,
    receives_ipsec: AtomicBool,
}

/// How a frame is to be protected.
#[derive(Clone, Copy, Debug)]
pub struct Protection {
    /// The SA's handle, as the host gave it.
    pub sa: usize,
    /// What the host says of the packet.
    pub header: SendHeader,
}

/// Why a frame could not be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitError {
    /// The handle is of no SA, or of one that was deleted.
    UnknownSa,
    /// The SA cannot protect this frame.
    Unprotectable(ProtectError),
}

/// What the NIC found out about a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crypto {
    /// It matched no SA; the frame is as it came off the wire.
    NotDone,
    /// It was authentic and is decrypted.
    Verified(Trailer),
    /// It matched an SA and did not pass.
    Failed(OpenError),
}

impl<B: FrameBuffer, I: Interrupt> Nic<B, I> {
    /// Builds a NIC and plugs it in. Its port is stopped and its filter closed. `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is kept.
    pub fn try_new(
        config: &Config,
        interrupt: I,
        segments: &PoolArc<Segments<B, I>>,
    ) -> Result<Self, OutOfMemory> {
        let slots = Slots::try_new(config.sa_capacity, config.processors, config.life)?;
        let port = PoolArc::try_new(Port::try_new(config.station, config.receive_buffers, interrupt)?)?;
        Ok(Self {
            slots,
            plug: Segments::plug_in(segments, config.segment, port)?,
            sent: Counters::default(),
            received: Counters::default(),
            receives_ipsec: AtomicBool::new(false),
        })
    }

    /// Where it is plugged in.
    pub fn port(&self) -> &Port<B, I> {
        self.plug.port()
    }

    /// Whether received packets are matched with SAs at all.
    pub fn set_receives_ipsec(&self, on: bool) {
        // Relaxed: packets around the change may be treated either way.
        self.receives_ipsec.store(on, Relaxed);
    }

    /// Begins a batch of transmissions on `processor` (a hint).
    pub fn transmitter(&self, processor: u32) -> Transmitter<'_, B, I> {
        Transmitter { nic: self, reader: self.slots.enter(processor), tally: Tally::default() }
    }

    /// Begins a batch of received frames on `processor` (a hint).
    pub fn receiver(&self, processor: u32) -> Receiver<'_, B, I> {
        let tally = self.port().take_dropped();
        Receiver { nic: self, reader: self.slots.enter(processor), tally }
    }

    /// What was sent since initialisation.
    pub fn sent(&self) -> Tally {
        self.sent.snapshot()
    }

    /// What was received since initialisation.
    pub fn received(&self) -> Tally {
        self.received.add(&self.port().take_dropped());
        self.received.snapshot()
    }
}

/// A batch of transmissions: one epoch of the SA slots, one addition to the counters. End it with [`Transmitter::finish`].
pub struct Transmitter<'a, B: FrameBuffer, I: Interrupt> {
    nic: &'a Nic<B, I>,
    reader: slots::Reader<'a>,
    tally: Tally,
}

impl<B: FrameBuffer, I: Interrupt> Transmitter<'_, B, I> {
    /// Protects a frame in place.
    ///
    /// # Errors
    /// [`TransmitError`]; the frame is unchanged and must not be sent.
    pub fn protect(&self, frame: &mut [u8], protection: Protection) -> Result<(), TransmitError> {
        let sa = self.reader.get(protection.sa).ok_or(TransmitError::UnknownSa)?;
        engine::protect(sa, frame, protection.header).map_err(TransmitError::Unprotectable)
    }

    /// Puts a frame on the wire as it is.
    pub fn transmit(&mut self, frame: &[u8]) {
        if let Some(destination) = frame::destination(frame) {
            self.tally.count(destination, frame.len());
            self.nic.plug.transmit(frame);
        }
    }

    /// Counts a frame, or a list of frames, that could not be sent.
    pub fn count_error(&mut self) {
        self.tally.errors += 1;
    }

    /// Ends the batch; says which deletions it has been holding up.
    pub fn finish(self) -> Progress {
        self.nic.sent.add(&self.tally);
        self.reader.leave()
    }
}

/// A batch of received frames. End it with [`Receiver::finish`].
pub struct Receiver<'a, B: FrameBuffer, I: Interrupt> {
    nic: &'a Nic<B, I>,
    reader: slots::Reader<'a>,
    tally: Tally,
}

impl<B: FrameBuffer, I: Interrupt> Receiver<'_, B, I> {
    /// Verifies and decrypts a frame in place if an SA covers it, and counts it.
    pub fn receive(&mut self, frame: &mut [u8]) -> Crypto {
        if let Some(destination) = frame::destination(frame) {
            self.tally.count(destination, frame.len());
        }
        if !self.nic.receives_ipsec.load(Relaxed) {
            return Crypto::NotDone;
        }
        let Some(selector) = engine::selector(frame) else { return Crypto::NotDone };
        let Some(sa) = self.reader.find(&selector) else { return Crypto::NotDone };
        match engine::verify(sa, frame, selector) {
            Ok(trailer) => Crypto::Verified(trailer),
            Err(error) => Crypto::Failed(error),
        }
    }

    /// Counts a good frame that the host did not take.
    pub fn count_discard(&mut self) {
        self.tally.discards += 1;
    }

    /// Ends the batch; says which deletions it has been holding up.
    pub fn finish(self) -> Progress {
        self.nic.received.add(&self.tally);
        self.reader.leave()
    }
}
