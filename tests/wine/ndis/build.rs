//! Link settings: a DLL without a C run-time library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Not of subsystem "native": Wine calls the entry point of such a DLL as a driver's, not as a DLL's.
    for arg in ["/SUBSYSTEM:CONSOLE", "/ENTRY:DllMain", "/NODEFAULTLIB", "/MANIFEST:NO"] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
