//! A miniport that sends back what it is sent, written with the layer and without `unsafe` but for its entry point. What it does
//! with sends, pauses, resets and direct requests is chosen by private OIDs, so that tests reach every way through the layer.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use ndis::alloc::vec::Vec;
use ndis::lock::SpinLock;
use ndis::nbl::{
    CancelId, CompletedChain, ReceiveBatch, ReceiveBuffer, ReceiveFlags, ReceiveOob, ReceivePool,
    ReturnedChain, SendChain,
};
use ndis::oid::{Direct, OidCompletion, OidKind, OidRequest, PendedQueue, Regular, RequestId, Statistics};
use ndis::{
    Driver, DriverCell, DriverRef, DriverVersion, GeneralAttributes, HaltAction, Handle, Initialized,
    Initializing, Irql, LinkState, MediaConnectState, MediaDuplexState, Miniport, Offload, OffloadAttributes,
    OutOfMemory, Pause, PauseFunctions, PauseOutcome, PnpEvent, PoolAlloc, PoolArc, Reset, ResetOutcome,
    Restart, Result, SendContext, ShutdownAction, Status, StatusIndication, pool_tag,
};
use ndis_sys as sys;

const TAG: u32 = pool_tag(*b"Echo");
type PoolVec<T> = Vec<T, PoolAlloc<TAG>>;

/// Set: one of the modes below.
pub(crate) const OID_MODE: u32 = 0xFF00_0001;
/// Set: one of the commands below.
pub(crate) const OID_COMMAND: u32 = 0xFF00_0002;
/// Query: buffers whose indication was refused.
pub(crate) const OID_REFUSED: u32 = 0xFF00_0003;
/// Query: the keyword `Number`, 10..=20, default 15.
pub(crate) const OID_NUMBER: u32 = 0xFF00_0004;
/// Direct set: waits for [`COMPLETE_DIRECT`], [`OID_READY`] or its cancellation.
pub(crate) const OID_WAIT: u32 = 0xFF00_0005;
/// Direct set: makes waiting requests of this value, below 64, ready, and completes those that are.
pub(crate) const OID_READY: u32 = 0xFF00_0006;

/// Sends complete at once and come back as receives.
pub(crate) const ECHO: u32 = 0;
/// As `ECHO`, but the receives are indicated to be copied.
pub(crate) const ECHO_COPIED: u32 = 1;
/// Sends wait for [`FLUSH`].
pub(crate) const QUEUE: u32 = 2;
/// Sends are dropped: chain, list and completed chain in turn.
pub(crate) const DROP: u32 = 3;
/// Pauses wait for [`COMPLETE_PAUSE`].
pub(crate) const HOLD_PAUSE: u32 = 4;
/// Resets wait for [`COMPLETE_RESET`].
pub(crate) const HOLD_RESET: u32 = 5;

/// Completes what `QUEUE` kept.
pub(crate) const FLUSH: u32 = 1;
/// Completes direct requests, the first half of them by value, the rest by dropping the queue's.
pub(crate) const COMPLETE_DIRECT: u32 = 2;
/// Gives the pause token back.
pub(crate) const COMPLETE_PAUSE: u32 = 3;
/// Completes the reset.
pub(crate) const COMPLETE_RESET: u32 = 4;
/// Puts a handle where it outlives the adapter.
pub(crate) const KEEP_HANDLE: u32 = 5;
/// Queues the DPC.
pub(crate) const QUEUE_DPC: u32 = 6;
/// Tells of the link.
pub(crate) const INDICATE_LINK: u32 = 7;

const BUFFERS: usize = 32;
const FRAME: usize = 1514;

static CELL: DriverCell<Echo> = DriverCell::new();

pub(crate) struct Echo {
    /// A handle that outlives its adapter.
    kept: SpinLock<Option<Handle>>,
    adapters: PoolArc<AtomicU32, TAG>,
}

impl Driver for Echo {
    type Adapter = Adapter;
    const VERSION: DriverVersion = DriverVersion { major: 1, minor: 2 };

    fn cell() -> &'static DriverCell<Self> {
        &CELL
    }

    fn load() -> Result<Self> {
        Ok(Self { kept: SpinLock::new(None), adapters: PoolArc::try_new(AtomicU32::new(0))? })
    }
}

ndis_sys::ndis_fn! {
    /// DriverEntry.
    pub(crate) unsafe extern fn entry(driver: *mut sys::DRIVER_OBJECT, path: *mut sys::UNICODE_STRING) -> sys::NTSTATUS {
        // SAFETY: the lab calls this as the kernel calls DriverEntry, and `Echo::cell` is always `CELL`.
        unsafe { ndis::driver_entry::<Echo>(driver.cast(), path) }
    }
}

struct Arrived {
    buffer: ReceiveBuffer,
    length: usize,
    oob: ReceiveOob,
}

pub(crate) struct Adapter {
    pended: PendedQueue<Direct, u64>,
    /// A bit for each value whose requests may be completed.
    ready: AtomicU64,
    queued: SpinLock<SendChain>,
    pause: SpinLock<Option<Pause>>,
    reset: SpinLock<Option<Reset>>,
    arrived: SpinLock<PoolVec<Arrived>>,
    spare: SpinLock<PoolVec<ReceiveBuffer>>,
    _pool: ReceivePool,
    mode: AtomicU32,
    refused: AtomicU32,
    running: AtomicU32,
    number: u32,
    adapters: PoolArc<AtomicU32, TAG>,
    driver: DriverRef<Echo>,
    handle: Handle,
}

fn with_capacity<T>(capacity: usize) -> Result<PoolVec<T>, OutOfMemory> {
    let mut vec = Vec::new_in(PoolAlloc);
    vec.try_reserve_exact(capacity).map_err(|_| OutOfMemory)?;
    Ok(vec)
}

const LINK: LinkState = LinkState {
    connect: MediaConnectState::Connected,
    duplex: MediaDuplexState::Full,
    transmit_bps: 1_000_000_000,
    receive_bps: 1_000_000_000,
    pause: PauseFunctions::Unsupported,
    auto_negotiation: 0,
};

impl Miniport for Adapter {
    type Driver = Echo;
    const RESETTABLE: bool = true;

    fn initialize<'i>(driver: &Echo, init: Initializing<'i, Self>) -> Result<Initialized<'i, Self>> {
        assert!(init.if_index() != 0 && init.net_luid() != 0);
        let configuration = init.configuration()?;
        let number = configuration.read_u32("Number", 10..=20, 15)?;
        let permanent = [2, 0, 0, 0, 0, 1];
        let current = configuration.network_address()?.unwrap_or(permanent);
        drop(configuration);
        let handle = init.handle();
        let pool = ReceivePool::try_new(&handle, FRAME)?;
        assert_eq!(pool.capacity(), FRAME);
        let mut spare = with_capacity(BUFFERS)?;
        for _ in 0..BUFFERS {
            let buffer = pool.try_allocate().ok_or(Status::RESOURCES)?;
            assert!(buffer.data().len() == FRAME && buffer.data().iter().all(|&byte| byte == 0));
            spare.push(buffer);
        }
        let arrived = with_capacity(BUFFERS)?;
        driver.adapters.fetch_add(1, Relaxed);
        let adapter = Self {
            pended: PendedQueue::new(),
            ready: AtomicU64::new(0),
            queued: SpinLock::new(SendChain::new()),
            pause: SpinLock::new(None),
            reset: SpinLock::new(None),
            arrived: SpinLock::new(arrived),
            spare: SpinLock::new(spare),
            _pool: pool,
            mode: AtomicU32::new(ECHO),
            refused: AtomicU32::new(0),
            running: AtomicU32::new(0),
            number,
            adapters: driver.adapters.clone(),
            driver: init.driver(),
            handle,
        };
        // Before initialisation is done the DPC is taken off the queue without running.
        adapter.handle.queue_dpc();
        let init = init.set_general(&GeneralAttributes {
            mtu: 1500,
            max_transmit_bps: LINK.transmit_bps,
            max_receive_bps: LINK.receive_bps,
            link: LINK,
            lookahead: 1500,
            mac_options: sys::NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA
                | sys::NDIS_MAC_OPTION_TRANSFERS_NOT_PEND
                | sys::NDIS_MAC_OPTION_NO_LOOPBACK
                | sys::NDIS_MAC_OPTION_8021P_PRIORITY,
            packet_filters: sys::NDIS_PACKET_TYPE_DIRECTED | sys::NDIS_PACKET_TYPE_BROADCAST,
            max_multicast: 32,
            permanent_address: permanent,
            current_address: current,
            connector_present: false,
            statistics: sys::NDIS_STATISTICS_XMIT_OK_SUPPORTED
                | sys::NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED,
            oids: &[sys::OID_GEN_STATISTICS, OID_MODE, OID_COMMAND, OID_REFUSED, OID_NUMBER],
        })?;
        init.set_offload(&OffloadAttributes { current: Offload::default(), hardware: Offload::default() })?;
        Ok(init.finish(adapter))
    }

    fn restart(&self, _: Restart<'_>) -> Result<()> {
        self.running.store(1, Relaxed);
        Ok(())
    }

    fn pause(&self, pause: Pause) -> PauseOutcome {
        self.running.store(0, Relaxed);
        self.flush(Status::PAUSED, Irql::UNKNOWN);
        if self.mode.load(Relaxed) == HOLD_PAUSE {
            *self.pause.lock() = Some(pause);
            return PauseOutcome::Pending;
        }
        PauseOutcome::Complete(pause)
    }

    fn halt(&self, _: HaltAction) {
        // Allowed up to here.
        self.handle.indicate_status(StatusIndication::LinkState(LINK));
        // Queued, and taken off the queue before the adapter goes.
        self.handle.queue_dpc();
    }

    fn shutdown(&self, action: ShutdownAction) {
        assert!(matches!(action, ShutdownAction::PowerOff | ShutdownAction::BugCheck));
    }

    fn oid_request<'r>(&self, request: OidRequest<'r, Regular>) -> OidCompletion<'r, Regular> {
        match (request.oid(), request.kind()) {
            (sys::OID_GEN_STATISTICS, _) => {
                request.answer_statistics(&Statistics { valid: 0, ..Statistics::default() })
            }
            (OID_REFUSED, OidKind::Query) => request.answer_u32(self.refused.load(Relaxed)),
            (OID_NUMBER, OidKind::Query) => request.answer_u32(self.number),
            (OID_MODE, _) => request.set_u32_exact(|mode| {
                self.mode.store(mode, Relaxed);
                Ok(())
            }),
            (OID_COMMAND, _) => request.set_u32_exact(|command| self.command(command)),
            _ => request.fail(Status::NOT_SUPPORTED),
        }
    }

    fn direct_oid_request<'r>(&self, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
        let value = request.input().iter().map(|&byte| u64::from(byte)).sum();
        let bit = u32::try_from(value).ok().and_then(|value| 1_u64.checked_shl(value)).unwrap_or(0);
        match request.oid() {
            OID_WAIT => self.ready.fetch_and(!bit, SeqCst),
            OID_READY => {
                self.ready.fetch_or(bit, SeqCst);
                self.pended.complete_if(|&value| self.is_ready(value));
                return request.set_bytes(|input| Ok(input.len()));
            }
            _ => return request.fail(Status::NOT_SUPPORTED),
        };
        let (pended, completion) = request.pend();
        if let Err(foreign) = self.pended.push(pended, value) {
            foreign.complete(Status::FAILURE);
        }
        completion
    }

    fn cancel_direct_oid_request(&self, id: RequestId) {
        self.pended.cancel(id, |&value| self.is_ready(value));
    }

    fn send(&self, chain: SendChain, context: SendContext<'_>) {
        if self.running.load(Relaxed) == 0 {
            return chain.complete(Status::PAUSED, context.irql);
        }
        match self.mode.load(Relaxed) {
            QUEUE => {
                self.queued.lock().append(chain).expect("one adapter");
                // A pause may have emptied the queue since `running` was looked at: what came behind it is not left there. The
                // queue's lock orders the two, so one of them sees the other.
                if self.running.load(Relaxed) == 0 {
                    self.flush(Status::PAUSED, context.irql);
                }
            }
            DROP => drop_all(chain),
            _ => self.echo(chain, context.irql),
        }
    }

    fn cancel_send(&self, id: CancelId) {
        let cancelled = self.queued.lock().take_cancelled(id);
        cancelled.complete(Status::SEND_ABORTED, Irql::UNKNOWN);
    }

    fn return_buffers(&self, chain: ReturnedChain, _: Irql<'_>) {
        for buffer in chain {
            assert_eq!(buffer.data().len(), FRAME, "restored to its full length");
            self.recycle(buffer);
        }
    }

    fn deferred(&self, irql: Irql<'_>) {
        assert!(irql.is_dispatch());
        let mut batch = ReceiveBatch::new();
        loop {
            let Some(Arrived { buffer, length, oob }) = self.take_arrived() else { break };
            batch.push(buffer, length, &oob).expect("checked before");
        }
        let frames = batch.len();
        if self.mode.load(Relaxed) == ECHO_COPIED {
            let (Ok(mut batch) | Err(mut batch)) =
                self.handle.indicate_receive_copied(batch, ReceiveFlags::NONE, irql);
            assert_eq!(batch.len(), frames);
            while let Some(buffer) = batch.pop_front() {
                self.recycle(buffer);
            }
        } else if let Err(mut refused) = self.handle.indicate_receive(batch, ReceiveFlags::NONE, irql) {
            assert_eq!(refused.len(), frames);
            while let Some(buffer) = refused.pop_front() {
                self.refused.fetch_add(1, Relaxed);
                self.recycle(buffer);
            }
        }
    }

    fn pnp_event(&self, event: PnpEvent) {
        if event == PnpEvent::SurpriseRemoved {
            self.running.store(0, Relaxed);
        }
    }

    fn check_for_hang(&self) -> bool {
        self.mode.load(Relaxed) == HOLD_RESET
    }

    fn reset(&self, reset: Reset) -> ResetOutcome {
        self.flush(Status::RESET_IN_PROGRESS, Irql::UNKNOWN);
        if self.mode.load(Relaxed) == HOLD_RESET {
            *self.reset.lock() = Some(reset);
            return ResetOutcome::Pending;
        }
        reset.finish(Status::SUCCESS, true)
    }
}

/// Leaves the completion to the drops: of a list, of a chain that completes in part, and of the rest of the chain.
fn drop_all(mut chain: SendChain) {
    drop(chain.pop_front());
    let mut completed = CompletedChain::new();
    if let Some(nbl) = chain.pop_front() {
        completed.push(nbl, Status::RESOURCES);
    }
}

impl Adapter {
    fn take_arrived(&self) -> Option<Arrived> {
        let mut arrived = self.arrived.lock();
        (!arrived.is_empty()).then(|| arrived.remove(0))
    }

    fn recycle(&self, buffer: ReceiveBuffer) {
        self.spare.lock().push(buffer);
    }

    fn echo(&self, chain: SendChain, irql: Irql<'_>) {
        let mut completed = CompletedChain::new();
        for mut nbl in chain {
            let mut status = Status::SUCCESS;
            let mut sent = 0;
            for frame in nbl.buffers() {
                let Some(mut buffer) = self.spare.lock().pop() else {
                    status = Status::RESOURCES;
                    break;
                };
                match frame.copy_to(buffer.data_mut()) {
                    Ok(length @ 14..) => {
                        sent += length;
                        let oob = ReceiveOob {
                            vlan: nbl.vlan(),
                            ipsec: (nbl.ipsec().transport != 0).then(Default::default),
                            ..ReceiveOob::default()
                        };
                        self.arrived.lock().push(Arrived { buffer, length, oob });
                    }
                    Ok(_) => {
                        status = Status::INVALID_LENGTH;
                        self.recycle(buffer);
                    }
                    Err(error) => {
                        status = error.into();
                        self.recycle(buffer);
                    }
                }
            }
            nbl.set_large_send_done(u32::try_from(sent).expect("short frames"));
            completed.push(nbl, status);
        }
        completed.complete(irql);
        self.handle.queue_dpc();
    }

    fn flush(&self, status: Status, irql: Irql<'_>) {
        let queued = core::mem::take(&mut *self.queued.lock());
        queued.complete(status, irql);
    }

    fn is_ready(&self, value: u64) -> bool {
        value < 64 && self.ready.load(SeqCst) >> value & 1 != 0
    }

    fn command(&self, command: u32) -> Result<()> {
        match command {
            FLUSH => self.flush(Status::SUCCESS, Irql::UNKNOWN),
            COMPLETE_DIRECT => {
                self.pended.complete_if(|&value| value < 100);
                self.pended.abort();
            }
            COMPLETE_PAUSE => {
                let pause = self.pause.lock().take();
                pause.ok_or(Status::FAILURE)?.complete();
            }
            COMPLETE_RESET => {
                let reset = self.reset.lock().take();
                reset.ok_or(Status::FAILURE)?.complete(Status::SOFT_ERRORS, true);
            }
            KEEP_HANDLE => *self.driver.kept.lock() = Some(self.handle.clone()),
            QUEUE_DPC => {
                self.handle.queue_dpc();
            }
            INDICATE_LINK => self.handle.indicate_status(StatusIndication::LinkState(LINK)),
            _ => return Err(Status::INVALID_DATA),
        }
        Ok(())
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.adapters.fetch_sub(1, Relaxed);
        if let Some(kept) = self.driver.kept.lock().as_ref().filter(|kept| **kept == self.handle) {
            assert!(!kept.queue_dpc(), "a halted adapter's handle refuses");
            kept.indicate_status(StatusIndication::LinkState(LINK));
            assert!(ReceivePool::try_new(kept, FRAME).is_err());
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        assert_eq!(self.adapters.load(Relaxed), 0);
    }
}
