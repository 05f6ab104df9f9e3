//! Generic tables of the kernel's run time: RTL_AVL_TABLE and RTL_GENERIC_TABLE.
//!
//! The table structure and the elements are the driver's memory; the order of the elements is kept here, as a sorted
//! list. Nothing of it is held while a routine of the driver runs.

use std::ops::Range;

use parking_lot::Mutex;

use super::{AddressMap, Machine, lock};
use crate::rules;

/// Where the fields of a table lie, and its elements' data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    /// `NumberGenericTableElements`
    pub(crate) count: usize,
    pub(crate) compare: usize,
    pub(crate) allocate: usize,
    pub(crate) free: usize,
    pub(crate) context: usize,
    /// What lies in an element before the driver's data.
    pub(crate) header: usize,
    /// Elements are numbered as they were inserted, and not as they are sorted.
    pub(crate) by_insertion: bool,
}

pub(crate) const AVL: &Layout = &Layout {
    name: "RTL_AVL_TABLE",
    size: 104,
    count: 44,
    compare: 72,
    allocate: 80,
    free: 88,
    context: 96,
    header: 32,
    by_insertion: false,
};

pub(crate) const SPLAY: &Layout = &Layout {
    name: "RTL_GENERIC_TABLE",
    size: 72,
    count: 36,
    compare: 40,
    allocate: 48,
    free: 56,
    context: 64,
    header: 40,
    by_insertion: true,
};

struct Table {
    layout: &'static Layout,
    /// Elements by their addresses, as they are sorted.
    sorted: Vec<usize>,
    /// As they were inserted.
    inserted: Vec<usize>,
    /// The element that an enumeration gave last.
    last: Option<usize>,
    /// The thread that is within a function of the table.
    user: usize,
}

/// All tables.
#[derive(Default)]
pub(crate) struct GenericTables(Mutex<AddressMap<Table>>);

impl GenericTables {
    /// A table that lies in these bytes and holds elements; forgets all that do.
    pub(crate) fn remove_within(&self, range: &Range<usize>) -> Option<(usize, &'static str, usize)> {
        let mut tables = self.0.lock();
        let within: Vec<_> = tables.keys().copied().filter(|address| range.contains(address)).collect();
        let gone = within.into_iter().filter_map(|address| Some((address, tables.remove(&address)?)));
        let held: Vec<_> = gone.map(|(at, table)| (at, table.layout.name, table.sorted.len())).collect();
        held.into_iter().find(|(_, _, count)| *count > 0)
    }
}

impl Machine {
    /// Makes a table of memory of the driver.
    pub(crate) fn initialize_table(&self, address: usize, layout: &'static Layout, routines: [usize; 4]) {
        let [compare, allocate, free, context] = routines;
        if compare == 0 || allocate == 0 || free == 0 {
            let text =
                format!("{}: CompareRoutine, AllocateRoutine and FreeRoutine are required", layout.name);
            self.violate(rules::PARAMETER, text);
        }
        // SAFETY: the driver gives a table that nobody uses yet; the offsets lie within.
        unsafe {
            std::ptr::write_bytes(address as *mut u8, 0, layout.size);
            for (at, value) in [
                (layout.compare, compare),
                (layout.allocate, allocate),
                (layout.free, free),
                (layout.context, context),
            ] {
                ((address + at) as *mut usize).write(value);
            }
        }
        let table = Table { layout, sorted: Vec::new(), inserted: Vec::new(), last: None, user: 0 };
        let old = self.tables.0.lock().insert(address, table);
        let held = old.map_or(0, |old| old.sorted.len());
        if held > 0 {
            let text = format!("{} {address:#x} is initialised while it holds {held} elements", layout.name);
            self.violate(rules::TABLE_USE, text);
        }
    }

    /// Begins a function of a table: whether there is one, of this kind, that no other thread uses.
    pub(crate) fn enter_table(&self, address: usize, layout: &'static Layout) -> bool {
        let me = lock::mark();
        let name = layout.name;
        let wrong = match self.tables.0.lock().get_mut(&address) {
            None => format!("{name} {address:#x} is not initialised"),
            Some(table) if table.layout != layout => format!("{address:#x} is no {name}"),
            Some(table) if table.user != 0 && table.user != me => {
                format!("{name} {address:#x} is used by two threads at once: the driver has to lock it")
            }
            Some(table) if table.user == me => {
                format!("{name} {address:#x} is used from within one of its own routines")
            }
            Some(table) => {
                table.user = me;
                return true;
            }
        };
        self.violate(rules::TABLE_USE, wrong);
        false
    }

    /// Ends a function of a table.
    pub(crate) fn leave_table(&self, address: usize) {
        self.with_table(address, |table| table.user = 0);
    }

    fn with_table<R>(&self, address: usize, run: impl FnOnce(&mut Table) -> R) -> Option<R> {
        self.tables.0.lock().get_mut(&address).map(run)
    }

    /// The number of elements.
    pub(crate) fn table_len(&self, address: usize) -> usize {
        self.with_table(address, |table| table.sorted.len()).unwrap_or(0)
    }

    /// The element at a place of the order in which they are sorted.
    pub(crate) fn table_at(&self, address: usize, at: usize) -> Option<usize> {
        let element = self.with_table(address, |table| table.sorted.get(at).copied()).flatten()?;
        if let Some((block, false)) = self.pool.find(element) {
            let text = format!("an element was freed, and not deleted from its table: {block}");
            self.violate(rules::TABLE_USE, text);
        }
        Some(element)
    }

    /// The element with a number.
    pub(crate) fn table_numbered(&self, address: usize, number: usize) -> Option<usize> {
        self.with_table(address, |table| {
            let order = if table.layout.by_insertion { &table.inserted } else { &table.sorted };
            order.get(number).copied()
        })
        .flatten()
    }

    /// An element comes in at a place.
    pub(crate) fn table_insert(&self, address: usize, at: usize, element: usize) {
        self.with_table(address, |table| {
            table.sorted.insert(at.min(table.sorted.len()), element);
            table.inserted.push(element);
        });
        self.tell_count(address);
    }

    /// The element at a place goes.
    pub(crate) fn table_remove(&self, address: usize, at: usize) {
        self.with_table(address, |table| {
            if at < table.sorted.len() {
                let element = table.sorted.remove(at);
                table.inserted.retain(|other| *other != element);
                if table.last == Some(element) {
                    // An enumeration goes on behind the element before.
                    table.last = at.checked_sub(1).and_then(|before| table.sorted.get(before).copied());
                }
            }
        });
        self.tell_count(address);
    }

    /// The element behind another one, in the order in which they are sorted; the first one behind none.
    pub(crate) fn table_after(&self, address: usize, element: Option<usize>) -> Option<usize> {
        let at = match element {
            None => 0,
            Some(element) => {
                let found =
                    self.with_table(address, |table| table.sorted.iter().position(|other| *other == element));
                let Some(at) = found.flatten() else {
                    self.violate(
                        rules::TABLE_USE,
                        format!("RestartKey {element:#x} is no element of the table"),
                    );
                    return None;
                };
                at + 1
            }
        };
        self.table_at(address, at)
    }

    /// The element that an enumeration gave last.
    pub(crate) fn table_last(&self, address: usize) -> Option<usize> {
        self.with_table(address, |table| table.last).flatten()
    }

    /// An enumeration gives this element; none if there was none before.
    pub(crate) fn set_table_last(&self, address: usize, last: Option<usize>) {
        self.with_table(address, |table| table.last = last);
    }

    /// Writes the number of elements where drivers and debuggers look for it.
    fn tell_count(&self, address: usize) {
        let Some((layout, count)) = self.with_table(address, |table| (table.layout, table.sorted.len()))
        else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // SAFETY: a table that was initialised and is in use: the field lies in it.
        unsafe { ((address + layout.count) as *mut u32).write(count) };
    }
}
