//! What a fuzzed driver is made to do, one step at a time; as JSON, a script that can be replayed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ndis_lab::fault;
use ndis_lab::ipsec_v2::{self, Algorithm, Association, Operation, SaParameters};
use ndis_lab::{
    Adapter, BugCheck, Driver, HaltAction, Lab, LabError, Oid, OidKind, PnpEvent, ReturnPolicy, SendFrame,
    SendNbl, SendOptions, State,
};
use ndis_sys::{NdisDeviceStateD0, NdisDeviceStateD3, OID_PNP_SET_POWER};
use serde::{Deserialize, Serialize};

use crate::life::Subject;

/// How long a driver may take for anything; beyond it hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Adapters of a run.
pub(super) const ADAPTERS: usize = 2;
/// More handles than this are not remembered.
const MOST_HANDLES: usize = 4096;

/// Bytes, in JSON a string of hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        bytes.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        match bytes.collect::<Option<Vec<u8>>>() {
            Some(bytes) if rest.is_empty() => Ok(Self(bytes)),
            _ => Err("an even number of hexadecimal digits is expected".into()),
        }
    }
}

/// Query, set or method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in NDIS_REQUEST_TYPE
pub enum Kind {
    Query,
    Set,
    QueryStatistics,
    Method,
}

/// An OID request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The object identifier.
    pub oid: u32,
    /// Query, set or method.
    pub kind: Kind,
    /// What goes in.
    pub input: Bytes,
    /// Bytes of room for the answer.
    pub room: usize,
    /// To `MiniportDirectOidRequest`.
    pub direct: bool,
    /// Direct requests: at DISPATCH_LEVEL.
    pub at_dispatch: bool,
    /// Bytes behind an 8-byte boundary.
    pub misalign: usize,
}

/// A frame and its layout in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// From the MAC header on.
    pub bytes: Bytes,
    /// Lengths of MDLs.
    pub split: Vec<usize>,
    /// `DataOffset`.
    pub offset: usize,
    /// Bytes behind the frame.
    pub tail: usize,
    /// Bytes behind a 16-byte boundary.
    pub misalign: usize,
    /// Has to be mapped.
    pub unmapped: bool,
}

/// What is put into out-of-band slot 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handle {
    /// None.
    Null,
    /// The n-th that the adapter gave out, deleted ones included; counted round.
    Given(usize),
    /// This number.
    Raw(usize),
}

/// A NET_BUFFER_LIST to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Its frames.
    pub frames: Vec<Frame>,
    /// Slot 1: an SA.
    pub sa: Handle,
    /// Slot 12: what ESP's trailer says.
    pub header: usize,
}

/// An algorithm with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cipher {
    /// Its identifier.
    pub id: u32,
    /// Its key.
    pub key: Bytes,
    /// `AdditionalInfo`.
    pub info: u32,
}

/// One AH or ESP header of an SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// AH instead of ESP.
    pub ah: bool,
    /// The SPI.
    pub spi: u32,
    /// High half of an extended sequence number.
    pub esn: Option<u32>,
    /// Integrity.
    pub authentication: Option<Cipher>,
    /// Encryption.
    pub encryption: Option<Cipher>,
}

/// An SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sa {
    /// Whether it is for received packets.
    pub inbound: bool,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Last bytes of source and destination.
    pub addresses: (u8, u8),
    /// `UdpEspEncapsulation`.
    pub udp_esp: u32,
    /// Its headers.
    pub headers: Vec<Header>,
}

impl Sa {
    /// As the lab describes it.
    pub fn parameters(&self) -> SaParameters {
        let address = |last: u8| {
            if self.v6 {
                IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, last.into()))
            } else {
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
            }
        };
        let cipher = |cipher: &Cipher| Algorithm {
            id: cipher.id,
            key: cipher.key.0.clone(),
            additional_info: cipher.info,
        };
        let header = |header: &Header| Association {
            operation: if header.ah { Operation::Ah } else { Operation::Esp },
            spi: header.spi,
            esn: header.esn,
            authentication: header.authentication.as_ref().map(cipher),
            encryption: header.encryption.as_ref().map(cipher),
        };
        SaParameters {
            inbound: self.inbound,
            source: address(self.addresses.0),
            destination: address(self.addresses.1),
            udp_esp: self.udp_esp,
            associations: self.headers.iter().map(header).collect(),
        }
    }
}

/// When receives go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as ReturnPolicy
pub enum Policy {
    Inside,
    After,
    Hold,
}

/// What is done, to one adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Initialises it, if it is halted.
    Add,
    /// Paused to running.
    Restart,
    /// Running to paused; held receives go back meanwhile.
    Pause,
    /// Pauses and halts it.
    Halt,
    /// Tells it that its device is gone, then halts it.
    SurpriseRemoval,
    /// Resets it, at this IRQL.
    Reset(u8),
    /// Pauses it, D3, D0, restarts it.
    Sleep,
    /// Battery or mains.
    PowerProfile(bool),
    /// Calls MiniportCheckForHangEx.
    CheckForHang,
    /// Sends a request.
    Oid(Request),
    /// Cancels requests with an identifier that none has.
    CancelOid(usize, bool),
    /// Sends lists in one call; at DISPATCH_LEVEL or not.
    Send(Vec<List>, bool),
    /// Cancels sends with this identifier.
    CancelSend(usize),
    /// Offloads an SA by ADD_SA_EX.
    AddSaEx(Sa),
    /// Offloads SAs by an ADD_SA list.
    AddSaList(Vec<Sa>),
    /// Deletes SAs by a list.
    DeleteSas(Vec<Handle>),
    /// Gives an SA a high half of its sequence number: handle, AH instead of ESP, SPI, high half.
    UpdateSa(Handle, bool, u32, u32),
    /// Chooses when receives go back.
    Policy(Policy),
    /// Returns held receives, up to so many, in reverse order or not.
    Return(usize, bool),
    /// From now on so many of 100 calls that can fail do, by chance with this seed; 0 ends it.
    Faults(u8, u64),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which adapter.
    pub adapter: usize,
    /// What is done.
    pub action: Action,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The rule that was broken; or what else: `hang`, or a bugcheck by its code.
    pub rule: String,
    /// The whole report.
    pub report: String,
    /// After which step it was seen; as many as there are for the end of the life.
    pub step: usize,
}

/// Plays a script from DriverEntry to unload.
///
/// # Errors
/// The first failure.
pub(super) fn play(subject: &Subject, steps: &[Step], count: &mut u64) -> Result<(), Failure> {
    let lab = Lab::builder().timeout(PATIENCE).known(&subject.known).build();
    let mut run =
        Run { subject, lab: &lab, driver: None, adapters: Default::default(), handles: Default::default() };
    let ended = run.all(steps, count);
    let at = match &ended {
        Ok(()) => steps.len(),
        Err((at, _)) => *at,
    };
    let failure = |rule: &str, report: String| Err(Failure { rule: rule.to_owned(), report, step: at });
    if let Some(bugcheck) = lab.bugcheck() {
        return failure(&bugcheck_name(&bugcheck), bugcheck.report());
    }
    if let Some(violation) = lab.take_violations().first() {
        return failure(violation.rule.id, violation.report());
    }
    match ended {
        Err((_, error)) => failure("hang", error.to_string()),
        Ok(()) => match lab.census() {
            census if census.is_empty() => Ok(()),
            census => failure("leak", census.lines().join("\n")),
        },
    }
}

fn bugcheck_name(bugcheck: &BugCheck) -> String {
    format!("bugcheck {:#x}", bugcheck.code)
}

struct Run<'a> {
    subject: &'a Subject,
    lab: &'a Lab,
    driver: Option<Driver>,
    adapters: [Option<Adapter>; ADAPTERS],
    /// Every handle that an adapter gave out.
    handles: [Vec<usize>; ADAPTERS],
}

impl Run<'_> {
    fn all(&mut self, steps: &[Step], count: &mut u64) -> Result<(), (usize, LabError)> {
        let driver = self.subject.source.load_into(self.lab).map_err(|error| (0, error))?;
        self.driver = Some(driver);
        for (at, step) in steps.iter().enumerate() {
            *count += 1;
            allowed(self.step(step.adapter % ADAPTERS, &step.action)).map_err(|error| (at, error))?;
            if self.lab.violations_total() > 0 {
                return Ok(());
            }
        }
        self.lab.clear_faults();
        for adapter in 0..ADAPTERS {
            allowed(self.halt(adapter)).map_err(|error| (steps.len(), error))?;
        }
        self.driver.take().map_or(Ok(()), Driver::unload).map_err(|error| (steps.len(), error))
    }

    fn step(&mut self, index: usize, action: &Action) -> Result<(), LabError> {
        match action {
            Action::Add => return self.add(index),
            Action::Faults(0, _) => self.lab.clear_faults(),
            Action::Faults(percent, seed) => drop(fault::random(self.lab, *seed, *percent)),
            _ => {}
        }
        let Some(adapter) = self.adapters[index].clone() else { return Ok(()) };
        match action {
            Action::Add | Action::Faults(..) => {}
            Action::Restart => start(&adapter)?,
            Action::Pause => pause(&adapter)?,
            Action::Halt => self.halt(index)?,
            Action::SurpriseRemoval => {
                adapter.pnp_event(&PnpEvent::SurpriseRemoved)?;
                self.halt(index)?;
            }
            Action::Reset(irql) => drop(adapter.reset(*irql)?),
            Action::Sleep => {
                pause(&adapter)?;
                for state in [NdisDeviceStateD3, NdisDeviceStateD0] {
                    adapter.oid(Oid::set(OID_PNP_SET_POWER, state.to_le_bytes()))?;
                }
                start(&adapter)?;
            }
            Action::PowerProfile(mains) => adapter.pnp_event(&PnpEvent::PowerProfileChanged(*mains))?,
            Action::CheckForHang => drop(adapter.check_for_hang()?),
            Action::Oid(request) => drop(adapter.oid(request.oid())?),
            Action::CancelOid(id, direct) => adapter.cancel_oid(*id, *direct)?,
            Action::Send(lists, dispatch) => {
                let lists: Vec<_> = lists.iter().map(|list| self.list(index, list)).collect();
                let options = if *dispatch { SendOptions::dispatch() } else { SendOptions::default() };
                adapter.send_with(&lists, options)?.wait(PATIENCE)?;
            }
            Action::CancelSend(id) => adapter.cancel_send(*id)?,
            Action::AddSaEx(sa) => {
                let (_, handle) = adapter.add_sa_ex(&sa.parameters())?;
                self.remember(index, handle);
            }
            Action::AddSaList(sas) => {
                let sas: Vec<_> = sas.iter().map(Sa::parameters).collect();
                for handle in adapter.add_sa_list(&sas)?.1 {
                    self.remember(index, handle);
                }
            }
            Action::DeleteSas(handles) => {
                let handles: Vec<_> = handles.iter().map(|handle| self.handle(index, *handle)).collect();
                adapter.delete_sas(&handles)?;
            }
            Action::UpdateSa(handle, ah, spi, high) => {
                let operation = if *ah { Operation::Ah } else { Operation::Esp };
                let handle = self.handle(index, *handle);
                adapter.oid(ipsec_v2::update_sa(handle, operation, *spi, *high))?;
            }
            Action::Policy(policy) => adapter.set_return_policy(match policy {
                Policy::Inside => ReturnPolicy::Inside,
                Policy::After => ReturnPolicy::After,
                Policy::Hold => ReturnPolicy::Hold,
            }),
            Action::Return(most, reverse) => {
                adapter.return_held_with(*most, *reverse, |lists| {
                    if *reverse {
                        lists.reverse();
                    }
                })?;
            }
        }
        let _ = adapter.take_received();
        Ok(())
    }

    fn add(&mut self, index: usize) -> Result<(), LabError> {
        let (None, Some(driver)) = (&self.adapters[index], &self.driver) else { return Ok(()) };
        let last = u8::try_from(index).unwrap_or(0) + 1;
        self.handles[index].clear();
        self.adapters[index] = Some(driver.add_adapter(self.subject.config([2, 0, 0, 0, 0, last]))?);
        Ok(())
    }

    fn halt(&mut self, index: usize) -> Result<(), LabError> {
        let Some(adapter) = self.adapters[index].take() else { return Ok(()) };
        pause(&adapter)?;
        adapter.return_held()?;
        adapter.halt(HaltAction::DeviceDisabled)
    }

    fn remember(&mut self, index: usize, handle: Option<usize>) {
        if self.handles[index].len() < MOST_HANDLES {
            self.handles[index].extend(handle);
        }
    }

    fn handle(&self, index: usize, handle: Handle) -> usize {
        match handle {
            Handle::Null => 0,
            Handle::Raw(number) => number,
            Handle::Given(number) => {
                let given = &self.handles[index];
                given.get(number.checked_rem(given.len()).unwrap_or(0)).copied().unwrap_or(0)
            }
        }
    }

    fn list(&self, index: usize, list: &List) -> SendNbl {
        let frame = |frame: &Frame| SendFrame {
            bytes: frame.bytes.0.clone(),
            split: frame.split.clone(),
            data_offset: frame.offset,
            tail: frame.tail,
            misalign: frame.misalign,
            unmapped: frame.unmapped,
        };
        SendNbl::frames(list.frames.iter().map(frame))
            .oob(ndis_sys::IPsecOffloadV2NetBufferListInfo, self.handle(index, list.sa))
            .oob(ndis_sys::IPsecOffloadV2HeaderNetBufferListInfo, list.header)
    }
}

impl Request {
    fn oid(&self) -> Oid {
        let mut oid = match self.kind {
            Kind::Query | Kind::QueryStatistics => Oid::query(self.oid, self.room),
            Kind::Set => Oid::set(self.oid, self.input.0.clone()),
            Kind::Method => Oid::method(self.oid, self.input.0.clone(), self.room),
        };
        if self.kind == Kind::QueryStatistics {
            oid.kind = OidKind::QueryStatistics;
        }
        oid.direct = self.direct;
        oid.at_dispatch = self.direct && self.at_dispatch;
        oid.misaligned(self.misalign)
    }
}

/// Restarts an adapter that is paused.
fn start(adapter: &Adapter) -> Result<(), LabError> {
    if adapter.state() == State::Paused { adapter.restart() } else { Ok(()) }
}

/// Pauses an adapter that runs; what was held goes back, as a protocol does when it is asked to.
fn pause(adapter: &Adapter) -> Result<(), LabError> {
    if adapter.state() != State::Running {
        return Ok(());
    }
    if !adapter.pause_with(ndis_lab::PauseReason::Internal)? {
        adapter.return_held()?;
        adapter.pause_wait(PATIENCE)?;
    }
    Ok(())
}

/// What a driver may refuse, and what NDIS does not do, is no failure.
fn allowed(result: Result<(), LabError>) -> Result<(), LabError> {
    match result {
        Err(
            LabError::Initialize(_)
            | LabError::Restart(_)
            | LabError::State { .. }
            | LabError::NoHandler(_)
            | LabError::Invalid(_),
        ) => Ok(()),
        other => other,
    }
}
