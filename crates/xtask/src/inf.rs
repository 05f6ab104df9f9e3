//! Stamps the INF, as the WDK's `stampinf` does where there is one: architecture, date and version.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::steps::ask;

/// What is written into the INX.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// `amd64` or `arm64`, for `$ARCH$`.
    pub arch: &'static str,
    /// Month, day and year of `DriverVer`, `mm/dd/yyyy`.
    pub date: String,
    /// The four parts of `DriverVer`'s version.
    pub version: &'static str,
}

/// The INF: `$ARCH$` replaced, `DriverVer` set, lines ended as Windows does.
pub fn stamped(inx: &str, stamp: &Stamp) -> String {
    let stamp_line = |line: &str| {
        let is_version = line.split_once('=').is_some_and(|(key, _)| key.trim() == "DriverVer");
        if is_version {
            format!("DriverVer   = {},{}\r\n", stamp.date, stamp.version)
        } else {
            format!("{}\r\n", line.replace("$ARCH$", stamp.arch))
        }
    };
    inx.lines().map(stamp_line).collect()
}

/// The date of `DriverVer`: `SOURCE_DATE_EPOCH` if set, else that of the last commit, so that the same sources give the
/// same INF; without Git, today.
pub fn build_date(root: &Path) -> String {
    let commit = || ask(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root));
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().or_else(commit).and_then(|text| text.parse().ok());
    let seconds = seconds
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    us_date(seconds / 86_400)
}

/// Days since 1970-01-01 as `mm/dd/yyyy`, in the proleptic Gregorian calendar.
/// Algorithm: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>, for days that are not negative.
fn us_date(days: u64) -> String {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // March is 0
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{month:02}/{day:02}/{year:04}")
}

#[cfg(test)]
mod tests;
