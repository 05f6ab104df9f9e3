//! DELETE_SA against a packet of its SA, in every order of the calls that the driver makes for the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ndis_sys::NDIS_STATUS_SUCCESS;

use crate::adapter::Adapter;
use crate::adapter::send::SendNbl;
use crate::call::CallPoint;
use crate::conformance::context::Context;
use crate::conformance::peer::{ICV, Peer};
use crate::conformance::station::{self, HEADER};
use crate::conformance::{Outcome, Stop, check};
use crate::error::LabError;
use crate::ipsec_v2::DeleteSaList;
use crate::transport::{Direction, IV_LENGTH, OutboundSa, ethernet};

use super::{ESP, IP, SLOT_HEADER, SLOT_IPSEC, SPI, Secured, add, offered, transport_sa, udp};

/// More calls than a driver makes for one packet or one request.
const MOST_CALLS: u32 = 100;
/// How many calls of the packet are tried, at most; those of the request are all tried.
const MOST_HOLDS: u32 = 12;
/// Time for a thread to get as far as it can: to its end, or to a lock that the other one holds.
const MOMENT: Duration = Duration::from_millis(2);
/// After this a packet that is held goes on in any case: the request may spin on a lock that the packet's thread holds.
const LONGEST_HOLD: Duration = Duration::from_millis(20);

/// Where the two threads are.
#[derive(Default)]
struct Orders {
    /// Calls of the packet until it is held; 0: not any more.
    until_held: AtomicU32,
    held: AtomicBool,
    /// It may go on.
    released: AtomicBool,
    sent: AtomicBool,
    /// Calls of the request until the packet goes on.
    until_released: AtomicU32,
}

// Relaxed throughout, but for what the two threads tell each other: Acquire and Release there.
impl Orders {
    fn look(&self, call: &CallPoint) {
        let last = |countdown: &AtomicU32| {
            countdown.load(Ordering::Relaxed) > 0 && countdown.fetch_sub(1, Ordering::Relaxed) == 1
        };
        match call.handler {
            Some("MiniportSendNetBufferLists") if last(&self.until_held) => {
                self.held.store(true, Ordering::Release);
                wait(LONGEST_HOLD, || self.released.load(Ordering::Acquire));
            }
            Some("MiniportDirectOidRequest") if last(&self.until_released) => self.let_go(),
            _ => {}
        }
    }

    /// Lets the packet go on, as far as it can.
    fn let_go(&self) {
        self.released.store(true, Ordering::Release);
        wait(MOMENT, || self.sent.load(Ordering::Acquire));
    }

    fn begin(&self, hold: u32) {
        self.held.store(false, Ordering::Relaxed);
        self.released.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.until_released.store(0, Ordering::Relaxed);
        self.until_held.store(hold, Ordering::Release);
    }
}

fn wait(most: Duration, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < most {
        std::thread::yield_now();
    }
}

/// Sends a packet on a thread of its own; comes back when it is held, or when it has been sent without.
fn send(orders: &Arc<Orders>, adapter: &Adapter, list: SendNbl) -> JoinHandle<Result<i32, LabError>> {
    let (orders_there, adapter) = (orders.clone(), adapter.clone());
    let thread = std::thread::spawn(move || {
        let outcome = adapter.send(&[list]).map(|outcomes| outcomes[0].status);
        orders_there.sent.store(true, Ordering::Release);
        outcome
    });
    while !orders.held.load(Ordering::Acquire) && !orders.sent.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    thread
}

pub(super) fn delete_orders(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let secured = Secured::new(context, algorithm)?;
    let (a, b) = (&secured.pair.a, &secured.pair.b);
    let orders = Arc::new(Orders::default());
    let there = orders.clone();
    context.lab.on_call(move |call| there.look(call));
    for hold in 1..=MOST_HOLDS {
        for release in 1..=MOST_CALLS {
            let sa = transport_sa(algorithm, SPI + 1 + hold * MOST_CALLS + release);
            let handle = add(a, &sa.parameters(Direction::Outbound))?;
            let peer = Peer::new(sa.key.bytes());
            let mut out = OutboundSa::new(sa, handle, 1);
            let framed = out.frame(&udp(60, 3)?).map_err(|error| Stop::Failed(error.to_string()))?;
            let frame = ethernet(station::address(b), station::address(a), &framed.packet);
            let list = SendNbl::frame(frame.clone()).oob(SLOT_IPSEC, handle).oob(SLOT_HEADER, framed.header);
            orders.begin(hold);
            let sender = send(&orders, a, list);
            let was_held = orders.held.load(Ordering::Acquire);
            orders.until_released.store(release, Ordering::Relaxed);
            let pending = a.oid_begin(DeleteSaList::new(&[handle])?.request());
            let calls_left = orders.until_released.swap(0, Ordering::Relaxed) > 0;
            orders.let_go();
            let sent = sender.join().map_err(|_| Stop::Failed("the sender panicked".into()))?;
            let pending = pending?;
            check!(
                pending.wait(context.patience)?,
                "nobody ends a DELETE_SA for whose SA a packet is in progress, if the packet is at call {hold} of the \
                 driver's send handler when the request begins, and goes on before call {release} of the request"
            );
            let outcome = pending.finish()?;
            check!(
                outcome.is_success(),
                "the DELETE_SA fails: {}",
                crate::conformance::status_text(outcome.status)
            );
            if sent? == NDIS_STATUS_SUCCESS {
                let seen = station::receive(b, 1, context.patience)?.remove(0).frame;
                let clear = &frame[HEADER + IP + ESP + IV_LENGTH..frame.len() - ICV];
                let opened = peer.map(|peer| peer.open(&seen[HEADER + IP..frame.len()]));
                check!(
                    opened.is_none_or(|opened| opened.as_deref() == Some(clear)),
                    "a packet is sent with a key that is none any more, if it is at call {hold} of the driver's send \
                     handler when the DELETE_SA of its SA begins, and goes on before call {release} of the request"
                );
            }
            if !was_held {
                return Ok(());
            }
            if calls_left {
                break;
            }
        }
    }
    Ok(())
}
