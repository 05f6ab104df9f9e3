//! `cargo xtask bench driver`: the control plane through the driver's entry points, measured and written to a page.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Machine, cannot, write};
use crate::driver;
use crate::steps::{Failure, Outcome, Steps, run};

/// The longest list may cost this much more a node than the cheapest one, from [`FLAT_FROM`] nodes on.
const FLAT: f64 = 2.0;
/// Shorter lists pay for the request itself.
const FLAT_FROM: u32 = 64;

/// What one driver took, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Figures {
    driver: String,
    delete: Vec<List>,
    add: Addition,
}

/// One `DELETE_SA`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct List {
    nodes: u32,
    whole: f64,
    check: f64,
}

/// One `ADD_SA_EX`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Addition {
    empty: f64,
    fullest: f64,
}

impl List {
    fn each(&self, time: f64) -> f64 {
        time / f64::from(self.nodes)
    }
}

impl Figures {
    /// The dearest node over the cheapest, among the lists that are long enough.
    fn spread(&self) -> f64 {
        let long = self.delete.iter().filter(|list| list.nodes >= FLAT_FROM);
        let (least, most) = long
            .map(|list| list.each(list.whole))
            .fold((f64::INFINITY, 0.0_f64), |(least, most), each| (least.min(each), most.max(each)));
        most / least
    }
}

/// Measures, prints the table, and writes it to `out/bench-driver.md`, if there is an `out`.
///
/// # Errors
/// [`Failure::Failed`] if the benchmark ends badly, [`Failure::Cannot`] if a file cannot be read or written.
pub fn measure(steps: &Steps, image: Option<PathBuf>, out: Option<PathBuf>) -> Outcome {
    // Before the benchmark loads the machine itself.
    let machine = Machine::look();
    let file = driver::target_folder().join("bench-driver.json");
    let mut command = driver::cargo();
    command.args(["bench", "--package", "ipsecnic", "--bench", "driver", "--profile", "lab"]);
    command.env("IPSECNIC_BENCH_JSON", &file).env_remove("IPSECNIC_IMAGE").stdout(std::io::stderr());
    if let Some(image) = image {
        command.env("IPSECNIC_IMAGE", image);
    }
    steps.step("measure the control plane", || run(&mut command))?;
    let text = std::fs::read_to_string(&file).map_err(cannot(&file))?;
    let figures: Vec<Figures> = serde_json::from_str(&text)
        .map_err(|error| Failure::Cannot(format!("{}: {error}", file.display())))?;
    println!("{}", body(&figures));
    if let Some(folder) = out {
        let page = folder.join("bench-driver.md");
        write(&page, &markdown(&figures, &machine.describe()))?;
        steps.say(format_args!("wrote {}", page.display()));
    }
    Ok(())
}

fn markdown(figures: &[Figures], machine: &str) -> String {
    format!(
        "# The control plane through the driver\n\nWritten by `cargo xtask bench driver`; not edited by hand. What is measured, and \
         how, is in `benches/driver.rs`.\n\nMeasured on: {machine}.\n\nDELETE_SA of SAs of a full table of 65,536, in random order. \
         \"Check\" is the walk over the list before anything is done: the same list with an error in its last node. Times include the \
         lab's own work for a request and for each block of memory that is given back.\n\n{}",
        body(figures)
    )
}

fn body(figures: &[Figures]) -> String {
    let mut text = String::new();
    for driver in figures {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "## {}\n",
            if driver.driver == "native" { "Linked natively" } else { "The image" }
        );
        let _ = writeln!(text, "| nodes | ns a node | of it the check, ns | share |\n|---:|---:|---:|---:|");
        for list in &driver.delete {
            let (whole, check) = (list.each(list.whole), list.each(list.check));
            let _ = writeln!(
                text,
                "| {} | {whole:.1} | {check:.1} | {:.0} % |",
                list.nodes,
                check / whole * 100.0
            );
        }
        let spread = driver.spread();
        let verdict = if spread <= FLAT { "met" } else { "MISSED" };
        let _ = writeln!(
            text,
            "\nFrom {FLAT_FROM} nodes on the dearest costs {spread:.2} times the cheapest (goal {FLAT}: {verdict}).\n\nADD_SA_EX: \
             {:.0} ns into an empty table, {:.0} ns into the fullest ({:.2} times).\n",
            driver.add.empty,
            driver.add.fullest,
            driver.add.fullest / driver.add.empty,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_judged_and_written() {
        let text = r#"[{"driver": "native", "add": {"empty": 1000.0, "fullest": 1500.0}, "delete": [
            {"nodes": 1, "whole": 900.0, "check": 300.0}, {"nodes": 64, "whole": 6400.0, "check": 640.0},
            {"nodes": 512, "whole": 128000.0, "check": 2560.0}]}]"#;
        let mut figures: Vec<Figures> = serde_json::from_str(text).unwrap();
        assert!((figures[0].spread() - 2.5).abs() < 1e-9, "the shortest list does not count");
        let page = markdown(&figures, "a machine, a date");
        assert!(
            page.contains("| 512 | 250.0 | 5.0 | 2 % |\n")
                && page.contains("2.50 times the cheapest (goal 2: MISSED)")
        );
        assert!(page.contains("1500 ns into the fullest (1.50 times)") && page.contains("a machine, a date"));
        figures[0].delete.pop();
        assert!(body(&figures).contains("1.00 times the cheapest (goal 2: met)"));
    }
}
