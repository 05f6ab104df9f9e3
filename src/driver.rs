//! What there is once per loaded image: the wires that its adapters are plugged into.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ndis::{Driver, DriverCell, DriverVersion, Result, time};

use crate::{
    adapter::Adapter,
    datapath::{Buffer, Line},
    kernel::PoolArc,
    nic::{segment::Segments, slots::Life},
};

static CELL: DriverCell<Ipsecnic> = DriverCell::new();

/// The driver, from `DriverEntry` to `MiniportDriverUnload`.
pub struct Ipsecnic {
    /// The virtual Ethernet segments of this machine.
    pub(crate) segments: PoolArc<Segments<Buffer, Line>>,
    /// When the image was loaded; no two loads since the machine started have the same number.
    loaded: u64,
    lives: AtomicUsize,
}

/// How long to wait for the clock to move on, in microseconds.
const TICK: u32 = 1000;

impl Driver for Ipsecnic {
    type Adapter = Adapter;
    const VERSION: DriverVersion = DriverVersion { major: 0, minor: 1 };

    fn cell() -> &'static DriverCell<Self> {
        &CELL
    }

    fn load() -> Result<Self> {
        let segments = PoolArc::try_new(Segments::new())?;
        let loaded = time::uptime();
        // The image may be unloaded and loaded again within a tick of the clock.
        while time::uptime() == loaded {
            time::sleep(TICK);
        }
        Ok(Self { segments, loaded, lives: AtomicUsize::new(0) })
    }
}

impl Ipsecnic {
    /// A life that no adapter before has had, neither of this load of the image nor of an earlier one.
    pub(crate) fn next_life(&self) -> Life {
        // Relaxed: only the number itself matters.
        Life { load: self.loaded, number: self.lives.fetch_add(1, Relaxed) }
    }
}
