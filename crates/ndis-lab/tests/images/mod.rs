//! Small images of miniports, made byte by byte, as the linkers of C lay them out: sections that are paged out or thrown
//! away, guard pointers, unwind information.

#![allow(dead_code)] // each test binary uses a part of it

use std::mem::offset_of;

use ndis_sys::NDIS_MINIPORT_DRIVER_CHARACTERISTICS as Characteristics;

const BASE: u64 = 0x1_4000_0000;
/// Sections lie on pages of their own, in the order of the image.
pub(crate) const TEXT: u32 = 0x1000;
pub(crate) const PAGE: u32 = 0x2000;
pub(crate) const INIT: u32 = 0x3000;
pub(crate) const DATA: u32 = 0x4000;
const RELOC: u32 = 0x5000;
/// Unwind information and its tables.
const RDATA: u32 = 0x6000;
const SIZE: u32 = 0x7000;
/// In `.text`: what a handler without work does.
pub(crate) const NOTHING: u32 = TEXT + 0x80;
/// In `.data`: characteristics, the driver's handle, a KDPC, the import table, the load configuration.
pub(crate) const CHARACTERISTICS: u32 = DATA;
pub(crate) const HANDLE: u32 = DATA + 0x100;
pub(crate) const DPC: u32 = DATA + 0x140;
pub(crate) const SLOTS: u32 = DATA + 0x200;
const NAMES: u32 = DATA + 0x280;
const DESCRIPTORS: u32 = DATA + 0x480;
const CONFIG: u32 = DATA + 0x580;
pub(crate) const GUARD: u32 = DATA + 0x680;
/// Where code may write.
pub(crate) const SCRATCH: u32 = DATA + 0x700;
/// In `.text`: `jmp [__C_specific_handler]`, as linkers make it for the unwind information.
const HANDLER_THUNK: u32 = TEXT + 0xc0;
/// What the images import of ntoskrnl.exe.
const KERNEL: [&str; 8] = [
    "KeInitializeDpc",
    "KeInsertQueueDpc",
    "__C_specific_handler",
    "memcpy",
    "ProbeForRead",
    "ProbeForWrite",
    "ExRaiseStatus",
    "KeRaiseIrqlToDpcLevel",
];

/// Where the address of an imported function lies.
pub(crate) fn slot(name: &str) -> u32 {
    let index = KERNEL.iter().position(|known| *known == name).unwrap();
    SLOTS + 16 + 8 * u32::try_from(index).unwrap()
}

/// What [`image`] makes an image of.
pub(crate) struct Driver {
    /// Where MiniportInitializeEx is, and its code there.
    pub(crate) initialize: u32,
    pub(crate) code: Vec<u8>,
    /// More code, by where it lies.
    pub(crate) more: Vec<(u32, Vec<u8>)>,
    /// Functions with unwind information, by address.
    pub(crate) functions: Vec<Function>,
}

impl Driver {
    pub(crate) fn new(initialize: u32, code: Vec<u8>) -> Self {
        Self { initialize, code, more: Vec::new(), functions: Vec::new() }
    }
}

/// A function as the exception directory describes it.
pub(crate) struct Function {
    pub(crate) begin: u32,
    pub(crate) end: u32,
    /// Bytes of the prolog, and its unwind codes, last operation first.
    pub(crate) prolog: u8,
    pub(crate) codes: Vec<[u8; 2]>,
    /// The scope table: where each `__try` begins and ends, its filter (1: any exception) or `__finally`, and where its
    /// `__except` goes on (0 for a `__finally`).
    pub(crate) scopes: Vec<[u32; 4]>,
}

/// Code that is put together at an address.
pub(crate) struct Code {
    at: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Code {
    pub(crate) fn new(at: u32) -> Self {
        Self { at, bytes: Vec::new() }
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An instruction that ends with the distance to `to`.
    pub(crate) fn to(mut self, opcode: &[u8], to: u32) -> Self {
        self.bytes.extend_from_slice(opcode);
        let next = self.at + u32::try_from(self.bytes.len()).unwrap() + 4;
        self.bytes.extend_from_slice(&to.wrapping_sub(next).to_le_bytes());
        self
    }
}

/// `DriverEntry`: registers the characteristics, and returns what that returned.
fn driver_entry() -> Vec<u8> {
    Code::new(TEXT)
        .raw(&[0x48, 0x83, 0xec, 0x38]) // sub rsp, 38h
        .to(&[0x4c, 0x8d, 0x0d], CHARACTERISTICS) // lea r9, [CHARACTERISTICS]
        .to(&[0x48, 0x8d, 0x05], HANDLE) // lea rax, [HANDLE]
        .raw(&[0x48, 0x89, 0x44, 0x24, 0x20]) // mov [rsp + 20h], rax
        .raw(&[0x45, 0x31, 0xc0]) // xor r8d, r8d
        .to(&[0xff, 0x15], SLOTS) // call [NdisMRegisterMiniportDriver]
        .raw(&[0x48, 0x83, 0xc4, 0x38, 0xc3]) // add rsp, 38h; ret
        .bytes
}

/// The image of a driver.
pub(crate) fn image(driver: &Driver) -> Vec<u8> {
    let mut mapped = vec![0_u8; SIZE as usize];
    let mut put =
        |at: u32, bytes: &[u8]| mapped[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(TEXT, &driver_entry());
    put(NOTHING, &[0x31, 0xc0, 0xc3]); // xor eax, eax; ret
    put(PAGE, &[0xc3]); // ret
    put(INIT, &[0xb8, 1, 0, 0, 0xc0, 0xc3]); // mov eax, C0000001h; ret
    put(driver.initialize, &driver.code);
    for (at, code) in &driver.more {
        put(*at, code);
    }
    put(HANDLER_THUNK, &Code::new(HANDLER_THUNK).to(&[0xff, 0x25], slot("__C_specific_handler")).bytes);
    let exceptions = (RDATA, 12 * u32::try_from(driver.functions.len()).unwrap());
    let mut at = RDATA + exceptions.1;
    for (index, function) in (0..).zip(&driver.functions) {
        let information = unwind_information(function);
        put(at, &information);
        for (offset, number) in [(0, function.begin), (4, function.end), (8, at)] {
            put(RDATA + 12 * index + offset, &number.to_le_bytes());
        }
        at += u32::try_from(information.len()).unwrap().next_multiple_of(4);
    }
    // The characteristics, with twelve handlers that are relocated.
    put(CHARACTERISTICS, &[0x8a, 2]);
    let size = u16::try_from(size_of::<Characteristics>()).unwrap();
    put(CHARACTERISTICS + 2, &size.to_le_bytes());
    put(CHARACTERISTICS + 4, &[6, 30]);
    let handlers = [
        offset_of!(Characteristics, InitializeHandlerEx),
        offset_of!(Characteristics, HaltHandlerEx),
        offset_of!(Characteristics, UnloadHandler),
        offset_of!(Characteristics, PauseHandler),
        offset_of!(Characteristics, RestartHandler),
        offset_of!(Characteristics, OidRequestHandler),
        offset_of!(Characteristics, SendNetBufferListsHandler),
        offset_of!(Characteristics, ReturnNetBufferListsHandler),
        offset_of!(Characteristics, CancelSendHandler),
        offset_of!(Characteristics, DevicePnPEventNotifyHandler),
        offset_of!(Characteristics, ShutdownHandlerEx),
        offset_of!(Characteristics, CancelOidRequestHandler),
    ];
    let mut relocated = Vec::new();
    for (index, offset) in handlers.into_iter().enumerate() {
        let at = CHARACTERISTICS + u32::try_from(offset).unwrap();
        let target = if index == 0 { driver.initialize } else { NOTHING };
        put(at, &(BASE + u64::from(target)).to_le_bytes());
        relocated.push(at);
    }
    // Imports: one function of ndis.sys, some of ntoskrnl.exe, each table ended by a zero.
    for (index, name) in (0_u32..).zip(["NdisMRegisterMiniportDriver"].into_iter().chain(KERNEL)) {
        let at = NAMES + 32 * index;
        put(at + 2, name.as_bytes());
        put(if index == 0 { SLOTS } else { slot(name) }, &u64::from(at).to_le_bytes());
    }
    for (index, (module, slots)) in (0_u32..).zip([("ndis.sys", SLOTS), ("ntoskrnl.exe", SLOTS + 16)]) {
        let (at, name) = (DESCRIPTORS + 20 * index, DESCRIPTORS + 64 + 16 * index);
        put(name, module.as_bytes());
        put(at + 12, &name.to_le_bytes());
        put(at + 16, &slots.to_le_bytes());
    }
    // The load configuration: its size, and where the two guard pointers are, which are empty.
    put(CONFIG, &128_u32.to_le_bytes());
    for (offset, slot) in [(112, GUARD), (120, GUARD + 8)] {
        put(CONFIG + offset, &(BASE + u64::from(slot)).to_le_bytes());
        relocated.push(CONFIG + offset);
    }
    // IMAGE_REL_BASED_DIR64, of one page.
    let length = 8 + 2 * relocated.len().next_multiple_of(2);
    put(RELOC, &DATA.to_le_bytes());
    put(RELOC + 4, &u32::try_from(length).unwrap().to_le_bytes());
    for (at, address) in (RELOC + 8..).step_by(2).zip(&relocated) {
        put(at, &u16::try_from(10 << 12 | (address - DATA)).unwrap().to_le_bytes());
    }
    let relocations = (RELOC, u32::try_from(length).unwrap());
    [headers(relocations, exceptions), mapped.split_off(TEXT as usize)].concat()
}

/// `UNWIND_INFO` of a function, with its scope table if it has one.
fn unwind_information(function: &Function) -> Vec<u8> {
    // Version 1; UNW_FLAG_EHANDLER and UNW_FLAG_UHANDLER.
    let flags = if function.scopes.is_empty() { 1 } else { 1 | 3 << 3 };
    let mut bytes = vec![flags, function.prolog, u8::try_from(function.codes.len()).unwrap(), 0];
    bytes.extend(function.codes.iter().flatten());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    if !function.scopes.is_empty() {
        bytes.extend(HANDLER_THUNK.to_le_bytes());
        bytes.extend(u32::try_from(function.scopes.len()).unwrap().to_le_bytes());
        bytes.extend(function.scopes.iter().flatten().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

/// The headers: the file is as the image is mapped, page for page.
fn headers(relocations: (u32, u32), exceptions: (u32, u32)) -> Vec<u8> {
    let code = 0x6000_0020_u32;
    let sections: [(&[u8], u32, u32); 6] = [
        (b".text", TEXT, code),
        (b"PAGE", PAGE, code),
        (b"INIT", INIT, code | 0x0200_0000),
        (b".data", DATA, 0xc000_0040),
        (b".reloc", RELOC, 0x4200_0040),
        (b".rdata", RDATA, 0x4000_0040),
    ];
    let mut bytes = vec![0_u8; TEXT as usize];
    let mut put = |at: usize, more: &[u8]| bytes[at..at + more.len()].copy_from_slice(more);
    put(0, b"MZ");
    put(0x3c, &64_u32.to_le_bytes());
    put(64, b"PE\0\0\x64\x86\x06\0");
    // The size of the optional header; EXECUTABLE_IMAGE and LARGE_ADDRESS_AWARE.
    put(64 + 20, &240_u16.to_le_bytes());
    put(64 + 22, &0x22_u16.to_le_bytes());
    let optional = 64 + 24;
    put(optional, &0x20b_u16.to_le_bytes());
    put(optional + 16, &TEXT.to_le_bytes());
    put(optional + 24, &BASE.to_le_bytes());
    for (offset, number) in [(32, 0x1000), (36, 0x1000), (56, SIZE), (60, TEXT), (108, 16)] {
        put(optional + offset, &number.to_le_bytes());
    }
    // NATIVE; DYNAMIC_BASE.
    put(optional + 68, &1_u16.to_le_bytes());
    put(optional + 70, &0x40_u16.to_le_bytes());
    let directories = [(1, (DESCRIPTORS, 60)), (3, exceptions), (5, relocations), (10, (CONFIG, 128))];
    for (index, (rva, size)) in directories {
        put(optional + 112 + 8 * index, &rva.to_le_bytes());
        put(optional + 112 + 8 * index + 4, &size.to_le_bytes());
    }
    for (index, (name, at, flags)) in sections.into_iter().enumerate() {
        let header = optional + 240 + 40 * index;
        put(header, name);
        for (offset, number) in [(8, 0x1000), (12, at), (16, 0x1000), (20, at), (36, flags)] {
            put(header + offset, &number.to_le_bytes());
        }
    }
    bytes
}
