//! The driver and the Linux kernel's own IPsec ping each other under ESP, live.
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use lab::bridge::Segment;
use lab::life::Subject;
use lab::sa::SaArgument;
use lab::source::DriverSource;
use lab::station::{Seen, Station};
use ndis_lab::wire::{Bridge, Cable, Impairments, MonitorPort, SocketPort};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PINGS: u16 = 10;

/// The kernel, and its shell.
struct Peer {
    qemu: Child,
    run: PathBuf,
    shell: BufReader<UnixStream>,
}

impl Peer {
    fn boot() -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/linux");
        let assets = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linux-peer");
        if !assets.join("initramfs.gz").is_file() {
            let made = Command::new(scripts.join("assets.sh")).arg(&assets).status().unwrap();
            assert!(made.success(), "the peer's kernel could not be had: {made}");
        }
        // Short: a path of a UNIX socket has room for 107 bytes.
        let run = std::env::temp_dir().join(format!("peer-{}", std::process::id()));
        let mut qemu = Command::new(scripts.join("boot.sh")).args([&assets, &run]).spawn().unwrap();
        // QEMU may have to be installed first.
        let deadline = Instant::now() + Duration::from_mins(3);
        let stream = loop {
            match UnixStream::connect(run.join("ctl.sock")) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "QEMU does not start: {error}"),
            }
            assert!(qemu.try_wait().unwrap().is_none(), "QEMU ended");
            std::thread::sleep(Duration::from_millis(50));
        };
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut peer = Self { qemu, run, shell: BufReader::new(stream) };
        // What is said before the shell is there is lost.
        let mut line = String::new();
        while !line.contains("@@ready") {
            line.clear();
            assert_ne!(peer.shell.read_line(&mut line).expect("the kernel boots within a minute"), 0);
        }
        peer.shell("ip addr add 10.9.0.2/24 dev eth0");
        peer
    }

    /// Runs a command, which has to succeed.
    fn shell(&mut self, command: &str) -> String {
        let stream = self.shell.get_mut();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut output = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.shell.read_line(&mut line).unwrap(), 0, "the peer is gone; {command}: {output}");
            match line.trim().strip_prefix("@@rc=") {
                Some("0") => return output,
                Some(status) => panic!("{command} ended with {status}: {output}"),
                None => output.push_str(&line),
            }
        }
    }

    /// Errors that the kernel counted.
    fn errors(&mut self) -> Vec<String> {
        let all = self.shell("cat /proc/net/xfrm_stat");
        all.lines().filter(|line| line.split_whitespace().last() != Some("0")).map(str::to_owned).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = std::fs::remove_dir_all(&self.run);
    }
}

/// Pings both ways under fresh SAs; what our host saw, and replies that came to it and to the kernel.
fn ping(
    peer: &mut Peer,
    source: DriverSource,
    spi: u32,
    keys: [&str; 2],
    cable: Cable,
) -> (Seen, u16, String) {
    let (out, back) = (spi, spi + 1);
    peer.shell("ip xfrm state flush; ip xfrm policy flush");
    for (from, to, spi, key) in [(OURS, THEIRS, out, keys[0]), (THEIRS, OURS, back, keys[1])] {
        let direction = if from == OURS { "in" } else { "out" };
        peer.shell(&format!(
            "ip xfrm state add src {from} dst {to} proto esp spi {spi} mode transport reqid 1 \
             aead 'rfc4106(gcm(aes))' 0x{key} 128 replay-window 32"
        ));
        peer.shell(&format!(
            "ip xfrm policy add src {from}/32 dst {to}/32 dir {direction} \
             tmpl src {from} dst {to} proto esp reqid 1 mode transport"
        ));
    }
    let sas: [SaArgument; 2] =
        [format!("out:{out}:{}:{THEIRS}", keys[0]), format!("in:{back}:{}:{THEIRS}", keys[1])]
            .map(|text| text.parse().unwrap());
    let subject = Subject::new(source);
    let (lab, driver) = subject.source.load().unwrap();
    let segment = Segment::start(&subject, &driver).unwrap();
    let mut station = Station::new(segment.station.clone(), OURS, &sas).unwrap();
    let socket = SocketPort::bind(&peer.run.join("host.sock"), &peer.run.join("guest.sock")).unwrap();
    let monitor = MonitorPort(segment.monitor.clone());
    let bridge = Bridge::join(Box::new(monitor), Box::new(socket), cable).unwrap();
    let ours = station.ping(THEIRS, PINGS, Duration::from_secs(2)).unwrap();
    let theirs = std::thread::scope(|scope| {
        let command = format!("ping -c {PINGS} -i 0.2 -W 2 {OURS} || true");
        let pinging = scope.spawn(move || peer.shell(&command));
        while !pinging.is_finished() {
            station.serve(Duration::from_millis(50)).unwrap();
        }
        pinging.join().unwrap()
    });
    let seen = station.seen().clone();
    station.close().unwrap();
    drop(bridge);
    segment.stop().unwrap();
    driver.unload().unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
    (seen, ours, theirs)
}

#[test]
#[ignore = "boots a kernel in QEMU, about a minute: cargo xtask test --long"]
fn the_driver_and_the_linux_kernel_ping_each_other_under_esp() {
    let mut peer = Peer::boot();
    let image = std::env::var_os("IPSECNIC_IMAGE").map(|path| DriverSource::Image(path.into()));
    let (short, long) = ("11".repeat(16) + "aabbccdd", "22".repeat(32) + "01020304");
    for (number, source) in (0..).zip([Some(DriverSource::Native), image].into_iter().flatten()) {
        let spi = 0x1000 + 0x10 * number;
        let good = Cable::new(Impairments::default(), 1);
        let (seen, ours, theirs) = ping(&mut peer, source.clone(), spi, [&short, &long], good);
        let all = u64::from(PINGS);
        let expected =
            Seen { protected: (2 * all, 2 * all), clear: (0, 0), answered: all, refused: Vec::new() };
        assert_eq!((seen, ours), (expected, PINGS), "{source}: {theirs}");
        assert!(theirs.contains(&format!("{PINGS} packets received")), "{source}: {theirs}");
        assert_eq!(peer.errors(), Vec::<String>::new(), "{source}");
    }
    // A bad cable: what is damaged is refused by one side or the other, and never taken for good.
    let bad = Impairments { corrupt: 300_000, ..Impairments::default() };
    let (seen, ours, theirs) =
        ping(&mut peer, DriverSource::Native, 0x1100, [&long, &short], Cable::new(bad, 3));
    let lost = u64::from(PINGS - ours);
    assert!(lost > 0 && seen.protected.1 < 2 * u64::from(PINGS), "{seen:?}, {theirs}");
}
