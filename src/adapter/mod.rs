//! One adapter: its parts, and its life from MiniportInitializeEx to MiniportHaltEx (`ndis::Miniport`).
//!
//! What NDIS asks of an adapter arrives here and goes on to the room it belongs to: requests to `oid` and `sa`, packets to
//! `datapath`, the wire to `nic`.

pub(crate) mod attributes;
pub(crate) mod gate;
pub(crate) mod offload;
mod reset;
pub(crate) mod settings;

use ndis::{
    CancelId, Direct, HaltAction, Handle, Initialized, Initializing, Irql, Miniport, OffloadAttributes,
    OidCompletion, OidRequest, Pause, PauseOutcome, PnpEvent, ReceivePool, Regular, Reset, ResetOutcome,
    Restart, Result, ReturnedChain, SendChain, SendContext, Status, StatusIndication, processor,
};

use self::{
    gate::{Bar, Gate},
    offload::{OffloadConfig, OffloadState},
    settings::{RECEIVE_BUFFERS, Settings},
};
use crate::{
    Ipsecnic,
    datapath::{self, Buffer, HeldSends, Line, TransmitBuffers},
    kernel::SpinLock,
    nic::{self, Nic},
    oid,
    sa::{self, PendingDeletes},
};

/// One adapter. Its fields go in the order of their declaration: requests and sends that wait, then the NIC with the
/// buffers it has been lent (they keep their pool alive).
pub struct Adapter {
    pub(crate) pending_deletes: PendingDeletes,
    pub(crate) held_sends: HeldSends,
    reset: SpinLock<Option<Reset>>,
    pub(crate) nic: Nic<Buffer, Line>,
    pub(crate) transmit_buffers: TransmitBuffers,
    gate: Gate,
    pub(crate) offload: OffloadState,
    pub(crate) settings: Settings,
    pub(crate) handle: Handle,
}

/// How long to wait between looks at the passes, in microseconds: about the time of a chain of packets.
const PASS_WAIT: u32 = 50;

impl Miniport for Adapter {
    type Driver = Ipsecnic;

    /// The device can wedge, and DELETE_SA has two statuses that only a reset gives.
    const RESETTABLE: bool = true;

    /// A chain of `?` over owned values: whatever fails, what was made before it is dropped in reverse order, the
    /// NIC unplugs itself, and NDIS sees the status.
    fn initialize<'i>(driver: &Ipsecnic, init: Initializing<'i, Self>) -> Result<Initialized<'i, Self>> {
        let settings = Settings::read(&init.configuration()?, init.if_index())?;
        let handle = init.handle();
        let receive_pool = ReceivePool::try_new(&handle, datapath::buffer_len(&settings))?;
        let transmit_buffers = TransmitBuffers::try_new(processor::count(), datapath::buffer_len(&settings))?;
        let nic = Nic::try_new(
            &nic::Config {
                station: settings.current_address,
                segment: settings.segment,
                sa_capacity: settings.sa_capacity,
                receive_buffers: RECEIVE_BUFFERS as usize,
                processors: processor::count(),
                life: driver.next_life(),
                sa_slot_uses: settings.sa_slot_uses,
            },
            Line::new(handle.clone()),
            &driver.segments,
        )?;
        for _ in 0..RECEIVE_BUFFERS {
            let buffer = receive_pool.try_allocate().ok_or(Status::RESOURCES)?;
            // The port has room for just as many.
            drop(nic.port().post(Buffer::new(buffer)));
        }
        let offload = OffloadConfig::new(&settings);
        nic.set_switches(offload.switches());
        let general = attributes::general(&settings);
        let attributes = OffloadAttributes { current: offload.current(), hardware: offload.hardware() };
        let adapter = Self {
            pending_deletes: PendingDeletes::new(),
            held_sends: HeldSends::new(),
            reset: SpinLock::new(None),
            nic,
            transmit_buffers,
            gate: Gate::paused(),
            offload: OffloadState::new(offload),
            settings,
            handle,
        };
        let init = init.set_general(&general)?;
        init.set_offload(&attributes)?;
        Ok(init.finish(adapter))
    }

    fn restart(&self, _: Restart<'_>) -> Result<()> {
        self.open(Bar::Paused);
        Ok(())
    }

    /// Sends complete within their call, but for those that a wedged device holds, and frames are indicated only while
    /// nothing is barred, so the adapter's own part is done at once; `ndis` waits for what is in flight.
    fn pause(&self, pause: Pause) -> PauseOutcome {
        self.shut(Bar::Paused);
        PauseOutcome::Complete(pause)
    }

    /// All the rest is in the drop of the adapter's parts: keys are wiped with their slots, buffers freed, the NIC unplugged.
    fn halt(&self, _: HaltAction) {
        self.nic.port().stop();
    }

    fn oid_request<'r>(&self, request: OidRequest<'r, Regular>) -> OidCompletion<'r, Regular> {
        oid::handle(self, request)
    }

    fn direct_oid_request<'r>(&self, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
        sa::handle(self, request)
    }

    fn cancel_oid_request(&self, id: ndis::RequestId) {
        self.pending_deletes.cancel::<Regular>(&self.nic.slots, id);
    }

    fn cancel_direct_oid_request(&self, id: ndis::RequestId) {
        self.pending_deletes.cancel::<Direct>(&self.nic.slots, id);
    }

    fn send(&self, chain: SendChain, context: SendContext<'_>) {
        datapath::send(self, chain, context);
    }

    fn cancel_send(&self, id: CancelId) {
        self.held_sends.cancel(id);
    }

    fn return_buffers(&self, chain: ReturnedChain, _: Irql<'_>) {
        datapath::return_buffers(self, chain);
    }

    fn deferred(&self, irql: Irql<'_>) {
        datapath::poll(self, irql);
    }

    fn pnp_event(&self, event: PnpEvent) {
        if event == PnpEvent::SurpriseRemoved {
            self.shut(Bar::Removed);
        }
    }

    fn check_for_hang(&self) -> bool {
        self.nic.device().is_wedged()
    }

    fn reset(&self, reset: Reset) -> ResetOutcome {
        self.begin_reset(reset)
    }
}

impl Adapter {
    /// Goes to sleep: carries no packets, keeps SAs and filters (`oid-pnp-set-power`). Sends and indications in progress have
    /// ended when this returns. `PASSIVE_LEVEL`.
    pub(crate) fn sleep(&self) {
        self.shut(Bar::LowPower);
        while self.gate.has_packets() {
            ndis::time::sleep(PASS_WAIT);
        }
        self.handle.indicate_status(StatusIndication::LinkState(attributes::link(false)));
    }

    /// Wakes up.
    pub(crate) fn wake(&self) {
        self.open(Bar::LowPower);
        self.handle.indicate_status(StatusIndication::LinkState(attributes::link(true)));
    }

    /// Changes the offload configuration, all or nothing, tells the NIC, and indicates what is on now. `PASSIVE_LEVEL`, one
    /// at a time.
    pub(crate) fn configure_offload(
        &self,
        change: impl FnOnce(&mut OffloadConfig) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut config = self.offload.get();
        change(&mut config)?;
        self.offload.set(config);
        self.nic.set_switches(config.switches());
        self.handle.indicate_status(StatusIndication::TaskOffloadCurrentConfig(&config.current()));
        Ok(())
    }
}
