//! What `lab sa` does: steps from a file, one JSON document a line, or made of a seed.
//!
//! ```text
//! {"add": {"direction": "out", "spi": "0x1000", "key": "00112233445566778899aabbccddeeff01020304"}}
//! {"add_list": [{"direction": "in", "spi": 4097, "key": "…", "source": "0.0.0.0", "esn": 7}, …]}
//! {"send": {"spi": 4097, "packets": 3, "bytes": 100}}
//! {"send": {"spi": 4097, "damaged": true}}
//! {"update": {"spi": 4097, "high": 8}}
//! {"delete": ["0x1000", 4097]}
//! ```
//! A key is an AES key and its 4 bytes of salt in hexadecimal. Addresses default to those of the adapter, 10.0.0.1, and of
//! the one at the other end, 10.0.0.2. An SPI names the SA that was added last with it. Empty lines and lines that begin with `#`
//! are skipped.

use std::fmt;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ndis_lab::transport::{Algorithm, Direction};
use serde::Deserialize;

use crate::fuzz::Bytes;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// ADD_SA_EX.
    Add(Addition),
    /// ADD_SA: one list.
    AddList(Vec<Addition>),
    /// Packets through an SA: sent by the adapter, or by the other end.
    Send(Sending),
    /// UPDATE_SA.
    Update {
        /// Of which SA.
        spi: Spi,
        /// The high half of its sequence number.
        high: u32,
    },
    /// DELETE_SA: one list.
    Delete(Vec<Spi>),
}

/// An SA to add.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Which way.
    #[serde(with = "way")]
    pub direction: Direction,
    /// Its SPI.
    pub spi: Spi,
    /// Key and salt.
    pub key: Bytes,
    /// Sender of its packets.
    pub source: Option<Ipv4Addr>,
    /// Their receiver.
    pub destination: Option<Ipv4Addr>,
    /// The high half of an extended sequence number.
    pub esn: Option<u32>,
}

/// Packets to send.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sending {
    /// Through which SA.
    pub spi: Spi,
    /// How many.
    #[serde(default = "one")]
    pub packets: u32,
    /// Bytes of UDP payload in each.
    #[serde(default = "usual")]
    pub bytes: u16,
    /// Such as the SA has to refuse: a wrong SPI to protect, a wrong ICV to verify.
    #[serde(default)]
    pub damaged: bool,
}

const fn one() -> u32 {
    1
}

const fn usual() -> u16 {
    64
}

/// An SPI: a number, or text with a number, hexadecimal with 0x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SpiText")]
pub struct Spi(pub u32);

#[derive(Deserialize)]
#[serde(untagged)]
enum SpiText {
    Number(u32),
    Text(String),
}

impl TryFrom<SpiText> for Spi {
    type Error = String;

    fn try_from(text: SpiText) -> Result<Self, String> {
        match text {
            SpiText::Number(number) => Ok(Self(number)),
            SpiText::Text(text) => text
                .strip_prefix("0x")
                .map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16))
                .map(Self)
                .map_err(|_| format!("{text} is no SPI")),
        }
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// `in` or `out`.
mod way {
    use ndis_lab::transport::Direction;
    use serde::de::{Deserialize as _, Deserializer, Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Direction, D::Error> {
        match String::deserialize(from)?.as_str() {
            "in" => Ok(Direction::Inbound),
            "out" => Ok(Direction::Outbound),
            other => Err(D::Error::custom(format!("{other} is neither in nor out"))),
        }
    }
}

/// Without the key.
impl fmt::Debug for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addition")
            .field("direction", &self.direction)
            .field("spi", &self.spi)
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("esn", &self.esn)
            .finish_non_exhaustive()
    }
}

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// A line is no step.
    #[error("{path}, line {line}: {error}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// Reads a script; `-` is standard input.
///
/// # Errors
/// [`ScriptError`].
pub fn read(path: &Path) -> Result<Vec<Step>, ScriptError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| ScriptError::Read(path.to_owned(), error))?;
    parse(&text).map_err(|(line, error)| ScriptError::Line { path: path.to_owned(), line, error })
}

/// The steps of a text, or the number of the first line that is none.
///
/// # Errors
/// As said.
pub fn parse(text: &str) -> Result<Vec<Step>, (usize, serde_json::Error)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| (number, error)))
        .collect()
}

/// Steps to be made of a seed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// SAs to add.
    pub count: u32,
    /// Most packets through each.
    pub packets: u32,
    /// SAs to delete afterwards.
    pub delete: u32,
    /// Of this seed.
    pub seed: u64,
}

/// SAs in both directions, of every algorithm, every fourth with extended sequence numbers; then packets, then one DELETE_SA.
pub fn generate(plan: &Plan) -> Vec<Step> {
    const FIRST: u32 = 0x1000;
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let spis: Vec<Spi> = (0..plan.count).map(|number| Spi(FIRST + number)).collect();
    let additions = spis.iter().map(|&spi| {
        let algorithm = Algorithm::ALL[random.usize(..Algorithm::ALL.len())];
        let mut key = vec![0; algorithm.key_length()];
        random.fill(&mut key);
        let direction = if spi.0.is_multiple_of(2) { Direction::Outbound } else { Direction::Inbound };
        let esn = spi.0.is_multiple_of(4).then(|| random.u32(..));
        Addition { direction, spi, key: Bytes(key), source: None, destination: None, esn }
    });
    let mut steps: Vec<Step> = additions.map(Step::Add).collect();
    if plan.packets > 0 {
        steps.extend(spis.iter().map(|&spi| {
            let packets = random.u32(0..=plan.packets);
            Step::Send(Sending { spi, packets, bytes: random.u16(0..1024), damaged: false })
        }));
    }
    if plan.delete > 0 {
        let mut doomed = spis;
        random.shuffle(&mut doomed);
        doomed.truncate(plan.delete as usize);
        steps.push(Step::Delete(doomed));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_understood_and_what_is_none_is_named() {
        let key = "42".repeat(20);
        let text = format!(
            "# a script\n\n{{\"add\": {{\"direction\": \"in\", \"spi\": \"0x10\", \"key\": \"{key}\", \"esn\": 3}}}}\n\
             {{\"send\": {{\"spi\": 16}}}}\n{{\"delete\": [16, \"0x11\", \"18\"]}}\n"
        );
        let steps = parse(&text).unwrap();
        let Step::Add(addition) = &steps[0] else { panic!("{steps:?}") };
        assert_eq!((addition.direction, addition.spi, addition.esn), (Direction::Inbound, Spi(16), Some(3)));
        assert!(!format!("{steps:?}").contains("66"), "no key");
        let sending = Sending { spi: Spi(16), packets: 1, bytes: 64, damaged: false };
        assert_eq!(steps[1..], [Step::Send(sending), Step::Delete([16, 17, 18].map(Spi).into())]);
        for bad in [
            "{}",
            "[]",
            "{\"add\": {}}",
            "{\"send\": {\"spi\": 1, \"colour\": 2}}",
            "{\"send\": {\"spi\": \"0xg\"}}",
            "{\"delete\": [-1]}",
            "{\"add\": {\"direction\": \"up\", \"spi\": 1, \"key\": \"00\"}}",
        ] {
            let text = format!("\n{{\"send\": {{\"spi\": 16}}}}\n{bad}");
            assert_eq!(parse(&text).unwrap_err().0, 3, "{bad}");
        }
    }

    #[test]
    fn a_plan_follows_from_its_seed() {
        let plan = Plan { count: 20, packets: 3, delete: 5, seed: 7 };
        let steps = generate(&plan);
        assert_eq!(steps, generate(&plan));
        assert_ne!(steps, generate(&Plan { seed: 8, ..plan }));
        assert_eq!(steps.len(), 41);
        assert!(matches!(&steps[40], Step::Delete(spis) if spis.len() == 5));
    }
}
