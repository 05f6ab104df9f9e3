//! Images as the linkers of C make them: code that is thrown away after DriverEntry, code that may be paged out, assertions,
//! and the pointers of control flow guard.

mod images;

use std::time::Duration;

use images::{Code, DPC, Driver, GUARD, INIT, NOTHING, PAGE, TEXT, image, slot};

use ndis_lab::loader::Image;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{AdapterConfig, Lab};

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
    breaks(&Driver::new(INIT, code), rules::INIT_CODE, "section INIT");
}

#[test]
fn a_dpc_does_not_lie_in_pageable_code() {
    let at = TEXT + 0x100;
    let code = Code::new(at)
        .raw(&[0x48, 0x83, 0xec, 0x28]) // sub rsp, 28h
        .to(&[0x48, 0x8d, 0x0d], DPC) // lea rcx, [DPC]
        .to(&[0x48, 0x8d, 0x15], PAGE) // lea rdx, [PAGE]
        .raw(&[0x45, 0x31, 0xc0]) // xor r8d, r8d
        .to(&[0xff, 0x15], slot("KeInitializeDpc")) // call [KeInitializeDpc]
        .to(&[0x48, 0x8d, 0x0d], DPC) // lea rcx, [DPC]
        .raw(&[0x31, 0xd2, 0x45, 0x31, 0xc0]) // xor edx, edx; xor r8d, r8d
        .to(&[0xff, 0x15], slot("KeInsertQueueDpc")) // call [KeInsertQueueDpc]
        .raw(&[0xb8, 1, 0, 0, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3]) // mov eax, C0000001h; add rsp, 28h; ret
        .bytes;
    breaks(&Driver::new(at, code), rules::PAGED_CODE, "section PAGE");
}

#[test]
fn an_assertion_that_fails_is_named() {
    let at = TEXT + 0x100;
    breaks(&Driver::new(at, vec![0xcd, 0x2c, 0xc3]), rules::ASSERTION, "assertion");
}

#[test]
fn an_instruction_for_hardware_is_named() {
    // in al, dx
    let lab = Lab::builder().timeout(Duration::from_millis(500)).build();
    let driver = Driver::new(TEXT + 0x100, vec![0xec, 0xc3]);
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
    let loaded = lab.load_image(&image(&Driver::new(TEXT + 0x100, code)), "sections").unwrap();
    loaded.add_adapter(AdapterConfig::new()).unwrap_err();
    let stop = lab.bugcheck().unwrap();
    assert!(stop.detail.contains("jump to 0x12345678"), "{stop}");
}

#[test]
fn empty_guard_pointers_lead_somewhere() {
    let driver = Driver::new(NOTHING, vec![0x31, 0xc0, 0xc3]);
    let loaded = Image::load(&image(&driver), |_, _| Some(0x1000)).unwrap();
    for slot in [GUARD, GUARD + 8] {
        // SAFETY: a number in the image's data, which is mapped and readable.
        let pointer = unsafe { ((loaded.base() + slot as usize) as *const usize).read() };
        assert!(pointer != 0 && !loaded.contains(pointer), "{pointer:#x}");
        let region = region::query(pointer as *const u8).unwrap();
        assert!(region.is_executable());
    }
}
