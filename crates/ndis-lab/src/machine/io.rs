//! The I/O manager's objects: device objects of adapters and of drivers, and the table of IRPs ([`super::irp`]).
//!
//! Layouts are those of the WDK for x64 (`tests/data/io-layouts.json`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ndis_sys::NTSTATUS;
use parking_lot::Mutex;

use super::{AddressMap, Machine};
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

/// How many deleted devices are kept, poisoned.
const KEPT: usize = 64;

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
    pub(crate) const CANCEL: usize = 68;
    pub(crate) const CANCEL_IRQL: usize = 69;
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
    pub(crate) fn made(machine: &Machine, driver: Arc<DriverCore>, made: &Made) -> Option<Arc<Self>> {
        use device_object as d;
        let functional = Memory::guarded(machine, d::SIZE + made.extension, "DEVICE_OBJECT")?;
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
    pub(super) fn routine(&self, major: u8) -> usize {
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

/// An IRP that has not gone back to its program.
pub(super) struct Live {
    pub(super) memory: Memory,
    /// Status and information, once it was completed.
    pub(super) done: Option<(NTSTATUS, usize)>,
    /// Whether it was marked pending, as seen at completion.
    pub(super) pending: bool,
}

/// All IRPs, and the devices that drivers made.
#[derive(Default)]
pub(crate) struct Io {
    pub(super) live: Mutex<AddressMap<Live>>,
    /// Completed IRPs, closed.
    pub(super) retired: Mutex<VecDeque<Memory>>,
    /// Devices that were deleted, poisoned.
    deleted: Mutex<VecDeque<Arc<Device>>>,
    pub(super) namespace: Mutex<super::namespace::Namespace>,
    /// The word of the cancel spin lock.
    cancel: AtomicUsize,
}

impl Io {
    /// The address of the cancel spin lock, which stays as long as the machine.
    pub(crate) fn cancel_lock(&self) -> usize {
        self.cancel.as_ptr() as usize
    }

    /// A driver is unloaded: what it deleted need not be kept any longer, and its image or its statics can go.
    pub(crate) fn forget_deleted(&self, driver: u32) {
        let mut deleted = self.deleted.lock();
        let (of_driver, others) = deleted.drain(..).partition(|device| device.driver.id == driver);
        *deleted = others;
        drop(deleted);
        // The last owner of the driver's record may be among them.
        drop::<VecDeque<Arc<Device>>>(of_driver);
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
                ("Cancel", irp::CANCEL),
                ("CancelIrql", irp::CANCEL_IRQL),
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
