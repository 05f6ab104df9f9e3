//! NdisMSendNetBufferListsComplete: what comes back, against what was given.

use std::sync::atomic::Ordering;

use ndis_sys::{
    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL, NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE,
    NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE, NET_BUFFER_LIST, NetBufferListCancelId,
    TcpLargeSendNetBufferListInfo,
};

use super::super::{AdapterCore, AdapterId, State};
use super::build::{Built, Snapshot};
use super::{OOB_SLOTS, Record, SendOutcome};
use crate::bytes::first_difference;
use crate::machine::{DISPATCH, Machine, Origin, guard, thread};
use crate::rules;

/// How many completed lists are kept, so that a second completion is recognised.
const KEPT: usize = 1024;

/// What a send may be completed with `[nf-ndis-ndismsendnetbufferlistscomplete]`.
fn is_send_status(status: i32) -> bool {
    [
        ndis_sys::NDIS_STATUS_SUCCESS,
        ndis_sys::NDIS_STATUS_INVALID_LENGTH,
        ndis_sys::NDIS_STATUS_RESOURCES,
        ndis_sys::NDIS_STATUS_PAUSED,
        ndis_sys::NDIS_STATUS_SEND_ABORTED,
        ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS,
        ndis_sys::NDIS_STATUS_LOW_POWER_STATE,
        ndis_sys::NDIS_STATUS_NOT_ACCEPTED,
        ndis_sys::NDIS_STATUS_FAILURE,
    ]
    .contains(&status)
}

/// Why a status cannot be true, if it says something of the adapter or of a cancellation.
fn untrue(adapter: &AdapterCore, record: &Record, status: i32) -> Option<&'static str> {
    let batch = &record.batch;
    // Acquire, here and below: pairs with the changes of the adapter's state.
    let load = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::Acquire);
    let power = adapter.power_changes.load(Ordering::Acquire);
    let (true_now, why) = match status {
        ndis_sys::NDIS_STATUS_PAUSED => {
            let ran = |state| state == State::Running;
            let throughout = ran(batch.state) && ran(adapter.state()) && batch.stretch == adapter.stretch();
            (!throughout, "and the adapter runs")
        }
        ndis_sys::NDIS_STATUS_LOW_POWER_STATE => {
            let changes = power % 2 == 1 || power != batch.power_changes;
            (load(&adapter.low_power) || changes, "and the adapter is in D0")
        }
        ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS => {
            let resets = adapter.resets.load(Ordering::Acquire);
            (resets % 2 == 1 || resets != batch.resets, "and nobody resets the adapter")
        }
        ndis_sys::NDIS_STATUS_NOT_ACCEPTED => (load(&adapter.removed), "and the adapter is there"),
        ndis_sys::NDIS_STATUS_SEND_ABORTED => {
            let id = record.before.oob[NetBufferListCancelId as usize];
            (adapter.sends.cancelled.lock().contains(&id), "and nobody cancelled the send")
        }
        _ => (true, ""),
    };
    (!true_now).then_some(why)
}

/// Keeps a completed list for a while, poisoned.
fn retire_send(machine: &Machine, adapter: &AdapterCore, built: Built, by: Origin) {
    let mut mdls = adapter.sends.mdls.lock();
    for (mdl, _) in built.frames.iter().flat_map(|frame| &frame.mdls) {
        mdls.remove(&mdl.address());
    }
    drop(mdls);
    // From here on the driver has no business with it.
    let frames = built
        .frames
        .iter()
        .flat_map(|frame| frame.mdls.iter().map(|(mdl, _)| mdl).chain([&frame.buffer, &frame.data]));
    for memory in frames.chain([&built.list]) {
        memory.poison_by(rules::SEND_TOUCHED, Some(by));
    }
    let mut kept = adapter.sends.kept.lock();
    kept.push_back(built);
    let old = if kept.len() > KEPT { kept.pop_front() } else { None };
    drop(kept);
    check_retired(machine, adapter, old);
}

/// Looks whether completed lists were written.
fn check_retired(machine: &Machine, adapter: &AdapterCore, old: impl IntoIterator<Item = Built>) {
    for built in old {
        let frames = built
            .frames
            .iter()
            .flat_map(|frame| frame.mdls.iter().map(|(mdl, _)| mdl).chain([&frame.buffer, &frame.data]));
        let mut all = frames.chain([&built.list]);
        if let Some((memory, at)) = all.find_map(|memory| Some((memory, memory.touched()?))) {
            let (what, address) = (memory.what(), memory.address());
            let text = format!("byte {at} of the {what} at {address:#x} was written after its completion");
            machine.violate_past(Some(adapter), rules::SEND_TOUCHED, text, &memory.past("completed"));
        }
    }
}

impl AdapterCore {
    /// Looks at all completed lists that are kept.
    pub(crate) fn sweep_sends(&self, machine: &Machine) {
        let old = std::mem::take(&mut *self.sends.kept.lock());
        check_retired(machine, self, old);
    }
}

impl Machine {
    /// `NdisMSendNetBufferListsComplete`.
    ///
    /// # Safety
    /// `chain` is a chain of NET_BUFFER_LISTs that ends with NULL.
    pub(crate) unsafe fn complete_sends(
        &self,
        adapter: &AdapterCore,
        chain: *mut NET_BUFFER_LIST,
        flags: u32,
    ) {
        let known = NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL
            | NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE
            | NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE;
        if flags & !known != 0 {
            self.violate_for(adapter, rules::SEND_FLAGS, format!("SendCompleteFlags {flags:#x}"));
        }
        if flags & NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL != 0 && thread::irql() < DISPATCH {
            self.violate_for(
                adapter,
                rules::IRQL_FLAG,
                "NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL below DISPATCH_LEVEL",
            );
        }
        self.check_no_lock("sends are completed");
        if chain.is_null() {
            self.violate_for(adapter, rules::SEND_UNKNOWN, "the chain is empty");
        }
        let by = Origin::here();
        let mut list = chain;
        while !list.is_null() {
            let record = adapter.sends.records.lock().remove(&(list as usize));
            let Some(record) = record else {
                self.unknown_send(adapter, list as usize);
                // What is not ours cannot be followed.
                break;
            };
            // SAFETY: the list is in the table, so it is memory of ours that lives.
            let (next, status) = unsafe { ((*list).Next, (*list).Status) };
            self.check_sent(adapter, &record, status);
            // SAFETY: as above.
            let oob = unsafe { (*list).NetBufferListInfo.map(|slot| slot as usize) };
            if let Some(outcome) = record.batch.outcomes.lock().get_mut(record.index) {
                *outcome = Some(SendOutcome { status, oob });
            }
            retire_send(self, adapter, record.built, by);
            list = next;
        }
        self.notify();
    }

    fn unknown_send(&self, adapter: &AdapterCore, list: usize) {
        let kept = adapter.sends.kept.lock();
        let past =
            kept.iter().find(|built| built.list.address() == list).map(|built| built.list.past("completed"));
        drop(kept);
        if let Some(past) = past {
            let text = format!("NET_BUFFER_LIST {list:#x} was completed before");
            self.violate_past(Some(adapter), rules::SEND_COMPLETED_TWICE, text, &past);
            return;
        }
        if let Some((rule, text, gone)) = guard::explain_gone(list) {
            self.violate_past(Some(adapter), rule, text, &guard::given_away(gone));
            return;
        }
        let others: Vec<AdapterId> = {
            let adapters = self.adapters.read();
            adapters.values().filter(|a| a.sends.records.lock().contains_key(&list)).map(|a| a.id).collect()
        };
        let whose = others.first().map_or("nobody's send".to_owned(), |id| format!("a send of {id}"));
        self.violate_for(adapter, rules::SEND_UNKNOWN, format!("NET_BUFFER_LIST {list:#x} is {whose}"));
    }

    fn check_sent(&self, adapter: &AdapterCore, record: &Record, status: i32) {
        if !is_send_status(status) {
            let text = format!("status {:#010x} is none of a send", status.cast_unsigned());
            self.violate_for(adapter, rules::SEND_STATUS, text);
        } else if let Some(why) = untrue(adapter, record, status) {
            let text = format!("status {:#010x}, {why}", status.cast_unsigned());
            self.violate_for(adapter, rules::SEND_STATUS, text);
        }
        // A send that came to an adapter that knew it was paused is refused. One whose handler call
        // crosses a pause or a restart may end either way: NDIS itself cannot tell which came first.
        let batch = &record.batch;
        let paused = (batch.stretch % 2 == 1 && batch.stretch == adapter.stretch())
            // Acquire: pairs with the store after the handler's return.
            || batch.refused.load(Ordering::Acquire);
        let gone = adapter.removed.load(Ordering::Acquire)
            || adapter.low_power.load(Ordering::Acquire)
            || adapter.resetting.load(Ordering::Acquire);
        if paused && !gone && status != ndis_sys::NDIS_STATUS_PAUSED {
            let text = format!("status {:#010x}; the adapter was paused", status.cast_unsigned());
            self.violate_for(adapter, rules::SEND_NOT_PAUSED, text);
        }
        // SAFETY: the record holds the memory, initialised when it was built.
        let now = unsafe { Snapshot::take(&record.built) };
        let before = &record.before;
        if (&now.list, &now.buffers, &now.mdls) != (&before.list, &before.buffers, &before.mdls) {
            let what = if now.list != before.list {
                "the NET_BUFFER_LIST"
            } else if now.buffers != before.buffers {
                "a NET_BUFFER"
            } else {
                "an MDL"
            };
            self.violate_for(adapter, rules::SEND_CHAIN_CHANGED, format!("{what} is not as it was given"));
        }
        if now.reserved != before.reserved {
            let text = "what is NDIS' or the protocol's in the NET_BUFFER_LIST or a NET_BUFFER was written";
            self.violate_for(adapter, rules::SEND_CHAIN_CHANGED, text);
        }
        let slots = (0..OOB_SLOTS).filter(|slot| now.oob[*slot] != before.oob[*slot]);
        for slot in
            slots.filter(|slot| !(record.built.large_send && *slot == TcpLargeSendNetBufferListInfo as usize))
        {
            let text = format!("slot {slot} was {:#x} and is {:#x}", before.oob[slot], now.oob[slot]);
            self.violate_for(adapter, rules::SEND_OOB_CHANGED, text);
        }
        for frame in &record.built.frames {
            // SAFETY: the data is memory of the record, initialised when it was built.
            let data = unsafe { std::slice::from_raw_parts(frame.start as *const u8, frame.original.len()) };
            if let Some(at) = first_difference(data, &frame.original) {
                self.violate_for(
                    adapter,
                    rules::SEND_PAYLOAD_CHANGED,
                    format!("byte {at} of {} was written", data.len()),
                );
            }
        }
    }
}
