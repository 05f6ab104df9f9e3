//! Arguments, exit status, and what is shown on a terminal.
//!
//! Exit status: 0 if everything held, 1 if something did not, 2 if it could not be tried (one line says why).

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

#[cfg(unix)]
use crate::bridge;
use crate::conformance;
use crate::demo::{self, AlgorithmChoice, Observer, Options, Section, show};
use crate::run;
use crate::sa;
use crate::source::DriverSource;
use crate::{faults, fuzz};

const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "lab", version, about = "Runs NDIS miniports without Windows", long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Protects the packets of a capture with a driver, and checks every one at the other end
    ///
    /// Loads the driver, starts two adapters and a monitor on one Ethernet segment, sends the capture's IPv4 packets
    /// from one adapter to the other under ESP (IPsec Task Offload Version 2), compares what arrives with what was
    /// sent, looks for plaintext on the wire, and takes everything down again.
    ///
    /// Exit status: 0 if everything held, 1 if something did not, 2 if it could not be tried.
    Demo(Demo),
    /// Loads any NDIS 6 miniport and plays its standard life
    ///
    /// Shows what the driver registers, its attributes and what becomes of requests and packets, and prints every rule
    /// that it breaks, with the call, the rule's name and its page of the Windows driver documentation.
    ///
    /// Exit status: 0 if it broke none, 1 if it did or stopped the machine, 2 if it could not be loaded.
    Run(run::Arguments),
    /// Puts any NDIS 6 Ethernet miniport through the conformance suite
    ///
    /// Each case runs on a machine of its own, names the page of the Windows driver documentation that it checks, and
    /// fails also when the driver breaks a rule on the way or leaves something behind. Cases for what the driver does
    /// not claim do not apply.
    ///
    /// Exit status: 0 if all cases that apply passed, 1 if one failed, 2 if none could be tried.
    Conformance(conformance::Arguments),
    /// Makes every call that can fail on Windows fail, one call stack at a time
    ///
    /// Each life of the driver (start, requests, reset, power, traffic under ESP and without, end) has one distinct
    /// call stack fail; then calls fail by chance. Adapters have to fail cleanly or go on working, nothing may be
    /// left over, and all has to work again once nothing fails. Stacks are named by the PDB beside the image.
    ///
    /// Exit status: 0 if nothing broke, 1 if something did, 2 if it could not be tried.
    Faults(faults::Arguments),
    /// Puts a driver through scripts made by chance, and makes one that fails small
    ///
    /// Requests, packets, SAs, events and failing calls: good, nearly good and garbage, in any order that NDIS allows.
    /// A script follows from its seed. One that fails is shrunk and written as JSON, to be replayed.
    ///
    /// Exit status: 0 if nothing failed, 1 if something did, 2 if it could not be tried.
    Fuzz(fuzz::Arguments),
    /// Adds SAs to an adapter, uses and deletes some, and shows its SA table
    ///
    /// Two adapters on a segment, on a deterministic machine: what is shown follows from driver, script and seed. The table
    /// comes by the driver's private OID (docs/oids.md); there are no keys in it. Without a script, SAs are made of the seed.
    ///
    /// Exit status: 0 if all was done (and nothing differs, with --diff), 1 if not, 2 if it could not be tried.
    Sa(sa::Arguments),
    /// Joins a driver's segment to a UNIX datagram socket or a TAP device, by a cable that may be bad
    ///
    /// A small IPv4 host on an adapter answers ARP and echo requests and sends its own, under ESP (IPsec Task Offload
    /// Version 2) where it has SAs. What is at the other end is up to you: the Linux kernel in QEMU, say.
    ///
    /// Exit status: 0 if all echo requests were answered and no rule was broken, 1 if not, 2 if it could not be tried.
    #[cfg(unix)]
    Bridge(bridge::Arguments),
}

/// Arguments of `lab demo`.
#[derive(Debug, Args)]
struct Demo {
    /// The driver's image to load [default: the driver that is linked into this program]
    #[arg(long, value_name = "FILE.sys", conflicts_with = "native")]
    image: Option<PathBuf>,
    /// Use the driver that is linked into this program
    #[arg(long)]
    native: bool,
    /// The capture to carry: pcap or pcapng, of Ethernet, raw IP, Linux cooked or loopback [default: a small one, built
    /// in]
    #[arg(long, value_name = "FILE.pcap[ng]")]
    input: Option<PathBuf>,
    /// Where to write what crossed the wire; the table that decrypts it in Wireshark, `esp_sa`, goes beside it
    #[arg(long, value_name = "FILE.pcapng", default_value = "demo.pcapng")]
    output: PathBuf,
    /// Seed of keys, SPIs, IVs and of how packets are split over MDLs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// AES-GCM key length of the security associations
    #[arg(long, value_enum, default_value_t = AlgorithmChoice::Mixed)]
    algorithm: AlgorithmChoice,
    /// Print one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(arguments) => run_demo(arguments),
        Command::Run(arguments) => verdict(run::command(&arguments, say)),
        Command::Conformance(arguments) => verdict(conformance::command(&arguments, say)),
        Command::Faults(arguments) => verdict(faults::command(&arguments, say)),
        Command::Fuzz(arguments) => verdict(fuzz::command(&arguments, say)),
        Command::Sa(arguments) => verdict(sa::command(&arguments, say)),
        #[cfg(unix)]
        Command::Bridge(arguments) => verdict(bridge::command(&arguments, say)),
    }
}

fn run_demo(arguments: Demo) -> ExitCode {
    let options = Options {
        driver: arguments.image.map_or(DriverSource::Native, DriverSource::Image),
        input: arguments.input,
        output: arguments.output,
        seed: arguments.seed,
        algorithm: arguments.algorithm,
    };
    let mut terminal = Terminal::default();
    let observer: &mut dyn Observer = if arguments.json { &mut demo::Silent } else { &mut terminal };
    match demo::run(&options, observer) {
        Ok(report) => {
            if arguments.json {
                match serde_json::to_string_pretty(&report) {
                    Ok(text) => say(&text),
                    Err(error) => return unusable(&error),
                }
            } else {
                say(&format!("\n{}\n\n{}", show::summary(&report), show::verdict(&report)));
            }
            if report.passed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => unusable(&error),
    }
}

/// The exit status of a command that says whether everything held.
fn verdict<E: std::fmt::Display>(held: Result<bool, E>) -> ExitCode {
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => unusable(&error),
    }
}

/// Prints a line. Whoever closes the pipe early has seen enough; the exit status still tells.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line, and the status that says that nothing was tried.
fn unusable(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("lab: {error}");
    ExitCode::from(UNUSABLE)
}

/// Steps and tables on standard output; a bar on standard error, if that is a terminal.
#[derive(Default)]
struct Terminal {
    steps: u32,
    bar: Option<ProgressBar>,
}

impl Observer for Terminal {
    fn step(&mut self, title: &str) {
        self.steps += 1;
        say(&format!("\n{}. {title}", self.steps));
    }

    fn note(&mut self, text: &str) {
        for line in text.lines() {
            say(&format!("   {line}"));
        }
    }

    fn tables(&mut self, sections: &[Section]) {
        for section in sections {
            self.note(&show::section(section));
        }
    }

    fn progress(&mut self, done: u64, total: u64) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if !std::io::stderr().is_terminal() {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            if let Ok(style) = ProgressStyle::with_template("   {wide_bar} {pos}/{len} packets") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_position(done);
        if done == total {
            bar.finish_and_clear();
            self.bar = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
