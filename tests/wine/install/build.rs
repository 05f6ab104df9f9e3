//! Link settings: a console program without a C run-time library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for arg in ["/SUBSYSTEM:CONSOLE", "/ENTRY:start", "/NODEFAULTLIB", "/MANIFEST:NO"] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
