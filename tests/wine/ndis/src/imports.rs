//! What a miniport imports: every name is looked up, and the few functions that Wine lacks are put in place.
//!
//! Wine's loader gives an import that it cannot resolve the address of a function that raises an exception, and so do
//! exports that Wine has in name only. NDIS is told of each loaded image before its DriverEntry runs
//! (PsSetLoadImageNotifyRoutine), and fills these slots of the image's import address table.

use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::{BOOLEAN, FALSE, KDPC, KIRQL, POOL_FLAG_UNINITIALIZED, POOL_FLAGS};
use windows_sys::Wdk::Foundation::NonPagedPoolNx;
use windows_sys::Wdk::System::SystemServices::{
    ExAllocatePoolWithTag, IMAGE_INFO, PsRemoveLoadImageNotifyRoutine, PsSetLoadImageNotifyRoutine,
};
use windows_sys::Win32::Foundation::{HANDLE, HINSTANCE, UNICODE_STRING};
use windows_sys::Win32::System::Diagnostics::Debug::{IMAGE_DIRECTORY_ENTRY_IMPORT, IMAGE_NT_HEADERS64};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Memory::{PAGE_PROTECTION_FLAGS, PAGE_READWRITE, VirtualProtect};
use windows_sys::Win32::System::SystemServices::{
    IMAGE_DOS_HEADER, IMAGE_IMPORT_DESCRIPTOR, IMAGE_ORDINAL_FLAG64,
};

use crate::report;

/// This module, by its base address. Relaxed throughout: the loader orders DllMain and everything after it.
static OURSELVES: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Asks to be told of images.
pub(crate) fn watch(module: HINSTANCE) {
    OURSELVES.store(module, Ordering::Relaxed);
    // SAFETY: the routine stays in place until `unwatch`.
    let status = unsafe { PsSetLoadImageNotifyRoutine(Some(loaded)) };
    report::line(format_args!("ndis-loaded watching={}", status == 0));
}

/// No longer.
pub(crate) fn unwatch() {
    // SAFETY: takes the address only.
    unsafe { PsRemoveLoadImageNotifyRoutine(Some(loaded)) };
}

/// What Wine 8 does not have, or only in name, and a miniport cannot do without.
const SUBSTITUTES: [(&CStr, Substitute); 4] = [
    (c"ExAllocatePool2", Substitute { allocate_pool2 }),
    (c"KeLowerIrql", Substitute { lower_irql }),
    (c"KeRaiseIrqlToDpcLevel", Substitute { raise_irql }),
    (c"KeRemoveQueueDpc", Substitute { remove_queue_dpc }),
];

/// A function of any type; its address is what goes into the table.
#[derive(Clone, Copy)]
union Substitute {
    allocate_pool2: unsafe extern "win64" fn(POOL_FLAGS, usize, u32) -> *mut c_void,
    lower_irql: unsafe extern "win64" fn(KIRQL),
    raise_irql: unsafe extern "win64" fn() -> KIRQL,
    remove_queue_dpc: unsafe extern "win64" fn(*mut KDPC) -> BOOLEAN,
}

/// Pool memory as `[nf-wdm-exallocatepool2]` has it, from Wine's older function.
unsafe extern "win64" fn allocate_pool2(flags: POOL_FLAGS, bytes: usize, tag: u32) -> *mut c_void {
    // SAFETY: callable with any size and tag.
    let memory = unsafe { ExAllocatePoolWithTag(NonPagedPoolNx, bytes, tag) };
    if memory.is_null() {
        report::line(format_args!("no-memory bytes={bytes}"));
    } else if flags & POOL_FLAG_UNINITIALIZED == 0 {
        // SAFETY: there are `bytes` bytes there.
        unsafe { memory.cast::<u8>().write_bytes(0, bytes) };
    }
    memory
}

/// Wine's threads have no IRQL.
unsafe extern "win64" fn lower_irql(_: KIRQL) {}

/// Likewise: PASSIVE_LEVEL it was, and is.
unsafe extern "win64" fn raise_irql() -> KIRQL {
    ndis_sys::PASSIVE_LEVEL
}

/// Wine's KeInsertQueueDpc forgets what it is given, so nothing is ever queued.
unsafe extern "win64" fn remove_queue_dpc(_: *mut KDPC) -> BOOLEAN {
    FALSE
}

unsafe extern "system" fn loaded(_: *const UNICODE_STRING, _: HANDLE, image: *const IMAGE_INFO) {
    // SAFETY: Wine passes the description of an image that it has mapped and whose imports it has resolved.
    unsafe { look_through((*image).ImageBase) };
}

/// # Safety
/// `base` is an image as the loader left it.
unsafe fn look_through(base: *mut c_void) {
    // SAFETY: the loader has checked headers and import tables, has written all the tables, and nothing runs in the image yet.
    unsafe {
        let dos = base.cast::<IMAGE_DOS_HEADER>();
        let nt = base.byte_add(usize::try_from((*dos).e_lfanew).unwrap_or(0)).cast::<IMAGE_NT_HEADERS64>();
        let directory = (*nt).OptionalHeader.DataDirectory[usize::from(IMAGE_DIRECTORY_ENTRY_IMPORT)];
        if directory.VirtualAddress == 0 {
            return;
        }
        let at = |rva: u32| base.byte_add(rva as usize);
        let size = (*nt).OptionalHeader.SizeOfImage;
        report::line(format_args!(
            "image entry={:#x} size={size:#x}",
            (*nt).OptionalHeader.AddressOfEntryPoint
        ));
        let mut descriptor = at(directory.VirtualAddress).cast::<IMAGE_IMPORT_DESCRIPTOR>();
        while (*descriptor).Name != 0 {
            let module = CStr::from_ptr(at((*descriptor).Name).cast::<c_char>());
            let mut name = at((*descriptor).Anonymous.OriginalFirstThunk).cast::<u64>();
            let mut slot = at((*descriptor).FirstThunk).cast::<Substitute>();
            while *name != 0 {
                if *name & IMAGE_ORDINAL_FLAG64 == 0 {
                    // The name comes after a 16-bit hint.
                    let function = CStr::from_ptr(base.byte_add(*name as usize + 2).cast::<c_char>());
                    resolve(module, function, slot);
                } else {
                    report::line(format_args!("import module={} found=ordinal", shown(module)));
                }
                name = name.add(1);
                slot = slot.add(1);
            }
            descriptor = descriptor.add(1);
        }
    }
}

/// # Safety
/// `slot` is that import's place in an import address table.
unsafe fn resolve(module: &CStr, function: &CStr, slot: *mut Substitute) {
    // SAFETY: both are C strings. Wine calls this module by the name it was loaded under, so it is not looked up by name.
    let exported = unsafe {
        let from = if module == c"ndis.sys" {
            OURSELVES.load(Ordering::Relaxed)
        } else {
            GetModuleHandleA(module.as_ptr().cast())
        };
        GetProcAddress(from, function.as_ptr().cast()).is_some()
    };
    let substitute = SUBSTITUTES.iter().find(|(name, _)| *name == function);
    let found = match (exported, substitute) {
        (_, Some(_)) => "substitute",
        (true, None) => "export",
        (false, None) => "nowhere",
    };
    report::line(format_args!(
        "import module={} name={} exported={exported} found={found}",
        shown(module),
        shown(function)
    ));
    if let Some((_, function)) = substitute {
        let mut before: PAGE_PROTECTION_FLAGS = 0;
        // SAFETY: the slot is ours to fill: it is mapped, and the image does not run yet. Its page is made writable first
        // and what it was afterwards.
        unsafe {
            if VirtualProtect(slot.cast(), size_of::<Substitute>(), PAGE_READWRITE, &raw mut before) != 0 {
                slot.write(*function);
                VirtualProtect(slot.cast(), size_of::<Substitute>(), before, &raw mut before);
            }
        }
    }
}

fn shown(name: &CStr) -> &str {
    name.to_str().unwrap_or("?")
}
