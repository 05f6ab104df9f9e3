//! `cargo xtask setup`: what the project needs of the machine beyond Rust, what of it is there, and how to get the rest.

use std::path::Path;
use std::process::Command;

use comfy_table::{ContentArrangement, Table, presets};

use crate::steps::{Failure, Outcome, Steps, ask, run};
use crate::toolchain;

/// Whether to install what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// If run as root on a Debian system.
    IfRoot,
    /// Asked for with `--install`: also through `sudo`.
    Yes,
}

/// Something the project needs of the machine.
struct Need {
    name: &'static str,
    /// What for.
    purpose: &'static str,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    /// What is there, or what is missing.
    look: fn() -> Result<String, String>,
}

/// Compiler, core library and linker of the image.
const IMAGE: Need = Need {
    name: "image toolchain",
    purpose: "builds ipsecnic.sys for x86_64-pc-windows-msvc",
    packages: &["rustc-web", "rust-web-src"],
    look: || toolchain::find(toolchain::TARGET).map(|toolchain| toolchain.describe()),
};

/// Wireshark's dissector.
const TSHARK: Need = Need {
    name: "tshark",
    purpose: "judges what crossed the wire: decrypts and verifies every ESP packet (tests)",
    packages: &["tshark"],
    look: || {
        let version = ask(Command::new("tshark").arg("--version"));
        version
            .and_then(|text| text.lines().next().map(str::to_owned))
            .ok_or_else(|| "tshark is not installed".into())
    },
};

/// The second loader.
const WINE: Need = Need {
    name: "Wine",
    purpose: "loads the image through another loader and installs its INF (test --long)",
    packages: &["wine64", "wine"],
    look: || ask(Command::new("wine").arg("--version")).ok_or_else(|| "Wine is not installed".into()),
};

/// Network namespaces and devices.
const IPROUTE: Need = Need {
    name: "iproute2",
    purpose: "a TAP device in a network namespace (test --long)",
    packages: &["iproute2"],
    look: || ask(Command::new("ip").arg("-V")).ok_or_else(|| "iproute2 is not installed".into()),
};

/// liburcu, to compare the SA table with.
const LIBURCU: Need = Need {
    name: "liburcu",
    purpose: "a peer of the SA table's benchmark (bench sa)",
    packages: &["liburcu-dev", "pkg-config", "gcc", "libc6-dev"],
    look: || package("liburcu-qsbr"),
};

/// DPDK, likewise.
const DPDK: Need = Need {
    name: "DPDK",
    purpose: "a peer of the SA table's benchmark (bench sa)",
    packages: &["libdpdk-dev", "pkg-config", "gcc", "libc6-dev"],
    look: || package("libdpdk"),
};

/// The version of a C library whose headers are installed.
fn package(name: &str) -> Result<String, String> {
    ask(Command::new("pkg-config").args(["--modversion", name]))
        .ok_or_else(|| format!("pkg-config finds no {name}"))
}

/// What libFuzzer is compiled with.
const COMPILER: Need = Need {
    name: "C++ compiler",
    purpose: "builds libFuzzer (fuzz, test --long)",
    packages: &["g++"],
    look: || {
        let version =
            ask(Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into())).arg("--version"));
        version
            .and_then(|text| text.lines().next().map(str::to_owned))
            .ok_or_else(|| "there is no C++ compiler".into())
    },
};

/// `cargo xtask setup`: looks at everything, installs what is missing, prints a table.
///
/// # Errors
/// [`Failure::Cannot`] if something is still missing; the line says how to get it.
pub fn setup(steps: &Steps, install: Install) -> Outcome {
    let needs = [IMAGE, TSHARK];
    let outcome = provide(steps, install, &needs);
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(120)
        .set_header(["needed", "for", "here"]);
    for need in &needs {
        let here = (need.look)().unwrap_or_else(|missing| format!("MISSING: {missing}"));
        table.add_row([need.name, need.purpose, &here]);
    }
    println!("{table}");
    outcome
}

/// Sees to it that the image can be built.
///
/// # Errors
/// [`Failure::Cannot`]: it cannot; the line says what to do.
pub fn image(steps: &Steps, install: Install) -> Outcome {
    provide(steps, install, &[IMAGE])
}

/// Sees to it that the packet judge is there.
///
/// # Errors
/// [`Failure::Cannot`]: it is not; the line says what to do.
pub fn judge(steps: &Steps, install: Install) -> Outcome {
    provide(steps, install, &[TSHARK])
}

/// Sees to it that Wine is there.
///
/// # Errors
/// [`Failure::Cannot`]: it is not; the line says what to do.
pub fn wine(steps: &Steps, install: Install) -> Outcome {
    provide(steps, install, &[WINE])
}

/// Sees to it that a TAP device can be used in a network namespace: root, the kernel's driver, iproute2.
///
/// # Errors
/// [`Failure::Cannot`]: it cannot; the line says why.
pub fn tap(steps: &Steps, install: Install) -> Outcome {
    if !Path::new("/dev/net/tun").exists() {
        return Err(Failure::Cannot("this machine has no /dev/net/tun".into()));
    }
    if ask(Command::new("id").arg("-u")).as_deref().map(str::trim) != Some("0") {
        return Err(Failure::Cannot("only root may make network namespaces and TAP devices".into()));
    }
    provide(steps, install, &[IPROUTE])
}

/// Sees to it that the peers in C of the SA table's benchmark can be built.
///
/// # Errors
/// For each of them [`Failure::Cannot`]: it cannot; the line says what to do.
pub fn peers(steps: &Steps, install: Install) -> [(&'static str, Outcome); 2] {
    [LIBURCU, DPDK].map(|need| (need.name, provide(steps, install, &[need])))
}

/// Sees to it that libFuzzer can be built.
///
/// # Errors
/// [`Failure::Cannot`]: it cannot; the line says what to do.
pub fn compiler(steps: &Steps, install: Install) -> Outcome {
    provide(steps, install, &[COMPILER])
}

fn provide(steps: &Steps, install: Install, needs: &[Need]) -> Outcome {
    let missing: Vec<(&Need, String)> =
        needs.iter().filter_map(|need| Some((need, (need.look)().err()?))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reasons: Vec<&str> = missing.iter().map(|(_, reason)| reason.as_str()).collect();
    let reasons = reasons.join("; ");
    let packages: Vec<&str> = missing.iter().flat_map(|(need, _)| need.packages).copied().collect();
    if !is_debian() {
        return Err(Failure::Cannot(format!("{reasons}: {}", advice_elsewhere(&missing))));
    }
    let root = is_root();
    if !root && install == Install::IfRoot {
        return Err(Failure::Cannot(format!(
            "{reasons}: run `sudo apt-get update && sudo apt-get install -y --no-install-recommends {}`, or let \
             xtask do it with `--install` (setup, image, test, bench)",
            packages.join(" ")
        )));
    }
    steps
        .step(&format!("install {}", packages.join(" ")), || {
            run(apt(!root).arg("update"))?;
            run(apt(!root).args(["install", "-y", "--no-install-recommends"]).args(&packages))
        })
        .map_err(|failure| {
            Failure::Cannot(format!("{reasons}, and the packages were not installed: {failure}"))
        })?;
    match missing.iter().find_map(|(need, _)| (need.look)().err()) {
        None => Ok(()),
        Some(still) => Err(Failure::Cannot(format!("{still}, although its Debian packages are installed"))),
    }
}

fn apt(sudo: bool) -> Command {
    let mut command = Command::new(if sudo { "sudo" } else { "apt-get" });
    if sudo {
        // sudo clears the environment, so the question is answered for apt-get behind it.
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
    // What apt prints is progress; standard output belongs to results.
    command.stdout(std::io::stderr());
    command
}

/// What to do where there is no apt.
fn advice_elsewhere(missing: &[(&Need, String)]) -> String {
    let advice = missing.iter().map(|(need, _)| {
        if need.name == IMAGE.name {
            format!("run `rustup target add {}`", toolchain::TARGET)
        } else {
            format!("install {}", need.name)
        }
    });
    advice.collect::<Vec<_>>().join(", ")
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").is_file() && Path::new("/usr/bin/apt-get").is_file()
}

fn is_root() -> bool {
    ask(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}
