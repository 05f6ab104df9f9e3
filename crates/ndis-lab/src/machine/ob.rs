//! The object manager: events, threads, processes and files, their references and handles.
//!
//! Each object is memory of the lab that begins with what drivers may use of it (a KEVENT, a
//! dispatcher header, a FILE_OBJECT). References that a driver takes are counted by who took them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ndis_sys::NTSTATUS;
use parking_lot::{Mutex, MutexGuard};

use super::io::Device;
use super::security::Token;
use super::{AddressMap, Machine, Origin, Stopped, thread};
use crate::packet::Memory;
use crate::rules;

/// `REFERENCE_BY_POINTER`.
const REFERENCE_BY_POINTER: u32 = 0x18;
/// Freed objects that are kept from reuse.
const QUARANTINE: usize = 64;
/// Kernel handles have this bit, and handles of a process do not.
pub(crate) const KERNEL_HANDLE: usize = 0xffff_ffff_8000_0000;
/// The system process.
pub(crate) const SYSTEM: usize = 4;

pub(crate) const STATUS_INVALID_HANDLE: NTSTATUS = 0xc000_0008_u32.cast_signed();
pub(crate) const STATUS_ACCESS_DENIED: NTSTATUS = 0xc000_0022_u32.cast_signed();
pub(crate) const STATUS_OBJECT_TYPE_MISMATCH: NTSTATUS = 0xc000_0024_u32.cast_signed();

/// The type of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Thread,
    Process,
    File,
    Key,
    Callback,
}

impl Kind {
    /// What the variable of this type (`ExEventObjectType` and so on) holds.
    pub(crate) fn type_object(self) -> usize {
        static TYPES: [u64; 6] = [0; 6];
        (&raw const TYPES[self as usize]) as usize
    }

    /// `ObjectTypeIndex` in lists of handles.
    fn index(self) -> u16 {
        match self {
            Self::Process => 7,
            Self::Thread => 8,
            Self::Event => 16,
            Self::File => 37,
            Self::Key => 44,
            Self::Callback => 38,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Event => size_of::<ndis_sys::KEVENT>(),
            Self::File => super::io::file::SIZE,
            Self::Key | Self::Callback => 64,
            Self::Thread | Self::Process => 0x800,
        }
    }
}

/// An open file, as the I/O manager knows it.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) device: Arc<Device>,
    pub(crate) process: usize,
}

struct Object {
    kind: Kind,
    memory: Memory,
    /// References of the lab: handles, a running thread.
    lab: usize,
    handles: usize,
    /// References that drivers took.
    taken: Vec<Origin>,
    file: Option<File>,
    /// Of a thread or process: its identifier.
    id: usize,
}

#[derive(Clone, Copy)]
struct Handle {
    object: usize,
    access: u32,
    origin: Origin,
}

struct Process {
    object: usize,
    token: Token,
    handles: BTreeMap<usize, Handle>,
    exited: bool,
}

struct Tables {
    objects: AddressMap<Object>,
    kernel: BTreeMap<usize, Handle>,
    processes: BTreeMap<usize, Process>,
    next_handle: usize,
    next_id: usize,
    retired: VecDeque<Memory>,
}

/// What has to be done, outside of the tables' lock, after a reference or handle went.
#[must_use]
pub(crate) enum Gone {
    /// Nothing.
    Nothing,
    /// The last handle of a file: IRP_MJ_CLEANUP, and then the handle's reference goes.
    Cleanup(usize, File),
    /// The last reference of a file: IRP_MJ_CLOSE, and then the object is freed.
    Close(usize, File),
}

/// A handle as `SystemExtendedHandleInformation` lists it.
pub(crate) struct Listed {
    pub(crate) object: usize,
    pub(crate) process: usize,
    pub(crate) handle: usize,
    pub(crate) access: u32,
    pub(crate) kind: u16,
}

/// References and handles that a driver holds.
pub(crate) struct Holdings {
    pub(crate) references: Vec<Origin>,
    pub(crate) handles: Vec<Origin>,
    pub(crate) subjects: Vec<Origin>,
    pub(crate) routines: Vec<Origin>,
    pub(crate) resources: Vec<Origin>,
}

/// Objects, handles and processes.
pub(crate) struct Manager {
    tables: Mutex<Tables>,
    subjects: Mutex<AddressMap<(Token, Origin)>>,
    /// Process notification routines: (routine, origin).
    pub(crate) notify: Mutex<Vec<(usize, Origin)>>,
}

impl Default for Manager {
    fn default() -> Self {
        let manager = Self {
            tables: Mutex::new(Tables {
                objects: AddressMap::default(),
                kernel: BTreeMap::new(),
                processes: BTreeMap::new(),
                next_handle: 1,
                next_id: 250,
                retired: VecDeque::new(),
            }),
            subjects: Mutex::default(),
            notify: Mutex::default(),
        };
        // Without memory for it there is no system process, and what asks for it fails.
        let _ = manager.create_process(Some(SYSTEM), Token::system());
        manager
    }
}

impl Tables {
    fn create(&mut self, kind: Kind, id: usize, file: Option<File>) -> Option<usize> {
        let memory = Memory::zeroed(kind.size())?;
        let address = memory.address();
        // SAFETY: fresh zeroed memory of the object's size, which all begin with such a header but files.
        unsafe {
            let header = memory.at::<ndis_sys::DISPATCHER_HEADER>(0);
            match kind {
                Kind::Thread => super::processor_block::write_thread_header(header),
                Kind::Process | Kind::Event => {
                    (*header).Type = if kind == Kind::Process { 3 } else { 0 };
                    (*header).Size = 6;
                    let list = &raw mut (*header).WaitListHead;
                    (*list).Flink = list;
                    (*list).Blink = list;
                }
                Kind::File | Kind::Key | Kind::Callback => {}
            }
        }
        let object = Object { kind, memory, lab: 1, handles: 0, taken: Vec::new(), file, id };
        self.objects.insert(address, object);
        Some(address)
    }

    fn table(&mut self, process: usize, handle: usize) -> Option<&mut BTreeMap<usize, Handle>> {
        if handle & KERNEL_HANDLE == KERNEL_HANDLE {
            return Some(&mut self.kernel);
        }
        self.processes.get_mut(&process).map(|process| &mut process.handles)
    }

    /// Opens a handle; it takes over one of the lab's references.
    fn open(&mut self, process: Option<usize>, object: usize, access: u32) -> Option<usize> {
        let number = self.next_handle * 4;
        self.next_handle += 1;
        let number = if process.is_some() { number } else { KERNEL_HANDLE | number };
        let entry = Handle { object, access, origin: Origin::here() };
        self.table(process.unwrap_or(SYSTEM), number)?.insert(number, entry);
        self.objects.get_mut(&object)?.handles += 1;
        Some(number)
    }

    fn release(&mut self, address: usize) -> Gone {
        let Some(object) = self.objects.get_mut(&address) else { return Gone::Nothing };
        object.lab = object.lab.saturating_sub(1);
        self.settle(address)
    }

    /// Frees an object without references, or says that its file has to be closed first.
    fn settle(&mut self, address: usize) -> Gone {
        let Some(object) = self.objects.get_mut(&address) else { return Gone::Nothing };
        if object.lab > 0 || !object.taken.is_empty() {
            return Gone::Nothing;
        }
        if let Some(file) = object.file.take() {
            // Kept until the IRP is through.
            object.lab = 1;
            return Gone::Close(address, file);
        }
        if let Some(object) = self.objects.remove(&address) {
            object.memory.poison(crate::rules::OBJECT_REFERENCE);
            self.retired.push_back(object.memory);
            if self.retired.len() > QUARANTINE {
                self.retired.pop_front();
            }
        }
        Gone::Nothing
    }
}

impl Manager {
    pub(crate) fn subjects(&self) -> MutexGuard<'_, AddressMap<(Token, Origin)>> {
        self.subjects.lock()
    }

    pub(crate) fn create_process(&self, id: Option<usize>, token: Token) -> Option<usize> {
        let mut tables = self.tables.lock();
        let id = id.unwrap_or_else(|| {
            tables.next_id += 1;
            tables.next_id * 4
        });
        let object = tables.create(Kind::Process, id, None)?;
        tables.processes.insert(id, Process { object, token, handles: BTreeMap::new(), exited: false });
        Some(id)
    }

    /// Ends a process: its handles, for the caller to close.
    pub(crate) fn exit_process(&self, id: usize) -> Vec<usize> {
        let mut tables = self.tables.lock();
        let Some(process) = tables.processes.get_mut(&id) else { return Vec::new() };
        process.exited = true;
        process.handles.keys().copied().collect()
    }

    /// Forgets a process that has ended.
    pub(crate) fn remove_process(&self, id: usize) {
        let mut tables = self.tables.lock();
        if let Some(process) = tables.processes.remove(&id) {
            let _ = tables.release(process.object);
        }
    }

    pub(crate) fn token(&self, process: usize) -> Token {
        self.tables.lock().processes.get(&process).map_or_else(Token::system, |p| p.token.clone())
    }

    /// The process of an EPROCESS.
    pub(crate) fn process_of(&self, object: usize) -> Option<usize> {
        let tables = self.tables.lock();
        tables.objects.get(&object).filter(|o| o.kind == Kind::Process).map(|o| o.id)
    }

    /// The EPROCESS of a process that has not ended.
    pub(crate) fn process_object(&self, id: usize) -> Option<usize> {
        self.tables.lock().processes.get(&id).filter(|p| !p.exited).map(|p| p.object)
    }

    /// Makes an object with one reference of the lab's.
    pub(crate) fn create(&self, kind: Kind, file: Option<File>) -> Option<usize> {
        let mut tables = self.tables.lock();
        tables.next_id += 1;
        let id = tables.next_id * 4;
        tables.create(kind, id, file)
    }

    /// Makes an object the file of a device: from now on its end closes it.
    pub(crate) fn set_file(&self, object: usize, file: File) {
        if let Some(object) = self.tables.lock().objects.get_mut(&object) {
            object.file = Some(file);
        }
    }

    pub(crate) fn file(&self, object: usize) -> Option<File> {
        self.tables.lock().objects.get(&object).and_then(|object| object.file.clone())
    }

    pub(crate) fn kind(&self, object: usize) -> Option<Kind> {
        self.tables.lock().objects.get(&object).map(|object| object.kind)
    }

    pub(crate) fn id(&self, object: usize) -> usize {
        self.tables.lock().objects.get(&object).map_or(0, |object| object.id)
    }

    /// One more reference of the lab's.
    pub(crate) fn hold(&self, object: usize) {
        if let Some(object) = self.tables.lock().objects.get_mut(&object) {
            object.lab += 1;
        }
    }

    pub(crate) fn release(&self, object: usize) -> Gone {
        self.tables.lock().release(object)
    }

    /// Opens a handle in a process, or in the kernel's table; it takes over a reference of the lab's.
    pub(crate) fn open(&self, process: Option<usize>, object: usize, access: u32) -> Option<usize> {
        self.tables.lock().open(process, object, access)
    }

    /// The object of a handle, with its granted access.
    pub(crate) fn look(&self, process: usize, handle: usize) -> Option<(usize, Kind, u32)> {
        let mut tables = self.tables.lock();
        let entry = *tables.table(process, handle)?.get(&handle)?;
        let kind = tables.objects.get(&entry.object)?.kind;
        Some((entry.object, kind, entry.access))
    }

    /// Closes a handle; `None` if there is none.
    pub(crate) fn close(&self, process: usize, handle: usize) -> Option<Gone> {
        let mut tables = self.tables.lock();
        let entry = tables.table(process, handle)?.remove(&handle)?;
        let object = tables.objects.get_mut(&entry.object)?;
        object.handles -= 1;
        if object.handles == 0
            && let Some(file) = object.file.clone()
        {
            return Some(Gone::Cleanup(entry.object, file));
        }
        Some(tables.release(entry.object))
    }

    /// A driver takes a reference; `false` if there is no such object.
    pub(crate) fn reference(&self, object: usize) -> bool {
        let mut tables = self.tables.lock();
        let Some(object) = tables.objects.get_mut(&object) else { return false };
        object.taken.push(Origin::here());
        true
    }

    /// All handles of all processes.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let tables = self.tables.lock();
        let kernel = tables.kernel.iter().map(|(handle, entry)| (SYSTEM, *handle, *entry));
        let users = tables
            .processes
            .iter()
            .flat_map(|(id, process)| process.handles.iter().map(|(handle, entry)| (*id, *handle, *entry)));
        kernel
            .chain(users)
            .map(|(process, handle, entry)| Listed {
                object: entry.object,
                process,
                handle,
                access: entry.access,
                kind: tables.objects.get(&entry.object).map_or(0, |object| object.kind.index()),
            })
            .collect()
    }

    /// Files that are open on devices of a driver.
    pub(crate) fn files_of(&self, driver: u32) -> usize {
        let tables = self.tables.lock();
        tables
            .objects
            .values()
            .filter(|o| o.file.as_ref().is_some_and(|f| f.device.driver.id == driver))
            .count()
    }

    /// What drivers hold.
    pub(crate) fn holdings(&self, machine: &Machine) -> Holdings {
        let tables = self.tables.lock();
        Holdings {
            references: tables.objects.values().flat_map(|object| &object.taken).copied().collect(),
            handles: tables.kernel.values().map(|handle| handle.origin).collect(),
            subjects: self.subjects.lock().values().map(|(_, origin)| *origin).collect(),
            routines: self.notify.lock().iter().map(|(_, origin)| *origin).collect(),
            resources: machine.resources.census(),
        }
    }
}

impl Machine {
    /// The process that the calling thread runs in: the one it is attached to, or (`own`) its own.
    #[allow(clippy::unused_self)] // a process of this machine, which the thread runs for
    pub(crate) fn current_process(&self, own: bool) -> usize {
        thread::with(|thread| {
            let attached = thread.attached.borrow().last().map(|(_, process)| *process);
            let mine = match thread.process.get() {
                0 => SYSTEM,
                process => process,
            };
            if own { mine } else { attached.unwrap_or(mine) }
        })
    }

    /// `ObReferenceObjectByHandle`.
    pub(crate) fn reference_by_handle(
        &self,
        handle: usize,
        access: u32,
        type_object: usize,
        user: bool,
    ) -> Result<(usize, u32), NTSTATUS> {
        let kernel = handle & KERNEL_HANDLE == KERNEL_HANDLE;
        if user && kernel {
            return Err(STATUS_INVALID_HANDLE);
        }
        let found = self.ob.look(self.current_process(false), handle);
        let Some((object, kind, granted)) = found else { return Err(STATUS_INVALID_HANDLE) };
        if type_object != 0 && type_object != kind.type_object() {
            return Err(STATUS_OBJECT_TYPE_MISMATCH);
        }
        if user && access & !granted != 0 {
            return Err(STATUS_ACCESS_DENIED);
        }
        self.ob.reference(object);
        Ok((object, granted))
    }

    /// A driver gives a reference back.
    pub(crate) fn dereference(&self, object: usize) -> Result<(), Stopped> {
        let driver = thread::with(|thread| thread.context().driver);
        let mut tables = self.ob.tables.lock();
        let found = tables.objects.get_mut(&object).map(|object| {
            let at = object.taken.iter().rposition(|origin| origin.driver == driver);
            at.map(|at| object.taken.swap_remove(at)).is_some()
        });
        if found == Some(true) {
            let gone = tables.settle(object);
            drop(tables);
            return self.finish(gone);
        }
        drop(tables);
        let what = if found.is_some() { "is not referenced by this driver" } else { "is no object" };
        self.violate(rules::OBJECT_REFERENCE, format!("{object:#x} {what}"));
        Err(self.stop(
            REFERENCE_BY_POINTER,
            [0, object as u64, 0, 0],
            "dereference of what was not referenced",
        ))
    }

    /// Does what closing a handle or giving back a reference entails.
    pub(crate) fn finish(&self, gone: Gone) -> Result<(), Stopped> {
        match gone {
            Gone::Nothing => Ok(()),
            Gone::Cleanup(object, file) => {
                let result = self.file_irp(&file, object, super::io::IRP_MJ_CLEANUP);
                let gone = self.ob.release(object);
                result?;
                self.finish(gone)
            }
            Gone::Close(object, file) => {
                let result = self.file_irp(&file, object, super::io::IRP_MJ_CLOSE);
                let gone = self.ob.release(object);
                result?;
                self.finish(gone)
            }
        }
    }

    /// Closes a handle of the current process, or a kernel handle.
    pub(crate) fn close_handle(&self, handle: usize, user: bool) -> Result<NTSTATUS, Stopped> {
        let kernel = handle & KERNEL_HANDLE == KERNEL_HANDLE;
        let gone = if user && kernel { None } else { self.ob.close(self.current_process(false), handle) };
        let Some(gone) = gone else {
            self.violate(
                rules::OBJECT_HANDLE,
                format!("{handle:#x} is no handle here, or was closed before"),
            );
            return Ok(STATUS_INVALID_HANDLE);
        };
        self.finish(gone)?;
        Ok(0)
    }
}
