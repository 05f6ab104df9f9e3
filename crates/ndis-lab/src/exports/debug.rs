//! Debug output of ntoskrnl.exe: `DbgPrint` and its kin. What drivers print is kept for the lab's user.

use ndis_sys::{NTSTATUS, ULONG};

use super::format::{characters, format};
use super::{ANY, Call, Export, Function, leaf, leaves, variadic};
use crate::machine::{DISPATCH, thread};
use crate::rules;

/// Lines that are kept.
const MAX_LINES: usize = 10_000;
/// Bytes that one call prints at most.
const MAX_BYTES: usize = 512;

/// Formats and records a line.
///
/// # Safety
/// The format ends with a zero, and the arguments are what it asks for.
unsafe fn print(call: &Call<'_>, prefix: &str, pattern: *const u8, arguments: *const u64) {
    // SAFETY: as the caller says.
    let text = unsafe {
        let pattern = characters(pattern, MAX_BYTES);
        check_level(call, &pattern);
        format(&pattern, false, arguments)
    };
    let mut text = format!("{prefix}{}", String::from_utf16_lossy(&text));
    if text.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    let mut lines = call.debug_output.lock();
    if lines.len() < MAX_LINES {
        lines.push(text);
    }
}

/// Wide characters are converted with tables that are paged.
fn check_level(call: &Call<'_>, pattern: &[u16]) {
    if thread::irql() < DISPATCH {
        return;
    }
    let text = String::from_utf16_lossy(pattern);
    for wide in ["%C", "%S", "%lc", "%ls", "%wc", "%ws", "%wZ"] {
        if text.contains(wide) {
            call.violate(rules::IRQL_FUNCTION, format!("{wide} is allowed at PASSIVE_LEVEL only"));
        }
    }
}

static DBG_PRINT: Function = Function { name: "DbgPrint", irql: ANY };
static DBG_PRINT_EX: Function = Function { name: "DbgPrintEx", irql: ANY };

variadic! {
    #[unsafe(no_mangle)]
    DbgPrint => dbg_print
}

unsafe extern "win64" fn dbg_print(all: *const u64) -> ULONG {
    leaf(&DBG_PRINT, |call| {
        // SAFETY: the caller's format, and what it asks for behind it.
        unsafe { print(call, "", all.read() as *const u8, all.add(1)) };
        0
    })
}

variadic! {
    #[unsafe(no_mangle)]
    DbgPrintEx => dbg_print_ex
}

unsafe extern "win64" fn dbg_print_ex(all: *const u64) -> ULONG {
    leaf(&DBG_PRINT_EX, |call| {
        // SAFETY: component, level and the caller's format, and what it asks for behind it.
        unsafe { print(call, "", all.add(2).read() as *const u8, all.add(3)) };
        0
    })
}

pub(super) const VARIADIC: &[Export] = &[
    Export {
        module: "ntoskrnl.exe",
        name: "DbgPrint",
        irql: super::ANY,
        address: || DbgPrint as *const () as usize,
    },
    Export {
        module: "ntoskrnl.exe",
        name: "DbgPrintEx",
        irql: super::ANY,
        address: || DbgPrintEx as *const () as usize,
    },
];

leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn vDbgPrintEx(call, _component: ULONG, _level: ULONG, pattern: *const u8, list: *const u64) -> ULONG {
        // SAFETY: the caller's format and argument list.
        unsafe { print(call, "", pattern, list) };
        0
    }

    ANY fn vDbgPrintExWithPrefix(
        call, prefix: *const u8, _component: ULONG, _level: ULONG, pattern: *const u8, list: *const u64,
    ) -> ULONG {
        // SAFETY: the caller's strings and argument list.
        unsafe {
            let prefix = String::from_utf16_lossy(&characters(prefix, MAX_BYTES));
            print(call, &prefix, pattern, list);
        }
        0
    }

    ANY fn DbgQueryDebugFilterState(_, _component: ULONG, _level: ULONG) -> NTSTATUS {
        // TRUE: everything is shown.
        1
    }

    ANY fn DbgSetDebugFilterState(_, _component: ULONG, _level: ULONG, _state: u8) -> NTSTATUS {
        0
    }
} }
