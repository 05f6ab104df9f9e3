//! The synthetic NIC: SA slots, an ESP engine, and a port on a virtual Ethernet segment.
//!
//! It knows nothing of NDIS: frames come as byte slices, receive memory as [`FrameBuffer`], its interrupt is an
//! [`Interrupt`]. What [`Nic`] offers is what a driver asks of a device, so that a real NIC could take its place.
//! May touch: `sa-table`, `ipsec`, and pool and locks of `kernel`. Any IRQL up to `DISPATCH_LEVEL`, but where a method
//! says otherwise; nothing here blocks.

pub mod counters;
pub mod device;
pub mod engine;
pub mod esn;
pub mod filter;
pub mod frame;
pub mod port;
pub mod sa;
pub mod segment;
pub mod slots;

use core::{
    num::{NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use ipsec::esp::{OpenError, Trailer};

use self::{
    counters::{Direction as Counters, Tally},
    device::Device,
    engine::{ProtectError, SendHeader},
    filter::MacAddress,
    port::{FrameBuffer, Interrupt, Port},
    sa::Sa,
    segment::{Plug, Segments},
    slots::{AddError, Life, Progress, Slots},
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
    /// Another one for every NIC there has been; see [`Slots::try_new`].
    pub life: Life,
    /// How often a slot can be used, for tests; see [`Slots::try_new`].
    pub sa_slot_uses: Option<NonZeroU32>,
}

/// One NIC. All methods may be called on all processors at once.
pub struct Nic<B: FrameBuffer, I: Interrupt> {
    /// The SA slots.
    pub slots: Slots,
    plug: Plug<B, I>,
    device: Device,
    sent: Counters,
    received: Counters,
    /// [`Switches`], as bits.
    switches: AtomicU8,
}

/// What the engine does with packets of SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Protects what is sent with a handle. If not, such packets are refused: none goes out in clear.
    pub transmit: bool,
    /// What it does with received ones.
    pub receive: ReceiveIpsec,
}

/// What the engine does with a received packet that an SA covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveIpsec {
    /// Leaves it alone.
    Off,
    /// Leaves it alone and asks for the deletion of the SA.
    AskToDelete,
    /// Verifies and decrypts it.
    On,
}

impl Switches {
    /// Nothing is done.
    pub const OFF: Self = Self { transmit: false, receive: ReceiveIpsec::Off };

    const TRANSMIT: u8 = 1;
    const RECEIVE: u8 = 2;
    const ASK: u8 = 4;

    const fn to_bits(self) -> u8 {
        let receive = match self.receive {
            ReceiveIpsec::Off => 0,
            ReceiveIpsec::AskToDelete => Self::ASK,
            ReceiveIpsec::On => Self::RECEIVE,
        };
        receive | if self.transmit { Self::TRANSMIT } else { 0 }
    }

    const fn from_bits(bits: u8) -> Self {
        let receive = if bits & Self::RECEIVE != 0 {
            ReceiveIpsec::On
        } else if bits & Self::ASK != 0 {
            ReceiveIpsec::AskToDelete
        } else {
            ReceiveIpsec::Off
        };
        Self { transmit: bits & Self::TRANSMIT != 0, receive }
    }
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
    /// The engine is switched off.
    Off,
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
    /// It matched an SA that the host should delete; the frame is as it came off the wire.
    DeletionWanted,
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
        let slots = Slots::try_new(config.sa_capacity, config.processors, config.life, config.sa_slot_uses)?;
        let port = PoolArc::try_new(Port::try_new(config.station, config.receive_buffers, interrupt)?)?;
        Ok(Self {
            slots,
            plug: Segments::plug_in(segments, config.segment, port)?,
            device: Device::new(),
            sent: Counters::default(),
            received: Counters::default(),
            switches: AtomicU8::new(Switches::OFF.to_bits()),
        })
    }

    /// The device itself.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Loads an SA into a slot and publishes it ([`Slots::add`]). Not during a [`reset`](Self::reset).
    pub fn add(&self, processor: u32, sa: Sa) -> (Result<NonZeroUsize, AddError>, Progress) {
        sa.load(self.device.incarnation());
        self.slots.add(processor, sa)
    }

    /// Resets the device, whose slots are empty then, and loads every SA again from the driver's table. Handles stay. Only
    /// while no packet and no request is in progress; what the look through the table held up is in the result.
    pub fn reset(&self, processor: u32) -> Progress {
        let incarnation = self.device.reset();
        let reader = self.slots.enter(processor);
        reader.iter().for_each(|(_, sa)| sa.load(incarnation));
        reader.leave()
    }

    /// Where it is plugged in.
    pub fn port(&self) -> &Port<B, I> {
        self.plug.port()
    }

    /// Sets what the engine does.
    pub fn set_switches(&self, switches: Switches) {
        // Relaxed: packets around the change may be treated either way.
        self.switches.store(switches.to_bits(), Relaxed);
    }

    /// What the engine does.
    pub fn switches(&self) -> Switches {
        Switches::from_bits(self.switches.load(Relaxed))
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

    /// Whether the device has this SA in its slot.
    fn holds(&self, sa: &Sa) -> bool {
        sa.is_loaded(self.device.incarnation())
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
        if !self.nic.switches().transmit {
            return Err(TransmitError::Off);
        }
        let sa = self.reader.get(protection.sa).filter(|sa| self.nic.holds(sa));
        let sa = sa.ok_or(TransmitError::UnknownSa)?;
        engine::protect(sa, frame, protection.header).map_err(TransmitError::Unprotectable)
    }

    /// Whether the device takes a further frame. If not it is wedged: what it was given last it never gives back, and it
    /// takes frames off the wire no more.
    pub fn admit(&self) -> bool {
        let admitted = self.nic.device.take();
        if self.nic.device.is_wedged() {
            self.nic.port().stop();
        }
        admitted
    }

    /// Puts a frame on the wire as it is.
    pub fn transmit(&mut self, frame: &[u8]) {
        if let Some(destination) = frame::destination(frame) {
            self.tally.count(destination, frame.len());
            self.nic.plug.transmit(frame);
        }
    }

    /// Counts frames that could not be sent.
    pub fn count_errors(&mut self, frames: usize) {
        self.tally.errors += frames as u64;
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
        let mode = self.nic.switches().receive;
        if mode == ReceiveIpsec::Off {
            return Crypto::NotDone;
        }
        let Some(selector) = engine::selector(frame) else { return Crypto::NotDone };
        let Some(sa) = self.reader.find(&selector).filter(|sa| self.nic.holds(sa)) else {
            return Crypto::NotDone;
        };
        if mode == ReceiveIpsec::AskToDelete {
            return Crypto::DeletionWanted;
        }
        match engine::verify(sa, frame, selector) {
            Ok(trailer) => Crypto::Verified(trailer),
            Err(error) => Crypto::Failed(error),
        }
    }

    /// Counts a frame that is not one for this station after all.
    pub fn count_error(&mut self) {
        self.tally.errors += 1;
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
