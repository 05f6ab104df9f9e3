//! Functions of ntoskrnl.exe that raise exceptions in their caller, and the language handler that takes them.

use ndis_sys::{KPROCESSOR_MODE, MDL, NTSTATUS, PVOID, ULONG};

use super::{Export, Function, shell};
use crate::machine::seh;

const MODULE: &str = "ntoskrnl.exe";
const STATUS_ACCESS_VIOLATION: NTSTATUS = 0xc000_0005_u32.cast_signed();
const STATUS_DATATYPE_MISALIGNMENT: NTSTATUS = 0x8000_0002_u32.cast_signed();

/// Defines functions that raise what their body returns, unless that is 0. A native driver may call them too; it has no
/// frames that the lab could unwind, so that an exception in one is not handled.
macro_rules! raising {
    ($($irql:ident fn $name:ident($call:pat_param $(, $arg:ident: $ty:ty)* $(,)?) $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            #[allow(non_snake_case)]
            unsafe extern "win64" fn $name() {
                unsafe extern "win64" fn body($($arg: $ty),*) -> NTSTATUS {
                    static FUNCTION: Function = Function { name: stringify!($name), irql: super::$irql };
                    shell(&FUNCTION, |$call| Ok($body))
                }
                std::arch::naked_asm!(
                    "lea r11, [rip + {body}]",
                    "jmp {raising}",
                    body = sym body,
                    raising = sym seh::raising,
                )
            }
        )*
        pub(super) const TABLE: &[Export] = &[
            $(Export {
                module: MODULE,
                name: stringify!($name),
                irql: super::$irql,
                address: || $name as *const () as usize,
            },)*
            Export {
                module: MODULE,
                name: "__C_specific_handler",
                irql: super::ANY,
                address: || seh::c_specific_handler as *const () as usize,
            },
        ];
    };
}

/// `IoWriteAccess` and `IoModifyAccess`.
fn writes(operation: i32) -> bool {
    operation != 0
}

raising! {
    UP_TO_APC fn MmProbeAndLockPages(call, mdl: *mut MDL, mode: KPROCESSOR_MODE, operation: i32) {
        call.lock_pages(mdl, mode != 0, writes(operation))
    }

    UP_TO_APC fn ProbeForRead(call, address: PVOID, length: usize, alignment: ULONG) {
        call.probe(address as usize, length, alignment, false)
    }

    UP_TO_APC fn ProbeForWrite(call, address: PVOID, length: usize, alignment: ULONG) {
        call.probe(address as usize, length, alignment, true)
    }

    UP_TO_APC fn ExRaiseStatus(_, status: NTSTATUS) {
        status
    }

    UP_TO_APC fn ExRaiseAccessViolation(_) {
        STATUS_ACCESS_VIOLATION
    }

    UP_TO_APC fn ExRaiseDatatypeMisalignment(_) {
        STATUS_DATATYPE_MISALIGNMENT
    }
}
