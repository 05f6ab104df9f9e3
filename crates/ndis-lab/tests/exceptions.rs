//! Structured exceptions of images: what the processor or a function raises within a `__try` goes to its filter and handler as
//! on Windows; what Windows stops at stops the machine here, `__try` or not. Linux only: there traps can be resumed from.
#![cfg(target_os = "linux")]

mod images;

use std::time::Duration;

use images::{Code, Driver, Function, SCRATCH, TEXT, image, slot};
use ndis_lab::{AdapterConfig, BugCheck, Lab, LabError};

/// Where MiniportInitializeEx lies and its `__try` begins, where a function that it calls, a filter and a `__finally` block.
const START: u32 = TEXT + 0x100;
const BEGIN: u32 = START + 7;
const CALLED: u32 = TEXT + 0x300;
const FILTER: u32 = TEXT + 0x400;
const FINALLY: u32 = TEXT + 0x480;

const ACCESS_VIOLATION: u32 = 0xc000_0005;
/// What MiniportInitializeEx returns when no exception comes.
const NOTHING_RAISED: u32 = 0xc000_00aa;
/// Of no program, and of no memory.
const USER: u32 = 0x1234_0000;

/// `xor ecx, ecx; ...` and the like: code that raises, between the borders of a `__try`.
#[derive(Default)]
struct Tried {
    code: Vec<u8>,
    /// 1, any exception, or [`FILTER`].
    filter: u32,
    filter_code: Vec<u8>,
    /// A `__finally` within the `__try`.
    finally: Option<Vec<u8>>,
    /// The function at [`CALLED`]: code, bytes of prolog, unwind codes.
    called: Option<(Vec<u8>, u8, Vec<[u8; 2]>)>,
}

/// `mov rcx, address`
fn to_rcx(address: u64) -> Vec<u8> {
    [&[0x48, 0xb9][..], &address.to_le_bytes()].concat()
}

/// `mov eax, [rcx]`
const READ: [u8; 2] = [0x8b, 0x01];
/// `mov [rcx], eax`
const WRITE: [u8; 2] = [0x89, 0x01];
/// `add rsp, 20h; pop rbx; ret`. The `__except` returns the code of the exception, added to what a `__finally` left and to
/// what EBX was in the `__try`.
const EPILOG: [u8; 6] = [0x48, 0x83, 0xc4, 0x20, 0x5b, 0xc3];

impl Tried {
    fn new(code: &[&[u8]]) -> Self {
        Self { code: code.concat(), filter: 1, ..Self::default() }
    }

    /// The image: MiniportInitializeEx tries the code.
    fn image(&self) -> Vec<u8> {
        // push rbx; sub rsp, 20h
        let prolog = [0x53, 0x48, 0x83, 0xec, 0x20];
        let after_try = BEGIN + u32::try_from(self.code.len()).unwrap() + 1;
        let code = Code::new(START)
            .raw(&prolog)
            .raw(&[0x31, 0xdb]) // xor ebx, ebx
            .raw(&self.code)
            .raw(&[0x90]) // nop
            .raw(&[0xb8])
            .raw(&NOTHING_RAISED.to_le_bytes()) // mov eax, C00000AAh
            .raw(&EPILOG);
        let except = START + u32::try_from(code.bytes.len()).unwrap();
        // add eax, [SCRATCH]; add eax, ebx
        let code = code.to(&[0x03, 0x05], SCRATCH).raw(&[0x01, 0xd8]).raw(&EPILOG);
        let end = START + u32::try_from(code.bytes.len()).unwrap();
        let mut driver = Driver::new(START, code.bytes);
        let mut scopes = Vec::new();
        if let Some(finally) = &self.finally {
            driver.more.push((FINALLY, finally.clone()));
            scopes.push([BEGIN, after_try, FINALLY, 0]);
        }
        scopes.push([BEGIN, after_try, self.filter, except]);
        // UWOP_ALLOC_SMALL of 20h, UWOP_PUSH_NONVOL of RBX.
        let codes = vec![[5, 0x32], [1, 0x30]];
        driver.functions.push(Function { begin: START, end, prolog: 5, codes, scopes });
        if let Some((code, prolog, codes)) = &self.called {
            let end = CALLED + u32::try_from(code.len()).unwrap();
            driver.more.push((CALLED, code.clone()));
            let (prolog, codes) = (*prolog, codes.clone());
            driver.functions.push(Function { begin: CALLED, end, prolog, codes, scopes: Vec::new() });
        }
        if !self.filter_code.is_empty() {
            driver.more.push((FILTER, self.filter_code.clone()));
        }
        image(&driver)
    }

    /// Runs it: what MiniportInitializeEx returned, or how the machine stopped.
    fn run(&self) -> Result<u32, Box<BugCheck>> {
        let lab = Lab::builder().timeout(Duration::from_millis(500)).build();
        let driver = lab.load_image(&self.image(), "exceptions").unwrap();
        match driver.add_adapter(AdapterConfig::new()) {
            Err(LabError::Initialize(status)) => Ok(status),
            Err(LabError::BugCheck(stop)) => Err(stop),
            other => panic!("{other:?}"),
        }
    }

    fn raises(&self, code: u32) {
        assert_eq!(self.run(), Ok(code));
    }

    fn stops(&self, code: u32, parameters: [u64; 2]) {
        let stop = self.run().unwrap_err();
        assert_eq!((stop.code, &stop.parameters[..2]), (code, &parameters[..]), "{stop}");
    }
}

#[test]
fn what_raises_nothing_goes_on() {
    Tried::new(&[&[0x90]]).raises(NOTHING_RAISED);
}

#[test]
fn accesses_to_memory_of_programs_are_exceptions() {
    for address in [0, 8, USER.into(), 0x2345_6789_0000, 0x8000_0000_0000, 0x4321_0000_0000_0000] {
        Tried::new(&[&to_rcx(address), &READ]).raises(ACCESS_VIOLATION);
        Tried::new(&[&to_rcx(address), &WRITE]).raises(ACCESS_VIOLATION);
    }
    // call rcx
    Tried::new(&[&to_rcx(0), &[0xff, 0xd1]]).raises(ACCESS_VIOLATION);
    Tried::new(&[&to_rcx(USER.into()), &[0xff, 0xd1]]).raises(ACCESS_VIOLATION);
}

#[test]
fn accesses_to_kernel_memory_that_is_not_there_stop_the_machine() {
    for address in [0xffff_8000_0000_0000, 0xffff_f800_1234_5000] {
        Tried::new(&[&to_rcx(address), &READ]).stops(0x50, [address, 0]);
        Tried::new(&[&to_rcx(address), &WRITE]).stops(0x50, [address, 1]);
    }
}

#[test]
fn a_page_fault_at_dispatch_level_stops_the_machine() {
    let raise = Code::new(BEGIN).to(&[0xff, 0x15], slot("KeRaiseIrqlToDpcLevel")).bytes;
    Tried::new(&[&raise, &to_rcx(USER.into()), &READ]).stops(0xd1, [USER.into(), 2]);
}

#[test]
fn arithmetic_and_odd_instructions_are_exceptions() {
    // xor ecx, ecx; mov eax, 1; cdq; idiv ecx
    Tried::new(&[&[0x31, 0xc9, 0xb8, 1, 0, 0, 0, 0x99, 0xf7, 0xf9]]).raises(0xc000_0094);
    // mov ecx, -1; mov eax, 80000000h; cdq; idiv ecx: the quotient has no room
    Tried::new(&[&[0xb9, 0xff, 0xff, 0xff, 0xff, 0xb8, 0, 0, 0, 0x80, 0x99, 0xf7, 0xf9]]).raises(0xc000_0095);
    // ud2; int 3; int 2Ch
    Tried::new(&[&[0x0f, 0x0b]]).raises(0xc000_001d);
    Tried::new(&[&[0xcc]]).raises(0x8000_0003);
    Tried::new(&[&[0xcd, 0x2c]]).raises(0xc000_0420);
    // int 29h, which nothing handles.
    Tried::new(&[&[0xb9, 7, 0, 0, 0, 0xcd, 0x29]]).stops(0x139, [7, 0]);
}

/// A filter: `rcx` leads to `EXCEPTION_POINTERS`, `rdx` is the frame. Takes the exception if these 8 bytes of its record are so.
fn wants(offset: u8, value: u64) -> Vec<u8> {
    [
        &[0x48, 0x8b, 0x01][..],                                       // mov rax, [rcx]
        &[0x48, 0x8b, 0x40, offset],                                   // mov rax, [rax + offset]
        &[0x48, 0xba],                                                 // mov rdx, value
        &value.to_le_bytes(),                                          //
        &[0x48, 0x39, 0xd0, 0x0f, 0x94, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3], // cmp rax, rdx; sete al; movzx eax, al; ret
    ]
    .concat()
}

/// `ExceptionInformation` in `EXCEPTION_RECORD`.
const INFORMATION: u8 = 32;

#[test]
fn a_filter_is_told_what_was_touched_and_how() {
    let told = |code: &[&[u8]], offset, value| Tried {
        filter: FILTER,
        filter_code: wants(offset, value),
        ..Tried::new(code)
    };
    let read: &[&[u8]] = &[&to_rcx(USER.into()), &READ];
    told(read, INFORMATION, 0).raises(ACCESS_VIOLATION);
    told(read, INFORMATION + 8, USER.into()).raises(ACCESS_VIOLATION);
    told(&[&to_rcx(USER.into()), &WRITE], INFORMATION, 1).raises(ACCESS_VIOLATION);
    told(&[&to_rcx(USER.into()), &[0xff, 0xd1]], INFORMATION, 8).raises(ACCESS_VIOLATION);
    // What is not canonical is not told.
    told(&[&to_rcx(0x8000_0000_0000), &READ], INFORMATION + 8, u64::MAX).raises(ACCESS_VIOLATION);
    // ExceptionCode and ExceptionFlags.
    told(read, 0, ACCESS_VIOLATION.into()).raises(ACCESS_VIOLATION);
    // A filter that does not want it: KMODE_EXCEPTION_NOT_HANDLED, with the exception and its address.
    let stop = told(read, INFORMATION, 7).run().unwrap_err();
    assert_eq!((stop.code, stop.parameters[0]), (0x1e, ACCESS_VIOLATION.into()), "{stop}");
    assert_eq!(stop.parameters[1] & 0xfff, u64::from(BEGIN + 10) & 0xfff, "{stop}");
    assert_eq!(stop.parameters[2..], [0, USER.into()], "{stop}");
    let place = format!("access to {USER:#x} by exceptions+{:#x}", BEGIN + 10);
    assert!(stop.detail.contains(&place), "{stop}");
}

#[test]
fn a_filter_may_repair_the_context_and_go_on() {
    let filter = [
        &[0x48, 0x8b, 0x41, 0x08][..],         // mov rax, [rcx + 8]: CONTEXT
        &[0x48, 0x83, 0x80, 0xf8, 0, 0, 0, 2], // add qword ptr [rax + F8h], 2: Rip, over the instruction
        &[0xc7, 0x40, 0x78, 0x77, 0, 0, 0],    // mov dword ptr [rax + 78h], 77h: Rax
        &[0xb8, 0xff, 0xff, 0xff, 0xff, 0xc3], // mov eax, -1; ret: EXCEPTION_CONTINUE_EXECUTION
    ]
    .concat();
    // Registers and flags are those of before: mov edx, 5; stc; the access; adc eax, edx; then the end of the function.
    let code: &[&[u8]] = &[
        &to_rcx(USER.into()),
        &[0xba, 5, 0, 0, 0, 0xf9],
        &READ,
        &[0x11, 0xd0], // adc eax, edx
        &EPILOG,
    ];
    Tried { filter: FILTER, filter_code: filter, ..Tried::new(code) }.raises(0x77 + 5 + 1);
}

#[test]
fn termination_handlers_run_and_registers_come_back() {
    // __finally: add dword ptr [SCRATCH], 3; ret
    let finally = {
        let mut code = Code::new(FINALLY).to(&[0x83, 0x05], SCRATCH).bytes;
        // The distance counts from behind the immediate byte.
        let distance = u32::from_le_bytes(code[2..6].try_into().unwrap()) - 1;
        code[2..6].copy_from_slice(&distance.to_le_bytes());
        [&code[..], &[3, 0xc3]].concat()
    };
    // push rbx; sub rsp, 20h; mov ebx, 0; mov eax, [USER]
    let called =
        [&[0x53, 0x48, 0x83, 0xec, 0x20, 0xbb, 0, 0, 0, 0][..], &to_rcx(USER.into()), &READ, &EPILOG]
            .concat();
    // mov ebx, 10h; call CALLED
    let code = Code::new(BEGIN).raw(&[0xbb, 0x10, 0, 0, 0]).to(&[0xe8], CALLED).bytes;
    let tried = Tried {
        finally: Some(finally),
        called: Some((called, 5, vec![[5, 0x32], [1, 0x30]])),
        ..Tried::new(&[&code])
    };
    tried.raises(ACCESS_VIOLATION + 3 + 0x10);
}

#[test]
fn functions_raise_in_their_caller() {
    let call = |name: &str, arguments: &[u8]| {
        Tried::new(&[&Code::new(BEGIN).raw(arguments).to(&[0xff, 0x15], slot(name)).bytes])
    };
    // mov ecx, C0000123h
    call("ExRaiseStatus", &[0xb9, 0x23, 1, 0, 0xc0]).raises(0xc000_0123);
    // mov ecx, address; mov edx, 16; mov r8d, 4
    let probe = |name: &str, address: u32| {
        let arguments = [&[0xb9][..], &address.to_le_bytes(), &[0xba, 16, 0, 0, 0, 0x41, 0xb8, 4, 0, 0, 0]];
        call(name, &arguments.concat())
    };
    probe("ProbeForRead", USER).raises(NOTHING_RAISED);
    probe("ProbeForRead", USER + 2).raises(0x8000_0002);
    probe("ProbeForWrite", USER).raises(ACCESS_VIOLATION);
    // The kernel's own: lea rcx, [SCRATCH]
    let own = Code::new(BEGIN)
        .to(&[0x48, 0x8d, 0x0d], SCRATCH)
        .raw(&[0xba, 16, 0, 0, 0, 0x41, 0xb8, 4, 0, 0, 0])
        .to(&[0xff, 0x15], slot("ProbeForRead"))
        .bytes;
    Tried::new(&[&own]).raises(ACCESS_VIOLATION);
}

#[test]
fn memory_functions_raise_in_their_caller() {
    // lea rcx, [SCRATCH]; mov edx, USER; mov r8d, 100
    let from = Code::new(BEGIN)
        .to(&[0x48, 0x8d, 0x0d], SCRATCH + 16)
        .raw(&[0xba])
        .raw(&USER.to_le_bytes())
        .raw(&[0x41, 0xb8, 100, 0, 0, 0])
        .to(&[0xff, 0x15], slot("memcpy"))
        .bytes;
    Tried::new(&[&from]).raises(ACCESS_VIOLATION);
    // mov ecx, USER; lea rdx, [SCRATCH]; mov r8d, 3
    let to = Code::new(BEGIN)
        .raw(&[0xb9])
        .raw(&USER.to_le_bytes())
        .to(&[0x48, 0x8d, 0x15], SCRATCH + 16)
        .raw(&[0x41, 0xb8, 3, 0, 0, 0])
        .to(&[0xff, 0x15], slot("memcpy"))
        .bytes;
    Tried::new(&[&to]).raises(ACCESS_VIOLATION);
}
