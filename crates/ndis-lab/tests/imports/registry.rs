//! The registry.

use super::*;

const KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\softnic";

unsafe fn open_key() -> Handle {
    let path = units(KEY);
    let name = string(&path);
    let attributes = ObjectAttributes {
        length: 48,
        root: 0,
        name: &name,
        attributes: 0x240,
        security: null_mut(),
        quality: null_mut(),
    };
    let mut handle = 0;
    assert_eq!(ZwOpenKey(&mut handle, 0x2_0019, &attributes), 0);
    handle
}

static MTU: AtomicU32 = AtomicU32::new(0);

/// Reads `MTU` by RtlQueryRegistryValues into [`MTU`].
unsafe fn query(flags: u32) -> NTSTATUS {
    let (path, name) = (units(KEY), units("MTU"));
    let entry = |routine, name, flags| Query {
        routine,
        flags,
        name,
        entry: MTU.as_ptr().cast(),
        default_type: if flags & 0x100 == 0 { 0 } else { 4 << 24 },
        default_data: null_mut(),
        default_length: 0,
    };
    let table = [entry(0, name.as_ptr(), flags), entry(0, std::ptr::null(), 0)];
    RtlQueryRegistryValues(0, path.as_ptr(), table.as_ptr(), null_mut(), null_mut())
}

#[test]
fn the_registry_is_read_and_written() {
    unsafe fn script(_: NDIS_HANDLE) {
        let handle = open_key();
        let name = units("MTU");
        let (mut buffer, mut needed) = ([0_u32; 4], 0);
        let name = string(&name);
        let short = ZwQueryValueKey(handle, &name, 2, buffer.as_mut_ptr().cast(), 12, &mut needed);
        assert_eq!((short.cast_unsigned(), needed), (0x8000_0005, 16));
        assert_eq!(ZwQueryValueKey(handle, &name, 2, buffer.as_mut_ptr().cast(), 16, &mut needed), 0);
        assert_eq!(buffer, [0, 4, 4, 1280]);
        // Opened for reading only.
        let denied = ZwSetValueKey(handle, &name, 0, 4, buffer.as_ptr().cast(), 4);
        assert_eq!(denied.cast_unsigned(), 0xc000_0022);
        assert_eq!(ZwClose(handle), 0);
        // RTL_QUERY_REGISTRY_DIRECT, TYPECHECK, REQUIRED.
        assert_eq!((query(0x124), MTU.load(Ordering::Relaxed)), (0, 1280));
        let mut handle = 0;
        let object = mini::OBJECT.load(Ordering::Relaxed);
        assert_eq!(IoOpenDriverRegistryKey(object, 0, 0x2_001f, 0, &mut handle), 0);
        let (name, value) = (units("Seen"), 7_u32);
        assert_eq!(ZwSetValueKey(handle, &string(&name), 0, 4, (&raw const value).cast(), 4), 0);
        assert_eq!(ZwClose(handle), 0);
    }
    unsafe fn unchecked(_: NDIS_HANDLE) {
        query(0x20);
    }
    unsafe fn left_open(_: NDIS_HANDLE) {
        open_key();
    }
    let fresh = || {
        let lab = lab().build();
        lab.set_registry(KEY, "MTU", 1280);
        lab
    };
    let good = fresh();
    clean_on(&good, script);
    let seen = good.registry_value(&format!(r"{KEY}\Parameters"), "Seen");
    assert_eq!(seen, Some(Value::Dword(7)));
    for (rule, script) in [
        (rules::REGISTRY_USE, unchecked as unsafe fn(NDIS_HANDLE)),
        (rules::LEAK_UNLOAD, left_open as unsafe fn(NDIS_HANDLE)),
    ] {
        let lab = fresh();
        let _ = play(&lab, script);
        assert!(lab.violations().iter().any(|v| v.rule == rule), "{rule}: {:#?}", lab.violations());
    }
}
