//! `lab run`: loads any NDIS 6 miniport image, shows what it registers, and plays its standard life:
//! initialize, requests, restart, traffic, pause, restart, pause, halt, unload. Every broken rule is
//! shown with the call, the rule's name and its page.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::life::{self, Lived, Subject};
use crate::settings::{Settings, SettingsArguments, SettingsError, known_lines};
use crate::source::DriverSource;
use clap::Args;
use ndis_lab::inf::Inf;
use ndis_lab::loader::missing_lines;
use ndis_lab::rules::KnownRules;
use ndis_lab::{
    Adapter, AdapterConfig, Driver, HaltAction, Keywords, Lab, LabError, LoadError, Oid, OidOutcome, SendNbl,
    SendOptions, State, Value, Violation,
};
use ndis_sys::{
    NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED, NDIS_PACKET_TYPE_MULTICAST, NdisMedium802_3,
    NdisMediumIP, OID_GEN_CURRENT_PACKET_FILTER,
};

/// Room for the answer of any query.
const ROOM: usize = 4096;
/// How long the driver may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the send handler is called.
const CALLS: usize = 64;
/// How long frames are waited for that may never come.
const GRACE: Duration = Duration::from_millis(100);

/// Arguments of `lab run`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The driver's image
    #[arg(value_name = "DRIVER.sys")]
    image: PathBuf,
    #[command(flatten)]
    settings: SettingsArguments,
    /// Load the image also if it imports functions that the lab has not; calling one stops the machine
    #[arg(long)]
    stub_imports: bool,
    /// Give each block and structure pages of its own, so that a touch of freed memory stops the machine (Linux)
    #[arg(long)]
    guard_pages: bool,
    /// Leave out the second life, with two adapters
    #[arg(long)]
    one_adapter: bool,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// Its INF cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The image is none that the lab can load.
    #[error("{path}: {1}", path = .0.display())]
    Load(PathBuf, LoadError),
}

/// Runs the command; says whether the driver lived through everything without breaking a rule.
///
/// # Errors
/// [`RunError`] if nothing could be tried.
pub fn command(arguments: &Arguments, say: impl Fn(&str)) -> Result<bool, RunError> {
    let settings = arguments.settings.read()?;
    let lab = Lab::builder()
        .timeout(PATIENCE)
        .guard_pages(arguments.guard_pages)
        .stub_missing_imports(arguments.stub_imports)
        .known(&settings.known)
        .build();
    let life = Life {
        lab: &lab,
        say: &say,
        inf: settings.inf.as_ref(),
        keywords: &settings.keywords,
        ethernet: Cell::new(false),
    };
    let ended = life.run(&arguments.image);
    // However far the driver came.
    for line in lab.take_debug_output() {
        say(&format!("DbgPrint: {}", line.trim_end()));
    }
    if !lab.hardware().is_empty() {
        say(&format!(
            "\nhardware that no adapter of the lab has was asked for: {}",
            lab.hardware().join(", ")
        ));
    }
    match ended {
        Err(LabError::Load(LoadError::Io(error))) => {
            return Err(RunError::Read(arguments.image.clone(), error));
        }
        Err(LabError::Load(LoadError::MissingImports(missing))) => {
            say(&format!("{} functions that the driver imports are missing in the lab:", missing.len()));
            for line in missing_lines(&missing) {
                say(&format!("   {line}"));
            }
            return Err(RunError::Load(arguments.image.clone(), LoadError::MissingImports(missing)));
        }
        Err(LabError::Load(error)) => return Err(RunError::Load(arguments.image.clone(), error)),
        Err(LabError::BugCheck(ref stop)) => say(&format!("\n{}", stop.report())),
        Err(ref error) => say(&format!("\n{error}")),
        Ok(()) => {}
    }
    let (mut violations, mut total) = (lab.violations(), lab.violations_total());
    // A driver that gave up, in DriverEntry for example, has not lived through everything.
    let mut whole = ended.is_ok() && lab.bugcheck().is_none() && lab.census().is_empty();
    if whole && life.ethernet.get() && !arguments.one_adapter {
        // A bug check or a leak in it is shown there; broken rules with all others.
        let lived = second_life(arguments, &settings, &say);
        whole = lived.bugcheck.is_none() && lived.wrong.is_empty();
        total += lived.violations.len() as u64;
        violations.extend(lived.violations);
    }
    let clean = report(&violations, total, &settings.known, &say);
    Ok(clean && whole)
}

/// What one adapter cannot show: two of them on one wire, if they hear each other, with sleep, resets, traffic both
/// ways, and SAs if the driver offloads ESP.
fn second_life(arguments: &Arguments, settings: &Settings, say: &impl Fn(&str)) -> Lived {
    say("Two adapters: requests, sleep, reset, traffic, SAs");
    let mut subject = Subject::new(DriverSource::Image(arguments.image.clone()));
    subject.keywords.extend(settings.shared());
    subject.known = settings.known.clone();
    subject.probe();
    say(if subject.wire { "   they hear each other" } else { "   they do not hear each other" });
    let lived = life::live(&subject, |_| {});
    if let Some(stop) = &lived.bugcheck {
        say(&format!("\n{}", stop.report()));
    }
    // Failures are no broken rules, but worth a look.
    for failed in &lived.failed {
        say(&format!("   {failed}"));
    }
    for what in &lived.wrong {
        say(&format!("   {what}"));
    }
    lived
}

/// Shows broken rules; says whether there were none.
fn report(violations: &[Violation], total: u64, known: &KnownRules, say: &impl Fn(&str)) -> bool {
    let passed_over = known_lines(known);
    if violations.is_empty() {
        say(if passed_over.is_empty() { "\nNo rule was broken." } else { "\nNo other rule was broken." });
        for line in &passed_over {
            say(line);
        }
        return true;
    }
    say(&format!("\nRules were broken {total} times:"));
    for line in ndis_lab::rules::summary(violations) {
        say(&format!("   {line}"));
    }
    for line in &passed_over {
        say(line);
    }
    false
}

struct Life<'a, S: Fn(&str)> {
    lab: &'a Lab,
    say: &'a S,
    inf: Option<&'a Inf>,
    keywords: &'a Keywords,
    /// The driver is one for Ethernet.
    ethernet: Cell<bool>,
}

impl<S: Fn(&str)> Life<'_, S> {
    fn step(&self, text: &str) {
        (self.say)(text);
    }

    fn note(&self, text: &str) {
        (self.say)(&format!("   {text}"));
    }

    fn run(&self, path: &PathBuf) -> Result<(), LabError> {
        self.step("DriverEntry");
        let driver = self.lab.load_file(path)?;
        for line in missing_lines(&self.lab.missing_imports()) {
            self.note(&format!("missing: {line}"));
        }
        self.registered(&driver);
        for (name, links) in self.lab.device_names() {
            self.note(&format!("device {name}: {}", links.join(", ")));
        }
        self.step("Initialize");
        for (name, value) in self.keywords.iter() {
            let text = match value {
                Value::Text(text) => text.clone(),
                other => format!("{other:?}"),
            };
            self.note(&format!("{name} = {text}"));
        }
        let adapter = driver.add_adapter(AdapterConfig { keywords: self.keywords.clone() })?;
        self.attributes(&adapter);
        self.step("Requests");
        self.requests(&adapter)?;
        self.step("Restart and traffic");
        adapter.restart()?;
        self.traffic(&adapter)?;
        if adapter.reset_asked() {
            self.note("the driver asks for a reset (NdisMResetMiniport)");
            adapter.reset(0)?;
        }
        if adapter.removal_asked() {
            self.note("the driver gives the adapter up (NdisMRemoveMiniport)");
        }
        self.step("Pause, restart, pause");
        adapter.pause()?;
        adapter.restart()?;
        adapter.pause()?;
        self.step("Halt and unload");
        adapter.halt(HaltAction::DeviceStopped)?;
        driver.unload()?;
        self.note(&self.lab.census().to_string());
        Ok(())
    }

    fn registered(&self, driver: &Driver) {
        if let Some(image) = driver.image() {
            self.note(&format!(
                "image of {} bytes, {} sections, {} imports",
                image.size(),
                image.sections().len(),
                image.imports().len()
            ));
        }
        let Some(registered) = driver.registered() else { return };
        let c = registered.characteristics;
        self.note(&format!(
            "NDIS {}.{}, driver {}.{}, characteristics revision {}",
            c.MajorNdisVersion,
            c.MinorNdisVersion,
            c.MajorDriverVersion,
            c.MinorDriverVersion,
            c.Header.Revision
        ));
        let optional = [
            ("SetOptions", c.SetOptionsHandler.is_some()),
            ("CheckForHangEx", c.CheckForHangHandlerEx.is_some()),
            ("ResetEx", c.ResetHandlerEx.is_some()),
            ("DirectOidRequest", c.DirectOidRequestHandler.is_some()),
        ];
        let has: Vec<_> = optional.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        self.note(&format!("optional handlers: {has}"));
    }

    fn attributes(&self, adapter: &Adapter) {
        let attributes = adapter.attributes();
        let general = &attributes.general;
        self.ethernet.set(general.MediaType == NdisMedium802_3);
        self.note(&format!(
            "medium {} (physical {}), interface type {}, MTU {}, attribute flags {:#x}",
            general.MediaType,
            general.PhysicalMediumType,
            general.IfType,
            general.MtuSize,
            attributes.registration.flags
        ));
        let address: Vec<_> = general.current_address().iter().map(|byte| format!("{byte:02x}")).collect();
        if !address.is_empty() {
            self.note(&format!("address {}", address.join("-")));
        }
        self.note(&format!(
            "{} OIDs; offload attributes: {}",
            general.supported_oids.len(),
            if attributes.offload.is_some() { "yes" } else { "no" }
        ));
        let Some(inf) = self.inf else { return };
        let differs = |name: &str, said: Option<u32>, is: u32| {
            if said.is_some_and(|said| said != is) {
                self.note(&format!("the INF says {name} {}, the driver {is}", said.unwrap_or_default()));
            }
        };
        differs("*MediaType", inf.media_type, general.MediaType.cast_unsigned());
        differs("*PhysicalMediaType", inf.physical_media_type, general.PhysicalMediumType.cast_unsigned());
        differs("*IfType", inf.if_type, general.IfType.into());
    }

    fn requests(&self, adapter: &Adapter) -> Result<(), LabError> {
        let general = adapter.attributes().general;
        let (mut answered, mut refused) = (0, Vec::new());
        for oid in &general.supported_oids {
            adapter.oid(Oid::query(*oid, 0))?;
            let outcome = adapter.oid(Oid::query(*oid, ROOM))?;
            if outcome.is_success() {
                answered += 1;
            } else {
                refused.push(format!("{oid:#010x}"));
            }
        }
        self.note(&format!(
            "{answered} OIDs answer a query; for setting only, or refused: {}",
            refused.join(" ")
        ));
        let filter = NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;
        let filter = filter & general.SupportedPacketFilters;
        let set: OidOutcome = adapter.oid(Oid::set(OID_GEN_CURRENT_PACKET_FILTER, filter.to_le_bytes()))?;
        self.note(&format!("packet filter {filter:#x}: {:#010x}", set.status.cast_unsigned()));
        Ok(())
    }

    fn traffic(&self, adapter: &Adapter) -> Result<(), LabError> {
        let general = adapter.attributes().general;
        let length = usize::try_from(general.MtuSize.min(1500)).unwrap_or(1500);
        let frames: Vec<Vec<u8>> = if general.MediaType == NdisMedium802_3 {
            let mut header = vec![0xff; 6];
            header.extend_from_slice(general.current_address());
            header.extend_from_slice(&[0x88, 0xb5]);
            [60, 14 + length].map(|size| [header.clone(), vec![0x5a; size - 14]].concat()).into()
        } else if general.MediaType == NdisMediumIP {
            [20, length].map(ipv4).into()
        } else {
            self.note(&format!("no traffic: the lab knows no frames of medium {}", general.MediaType));
            return Ok(());
        };
        let mut lists: Vec<_> = frames.iter().map(|frame| SendNbl::frame(frame.clone())).collect();
        lists.extend(frames.iter().map(|frame| SendNbl::frame(frame.clone()).split(&[7, 9]).within(5, 3)));
        let mut statuses: BTreeMap<u32, usize> = BTreeMap::new();
        for options in [SendOptions::default(), SendOptions::dispatch()].into_iter().cycle().take(CALLS) {
            for outcome in adapter.send_with(&lists, options)?.wait(PATIENCE)? {
                *statuses.entry(outcome.status.cast_unsigned()).or_default() += 1;
            }
        }
        let text: Vec<_> =
            statuses.iter().map(|(status, count)| format!("{count} with {status:#010x}")).collect();
        self.note(&format!("sends completed: {}", text.join(", ")));
        // Frames come in only if the driver makes them up or loops them back.
        let received = match adapter.wait_received(1, GRACE) {
            Ok(frames) => frames.len(),
            Err(LabError::Timeout(_)) => 0,
            Err(error) => return Err(error),
        };
        self.note(&format!("received: {received}; {} status indications", adapter.take_statuses().len()));
        debug_assert_eq!(adapter.state(), State::Running);
        Ok(())
    }
}

/// An IPv4 packet of this length, of protocol 253 (RFC 3692).
fn ipv4(length: usize) -> Vec<u8> {
    let payload = length.saturating_sub(etherparse::Ipv4Header::MIN_LEN);
    let number = etherparse::IpNumber::EXPERIMENTAL_AND_TESTING_0;
    let size = u16::try_from(payload).unwrap_or(u16::MAX - 20);
    match etherparse::Ipv4Header::new(size, 64, number, [10, 0, 0, 1], [10, 0, 0, 2]) {
        Ok(mut header) => {
            header.header_checksum = header.calc_header_checksum();
            [header.to_bytes().as_slice(), &vec![0x5a; usize::from(size)]].concat()
        }
        Err(_) => Vec::new(),
    }
}
