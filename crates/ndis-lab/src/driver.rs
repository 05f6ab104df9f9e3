//! A loaded driver, image or native, behind one interface.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use ndis_sys::{DRIVER_INITIALIZE, NDIS_MINIPORT_DRIVER_CHARACTERISTICS, UNICODE_STRING};
use parking_lot::{Condvar, Mutex};

use crate::adapter::{Adapter, AdapterConfig};
use crate::error::LabError;
use crate::loader::Image;
use crate::machine::io::{MAJORS, device_object, driver_object};
use crate::machine::stack::Known;
use crate::machine::thread::handler;
use crate::machine::{Entry, HandleKind, Machine, PASSIVE};
use crate::packet::Memory;
use crate::rules;

/// `DRIVER_OBJECT` on x64: its size, and the fields that the lab fills.
mod object {
    pub(super) const SIZE: usize = 336;
    pub(super) const TYPE: (usize, u16) = (0, 4);
    pub(super) const OWN_SIZE: usize = 2;
    pub(super) const DRIVER_START: usize = 24;
    pub(super) const DRIVER_SIZE: usize = 32;
    pub(super) const EXTENSION: usize = 48;
    pub(super) const NAME: usize = 56;
    pub(super) const INIT: usize = 88;
    pub(super) const UNLOAD: usize = 104;
    /// `DRIVER_EXTENSION` up to and including `ServiceKeyName`.
    pub(super) const EXTENSION_SIZE: usize = 80;
}

/// What a miniport registered, as a copy.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The characteristics; handlers are addresses in the driver.
    pub characteristics: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    /// Its registered NDIS version as NDIS counts it: 6.30 is `0x0006_001e`.
    pub ndis_version: u32,
}

pub(crate) struct Registration {
    pub(crate) handle: usize,
    pub(crate) context: usize,
    pub(crate) characteristics: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
}

/// Holds the place of the one native driver of this process.
struct NativeGuard;

static NATIVE: (Mutex<Option<ThreadId>>, Condvar) = (Mutex::new(None), Condvar::new());

/// How long threads of a machine that was dropped may still hold its driver.
const LAST_THREADS: Duration = Duration::from_secs(1);

impl NativeGuard {
    fn take() -> Result<Self, LabError> {
        let me = std::thread::current().id();
        let mut holder = NATIVE.0.lock();
        while let Some(thread) = *holder {
            if thread != me {
                NATIVE.1.wait(&mut holder);
            } else if NATIVE.1.wait_for(&mut holder, LAST_THREADS).timed_out() {
                return Err(LabError::Invalid(
                    "this thread has a native driver loaded already: its statics exist once",
                ));
            }
        }
        *holder = Some(me);
        Ok(Self)
    }
}

impl Drop for NativeGuard {
    fn drop(&mut self) {
        *NATIVE.0.lock() = None;
        NATIVE.1.notify_all();
    }
}

/// The lab's side of a driver.
pub(crate) struct DriverCore {
    pub(crate) id: u32,
    pub(crate) name: String,
    entry: usize,
    object: Memory,
    _extension: Memory,
    registry_path: Box<UNICODE_STRING>,
    _path: Box<[u16]>,
    pub(crate) registration: Mutex<Option<Registration>>,
    /// Held while the list of devices in the DRIVER_OBJECT changes.
    devices: Mutex<()>,
    /// How often sections of the image were locked, by where they start.
    pub(crate) locked_sections: Mutex<std::collections::BTreeMap<u32, i32>>,
    /// Driver object extensions: by the identification address.
    pub(crate) extensions: Mutex<Vec<(usize, Memory)>>,
    _known: Option<Known>,
    image: Option<Arc<Image>>,
    // Last: the next native driver may start only when everything above is gone.
    _native: Option<NativeGuard>,
}

// SAFETY: the boxed strings and the object are only handed to the driver, which is thread-safe by
// the contract of DriverEntry; the lab itself reads them before that.
unsafe impl Send for DriverCore {}
// SAFETY: as above.
unsafe impl Sync for DriverCore {}

/// Where a driver's code comes from.
pub(crate) enum Code {
    /// An image, and the PDB beside it.
    Image(Image, Option<PathBuf>),
    Native(DRIVER_INITIALIZE),
}

impl DriverCore {
    pub(crate) fn new(code: Code, name: &str) -> Result<Self, LabError> {
        // Relaxed: only uniqueness matters.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (entry, image, known, native) = match code {
            Code::Image(image, pdb) => {
                let image = Arc::new(image);
                let known = Known::new(&image, name, pdb);
                (image.entry(), Some(image), Some(known), None)
            }
            Code::Native(entry) => (entry as usize, None, None, Some(NativeGuard::take()?)),
        };
        let path = format!(r"\REGISTRY\MACHINE\SYSTEM\ControlSet001\Services\{name}");
        let path: Box<[u16]> = path.encode_utf16().collect();
        let bytes =
            u16::try_from(path.len() * 2).map_err(|_| LabError::Invalid("the driver's name is too long"))?;
        let string = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: path.as_ptr().cast_mut() };
        let memory = |size| Memory::zeroed(size).ok_or(LabError::Invalid("the host has no memory left"));
        let (object, extension) = (memory(object::SIZE)?, memory(object::EXTENSION_SIZE)?);
        // SAFETY: offsets and types are those of DRIVER_OBJECT and DRIVER_EXTENSION, within the
        // zeroed memory of that size.
        unsafe {
            object.at::<u16>(object::TYPE.0).write(object::TYPE.1);
            object.at::<u16>(object::OWN_SIZE).write(336);
            if let Some(image) = &image {
                object.at::<usize>(object::DRIVER_START).write(image.base());
                object.at::<u32>(object::DRIVER_SIZE).write(image.size());
            }
            object.at::<usize>(object::EXTENSION).write(extension.address());
            object.at::<UNICODE_STRING>(object::NAME).write(string);
            object.at::<usize>(object::INIT).write(entry);
            extension.at::<usize>(0).write(object.address());
        }
        let core = Self {
            id,
            name: name.to_owned(),
            entry,
            object,
            _extension: extension,
            registry_path: Box::new(string),
            _path: path,
            registration: Mutex::new(None),
            devices: Mutex::new(()),
            locked_sections: Mutex::default(),
            extensions: Mutex::default(),
            _known: known,
            image,
            _native: native,
        };
        core.own_dispatch(crate::exports::io::invalid_dispatch as *const () as usize);
        Ok(core)
    }

    /// Its image; `None` for a native driver.
    pub(crate) fn image(&self) -> Option<&Image> {
        self.image.as_deref()
    }

    pub(crate) fn object(&self) -> usize {
        self.object.address()
    }

    /// Puts one dispatch routine into every place of the DRIVER_OBJECT.
    pub(crate) fn own_dispatch(&self, routine: usize) {
        // SAFETY: the offset of MajorFunction and its length, within our memory; DriverEntry runs on
        // this thread, or has not begun.
        unsafe { self.object.at::<[usize; MAJORS]>(driver_object::MAJOR_FUNCTION).write([routine; MAJORS]) };
    }

    /// The dispatch routine of a major function.
    pub(crate) fn major_function(&self, major: u8) -> usize {
        let index = usize::from(major).min(MAJORS - 1);
        // SAFETY: as above; the driver changes its routines in DriverEntry only.
        unsafe { self.object.at::<usize>(driver_object::MAJOR_FUNCTION + 8 * index).read() }
    }

    /// A device of the driver was made: it comes first in the DRIVER_OBJECT's list; gives what was first.
    pub(crate) fn add_device(&self, device: usize) -> usize {
        let _guard = self.devices.lock();
        // SAFETY: the offset of DeviceObject within our memory, which drivers only read.
        unsafe { self.object.at::<usize>(driver_object::DEVICE_OBJECT).replace(device) }
    }

    /// A device of the driver goes: takes it out of the DRIVER_OBJECT's list.
    pub(crate) fn remove_device(&self, device: usize) {
        let _guard = self.devices.lock();
        let mut link = self.object.at::<usize>(driver_object::DEVICE_OBJECT);
        // SAFETY: the list leads through DEVICE_OBJECTs of the lab that live, each with its own link.
        unsafe {
            while link.read() != 0 && link.read() != device {
                link = (link.read() + device_object::NEXT_DEVICE) as *mut usize;
            }
            if link.read() == device {
                link.write(((device + device_object::NEXT_DEVICE) as *const usize).read());
            }
        }
    }

    /// Puts NDIS' own routine where a pure miniport's DriverUnload is.
    pub(crate) fn own_unload(&self, routine: usize) {
        // SAFETY: the offset of DriverUnload within our memory; DriverEntry runs on this thread.
        unsafe { self.object.at::<usize>(object::UNLOAD).write(routine) };
    }

    pub(crate) fn characteristics(&self) -> Option<NDIS_MINIPORT_DRIVER_CHARACTERISTICS> {
        self.registration.lock().as_ref().map(|r| r.characteristics)
    }

    pub(crate) fn driver_context(&self) -> usize {
        self.registration.lock().as_ref().map_or(0, |r| r.context)
    }

    /// Minor version as registered: 30 for NDIS 6.30.
    pub(crate) fn minor(&self) -> u8 {
        self.characteristics().map_or(0, |c| c.MinorNdisVersion)
    }
}

/// A loaded driver. Clones name the same driver.
#[derive(Clone)]
pub struct Driver {
    pub(crate) machine: Arc<Machine>,
    pub(crate) core: Arc<DriverCore>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("name", &self.core.name)
            .field("image", &self.core.image)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Runs `DriverEntry`.
    pub(crate) fn start(machine: &Arc<Machine>, code: Code, name: &str) -> Result<Self, LabError> {
        machine.alive()?;
        let core = Arc::new(DriverCore::new(code, name)?);
        // Known by its object until it registers, so that NdisMRegisterMiniportDriver finds it.
        machine.objects.lock().drivers.insert(core.object(), core.clone());
        machine.register_service(name);
        machine.note_sections(&core);
        let driver = Self { machine: machine.clone(), core };
        let entry = driver.entry(handler::DRIVER_ENTRY, None);
        let path = &raw const *driver.core.registry_path as u64;
        let args = [driver.core.object() as u64, path, 0, 0, 0, 0, 0, 0];
        // SAFETY: the entry point of a driver; object and path stay as long as the driver.
        let status = unsafe { machine.enter(entry, driver.core.entry, args) };
        machine.objects.lock().drivers.remove(&driver.core.object());
        let Ok(status) = status else { return Err(machine.dead_error()) };
        machine.io.initialized(driver.core.id);
        let status = (status & 0xffff_ffff) as u32;
        let registered = driver.core.registration.lock().is_some();
        if status.cast_signed() < 0 {
            if registered {
                machine.violate(
                    rules::REGISTER_STATUS,
                    format!("DriverEntry returns {status:#010x} with the miniport registered"),
                );
                driver.forget();
            }
            driver.check_leaks("DriverEntry failed");
            return Err(LabError::DriverEntry(status));
        }
        if !registered {
            return Err(LabError::NotRegistered);
        }
        if let Some(image) = &driver.core.image {
            image.discard();
        }
        Ok(driver)
    }

    pub(crate) fn entry(
        &self,
        handler: &'static crate::machine::Handler,
        adapter: Option<crate::adapter::AdapterId>,
    ) -> Entry {
        Entry { handler, driver: self.core.id, adapter, irql: PASSIVE }
    }

    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its image; `None` for a native driver.
    pub fn image(&self) -> Option<&Image> {
        self.core.image.as_deref()
    }

    /// What it registered, or `None` after it was unloaded.
    pub fn registered(&self) -> Option<Registered> {
        let characteristics = self.core.characteristics()?;
        let (major, minor) = (characteristics.MajorNdisVersion, characteristics.MinorNdisVersion);
        Some(Registered { characteristics, ndis_version: u32::from(major) << 16 | u32::from(minor) })
    }

    /// Makes an adapter and initialises it; it is paused then.
    ///
    /// # Errors
    /// [`LabError::Initialize`] with the driver's status; [`LabError::BugCheck`].
    pub fn add_adapter(&self, config: AdapterConfig) -> Result<Adapter, LabError> {
        Adapter::initialize(self, config)
    }

    /// Unloads the driver.
    ///
    /// # Errors
    /// [`LabError::AdaptersLeft`] if an adapter was not halted; [`LabError::BugCheck`].
    pub fn unload(self) -> Result<(), LabError> {
        self.machine.alive()?;
        let left = self.machine.adapters.read().values().filter(|a| a.driver.id == self.core.id).count();
        if left > 0 {
            return Err(LabError::AdaptersLeft(left));
        }
        let files = self.machine.ob.files_of(self.core.id);
        if files > 0 {
            return Err(LabError::FilesOpen(files));
        }
        let unload = self.core.characteristics().and_then(|c| c.UnloadHandler).map(|f| f as usize);
        if let Some(unload) = unload {
            let args = [self.core.object() as u64, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: the registered unload handler; the object stays until after the call.
            let result = unsafe { self.machine.enter(self.entry(handler::UNLOAD, None), unload, args) };
            if result.is_err() {
                return Err(self.machine.dead_error());
            }
        }
        if self.core.registration.lock().is_some() {
            self.machine
                .violate(rules::REGISTER_ONCE, "the driver unloads without NdisMDeregisterMiniportDriver");
            self.forget();
        }
        self.check_leaks("unloaded");
        self.machine.io.forget_deleted(self.core.id);
        self.machine.forget_crash_callbacks(self.core.id);
        Ok(())
    }

    fn forget(&self) {
        if let Some(registration) = self.core.registration.lock().take() {
            self.machine.objects.lock().drivers.remove(&registration.handle);
        }
    }

    /// Reports what this driver left behind.
    fn check_leaks(&self, when: &str) {
        self.machine.sweep_pool();
        self.machine.sweep_packets();
        for origin in self.machine.threads_of(self.core.id) {
            // What it runs would be gone on Windows; here the image stays as long as it does.
            let text = format!("{when}: a system thread runs");
            self.machine.violate_past(None, rules::THREAD_LEFT, text, &[("created", origin)]);
        }
        let executing = self.machine.work.executive_of(self.core.id);
        if executing > 0 {
            let text = format!("{when}: {executing} WORK_QUEUE_ITEMs run");
            self.machine.violate(rules::WORK_ITEM_USE, text);
        }
        let census = crate::census::Census::take(&self.machine).of_driver(self.core.id);
        for (line, origin) in census.entries() {
            self.machine.violate_past(
                None,
                rules::LEAK_UNLOAD,
                format!("{when}: {line}"),
                &[("allocated", origin)],
            );
        }
    }
}

impl Machine {
    /// `NdisMRegisterMiniportDriver`, after its structure was checked.
    pub(crate) fn register_driver(
        &self,
        core: &Arc<DriverCore>,
        context: usize,
        characteristics: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    ) -> usize {
        let handle = self.handle(HandleKind::Driver);
        *core.registration.lock() = Some(Registration { handle, context, characteristics });
        self.objects.lock().drivers.insert(handle, core.clone());
        handle
    }
}
