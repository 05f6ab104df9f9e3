//! Images as the linkers of C make them: code that is thrown away after DriverEntry, code that may be paged out, assertions,
//! and the pointers of control flow guard. The images are made here, byte by byte.

use std::mem::offset_of;
use std::time::Duration;

use ndis_lab::loader::Image;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{AdapterConfig, Lab};
use ndis_sys::NDIS_MINIPORT_DRIVER_CHARACTERISTICS as Characteristics;

const BASE: u64 = 0x1_4000_0000;
/// Sections lie on pages of their own, in the order of the image.
const TEXT: u32 = 0x1000;
const PAGE: u32 = 0x2000;
const INIT: u32 = 0x3000;
const DATA: u32 = 0x4000;
const RELOC: u32 = 0x5000;
const SIZE: u32 = 0x6000;
/// In `.text`: what a handler without work does.
const NOTHING: u32 = TEXT + 0x80;
/// In `.data`: characteristics, the driver's handle, a KDPC, the import table, the load configuration.
const CHARACTERISTICS: u32 = DATA;
const HANDLE: u32 = DATA + 0x100;
const DPC: u32 = DATA + 0x140;
const SLOTS: u32 = DATA + 0x200;
const NAMES: u32 = DATA + 0x240;
const DESCRIPTORS: u32 = DATA + 0x300;
const CONFIG: u32 = DATA + 0x400;
const GUARD: u32 = DATA + 0x600;

/// Where MiniportInitializeEx is, and its code there.
struct Driver {
    initialize: u32,
    code: Vec<u8>,
}

/// Code that is put together at an address.
struct Code {
    at: u32,
    bytes: Vec<u8>,
}

impl Code {
    fn new(at: u32) -> Self {
        Self { at, bytes: Vec::new() }
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An instruction that ends with the distance to `to`.
    fn to(mut self, opcode: &[u8], to: u32) -> Self {
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
fn image(driver: &Driver) -> Vec<u8> {
    let mut mapped = vec![0_u8; SIZE as usize];
    let mut put =
        |at: u32, bytes: &[u8]| mapped[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(TEXT, &driver_entry());
    put(NOTHING, &[0x31, 0xc0, 0xc3]); // xor eax, eax; ret
    put(PAGE, &[0xc3]); // ret
    put(INIT, &[0xb8, 1, 0, 0, 0xc0, 0xc3]); // mov eax, C0000001h; ret
    put(driver.initialize, &driver.code);
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
    // Imports: one function of ndis.sys, two of ntoskrnl.exe, each table ended by a zero.
    let functions = ["NdisMRegisterMiniportDriver", "KeInitializeDpc", "KeInsertQueueDpc"];
    for (index, (name, slot)) in (0_u32..).zip(functions.into_iter().zip([SLOTS, SLOTS + 16, SLOTS + 24])) {
        let at = NAMES + 32 * index;
        put(at + 2, name.as_bytes());
        put(slot, &u64::from(at).to_le_bytes());
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
    [headers(relocations), mapped.split_off(TEXT as usize)].concat()
}

/// The headers: the file is as the image is mapped, page for page.
fn headers(relocations: (u32, u32)) -> Vec<u8> {
    let code = 0x6000_0020_u32;
    let sections: [(&[u8], u32, u32); 5] = [
        (b".text", TEXT, code),
        (b"PAGE", PAGE, code),
        (b"INIT", INIT, code | 0x0200_0000),
        (b".data", DATA, 0xc000_0040),
        (b".reloc", RELOC, 0x4200_0040),
    ];
    let mut bytes = vec![0_u8; TEXT as usize];
    let mut put = |at: usize, more: &[u8]| bytes[at..at + more.len()].copy_from_slice(more);
    put(0, b"MZ");
    put(0x3c, &64_u32.to_le_bytes());
    put(64, b"PE\0\0\x64\x86\x05\0");
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
    for (index, (rva, size)) in [(1, (DESCRIPTORS, 60)), (5, relocations), (10, (CONFIG, 128))] {
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

/// Loads the driver and starts an adapter, which breaks this rule.
fn breaks(driver: &Driver, rule: &'static Rule, detail: &str) {
    let lab = Lab::builder().timeout(Duration::from_millis(500)).build();
    let loaded = lab.load_image(&image(driver), "sections").unwrap();
    loaded.add_adapter(AdapterConfig::new()).unwrap_err();
    let found = lab.violations();
    let hit = found.iter().find(|violation| violation.rule == rule);
    let hit = hit.unwrap_or_else(|| panic!("{rule}: {found:#?}"));
    assert!(hit.detail.contains(detail), "{hit}");
}

#[test]
fn code_of_init_is_gone_after_driver_entry() {
    let code = vec![0xb8, 1, 0, 0, 0xc0, 0xc3];
    breaks(&Driver { initialize: INIT, code }, rules::INIT_CODE, "section INIT");
}

#[test]
fn a_dpc_does_not_lie_in_pageable_code() {
    let at = TEXT + 0x100;
    let code = Code::new(at)
        .raw(&[0x48, 0x83, 0xec, 0x28]) // sub rsp, 28h
        .to(&[0x48, 0x8d, 0x0d], DPC) // lea rcx, [DPC]
        .to(&[0x48, 0x8d, 0x15], PAGE) // lea rdx, [PAGE]
        .raw(&[0x45, 0x31, 0xc0]) // xor r8d, r8d
        .to(&[0xff, 0x15], SLOTS + 16) // call [KeInitializeDpc]
        .to(&[0x48, 0x8d, 0x0d], DPC) // lea rcx, [DPC]
        .raw(&[0x31, 0xd2, 0x45, 0x31, 0xc0]) // xor edx, edx; xor r8d, r8d
        .to(&[0xff, 0x15], SLOTS + 24) // call [KeInsertQueueDpc]
        .raw(&[0xb8, 1, 0, 0, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3]) // mov eax, C0000001h; add rsp, 28h; ret
        .bytes;
    breaks(&Driver { initialize: at, code }, rules::PAGED_CODE, "section PAGE");
}

#[test]
fn an_assertion_that_fails_is_named() {
    let at = TEXT + 0x100;
    breaks(&Driver { initialize: at, code: vec![0xcd, 0x2c, 0xc3] }, rules::ASSERTION, "assertion");
}

#[test]
fn an_instruction_for_hardware_is_named() {
    // in al, dx
    let lab = Lab::builder().timeout(Duration::from_millis(500)).build();
    let driver = Driver { initialize: TEXT + 0x100, code: vec![0xec, 0xc3] };
    let loaded = lab.load_image(&image(&driver), "sections").unwrap();
    loaded.add_adapter(AdapterConfig::new()).unwrap_err();
    let stop = lab.bugcheck().unwrap();
    assert!(stop.detail.contains("`in`") && stop.detail.contains("hardware"), "{stop}");
}

#[test]
fn a_jump_to_where_no_code_is_is_told_as_one() {
    // mov eax, 12345678h; jmp rax
    let lab = Lab::builder().timeout(Duration::from_millis(500)).build();
    let code = vec![0xb8, 0x78, 0x56, 0x34, 0x12, 0xff, 0xe0];
    let loaded = lab.load_image(&image(&Driver { initialize: TEXT + 0x100, code }), "sections").unwrap();
    loaded.add_adapter(AdapterConfig::new()).unwrap_err();
    let stop = lab.bugcheck().unwrap();
    assert!(stop.detail.contains("jump to 0x12345678"), "{stop}");
}

#[test]
fn empty_guard_pointers_lead_somewhere() {
    let driver = Driver { initialize: NOTHING, code: vec![0x31, 0xc0, 0xc3] };
    let loaded = Image::load(&image(&driver), |_, _| Some(0x1000)).unwrap();
    for slot in [GUARD, GUARD + 8] {
        // SAFETY: a number in the image's data, which is mapped and readable.
        let pointer = unsafe { ((loaded.base() + slot as usize) as *const usize).read() };
        assert!(pointer != 0 && !loaded.contains(pointer), "{pointer:#x}");
        let region = region::query(pointer as *const u8).unwrap();
        assert!(region.is_executable());
    }
}
