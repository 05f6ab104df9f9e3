//! What there is once per loaded image: the wires that its adapters are plugged into.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ndis::{Driver, DriverCell, DriverVersion, Result};

use crate::{
    adapter::Adapter,
    datapath::{Buffer, Line},
    kernel::PoolArc,
    nic::segment::Segments,
};

static CELL: DriverCell<Ipsecnic> = DriverCell::new();

/// The driver, from `DriverEntry` to `MiniportDriverUnload`.
pub struct Ipsecnic {
    /// The virtual Ethernet segments of this machine.
    pub(crate) segments: PoolArc<Segments<Buffer, Line>>,
    lives: AtomicUsize,
}

impl Driver for Ipsecnic {
    type Adapter = Adapter;
    const VERSION: DriverVersion = DriverVersion { major: 0, minor: 1 };

    fn cell() -> &'static DriverCell<Self> {
        &CELL
    }

    fn load() -> Result<Self> {
        Ok(Self { segments: PoolArc::try_new(Segments::new())?, lives: AtomicUsize::new(0) })
    }
}

impl Ipsecnic {
    /// A number that no adapter before has had.
    pub(crate) fn next_life(&self) -> usize {
        // Relaxed: only the number itself matters.
        self.lives.fetch_add(1, Relaxed)
    }
}
