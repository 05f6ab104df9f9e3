//! Judges the report of `tests/wine/ndis`: what a miniport did, against the WDK's numbers, its image and its INF.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use object::read::pe::{Import, PeFile64};
use serde_json::Value;

use super::inf::{self, Section};
use crate::driver;

/// What a good report agrees with.
#[derive(Debug)]
pub struct Expected {
    /// The WDK's constants, by name.
    constants: HashMap<String, u64>,
    /// `module!function`.
    imports: BTreeSet<String>,
    /// Fields of `NDIS_MINIPORT_DRIVER_CHARACTERISTICS` that are handlers.
    handlers: BTreeSet<String>,
    inf: Vec<Section>,
}

/// How far the miniport's life went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Loaded and unloaded.
    Driver,
    /// One adapter between the two.
    Adapter,
}

/// What happens once in a driver's life, in this order.
const DRIVER: [&str; 2] = ["register", "characteristics"];
const ADAPTER: [&str; 18] = [
    "add-device",
    "attributes kind=registration",
    "registration",
    "open-configuration",
    "close-configuration",
    "attributes kind=general",
    "general",
    "attributes kind=offload",
    "offload which=current",
    "offload which=hardware",
    "initialize",
    "restart",
    "oid",
    "send-complete",
    "surprise-removal",
    "pause",
    "halt",
    "remove-device",
];
const END: [&str; 3] = ["unload", "deregister", "unloaded"];

/// What a miniport may leave out.
const OPTIONAL_HANDLERS: [&str; 5] = [
    "SetOptionsHandler",
    "CheckForHangHandlerEx",
    "ResetHandlerEx",
    "DirectOidRequestHandler",
    "CancelDirectOidRequestHandler",
];

impl Expected {
    /// For this image and this INF.
    ///
    /// # Errors
    /// One line: the image is none, or the WDK's numbers cannot be read.
    pub fn new(image: &[u8], inf: &str) -> Result<Self, String> {
        let constants: HashMap<String, Value> = numbers("constants")?;
        let number = |value: &Value| u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok();
        let constants =
            constants.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect();
        let layouts: HashMap<String, Value> = numbers("layouts")?;
        let fields = layouts
            .get("NDIS_MINIPORT_DRIVER_CHARACTERISTICS")
            .and_then(|layout| layout["fields"].as_array());
        let names = fields.into_iter().flatten().filter_map(|field| field[0].as_str());
        let handlers = names.filter(|name| name.contains("Handler")).map(str::to_owned).collect();
        Ok(Self {
            constants,
            imports: imports(image).map_err(|error| error.to_string())?,
            handlers,
            inf: inf::sections(inf),
        })
    }

    /// Every disagreement, one line each; none for a good report.
    pub fn judge(&self, report: &str, life: Life) -> Vec<String> {
        let lines: Vec<Line<'_>> = report.lines().map(Line).collect();
        let mut findings = Vec::new();
        order(&lines, life, &mut findings);
        self.judge_imports(&lines, &mut findings);
        let handlers = lines.iter().filter(|line| line.word() == "handler");
        let handlers: Vec<&str> = handlers.filter_map(|line| line.value("name")).collect();
        if !(handlers.len() == self.handlers.len()
            && handlers.iter().all(|name| self.handlers.contains(*name)))
        {
            findings.push(format!("the handlers are {handlers:?}, the WDK has {:?}", self.handlers));
        }
        for line in &lines {
            if let Err(finding) = self.judge_line(*line) {
                findings.push(format!("{finding}: `{line}`"));
            }
        }
        if life == Life::Adapter {
            self.judge_keywords(&lines, &mut findings);
        }
        findings
    }

    /// All imports were looked up, and all were found.
    fn judge_imports(&self, lines: &[Line<'_>], findings: &mut Vec<String>) {
        let seen: BTreeSet<String> = lines
            .iter()
            .filter(|line| line.word() == "import")
            .filter_map(|line| Some(format!("{}!{}", line.value("module")?, line.value("name")?)))
            .collect();
        findings
            .extend(self.imports.difference(&seen).map(|name| format!("import {name} was not looked up")));
        findings
            .extend(seen.difference(&self.imports).map(|name| format!("the image does not import {name}")));
    }

    /// What a line says by itself.
    fn judge_line(&self, line: Line<'_>) -> Result<(), String> {
        match line.word() {
            "import" => line.one_of("found", &["export", "substitute"]),
            "register" => self.structure(line, "MINIPORT_DRIVER_CHARACTERISTICS"),
            "characteristics" => {
                line.is("ndis", "6.30")?;
                let (major, minor) = version();
                line.is("driver", &format!("{major}.{minor}"))
            }
            "handler" if line.value("name").is_some_and(|name| OPTIONAL_HANDLERS.contains(&name)) => {
                line.one_of("in", &["image", "null"])
            }
            "handler" => line.is("in", "image"),
            "attributes" => match line.value("kind") {
                Some(kind @ ("registration" | "general" | "offload")) => {
                    let name = format!("MINIPORT_ADAPTER_{}_ATTRIBUTES", kind.to_uppercase());
                    self.structure(line, &name)
                }
                _ => Err("attributes of another kind".into()),
            },
            "registration" => line.is("context", "set"),
            "open-configuration" => {
                self.structure(line, "CONFIGURATION_OBJECT")?;
                line.succeeded()
            }
            "general" => self.judge_general(line),
            "offload" => {
                let revision = line.value("revision").unwrap_or_default();
                self.size(line, &format!("NDIS_OFFLOAD_REVISION_{revision}"))?;
                // The INF's default turns ESP on; IPsecOV2 without a capacity is none.
                line.is("esp", "1")?;
                let capacity = self.default_of("SaOffloadCapacity")?;
                line.is("capacity", &capacity.to_string())
            }
            "add-device" | "initialize" | "restart" | "send-complete" | "pause" | "remove-device" => {
                line.succeeded()
            }
            "oid" => {
                line.succeeded()?;
                line.is("written", "4")?;
                let (major, minor) = version();
                line.is("version", &format!("{:#010x}", major << 16 | minor))
            }
            "halt" => ["pools", "lists", "mdls"].iter().try_for_each(|what| line.is(what, "0")),
            "unloaded" => {
                line.is("registered", "false")?;
                ["pools", "lists", "mdls"].iter().try_for_each(|what| line.is(what, "0"))
            }
            "deregister" => line.is("handle", "registered"),
            "ndis-loaded" => line.is("watching", "true"),
            "panic" => Err("ndis.sys panicked".into()),
            "pool" => {
                let object = self.constant("NDIS_OBJECT_TYPE_DEFAULT")?;
                line.is("type", &format!("{object:#x}"))?;
                let revision = line.value("revision").unwrap_or_default();
                self.size(line, &format!("NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_{revision}"))
            }
            "image"
            | "keyword"
            | "close-configuration"
            | "surprise-removal"
            | "unload"
            | "indicate"
            | "receive" => Ok(()),
            _ => Err("nothing is known of this".into()),
        }
    }

    /// General attributes against the INF.
    fn judge_general(&self, line: Line<'_>) -> Result<(), String> {
        let of = |key| inf::value(&self.inf, "Install.NT", key).ok_or_else(|| format!("no {key} in the INF"));
        line.is("medium", of("*MediaType")?)?;
        line.is("physical", of("*PhysicalMediaType")?)?;
        line.is("iftype", of("*IfType")?)?;
        // *JumboPacket counts the MAC header.
        line.is("mtu", &(self.default_of("*JumboPacket")? - 14).to_string())?;
        line.is("pm", "set")?;
        let mac = line.value("mac").unwrap_or_default();
        let bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        match bytes.as_slice() {
            [first, _, _, _, _, _] if first & 1 == 0 && mac != "00:00:00:00:00:00" => Ok(()),
            _ => Err("that is no unicast address".into()),
        }
    }

    /// Every keyword that the INF declares as a number was read, and gave the INF's default; what was read besides was
    /// not there.
    fn judge_keywords(&self, lines: &[Line<'_>], findings: &mut Vec<String>) {
        let mut declared = inf::numeric_defaults(&self.inf);
        for line in lines.iter().filter(|line| line.word() == "keyword") {
            let name = line.value("name").unwrap_or_default();
            let judged = match declared.remove(name) {
                Some(default) => {
                    line.is("from", "default").and_then(|()| line.is("value", &default.to_string()))
                }
                None => line.is("from", "nowhere"),
            };
            if let Err(finding) = judged {
                findings.push(format!("{finding}: `{line}`"));
            }
        }
        findings.extend(declared.keys().map(|name| format!("the driver did not read {name}")));
    }

    fn default_of(&self, keyword: &str) -> Result<u32, String> {
        let defaults = inf::numeric_defaults(&self.inf);
        defaults.get(keyword).copied().ok_or_else(|| format!("the INF has no default of {keyword}"))
    }

    /// Type, revision and size of a structure's header against the WDK's.
    fn structure(&self, line: Line<'_>, structure: &str) -> Result<(), String> {
        line.is("type", &format!("{:#x}", self.constant(&format!("NDIS_OBJECT_TYPE_{structure}"))?))?;
        let revision = line.value("revision").unwrap_or_default();
        self.size(line, &format!("{structure}_REVISION_{revision}"))
    }

    fn size(&self, line: Line<'_>, structure: &str) -> Result<(), String> {
        line.is("size", &self.constant(&format!("NDIS_SIZEOF_{structure}"))?.to_string())
    }

    fn constant(&self, name: &str) -> Result<u64, String> {
        self.constants.get(name).copied().ok_or_else(|| format!("the WDK has no {name}"))
    }
}

/// A line of the report: `word key=value key=value`.
#[derive(Clone, Copy)]
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'a> Line<'a> {
    fn word(self) -> &'a str {
        self.0.split(' ').next().unwrap_or_default()
    }

    fn value(self, key: &str) -> Option<&'a str> {
        let pairs = self.0.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    fn is(self, key: &str, expected: &str) -> Result<(), String> {
        self.one_of(key, &[expected])
    }

    fn one_of(self, key: &str, expected: &[&str]) -> Result<(), String> {
        match self.value(key) {
            Some(value) if expected.contains(&value) => Ok(()),
            _ => Err(format!("{key} must be {}", expected.join(" or "))),
        }
    }

    /// Status 0: `STATUS_SUCCESS` and `NDIS_STATUS_SUCCESS`.
    fn succeeded(self) -> Result<(), String> {
        self.is("status", "0x00000000")
    }
}

/// What must happen happened once, in order, and what must not did not.
fn order(lines: &[Line<'_>], life: Life, findings: &mut Vec<String>) {
    let adapter = ADAPTER.iter().filter(|_| life == Life::Adapter);
    let mut after = 0;
    for &step in ["ndis-loaded", "image"].iter().chain(&DRIVER).chain(adapter).chain(&END) {
        let is_it = |line: &&Line<'_>| line.0 == step || line.0.starts_with(&format!("{step} "));
        let mut found = lines.iter().enumerate().filter(|(_, line)| is_it(line));
        match (found.next(), found.next()) {
            (None, _) => findings.push(format!("no `{step}`")),
            (Some(_), Some(_)) => findings.push(format!("`{step}` more than once")),
            (Some((at, _)), None) if at < after => findings.push(format!("`{step}` too early")),
            (Some((at, _)), None) => after = at,
        }
    }
    if life == Life::Driver && lines.iter().any(|line| line.word() == "add-device") {
        findings.push("an adapter where there is no device".into());
    }
}

/// A table of the WDK's numbers.
fn numbers(table: &str) -> Result<HashMap<String, Value>, String> {
    let path = driver::root().join(format!("crates/ndis-sys/tests/data/{table}.json"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The driver's version: the package's.
fn version() -> (u32, u32) {
    let part = |text: &str| text.parse().unwrap_or(0);
    (part(env!("CARGO_PKG_VERSION_MAJOR")), part(env!("CARGO_PKG_VERSION_MINOR")))
}

/// `module!function` of everything that the image imports by name.
fn imports(image: &[u8]) -> object::read::Result<BTreeSet<String>> {
    let file = PeFile64::parse(image)?;
    let mut names = BTreeSet::new();
    let Some(table) = file.import_table()? else { return Ok(names) };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module = String::from_utf8_lossy(table.name(descriptor.name.get(object::LittleEndian))?);
        let mut thunks = table.thunks(descriptor.original_first_thunk.get(object::LittleEndian))?;
        while let Some(thunk) = thunks.next::<object::pe::ImageNtHeaders64>()? {
            if let Import::Name(_, name) = table.import::<object::pe::ImageNtHeaders64>(thunk)? {
                names.insert(format!("{module}!{}", String::from_utf8_lossy(name)));
            }
        }
    }
    Ok(names)
}
