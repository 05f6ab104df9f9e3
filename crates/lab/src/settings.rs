//! What commands are told of a driver: how its adapters are installed, and which rules it is known to break.

use std::path::PathBuf;

use ndis_lab::inf::{Inf, InfError};
use ndis_lab::rules::{Known, KnownRules};
use ndis_lab::{Keywords, Value};

/// Arguments that most commands have.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsArguments {
    /// The driver's INF: the keywords of its adapters with their defaults
    #[arg(long, value_name = "FILE.inf")]
    inf: Option<PathBuf>,
    /// A keyword of the adapters, as a user sets it; counts more than the INF; may be repeated
    #[arg(long = "set", value_name = "KEYWORD=VALUE", value_parser = keyword)]
    keywords: Vec<(String, String)>,
    /// A rule that the driver is known to break, by its name; with a text, only where that is told; may be repeated.
    /// It is counted, and the exit status is as if the driver kept it
    #[arg(long, value_name = "RULE[:TEXT]")]
    known: Vec<Known>,
}

/// `KEYWORD=VALUE`.
fn keyword(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected KEYWORD=VALUE".into()),
    }
}

/// Why an INF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// It says nothing that can be used.
    #[error("{path}: {1}", path = .0.display())]
    Inf(PathBuf, InfError),
}

/// What the arguments say.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The INF.
    pub inf: Option<Inf>,
    /// The keywords: the INF's, and those that a user sets.
    pub keywords: Keywords,
    /// The rules that the driver is known to break.
    pub known: KnownRules,
}

impl SettingsArguments {
    /// Reads them.
    ///
    /// # Errors
    /// [`SettingsError`] if there is an INF that cannot be used.
    pub fn read(&self) -> Result<Settings, SettingsError> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|error| SettingsError::Read(path.clone(), error))?;
            Inf::read(&bytes).map_err(|error| SettingsError::Inf(path.clone(), error))
        };
        let inf = self.inf.as_ref().map(read).transpose()?;
        let mut keywords = inf.as_ref().map(|inf| inf.keywords.clone()).unwrap_or_default();
        for (name, value) in &self.keywords {
            keywords.set(name, value.as_str());
        }
        Ok(Settings { inf, keywords, known: KnownRules::new(self.known.iter().cloned()) })
    }
}

impl Settings {
    /// The keywords that two adapters can share: all texts but the address.
    pub fn shared(&self) -> Vec<(String, String)> {
        let text = |(name, value): (&str, &Value)| match value {
            Value::Text(text) if !name.eq_ignore_ascii_case("NetworkAddress") => {
                Some((name.to_owned(), text.clone()))
            }
            _ => None,
        };
        self.keywords.iter().filter_map(text).collect()
    }
}

/// What is known of the driver and how often it was seen: a line each.
pub fn known_lines(known: &KnownRules) -> Vec<String> {
    let line = |(known, times)| match times {
        0 => format!("--known {known}: the driver did not break it"),
        times => format!("passed over, since it is known: {known}, {times} times"),
    };
    known.times().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_names_and_values() {
        assert_eq!(keyword("*JumboPacket=9014"), Ok(("*JumboPacket".into(), "9014".into())));
        assert_eq!(keyword("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(keyword("A="), Ok(("A".into(), String::new())));
        assert!(keyword("A").is_err() && keyword("=1").is_err());
    }
}
