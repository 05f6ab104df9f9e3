//! The user-mode side of a driver: processes that open its device, send it requests, share memory
//! and events with it, close it, or just die.
//!
//! A [`Process`] has a token, handles and memory of its own, as on Windows. What a driver locks of
//! that memory, it locks really: see `machine::user`. All calls run on the calling thread, at
//! PASSIVE_LEVEL, in the context of the process.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapter::{Adapter, State};
use crate::error::LabError;
use crate::lab::Lab;
use crate::machine::io::{
    IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_READ, IRP_MJ_WRITE, file as file_object,
};
use crate::machine::irp::Request;
use crate::machine::ob::{File, Kind};
use crate::machine::user::Pages;
use crate::machine::{Machine, PASSIVE, Stopped, thread};

pub use crate::machine::irp::IoOutcome;
pub use crate::machine::security::{Sid, Token};

/// Every right to a file.
const FILE_ALL_ACCESS: u32 = 0x001f_01ff;
/// Every right to an event.
const EVENT_ALL_ACCESS: u32 = 0x001f_0003;
/// `STATUS_NO_SUCH_DEVICE`.
const NO_SUCH_DEVICE: u32 = 0xc000_000e;
/// How often a waiting thread looks at a KEVENT that the driver sets without the lab.
const LOOK: Duration = Duration::from_millis(20);

struct Core {
    machine: Arc<Machine>,
    id: usize,
    name: String,
}

/// A simulated user-mode process. Clones name the same one; it ends with [`Process::exit`], or when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Process(Arc<Core>);

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.0.name).field("id", &self.0.id).finish()
    }
}

impl Lab {
    /// The devices that drivers made besides those of their adapters: their names, and the symbolic links to them.
    pub fn device_names(&self) -> Vec<(String, Vec<String>)> {
        self.machine().io.names()
    }

    /// Starts a process.
    ///
    /// # Errors
    /// [`LabError::BugCheck`]; [`LabError::Invalid`] if the host has no memory left.
    pub fn process(&self, name: &str, token: Token) -> Result<Process, LabError> {
        let machine = self.machine().clone();
        machine.alive()?;
        let id =
            machine.ob.create_process(None, token).ok_or(LabError::Invalid("the host has no memory left"))?;
        let core = Core { machine, id, name: name.to_owned() };
        core.machine.notify_process(id, true).map_err(|_| core.machine.dead_error())?;
        Ok(Process(Arc::new(core)))
    }
}

impl Core {
    /// Runs something as a thread of this process.
    fn run<R>(
        &self,
        operation: &'static str,
        body: impl FnOnce() -> Result<R, Stopped>,
    ) -> Result<R, LabError> {
        self.machine.alive()?;
        if thread::irql() != PASSIVE {
            return Err(LabError::Irql { irql: thread::irql(), operation });
        }
        let outer = thread::with(|thread| thread.process.replace(self.id));
        let result = body();
        thread::with(|thread| thread.process.set(outer));
        let result = result.map_err(|_| self.machine.dead_error())?;
        if thread::with(thread::Thread::machine).is_none() {
            self.machine.deliver_returns().map_err(|_| self.machine.dead_error())?;
        }
        Ok(result)
    }

    fn exit(&self) -> Result<(), LabError> {
        if self.machine.is_dead() || self.machine.ob.process_object(self.id).is_none() {
            return Ok(());
        }
        self.run("end a process", || {
            // As the kernel does: first the notification, then the handles, then the memory.
            self.machine.notify_process(self.id, false)?;
            for handle in self.machine.ob.exit_process(self.id) {
                if let Some(gone) = self.machine.ob.close(self.id, handle) {
                    self.machine.finish(gone)?;
                }
            }
            self.machine.check_process_pages(self.id);
            self.machine.ob.remove_process(self.id);
            Ok(())
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // A test that failed has left things that the driver would wait for.
        if !std::thread::panicking() {
            let _ = self.exit();
        }
    }
}

impl Process {
    /// Its identifier.
    pub fn id(&self) -> usize {
        self.0.id
    }

    /// Allocates zeroed memory of whole pages, as `VirtualAlloc` does.
    ///
    /// # Errors
    /// [`LabError::Invalid`] if the host has no memory left.
    pub fn allocate(&self, length: usize) -> Result<UserMemory, LabError> {
        self.memory(length, true)
    }

    /// Allocates memory that the process may only read.
    ///
    /// # Errors
    /// As [`Process::allocate`].
    pub fn allocate_read_only(&self, length: usize) -> Result<UserMemory, LabError> {
        self.memory(length, false)
    }

    fn memory(&self, length: usize, writable: bool) -> Result<UserMemory, LabError> {
        let pages = Arc::new(Pages::new(length).ok_or(LabError::Invalid("the host has no memory left"))?);
        self.0.machine.users.add(self.0.id, &pages, writable);
        Ok(UserMemory { pages, length })
    }

    /// Creates an event, as `CreateEvent` does; `auto_reset`: it releases one waiter, then is reset.
    ///
    /// # Errors
    /// [`LabError::Invalid`] if the host has no memory left.
    pub fn create_event(&self, auto_reset: bool) -> Result<UserEvent, LabError> {
        self.create_event_with(auto_reset, EVENT_ALL_ACCESS)
    }

    /// Creates an event whose handle grants these rights only.
    ///
    /// # Errors
    /// As [`Process::create_event`].
    pub fn create_event_with(&self, auto_reset: bool, access: u32) -> Result<UserEvent, LabError> {
        let machine = &self.0.machine;
        let full = LabError::Invalid("the host has no memory left");
        let Some(object) = machine.ob.create(Kind::Event, None) else { return Err(full) };
        // SAFETY: the object's memory begins with a dispatcher header; nobody else knows it yet.
        unsafe { (*(object as *mut ndis_sys::DISPATCHER_HEADER)).Type = u8::from(auto_reset) };
        // One reference for the handle, one for what is returned.
        machine.ob.hold(object);
        let handle = machine.ob.open(Some(self.0.id), object, access).ok_or(full)?;
        Ok(UserEvent { process: self.0.clone(), object, handle })
    }

    /// Opens an adapter's device, as `CreateFile` does on its interface.
    ///
    /// # Errors
    /// [`LabError::Device`] if the driver refuses; [`LabError::State`] for a halted adapter;
    /// [`LabError::BugCheck`].
    pub fn open(&self, adapter: &Adapter) -> Result<DeviceFile, LabError> {
        if matches!(adapter.state(), State::Halted | State::Initializing) {
            return Err(LabError::State { adapter: adapter.id(), state: adapter.state(), operation: "open" });
        }
        let device = adapter.core.device().ok_or(LabError::Invalid("the host has no memory left"))?;
        self.open_device(&device)
    }

    /// Opens a device by its name, as `CreateFile` does: `\\.\Name` or another symbolic link, or `\Device\Name`.
    ///
    /// # Errors
    /// [`LabError::Device`] if there is none, it is still being initialised, or the driver refuses;
    /// [`LabError::BugCheck`].
    pub fn open_name(&self, name: &str) -> Result<DeviceFile, LabError> {
        let found = self.0.machine.io.find(name).filter(|device| device.can_be_opened());
        let missing = LabError::Device { request: "IRP_MJ_CREATE", status: NO_SUCH_DEVICE };
        self.open_device(&found.ok_or(missing)?)
    }

    fn open_device(&self, device: &Arc<crate::machine::io::Device>) -> Result<DeviceFile, LabError> {
        let machine = &self.0.machine;
        let full = || LabError::Invalid("the host has no memory left");
        let file = File { device: device.clone(), process: self.0.id };
        let object = machine.ob.create(Kind::File, None).ok_or_else(full)?;
        // SAFETY: offsets and types of FILE_OBJECT, within the object's memory that nobody else
        // knows yet.
        unsafe {
            (object as *mut u16).write(5);
            ((object + file_object::OWN_SIZE) as *mut u16).write(216);
            ((object + file_object::DEVICE_OBJECT) as *mut usize).write(device.address());
            ((object + file_object::READ_ACCESS) as *mut u8).write(1);
            ((object + file_object::WRITE_ACCESS) as *mut u8).write(1);
            // FO_SYNCHRONOUS_IO and FO_HANDLE_CREATED.
            ((object + file_object::FLAGS) as *mut u32).write(0x4_0002);
        }
        let request = Request {
            major: IRP_MJ_CREATE,
            // FILE_OPEN and FILE_SYNCHRONOUS_IO_NONALERT; shared for reading and writing.
            parameters: [0, 1 << 24 | 0x20, 3 << 16, 0],
            file: object,
            user: true,
            ..Request::default()
        };
        let outcome = self.0.run("open a device", || machine.call_driver(device, &request));
        match outcome {
            Ok(outcome) if outcome.is_success() => {
                machine.ob.set_file(object, file);
                let handle = machine.ob.open(Some(self.0.id), object, FILE_ALL_ACCESS).ok_or_else(full)?;
                Ok(DeviceFile { process: self.0.clone(), handle })
            }
            other => {
                let _ = machine.ob.release(object);
                Err(LabError::Device { request: "IRP_MJ_CREATE", status: other?.status.cast_unsigned() })
            }
        }
    }

    /// Ends the process: drivers are told, its handles are closed, its memory goes.
    ///
    /// # Errors
    /// [`LabError::BugCheck`].
    pub fn exit(&self) -> Result<(), LabError> {
        self.0.exit()
    }
}

/// Memory of a process. It stays mapped for the lab as long as this value lives.
#[derive(Clone, Debug)]
pub struct UserMemory {
    pages: Arc<Pages>,
    length: usize,
}

impl UserMemory {
    /// Its address in the process, which is also where the lab's user finds it.
    pub fn address(&self) -> usize {
        self.pages.address()
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no byte was asked for.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn check(&self, offset: usize, length: usize) {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.pages.length()),
            "{length} bytes at {offset} of {}",
            self.pages.length()
        );
    }

    /// Copies bytes in. The driver may look at any time.
    ///
    /// # Panics
    /// If they do not lie within the memory.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: within the pages, which stay mapped; the driver shares them, so that accesses
            // are volatile, and which bytes are whose at a time is its protocol's business.
            unsafe { ((self.address() + offset + index) as *mut u8).write_volatile(*byte) };
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If they do not lie within the memory.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        self.check(offset, length);
        // SAFETY: as in `write`.
        (0..length)
            .map(|index| unsafe { ((self.address() + offset + index) as *const u8).read_volatile() })
            .collect()
    }

    /// A number that the driver shares, to be accessed atomically.
    ///
    /// # Panics
    /// If it does not lie within the memory, or is not aligned.
    pub fn atomic(&self, offset: usize) -> &std::sync::atomic::AtomicU32 {
        self.check(offset, 4);
        assert!(offset.is_multiple_of(4), "{offset} is not aligned");
        // SAFETY: within the pages, aligned, and accessed atomically by this side; the reference
        // does not outlive the mapping.
        unsafe { std::sync::atomic::AtomicU32::from_ptr((self.address() + offset) as *mut u32) }
    }
}

/// An event of a process.
pub struct UserEvent {
    process: Arc<Core>,
    object: usize,
    handle: usize,
}

impl fmt::Debug for UserEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserEvent").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl UserEvent {
    /// Its handle in the process.
    pub fn handle(&self) -> usize {
        self.handle
    }

    /// Sets it.
    pub fn set(&self) {
        self.process.machine.set_signal(self.object, 1);
    }

    /// Resets it.
    pub fn reset(&self) {
        self.process.machine.set_signal(self.object, 0);
    }

    /// Waits for it; `false` if it is not set in time, or the machine stops.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let step = LOOK.min(deadline.saturating_duration_since(Instant::now()));
            match self.process.machine.wait_signal(self.object, Some(step)) {
                Ok(true) => return true,
                Ok(false) if Instant::now() < deadline => {}
                _ => return false,
            }
        }
    }
}

impl Drop for UserEvent {
    fn drop(&mut self) {
        let machine = &self.process.machine;
        // The process may have ended, and its handles with it.
        if let Some(gone) = machine.ob.close(self.process.id, self.handle) {
            let _ = machine.finish(gone);
        }
        let _ = machine.ob.release(self.object);
    }
}

/// A handle of a device in a process.
pub struct DeviceFile {
    process: Arc<Core>,
    handle: usize,
}

impl fmt::Debug for DeviceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFile").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl DeviceFile {
    /// Its handle in the process.
    pub fn handle(&self) -> usize {
        self.handle
    }

    /// Whether the handle is open: a driver may close it (`ObCloseHandle`).
    pub fn is_open(&self) -> bool {
        self.process.machine.ob.look(self.process.id, self.handle).is_some()
    }

    /// `DeviceIoControl`: passes `input`, and up to `output` bytes come back.
    ///
    /// # Errors
    /// [`LabError::BugCheck`]; [`LabError::Invalid`] if the handle is closed. A failure that the
    /// driver returns is an outcome.
    pub fn control(&self, code: u32, input: &[u8], output: usize) -> Result<IoOutcome, LabError> {
        self.send(Request {
            major: IRP_MJ_DEVICE_CONTROL,
            parameters: [output as u64, input.len() as u64, u64::from(code), 0],
            input: input.to_vec(),
            output,
            ..Request::default()
        })
    }

    /// `ReadFile`: up to `length` bytes come back. A request that is pending after `patience` is cancelled.
    ///
    /// # Errors
    /// As [`DeviceFile::control`].
    pub fn read(&self, length: usize, patience: Duration) -> Result<IoOutcome, LabError> {
        let (parameters, patience) = ([length as u64, 0, 0, 0], Some(patience));
        self.send(Request { major: IRP_MJ_READ, parameters, output: length, patience, ..Request::default() })
    }

    /// `WriteFile`.
    ///
    /// # Errors
    /// As [`DeviceFile::control`].
    pub fn write(&self, bytes: &[u8]) -> Result<IoOutcome, LabError> {
        let parameters = [bytes.len() as u64, 0, 0, 0];
        self.send(Request { major: IRP_MJ_WRITE, parameters, input: bytes.to_vec(), ..Request::default() })
    }

    fn send(&self, request: Request) -> Result<IoOutcome, LabError> {
        let machine = &self.process.machine;
        let closed = LabError::Invalid("the handle is closed");
        let Some((object, Kind::File, _)) = machine.ob.look(self.process.id, self.handle) else {
            return Err(closed);
        };
        let Some(file) = machine.ob.file(object) else { return Err(closed) };
        let request = Request { file: object, user: true, ..request };
        // The request keeps the file open, whatever becomes of the handle.
        machine.ob.hold(object);
        let outcome = self.process.run("send a request", || machine.call_driver(&file.device, &request));
        let gone = machine.ob.release(object);
        machine.finish(gone).map_err(|_| machine.dead_error())?;
        outcome
    }

    /// `CloseHandle`: IRP_MJ_CLEANUP and, if nothing else refers to the file, IRP_MJ_CLOSE.
    ///
    /// # Errors
    /// [`LabError::BugCheck`].
    pub fn close(self) -> Result<(), LabError> {
        self.close_handle()
    }

    fn close_handle(&self) -> Result<(), LabError> {
        let machine = &self.process.machine;
        if machine.is_dead() || !self.is_open() {
            return Ok(());
        }
        self.process.run("close a device", || {
            machine.ob.close(self.process.id, self.handle).map_or(Ok(()), |gone| machine.finish(gone))
        })
    }
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.close_handle();
        }
    }
}

/// Minor function codes of IRP_MJ_PNP that the lab sends before it halts an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PnpRequest {
    /// `IRP_MN_QUERY_REMOVE_DEVICE`: may the device go?
    QueryRemove,
    /// `IRP_MN_CANCEL_REMOVE_DEVICE`: it stays after all.
    CancelRemove,
    /// `IRP_MN_SURPRISE_REMOVAL`: it is gone.
    SurpriseRemoval,
}

impl Adapter {
    /// Sends a PnP request to the adapter's device, as the PnP manager does, in the system process.
    ///
    /// # Errors
    /// [`LabError::BugCheck`]; [`LabError::State`] for a halted adapter. A refusal is an outcome.
    pub fn pnp_request(&self, request: PnpRequest) -> Result<IoOutcome, LabError> {
        let machine = &self.machine;
        machine.alive()?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(LabError::State { adapter: self.id(), state: self.state(), operation: "ask" });
        }
        let device = self.core.device().ok_or(LabError::Invalid("the host has no memory left"))?;
        let minor = match request {
            PnpRequest::QueryRemove => 1,
            PnpRequest::CancelRemove => 3,
            PnpRequest::SurpriseRemoval => 0x17,
        };
        let request = Request { major: IRP_MJ_PNP, minor, ..Request::default() };
        machine.call_driver(&device, &request).map_err(|_| machine.dead_error())
    }
}
