//! Control devices, their links, and IRPs in cancel-safe queues.

use super::*;

/// Completes an IRP with success.
unsafe extern "win64" fn succeed(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    irp.cast::<u8>().add(48).cast::<NTSTATUS>().write(0);
    IofCompleteRequest(irp, 0);
    0
}

/// Doubles the first byte of the system buffer.
unsafe extern "win64" fn double(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let irp = irp.cast::<u8>();
    let buffer = irp.add(24).cast::<*mut u8>().read();
    *buffer *= 2;
    irp.add(56).cast::<usize>().write(1);
    irp.add(48).cast::<NTSTATUS>().write(0);
    IofCompleteRequest(irp.cast(), 0);
    0
}

static QUEUED: AtomicPtr<IRP> = AtomicPtr::new(null_mut());
static QUEUE: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
static QUEUE_LOCK: AtomicUsize = AtomicUsize::new(0);

unsafe extern "win64" fn csq_insert(_csq: PVOID, irp: *mut IRP) {
    QUEUED.store(irp, Ordering::SeqCst);
}
unsafe extern "win64" fn csq_remove(_csq: PVOID, _irp: *mut IRP) {
    QUEUED.store(null_mut(), Ordering::SeqCst);
}
unsafe extern "win64" fn csq_peek(_csq: PVOID, _irp: *mut IRP, _context: PVOID) -> *mut IRP {
    QUEUED.load(Ordering::SeqCst)
}
unsafe extern "win64" fn csq_acquire(_csq: PVOID, irql: *mut KIRQL) {
    irql.write(KeAcquireSpinLockRaiseToDpc(QUEUE_LOCK.as_ptr().cast()));
}
unsafe extern "win64" fn csq_release(_csq: PVOID, irql: KIRQL) {
    KeReleaseSpinLock(QUEUE_LOCK.as_ptr().cast(), irql);
}
unsafe extern "win64" fn csq_complete(_csq: PVOID, irp: *mut IRP) {
    irp.cast::<u8>().add(48).cast::<u32>().write(0xc000_0120);
    IofCompleteRequest(irp, 0);
}

/// Puts a read into the cancel-safe queue, where it stays.
unsafe extern "win64" fn pend(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoCsqInsertIrp(QUEUE.as_ptr().cast_mut().cast(), irp, null_mut());
    0x103
}

static DEVICE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

unsafe fn register_device(driver: NDIS_HANDLE) -> NDIS_STATUS {
    let (name, link) = (units(r"\Device\softnic"), units(r"\DosDevices\softnic"));
    let (mut name, mut link) = (string(&name), string(&link));
    let mut functions: [Option<Dispatch>; 28] = [Some(succeed); 28];
    functions[3] = Some(pend);
    functions[14] = Some(double);
    let mut attributes: NDIS_DEVICE_OBJECT_ATTRIBUTES = std::mem::zeroed();
    attributes.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
        Revision: NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
        Size: NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    };
    attributes.DeviceName = &mut name;
    attributes.SymbolicName = &mut link;
    attributes.MajorFunctions = functions.as_mut_ptr().cast();
    attributes.ExtensionSize = 32;
    let (mut device, mut handle) = (null_mut(), null_mut());
    let status = NdisRegisterDeviceEx(driver, &mut attributes, &mut device, &mut handle);
    DEVICE.store(handle, Ordering::SeqCst);
    status
}

/// A control device as tap drivers have it: opened by its link, asked, read, closed.
#[test]
fn a_control_device_is_opened_by_its_name() {
    unsafe fn script(_: NDIS_HANDLE) {
        let routines = [
            csq_insert as *const () as PVOID,
            csq_remove as *const () as PVOID,
            csq_peek as *const () as PVOID,
            csq_acquire as *const () as PVOID,
            csq_release as *const () as PVOID,
            csq_complete as *const () as PVOID,
        ];
        let [insert, remove, peek, acquire, release, complete] = routines;
        let queue = QUEUE.as_ptr().cast_mut().cast();
        assert_eq!(IoCsqInitialize(queue, insert, remove, peek, acquire, release, complete), 0);
        assert_eq!(register_device(mini::driver_handle()), NDIS_STATUS_SUCCESS);
    }
    let _turn = TURN.lock();
    let lab = lab().build();
    let (driver, adapter) = load(&lab, script).unwrap();
    assert_eq!(
        lab.device_names(),
        [(r"\Device\softnic".to_owned(), vec![r"\DosDevices\softnic".to_owned()])]
    );
    let process = lab.process("tool.exe", Token::system()).unwrap();
    assert!(process.open_name(r"\\.\nothing").is_err());
    let file = process.open_name(r"\\.\SoftNic").unwrap();
    let outcome = file.control(0x0022_0000, &[21], 1).unwrap();
    assert_eq!((outcome.status, outcome.output), (0, vec![42]));
    // A read that stays pending is cancelled by its program.
    let outcome = file.read(16, Duration::from_millis(20)).unwrap();
    assert_eq!((outcome.status.cast_unsigned(), outcome.pended), (0xc000_0120, true));
    file.close().unwrap();
    drop(process);
    // SAFETY: what the script registered; as MiniportDriverUnload would, were it this driver's.
    mini::at_unload(|| unsafe { NdisDeregisterDeviceEx(DEVICE.load(Ordering::SeqCst)) });
    end(driver, &adapter).unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

unsafe fn create_device() -> *mut DEVICE_OBJECT {
    let (name, link) = (units(r"\Device\soft"), units(r"\DosDevices\soft"));
    let (name, link) = (string(&name), string(&link));
    let mut device = null_mut();
    let object = mini::OBJECT.load(Ordering::Relaxed);
    assert_eq!(IoCreateDevice(object, 64, &name, 0x12, 0x100, 0, &mut device), 0);
    assert_eq!(IoCreateSymbolicLink(&link, &name), 0);
    // STATUS_OBJECT_NAME_COLLISION
    let mut second = null_mut();
    assert_eq!(IoCreateDevice(object, 0, &name, 0x12, 0, 0, &mut second).cast_unsigned(), 0xc000_0035);
    device
}

unsafe fn delete_link() {
    let link = units(r"\??\soft");
    assert_eq!(IoDeleteSymbolicLink(&string(&link)), 0);
}

#[test]
fn devices_and_links_are_deleted_once() {
    unsafe fn script(_: NDIS_HANDLE) {
        let device = create_device();
        delete_link();
        IoDeleteDevice(device);
    }
    unsafe fn link_left(_: NDIS_HANDLE) {
        IoDeleteDevice(create_device());
    }
    unsafe fn device_left(_: NDIS_HANDLE) {
        create_device();
        delete_link();
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let device = create_device();
        delete_link();
        IoDeleteDevice(device);
        IoDeleteDevice(device);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, link_left);
    breaks(rules::LEAK_UNLOAD, device_left);
    breaks(rules::DEVICE_USE, twice);
}
