//! Link settings of the image `ipsecnic.sys`. They concern only the cdylib: tests and the rlib link as usual.
//!
//! With feature `wdk` on a Windows host, `wdk-build` gives them, as in every driver of windows-drivers-rs. Everywhere
//! else this file gives the same ones for the freestanding glue of `src/kernel/`, whose imports are raw-dylib, so that
//! neither a WDK nor an import library is needed to link.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    match (target("OS").as_str(), target("ENV").as_str()) {
        ("windows", "msvc") => image(),
        // The native driver's NDIS functions are in the lab; a Mach-O dylib has to be told so, ELF has not.
        ("macos", _) => println!("cargo:rustc-cdylib-link-arg=-Wl,-undefined,dynamic_lookup"),
        _ => {}
    }
}

#[cfg(all(feature = "wdk", windows))]
fn image() {
    if let Err(error) = wdk_build::configure_wdk_binary_build() {
        println!("cargo:error=wdk-build: {error}");
        std::process::exit(1);
    }
}

/// What `wdk-build` asks of a WDM driver's link, for `link.exe` and `lld-link` alike.
#[cfg(not(all(feature = "wdk", windows)))]
fn image() {
    const ARGS: &[&str] = &[
        "/DRIVER",
        "/SUBSYSTEM:NATIVE",
        "/ENTRY:DriverEntry",
        // No C run-time library: what the compiler calls (memcpy, __chkstk, …) is imported from ntoskrnl.exe.
        "/NODEFAULTLIB",
        // Sets the header's checksum, without which Windows does not load a boot driver.
        "/RELEASE",
        "/DYNAMICBASE",
        "/HIGHENTROPYVA",
        "/NXCOMPAT",
        // Windows loads the image only with a valid signature, test mode included.
        "/INTEGRITYCHECK",
        "/OPT:REF,ICF",
        "/MANIFEST:NO",
        // No time of day in the image. Two builds differ in the PDB's identity and what follows from it, for the linker
        // writes its temporary file names into the PDB; code and data are the same.
        "/BREPRO",
    ];
    for arg in ARGS {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
