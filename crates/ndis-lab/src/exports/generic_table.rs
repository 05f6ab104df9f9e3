//! Generic tables of the kernel's run time: RtlInsertElementGenericTableAvl and its kin, and those of splay trees.
//!
//! The routines of the driver are called as its own code; nothing of the lab is held meanwhile.

use std::cmp::Ordering;

use ndis_sys::{PVOID, ULONG};

use super::{Call, exports, outside};
use crate::machine::generic_table::{AVL, Layout, SPLAY};
use crate::rules;

/// `TABLE_SEARCH_RESULT`
const EMPTY: i32 = 0;
const FOUND: i32 = 1;
const LEFT: i32 = 2;
const RIGHT: i32 = 3;

/// Where something is in a table, or would be.
struct Place {
    at: usize,
    found: bool,
    /// The element that was compared last, and how.
    near: Option<usize>,
    before: bool,
}

/// One field of a table.
///
/// # Safety
/// `table` is an initialised table, and `offset` lies in it.
unsafe fn routine(table: PVOID, offset: usize) -> usize {
    // SAFETY: as the caller says.
    unsafe { table.byte_add(offset).cast::<usize>().read() }
}

/// Compares as the driver does.
///
/// # Safety
/// The table is initialised, and both are what its CompareRoutine takes.
unsafe fn compare(call: &Call<'_>, table: PVOID, layout: &Layout, first: PVOID, second: PVOID) -> Ordering {
    type Compare = unsafe extern "win64" fn(PVOID, PVOID, PVOID) -> i32;
    // SAFETY: the routine that the driver gave, with the arguments of its page.
    let result = unsafe {
        let compare: Compare = std::mem::transmute(routine(table, layout.compare));
        outside(|| compare(table, first, second))
    };
    match result {
        0 => Ordering::Less,
        1 => Ordering::Greater,
        2 => Ordering::Equal,
        other => {
            call.violate(rules::TABLE_USE, format!("CompareRoutine returns {other}"));
            Ordering::Equal
        }
    }
}

/// Looks for something; of several that are equal, the first.
///
/// # Safety
/// As [`compare`].
unsafe fn search(call: &Call<'_>, table: PVOID, layout: &Layout, buffer: PVOID) -> Place {
    let address = table as usize;
    let (mut low, mut high) = (0, call.table_len(address));
    let mut place = Place { at: 0, found: false, near: None, before: false };
    while low < high {
        let middle = low.midpoint(high);
        let Some(element) = call.table_at(address, middle) else { break };
        let data = (element + layout.header) as PVOID;
        // SAFETY: as the caller says; the element is one of the table.
        let order = unsafe { compare(call, table, layout, buffer, data) };
        (place.near, place.before) = (Some(element), order == Ordering::Less);
        match order {
            Ordering::Less => high = middle,
            Ordering::Greater => low = middle + 1,
            Ordering::Equal => {
                place.found = true;
                high = middle;
            }
        }
    }
    place.at = low;
    place
}

/// # Safety
/// As [`compare`]; the buffer has `size` bytes, `new` is NULL or a variable.
unsafe fn insert(
    call: &Call<'_>,
    table: PVOID,
    layout: &'static Layout,
    (buffer, size): (PVOID, ULONG),
    new: *mut u8,
    expected: Option<i32>,
) -> PVOID {
    type Allocate = unsafe extern "win64" fn(PVOID, ULONG) -> PVOID;
    let address = table as usize;
    if !call.enter_table(address, layout) {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller says, here and below.
    let place = unsafe { search(call, table, layout, buffer) };
    if expected.is_some_and(|expected| (expected == FOUND) != place.found) {
        call.violate(rules::TABLE_USE, "SearchResult is not that of the last look-up");
    }
    let element = if place.found {
        call.table_at(address, place.at)
    } else {
        let whole = size.saturating_add(u32::try_from(layout.header).unwrap_or(0));
        // SAFETY: the routine that the driver gave, with the arguments of its page.
        let element = unsafe {
            let allocate: Allocate = std::mem::transmute(routine(table, layout.allocate));
            outside(|| allocate(table, whole))
        };
        if !element.is_null() {
            // SAFETY: the driver allocated as many bytes as it was asked for.
            unsafe {
                std::ptr::write_bytes(element.cast::<u8>(), 0, layout.header);
                let data = element.byte_add(layout.header).cast::<u8>();
                std::ptr::copy_nonoverlapping(buffer.cast::<u8>(), data, size as usize);
            }
            call.table_insert(address, place.at, element as usize);
        }
        (!element.is_null()).then_some(element as usize)
    };
    call.leave_table(address);
    if !new.is_null() {
        // SAFETY: the caller's variable.
        unsafe { new.write(u8::from(!place.found && element.is_some())) };
    }
    element.map_or(std::ptr::null_mut(), |element| (element + layout.header) as PVOID)
}

/// # Safety
/// As [`compare`].
unsafe fn delete(call: &Call<'_>, table: PVOID, layout: &'static Layout, buffer: PVOID) -> u8 {
    type Free = unsafe extern "win64" fn(PVOID, PVOID);
    let address = table as usize;
    if !call.enter_table(address, layout) {
        return 0;
    }
    // SAFETY: as the caller says.
    let place = unsafe { search(call, table, layout, buffer) };
    let element = call.table_at(address, place.at).filter(|_| place.found);
    if let Some(element) = element {
        call.table_remove(address, place.at);
        // SAFETY: the routine that the driver gave, with what its AllocateRoutine gave.
        unsafe {
            let free: Free = std::mem::transmute(routine(table, layout.free));
            outside(|| free(table, element as PVOID));
        }
    }
    call.leave_table(address);
    u8::from(element.is_some())
}

/// # Safety
/// As [`compare`].
unsafe fn look_up(
    call: &Call<'_>,
    table: PVOID,
    layout: &'static Layout,
    buffer: PVOID,
) -> Option<(usize, Place)> {
    let address = table as usize;
    if !call.enter_table(address, layout) {
        return None;
    }
    // SAFETY: as the caller says.
    let place = unsafe { search(call, table, layout, buffer) };
    let element = if place.found { call.table_at(address, place.at).unwrap_or(0) } else { 0 };
    call.leave_table(address);
    Some((element, place))
}

fn data(layout: &Layout, element: Option<usize>) -> PVOID {
    element
        .filter(|element| *element != 0)
        .map_or(std::ptr::null_mut(), |element| (element + layout.header) as PVOID)
}

fn enumerate(call: &Call<'_>, table: PVOID, layout: &'static Layout, restart: bool) -> PVOID {
    let address = table as usize;
    if !call.enter_table(address, layout) {
        return std::ptr::null_mut();
    }
    let last = if restart { None } else { call.table_last(address) };
    let next = call.table_after(address, last);
    call.set_table_last(address, next.or(last));
    call.leave_table(address);
    data(layout, next)
}

/// # Safety
/// `key` is the caller's variable.
unsafe fn enumerate_by_key(call: &Call<'_>, table: PVOID, layout: &'static Layout, key: *mut usize) -> PVOID {
    let address = table as usize;
    if !call.enter_table(address, layout) {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller says.
    let last = unsafe { key.read() };
    let next = call.table_after(address, (last != 0).then_some(last));
    if let Some(next) = next {
        // SAFETY: as above.
        unsafe { key.write(next) };
    }
    call.leave_table(address);
    data(layout, next)
}

fn numbered(call: &Call<'_>, table: PVOID, layout: &'static Layout, number: ULONG) -> PVOID {
    if !call.enter_table(table as usize, layout) {
        return std::ptr::null_mut();
    }
    let element = call.table_numbered(table as usize, number as usize);
    call.leave_table(table as usize);
    data(layout, element)
}

fn count(call: &Call<'_>, table: PVOID, layout: &'static Layout) -> ULONG {
    if !call.enter_table(table as usize, layout) {
        return 0;
    }
    call.leave_table(table as usize);
    u32::try_from(call.table_len(table as usize)).unwrap_or(u32::MAX)
}

/// The functions of one kind of table.
macro_rules! tables {
    ($list:ident, $layout:ident, {
        $initialize:ident, $insert:ident, $insert_full:ident, $delete:ident, $look_up:ident, $look_up_full:ident,
        $enumerate:ident, $enumerate_by_key:ident, $get:ident, $number:ident, $empty:ident
    }) => {
        exports! { $list in "ntoskrnl.exe" {
            UP_TO_DISPATCH fn $initialize(
                call, table: PVOID, compare: PVOID, allocate: PVOID, free: PVOID, context: PVOID,
            ) {
                let routines = [compare as usize, allocate as usize, free as usize, context as usize];
                call.initialize_table(table as usize, $layout, routines);
                Ok(())
            }

            // SAFETY of all below: the caller's table, and what its CompareRoutine takes.
            UP_TO_DISPATCH fn $insert(call, table: PVOID, buffer: PVOID, size: ULONG, new: *mut u8) -> PVOID {
                // SAFETY: as above.
                Ok(unsafe { insert(call, table, $layout, (buffer, size), new, None) })
            }

            UP_TO_DISPATCH fn $insert_full(
                call, table: PVOID, buffer: PVOID, size: ULONG, new: *mut u8, _place: PVOID, result: i32,
            ) -> PVOID {
                // SAFETY: as above.
                Ok(unsafe { insert(call, table, $layout, (buffer, size), new, Some(result)) })
            }

            UP_TO_DISPATCH fn $delete(call, table: PVOID, buffer: PVOID) -> u8 {
                // SAFETY: as above.
                Ok(unsafe { delete(call, table, $layout, buffer) })
            }

            UP_TO_DISPATCH fn $look_up(call, table: PVOID, buffer: PVOID) -> PVOID {
                // SAFETY: as above.
                let found = unsafe { look_up(call, table, $layout, buffer) };
                Ok(data($layout, found.map(|(element, _)| element)))
            }

            UP_TO_DISPATCH fn $look_up_full(
                call, table: PVOID, buffer: PVOID, place: *mut usize, result: *mut i32,
            ) -> PVOID {
                // SAFETY: as above.
                let Some((element, found)) = (unsafe { look_up(call, table, $layout, buffer) }) else {
                    return Ok(std::ptr::null_mut());
                };
                let (near, how) = match found {
                    Place { found: true, .. } => (element, FOUND),
                    Place { near: None, .. } => (0, EMPTY),
                    Place { near: Some(near), before: true, .. } => (near, LEFT),
                    Place { near: Some(near), .. } => (near, RIGHT),
                };
                // SAFETY: the caller's variables.
                unsafe {
                    place.write(near);
                    result.write(how);
                }
                Ok(data($layout, Some(element)))
            }

            UP_TO_DISPATCH fn $enumerate(call, table: PVOID, restart: u8) -> PVOID {
                Ok(enumerate(call, table, $layout, restart != 0))
            }

            UP_TO_DISPATCH fn $enumerate_by_key(call, table: PVOID, key: *mut usize) -> PVOID {
                // SAFETY: the caller's variable.
                Ok(unsafe { enumerate_by_key(call, table, $layout, key) })
            }

            ANY fn $get(call, table: PVOID, number: ULONG) -> PVOID {
                Ok(numbered(call, table, $layout, number))
            }

            UP_TO_DISPATCH fn $number(call, table: PVOID) -> ULONG {
                Ok(count(call, table, $layout))
            }

            UP_TO_DISPATCH fn $empty(call, table: PVOID) -> u8 {
                Ok(u8::from(count(call, table, $layout) == 0))
            }
        } }
    };
}

tables! { AVL_TABLES, AVL, {
    RtlInitializeGenericTableAvl, RtlInsertElementGenericTableAvl, RtlInsertElementGenericTableFullAvl,
    RtlDeleteElementGenericTableAvl, RtlLookupElementGenericTableAvl, RtlLookupElementGenericTableFullAvl,
    RtlEnumerateGenericTableAvl, RtlEnumerateGenericTableWithoutSplayingAvl, RtlGetElementGenericTableAvl,
    RtlNumberGenericTableElementsAvl, RtlIsGenericTableEmptyAvl
} }

tables! { SPLAY_TABLES, SPLAY, {
    RtlInitializeGenericTable, RtlInsertElementGenericTable, RtlInsertElementGenericTableFull,
    RtlDeleteElementGenericTable, RtlLookupElementGenericTable, RtlLookupElementGenericTableFull,
    RtlEnumerateGenericTable, RtlEnumerateGenericTableWithoutSplaying, RtlGetElementGenericTable,
    RtlNumberGenericTableElements, RtlIsGenericTableEmpty
} }
