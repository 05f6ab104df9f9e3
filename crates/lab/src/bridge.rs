//! `lab bridge`: a driver's Ethernet segment is joined to a UNIX datagram socket (QEMU, or any program) or to a
//! Linux TAP device, by a cable that may be bad. A small IPv4 host on an adapter answers, under ESP if it has SAs.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ndis_lab::Lab;
use ndis_lab::wire::{Bridge, Cable, Impairments, MonitorPort, Port, SocketPort};
use ndis_lab::{Adapter, Driver, HaltAction, LabError, Oid};
use ndis_sys::{NDIS_PACKET_TYPE_PROMISCUOUS, OID_GEN_CURRENT_PACKET_FILTER};

use crate::life::{DriverArguments, Subject};
use crate::sa::SaArgument;
use crate::source::SourceError;
use crate::station::{Station, StationError};

/// Locally administered addresses of the station and the monitor port.
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MONITOR: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// How long one echo reply is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `lab bridge`.
#[derive(Debug, clap::Args)]
#[group(id = "outside", required = true, multiple = false, args = ["socket", "tap"])]
pub struct Arguments {
    #[command(flatten)]
    driver: DriverArguments,
    /// Bind this UNIX datagram socket: what is sent to it comes in, one frame a datagram
    #[arg(long, value_name = "PATH", requires = "peer")]
    socket: Option<PathBuf>,
    /// Send frames to this UNIX datagram socket
    #[arg(long, value_name = "PATH", requires = "socket")]
    peer: Option<PathBuf>,
    /// Use this Linux TAP device; `ip link set NAME up` brings it up
    #[arg(long, value_name = "NAME")]
    tap: Option<String>,
    /// IPv4 address of the host on the adapter
    #[arg(long, value_name = "ADDRESS", default_value = "10.9.0.1")]
    ip: Ipv4Addr,
    /// An SA of the host: in or out, SPI, AES-GCM key with salt in hexadecimal, address of the other end
    #[arg(long, value_name = "in|out:SPI:KEY:PEER")]
    sa: Vec<SaArgument>,
    /// Send echo requests there
    #[arg(long, value_name = "ADDRESS")]
    ping: Option<Ipv4Addr>,
    /// So many
    #[arg(long, value_name = "N", default_value_t = 4, requires = "ping")]
    count: u16,
    /// Serve for so long, before the echo requests [default: with --ping not at all, without it for ever]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    #[command(flatten)]
    cable: CableArguments,
}

/// What the cable does.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CableArguments {
    /// Frames of 100 that are lost
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    drop: f64,
    /// Frames of 100 that come twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    duplicate: f64,
    /// Frames of 100 that others overtake
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    reorder: f64,
    /// Frames of 100 of which one bit is flipped
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    corrupt: f64,
    /// Delay of every frame
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Further delay, by chance, up to this
    #[arg(long, value_name = "MS", default_value_t = 0)]
    jitter: u64,
    /// Seed of all of this
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("0 to 100 is expected".into()),
    }
}

impl CableArguments {
    /// The cable.
    pub fn cable(&self) -> Cable {
        // At most a million: in range, without sign.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let parts = |percent: f64| (percent * 10_000.0) as u32;
        let delay = Duration::from_millis(self.delay);
        let impairments = Impairments {
            delay,
            jitter: Duration::from_millis(self.jitter),
            drop: parts(self.drop),
            duplicate: parts(self.duplicate),
            reorder: parts(self.reorder),
            hold: delay.max(Duration::from_millis(20)),
            corrupt: parts(self.corrupt),
        };
        Cable::new(impairments, self.seed)
    }
}

/// Why a bridge could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The driver cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The port to the outside cannot be opened.
    #[error("{0}: {1}")]
    Outside(String, std::io::Error),
    /// An adapter does not start.
    #[error("the adapters do not start: {0}")]
    Start(LabError),
    /// The host does not start.
    #[error("{0}")]
    Station(StationError),
}

/// Two adapters on the segment that is bridged.
pub struct Segment {
    /// The one that a host uses.
    pub station: Adapter,
    /// The one that hears and says everything.
    pub monitor: Adapter,
}

impl Segment {
    /// Starts them.
    ///
    /// # Errors
    /// What the lab says.
    pub fn start(subject: &Subject, driver: &Driver) -> Result<Self, LabError> {
        let add = |address| {
            let adapter = driver.add_adapter(subject.config(address))?;
            adapter.restart()?;
            Ok::<_, LabError>(adapter)
        };
        let (station, monitor) = (add(STATION)?, add(MONITOR)?);
        monitor.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, NDIS_PACKET_TYPE_PROMISCUOUS))?;
        Ok(Self { station, monitor })
    }

    /// Ends them.
    ///
    /// # Errors
    /// What the lab says.
    pub fn stop(self) -> Result<(), LabError> {
        for adapter in [self.station, self.monitor] {
            adapter.pause()?;
            adapter.halt(HaltAction::DeviceStopped)?;
        }
        Ok(())
    }
}

/// Runs `lab bridge`: whether all echo requests were answered and no rule was broken.
///
/// # Errors
/// [`BridgeError`] if it could not be tried.
pub fn command(arguments: &Arguments, mut say: impl FnMut(&str)) -> Result<bool, BridgeError> {
    let outside = outside(arguments)?;
    let subject = arguments.driver.subject().map_err(SourceError::from)?;
    let (lab, driver) = subject.source.load_on(Lab::builder().known(&subject.known).build())?;
    let segment = Segment::start(&subject, &driver).map_err(BridgeError::Start)?;
    let mut station =
        Station::new(segment.station.clone(), arguments.ip, &arguments.sa).map_err(BridgeError::Station)?;
    let monitor = Box::new(MonitorPort(segment.monitor.clone()));
    let bridge = Bridge::join(monitor, outside, arguments.cable.cable())
        .map_err(|error| BridgeError::Outside("the bridge".into(), error))?;
    let mac = STATION.map(|byte| format!("{byte:02x}")).join(":");
    say(&format!("{} is at {mac}; {} SAs", arguments.ip, arguments.sa.len()));

    let mut held = true;
    let mut judge = |result: Result<(), String>| {
        if let Err(what) = result {
            say(&format!("FAILED: {what}"));
            held = false;
        }
    };
    judge(serve(&mut station, arguments));
    station_says(&station);
    judge(station.close().map_err(|error| error.to_string()));
    let (tally, lost) = (bridge.tally(), bridge.lost());
    drop(bridge);
    judge(segment.stop().and_then(|()| driver.unload()).map_err(|error| error.to_string()));
    let violations: Vec<_> = lab.take_violations().iter().map(ToString::to_string).collect();
    judge(if violations.is_empty() { Ok(()) } else { Err(violations.join("\n")) });
    say(&format!(
        "cable: {} frames, {} lost, {} twice, {} overtaken, {} damaged",
        tally.frames, tally.dropped, tally.duplicated, tally.reordered, tally.corrupted
    ));
    if let (frames @ 1.., Some(error)) = lost {
        say(&format!("{frames} frames did not get out; the last one: {error}"));
    }
    Ok(held)
}

fn outside(arguments: &Arguments) -> Result<Box<dyn Port>, BridgeError> {
    if let (Some(own), Some(peer)) = (&arguments.socket, &arguments.peer) {
        let port = SocketPort::bind(own, peer);
        return match port {
            Ok(port) => Ok(Box::new(port)),
            Err(error) => Err(BridgeError::Outside(own.display().to_string(), error)),
        };
    }
    let name = arguments.tap.clone().unwrap_or_default();
    tap(&name).map_err(|error| BridgeError::Outside(format!("TAP device {name}"), error))
}

#[cfg(target_os = "linux")]
fn tap(name: &str) -> std::io::Result<Box<dyn Port>> {
    Ok(Box::new(ndis_lab::wire::TapPort::open(name)?))
}

#[cfg(not(target_os = "linux"))]
fn tap(_: &str) -> std::io::Result<Box<dyn Port>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn serve(station: &mut Station, arguments: &Arguments) -> Result<(), String> {
    let text = |error: StationError| error.to_string();
    match (arguments.seconds, arguments.ping) {
        (Some(seconds), _) => station.serve(Duration::from_secs(seconds)).map_err(text)?,
        (None, Some(_)) => {}
        (None, None) => loop {
            station.serve(Duration::from_mins(1)).map_err(text)?;
        },
    }
    let Some(to) = arguments.ping else { return Ok(()) };
    let came = station.ping(to, arguments.count, PATIENCE).map_err(text)?;
    if came == arguments.count {
        Ok(())
    } else {
        Err(format!("{came} of {} echo replies came", arguments.count))
    }
}

/// What the host saw. That it refused an ESP packet may be the cable's doing.
fn station_says(station: &Station) {
    let seen = station.seen();
    eprintln!(
        "under ESP: {} sent, {} received; in clear: {} sent, {} received; {} echo requests answered",
        seen.protected.0, seen.protected.1, seen.clear.0, seen.clear.1, seen.answered
    );
    for refused in seen.refused.iter().take(5) {
        eprintln!("not taken: {refused}");
    }
}
