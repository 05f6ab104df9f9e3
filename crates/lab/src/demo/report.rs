//! The result of a demo, for people's tables and for `--json`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything that a demo did and found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether everything held: `failures` is empty.
    pub passed: bool,
    /// What did not hold, one line each.
    pub failures: Vec<String>,
    /// The driver: file name of the image, or "native".
    pub driver: String,
    /// The capture that was carried.
    pub input: String,
    /// The capture of the wire.
    pub output: String,
    /// The table with which Wireshark decrypts `output`.
    pub esp_sa: String,
    /// The seed of keys, SPIs, IVs and MDL splits.
    pub seed: u64,
    /// What the driver registered and advertised, table by table.
    pub advertised: Vec<Section>,
    /// Packets of the capture.
    pub captured: u64,
    /// Packets that could not be carried, by reason.
    pub not_carried: BTreeMap<String, u64>,
    /// Packets that had a zero IP checksum, which was filled in before they were carried.
    pub checksums_filled: u64,
    /// Packets carried, by IP protocol.
    pub protocols: BTreeMap<String, u64>,
    /// The security associations.
    pub associations: Vec<Association>,
    /// The traffic.
    pub traffic: Traffic,
    /// The proofs beside the traffic, in the order in which they were made.
    pub checks: Vec<Check>,
    /// What the driver still holds after it was unloaded; empty if nothing.
    pub census: Vec<String>,
    /// Rules of NDIS and the kernel that the driver broke; empty if none.
    pub violations: Vec<String>,
}

/// A table of names and values.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The structure that it shows.
    pub title: String,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// One fact.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A value: typed for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A capability or an entry point: there or not.
    Flag(bool),
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
    /// The names of the bits that are set.
    Names(Vec<String>),
    /// The names of all bits of a group.
    Bits {
        /// Those that are set.
        set: Vec<String>,
        /// Those that are clear.
        clear: Vec<String>,
    },
}

/// One security association.
#[derive(Clone, Debug, Serialize)]
pub struct Association {
    /// Who sends.
    pub source: String,
    /// Who receives.
    pub destination: String,
    /// The SPI, in hexadecimal.
    pub spi: String,
    /// The algorithm.
    pub algorithm: &'static str,
    /// The adapter that encrypts: 1 or 2.
    pub sender: u8,
    /// The adapter that decrypts: 2 or 1.
    pub receiver: u8,
    /// Packets that it carried.
    pub packets: u64,
    /// How it was added: `ADD_SA_EX` or `ADD_SA`.
    pub added_by: &'static str,
}

/// What was carried.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Traffic {
    /// Packets handed to MiniportSendNetBufferLists.
    pub sent: u64,
    /// Packets that came back from the other adapter equal to the original.
    pub delivered: u64,
    /// Packets that did not.
    pub failed: u64,
    /// Bytes of the IP packets that were carried, without ESP.
    pub bytes: u64,
    /// Frames that the monitor saw.
    pub wire_frames: u64,
    /// Bytes of these.
    pub wire_bytes: u64,
    /// Seconds from the first send to the last indication, without the checks between them.
    pub seconds: f64,
    /// IP packets a second.
    pub packets_per_second: f64,
    /// Megabits of IP packets a second.
    pub megabits_per_second: f64,
}

/// One proof.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What should hold.
    pub name: &'static str,
    /// Whether it did.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

impl Traffic {
    /// Fills in the rates.
    pub(super) fn rate(&mut self, time: std::time::Duration) {
        self.seconds = time.as_secs_f64();
        if self.seconds > 0.0 {
            #[allow(clippy::cast_precision_loss)] // counts of a demo are far below 2^52
            let (packets, bytes) = (self.delivered as f64, self.bytes as f64);
            self.packets_per_second = packets / self.seconds;
            self.megabits_per_second = bytes * 8.0 / 1e6 / self.seconds;
        }
    }
}

impl Report {
    /// Notes a failure.
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        /// More of the same kind says nothing more.
        const MOST: usize = 100;
        match self.failures.len() {
            0..MOST => self.failures.push(what.into()),
            MOST => self.failures.push("further failures are not listed".into()),
            _ => {}
        }
    }

    /// Notes a proof, and a failure if it did not hold.
    pub(super) fn check(&mut self, name: &'static str, result: Result<String, String>) {
        let passed = result.is_ok();
        let detail = match result {
            Ok(detail) => detail,
            Err(detail) => {
                self.fail(format!("{name}: {detail}"));
                detail
            }
        };
        self.checks.push(Check { name, passed, detail });
    }
}
