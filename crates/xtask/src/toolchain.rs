//! Which compiler, core library and linker can make the image on this machine.
//!
//! A compiler makes the image if it has the Windows target's libraries (rustup installs them, as `rust-toolchain.toml`
//! says), or the sources of the standard library beside it: then Cargo builds `core` and `alloc` for the target first.
//! Debian's `rustc-web` and `rust-web-src` are such a pair, of one version, for machines where rustup may not install.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{Failure, Outcome, ask};

/// The image's target.
pub const TARGET: &str = "x86_64-pc-windows-msvc";
/// The other one that the driver is made for: built here, to see that it can be, but nothing here runs it.
pub const ARM64: &str = "aarch64-pc-windows-msvc";

/// Where the target's `core` and `alloc` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreLibrary {
    /// Installed with the compiler.
    Installed,
    /// Built by Cargo from the compiler's own sources of the standard library.
    Built,
}

/// What makes the image.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// What `rustc --version` says.
    pub version: String,
    /// Where `core` and `alloc` come from.
    pub core: CoreLibrary,
    /// A linker that understands the arguments of `link.exe`; `None` on Windows without one: rustc finds it there.
    pub linker: Option<PathBuf>,
}

impl Toolchain {
    /// One line for people.
    pub fn describe(&self) -> String {
        let core = match self.core {
            CoreLibrary::Installed => "its own libraries for the target",
            CoreLibrary::Built => "core and alloc built from its sources",
        };
        format!("{} ({}), {core}", self.version, self.rustc.display())
    }
}

/// The compilers to look at: the one that Cargo would use here, then Debian's.
fn compilers() -> [PathBuf; 2] {
    [env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from), "/usr/bin/rustc".into()]
}

/// A command without what `cargo run` put into the environment for xtask itself.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    // Points at the libraries of xtask's own compiler; another compiler must not find those.
    command.env_remove("LD_LIBRARY_PATH").env_remove("DYLD_FALLBACK_LIBRARY_PATH");
    command
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    ask(clean(rustc).args(["--print", "sysroot"])).map(PathBuf::from)
}

fn core_library(sysroot: &Path, target: &str) -> Option<CoreLibrary> {
    let libraries = sysroot.join("lib/rustlib").join(target).join("lib");
    let has_core = fs::read_dir(libraries).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Some(CoreLibrary::Installed);
    }
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    sources.is_file().then_some(CoreLibrary::Built)
}

/// `rust-lld` of any compiler on this machine, or an `lld-link` on the path.
fn linker() -> Option<PathBuf> {
    let host_tools = |rustc: &PathBuf| {
        let host = ask(clean(rustc).args(["--print", "host-tuple"]))?;
        let name = format!("rust-lld{}", env::consts::EXE_SUFFIX);
        let lld = sysroot(rustc)?.join("lib/rustlib").join(host).join("bin").join(name);
        lld.is_file().then_some(lld)
    };
    compilers().iter().find_map(host_tools).or_else(|| {
        let name = format!("lld-link{}", env::consts::EXE_SUFFIX);
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|path| path.is_file())
    })
}

/// The toolchain of this machine for a Windows target.
///
/// # Errors
/// One line that says what is missing.
pub fn find(target: &str) -> Result<Toolchain, String> {
    let found = compilers().into_iter().find_map(|rustc| {
        let version = ask(clean(&rustc).arg("--version"))?;
        let core = core_library(&sysroot(&rustc)?, target)?;
        Some((rustc, version, core))
    });
    let Some((rustc, version, core)) = found else {
        return Err(format!("no compiler here has core for {target}, or the sources to build it"));
    };
    let linker = linker();
    if linker.is_none() && !cfg!(windows) {
        return Err("there is no rust-lld beside rustc and no lld-link on the path".into());
    }
    Ok(Toolchain { rustc, version, core, linker })
}

/// Puts the linker into `folder` under the name `lld-link`, from which lld knows that it is to behave like `link.exe`.
/// (rustc gives no flavor for this target, and a flavor flag among the flags breaks Cargo's look at the host.)
///
/// # Errors
/// [`Failure::Cannot`] if the folder cannot be written.
pub fn place_linker(linker: &Path, folder: &Path) -> Outcome<PathBuf> {
    let placed = folder.join(format!("lld-link{}", env::consts::EXE_SUFFIX));
    let place = || {
        fs::create_dir_all(folder)?;
        if placed.symlink_metadata().is_ok() {
            fs::remove_file(&placed)?;
        }
        #[cfg(unix)]
        return std::os::unix::fs::symlink(linker, &placed);
        #[cfg(not(unix))]
        return fs::copy(linker, &placed).map(drop);
    };
    place().map_err(|error: std::io::Error| Failure::Cannot(format!("{}: {error}", placed.display())))?;
    Ok(placed)
}
