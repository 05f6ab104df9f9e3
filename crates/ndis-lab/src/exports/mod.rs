//! What ntoskrnl.exe and ndis.sys export, as far as NDIS miniports need it.
//!
//! Each function is defined once: as a symbol, which a natively linked driver calls, and as a row of
//! a table, by which the loader binds an image. A function runs in a shell that names it for
//! reports, checks its IRQL, and leaves the driver when the machine stopped (see
//! [`crate::machine::switch`]); its body returns `Err(Stopped)` for that and may own what it likes.

use crate::machine::{Machine, Stopped, switch, thread};
use crate::rules;

pub(crate) mod callback;
mod crt;
mod debug;
pub(crate) mod devices;
mod ex;
mod ex_timer;
mod format;
mod generic_table;
mod hardware;
pub(crate) mod io;
mod kernel;
mod lists;
mod memory;
mod misc;
mod ndis_buffers;
mod ndis_config;
mod ndis_data;
mod ndis_miniport;
mod ndis_misc;
mod ndis_system;
mod object;
mod pages;
pub(crate) mod processors;
mod raise;
mod registry;
mod registry_query;
pub(crate) mod rtl;
mod rtl_address;
mod rtl_bits;
pub(crate) mod rtl_string;
mod sync;
mod trace;

/// At which IRQL a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Irql {
    min: u8,
    max: u8,
}

/// Any IRQL.
const ANY: Irql = Irql { min: 0, max: 15 };
/// `IRQL <= DISPATCH_LEVEL`.
const UP_TO_DISPATCH: Irql = Irql { min: 0, max: 2 };
/// `IRQL >= DISPATCH_LEVEL`.
const DISPATCH_AND_ABOVE: Irql = Irql { min: 2, max: 15 };
/// `IRQL = DISPATCH_LEVEL`.
const AT_DISPATCH: Irql = Irql { min: 2, max: 2 };
/// `IRQL <= APC_LEVEL`.
const UP_TO_APC: Irql = Irql { min: 0, max: 1 };
/// `IRQL = PASSIVE_LEVEL`.
const PASSIVE_ONLY: Irql = Irql { min: 0, max: 0 };

/// An exported function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) irql: Irql,
}

/// A row of an export table.
pub(crate) struct Export {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    /// Where it may be called; variables and functions of the C run time go with [`ANY`].
    #[cfg_attr(not(test), allow(dead_code))] // compared with the documentation
    pub(crate) irql: Irql,
    pub(crate) address: fn() -> usize,
}

/// A call of an exported function by the driver.
pub(crate) struct Call<'a> {
    pub(crate) machine: &'a Machine,
}

impl std::ops::Deref for Call<'_> {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        self.machine
    }
}

/// Runs the body of a function; does not return when the machine stopped.
fn shell<R>(function: &'static Function, body: impl FnOnce(&Call<'_>) -> Result<R, Stopped>) -> R {
    match run(function, body) {
        Ok(value) => value,
        // SAFETY: `run` found the frame by which this thread entered the driver, or ended the
        // process; between here and there lie the exported shell, which owns nothing, and driver
        // frames.
        Err(_) => unsafe { switch::leave(thread::with(thread::Thread::frame)) },
    }
}

/// `IRQL_NOT_LESS_OR_EQUAL`.
const IRQL_NOT_LESS_OR_EQUAL: u32 = 0xa;

fn run<R>(
    function: &'static Function,
    body: impl FnOnce(&Call<'_>) -> Result<R, Stopped>,
) -> Result<R, Stopped> {
    let Some(machine) = thread::with(thread::Thread::machine) else {
        eprintln!("ndis-lab: {} called outside of any driver that a lab runs", function.name);
        std::process::abort();
    };
    // SAFETY: `Machine::enter` set this pointer from a reference that lives until the entry ends,
    // and this code runs within the entry.
    let machine = unsafe { machine.as_ref() };
    let outer = thread::with(|thread| thread.set_function(Some(function.name)));
    if machine.is_dead() {
        return Err(machine.stop(0, [0; 4], "the machine has stopped"));
    }
    let irql = thread::irql();
    if irql > function.irql.max || irql < function.irql.min {
        let Irql { min, max } = function.irql;
        let at = rules::irql_name(irql);
        let want = match (min, max) {
            (0, 0) => "PASSIVE_LEVEL only".to_owned(),
            (0, max) => format!("up to {}", rules::irql_name(max)),
            (min, max) if min == max => format!("{} only", rules::irql_name(min)),
            (min, _) => format!("{} and above", rules::irql_name(min)),
        };
        machine.violate(rules::IRQL_FUNCTION, format!("{} at {at}; it allows {want}", function.name));
        if thread::with(|thread| thread.crash.is_calling()) {
            // It might wait for what nobody does any more.
            let text = format!("{} is called in it", function.name);
            return Err(machine.stop(IRQL_NOT_LESS_OR_EQUAL, [0, irql.into(), 0, 0], text));
        }
    }
    machine.note_function(function.name);
    machine.tell_call(function.name);
    let result = body(&Call { machine });
    crate::machine::guard::report_touches(machine);
    #[cfg(target_os = "linux")]
    machine.settle_wild(function.name)?;
    thread::with(|thread| thread.set_function(outer));
    result
}

/// As [`shell`], for a body that only computes and touches what the caller points to: it never stops the machine.
fn leaf<R>(function: &'static Function, body: impl FnOnce(&Call<'_>) -> R) -> R {
    shell(function, |call| Ok(body(call)))
}

/// Calls a routine of the driver from within a function: what it does is the driver's doing. The caller owns
/// nothing that has to be dropped, since the routine may stop the machine.
pub(crate) fn outside<R>(run: impl FnOnce() -> R) -> R {
    let function = thread::with(|thread| thread.set_function(None));
    let value = run();
    thread::with(|thread| thread.set_function(function));
    value
}

/// A function that the lab has not was called.
pub(crate) fn missing_function(name: &str) {
    /// `KMODE_EXCEPTION_NOT_HANDLED` with `STATUS_DRIVER_ENTRYPOINT_NOT_FOUND`.
    const STOP: (u32, u64) = (0x1e, 0xc000_0263);
    static FUNCTION: Function = Function { name: "a missing import", irql: ANY };
    shell::<()>(&FUNCTION, |call| {
        Err(call.stop(STOP.0, [STOP.1, 0, 0, 0], format!("{name} was called, which the lab has not")))
    });
}

/// Defines exported functions and their table.
macro_rules! exports {
    ($table:ident in $module:literal {
        $($irql:ident fn $name:ident($call:pat_param $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block)*
    }) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe extern "win64" fn $name($($arg: $ty),*) $(-> $ret)? {
                static FUNCTION: crate::exports::Function =
                    crate::exports::Function { name: stringify!($name), irql: crate::exports::$irql };
                #[allow(clippy::unnecessary_wraps, clippy::too_many_arguments)]
                unsafe fn body(
                    $call: &crate::exports::Call<'_>, $($arg: $ty),*
                ) -> Result<crate::exports::returned!($($ret)?), crate::machine::Stopped> $body
                // SAFETY: the driver keeps the contract of the function, which is what `body` needs;
                // where the lab can check it, `body` does.
                crate::exports::shell(&FUNCTION, |call| unsafe { body(call, $($arg),*) })
            }
        )*
        pub(super) const $table: &[crate::exports::Export] = &[$(
            crate::exports::Export {
                module: $module,
                name: stringify!($name),
                irql: crate::exports::$irql,
                address: || $name as *const () as usize,
            }
        ),*];
    };
}
macro_rules! returned {
    () => {
        ()
    };
    ($ret:ty) => {
        $ret
    };
}
/// Defines exported functions that only compute and touch what the caller points to: see [`leaf`].
macro_rules! leaves {
    ($table:ident in $module:literal {
        $($irql:ident fn $name:ident($call:pat_param $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block)*
    }) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe extern "win64" fn $name($($arg: $ty),*) $(-> $ret)? {
                static FUNCTION: crate::exports::Function =
                    crate::exports::Function { name: stringify!($name), irql: crate::exports::$irql };
                #[allow(clippy::too_many_arguments)]
                unsafe fn body($call: &crate::exports::Call<'_>, $($arg: $ty),*) $(-> $ret)? $body
                // SAFETY: the driver keeps the contract of the function, which is what `body` needs.
                crate::exports::leaf(&FUNCTION, |call| unsafe { body(call, $($arg),*) })
            }
        )*
        pub(super) const $table: &[crate::exports::Export] = &[$(
            crate::exports::Export {
                module: $module,
                name: stringify!($name),
                irql: crate::exports::$irql,
                address: || $name as *const () as usize,
            }
        ),*];
    };
}

/// Defines a function with variable arguments: a shim that calls `$body` with the address of all of them,
/// which on x64 lie in a row once the first four are put into their home space.
macro_rules! variadic {
    ($(#[$meta:meta])* $name:ident => $body:ident) => {
        $(#[$meta])*
        #[allow(non_snake_case)]
        #[unsafe(naked)]
        unsafe extern "win64" fn $name() {
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "sub rsp, 40",
                ".cfi_adjust_cfa_offset 40",
                "lea rcx, [rsp + 48]",
                "call {body}",
                "add rsp, 40",
                ".cfi_adjust_cfa_offset -40",
                "ret",
                ".cfi_endproc",
                body = sym $body,
            )
        }
    };
}
pub(crate) use {exports, leaves, returned, variadic};

/// Functions that a module has under another name than the kernel, which does the work.
const FORWARDED: &[(&str, &str, &str)] = &[
    ("ndis.sys", "NdisInitAnsiString", "RtlInitAnsiString"),
    ("ndis.sys", "NdisInitUnicodeString", "RtlInitUnicodeString"),
    ("ndis.sys", "NdisUpcaseUnicodeString", "RtlUpcaseUnicodeString"),
    ("ndis.sys", "NdisAnsiStringToUnicodeString", "RtlAnsiStringToUnicodeString"),
    ("ndis.sys", "NdisUnicodeStringToAnsiString", "RtlUnicodeStringToAnsiString"),
    ("ntoskrnl.exe", "ObfDereferenceObjectWithTag", "ObfDereferenceObject"),
    ("ntoskrnl.exe", "ObfReferenceObjectWithTag", "ObfReferenceObject"),
    ("ntoskrnl.exe", "PsGetCurrentProcess", "IoGetCurrentProcess"),
];

/// Every table.
const TABLES: &[&[Export]] = &[
    callback::TABLE,
    crt::TABLE,
    debug::TABLE,
    debug::VARIADIC,
    devices::CANCELLING,
    devices::DEVICES,
    devices::NDIS,
    devices::WORK,
    ex::TABLE,
    ex_timer::ROUTINE,
    ex_timer::TABLE,
    generic_table::AVL_TABLES,
    generic_table::SPLAY_TABLES,
    hardware::DMA,
    hardware::INTERRUPTS,
    hardware::KERNEL,
    hardware::SPACES,
    io::NDIS,
    raise::TABLE,
    io::TABLE,
    kernel::TABLE,
    lists::INTERLOCKED,
    lists::LOOKASIDE,
    lists::LARGE,
    lists::NDIS,
    lists::NDIS_INTERLOCKED,
    lists::ROUTINES,
    lists::SLISTS,
    memory::KERNEL,
    memory::NDIS,
    misc::FACTS,
    misc::TABLE,
    misc::VARIABLES,
    ndis_buffers::TABLE,
    ndis_config::TABLE,
    ndis_data::TABLE,
    ndis_miniport::TABLE,
    ndis_misc::LOCKS,
    ndis_misc::PROCESSORS,
    ndis_misc::TABLE,
    ndis_system::TABLE,
    object::TABLE,
    object::TYPE_VARIABLES,
    pages::TABLE,
    processors::CHANGING,
    processors::TABLE,
    registry::KEYS,
    registry_query::RTL,
    rtl::TABLE,
    rtl_address::TABLE,
    rtl_bits::TABLE,
    rtl_string::ALLOCATING,
    rtl_string::TABLE,
    sync::MUTEXES,
    sync::CACHE_AWARE_RUNDOWN,
    sync::MAKING_RUNDOWN,
    sync::RUNDOWN,
    sync::SPINNING,
    sync::TIMERS,
    trace::REGISTRATION,
    trace::ROUTINES,
    trace::TABLE,
    trace::VARIADIC,
];

/// The address of a function that an image imports; `module` in lower case.
pub(crate) fn resolve(module: &str, name: &str) -> Option<usize> {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    static INDEX: LazyLock<HashMap<(&str, &str), usize>> = LazyLock::new(|| {
        let mut index: HashMap<_, _> =
            TABLES.iter().copied().flatten().map(|e| ((e.module, e.name), (e.address)())).collect();
        for (module, name, target) in FORWARDED {
            if let Some(address) = index.get(&("ntoskrnl.exe", *target)).copied() {
                index.insert((*module, *name), address);
            }
        }
        index
    });
    // On Windows, hal.dll's functions have moved into the kernel; images still name both.
    let module = if module == "hal.dll" { "ntoskrnl.exe" } else { module };
    INDEX.get(&(module, name)).copied()
}

/// Whether `address` is where an exported function begins.
pub(crate) fn is_export(address: usize) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static ADDRESSES: LazyLock<HashSet<usize>> =
        LazyLock::new(|| TABLES.iter().copied().flatten().map(|export| (export.address)()).collect());
    ADDRESSES.contains(&address)
}

/// The functions that images can import, as (module, name).
pub fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let exported = |export: &&Export| !export.module.is_empty();
    let forwarded = FORWARDED.iter().map(|(module, name, _)| (*module, *name));
    TABLES
        .iter()
        .copied()
        .flatten()
        .filter(exported)
        .map(|export| (export.module, export.name))
        .chain(forwarded)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    /// The pages' IRQL lines, in a file beside the tests.
    #[test]
    fn functions_allow_the_irql_that_their_pages_name() {
        let documented = include_str!("../../tests/data/irql.txt");
        let (mut compared, mut wrong) = (0, Vec::new());
        for line in documented.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [name, min, max] = fields[..] else { panic!("{line}") };
            let irql = super::Irql { min: min.parse().unwrap(), max: max.parse().unwrap() };
            for export in super::TABLES.iter().copied().flatten().filter(|export| export.name == name) {
                compared += 1;
                if export.irql != irql {
                    wrong.push(format!("{name}: {:?}, its page {irql:?}", export.irql));
                }
            }
        }
        assert!(wrong.is_empty(), "{} functions:\n{}", wrong.len(), wrong.join("\n"));
        assert!(compared > 80, "{compared} functions compared");
    }

    #[test]
    fn every_function_is_defined_once_and_found() {
        let mut seen = HashSet::new();
        for (module, name) in super::functions() {
            assert!(seen.insert((module, name)), "{module}!{name}");
            assert!(super::resolve(module, name).is_some_and(|address| address != 0));
        }
        assert!(seen.len() > 80);
        assert_eq!(super::resolve("ntoskrnl.exe", "NoSuchFunction"), None);
        assert_eq!(super::resolve("kernel32.dll", "ExAllocatePool2"), None);
    }
}
