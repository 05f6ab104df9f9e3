//! What a driver lives through while faults are injected: a whole life, from DriverEntry to unload, with
//! requests, power changes, a reset, and traffic under ESP and without.
//!
//! While faults are in force, anything may fail that can fail on Windows, if it fails cleanly. Then the
//! faults end, and everything has to work.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ndis_lab::rules::KnownRules;
use ndis_lab::transport::{Algorithm, Direction, KeyMaterial, OutboundSa, Receiver, TransportSa, ethernet};
use ndis_lab::{
    Adapter, AdapterConfig, BugCheck, Driver, HaltAction, Lab, LabError, Oid, PnpEvent, ReturnPolicy,
    SendNbl, SendOptions, State, Violation,
};
use ndis_sys::{
    NDIS_ENCAPSULATION_IEEE_802_3, NDIS_OID, NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED,
    NDIS_PACKET_TYPE_MULTICAST, NdisDeviceStateD0, NdisDeviceStateD3, OID_802_3_MULTICAST_LIST,
    OID_GEN_CURRENT_LOOKAHEAD, OID_GEN_CURRENT_PACKET_FILTER, OID_OFFLOAD_ENCAPSULATION, OID_PNP_SET_POWER,
};

use crate::demo::{encapsulation, indicated, offloaded};
use crate::settings::{SettingsArguments, SettingsError};
use crate::source::DriverSource;

/// How long a driver may take for anything; beyond it hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long frames are waited for that may have been lost to a fault.
const GRACE: Duration = Duration::from_millis(20);
/// Room for the answer of any query.
const ROOM: usize = 1024;
/// Addresses of the two adapters, and the IP addresses of their SAs.
const STATIONS: [([u8; 6], Ipv4Addr); 2] =
    [([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1)), ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 0, 2))];

/// Which driver, and how its adapters are set.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The driver.
    pub source: DriverSource,
    /// Keywords of its adapters, besides `NetworkAddress`.
    pub keywords: Vec<(String, String)>,
    /// Whether its adapters hear each other.
    pub wire: bool,
    /// What it is known to break.
    pub known: KnownRules,
}

impl Subject {
    /// With the keywords that make an ipsecnic offload; other drivers ignore them.
    pub fn new(source: DriverSource) -> Self {
        let keywords = [("*IPsecOffloadV2IPv4", "3"), ("SegmentId", "1"), ("SaOffloadCapacity", "64")];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { source, keywords: keywords.map(owned).into(), wire: true, known: KnownRules::default() }
    }

    /// Finds out whether two adapters hear each other; what the driver does wrong meanwhile is of no account.
    pub(crate) fn probe(&mut self) {
        self.wire = self.hears().unwrap_or(false);
    }

    fn hears(&self) -> Result<bool, LabError> {
        let lab = Lab::builder().timeout(PATIENCE).build();
        let driver = self.source.load_into(&lab)?;
        let add = |address| driver.add_adapter(self.config(address));
        let (one, two) = (add(STATIONS[0].0)?, add(STATIONS[1].0)?);
        for adapter in [&one, &two] {
            adapter.restart()?;
            adapter.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, NDIS_PACKET_TYPE_BROADCAST))?;
        }
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&STATIONS[0].0);
        frame.extend_from_slice(&[0x88, 0xb5]);
        frame.resize(60, 0x5a);
        one.send(&[SendNbl::frame(frame)])?;
        let heard = two.wait_received(1, PATIENCE / 4).is_ok();
        for adapter in [one, two] {
            adapter.pause()?;
            adapter.halt(HaltAction::DeviceStopped)?;
        }
        driver.unload()?;
        Ok(heard)
    }

    pub(crate) fn config(&self, address: [u8; 6]) -> AdapterConfig {
        let config = AdapterConfig::new().network_address(address);
        self.keywords.iter().fold(config, |config, (name, value)| config.keyword(name, value.as_str()))
    }
}

/// Arguments that name a driver and set its adapters.
#[derive(Clone, Debug, clap::Args)]
pub struct DriverArguments {
    /// The driver's image [default: the driver that is linked into this program]
    #[arg(value_name = "DRIVER.sys", conflicts_with = "native")]
    image: Option<PathBuf>,
    /// Use the driver that is linked into this program
    #[arg(long)]
    native: bool,
    #[command(flatten)]
    settings: SettingsArguments,
}

impl DriverArguments {
    /// What they name.
    ///
    /// # Errors
    /// [`SettingsError`] if there is an INF that cannot be used.
    pub fn subject(&self) -> Result<Subject, SettingsError> {
        let source = match &self.image {
            Some(path) if !self.native => DriverSource::Image(path.clone()),
            _ => DriverSource::Native,
        };
        let mut subject = Subject::new(source);
        let settings = self.settings.read()?;
        subject.keywords.extend(settings.shared());
        subject.known = settings.known;
        Ok(subject)
    }
}

/// A bar on standard error, if that is a terminal.
pub(crate) fn progress_bar(hidden: bool, what: &str) -> ProgressBar {
    use std::io::IsTerminal as _;
    let target = if hidden || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) = ProgressStyle::with_template(&format!("   {{wide_bar}} {{pos}}/{{len}} {what}")) {
        bar.set_style(style);
    }
    bar
}

/// How a life went.
#[derive(Debug, Default)]
pub struct Lived {
    /// What failed while faults were in force, in order; allowed.
    pub failed: Vec<String>,
    /// What must not happen besides broken rules: leaks, hangs, and what does not work once the faults have ended.
    pub wrong: Vec<String>,
    /// The stop that ended it.
    pub bugcheck: Option<Box<BugCheck>>,
    /// The rules that were broken.
    pub violations: Vec<Violation>,
}

impl Lived {
    /// All that must not happen, for people.
    pub fn broken(&self) -> Vec<String> {
        let bugcheck = self.bugcheck.iter().map(|bugcheck| bugcheck.report());
        let rules = ndis_lab::rules::summary(&self.violations);
        bugcheck.chain(self.wrong.iter().cloned()).chain(rules).collect()
    }
}

/// Lives a life. `arm` puts faults in force, before the driver is loaded.
pub fn live(subject: &Subject, arm: impl FnOnce(&Lab)) -> Lived {
    let lab = Lab::builder().timeout(PATIENCE).known(&subject.known).build();
    arm(&lab);
    let mut life = Life { subject, lab: &lab, lived: Lived::default(), strict: false };
    let ended = life.run();
    lab.clear_faults();
    match ended {
        Ok(()) | Err(End::Clean) => {
            let census = lab.census();
            life.lived.wrong.extend(census.grouped().iter().map(|line| format!("left over: {line}")));
        }
        Err(End::Broken(what)) => life.lived.wrong.push(what),
        Err(End::Stopped(bugcheck)) => life.lived.bugcheck = Some(bugcheck),
    }
    let mut lived = life.lived;
    lived.violations = lab.take_violations();
    lived
}

/// Why a life ended early.
enum End {
    /// The driver did not start, and said so.
    Clean,
    Broken(String),
    Stopped(Box<BugCheck>),
}

struct Life<'a> {
    subject: &'a Subject,
    lab: &'a Lab,
    lived: Lived,
    /// The faults have ended: everything has to work.
    strict: bool,
}

impl Life<'_> {
    fn run(&mut self) -> Result<(), End> {
        let driver = match self.subject.source.load_into(self.lab) {
            Ok(driver) => driver,
            Err(LabError::DriverEntry(status)) => {
                self.lived.failed.push(format!("DriverEntry returns {status:#010x}"));
                return Err(End::Clean);
            }
            Err(error) => return Err(Self::stopped(error, "DriverEntry")),
        };
        let mut adapters = [None, None];
        for (slot, (address, _)) in adapters.iter_mut().zip(STATIONS) {
            *slot = self.add(&driver, address)?;
        }
        self.exercise(&adapters)?;
        // The first adapter ends under faults, the second one after them.
        if let Some(adapter) = adapters[0].take() {
            self.end(&adapter)?;
        }
        self.lab.clear_faults();
        self.strict = true;
        for (slot, (address, _)) in adapters.iter_mut().zip(STATIONS) {
            if slot.is_none() {
                *slot = self.add(&driver, address)?;
            }
        }
        self.exercise(&adapters)?;
        for adapter in adapters.iter().flatten() {
            self.end(adapter)?;
        }
        driver.unload().map_err(|error| Self::stopped(error, "unload"))
    }

    /// The end that an error of the lab means where nothing else could be done.
    fn stopped(error: LabError, what: &str) -> End {
        match error {
            LabError::BugCheck(bugcheck) => End::Stopped(bugcheck),
            error => End::Broken(format!("{what}: {error}")),
        }
    }

    /// A failure of the driver: allowed while faults are in force.
    fn failed(&mut self, what: String) {
        if self.strict {
            self.lived.wrong.push(format!("after the faults ended: {what}"));
        } else {
            self.lived.failed.push(what);
        }
    }

    /// The value, or a note of the failure that the driver reported; hangs and stops end the life.
    fn take<T>(&mut self, result: Result<T, LabError>, what: &str) -> Result<Option<T>, End> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(LabError::NoHandler(_)) => Ok(None),
            Err(error @ (LabError::Initialize(_) | LabError::Restart(_))) => {
                self.failed(format!("{what}: {error}"));
                Ok(None)
            }
            Err(error) => Err(Self::stopped(error, what)),
        }
    }

    fn add(&mut self, driver: &Driver, address: [u8; 6]) -> Result<Option<Adapter>, End> {
        let added = driver.add_adapter(self.subject.config(address));
        self.take(added, "initialize")
    }

    fn end(&mut self, adapter: &Adapter) -> Result<(), End> {
        if adapter.state() == State::Running {
            let paused = adapter.pause();
            self.take(paused, "pause")?;
        }
        let halted = adapter.halt(HaltAction::DeviceDisabled);
        self.take(halted, "halt").map(drop)
    }

    fn set(&mut self, adapter: &Adapter, oid: NDIS_OID, bytes: &[u8], name: &str) -> Result<bool, End> {
        let Some(outcome) = self.take(adapter.oid(Oid::set(oid, bytes)), name)? else { return Ok(false) };
        if !outcome.is_success() {
            self.failed(format!("{name} ends with {:#010x}", outcome.status.cast_unsigned()));
        }
        Ok(outcome.is_success())
    }

    /// Everything that is done with adapters that run.
    fn exercise(&mut self, adapters: &[Option<Adapter>; 2]) -> Result<(), End> {
        for adapter in adapters.iter().flatten() {
            self.start(adapter)?;
            self.configure(adapter)?;
            self.query_all(adapter)?;
            self.shake(adapter)?;
            self.configure(adapter)?;
        }
        let [Some(one), Some(two)] = adapters else { return Ok(()) };
        if one.state() != State::Running || two.state() != State::Running {
            return Ok(());
        }
        two.set_return_policy(ReturnPolicy::After);
        self.plain(one, two)?;
        self.plain(two, one)?;
        let offers = |adapter: &Adapter| {
            adapter.attributes().offload.is_some_and(|offload| {
                let v2 = offload.hardware.IPsecV2;
                v2.Encapsulation & NDIS_ENCAPSULATION_IEEE_802_3 != 0 && v2.Esp != 0 && v2.Transport != 0
            })
        };
        if self.subject.wire && offers(one) && offers(two) {
            self.protected(one, two)?;
        }
        Ok(())
    }

    fn start(&mut self, adapter: &Adapter) -> Result<(), End> {
        if adapter.state() == State::Paused {
            let restarted = adapter.restart();
            self.take(restarted, "restart")?;
        }
        Ok(())
    }

    fn configure(&mut self, adapter: &Adapter) -> Result<(), End> {
        let general = adapter.attributes().general;
        let supports = |oid| general.supported_oids.contains(&oid);
        let filter = NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;
        let filter = filter & general.SupportedPacketFilters;
        if supports(OID_GEN_CURRENT_PACKET_FILTER) {
            self.set(adapter, OID_GEN_CURRENT_PACKET_FILTER, &filter.to_le_bytes(), "packet filter")?;
        }
        if supports(OID_GEN_CURRENT_LOOKAHEAD) {
            self.set(adapter, OID_GEN_CURRENT_LOOKAHEAD, &256_u32.to_le_bytes(), "lookahead")?;
        }
        if supports(OID_802_3_MULTICAST_LIST) && general.MaxMulticastListSize > 1 {
            let list = [1, 0, 0x5e, 0, 0, 1, 1, 0, 0x5e, 0, 0, 2];
            self.set(adapter, OID_802_3_MULTICAST_LIST, &list, "multicast list")?;
        }
        if adapter.attributes().offload.is_some() {
            self.set(adapter, OID_OFFLOAD_ENCAPSULATION, &encapsulation(), "offload encapsulation")?;
        }
        Ok(())
    }

    fn query_all(&mut self, adapter: &Adapter) -> Result<(), End> {
        for oid in adapter.attributes().general.supported_oids {
            // Many are for setting only; what counts is that the answer is clean.
            let answer = adapter.oid(Oid::query(oid, ROOM));
            self.take(answer, "a query")?;
        }
        Ok(())
    }

    /// A reset, a power change, an event, a pause: an adapter survives all of them.
    fn shake(&mut self, adapter: &Adapter) -> Result<(), End> {
        let reset = adapter.reset(ndis_sys::PASSIVE_LEVEL);
        if let Some(outcome) = self.take(reset, "reset")?
            && outcome.status != ndis_sys::NDIS_STATUS_SUCCESS
        {
            self.failed(format!("reset ends with {:#010x}", outcome.status.cast_unsigned()));
        }
        let told = adapter.pnp_event(&PnpEvent::PowerProfileChanged(true));
        self.take(told, "PnP event")?;
        if adapter.state() == State::Running {
            let paused = adapter.pause();
            self.take(paused, "pause")?;
        }
        if adapter.attributes().general.supported_oids.contains(&OID_PNP_SET_POWER) {
            for state in [NdisDeviceStateD3, NdisDeviceStateD0] {
                self.set(adapter, OID_PNP_SET_POWER, &state.to_le_bytes(), "power state")?;
            }
        }
        self.start(adapter)
    }

    /// Frames without offload.
    fn plain(&mut self, from: &Adapter, to: &Adapter) -> Result<(), End> {
        let mut bytes = Vec::from(to.attributes().general.current_address());
        bytes.extend_from_slice(from.attributes().general.current_address());
        bytes.extend_from_slice(&[0x88, 0xb5]);
        let frame = |length: usize| {
            let mut bytes = bytes.clone();
            bytes.resize(length, 0x5a);
            SendNbl::frame(bytes)
        };
        let mut unmapped = frame(700).split(&[100, 300]);
        unmapped.frames[0].unmapped = true;
        let lists = [frame(60), frame(1514).split(&[14, 3, 900]).within(7, 3), unmapped];
        let _ = to.take_received();
        self.send(from, &lists, SendOptions::default())?;
        self.send(from, &lists[..1], SendOptions::dispatch())?;
        self.receive(to, 4).map(drop)
    }

    fn send(&mut self, from: &Adapter, lists: &[SendNbl], options: SendOptions) -> Result<(), End> {
        let sent = from.send_with(lists, options).and_then(|sent| sent.wait(PATIENCE));
        for outcome in self.take(sent, "send")?.unwrap_or_default() {
            if !outcome.is_success() {
                self.failed(format!("a send ends with {:#010x}", outcome.status.cast_unsigned()));
            }
        }
        Ok(())
    }

    fn receive(&mut self, to: &Adapter, count: usize) -> Result<Vec<ndis_lab::Received>, End> {
        if !self.subject.wire {
            return Ok(to.take_received());
        }
        let patience = if self.strict { PATIENCE } else { GRACE };
        match to.wait_received(count, patience) {
            Ok(frames) => {
                if frames.len() != count {
                    self.failed(format!("{} frames came in where {count} were sent", frames.len()));
                }
                Ok(frames)
            }
            Err(LabError::Timeout(_)) => {
                let frames = to.take_received();
                self.failed(format!("{} of {count} frames came in", frames.len()));
                Ok(frames)
            }
            Err(error) => Err(Self::stopped(error, "receive")),
        }
    }

    /// SAs both ways, traffic under them, and their deletion.
    fn protected(&mut self, one: &Adapter, two: &Adapter) -> Result<(), End> {
        let mut handles = [Vec::new(), Vec::new()];
        for (ways, (from, to)) in [(one, two), (two, one)].into_iter().enumerate() {
            let (source, destination) = (STATIONS[ways], STATIONS[1 - ways]);
            let sa = TransportSa {
                source: source.1,
                destination: destination.1,
                spi: 0x1000 + u32::from(ways == 1),
                algorithm: Algorithm::AesGcm128,
                key: KeyMaterial::generate(Algorithm::AesGcm128, |bytes| bytes.fill(0x17)),
            };
            let added = from.add_sa_ex(&sa.parameters(Direction::Outbound));
            let Some((outcome, outbound)) = self.take(added, "ADD_SA_EX")? else { continue };
            self.added("ADD_SA_EX", outcome.status, outbound);
            let listed = to.add_sa_list(&[sa.parameters(Direction::Inbound)]);
            let Some((outcome, inbound)) = self.take(listed, "ADD_SA")? else { continue };
            let inbound = inbound.first().copied().flatten();
            self.added("ADD_SA", outcome.status, inbound);
            handles[ways].extend(outbound);
            handles[1 - ways].extend(inbound);
            let (Some(outbound), Some(_)) = (outbound, inbound) else { continue };
            self.carry(from, to, sa, outbound, (destination.0, source.0))?;
        }
        for (adapter, handles) in [one, two].into_iter().zip(handles) {
            if handles.is_empty() {
                continue;
            }
            let deleted = adapter.delete_sas(&handles);
            if let Some(outcome) = self.take(deleted, "DELETE_SA")?
                && !outcome.is_success()
            {
                self.failed(format!("DELETE_SA ends with {:#010x}", outcome.status.cast_unsigned()));
            }
        }
        Ok(())
    }

    fn added(&mut self, name: &str, status: i32, handle: Option<usize>) {
        let success = status == ndis_sys::NDIS_STATUS_SUCCESS;
        if !success {
            self.failed(format!("{name} ends with {:#010x}", status.cast_unsigned()));
        }
        if success != handle.is_some() {
            let status = status.cast_unsigned();
            self.lived.wrong.push(format!("{name} ends with {status:#010x} and OffloadHandle {handle:x?}"));
        }
    }

    fn carry(
        &mut self,
        from: &Adapter,
        to: &Adapter,
        sa: TransportSa,
        handle: usize,
        addresses: ([u8; 6], [u8; 6]),
    ) -> Result<(), End> {
        let mut receiver = Receiver::default();
        receiver.add(sa.clone());
        let mut outbound = OutboundSa::new(sa, handle, 1);
        let mut packets = Vec::new();
        let mut lists = Vec::new();
        for length in [0_u16, 1, 64, 1300] {
            let (source, destination) = (outbound.parameters.source, outbound.parameters.destination);
            let packet = udp(source, destination, length);
            let framed = match outbound.frame(&packet) {
                Ok(framed) => framed,
                Err(error) => return Err(End::Broken(format!("framing: {error}"))),
            };
            let frame = ethernet(addresses.0, addresses.1, &framed.packet);
            lists.push(offloaded(&framed, SendNbl::frame(frame).split(&[34, 7])));
            packets.push(packet);
        }
        let _ = to.take_received();
        self.send(from, &lists, SendOptions::dispatch())?;
        for frame in self.receive(to, lists.len())? {
            match receiver.receive(indicated(&frame)) {
                Ok(received) if packets.contains(&received.packet) => {}
                Ok(_) => self.lived.wrong.push("a packet came in changed".to_owned()),
                Err(fault) => self.failed(format!("an indicated packet: {fault}")),
            }
        }
        Ok(())
    }
}

/// An IPv4 packet of protocol 253 (for experiments, RFC 3692) with a payload of this length.
pub(crate) fn udp(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> Vec<u8> {
    let number = etherparse::IpNumber::EXPERIMENTAL_AND_TESTING_0;
    let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
    match etherparse::Ipv4Header::new(length, 64, number, source.octets(), destination.octets()) {
        Ok(mut header) => {
            header.header_checksum = header.calc_header_checksum();
            [header.to_bytes().as_slice(), &payload].concat()
        }
        Err(_) => Vec::new(),
    }
}
