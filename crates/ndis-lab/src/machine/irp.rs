//! IRPs: what a program's request becomes, its buffers, and how a driver ends it.
//!
//! An IRP is memory of the lab that the driver has from the call of its dispatch routine until it completes it; then
//! it is closed, so that a late look is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndis_sys::{MDL, NTSTATUS};

use super::io::{
    Device, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_READ,
    IRP_MJ_WRITE, Live, STATUS_NOT_SUPPORTED, STATUS_PENDING, device_object, irp, stack,
};
use super::ob::File;
use super::user::Pages;
use super::{Entry, Handler, Machine, PASSIVE, Stopped, thread};
use crate::packet::Memory;
use crate::rules;

/// `MULTIPLE_IRP_COMPLETE_REQUESTS`.
const MULTIPLE_COMPLETE: u32 = 0x44;
/// A program takes a request back.
const CANCEL: &Handler = &Handler { name: "DRIVER_CANCEL" };
/// How many completed IRPs are kept, poisoned.
const KEPT: usize = 64;
/// Bytes behind a buffer that have to stay as they are.
const GUARD: usize = 32;
const GUARD_BYTE: u8 = 0xc5;

/// What an IRP is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) major: u8,
    pub(crate) minor: u8,
    pub(crate) parameters: [u64; 4],
    /// The FILE_OBJECT, or 0.
    pub(crate) file: usize,
    /// From user mode, or from the kernel (PnP).
    pub(crate) user: bool,
    /// For device control: what to pass in, and how much may come out.
    pub(crate) input: Vec<u8>,
    pub(crate) output: usize,
    /// How long it may be pending before it is cancelled; `None`: it is not cancelled.
    pub(crate) patience: Option<std::time::Duration>,
}

/// How an IRP ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoOutcome {
    /// `IoStatus.Status`.
    pub status: NTSTATUS,
    /// `IoStatus.Information`: for most requests the number of bytes that came out.
    pub information: usize,
    /// What came out.
    pub output: Vec<u8>,
    /// Whether the driver left the request pending for a while.
    pub pended: bool,
}

impl IoOutcome {
    /// Whether the status is a success.
    pub fn is_success(&self) -> bool {
        self.status >= 0
    }
}

/// Where a buffer lies.
enum Place {
    Kernel(Memory),
    /// In the program's own memory, which a driver probes.
    Program(Arc<Pages>),
}

/// A buffer with guard bytes behind it.
struct Guarded {
    place: Place,
    length: usize,
}

impl Guarded {
    /// A buffer in kernel memory, or in that of the current process.
    fn new(machine: &Machine, program: bool, length: usize, contents: &[u8]) -> Option<Self> {
        let place = if program {
            let pages = Arc::new(Pages::new(length + GUARD)?);
            machine.users.add(machine.current_process(false), &pages, true);
            Place::Program(pages)
        } else {
            Place::Kernel(Memory::zeroed(length + GUARD)?)
        };
        let buffer = Self { place, length };
        let start = buffer.address() as *mut u8;
        // SAFETY: the contents are no longer than the buffer, which the guard follows.
        unsafe {
            std::ptr::copy_nonoverlapping(contents.as_ptr(), start, contents.len().min(length));
            std::ptr::write_bytes(start.add(length), GUARD_BYTE, GUARD);
        }
        Some(buffer)
    }

    fn address(&self) -> usize {
        match &self.place {
            Place::Kernel(memory) => memory.address(),
            Place::Program(pages) => pages.address(),
        }
    }

    fn bytes(&self, from: usize, to: usize) -> Vec<u8> {
        // SAFETY: within the buffer and its guard, which were initialised; the driver gave it back.
        unsafe { std::slice::from_raw_parts((self.address() + from) as *const u8, to - from).to_vec() }
    }

    fn intact(&self) -> bool {
        self.bytes(self.length, self.length + GUARD).iter().all(|byte| *byte == GUARD_BYTE)
    }

    /// The program takes it back.
    fn release(&self, machine: &Machine) {
        if let Place::Program(pages) = &self.place {
            machine.users.remove(pages.address());
        }
    }
}

fn handler_of(major: u8) -> &'static Handler {
    const NAMES: [&Handler; 8] = [
        &Handler { name: "IRP_MJ_CREATE" },
        &Handler { name: "IRP_MJ_CLOSE" },
        &Handler { name: "IRP_MJ_DEVICE_CONTROL" },
        &Handler { name: "IRP_MJ_CLEANUP" },
        &Handler { name: "IRP_MJ_PNP" },
        &Handler { name: "DRIVER_DISPATCH" },
        &Handler { name: "IRP_MJ_READ" },
        &Handler { name: "IRP_MJ_WRITE" },
    ];
    match major {
        IRP_MJ_CREATE => NAMES[0],
        IRP_MJ_CLOSE => NAMES[1],
        IRP_MJ_DEVICE_CONTROL => NAMES[2],
        IRP_MJ_CLEANUP => NAMES[3],
        IRP_MJ_PNP => NAMES[4],
        IRP_MJ_READ => NAMES[6],
        IRP_MJ_WRITE => NAMES[7],
        _ => NAMES[5],
    }
}

/// The buffers of an IRP.
struct Buffers {
    /// `AssociatedIrp.SystemBuffer`, or the input of METHOD_NEITHER.
    input: Option<Guarded>,
    /// What a direct or neither method writes to, and the MDL over it.
    output: Option<(Guarded, Option<Memory>)>,
}

impl Buffers {
    fn new(machine: &Machine, device: &Device, request: &Request) -> Option<Self> {
        let method = match request.major {
            IRP_MJ_DEVICE_CONTROL => request.parameters[2] & 3,
            // Reads and writes as the device says: METHOD_BUFFERED, METHOD_OUT_DIRECT or neither.
            _ if device.flags() & device_object::BUFFERED != 0 => 0,
            _ if device.flags() & device_object::DIRECT != 0 => 2,
            _ => 3,
        };
        let (input, output) = (request.input.len(), request.output);
        // What is written lies where what is read would come.
        let (shared, data, contents): (usize, usize, &[u8]) = match (request.major, method) {
            (_, 0) => (input.max(output), 0, &[]),
            (IRP_MJ_WRITE, _) => (0, input, &request.input),
            _ => (input, output, &[]),
        };
        let program = method == 3 && request.user;
        let first =
            if shared == 0 { None } else { Some(Guarded::new(machine, program, shared, &request.input)?) };
        let second = if data == 0 {
            None
        } else {
            let buffer = Guarded::new(machine, program, data, contents)?;
            let mdl = if method == 3 {
                None
            } else {
                let (address, length) = (buffer.address(), u32::try_from(data).ok()?);
                let mdl = Memory::zeroed(crate::packet::mdl_bytes(address, length))?;
                // SAFETY: the memory holds an MDL of that buffer.
                unsafe {
                    crate::packet::write_mdl(mdl.at::<MDL>(0), address, length, true);
                    (*mdl.at::<MDL>(0)).MdlFlags |= ndis_sys::MDL_PAGES_LOCKED;
                }
                Some(mdl)
            };
            Some((buffer, mdl))
        };
        Some(Self { input: first, output: second })
    }

    fn release(&self, machine: &Machine) {
        let buffers = self.input.iter().chain(self.output.iter().map(|(buffer, _)| buffer));
        buffers.for_each(|buffer| buffer.release(machine));
    }

    /// The length of a buffer behind which something was written.
    fn overrun(&self) -> Option<usize> {
        let buffers = self.input.iter().chain(self.output.iter().map(|(buffer, _)| buffer));
        buffers.filter(|buffer| !buffer.intact()).map(|buffer| buffer.length).next()
    }

    /// What came out.
    fn result(&self, count: usize) -> Vec<u8> {
        let from = self.output.as_ref().map(|(buffer, _)| buffer).or(self.input.as_ref());
        from.map(|buffer| buffer.bytes(0, count.min(buffer.length))).unwrap_or_default()
    }
}

/// Makes the IRP of a request, as the top of the device's stack gets it.
fn build_irp(machine: &Machine, device: &Device, request: &Request, buffers: &Buffers) -> Option<Memory> {
    let memory = Memory::guarded(machine, irp::SIZE + 2 * stack::SIZE, "IRP")?;
    let address = memory.address();
    // SAFETY: offsets and types of IRP and IO_STACK_LOCATION, within zeroed memory that nobody
    // else knows yet. The FDO is on top, so its location is the last one.
    unsafe {
        memory.at::<u16>(0).write(6);
        memory.at::<u16>(irp::OWN_SIZE).write(208 + 2 * 72);
        memory.at::<i8>(irp::REQUESTOR_MODE).write(i8::from(request.user));
        memory.at::<i8>(irp::STACK_COUNT).write(2);
        memory.at::<i8>(irp::CURRENT_LOCATION).write(2);
        if request.major == IRP_MJ_PNP {
            memory.at::<i32>(irp::STATUS).write(STATUS_NOT_SUPPORTED);
        }
        memory.at::<usize>(irp::THREAD).write(super::processor_block::current_thread());
        memory.at::<usize>(irp::ORIGINAL_FILE).write(request.file);
        let location = irp::SIZE + stack::SIZE;
        memory.at::<usize>(irp::CURRENT_STACK).write(address + location);
        memory.at::<u8>(location + stack::MAJOR).write(request.major);
        memory.at::<u8>(location + stack::MINOR).write(request.minor);
        memory.at::<[u64; 4]>(location + stack::PARAMETERS).write(request.parameters);
        memory.at::<usize>(location + stack::DEVICE_OBJECT).write(device.address());
        memory.at::<usize>(location + stack::FILE_OBJECT).write(request.file);
        if matches!(request.major, IRP_MJ_DEVICE_CONTROL | IRP_MJ_READ | IRP_MJ_WRITE) {
            let first = buffers.input.as_ref().map_or(0, Guarded::address);
            if request.major == IRP_MJ_DEVICE_CONTROL && request.parameters[2] & 3 == 3 {
                memory.at::<usize>(location + stack::PARAMETERS + 24).write(first);
            } else {
                memory.at::<usize>(irp::SYSTEM_BUFFER).write(first);
            }
            if let Some((buffer, mdl)) = &buffers.output {
                let mdl = mdl.as_ref().map_or(0, Memory::address);
                memory.at::<usize>(irp::MDL_ADDRESS).write(mdl);
                memory.at::<usize>(irp::USER_BUFFER).write(buffer.address());
            }
        }
    }
    Some(memory)
}

impl Machine {
    /// A request in words, for reports.
    fn tell(&self, device: &Device, request: &Request) -> String {
        let name = handler_of(request.major).name;
        let lengths = format!("{} bytes in, {} out", request.input.len(), request.output);
        let name = match request.major {
            IRP_MJ_DEVICE_CONTROL => format!("{name} {:#010x} with {lengths}", request.parameters[2]),
            IRP_MJ_READ => format!("{name} of {} bytes", request.output),
            IRP_MJ_WRITE => format!("{name} of {} bytes", request.input.len()),
            _ => name.to_owned(),
        };
        self.io.device_name(device.address()).map_or(name.clone(), |device| format!("{name} to {device}"))
    }

    /// Sends an IRP to the top of a device's stack, on this thread, and waits until it is completed.
    pub(crate) fn call_driver(&self, device: &Arc<Device>, request: &Request) -> Result<IoOutcome, Stopped> {
        let out_of_memory = || IoOutcome {
            status: super::ob::STATUS_INVALID_HANDLE,
            information: 0,
            output: Vec::new(),
            pended: false,
        };
        let what = || self.tell(device, request);
        let Some(buffers) = Buffers::new(self, device, request) else { return Ok(out_of_memory()) };
        let Some(memory) = build_irp(self, device, request, &buffers) else { return Ok(out_of_memory()) };
        let address = memory.address();
        self.io.live.lock().insert(address, Live { memory, done: None, pending: false });
        let entry = Entry {
            handler: handler_of(request.major),
            driver: device.driver.id,
            adapter: device.adapter,
            irql: PASSIVE,
        };
        let target = device.routine(request.major);
        let args = [device.address() as u64, address as u64, 0, 0, 0, 0, 0, 0];
        // SAFETY: the dispatch routine that the driver, or NDIS for it, put into its DRIVER_OBJECT;
        // the IRP lives until it was completed.
        let returned = unsafe { self.enter(entry, target, args) }?;
        let returned = ((returned & 0xffff_ffff) as u32).cast_signed();
        let pended = returned == STATUS_PENDING;
        if pended && !self.wait_for_irp(address, request, entry)? {
            let taken_back = request.patience.is_some();
            let cancelled = if taken_back { ", although it was cancelled" } else { "" };
            self.violate(rules::IRP_COMPLETION, format!("{}: the IRP is not completed{cancelled}", what()));
        }
        let Some(live) = self.io.live.lock().remove(&address) else { return Ok(out_of_memory()) };
        let (status, information) = live.done.unwrap_or_else(|| {
            if !pended {
                let returned = returned.cast_unsigned();
                self.violate(
                    rules::IRP_STATUS,
                    format!("{}: the driver returned {returned:#010x} without completing the IRP", what()),
                );
            }
            (returned, 0)
        });
        if pended != live.pending && live.done.is_some() {
            let text = if pended {
                "returned STATUS_PENDING, and did not mark the IRP pending (IoMarkIrpPending)".to_owned()
            } else {
                format!("marked the IRP pending, and returned {:#010x}", returned.cast_unsigned())
            };
            self.violate(rules::IRP_STATUS, format!("{}: the driver {text}", what()));
        }
        if !pended && status != returned {
            let (status, returned) = (status.cast_unsigned(), returned.cast_unsigned());
            self.violate(
                rules::IRP_STATUS,
                format!("{}: the driver completed with {status:#010x} and returned {returned:#010x}", what()),
            );
        }
        if let Some(length) = buffers.overrun() {
            self.violate(
                rules::IRP_BUFFER,
                format!("{}: the driver wrote behind the end of a buffer of {length} bytes", what()),
            );
        }
        let room = if request.major == IRP_MJ_WRITE { request.input.len() } else { request.output };
        let transfers = matches!(request.major, IRP_MJ_DEVICE_CONTROL | IRP_MJ_READ | IRP_MJ_WRITE);
        if transfers && information > room {
            self.violate(
                rules::IRP_BUFFER,
                format!("{}: IoStatus.Information {information}, and the buffer has {room} bytes", what()),
            );
        }
        let output = if status >= 0 { buffers.result(information.min(request.output)) } else { Vec::new() };
        buffers.release(self);
        if live.done.is_none() {
            live.memory.poison(rules::IRP_COMPLETION);
        }
        let mut retired = self.io.retired.lock();
        retired.push_back(live.memory);
        let old = if retired.len() > KEPT { retired.pop_front() } else { None };
        drop(retired);
        if old.is_some_and(|memory| !memory.intact()) {
            self.violate(rules::IRP_COMPLETION, "a completed IRP was written");
        }
        Ok(IoOutcome { status, information, output, pended })
    }

    /// Waits for an IRP that is pending, cancels it if its program has no patience any more; says whether it was completed.
    fn wait_for_irp(&self, address: usize, request: &Request, entry: Entry) -> Result<bool, Stopped> {
        let done = || self.io.live.lock().get(&address).is_none_or(|live| live.done.is_some());
        let mut ended = self.wait_until(request.patience.unwrap_or(self.options.timeout), done);
        if !ended && request.patience.is_some() && !self.is_dead() {
            let entry = Entry { handler: CANCEL, irql: PASSIVE, ..entry };
            let args = [address as u64, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: IoCancelIrp with an IRP that lives, as the program's CancelIo calls it.
            unsafe { self.enter(entry, crate::exports::devices::cancel(), args) }?;
            ended = self.wait_until(self.options.timeout, done);
        }
        if !ended && self.is_dead() { Err(Stopped::new()) } else { Ok(ended) }
    }

    /// CLEANUP and CLOSE of a file, in the process that had it open.
    pub(crate) fn file_irp(&self, file: &File, object: usize, major: u8) -> Result<(), Stopped> {
        let request = Request { major, file: object, user: major == IRP_MJ_CLEANUP, ..Request::default() };
        let outer = thread::with(|thread| thread.process.replace(file.process));
        let result = self.call_driver(&file.device, &request);
        thread::with(|thread| thread.process.set(outer));
        result.map(|_| ())
    }

    /// `IoCompleteRequest`.
    pub(crate) fn complete_irp(&self, address: usize) -> Result<(), Stopped> {
        let mut live = self.io.live.lock();
        let Some(record) = live.get_mut(&address).filter(|record| record.done.is_none()) else {
            drop(live);
            self.violate(
                rules::IRP_COMPLETION,
                format!(
                    "IRP {address:#x} is none that this driver has: it was completed before, or never was one"
                ),
            );
            return Err(self.stop(
                MULTIPLE_COMPLETE,
                [address as u64, 0, 0, 0],
                "completion of what is no IRP",
            ));
        };
        // SAFETY: the record holds the IRP's memory; the driver owns it until this call.
        let (status, information, cancel, control) = unsafe {
            let control = record.memory.at::<u8>(irp::SIZE + stack::SIZE + stack::CONTROL).read();
            (
                record.memory.at::<i32>(irp::STATUS).read(),
                record.memory.at::<usize>(irp::INFORMATION).read(),
                record.memory.at::<usize>(irp::CANCEL_ROUTINE).read(),
                control,
            )
        };
        record.done = Some((status, information));
        record.pending = control & stack::PENDING_RETURNED != 0;
        // From here on the driver has no business with it.
        record.memory.poison(rules::IRP_COMPLETION);
        drop(live);
        if status == STATUS_PENDING || status == -1 {
            let status = status.cast_unsigned();
            self.violate(
                rules::IRP_COMPLETION,
                format!("completed with IoStatus.Status {status:#010x}, which is not final"),
            );
        }
        if cancel != 0 {
            self.violate(
                rules::IRP_COMPLETION,
                "completed with a cancel routine set (IoSetCancelRoutine(Irp, NULL) comes first)",
            );
        }
        self.check_no_lock("an IRP is completed");
        self.notify();
        Ok(())
    }

    /// `IoCancelIrp`, with the cancel spin lock held: marks an IRP, and takes its cancel routine out; with the device that
    /// the routine gets. An IRP that has just been completed has none.
    pub(crate) fn mark_cancelled(&self, address: usize, irql: u8) -> Option<(usize, usize)> {
        let live = self.io.live.lock();
        let record = live.get(&address).filter(|record| record.done.is_none())?;
        let memory = &record.memory;
        // SAFETY: the IRP's memory, which nobody gives away while the table is locked; the driver exchanges the routine
        // atomically too.
        let routine = unsafe {
            memory.at::<u8>(irp::CANCEL).write_volatile(1);
            AtomicUsize::from_ptr(memory.at::<usize>(irp::CANCEL_ROUTINE)).swap(0, Ordering::AcqRel)
        };
        if routine == 0 {
            return None;
        }
        // SAFETY: as above.
        let device = unsafe {
            memory.at::<u8>(irp::CANCEL_IRQL).write(irql);
            memory.at::<usize>(irp::SIZE + stack::SIZE + stack::DEVICE_OBJECT).read()
        };
        Some((routine, device))
    }

    /// Whether an IRP has not gone back to its program.
    pub(crate) fn irp_lives(&self, address: usize) -> bool {
        self.io.live.lock().contains_key(&address)
    }

    /// The current stack location of an IRP that the driver has: (major, minor, control code).
    pub(crate) fn irp_request(&self, address: usize) -> Option<(u8, u8, u32)> {
        let live = self.io.live.lock();
        let memory = &live.get(&address).filter(|record| record.done.is_none())?.memory;
        let location = irp::SIZE + stack::SIZE;
        // SAFETY: within the IRP's memory, which lives while the table is locked.
        unsafe {
            Some((
                memory.at::<u8>(location + stack::MAJOR).read(),
                memory.at::<u8>(location + stack::MINOR).read(),
                memory.at::<u32>(location + stack::PARAMETERS + 16).read(),
            ))
        }
    }

    /// Completes an IRP as NDIS does.
    pub(crate) fn end_irp(&self, address: usize, status: NTSTATUS) -> Result<NTSTATUS, Stopped> {
        if let Some(record) = self.io.live.lock().get(&address) {
            // SAFETY: within the IRP's memory, which lives while the table is locked.
            unsafe { record.memory.at::<i32>(irp::STATUS).write(status) };
        }
        self.complete_irp(address)?;
        Ok(status)
    }
}
