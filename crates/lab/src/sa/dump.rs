//! A dump of the SA table for people and for machines, and the difference of two. Nothing secret is in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use comfy_table::{CellAlignment, Table, presets};
use ndis_sys::{
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128, IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The table of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The table as a whole.
    pub table: Summary,
    /// Its SAs, by slot.
    pub sas: Vec<Sa>,
}

/// The table as a whole; `ipsecnic::dump::Summary` says what the fields mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // as there
pub struct Summary {
    pub capacity: u32,
    pub added: u64,
    pub deleted: u64,
    pub refused: u64,
    pub skipped: u64,
    pub waiting: u32,
    pub resets: u32,
    pub wedged: bool,
    pub transmits: bool,
    pub receives: bool,
    pub asks_to_delete: bool,
}

/// An SA; `ipsecnic::dump::Entry` says what the fields mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as there
pub struct Sa {
    pub slot: u32,
    pub generation: u64,
    pub handle: String,
    pub direction: String,
    pub protocol: String,
    pub spi: String,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub algorithm: String,
    pub sequence_high: Option<u32>,
    pub loaded: bool,
    pub packets: u64,
    pub bytes: u64,
    pub errors: u64,
}

impl Dump {
    /// Of what the driver answered.
    pub fn new(table: ipsecnic::dump::Dump<'_>) -> Self {
        let summary = *table.summary();
        Self {
            table: Summary {
                capacity: summary.capacity,
                added: summary.added,
                deleted: summary.deleted,
                refused: summary.refused,
                skipped: summary.skipped,
                waiting: summary.waiting,
                resets: summary.resets,
                wedged: summary.wedged,
                transmits: summary.transmits,
                receives: summary.receives,
                asks_to_delete: summary.asks_to_delete,
            },
            sas: table.map(|entry| Sa::new(&entry)).collect(),
        }
    }
}

impl Sa {
    fn new(entry: &ipsecnic::dump::Entry) -> Self {
        Self {
            slot: entry.slot,
            generation: entry.generation,
            handle: format!("{:#x}", entry.handle),
            direction: if entry.inbound { "in" } else { "out" }.into(),
            protocol: match entry.protocol {
                50 => "ESP".into(),
                51 => "AH".into(),
                other => other.to_string(),
            },
            spi: format!("{:#010x}", entry.spi),
            source: entry.source,
            destination: entry.destination,
            algorithm: match (entry.encryption, entry.authentication) {
                (IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128, 0) => "AES-GCM-128".into(),
                (IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192, 0) => "AES-GCM-192".into(),
                (IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256, 0) => "AES-GCM-256".into(),
                (encryption, authentication) => format!("{encryption:#x}/{authentication:#x}"),
            },
            sequence_high: entry.sequence_high,
            loaded: entry.loaded,
            packets: entry.packets,
            bytes: entry.octets,
            errors: entry.errors,
        }
    }

    fn name(&self) -> String {
        format!("slot {}, {} {} {}", self.slot, self.direction, self.protocol, self.spi)
    }
}

/// What `lab sa` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The driver.
    pub driver: String,
    /// Its table.
    #[serde(flatten)]
    pub dump: Dump,
    /// What of the script was not done.
    pub refused: Vec<String>,
    /// Rules of NDIS that the driver broke.
    pub broken: Vec<String>,
    /// What it left behind.
    pub left: Option<String>,
}

impl Outcome {
    /// Whether all was done, and nothing broken.
    pub fn held(&self) -> bool {
        self.refused.is_empty() && self.broken.is_empty() && self.left.is_none()
    }

    /// What was not.
    pub fn complaints(&self) -> Vec<String> {
        let left = self.left.iter().map(|left| format!("left behind: {left}"));
        self.refused
            .iter()
            .cloned()
            .chain(self.broken.iter().map(|rule| format!("broken: {rule}")))
            .chain(left)
            .collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dump)?;
        for line in self.complaints() {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }
}

const COLUMNS: [&str; 12] = [
    "slot",
    "generation",
    "way",
    "SPI",
    "source",
    "destination",
    "algorithm",
    "high half",
    "in device",
    "packets",
    "bytes",
    "errors",
];
/// Those with numbers, which end at the right.
const NUMBERS: [usize; 6] = [0, 1, 7, 9, 10, 11];

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(COLUMNS);
        for number in NUMBERS {
            if let Some(column) = table.column_mut(number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let any = |address: IpAddr| {
            if address.is_unspecified() { "any".into() } else { address.to_string() }
        };
        for sa in &self.sas {
            table.add_row([
                sa.slot.to_string(),
                sa.generation.to_string(),
                format!("{} {}", sa.direction, sa.protocol),
                sa.spi.clone(),
                any(sa.source),
                any(sa.destination),
                sa.algorithm.clone(),
                sa.sequence_high.map_or_else(|| "-".into(), |high| high.to_string()),
                if sa.loaded { "yes" } else { "no" }.into(),
                sa.packets.to_string(),
                sa.bytes.to_string(),
                sa.errors.to_string(),
            ]);
        }
        let Summary { capacity, added, deleted, refused, skipped, waiting, resets, .. } = &self.table;
        writeln!(f, "{table}")?;
        write!(
            f,
            "{} of {capacity} slots; {added} added, {deleted} deleted ({waiting} of them wait for packets), {refused} \
             refused, {skipped} handles skipped; {resets} resets",
            self.sas.len(),
        )?;
        for (flag, text) in [
            (self.table.wedged, "the device is wedged"),
            (!self.table.transmits, "sends with a handle are refused"),
            (!self.table.receives, "received packets are left alone"),
            (self.table.asks_to_delete, "received packets ask for the deletion of their SA"),
        ] {
            if flag {
                write!(f, "; {text}")?;
            }
        }
        Ok(())
    }
}

/// One difference between two dumps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What differs: an SA by its handle, or the table as a whole.
    pub of: String,
    /// The SA for people.
    #[serde(skip)]
    name: String,
    /// How.
    pub change: Kind,
    /// Old and new values of what changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, [Value; 2]>,
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is there no more.
    Gone,
    /// It was not there.
    New,
    /// It is another.
    Changed,
}

/// How `new` differs from `old`: the table, then SAs by their handles, those that are gone first.
///
/// # Errors
/// What serde_json says of structures that it cannot write; it can these.
pub fn diff(old: &Dump, new: &Dump) -> Result<Vec<Change>, serde_json::Error> {
    let mut changes = Vec::new();
    let fields = changed(&fields(&old.table)?, &fields(&new.table)?);
    if !fields.is_empty() {
        changes.push(Change { of: "table".into(), name: "the table".into(), change: Kind::Changed, fields });
    }
    let one =
        |sa: &Sa, change| Change { of: sa.handle.clone(), name: sa.name(), change, fields: BTreeMap::new() };
    let of = |dump: &Dump| -> BTreeMap<String, Sa> {
        dump.sas.iter().map(|sa| (sa.handle.clone(), sa.clone())).collect()
    };
    let (olds, news) = (of(old), of(new));
    changes.extend(old.sas.iter().filter(|sa| !news.contains_key(&sa.handle)).map(|sa| one(sa, Kind::Gone)));
    for sa in &new.sas {
        match olds.get(&sa.handle) {
            None => changes.push(one(sa, Kind::New)),
            Some(old) if old != sa => {
                let fields = changed(&self::fields(old)?, &self::fields(sa)?);
                changes.push(Change { fields, ..one(sa, Kind::Changed) });
            }
            Some(_) => {}
        }
    }
    Ok(changes)
}

fn fields(of: &impl Serialize) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(of)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> BTreeMap<String, [Value; 2]> {
    let differs = |(name, value): (&String, &Value)| {
        let before = old.get(name).cloned().unwrap_or(Value::Null);
        (before != *value).then(|| (name.clone(), [before, value.clone()]))
    };
    new.iter().filter_map(differs).collect()
}

/// The changes for people.
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no difference".into();
    }
    let mut text = String::new();
    for (number, change) in changes.iter().enumerate() {
        let sign = match change.change {
            Kind::Gone => '-',
            Kind::New => '+',
            Kind::Changed => '~',
        };
        let line = if number == 0 { "" } else { "\n" };
        let _ = write!(text, "{line}{sign} {}", change.name); // writing to a String cannot fail
        let mut before = ":";
        for (field, [old, new]) in &change.fields {
            let _ = write!(text, "{before} {field} {old} -> {new}");
            before = ",";
        }
    }
    text
}
