//! `cargo xtask bench sa`: the SA table against its peers, measured, judged and written to a page. [`control`] does the same for the
//! control plane through the driver.
//!
//! The measuring is `cargo bench -p sa-table`; its figures come as JSON. Here they are put beside the goals of the project.

pub mod control;
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
    /// Where the page goes.
    pub page: Page,
    /// Whether to install the peers in C.
    pub install: Install,
}

/// Where the page and its plot go.
#[derive(Clone, Debug)]
pub enum Page {
    /// Nowhere.
    None,
    /// Into the project's documentation, and the short form into the crate's README.
    Project,
    /// Into this folder.
    Folder(PathBuf),
}

/// The README of the table's crate.
fn readme() -> PathBuf {
    driver::root().join("crates/sa-table/README.md")
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
    // Before the benchmark loads the machine itself.
    let machine = Machine::look();
    if machine.is_busy() {
        steps.warn(
            "this machine is busy with other work: figures and ratios are less sure than on an idle one",
        );
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
    println!("{}", page::table(&figures, &goals));
    for note in &figures.notes {
        println!("{note}");
    }
    println!("{}", page::closing(&goals));
    if let Some(path) = &options.json {
        write(path, &format!("{:#}\n", as_json(&figures, &goals, &machine)))?;
        steps.say(format_args!("wrote {}", path.display()));
    }
    let folder = match &options.page {
        Page::None => return Ok(()),
        Page::Project => driver::root().join("docs"),
        Page::Folder(folder) => folder.clone(),
    };
    std::fs::create_dir_all(&folder).map_err(cannot(&folder))?;
    let (plot, page) = (folder.join(page::PLOT), folder.join("bench-sa.md"));
    let drawn = plot::draw(&figures).map_err(|error| Failure::Cannot(format!("the plot: {error}")))?;
    write(&plot, &drawn)?;
    write(&page, &page::markdown(&figures, &goals, &machine))?;
    steps.say(format_args!("wrote {} and {}", page.display(), plot.display()));
    if matches!(options.page, Page::Project) {
        let path = readme();
        let text = std::fs::read_to_string(&path).map_err(cannot(&path))?;
        let text = page::with_summary(&text, &page::summary(&figures, &machine))
            .ok_or_else(|| Failure::Cannot(format!("{} has no place for a summary", path.display())))?;
        write(&path, &text)?;
        steps.say(format_args!("wrote the summary in {}", path.display()));
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
    /// Threads that wanted a processor, on average of the last minute.
    load: Option<f64>,
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
            system: ask(Command::new("uname").args(["-s", "-m"]))
                .unwrap_or_else(|| std::env::consts::OS.to_owned()),
            date: ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])).unwrap_or_else(unknown),
            compiler: ask(Command::new("rustc").arg("--version").current_dir(driver::root()))
                .unwrap_or_else(unknown),
            load: std::fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }

    /// Whether others want the processors, too.
    fn is_busy(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a few processors")]
        let processors = self.processors as f64;
        self.load.is_some_and(|load| load > processors / 2.0)
    }

    fn describe(&self) -> String {
        let busy = match self.load {
            Some(load) if self.is_busy() => format!("; busy with other work, load {load}"),
            _ => String::new(),
        };
        format!(
            "{}, {} processors, {}; {}; {}{busy}",
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
