//! Stands in for imported functions that the lab does not have: calling one stops the machine, by name.

use std::arch::naked_asm;

use region::Protection;

use crate::exports;
use crate::loader::MissingImport;

/// Bytes of one stub.
const STUB: usize = 32;

struct Name(String);

/// Stubs of one image, executable and not writable.
pub(crate) struct Stubs {
    code: region::Allocation,
    names: Box<[Name]>,
    missing: Vec<MissingImport>,
}

// SAFETY: the allocation belongs to this value alone and does not change; region's type names it by
// a pointer.
unsafe impl Send for Stubs {}
// SAFETY: as above.
unsafe impl Sync for Stubs {}

impl Stubs {
    /// Makes a stub for each of these.
    pub(crate) fn new(missing: Vec<MissingImport>) -> Result<Self, region::Error> {
        let names: Box<[Name]> = missing.iter().map(|m| Name(format!("{}!{}", m.module, m.name))).collect();
        let mut code = region::alloc(names.len().max(1) * STUB, Protection::READ_WRITE)?;
        let start = code.as_mut_ptr::<u8>();
        for (index, name) in names.iter().enumerate() {
            // mov r11, name; mov rax, called; jmp rax
            let mut stub = vec![0x49, 0xbb];
            stub.extend_from_slice(&(std::ptr::from_ref(name) as u64).to_le_bytes());
            stub.extend_from_slice(&[0x48, 0xb8]);
            stub.extend_from_slice(&(called as *const () as u64).to_le_bytes());
            stub.extend_from_slice(&[0xff, 0xe0]);
            // SAFETY: within the allocation, which nobody else knows yet; a stub is shorter than its
            // place.
            unsafe { std::ptr::copy_nonoverlapping(stub.as_ptr(), start.add(index * STUB), stub.len()) };
        }
        // SAFETY: the whole allocation, into which no reference exists.
        unsafe { region::protect(start, code.len(), Protection::READ_EXECUTE)? };
        Ok(Self { code, names, missing })
    }

    /// The address of a function's stub.
    pub(crate) fn find(&self, module: &str, name: &str) -> Option<usize> {
        let index = self.missing.iter().position(|m| m.module == module && m.name == name)?;
        debug_assert!(index < self.names.len());
        Some(self.code.as_ptr::<u8>() as usize + index * STUB)
    }

    pub(crate) fn missing(&self) -> &[MissingImport] {
        &self.missing
    }
}

/// What every stub jumps to, with its name in R11.
#[unsafe(naked)]
unsafe extern "win64" fn called() {
    naked_asm!("mov rcx, r11", "jmp {stop}", stop = sym stop)
}

unsafe extern "win64" fn stop(name: *const Name) {
    // SAFETY: the stub passes the name that was made with it, and that lives as long.
    let name = unsafe { &(*name).0 };
    exports::missing_function(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::MissingKind;
    use crate::machine::thread::handler;
    use crate::machine::{Entry, Machine, Options, PASSIVE};

    #[test]
    fn a_call_of_a_missing_function_stops_the_machine_by_name() {
        let missing = ["One", "Two"].map(|name| MissingImport {
            module: "x.sys".into(),
            name: name.into(),
            kind: MissingKind::Module,
        });
        let stubs = Stubs::new(missing.into()).unwrap();
        assert_eq!(stubs.find("x.sys", "Three"), None);
        let options = Options::for_tests();
        let machine = Machine::new(options);
        let entry = Entry { handler: handler::DRIVER_ENTRY, driver: 1, adapter: None, irql: PASSIVE };
        let target = stubs.find("x.sys", "Two").unwrap();
        // SAFETY: a stub is a function that takes anything and never returns.
        unsafe { machine.enter(entry, target, [0; 8]) }.unwrap_err();
        let stop = machine.bugcheck().unwrap();
        assert_eq!((stop.code, stop.parameters[0]), (0x1e, 0xc000_0263));
        assert!(stop.detail.contains("x.sys!Two"), "{stop}");
    }
}
