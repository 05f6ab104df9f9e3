//! `cargo xtask`: set-up, image, demo and test of the project.
//!
//! Exit status: 0 if what was asked for holds, 1 if it does not, 2 if it could not be done. Progress goes to standard
//! error, results to standard output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::bench;
use xtask::driver;
use xtask::fuzz;
use xtask::report;
use xtask::setup::{self, Install};
use xtask::steps::{Failure, Outcome, Steps};
use xtask::testing;

mod demo;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, image, demo and test of ipsecnic",
    version
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show what the project needs of this machine; install what is missing (on Debian, as root or with --install)
    Setup {
        /// Install also when not root, through sudo
        #[arg(long)]
        install: bool,
    },
    /// Build ipsecnic.sys, .pdb and .inf for x64 into one folder and check the image
    Image {
        /// Folder for the three files [default: out/x64]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Print the checks for machines
        #[arg(long)]
        json: bool,
        /// Install a missing toolchain also when not root, through sudo
        #[arg(long)]
        install: bool,
        /// Only see that the driver builds for arm64, too: nothing here can check or load that image
        #[arg(long, conflicts_with_all = ["out", "json"])]
        arm64: bool,
    },
    /// Check any driver image, with the PDB beside it if there is one
    CheckImage {
        /// The image
        file: PathBuf,
        /// Print the checks for machines
        #[arg(long)]
        json: bool,
    },
    /// Build the image and show it protecting traffic in the lab (--native: without an image; --help: the lab's own)
    #[command(disable_help_flag = true)]
    Demo {
        /// Arguments of `lab demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure parts of the project against their peers
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Fuzz the parsers of the driver and of the lab, with libFuzzer and the stable compiler
    Fuzz {
        /// The targets [default: all; `ls fuzz/fuzz_targets`]
        targets: Vec<String>,
        /// Each for so long
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Install a missing C++ compiler also when not root, through sudo
        #[arg(long)]
        install: bool,
    },
    /// Run all tests: lints, unit tests, native driver and shipped image in the lab
    Test {
        /// Without the shipped image
        #[arg(long)]
        native_only: bool,
        /// Also what takes minutes
        #[arg(long)]
        long: bool,
        /// Install what is missing also when not root, through sudo
        #[arg(long)]
        install: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The SA table: print one table with ratios and goals, write docs/bench-sa.md, its plot, and the crate's README (two minutes)
    Sa {
        /// Fewer rounds (half of the time); writes no page unless --out is given
        #[arg(long)]
        quick: bool,
        /// Write the figures and goals for machines, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Folder for bench-sa.md and bench-sa.svg, in place of docs; the README stays as it is
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Install the peers in C (liburcu-dev, libdpdk-dev) also when not root, through sudo; without them they are left out
        #[arg(long)]
        install: bool,
    },
    /// The control plane through the driver: deletions by the length of their list, additions by how full the table is
    Driver {
        /// Measure this image, too
        #[arg(long, value_name = "FILE.sys")]
        image: Option<PathBuf>,
        /// Folder for bench-driver.md [default: none is written]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let steps = Steps::default();
    let install = |asked| if asked { Install::Yes } else { Install::IfRoot };
    let outcome = match Cli::parse().task {
        Task::Setup { install: asked } => setup::setup(&steps, install(asked)),
        Task::Image { install: asked, arm64: true, .. } => {
            setup::image(&steps, install(asked)).and_then(|()| driver::build_for_arm64(&steps))
        }
        Task::Image { out, json, install: asked, arm64: false } => {
            let out = out.unwrap_or_else(driver::default_out);
            driver::build(&steps, install(asked), &out)
                .and_then(|built| show(&built.sys, &built.report, json, built.report.is_complete_pass()))
        }
        Task::CheckImage { file, json } => {
            driver::check_file(&file).and_then(|report| show(&file, &report, json, report.holds()))
        }
        Task::Demo { arguments } => match demo::demo(&steps, &arguments) {
            Ok(status) => return status,
            Err(failure) => Err(failure),
        },
        Task::Bench { what: Bench::Sa { quick, json, out, install: asked } } => {
            let page = match out {
                Some(folder) => bench::Page::Folder(folder),
                None if quick => bench::Page::None,
                None => bench::Page::Project,
            };
            bench::sa(&steps, &bench::Options { quick, json, page, install: install(asked) })
        }
        Task::Bench { what: Bench::Driver { image, out } } => bench::control::measure(&steps, image, out),
        Task::Fuzz { targets, seconds, install: asked } => fuzz::fuzz(
            &steps,
            &fuzz::Options { targets, seconds, install: install(asked) },
        )
        .and_then(|found| {
            if found.failed.is_empty() {
                println!("{} targets found nothing", found.clean);
                return Ok(());
            }
            let failed = found.failed.join(", ");
            Err(Failure::Failed(format!("{failed} found something: see fuzz/artifacts and the lines above")))
        }),
        Task::Test { native_only, long, install: asked } => {
            match testing::test(&steps, testing::Options { native_only, long, install: install(asked) }) {
                // The closing line has said it.
                Ok(passed) => return ExitCode::from(u8::from(!passed)),
                Err(failure) => Err(failure),
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

/// Prints the checks of an image.
fn show(sys: &Path, report: &xtask::image::Report, json: bool, holds: bool) -> Outcome {
    if json {
        println!("{:#}", report::json(sys, report));
    } else {
        println!("{}", report::table(sys, report));
    }
    if holds { Ok(()) } else { Err(Failure::Failed("the image does not pass its checks".into())) }
}
