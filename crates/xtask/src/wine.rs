//! The second loader: the image in Wine's `winedevice`, with the small `ndis.sys` of `tests/wine`. See docs/wine.md.
//!
//! A [`Wine`] is a prefix of its own under `target/wine`, made for one run and removed after it: nothing of the user's own
//! Wine is touched. Every command has a time limit, and at the end all that runs in the prefix is ended.

pub mod inf;
pub mod judge;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver;
use crate::steps::{Failure, Outcome, Steps, shown};

/// How long a command may take. All but the first take less than a second.
const LIMIT: Duration = Duration::from_mins(1);
/// How long Wine may take to fill a prefix: some seconds, most of them for copying files.
const LIMIT_OF_SETUP: Duration = Duration::from_mins(5);
/// What our `ndis.sys` writes.
const REPORT: &str = "ndis-report.txt";

/// A Wine prefix with our `ndis.sys` in it.
#[derive(Debug)]
pub struct Wine {
    folder: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output and standard error.
    pub output: String,
}

impl Wine {
    /// Builds what runs in Wine, and makes a prefix that holds it.
    ///
    /// # Errors
    /// [`Failure::Cannot`] if there is no Wine, or something cannot be built or written.
    pub fn new(steps: &Steps) -> Outcome<Self> {
        let build = driver::target_folder().join("wine/build");
        let made = driver::build_for_windows(steps, &driver::root().join("tests/wine/Cargo.toml"), &build)?;
        let wine = Self { folder: driver::target_folder().join("wine/run") };
        // What an interrupted run has left.
        if wine.folder.exists() {
            wine.end();
            wine.clear()?;
        }
        steps.step("make a Wine prefix", || {
            fs::create_dir_all(&wine.folder).map_err(|error| cannot(&wine.folder, &error))?;
            let ended = wine.wine(&["wineboot", "--init"], LIMIT_OF_SETUP)?;
            if !wine.path("windows/system32/ntdll.dll").is_file() {
                return Err(Failure::Cannot(format!("Wine made no prefix: {ended:?}")));
            }
            // From here on the override holds for every process.
            wine.end();
            // Wine's own would be found before ours, which lies where Wine looks for all drivers.
            let theirs = wine.path("windows/system32/drivers/ndis.sys");
            fs::remove_file(&theirs).map_err(|error| cannot(&theirs, &error))?;
            wine.place(&made.join("ndis.dll"), "windows/system32/ndis.sys")?;
            wine.place(&made.join("install.exe"), "install.exe")
        })?;
        Ok(wine)
    }

    /// Runs a Windows program of the prefix.
    ///
    /// # Errors
    /// [`Failure::Cannot`] if it cannot be started, [`Failure::Failed`] if it takes too long.
    pub fn run(&self, arguments: &[&str]) -> Outcome<Ended> {
        self.wine(arguments, LIMIT)
    }

    /// Runs a Windows program that must end with status 0; what it wrote.
    ///
    /// # Errors
    /// As [`Wine::run`], and [`Failure::Failed`] if it ends with another status.
    pub fn run_well(&self, arguments: &[&str]) -> Outcome<String> {
        let ended = self.run(arguments)?;
        if ended.status == Some(0) {
            Ok(ended.output)
        } else {
            Err(Failure::Failed(format!("`{}` in Wine: {ended:?}", arguments.join(" "))))
        }
    }

    /// The host's path of a path below `C:\`, with slashes.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.join("prefix/drive_c").join(below)
    }

    /// Writes a file below `C:\`.
    ///
    /// # Errors
    /// [`Failure::Cannot`] if that is not possible.
    pub fn write(&self, below: &str, bytes: &[u8]) -> Outcome {
        let path = self.path(below);
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, bytes)
        };
        write().map_err(|error: io::Error| cannot(&path, &error))
    }

    /// The report of `ndis.sys` so far, which is then begun anew. Empty if it was never loaded.
    ///
    /// # Errors
    /// [`Failure::Cannot`] if there is a report that cannot be read.
    pub fn take_report(&self) -> Outcome<String> {
        let path = self.path(REPORT);
        match fs::read_to_string(&path) {
            Ok(text) => fs::remove_file(&path).map(|()| text).map_err(|error| cannot(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(cannot(&path, &error)),
        }
    }

    fn place(&self, from: &Path, below: &str) -> Outcome {
        let bytes = fs::read(from).map_err(|error| cannot(from, &error))?;
        self.write(below, &bytes)
    }

    fn wine(&self, arguments: &[&str], limit: Duration) -> Outcome<Ended> {
        let mut command = self.command("wine");
        command.args(arguments);
        // A file, for what Wine leaves running in the background would keep a pipe open.
        let output = self.folder.join("output.txt");
        let open = || File::create(&output).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = open().map_err(|error| cannot(&output, &error))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().map_err(|error| {
            Failure::Cannot(format!(
                "Wine could not be started: {error}; `apt-get install wine64 wine` brings it"
            ))
        })?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| cannot(&output, &error))? {
                Some(status) => break status,
                None if began.elapsed() > limit => {
                    // Its own process only; `end` ends the others.
                    let _ = child.kill();
                    let _ = child.wait();
                    self.end();
                    return Err(Failure::Failed(format!("`{}` took longer than {limit:?}", shown(&command))));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let output = fs::read(&output).map_err(|error| cannot(&output, &error))?;
        Ok(Ended { status: status.code(), output: String::from_utf8_lossy(&output).into_owned() })
    }

    /// A program of Wine's, in our prefix, quiet and without a display.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("WINEPREFIX", self.folder.join("prefix"))
            .env("WINEARCH", "win64")
            .env("WINEDEBUG", "-all")
            // Ours in place of Wine's own; no offers to download .NET and a browser; nothing in the user's menus.
            .env("WINEDLLOVERRIDES", "ndis.sys=n;mscoree,mshtml=;winemenubuilder.exe=")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    /// Ends all that runs in the prefix; the next command starts it again. What was loaded before is not any more.
    pub fn end(&self) {
        let mut server = self.command("wineserver");
        server.arg("--kill").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without a server there is nothing to end.
        let _ = server.status();
        let mut server = self.command("wineserver");
        server.arg("--wait").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = server.status();
    }

    fn clear(&self) -> Outcome {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot(&self.folder, &error)),
            _ => Ok(()),
        }
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        self.end();
        // Half a gigabyte. What could not be removed is in nobody's way.
        let _ = self.clear();
    }
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::Cannot(format!("{}: {error}", path.display()))
}
