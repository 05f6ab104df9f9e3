//! The I/O manager's side: device objects of an adapter, IRPs and their way through a driver.
//!
//! Layouts are those of the WDK for x64 (`tests/data/io-layouts.json`). An IRP is memory of the lab
//! that the driver has from the call of its dispatch routine until it completes it; then it is
//! poisoned, so that a late look finds nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use ndis_sys::{MDL, NTSTATUS};
use parking_lot::Mutex;

use super::ob::File;
use super::{AddressMap, Entry, Handler, Machine, PASSIVE, Stopped, thread};
use crate::adapter::{AdapterCore, AdapterId};
use crate::driver::DriverCore;
use crate::packet::Memory;
use crate::rules;

pub(crate) const IRP_MJ_CREATE: u8 = 0x00;
pub(crate) const IRP_MJ_CLOSE: u8 = 0x02;
pub(crate) const IRP_MJ_READ: u8 = 0x03;
pub(crate) const IRP_MJ_WRITE: u8 = 0x04;
pub(crate) const IRP_MJ_DEVICE_CONTROL: u8 = 0x0e;
pub(crate) const IRP_MJ_CLEANUP: u8 = 0x12;
pub(crate) const IRP_MJ_PNP: u8 = 0x1b;
/// `IRP_MJ_MAXIMUM_FUNCTION` and one.
pub(crate) const MAJORS: usize = 0x1c;

pub(crate) const STATUS_PENDING: NTSTATUS = 0x103;
pub(crate) const STATUS_INVALID_DEVICE_REQUEST: NTSTATUS = 0xc000_0010_u32.cast_signed();
pub(crate) const STATUS_NOT_SUPPORTED: NTSTATUS = 0xc000_00bb_u32.cast_signed();

/// `MULTIPLE_IRP_COMPLETE_REQUESTS`.
const MULTIPLE_COMPLETE: u32 = 0x44;
/// A program takes a request back.
const CANCEL: &Handler = &Handler { name: "DRIVER_CANCEL" };
/// How many completed IRPs are kept, poisoned.
const KEPT: usize = 64;
/// Bytes behind a buffer that have to stay as they are.
const GUARD: usize = 32;
const GUARD_BYTE: u8 = 0xc5;

/// `DRIVER_OBJECT`.
pub(crate) mod driver_object {
    pub(crate) const DEVICE_OBJECT: usize = 8;
    pub(crate) const MAJOR_FUNCTION: usize = 112;
}

/// `DEVICE_OBJECT`.
pub(crate) mod device_object {
    pub(crate) const SIZE: usize = 336;
    pub(crate) const OWN_SIZE: usize = 2;
    pub(crate) const REFERENCE_COUNT: usize = 4;
    pub(crate) const DRIVER_OBJECT: usize = 8;
    pub(crate) const NEXT_DEVICE: usize = 16;
    pub(crate) const ATTACHED_DEVICE: usize = 24;
    pub(crate) const FLAGS: usize = 48;
    pub(crate) const CHARACTERISTICS: usize = 52;
    pub(crate) const EXTENSION: usize = 64;
    pub(crate) const DEVICE_TYPE: usize = 72;
    pub(crate) const STACK_SIZE: usize = 76;
    /// `DO_EXCLUSIVE` and `DO_DEVICE_INITIALIZING` of `Flags`, and how reads and writes pass their data.
    pub(crate) const BUFFERED: u32 = 4;
    pub(crate) const EXCLUSIVE: u32 = 8;
    pub(crate) const DIRECT: u32 = 0x10;
    pub(crate) const INITIALIZING: u32 = 0x80;
    pub(crate) const HAS_NAME: u32 = 0x40;
}

/// `FILE_OBJECT`.
pub(crate) mod file {
    pub(crate) const SIZE: usize = 216;
    pub(crate) const OWN_SIZE: usize = 2;
    pub(crate) const DEVICE_OBJECT: usize = 8;
    pub(crate) const READ_ACCESS: usize = 74;
    pub(crate) const WRITE_ACCESS: usize = 75;
    pub(crate) const FLAGS: usize = 80;
}

/// `IRP`.
pub(crate) mod irp {
    pub(crate) const SIZE: usize = 208;
    pub(crate) const OWN_SIZE: usize = 2;
    pub(crate) const MDL_ADDRESS: usize = 8;
    pub(crate) const SYSTEM_BUFFER: usize = 24;
    pub(crate) const STATUS: usize = 48;
    pub(crate) const INFORMATION: usize = 56;
    pub(crate) const REQUESTOR_MODE: usize = 64;
    pub(crate) const STACK_COUNT: usize = 66;
    pub(crate) const CURRENT_LOCATION: usize = 67;
    pub(crate) const CANCEL_ROUTINE: usize = 104;
    pub(crate) const USER_BUFFER: usize = 112;
    /// `Tail`, and in its overlay `Thread`, `CurrentStackLocation` and `OriginalFileObject`.
    pub(crate) const TAIL: usize = 120;
    pub(crate) const THREAD: usize = TAIL + 32;
    pub(crate) const CURRENT_STACK: usize = TAIL + 64;
    pub(crate) const ORIGINAL_FILE: usize = TAIL + 72;
}

/// `IO_STACK_LOCATION`.
pub(crate) mod stack {
    pub(crate) const SIZE: usize = 72;
    pub(crate) const MAJOR: usize = 0;
    pub(crate) const MINOR: usize = 1;
    pub(crate) const CONTROL: usize = 3;
    pub(crate) const PARAMETERS: usize = 8;
    pub(crate) const DEVICE_OBJECT: usize = 40;
    pub(crate) const FILE_OBJECT: usize = 48;
    /// `SL_PENDING_RETURNED`.
    pub(crate) const PENDING_RETURNED: u8 = 1;
}

/// A device object of a driver. That of an adapter was made by NDIS, and lies above the bus driver's; others
/// were made by the driver, with IoCreateDevice or NdisRegisterDeviceEx.
pub(crate) struct Device {
    /// The bus driver's, and its DRIVER_OBJECT.
    physical: Option<(Memory, Memory)>,
    functional: Memory,
    pub(crate) driver: Arc<DriverCore>,
    pub(crate) adapter: Option<AdapterId>,
    /// The dispatch routines of a device that NDIS registered; those of the DRIVER_OBJECT for others.
    routines: Option<[usize; MAJORS]>,
}

/// What a device is made with.
pub(crate) struct Made {
    /// Bytes behind the DEVICE_OBJECT that are the driver's.
    pub(crate) extension: usize,
    pub(crate) kind: u32,
    pub(crate) characteristics: u32,
    pub(crate) flags: u32,
    pub(crate) routines: Option<[usize; MAJORS]>,
}

impl Device {
    /// `None` if the host has no memory.
    pub(crate) fn new(driver: Arc<DriverCore>, adapter: AdapterId) -> Option<Arc<Self>> {
        use device_object as d;
        let (physical, functional) = (Memory::zeroed(d::SIZE)?, Memory::zeroed(d::SIZE)?);
        let bus = Memory::zeroed(336)?;
        // SAFETY: offsets and types of DEVICE_OBJECT and DRIVER_OBJECT, within zeroed memory.
        unsafe {
            for (memory, object) in [(&physical, bus.address()), (&functional, driver.object())] {
                memory.at::<u16>(0).write(3);
                memory.at::<u16>(d::OWN_SIZE).write(336);
                memory.at::<i32>(d::REFERENCE_COUNT).write(0);
                memory.at::<usize>(d::DRIVER_OBJECT).write(object);
                // FILE_DEVICE_PHYSICAL_NETCARD; DO_POWER_PAGABLE and DO_DIRECT_IO, started.
                memory.at::<u32>(d::DEVICE_TYPE).write(0x17);
                memory.at::<u32>(d::FLAGS).write(0x2010);
                memory.at::<u32>(d::CHARACTERISTICS).write(0x100);
                memory.at::<i8>(d::STACK_SIZE).write(1);
            }
            physical.at::<usize>(d::ATTACHED_DEVICE).write(functional.address());
            functional.at::<i8>(d::STACK_SIZE).write(2);
            functional.at::<usize>(d::NEXT_DEVICE).write(driver.add_device(functional.address()));
        }
        let (physical, adapter) = (Some((physical, bus)), Some(adapter));
        Some(Arc::new(Self { physical, functional, driver, adapter, routines: None }))
    }

    /// A device that a driver makes; `None` if the host has no memory.
    pub(crate) fn made(driver: Arc<DriverCore>, made: &Made) -> Option<Arc<Self>> {
        use device_object as d;
        let functional = Memory::zeroed(d::SIZE + made.extension)?;
        // SAFETY: offsets and types of DEVICE_OBJECT, within zeroed memory that nobody else knows.
        unsafe {
            functional.at::<u16>(0).write(3);
            let size = u16::try_from(d::SIZE + made.extension).unwrap_or(u16::MAX);
            functional.at::<u16>(d::OWN_SIZE).write(size);
            functional.at::<usize>(d::DRIVER_OBJECT).write(driver.object());
            functional.at::<u32>(d::DEVICE_TYPE).write(made.kind);
            functional.at::<u32>(d::CHARACTERISTICS).write(made.characteristics);
            functional.at::<u32>(d::FLAGS).write(made.flags);
            functional.at::<i8>(d::STACK_SIZE).write(1);
            if made.extension > 0 {
                functional.at::<usize>(d::EXTENSION).write(functional.address() + d::SIZE);
            }
            functional.at::<usize>(d::NEXT_DEVICE).write(driver.add_device(functional.address()));
        }
        Some(Arc::new(Self { physical: None, functional, driver, adapter: None, routines: made.routines }))
    }

    /// The FDO.
    pub(crate) fn address(&self) -> usize {
        self.functional.address()
    }

    /// The PDO below an adapter's device; 0 for others.
    pub(crate) fn physical(&self) -> usize {
        self.physical.as_ref().map_or(0, |(device, _)| device.address())
    }

    /// `Flags`, which the driver may change.
    pub(crate) fn flags(&self) -> u32 {
        // SAFETY: within the DEVICE_OBJECT.
        unsafe { self.functional.at::<u32>(device_object::FLAGS).read_volatile() }
    }

    /// DriverEntry returned: what it made can be opened now.
    pub(crate) fn initialized(&self) {
        // SAFETY: as above; DriverEntry's thread is this one.
        unsafe {
            let flags = self.functional.at::<u32>(device_object::FLAGS);
            flags.write(flags.read() & !device_object::INITIALIZING);
        }
    }

    /// The dispatch routine of a major function.
    fn routine(&self, major: u8) -> usize {
        let index = usize::from(major).min(MAJORS - 1);
        self.routines.map_or_else(|| self.driver.major_function(major), |routines| routines[index])
    }

    /// Whether it can be opened: a device is being initialised until its driver says otherwise.
    pub(crate) fn can_be_opened(&self) -> bool {
        self.adapter.is_some() || self.flags() & device_object::INITIALIZING == 0
    }

    /// Nobody has any business with a device that is gone.
    pub(crate) fn poison(&self) {
        self.functional.poison(rules::DEVICE_USE);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.driver.remove_device(self.address());
    }
}

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

/// A buffer with guard bytes behind it.
struct Guarded {
    memory: Memory,
    length: usize,
}

impl Guarded {
    fn new(length: usize, contents: &[u8]) -> Option<Self> {
        let memory = Memory::zeroed(length + GUARD)?;
        // SAFETY: the contents are no longer than the buffer, which the guard follows.
        unsafe {
            std::ptr::copy_nonoverlapping(contents.as_ptr(), memory.at::<u8>(0), contents.len().min(length));
            std::ptr::write_bytes(memory.at::<u8>(length), GUARD_BYTE, GUARD);
        }
        Some(Self { memory, length })
    }

    fn bytes(&self, from: usize, to: usize) -> Vec<u8> {
        // SAFETY: within the buffer and its guard, which were initialised; the driver gave it back.
        unsafe { std::slice::from_raw_parts(self.memory.at::<u8>(from), to - from).to_vec() }
    }

    fn intact(&self) -> bool {
        self.bytes(self.length, self.length + GUARD).iter().all(|byte| *byte == GUARD_BYTE)
    }
}

struct Live {
    memory: Memory,
    /// Status and information, once it was completed.
    done: Option<(NTSTATUS, usize)>,
    /// Whether it was marked pending, as seen at completion.
    pending: bool,
}

/// All IRPs, and the devices that drivers made.
#[derive(Default)]
pub(crate) struct Io {
    live: Mutex<AddressMap<Live>>,
    retired: Mutex<VecDeque<Memory>>,
    /// Devices that were deleted, poisoned.
    deleted: Mutex<VecDeque<Arc<Device>>>,
    pub(super) namespace: Mutex<super::namespace::Namespace>,
    /// The word of the cancel spin lock.
    cancel: std::sync::atomic::AtomicUsize,
}

impl Io {
    /// The address of the cancel spin lock, which stays as long as the machine.
    pub(crate) fn cancel_lock(&self) -> usize {
        self.cancel.as_ptr() as usize
    }

    /// Keeps a deleted device from reuse for a while.
    pub(super) fn keep(&self, device: Arc<Device>) {
        let mut deleted = self.deleted.lock();
        deleted.push_back(device);
        let old = if deleted.len() > KEPT { deleted.pop_front() } else { None };
        drop(deleted);
        drop(old);
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
    fn new(device: &Device, request: &Request) -> Option<Self> {
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
        let first = if shared == 0 { None } else { Some(Guarded::new(shared, &request.input)?) };
        let second = if data == 0 {
            None
        } else {
            let buffer = Guarded::new(data, contents)?;
            let mdl = if method == 3 {
                None
            } else {
                let (address, length) = (buffer.memory.address(), u32::try_from(data).ok()?);
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

    fn intact(&self) -> bool {
        self.input.iter().chain(self.output.iter().map(|(buffer, _)| buffer)).all(Guarded::intact)
    }

    /// What came out.
    fn result(&self, count: usize) -> Vec<u8> {
        let from = self.output.as_ref().map(|(buffer, _)| buffer).or(self.input.as_ref());
        from.map(|buffer| buffer.bytes(0, count.min(buffer.length))).unwrap_or_default()
    }
}

/// Makes the IRP of a request, as the top of the device's stack gets it.
fn build_irp(device: &Device, request: &Request, buffers: &Buffers) -> Option<Memory> {
    let memory = Memory::zeroed(irp::SIZE + 2 * stack::SIZE)?;
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
            let first = buffers.input.as_ref().map_or(0, |buffer| buffer.memory.address());
            if request.major == IRP_MJ_DEVICE_CONTROL && request.parameters[2] & 3 == 3 {
                memory.at::<usize>(location + stack::PARAMETERS + 24).write(first);
            } else {
                memory.at::<usize>(irp::SYSTEM_BUFFER).write(first);
            }
            if let Some((buffer, mdl)) = &buffers.output {
                let mdl = mdl.as_ref().map_or(0, Memory::address);
                memory.at::<usize>(irp::MDL_ADDRESS).write(mdl);
                memory.at::<usize>(irp::USER_BUFFER).write(buffer.memory.address());
            }
        }
    }
    Some(memory)
}

impl Machine {
    /// Sends an IRP to the top of a device's stack, on this thread, and waits until it is completed.
    pub(crate) fn call_driver(&self, device: &Arc<Device>, request: &Request) -> Result<IoOutcome, Stopped> {
        let out_of_memory = || IoOutcome {
            status: super::ob::STATUS_INVALID_HANDLE,
            information: 0,
            output: Vec::new(),
            pended: false,
        };
        let Some(buffers) = Buffers::new(device, request) else { return Ok(out_of_memory()) };
        let Some(memory) = build_irp(device, request, &buffers) else { return Ok(out_of_memory()) };
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
        if pended {
            let done = || self.io.live.lock().get(&address).is_none_or(|live| live.done.is_some());
            let mut ended = self.wait_until(request.patience.unwrap_or(self.options.timeout), done);
            if !ended && request.patience.is_some() && !self.is_dead() {
                let entry = Entry { handler: CANCEL, irql: PASSIVE, ..entry };
                // SAFETY: IoCancelIrp with an IRP that lives, as the program's CancelIo calls it.
                unsafe {
                    self.enter(
                        entry,
                        crate::exports::devices::cancel(),
                        [address as u64, 0, 0, 0, 0, 0, 0, 0],
                    )
                }?;
                ended = self.wait_until(self.options.timeout, done);
            }
            if !ended {
                if self.is_dead() {
                    return Err(Stopped::new());
                }
                self.violate(rules::IRP_COMPLETION, format!("IRP {address:#x} is not completed in time"));
            }
        }
        let Some(live) = self.io.live.lock().remove(&address) else { return Ok(out_of_memory()) };
        let name = handler_of(request.major).name;
        let (status, information) = live.done.unwrap_or_else(|| {
            if !pended {
                let text =
                    format!("{name} returned {:#010x} without completing the IRP", returned.cast_unsigned());
                self.violate(rules::IRP_STATUS, text);
            }
            (returned, 0)
        });
        if pended != live.pending && live.done.is_some() {
            self.violate(
                rules::IRP_STATUS,
                format!("{name}: STATUS_PENDING and IoMarkIrpPending go together"),
            );
        }
        if !pended && status != returned {
            let (status, returned) = (status.cast_unsigned(), returned.cast_unsigned());
            self.violate(
                rules::IRP_STATUS,
                format!("{name} completed with {status:#010x}, returned {returned:#010x}"),
            );
        }
        if !buffers.intact() {
            self.violate(rules::IRP_BUFFER, format!("{name} wrote behind a buffer"));
        }
        let room = if request.major == IRP_MJ_WRITE { request.input.len() } else { request.output };
        let transfers = matches!(request.major, IRP_MJ_DEVICE_CONTROL | IRP_MJ_READ | IRP_MJ_WRITE);
        if transfers && information > room {
            self.violate(rules::IRP_BUFFER, format!("Information {information}: the buffer has {room}"));
        }
        let output = if status >= 0 { buffers.result(information.min(request.output)) } else { Vec::new() };
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
            self.violate(rules::IRP_COMPLETION, format!("IRP {address:#x} is none that this driver has"));
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
            self.violate(rules::IRP_COMPLETION, format!("completed with {:#x}", status.cast_unsigned()));
        }
        if cancel != 0 {
            self.violate(rules::IRP_COMPLETION, "completed with a cancel routine set");
        }
        self.check_no_lock("an IRP is completed");
        self.notify();
        Ok(())
    }

    /// The current stack location of an IRP: (major, minor, control code).
    pub(crate) fn irp_request(&self, address: usize) -> Option<(u8, u8, u32)> {
        let live = self.io.live.lock();
        let memory = &live.get(&address)?.memory;
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

impl AdapterCore {
    /// The adapter's device objects, made when they are asked for first; `None` without memory.
    pub(crate) fn device(&self) -> Option<Arc<Device>> {
        let mut device = self.device.lock();
        if device.is_none() {
            *device = Device::new(self.driver.clone(), self.id);
        }
        device.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"name": {"size": …, "fields": [["path", offset, "type"], …]}` of one structure.
    fn offsets(name: &str) -> (usize, Vec<(String, usize)>) {
        let text = include_str!("../../tests/data/io-layouts.json");
        let start = text.find(&format!("\"{name}\": ")).unwrap();
        let line = text[start..].lines().next().unwrap();
        let size = line.split("\"size\": ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let fields = line.split("[\"").skip(1).map(|field| {
            let (path, rest) = field.split_once("\", ").unwrap();
            (path.to_owned(), rest.split(',').next().unwrap().parse().unwrap())
        });
        (size, fields.collect())
    }

    fn check(name: &str, size: Option<usize>, expected: &[(&str, usize)]) {
        let (actual, fields) = offsets(name);
        assert!(size.is_none_or(|size| size == actual), "{name}");
        for (path, offset) in expected {
            let found =
                fields.iter().find(|(field, _)| field == path).unwrap_or_else(|| panic!("{name}.{path}"));
            assert_eq!(found.1, *offset, "{name}.{path}");
        }
    }

    #[test]
    fn offsets_are_the_wdks() {
        use device_object as d;
        check(
            "DEVICE_OBJECT",
            Some(d::SIZE),
            &[
                ("Size", d::OWN_SIZE),
                ("ReferenceCount", d::REFERENCE_COUNT),
                ("DriverObject", d::DRIVER_OBJECT),
                ("AttachedDevice", d::ATTACHED_DEVICE),
                ("NextDevice", d::NEXT_DEVICE),
                ("DeviceExtension", d::EXTENSION),
                ("Flags", d::FLAGS),
                ("Characteristics", d::CHARACTERISTICS),
                ("DeviceType", d::DEVICE_TYPE),
                ("StackSize", d::STACK_SIZE),
            ],
        );
        check(
            "DRIVER_OBJECT",
            Some(336),
            &[
                ("DeviceObject", driver_object::DEVICE_OBJECT),
                ("MajorFunction", driver_object::MAJOR_FUNCTION),
            ],
        );
        check(
            "FILE_OBJECT",
            Some(file::SIZE),
            &[
                ("Size", file::OWN_SIZE),
                ("DeviceObject", file::DEVICE_OBJECT),
                ("ReadAccess", file::READ_ACCESS),
                ("WriteAccess", file::WRITE_ACCESS),
                ("Flags", file::FLAGS),
            ],
        );
        check(
            "IRP",
            Some(irp::SIZE),
            &[
                ("Size", irp::OWN_SIZE),
                ("MdlAddress", irp::MDL_ADDRESS),
                ("AssociatedIrp", irp::SYSTEM_BUFFER),
                ("IoStatus", irp::STATUS),
                ("RequestorMode", irp::REQUESTOR_MODE),
                ("StackCount", irp::STACK_COUNT),
                ("CurrentLocation", irp::CURRENT_LOCATION),
                ("CancelRoutine", irp::CANCEL_ROUTINE),
                ("UserBuffer", irp::USER_BUFFER),
                ("Tail", irp::TAIL),
            ],
        );
        check("IO_STATUS_BLOCK", Some(16), &[("Information", irp::INFORMATION - irp::STATUS)]);
        check(
            "IO_STACK_LOCATION",
            Some(stack::SIZE),
            &[
                ("MajorFunction", stack::MAJOR),
                ("MinorFunction", stack::MINOR),
                ("Control", stack::CONTROL),
                ("Parameters", stack::PARAMETERS),
                ("DeviceObject", stack::DEVICE_OBJECT),
                ("FileObject", stack::FILE_OBJECT),
            ],
        );
    }
}
