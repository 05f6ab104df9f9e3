//! Callback objects of the kernel: named objects by which drivers tell each other, and the kernel them, that something
//! happens.
//!
//! The kernel's own (`\Callback\PowerState` and its kin) are there; whoever notifies of them is the test, by a driver.

use std::collections::BTreeMap;

use ndis_sys::{NTSTATUS, PVOID};
use parking_lot::Mutex;

use super::object::ObjectAttributes;
use super::{exports, outside};
use crate::machine::ob::Kind;
use crate::machine::{HandleKind, Machine, Origin};
use crate::rules;

const UNSUCCESSFUL: NTSTATUS = 0xc000_0001_u32.cast_signed();
const NAME_NOT_FOUND: NTSTATUS = 0xc000_0034_u32.cast_signed();
const INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
/// Callback objects of the kernel, each of which takes many routines.
const SYSTEM: [&str; 3] = [r"\callback\setsystemtime", r"\callback\powerstate", r"\callback\processoradd"];

/// A routine that a driver registered.
#[derive(Clone, Copy)]
struct Registration {
    object: usize,
    routine: usize,
    context: usize,
    /// Threads that are in the routine.
    running: usize,
}

#[derive(Default)]
struct Tables {
    /// Objects by their names in lower case, and whether they take more than one routine.
    objects: BTreeMap<String, (usize, bool)>,
    registrations: BTreeMap<usize, Registration>,
}

/// All callback objects.
#[derive(Default)]
pub(crate) struct CallbackObjects(Mutex<Tables>);

impl Machine {
    /// Opens a callback object, or makes it.
    fn callback_object(&self, name: &str, make: bool, many: bool) -> Result<usize, NTSTATUS> {
        let name = name.to_lowercase();
        let system = SYSTEM.contains(&name.as_str());
        let mut tables = self.callback_objects.0.lock();
        if let Some((object, _)) = tables.objects.get(&name) {
            return Ok(*object);
        }
        if !make && !system {
            return Err(NAME_NOT_FOUND);
        }
        let object = self.ob.create(Kind::Callback, None).ok_or(INSUFFICIENT_RESOURCES)?;
        tables.objects.insert(name, (object, many || system));
        Ok(object)
    }

    /// Registers a routine with an object; gives its handle, unless the object takes no more.
    fn register_callback(&self, object: usize, routine: usize, context: usize) -> Option<usize> {
        let handle = self.handle(HandleKind::Callback);
        let mut tables = self.callback_objects.0.lock();
        let many = tables.objects.values().find(|(other, _)| *other == object).is_some_and(|(_, many)| *many);
        if !many && tables.registrations.values().any(|other| other.object == object) {
            return None;
        }
        tables.registrations.insert(handle, Registration { object, routine, context, running: 0 });
        drop(tables);
        self.callbacks.lock().insert(handle, ("callback routine", Origin::here()));
        Some(handle)
    }

    /// The next routine of an object behind this handle; its thread is counted.
    fn next_callback(&self, object: usize, behind: usize) -> Option<(usize, Registration)> {
        let mut tables = self.callback_objects.0.lock();
        let mut later = tables.registrations.range_mut(behind + 1..);
        let (handle, found) = later.find(|(_, registration)| registration.object == object)?;
        found.running += 1;
        Some((*handle, *found))
    }

    /// A routine has returned.
    fn end_callback(&self, handle: usize) {
        if let Some(registration) = self.callback_objects.0.lock().registrations.get_mut(&handle) {
            registration.running -= 1;
        }
        self.notify();
    }
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_APC fn ExCreateCallback(
        call, object: *mut PVOID, attributes: *const ObjectAttributes, make: u8, many: u8,
    ) -> NTSTATUS {
        // SAFETY: the caller's structure, and the name in it.
        let name = unsafe {
            let attributes = &*attributes;
            if attributes.length as usize != size_of::<ObjectAttributes>() {
                call.violate(rules::PARAMETER, format!("Length {} of OBJECT_ATTRIBUTES", attributes.length));
                return Ok(UNSUCCESSFUL);
            }
            // An object without a name is not allowed.
            if attributes.name.is_null() {
                return Ok(UNSUCCESSFUL);
            }
            super::rtl_string::text(call, attributes.name)
        };
        if name.is_empty() {
            return Ok(UNSUCCESSFUL);
        }
        if call.fault(0, 0) {
            return Ok(INSUFFICIENT_RESOURCES);
        }
        let found = match call.callback_object(&name, make != 0, many != 0) {
            Ok(found) => found,
            Err(status) => return Ok(status),
        };
        call.ob.reference(found);
        // SAFETY: the caller's variable.
        unsafe { object.write(found as PVOID) };
        Ok(0)
    }

    UP_TO_APC fn ExRegisterCallback(call, object: PVOID, routine: PVOID, context: PVOID) -> PVOID {
        if call.ob.kind(object as usize) != Some(Kind::Callback) || routine.is_null() {
            call.violate(rules::PARAMETER, format!("{object:p} is no callback object, or the routine is NULL"));
            return Ok(std::ptr::null_mut());
        }
        if call.fault(0, 0) {
            return Ok(std::ptr::null_mut());
        }
        let handle = call.register_callback(object as usize, routine as usize, context as usize);
        Ok(handle.map_or(std::ptr::null_mut(), |handle| handle as PVOID))
    }

    UP_TO_APC fn ExUnregisterCallback(call, handle: PVOID) {
        let number = handle as usize;
        if !call.callback_objects.0.lock().registrations.contains_key(&number) {
            call.violate(rules::CALLBACK_USE, format!("{handle:p} is no registered callback"));
            return Ok(());
        }
        // Its routine may run on another processor: it is gone once that has returned.
        let done = || call.callback_objects.0.lock().registrations.get(&number).is_none_or(|r| r.running == 0);
        if !call.wait_until(call.options.timeout, done) {
            call.violate(rules::CALLBACK_USE, "a callback routine does not return, or unregisters itself");
        }
        call.callback_objects.0.lock().registrations.remove(&number);
        call.callbacks.lock().remove(&number);
        Ok(())
    }

    UP_TO_DISPATCH fn ExNotifyCallback(call, object: PVOID, first: PVOID, second: PVOID) {
        type Routine = unsafe extern "win64" fn(PVOID, PVOID, PVOID);
        if call.ob.kind(object as usize) != Some(Kind::Callback) {
            call.violate(rules::PARAMETER, format!("{object:p} is no callback object"));
            return Ok(());
        }
        let mut handle = 0;
        while let Some((next, registration)) = call.next_callback(object as usize, handle) {
            handle = next;
            // SAFETY: the driver's routine with its three arguments; this frame owns nothing.
            unsafe {
                let routine: Routine = std::mem::transmute(registration.routine);
                outside(|| routine(registration.context as PVOID, first, second));
            }
            call.end_callback(handle);
        }
        Ok(())
    }
} }
