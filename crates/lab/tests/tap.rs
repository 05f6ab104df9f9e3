//! A driver's segment on a Linux TAP device: the kernel of this machine and a host on the adapter ping each other.
//! In a network namespace of the test's own, so that nothing else on the machine hears of it.
#![cfg(target_os = "linux")]

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::bridge::Segment;
use lab::life::Subject;
use lab::source::DriverSource;
use lab::station::{Seen, Station};
use ndis_lab::wire::{Bridge, Cable, Impairments, MonitorPort, TapPort};
use socket2::{Domain, Protocol, Socket, Type};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const KERNEL: &str = "10.9.0.2";
const DEVICE: &str = "labtap0";
const PINGS: u16 = 10;

/// Runs a command, which has to succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace that goes when it is dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("lab-tap-{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
#[ignore = "needs root, /dev/net/tun and iproute2: cargo xtask test --long"]
fn the_driver_and_the_kernel_ping_each_other_over_a_tap_device() {
    let namespace = Namespace::new();
    let image = std::env::var_os("IPSECNIC_IMAGE");
    for source in [None, image.as_deref()].into_iter().take(1 + usize::from(image.is_some())) {
        // A namespace is entered as a whole process.
        let mut child = Command::new("ip");
        child.args(["netns", "exec", &namespace.0]).arg(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "within_the_namespace", "--nocapture"]);
        child.env("LAB_TAP_NAMESPACE", &namespace.0);
        match source {
            Some(image) => child.env("LAB_TAP_IMAGE", image),
            None => child.env_remove("LAB_TAP_IMAGE"),
        };
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("both pinged"), "{source:?}: {said}\n{errors}");
    }
}

/// An echo request (RFC 792), and its checksum.
fn echo_request(sequence: u8) -> Vec<u8> {
    let header = etherparse::IcmpEchoHeader { id: 0x1ab, seq: sequence.into() };
    let payload = [sequence; 56];
    let icmp = etherparse::Icmpv4Type::EchoRequest(header);
    let mut packet = etherparse::Icmpv4Header::with_checksum(icmp, &payload).to_bytes().to_vec();
    packet.extend_from_slice(&payload);
    packet
}

/// The kernel pings the host on the adapter; how many replies came.
fn kernel_pings() -> u16 {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let to = SocketAddr::from((OURS, 0)).into();
    let mut replies = 0;
    for sequence in 0..u8::try_from(PINGS).unwrap() {
        let request = echo_request(sequence);
        socket.send_to(&request, &to).unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let mut buffer = [0; 2048];
            let Ok(length) = socket.read(&mut buffer) else { continue };
            let reply = etherparse::Ipv4Slice::from_slice(&buffer[..length]).unwrap();
            let icmp = reply.payload().payload;
            // Type 0 is the reply; identifier, sequence number and payload come back as they were sent.
            if icmp.first() == Some(&0) && icmp[4..] == request[4..] {
                replies += 1;
                break;
            }
        }
    }
    replies
}

#[test]
#[ignore = "what the test above runs in its namespace"]
fn within_the_namespace() {
    if std::env::var_os("LAB_TAP_NAMESPACE").is_none() {
        return;
    }
    let image = std::env::var_os("LAB_TAP_IMAGE").map(|path| DriverSource::Image(path.into()));
    let subject = Subject::new(image.unwrap_or(DriverSource::Native));
    let (lab, driver) = subject.source.load().unwrap();
    let segment = Segment::start(&subject, &driver).unwrap();
    let mut station = Station::new(segment.station.clone(), OURS, &[]).unwrap();
    let tap = TapPort::open(DEVICE).unwrap();
    // No neighbour discovery of IPv6, which would count as frames of its own.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6"), "1");
    run("ip", &["addr", "add", &format!("{KERNEL}/24"), "dev", DEVICE]);
    run("ip", &["link", "set", DEVICE, "up"]);
    let monitor = MonitorPort(segment.monitor.clone());
    let cable = Cable::new(Impairments::default(), 1);
    let bridge = Bridge::join(Box::new(monitor), Box::new(tap), cable).unwrap();
    let ours = station.ping(KERNEL.parse().unwrap(), PINGS, Duration::from_secs(2)).unwrap();
    let theirs = std::thread::scope(|scope| {
        let pinging = scope.spawn(kernel_pings);
        while !pinging.is_finished() {
            station.serve(Duration::from_millis(50)).unwrap();
        }
        pinging.join().unwrap()
    });
    let seen = station.seen().clone();
    station.close().unwrap();
    let lost = bridge.lost();
    drop(bridge);
    segment.stop().unwrap();
    driver.unload().unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
    let all = u64::from(PINGS);
    let expected = Seen { protected: (0, 0), clear: (2 * all, 2 * all), answered: all, refused: Vec::new() };
    assert_eq!((ours, theirs, seen, lost), (PINGS, PINGS, expected, (0, None)));
    println!("both pinged");
}
