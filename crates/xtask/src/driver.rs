//! Builds the image: `ipsecnic.sys`, its PDB and its INF in one folder, checked.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image::{self, Report};
use crate::inf;
use crate::setup::{self, Install};
use crate::steps::{Failure, Outcome, Steps, run};
use crate::toolchain::{self, ARM64, CoreLibrary, TARGET};

/// What a build gave.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub sys: PathBuf,
    /// What the checks found in it.
    pub report: Report,
}

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")); // crates/xtask
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder that a plain build fills: `out/x64`.
pub fn default_out() -> PathBuf {
    root().join("out/x64")
}

/// Cargo, the one that runs xtask.
pub fn cargo() -> Command {
    let mut command = toolchain::clean(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The folder of Cargo's output.
pub fn target_folder() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}

/// Builds the image into `out` and checks it.
///
/// # Errors
/// [`Failure::Cannot`] if it cannot be built. An image on which a check fails is no error here: see [`Built::report`].
pub fn build(steps: &Steps, install: Install, out: &Path) -> Outcome<Built> {
    setup::image(steps, install)?;
    // A folder of its own: another compiler's output beside ours would be thrown away at each change between them.
    let folder = target_folder().join("image");
    let mut command = for_windows(steps, TARGET, &folder)?;
    command.args(["--package", "ipsecnic", "--lib"]);
    steps.step("build ipsecnic.sys", || run(&mut command)).map_err(|failure| {
        Failure::Cannot(format!("the image was not built: {failure}; the compiler's messages are above"))
    })?;
    let made = folder.join(TARGET).join("release");
    let sys = out.join("ipsecnic.sys");
    fs::create_dir_all(out).map_err(|error| Failure::Cannot(format!("{}: {error}", out.display())))?;
    copy(&made.join("ipsecnic.dll"), &sys)?;
    copy(&made.join("ipsecnic.pdb"), &out.join("ipsecnic.pdb"))?;
    write_inf(&out.join("ipsecnic.inf"))?;
    let report = check_file(&sys)?;
    Ok(Built { sys, report })
}

/// Builds and links the driver for arm64, to see that nothing in it is for x64 alone: other vector instructions, other assembly text.
/// Nothing here can load what comes of it.
///
/// # Errors
/// [`Failure::Cannot`] if no compiler here can do it, [`Failure::Failed`] if it does not compile.
pub fn build_for_arm64(steps: &Steps) -> Outcome {
    let mut command = for_windows(steps, ARM64, &target_folder().join("arm64"))?;
    command.args(["--package", "ipsecnic", "--lib"]);
    steps.step("build for arm64", || run(&mut command))
}

/// `cargo build` for a Windows target, into `folder`.
fn for_windows(steps: &Steps, target: &str, folder: &Path) -> Outcome<Command> {
    let toolchain = toolchain::find(target).map_err(Failure::Cannot)?;
    steps.say(format_args!("toolchain: {}", toolchain.describe()));
    let mut command = cargo();
    command.args(["build", "--release", "--target", target, "--target-dir"]).arg(folder);
    command.env("RUSTC", &toolchain.rustc).env("CARGO_ENCODED_RUSTFLAGS", rustflags());
    if toolchain.core == CoreLibrary::Built {
        // -Z options need a nightly compiler, or one that is told to take them.
        command.arg("-Zbuild-std=core,alloc,compiler_builtins").env("RUSTC_BOOTSTRAP", "1");
    }
    if let Some(linker) = &toolchain.linker {
        let linker = toolchain::place_linker(linker, folder)?;
        let name = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        command.env(name, linker);
    }
    Ok(command)
}

/// Builds a workspace of Windows programs, those of the tests, into `folder`; the folder of what was made.
///
/// # Errors
/// [`Failure::Cannot`] if it cannot be built.
pub fn build_for_windows(steps: &Steps, manifest: &Path, folder: &Path) -> Outcome<PathBuf> {
    let mut command = for_windows(steps, TARGET, folder)?;
    command.args(["--quiet", "--locked", "--manifest-path"]).arg(manifest);
    steps.step("build for Windows", || run(&mut command)).map_err(|failure| {
        Failure::Cannot(format!("{}: {failure}; the compiler's messages are above", manifest.display()))
    })?;
    Ok(folder.join(TARGET).join("release"))
}

/// Checks an image file, with the PDB that lies beside it under its name.
///
/// # Errors
/// [`Failure::Cannot`] if the file cannot be read or is no whole image.
pub fn check_file(sys: &Path) -> Outcome<Report> {
    let name = |error: &dyn std::fmt::Display| Failure::Cannot(format!("{}: {error}", sys.display()));
    let bytes = fs::read(sys).map_err(|error| name(&error))?;
    let pdb = sys.with_extension("pdb");
    let pdb = if pdb.is_file() { Some(fs::read(&pdb).map_err(|error| name(&error))?) } else { None };
    image::check(&bytes, pdb.as_deref()).map_err(|error| name(&error))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let copied = fs::copy(from, to);
    copied
        .map(drop)
        .map_err(|error| Failure::Cannot(format!("{} to {}: {error}", from.display(), to.display())))
}

fn write_inf(to: &Path) -> Outcome {
    let inx = root().join("inf/ipsecnic.inx");
    let text =
        fs::read_to_string(&inx).map_err(|error| Failure::Cannot(format!("{}: {error}", inx.display())))?;
    let stamp = inf::Stamp {
        arch: "amd64",
        date: inf::build_date(&root()),
        version: concat!(env!("CARGO_PKG_VERSION"), ".0"),
    };
    fs::write(to, inf::stamped(&text, &stamp))
        .map_err(|error| Failure::Cannot(format!("{}: {error}", to.display())))
}

/// Flags of the image's compilation, in Cargo's encoding (separated by 0x1f, so that paths may hold spaces).
/// Paths of this machine are taken out, so that they do not stand in the image and two machines build the same one.
fn rustflags() -> String {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let mut remap =
        |from: PathBuf, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(root(), "ipsecnic");
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE"));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(cargo_home) = cargo_home.or_else(|| Some(PathBuf::from(home?).join(".cargo"))) {
        remap(cargo_home, "cargo");
    }
    flags.join("\x1f")
}
