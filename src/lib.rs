//! `ipsecnic.sys`: an NDIS 6.30 Ethernet miniport with IPsec Task Offload Version 2.
//!
//! | module | what it is |
//! |---|---|
//! | [`driver`] | what there is once per image |
//! | [`adapter`] | one adapter and its life |
//! | [`oid`] | the table of regular OIDs |
//! | [`sa`] | the OIDs of security associations |
//! | [`datapath`] | send and receive |
//! | [`nic`] | the synthetic NIC, which knows nothing of NDIS |
//! | [`dump`] | the private OIDs, for tools that read them |
//! | [`kernel`] | memory, locks; allocator and panic handler of the image |
//!
//! No unsafe code but in `DriverEntry` and `kernel`. ARCHITECTURE.md is the map of the whole house.
#![no_std]
#![deny(unsafe_code)]
#![allow(
    clippy::doc_markdown,
    reason = "IPsec, IPsecOV2, MiniportPause and the like are words of the field, not Rust items"
)]

pub mod adapter;
pub mod datapath;
pub mod driver;
pub mod dump;
#[allow(unsafe_code, reason = "the glue to the kernel")]
pub mod kernel;
pub mod nic;
pub mod oid;
pub mod sa;

#[cfg(test)]
extern crate std;

pub use driver::Ipsecnic;

ndis_sys::ndis_fn! {
    /// The image's entry point (`nc-wdm-driver_initialize`). `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// Called by the kernel, once, with the image's driver object and registry path.
    #[allow(non_snake_case, reason = "the name that everybody gives it")]
    #[allow(unsafe_code, reason = "the kernel finds the driver by this symbol and calls it with raw pointers")]
    #[cfg_attr(all(windows, not(feature = "hosted")), unsafe(no_mangle))]
    pub unsafe extern fn DriverEntry(
        driver_object: *mut ndis_sys::DRIVER_OBJECT,
        registry_path: *mut ndis_sys::UNICODE_STRING,
    ) -> ndis_sys::NTSTATUS {
        // SAFETY: the arguments are the kernel's, and this is the one call.
        unsafe { ndis::driver_entry::<Ipsecnic>(driver_object.cast(), registry_path) }
    }
}
