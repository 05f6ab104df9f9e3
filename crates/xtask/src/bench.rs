//! `cargo xtask bench sa`: the SA table against its peers, measured, judged and written to a page.
//!
//! The measuring is `cargo bench -p sa-table`; its figures come as JSON. Here they are put beside the goals of the project.

pub mod figures;
pub mod goals;
mod page;
mod plot;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::driver;
use crate::setup::{self, Install};
use crate::steps::{Failure, Outcome, Steps, ask, run};
use figures::Figures;
use goals::Goal;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fewer rounds.
    pub quick: bool,
    /// Where the figures go, for machines.
    pub json: Option<PathBuf>,
    /// The folder of page and plot; nowhere if `None`.
    pub out: Option<PathBuf>,
    /// Whether to install the peers in C.
    pub install: Install,
}

/// Measures, prints one table, and writes the page.
///
/// # Errors
/// [`Failure::Failed`] if the benchmark ends badly, [`Failure::Cannot`] if a file cannot be read or written. A goal that is missed
/// is no error: it is what was asked for.
pub fn sa(steps: &Steps, options: &Options) -> Outcome {
    for (peer, outcome) in setup::peers(steps, options.install) {
        if let Err(missing) = outcome {
            steps.say(format_args!("{peer} is left out: {missing}"));
        }
    }
    let file = driver::target_folder().join("bench-sa.json");
    let mut command = driver::cargo();
    command.args(["bench", "--package", "sa-table", "--bench", "peers", "--"]).arg("--json").arg(&file);
    if options.quick {
        command.arg("--quick");
    }
    // Its own report is progress here.
    command.stdout(std::io::stderr());
    steps.step("measure the SA table and its peers", || run(&mut command))?;
    let text = std::fs::read_to_string(&file).map_err(cannot(&file))?;
    let figures =
        Figures::parse(&text).map_err(|error| Failure::Cannot(format!("{}: {error}", file.display())))?;
    let goals = goals::judge(&figures);
    let machine = Machine::look();
    println!("{}", page::table(&figures, &goals));
    for note in &figures.notes {
        println!("{note}");
    }
    println!("{}", page::closing(&goals));
    if let Some(path) = &options.json {
        write(path, &format!("{:#}\n", as_json(&figures, &goals, &machine)))?;
        steps.say(format_args!("wrote {}", path.display()));
    }
    if let Some(folder) = &options.out {
        std::fs::create_dir_all(folder).map_err(cannot(folder))?;
        let (plot, page) = (folder.join(page::PLOT), folder.join("bench-sa.md"));
        let drawn = plot::draw(&figures).map_err(|error| Failure::Cannot(format!("the plot: {error}")))?;
        write(&plot, &drawn)?;
        write(&page, &page::markdown(&figures, &goals, &machine))?;
        steps.say(format_args!("wrote {} and {}", page.display(), plot.display()));
    }
    Ok(())
}

fn cannot(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Cannot(format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(cannot(path))
}

/// What was measured on, and when.
struct Machine {
    processor: String,
    processors: usize,
    system: String,
    date: String,
    compiler: String,
}

impl Machine {
    fn look() -> Self {
        let unknown = || "unknown".to_owned();
        let model = |text: String| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            processor: std::fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(model)
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            system: ask(Command::new("uname").args(["-s", "-r"]))
                .unwrap_or_else(|| std::env::consts::OS.to_owned()),
            date: ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])).unwrap_or_else(unknown),
            compiler: ask(Command::new("rustc").arg("--version").current_dir(driver::root()))
                .unwrap_or_else(unknown),
        }
    }

    fn describe(&self) -> String {
        format!(
            "{}, {} processors, {}; {}; {}",
            self.processor, self.processors, self.system, self.compiler, self.date
        )
    }
}

fn as_json(figures: &Figures, goals: &[Goal], machine: &Machine) -> Value {
    let goals: Vec<Value> = goals
        .iter()
        .map(|goal| {
            json!({
                "goal": goal.what, "table": goal.table, "size": goal.size, "wanted": goal.wanted.to_string(),
                "measured": goal.measured, "met": goal.met(), "stricter_than_asked": goal.stricter,
            })
        })
        .collect();
    json!({ "machine": machine.describe(), "figures": figures.json(), "notes": figures.notes, "goals": goals })
}
