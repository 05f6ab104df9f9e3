//! Generic tables: RTL_AVL_TABLE and RTL_GENERIC_TABLE.

use super::*;

type Compare = unsafe extern "win64" fn(PVOID, *const u64, *const u64) -> i32;
type Allocate = unsafe extern "win64" fn(PVOID, u32) -> PVOID;
type Free = unsafe extern "win64" fn(PVOID, PVOID);

/// The functions of both kinds, which take the same.
macro_rules! kinds {
    ($($field:ident: $avl:ident, $splay:ident, ($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        unsafe extern "win64" {
            $(fn $avl($($argument: $type),*) $(-> $result)?; fn $splay($($argument: $type),*) $(-> $result)?;)*
        }
        #[derive(Clone, Copy)]
        struct Kind {
            $($field: unsafe extern "win64" fn($($type),*) $(-> $result)?,)*
            header: u32,
        }
        const AVL: Kind = Kind { $($field: $avl,)* header: 32 };
        const SPLAY: Kind = Kind { $($field: $splay,)* header: 40 };
    };
}

kinds! {
    initialize: RtlInitializeGenericTableAvl, RtlInitializeGenericTable,
        (table: PVOID, compare: Compare, allocate: Allocate, free: Free, context: PVOID);
    insert: RtlInsertElementGenericTableAvl, RtlInsertElementGenericTable,
        (table: PVOID, buffer: *const u64, size: u32, new: *mut u8) -> *mut u64;
    insert_full: RtlInsertElementGenericTableFullAvl, RtlInsertElementGenericTableFull,
        (table: PVOID, buffer: *const u64, size: u32, new: *mut u8, place: PVOID, result: i32) -> *mut u64;
    delete: RtlDeleteElementGenericTableAvl, RtlDeleteElementGenericTable, (table: PVOID, buffer: *const u64) -> u8;
    look_up: RtlLookupElementGenericTableAvl, RtlLookupElementGenericTable,
        (table: PVOID, buffer: *const u64) -> *mut u64;
    look_up_full: RtlLookupElementGenericTableFullAvl, RtlLookupElementGenericTableFull,
        (table: PVOID, buffer: *const u64, place: *mut PVOID, result: *mut i32) -> *mut u64;
    enumerate: RtlEnumerateGenericTableAvl, RtlEnumerateGenericTable, (table: PVOID, restart: u8) -> *mut u64;
    by_key: RtlEnumerateGenericTableWithoutSplayingAvl, RtlEnumerateGenericTableWithoutSplaying,
        (table: PVOID, key: *mut PVOID) -> *mut u64;
    get: RtlGetElementGenericTableAvl, RtlGetElementGenericTable, (table: PVOID, number: u32) -> *mut u64;
    number: RtlNumberGenericTableElementsAvl, RtlNumberGenericTableElements, (table: PVOID) -> u32;
    empty: RtlIsGenericTableEmptyAvl, RtlIsGenericTableEmpty, (table: PVOID) -> u8;
}

unsafe extern "win64" fn compare(_table: PVOID, a: *const u64, b: *const u64) -> i32 {
    match (*a).cmp(&*b) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => 2,
    }
}

unsafe extern "win64" fn allocate(_table: PVOID, size: u32) -> PVOID {
    ExAllocatePool2(POOL_FLAG_NON_PAGED, size as usize, TAG)
}

unsafe extern "win64" fn release(_table: PVOID, element: PVOID) {
    free(element);
}

unsafe fn make(kind: Kind) -> PVOID {
    let table = block(104);
    (kind.initialize)(table, compare, allocate, release, null_mut());
    table
}

unsafe fn add(kind: Kind, table: PVOID, value: u64) -> (*mut u64, bool) {
    let mut new = 7;
    let element = (kind.insert)(table, &value, 8, &mut new);
    (element, new == 1)
}

/// Everything in the order of an enumeration.
unsafe fn all(kind: Kind, table: PVOID) -> Vec<u64> {
    let mut key = null_mut();
    std::iter::from_fn(|| (kind.by_key)(table, &mut key).as_ref().copied()).collect()
}

unsafe fn take_down(kind: Kind, table: PVOID) {
    loop {
        let first = (kind.enumerate)(table, 1);
        if first.is_null() {
            break;
        }
        let value = *first;
        assert_eq!((kind.delete)(table, &value), 1);
    }
    assert_eq!(((kind.number)(table), (kind.empty)(table)), (0, 1));
    free(table);
}

unsafe fn use_it(kind: Kind) {
    const VALUES: [u64; 9] = [5, 1, 9, 3, 7, 2, 8, 4, 6];
    let table = make(kind);
    assert_eq!((kind.empty)(table), 1);
    for value in VALUES {
        let (element, new) = add(kind, table, value);
        assert!(new && *element == value);
        // Once only: the second time gives the first element.
        assert_eq!(add(kind, table, value), (element, false));
    }
    assert_eq!(((kind.number)(table), (kind.empty)(table)), (9, 0));
    assert_eq!(all(kind, table), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(*(kind.look_up)(table, &3), 3);
    assert!((kind.look_up)(table, &30).is_null());
    let numbered = |number| (kind.get)(table, number).as_ref().copied();
    // Splay trees number their elements as they came, balanced ones as they are sorted.
    assert_eq!(numbered(2), Some(if kind.header == 32 { 3 } else { 9 }));
    assert_eq!(numbered(9), None);
    // TableFoundNode is 1; what is not there is left or right of what was compared last.
    let (mut place, mut result) = (null_mut(), 7);
    assert!(!(kind.look_up_full)(table, &4, &mut place, &mut result).is_null());
    assert!(result == 1 && !place.is_null());
    assert!((kind.look_up_full)(table, &10, &mut place, &mut result).is_null());
    assert_eq!(result, 3);
    let mut new = 0;
    let ten = (kind.insert_full)(table, &10, 8, &mut new, place, result);
    assert!(*ten == 10 && new == 1);
    // Deleted while it is enumerated.
    let mut left = Vec::new();
    let mut element = (kind.enumerate)(table, 1);
    while let Some(value) = element.as_ref().copied() {
        if value % 2 == 0 {
            assert_eq!((kind.delete)(table, &value), 1);
        } else {
            left.push(value);
        }
        element = (kind.enumerate)(table, 0);
    }
    assert_eq!((left, all(kind, table)), (vec![1, 3, 5, 7, 9], vec![1, 3, 5, 7, 9]));
    assert_eq!((kind.delete)(table, &2), 0);
    take_down(kind, table);
}

#[test]
fn generic_tables_sort_find_and_number_their_elements() {
    unsafe fn avl(_: NDIS_HANDLE) {
        use_it(AVL);
    }
    unsafe fn splay(_: NDIS_HANDLE) {
        use_it(SPLAY);
    }
    clean(avl);
    clean(splay);
}

#[test]
fn an_element_that_has_no_memory_is_not_there() {
    unsafe extern "win64" fn nothing(_table: PVOID, size: u32) -> PVOID {
        // What the driver's data takes, and the links.
        assert!(size == 8 + 32 || size == 8 + 40);
        null_mut()
    }
    unsafe fn both(_: NDIS_HANDLE) {
        for kind in [AVL, SPLAY] {
            let table = block(104);
            (kind.initialize)(table, compare, nothing, release, null_mut());
            assert_eq!(add(kind, table, 1), (null_mut(), false));
            assert_eq!((kind.number)(table), 0);
            take_down(kind, table);
        }
    }
    clean(both);
}

#[test]
fn tables_are_made_locked_and_emptied_by_the_driver() {
    unsafe fn not_made(_: NDIS_HANDLE) {
        let table = block(104);
        assert!((AVL.look_up)(table, &1).is_null());
        free(table);
    }
    unsafe fn mixed(_: NDIS_HANDLE) {
        let table = make(AVL);
        assert!((SPLAY.look_up)(table, &1).is_null());
        free(table);
    }
    unsafe fn made_again(_: NDIS_HANDLE) {
        let table = make(AVL);
        let (element, _) = add(AVL, table, 1);
        (AVL.initialize)(table, compare, allocate, release, null_mut());
        free(element.byte_sub(32).cast());
        free(table);
    }
    unsafe fn not_empty(_: NDIS_HANDLE) {
        let table = make(SPLAY);
        let (element, _) = add(SPLAY, table, 1);
        free(table);
        free(element.byte_sub(40).cast());
    }
    unsafe fn freed_under_it(_: NDIS_HANDLE) {
        let table = make(AVL);
        let (element, _) = add(AVL, table, 1);
        free(element.byte_sub(32).cast());
        let mut key = null_mut();
        (AVL.by_key)(table, &mut key);
        (AVL.initialize)(table, compare, allocate, release, null_mut());
        free(table);
    }
    unsafe fn from_within(_: NDIS_HANDLE) {
        unsafe extern "win64" fn look_again(table: PVOID, a: *const u64, _b: *const u64) -> i32 {
            i32::from((AVL.look_up)(table, a).is_null()) + 1
        }
        let table = block(104);
        (AVL.initialize)(table, look_again, allocate, release, null_mut());
        add(AVL, table, 1);
        add(AVL, table, 1);
        take_down(AVL, table);
    }
    unsafe fn no_order(_: NDIS_HANDLE) {
        unsafe extern "win64" fn seven(_table: PVOID, _a: *const u64, _b: *const u64) -> i32 {
            7
        }
        let table = block(104);
        (AVL.initialize)(table, seven, allocate, release, null_mut());
        add(AVL, table, 1);
        add(AVL, table, 2);
        take_down(AVL, table);
    }
    for script in [not_made, mixed, made_again, not_empty, freed_under_it, from_within, no_order] {
        breaks(rules::TABLE_USE, script);
    }
}
