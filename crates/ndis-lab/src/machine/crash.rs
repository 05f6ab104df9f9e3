//! What a bug check calls: MiniportShutdownEx of adapters that asked for it, and the callbacks of drivers.
//!
//! On Windows KeBugCheckEx calls them at HIGH_LEVEL, with all other processors stopped, and a fault in one of them ends that
//! one only. Here they are called as soon as the thread that stopped the machine has left the driver, so that nothing of
//! the lab is held: NDIS' own callback first, which calls the adapters, then those of drivers in the order in which they
//! were registered. Layouts are those of the WDK for x64.

use std::sync::atomic::Ordering;

use super::{AddressMap, Entry, HIGH, Handler, Machine, Origin, thread};
use crate::adapter::State;
use crate::error::CrashCall;
use crate::packet::Memory;
use crate::rules;

/// Fields of KBUGCHECK_CALLBACK_RECORD.
mod record {
    pub(super) const ROUTINE: usize = 16;
    pub(super) const BUFFER: usize = 24;
    pub(super) const LENGTH: usize = 32;
    pub(super) const COMPONENT: usize = 40;
    pub(super) const CHECKSUM: usize = 48;
    pub(super) const STATE: usize = 56;
    pub(super) const SIZE: usize = 64;
}

/// Fields of KBUGCHECK_REASON_CALLBACK_RECORD.
mod reason_record {
    pub(super) const ROUTINE: usize = 16;
    pub(super) const COMPONENT: usize = 24;
    pub(super) const CHECKSUM: usize = 32;
    pub(super) const REASON: usize = 40;
    pub(super) const STATE: usize = 44;
    pub(super) const SIZE: usize = 48;
}

/// `BufferEmpty`, which KeInitializeCallbackRecord sets, and `BufferInserted` to `BufferIncomplete`.
const EMPTY: u8 = 0;
const INSERTED: u8 = 1;
const STARTED: u8 = 2;
const FINISHED: u8 = 3;
const INCOMPLETE: u8 = 4;

/// `KbCallbackSecondaryDumpData`, `KbCallbackDumpIo`, `KbCallbackAddPages`, `KbCallbackTriageDumpData`.
const SECONDARY_DUMP_DATA: i32 = 2;
const DUMP_IO: i32 = 3;
const ADD_PAGES: i32 = 4;
const TRIAGE_DUMP_DATA: i32 = 7;
/// From `KbCallbackSecondaryDumpData` to `KbCallbackTriageDumpData`.
const REASONS: std::ops::RangeInclusive<i32> = 2..=7;

/// Bytes of `InBuffer`, and of `MaximumAllowed`, for secondary dump data.
const IN_BUFFER: usize = 4096;
const MAXIMUM_ALLOWED: u32 = 64 << 10;
/// `KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST`: the callback wants to be called again.
const MORE_RANGES: u32 = 0x8000_0000;
/// Ranges of pages after which a callback is taken for one that never ends.
const MOST_RANGES: usize = 1000;
/// `MANUALLY_INITIATED_CRASH`, for a rehearsal.
const REHEARSAL: u32 = 0xe2;

const CALLBACK: &Handler = &Handler { name: "KBUGCHECK_CALLBACK_ROUTINE" };
const REASON_CALLBACK: &Handler = &Handler { name: "KBUGCHECK_REASON_CALLBACK_ROUTINE" };
/// What it is called in the census.
const WHAT: &str = "bugcheck callback";

/// What is registered.
#[derive(Clone, Copy)]
pub(crate) enum Registration {
    /// A buffer, and its length.
    Buffer(usize, u32),
    /// A KBUGCHECK_CALLBACK_REASON.
    Reason(i32),
}

/// A registered record.
#[derive(Clone)]
struct Registered {
    address: usize,
    routine: usize,
    component: String,
    kind: Registration,
    origin: Origin,
}

/// The records of all drivers, in the order of their registration.
#[derive(Default)]
pub(crate) struct Callbacks(parking_lot::Mutex<Vec<Registered>>);

impl Registered {
    /// The size of the record, and where its checksum and its state are.
    fn layout(kind: Registration) -> (usize, usize, usize) {
        match kind {
            Registration::Buffer(..) => (record::SIZE, record::CHECKSUM, record::STATE),
            Registration::Reason(_) => (reason_record::SIZE, reason_record::CHECKSUM, reason_record::STATE),
        }
    }

    /// What the checksum is of: whatever the registration wrote.
    fn checksum(&self, component: usize) -> usize {
        let sum = self.routine.wrapping_add(component);
        match self.kind {
            Registration::Buffer(buffer, length) => sum.wrapping_add(buffer).wrapping_add(length as usize),
            Registration::Reason(reason) => sum.wrapping_add(usize::try_from(reason).unwrap_or(0)),
        }
    }

    /// Whether the record is as the registration left it.
    ///
    /// # Safety
    /// The record is memory.
    unsafe fn intact(&self) -> bool {
        let (_, checksum, state) = Self::layout(self.kind);
        let component = match self.kind {
            Registration::Buffer(..) => record::COMPONENT,
            Registration::Reason(_) => reason_record::COMPONENT,
        };
        // SAFETY: as the caller says.
        unsafe {
            let word = |offset: usize| ((self.address + offset) as *const usize).read_unaligned();
            let routine = word(record::ROUTINE);
            routine == self.routine
                && word(checksum) == self.checksum(word(component))
                && ((self.address + state) as *const u8).read() == INSERTED
        }
    }

    /// # Safety
    /// The record is memory of a driver that has registered it.
    unsafe fn set_state(&self, state: u8) {
        let (.., offset) = Self::layout(self.kind);
        // SAFETY: as the caller says.
        unsafe { ((self.address + offset) as *mut u8).write(state) };
    }
}

const _: () = assert!(record::ROUTINE == reason_record::ROUTINE);

impl Machine {
    /// `KeRegisterBugCheckCallback`, `KeRegisterBugCheckReasonCallback`: whether the record was registered.
    ///
    /// # Safety
    /// `address` is the driver's record, which stays as long as it is registered; `component` a string of the driver's.
    pub(crate) unsafe fn register_crash_callback(
        &self,
        address: usize,
        routine: usize,
        kind: Registration,
        component: *const u8,
    ) -> bool {
        let known = self.crash_callbacks.0.lock().iter().any(|known| known.address == address);
        let (.., state) = Registered::layout(kind);
        // SAFETY: the caller's record.
        let state = unsafe { ((address + state) as *const u8).read() };
        if known {
            return false;
        }
        if state != EMPTY {
            let text = format!(
                "record {address:#x} has state {state}: it was not initialised (KeInitializeCallbackRecord)"
            );
            self.violate(rules::CALLBACK_USE, text);
            return false;
        }
        if let Registration::Reason(reason) = kind
            && !REASONS.contains(&reason)
        {
            self.violate(rules::PARAMETER, format!("Reason {reason}"));
            return false;
        }
        if routine == 0 {
            self.violate(rules::PARAMETER, "the routine is NULL");
            return false;
        }
        let name = if component.is_null() {
            String::new()
        } else {
            // SAFETY: the caller's string, which ends with a zero.
            unsafe { std::ffi::CStr::from_ptr(component.cast()) }.to_string_lossy().into_owned()
        };
        let entry = Registered { address, routine, component: name, kind, origin: Origin::here() };
        let checksum = entry.checksum(component as usize);
        // SAFETY: the caller's record, with its fields.
        unsafe {
            let put = |offset: usize, value: usize| ((address + offset) as *mut usize).write_unaligned(value);
            put(record::ROUTINE, routine);
            match kind {
                Registration::Buffer(buffer, length) => {
                    put(record::BUFFER, buffer);
                    ((address + record::LENGTH) as *mut u32).write(length);
                    put(record::COMPONENT, component as usize);
                    put(record::CHECKSUM, checksum);
                }
                Registration::Reason(reason) => {
                    put(reason_record::COMPONENT, component as usize);
                    put(reason_record::CHECKSUM, checksum);
                    ((address + reason_record::REASON) as *mut i32).write(reason);
                }
            }
            entry.set_state(INSERTED);
        }
        self.callbacks.lock().insert(address, (WHAT, entry.origin));
        self.crash_callbacks.0.lock().push(entry);
        true
    }

    /// `KeDeregisterBugCheckCallback`, `KeDeregisterBugCheckReasonCallback`: whether the record was registered.
    pub(crate) fn deregister_crash_callback(&self, address: usize) -> bool {
        let mut records = self.crash_callbacks.0.lock();
        let Some(at) = records.iter().position(|known| known.address == address) else { return false };
        let entry = records.remove(at);
        drop(records);
        self.callbacks.lock().remove(&address);
        // SAFETY: the driver had registered it, and gives it up now.
        unsafe { entry.set_state(EMPTY) };
        true
    }

    /// A block of pool is freed: a record that lies in it and is registered is reported.
    pub(super) fn crash_record_within(&self, range: &std::ops::Range<usize>) -> Option<usize> {
        let mut records = self.crash_callbacks.0.lock();
        let at = records.iter().position(|known| range.contains(&known.address))?;
        Some(records.remove(at).address)
    }

    /// A driver is unloaded: what it left registered is not called any more.
    pub(crate) fn forget_crash_callbacks(&self, driver: u32) {
        self.crash_callbacks.0.lock().retain(|known| known.origin.driver != driver);
    }

    /// Once after the machine stopped, when this thread is out of the driver: calls what a bug check calls, and notes it.
    pub(super) fn settle_crash(&self) {
        // Relaxed: one thread gets it; what it reads is ordered by the locks around it.
        if !self.crash_due.swap(false, Ordering::Relaxed) {
            return;
        }
        let code = self.bugcheck.lock().as_ref().map_or(0, |bugcheck| bugcheck.code);
        let called = self.call_crash_callbacks(code);
        if let Some(bugcheck) = self.bugcheck.lock().as_mut() {
            bugcheck.called = called;
        }
    }

    /// As a bug check does, on a machine that goes on.
    pub(crate) fn rehearse_crash(&self) -> Vec<CrashCall> {
        self.call_crash_callbacks(REHEARSAL)
    }

    fn call_crash_callbacks(&self, code: u32) -> Vec<CrashCall> {
        let mut called = Vec::new();
        let adapters: AddressMap<_> = self.adapters.read().iter().map(|(k, v)| (*k, v.clone())).collect();
        let mut adapters: Vec<_> = adapters.into_values().collect();
        adapters.sort_by_key(|adapter| adapter.id);
        for adapter in adapters {
            let told =
                !matches!(adapter.state(), State::Halted | State::Initializing) && adapter.wants_bugcheck();
            let Some(handler) = adapter.driver.characteristics().and_then(|c| c.ShutdownHandlerEx) else {
                continue;
            };
            if told {
                let entry = adapter.entry(thread::handler::SHUTDOWN, HIGH);
                // NdisShutdownBugCheck.
                let args = [adapter.context() as u64, 1, 0, 0, 0, 0, 0, 0];
                let name = format!("MiniportShutdownEx of {}", adapter.id);
                // SAFETY: the registered handler with its two arguments.
                called.push(unsafe { self.at_crash(name, entry, handler as usize, args) });
            }
        }
        let records = self.crash_callbacks.0.lock().clone();
        for entry in records {
            called.push(self.call_record(&entry, code));
        }
        called
    }

    /// Calls one record's routine, as often as its reason asks for.
    fn call_record(&self, registered: &Registered, code: u32) -> CrashCall {
        let kind = match registered.kind {
            Registration::Buffer(..) => CALLBACK,
            Registration::Reason(_) => REASON_CALLBACK,
        };
        let name = format!("{} `{}`", kind.name, registered.component);
        let (size, ..) = Registered::layout(registered.kind);
        let there = super::guard::readable(registered.address)
            && super::guard::readable(registered.address + size - 1);
        // SAFETY: readable, as was just found out; nobody else runs in a driver that has stopped.
        if !there || !unsafe { registered.intact() } {
            let text =
                format!("record {:#x} of a registered callback was overwritten or freed", registered.address);
            self.violate_past(None, rules::CALLBACK_USE, text.clone(), &[("registered", registered.origin)]);
            return CrashCall { name, failure: Some(text) };
        }
        // SAFETY: intact, hence still a record.
        unsafe { registered.set_state(STARTED) };
        let entry = Entry { handler: kind, driver: registered.origin.driver, adapter: None, irql: HIGH };
        let call = |args: [u64; 4]| {
            let args = [args[0], args[1], args[2], args[3], 0, 0, 0, 0];
            // SAFETY: the routine that was registered, with the arguments of its prototype, which live during the call.
            unsafe { self.at_crash(name.clone(), entry, registered.routine, args) }
        };
        let result = match registered.kind {
            Registration::Buffer(buffer, length) => call([buffer as u64, length.into(), 0, 0]),
            Registration::Reason(reason) => self.call_reason(reason, registered.address, code, &call),
        };
        let state = if result.failure.is_none() { FINISHED } else { INCOMPLETE };
        // SAFETY: it was a record before the call.
        unsafe { registered.set_state(state) };
        result
    }

    /// Calls a routine with the data of its reason.
    fn call_reason(
        &self,
        reason: i32,
        address: usize,
        code: u32,
        call: &dyn Fn([u64; 4]) -> CrashCall,
    ) -> CrashCall {
        let with = |data: &Memory, length: u64| {
            call([u64::from(reason.unsigned_abs()), address as u64, data.address() as u64, length])
        };
        let none = || CrashCall { name: String::new(), failure: Some("the host has no memory left".into()) };
        let Some(data) = Memory::guarded(self, 64, "data of a bugcheck callback") else { return none() };
        match reason {
            SECONDARY_DUMP_DATA => {
                let Some(buffer) = Memory::guarded(self, IN_BUFFER, "InBuffer of a bugcheck callback") else {
                    return none();
                };
                // SAFETY: fields of KBUGCHECK_SECONDARY_DUMP_DATA, within memory that nobody else knows.
                unsafe {
                    data.at::<usize>(0).write(buffer.address());
                    data.at::<u32>(8).write(u32::try_from(IN_BUFFER).unwrap_or(0));
                    data.at::<u32>(12).write(MAXIMUM_ALLOWED);
                }
                let result = with(&data, 48);
                // SAFETY: as above; the callback has written OutBuffer and OutBufferLength.
                let (out, length) = unsafe { (data.at::<usize>(32).read(), data.at::<u32>(40).read()) };
                let limit = if out == buffer.address() {
                    u32::try_from(IN_BUFFER).unwrap_or(0)
                } else {
                    MAXIMUM_ALLOWED
                };
                if length > limit {
                    let text = format!("OutBufferLength {length}: at most {limit} bytes are allowed");
                    self.violate(rules::PARAMETER, text);
                } else if length > 0 && !super::guard::readable(out) {
                    self.violate(
                        rules::POINTER_WILD,
                        format!("OutBuffer {out:#x}, where there is no memory"),
                    );
                }
                result
            }
            DUMP_IO => {
                let Some(buffer) = Memory::guarded(self, IN_BUFFER, "buffer of a bugcheck callback") else {
                    return none();
                };
                // KbDumpIoHeader, KbDumpIoBody, KbDumpIoComplete.
                let mut result = none();
                for kind in [1_u32, 2, 4] {
                    // SAFETY: fields of KBUGCHECK_DUMP_IO: Offset, Buffer, BufferLength, Type.
                    unsafe {
                        data.at::<u64>(0).write(if kind == 1 { 0 } else { u64::MAX });
                        data.at::<usize>(8).write(if kind == 4 { 0 } else { buffer.address() });
                        data.at::<u32>(16).write(if kind == 4 { 0 } else { 4096 });
                        data.at::<u32>(20).write(kind);
                    }
                    result = with(&data, 24);
                    if result.failure.is_some() {
                        break;
                    }
                }
                result
            }
            ADD_PAGES => {
                // SAFETY: BugCheckCode of KBUGCHECK_ADD_PAGES.
                unsafe { data.at::<u32>(12).write(code) };
                for _ in 0..MOST_RANGES {
                    // SAFETY: Flags, which the callback sets.
                    unsafe { data.at::<u32>(8).write(0) };
                    let result = with(&data, 32);
                    // SAFETY: as above.
                    let flags = unsafe { data.at::<u32>(8).read() };
                    if result.failure.is_some() || flags & MORE_RANGES == 0 {
                        return result;
                    }
                }
                CrashCall { failure: Some("it always has more ranges of pages".into()), ..with(&data, 32) }
            }
            TRIAGE_DUMP_DATA => {
                // SAFETY: fields of KBUGCHECK_TRIAGE_DUMP_DATA: Flags (bug check active), MaxVirtMemSize, BugCheckCode.
                unsafe {
                    data.at::<u32>(8).write(1);
                    data.at::<u32>(12).write(MAXIMUM_ALLOWED);
                    data.at::<u32>(16).write(code);
                }
                with(&data, 56)
            }
            _ => call([u64::from(reason.unsigned_abs()), address as u64, 0, 0]),
        }
    }

    /// Calls a routine of a driver at HIGH_LEVEL, guarded: what goes wrong in it ends it alone.
    ///
    /// # Safety
    /// As for [`Machine::enter`].
    unsafe fn at_crash(&self, name: String, entry: Entry, target: usize, args: [u64; 8]) -> CrashCall {
        // All other processors are stopped: none has to be waited for.
        let (irql, outer) = thread::with(|thread| (thread.stand_at(HIGH), thread.crash.enter()));
        // SAFETY: as the caller says.
        let result = unsafe { self.enter(entry, target, args) };
        let failure = thread::with(|thread| {
            thread.stand_at(irql);
            thread.crash.leave(outer)
        });
        let failure = failure.or_else(|| result.is_err().then(|| "it did not come back".to_owned()));
        if let Some(text) = &failure {
            self.violate(rules::BUGCHECK_CALLBACK, format!("{name}: {text}"));
        }
        CrashCall { name, failure }
    }
}

/// What a thread does for a bug check: whether it calls a callback, and what went wrong in that.
#[derive(Default)]
pub(crate) struct Crash {
    calling: std::cell::Cell<bool>,
    failure: std::cell::RefCell<Option<String>>,
}

impl Crash {
    pub(super) const fn new() -> Self {
        Self { calling: std::cell::Cell::new(false), failure: std::cell::RefCell::new(None) }
    }

    /// Whether the thread runs a callback of a machine that has stopped.
    pub(crate) fn is_calling(&self) -> bool {
        self.calling.get()
    }

    fn enter(&self) -> bool {
        self.failure.take();
        self.calling.replace(true)
    }

    fn leave(&self, outer: bool) -> Option<String> {
        self.calling.set(outer);
        self.failure.take()
    }

    /// The callback stops the machine once more: it is left.
    pub(super) fn fail(&self, text: String) {
        self.calling.set(false);
        self.failure.borrow_mut().get_or_insert(text);
    }
}
