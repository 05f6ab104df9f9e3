//! The lab hosts a miniport that nobody here wrote, unmodified: `wintun.sys`, signed and in use on
//! millions of machines. What it does besides the documentation is listed in [`EXPECTED`], and
//! explained in `docs/hosting.md`; anything else fails a test.
//!
//! The driver is a tunnel: IP packets that NDIS sends come out of a ring of memory that a program
//! shares with it, and those that the program puts into another ring are indicated. The layout of the
//! rings is its public interface (`wintun.h` and the sources of the library that goes with it).

mod registry;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ndis_lab::device::{DeviceFile, PnpRequest, Process, Token, UserEvent, UserMemory};
use ndis_lab::inf::Inf;
use ndis_lab::{
    Adapter, AdapterConfig, Driver, HaltAction, Lab, LabError, Oid, ReturnPolicy, SendNbl, SendOptions,
    State, Violation,
};

/// Rules that this driver breaks, by identifier, with a part of the detail and of the place.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("attribute-content", "NDIS_MAC_OPTION_8021P_PRIORITY", "MiniportInitializeEx"),
    ("resource-apc", "outside of a critical region", "MiniportHaltEx"),
    ("resource-apc", "outside of a critical region", "IRP_MJ_PNP"),
    ("send-status", "0xc023001f", "MiniportSendNetBufferLists"),
    ("send-status", "0x80000005", "MiniportSendNetBufferLists"),
    ("lock-held-in-call", "while sends are completed", "MiniportSendNetBufferLists"),
    ("lock-held-in-call", "while receives are indicated", "KSTART_ROUTINE"),
];

/// `CTL_CODE(51820, 0x970, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA)`
const REGISTER_RINGS: u32 = 51820 << 16 | 3 << 14 | 0x970 << 2;
const CAPACITY: usize = 0x2_0000;
/// Head, tail and alertable, before the data.
const HEADER: usize = 12;
/// Room behind the capacity, so that no packet wraps.
const TRAILER: usize = 4 + 0xffff + 1 - 4;
const RING: usize = HEADER + CAPACITY + TRAILER;
const GONE: u32 = u32::MAX;
const PATIENCE: Duration = Duration::from_secs(5);

fn matches(violation: &Violation, (rule, detail, handler): (&str, &str, &str)) -> bool {
    violation.rule.id == rule && violation.detail.contains(detail) && violation.handler == Some(handler)
}

/// Nothing but what is expected, and of that what these handlers do.
#[track_caller]
fn assert_understood(lab: &Lab, handlers: &[&str]) {
    let violations = lab.violations();
    let unknown = violations.iter().filter(|one| !EXPECTED.iter().any(|expected| matches(one, *expected)));
    let lines: Vec<_> = unknown.map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    for expected in EXPECTED.iter().filter(|(_, _, handler)| handlers.contains(handler)) {
        assert!(
            violations.iter().any(|one| matches(one, *expected)),
            "{expected:?} does not happen any more"
        );
    }
}

fn start(lab: &Lab) -> (Driver, Adapter) {
    let package = registry::wintun();
    let inf = Inf::parse(&package.inf).unwrap();
    assert_eq!(inf.service.as_deref(), Some("wintun"));
    let driver = lab.load_image(&package.image, "wintun").unwrap();
    let adapter = driver.add_adapter(AdapterConfig { keywords: inf.keywords }).unwrap();
    let general = adapter.attributes().general;
    let media = |value: i32| u32::try_from(value).ok();
    assert_eq!(
        (media(general.MediaType), media(general.PhysicalMediumType)),
        (inf.media_type, inf.physical_media_type)
    );
    assert_eq!(Some(u32::from(general.IfType)), inf.if_type);
    (driver, adapter)
}

/// One ring, as its user sees it.
struct Ring<'a> {
    memory: &'a UserMemory,
    start: usize,
    /// The user's own index: head of the ring that it reads, tail of the one that it writes.
    at: usize,
}

impl Ring<'_> {
    fn head(&self) -> &std::sync::atomic::AtomicU32 {
        self.memory.atomic(self.start)
    }

    fn tail(&self) -> &std::sync::atomic::AtomicU32 {
        self.memory.atomic(self.start + 4)
    }

    fn data(&self) -> usize {
        self.start + HEADER
    }

    /// Takes the next packet.
    fn take(&mut self) -> Option<Vec<u8>> {
        // Acquire: the packet was written before the tail moved.
        let tail = self.tail().load(Ordering::Acquire) as usize;
        if tail == self.at || tail >= CAPACITY {
            return None;
        }
        let size =
            self.memory.read(self.data() + self.at, 4).try_into().map(u32::from_le_bytes).unwrap() as usize;
        let packet = self.memory.read(self.data() + self.at + 4, size);
        self.at = (self.at + (size + 4).next_multiple_of(4)) % CAPACITY;
        // Release: the packet was read before the space is free.
        self.head().store(u32::try_from(self.at).unwrap(), Ordering::Release);
        Some(packet)
    }

    /// Puts a packet in, and wakes the driver if it sleeps.
    fn put(&mut self, packet: &[u8], moved: &UserEvent) {
        let size = u32::try_from(packet.len()).unwrap();
        self.memory.write(self.data() + self.at, &size.to_le_bytes());
        self.memory.write(self.data() + self.at + 4, packet);
        self.at = (self.at + (packet.len() + 4).next_multiple_of(4)) % CAPACITY;
        // Sequentially consistent: the driver sets `Alertable` and then looks at the tail; one of the
        // two sees the other.
        self.tail().store(u32::try_from(self.at).unwrap(), Ordering::SeqCst);
        if self.memory.atomic(self.start + 8).load(Ordering::SeqCst) != 0 {
            moved.set();
        }
    }
}

/// A program that uses the tunnel.
struct Session {
    file: DeviceFile,
    memory: UserMemory,
    send_moved: UserEvent,
    receive_moved: UserEvent,
}

fn descriptor(memory: usize, sizes: [usize; 2], events: [usize; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        bytes.extend_from_slice(&(size as u64).to_le_bytes());
        bytes.extend_from_slice(&((memory + index * RING.next_multiple_of(4)) as u64).to_le_bytes());
        bytes.extend_from_slice(&(events[index] as u64).to_le_bytes());
    }
    bytes
}

impl Session {
    fn open(process: &Process, adapter: &Adapter) -> Self {
        let memory = process.allocate(2 * RING.next_multiple_of(4)).unwrap();
        let (send_moved, receive_moved) =
            (process.create_event(true).unwrap(), process.create_event(true).unwrap());
        let file = process.open(adapter).unwrap();
        let request = descriptor(memory.address(), [RING; 2], [send_moved.handle(), receive_moved.handle()]);
        let outcome = file.control(REGISTER_RINGS, &request, 0).unwrap();
        assert_eq!(outcome.status, 0, "{:#x}", outcome.status);
        Self { file, memory, send_moved, receive_moved }
    }

    /// What NDIS sends comes out here.
    fn outbound(&self) -> Ring<'_> {
        Ring { memory: &self.memory, start: 0, at: 0 }
    }

    /// What is put in here is indicated.
    fn inbound(&self) -> Ring<'_> {
        Ring { memory: &self.memory, start: RING.next_multiple_of(4), at: 0 }
    }
}

/// An IPv4 packet of protocol 253 (RFC 3692) with `payload` bytes that depend on `seed`.
fn ipv4(seed: u8, payload: usize) -> Vec<u8> {
    let length = u16::try_from(20 + payload).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend((0..payload).map(|at| at.to_le_bytes()[0] ^ seed));
    packet
}

fn ipv6(seed: u8, payload: usize) -> Vec<u8> {
    let length = u16::try_from(payload).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 253, 64];
    packet.extend([0xfd; 32]);
    packet.extend((0..payload).map(|at| at.to_le_bytes()[0] ^ seed));
    packet
}

fn end(lab: &Lab, driver: Driver, adapter: &Adapter) {
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    driver.unload().unwrap();
    assert!(lab.census().is_empty(), "{:#?}", lab.census().lines());
}

#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn the_driver_starts_answers_and_goes_away() {
    let lab = Lab::new();
    for _ in 0..2 {
        let (driver, adapter) = start(&lab);
        let registered = driver.registered().unwrap();
        // The newest NDIS that both it and the lab know.
        assert!(
            (0x0006_0050..=0x0006_0059).contains(&registered.ndis_version),
            "{:#x}",
            registered.ndis_version
        );
        assert_eq!(registered.characteristics.Header.Revision, 3);
        let general = adapter.attributes().general;
        assert_eq!((general.MediaType, general.MtuSize), (ndis_sys::NdisMediumIP, 0xffff));
        assert_eq!(adapter.state(), State::Paused);
        for oid in &general.supported_oids {
            for length in [0, 1, 3, 4, 7, 8, 152, 256] {
                adapter.oid(Oid::query(*oid, length)).unwrap();
            }
        }
        let description = adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_DESCRIPTION, 64)).unwrap();
        assert_eq!(&description.buffer[..description.bytes_written as usize], b"Wintun Tunnel\0");
        let set = Oid::set(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, 1_u32.to_le_bytes());
        assert!(adapter.oid(set).unwrap().is_success());
        adapter.restart().unwrap();
        adapter.pause().unwrap();
        adapter.restart().unwrap();
        adapter.pause().unwrap();
        end(&lab, driver, &adapter);
    }
    assert_understood(&lab, &["MiniportInitializeEx", "MiniportHaltEx"]);
}

#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn packets_travel_both_ways() {
    travel(&Lab::new());
}

/// Each block on pages of its own, taken away when the driver gives it back.
#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
#[cfg(target_os = "linux")]
fn packets_travel_both_ways_between_guard_pages() {
    travel(&Lab::builder().guard_pages(true).build());
}

fn travel(lab: &Lab) {
    let (driver, adapter) = start(lab);
    adapter.restart().unwrap();
    let process = lab.process("tunnel.exe", Token::administrator()).unwrap();
    let session = Session::open(&process, &adapter);
    let states = adapter.take_statuses();
    assert!(states.iter().any(|status| status.code == ndis_sys::NDIS_STATUS_LINK_STATE), "{states:?}");

    let mut outbound = session.outbound();
    let packets: Vec<_> = (0..100_u8)
        .map(|n| if n % 2 == 0 { ipv4(n, 13 * usize::from(n)) } else { ipv6(n, usize::from(n)) })
        .collect();
    for (index, packet) in packets.iter().enumerate() {
        let list = SendNbl::frame(packet.clone()).split(&[7, 20]).within(3, 5);
        let options = if index % 3 == 0 { SendOptions::dispatch() } else { SendOptions::default() };
        let outcomes = adapter.send_with(&[list], options).unwrap().wait(PATIENCE).unwrap();
        assert!(outcomes[0].is_success(), "{outcomes:?}");
        assert_eq!(outbound.take().as_ref(), Some(packet), "{index}");
    }
    assert!(session.send_moved.wait(PATIENCE));
    // Two lists at once, and then nothing more.
    let both: Vec<_> = packets[..2].iter().map(|packet| SendNbl::frame(packet.clone())).collect();
    adapter.send(&both).unwrap();
    assert_eq!(
        [outbound.take(), outbound.take(), outbound.take()],
        [Some(packets[0].clone()), Some(packets[1].clone()), None]
    );

    // Nobody takes anything out: three packets of this length are more than the ring holds.
    let long = || SendNbl::frame(ipv4(7, 60_000));
    let statuses: Vec<_> = (0..3).map(|_| adapter.send(&[long()]).unwrap()[0].status).collect();
    assert_eq!(statuses, [0, 0, ndis_sys::NDIS_STATUS_BUFFER_OVERFLOW]);
    assert_eq!([outbound.take(), outbound.take()].map(|packet| packet.map(|p| p.len())), [Some(60_020); 2]);

    let mut inbound = session.inbound();
    for policy in [ReturnPolicy::After, ReturnPolicy::Inside, ReturnPolicy::Hold] {
        adapter.set_return_policy(policy);
        for packet in &packets {
            inbound.put(packet, &session.receive_moved);
        }
        let received = adapter.wait_received(packets.len(), PATIENCE).unwrap();
        assert!(received.iter().map(|one| &one.frame).eq(&packets), "{policy:?}");
        while policy == ReturnPolicy::Hold
            && adapter.return_held_with(7, true, |lists| lists.reverse()).unwrap() > 0
        {}
        let deadline = Instant::now() + PATIENCE;
        // The space is the program's again when everything was returned.
        while inbound.head().load(Ordering::Acquire) as usize != inbound.at {
            assert!(
                Instant::now() < deadline,
                "{policy:?}: {} of {}",
                inbound.head().load(Ordering::Acquire),
                inbound.at
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let statistics = adapter.oid(Oid::query(ndis_sys::OID_GEN_RCV_OK, 8)).unwrap();
    assert_eq!(statistics.buffer[..8], 300_u64.to_le_bytes());

    session.file.close().unwrap();
    assert_eq!(session.memory.atomic(4).load(Ordering::Acquire), GONE, "the ring is closed");
    // Disconnected: what is sent now fails, and is understood.
    let refused = adapter.send(&[SendNbl::frame(packets[0].clone())]).unwrap();
    assert_eq!(refused[0].status, ndis_sys::NDIS_STATUS_MEDIA_DISCONNECTED);
    adapter.pause().unwrap();
    end(lab, driver, &adapter);
    assert_understood(lab, &["MiniportSendNetBufferLists", "KSTART_ROUTINE"]);
}

/// Makes a registration wrong; what it returns stays alive until the request is answered.
type Change<'a> = dyn Fn(&Process, &mut Vec<u8>) -> Box<dyn std::any::Any> + 'a;

/// A change of the request alone.
fn plain(change: impl Fn(&mut Vec<u8>)) -> impl Fn(&Process, &mut Vec<u8>) -> Box<dyn std::any::Any> {
    move |_, request| {
        change(request);
        Box::new(())
    }
}

#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn a_device_is_refused_to_those_who_may_not_have_it() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    adapter.restart().unwrap();
    let register = |token: Token, change: &Change<'_>| {
        let process = lab.process("visitor.exe", token).unwrap();
        let memory = process.allocate(2 * RING.next_multiple_of(4)).unwrap();
        let events = [process.create_event(true).unwrap(), process.create_event(true).unwrap()];
        let file = process.open(&adapter).unwrap();
        let mut request = descriptor(memory.address(), [RING; 2], [events[0].handle(), events[1].handle()]);
        let _held = change(&process, &mut request);
        let outcome = file.control(REGISTER_RINGS, &request, 0).unwrap();
        outcome.status.cast_unsigned()
    };
    let nothing = |_: &Process, _: &mut Vec<u8>| -> Box<dyn std::any::Any> { Box::new(()) };
    // STATUS_ACCESS_DENIED
    assert_eq!(register(Token::user(), &nothing), 0xc000_0022);
    assert_eq!(register(Token::system(), &nothing), 0);
    // STATUS_INVALID_PARAMETER: a size that is no power of two; half a request.
    assert_eq!(register(Token::system(), &plain(|request| request[0] ^= 8)), 0xc000_000d);
    assert_eq!(register(Token::system(), &plain(|request| request.truncate(24))), 0xc000_000d);
    // STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_DENIED
    assert_eq!(register(Token::system(), &plain(|request| request[16..20].fill(0x44))), 0xc000_0008);
    let of_a_file = |process: &Process, request: &mut Vec<u8>| -> Box<dyn std::any::Any> {
        let other = process.open(&adapter).unwrap();
        request[16..24].copy_from_slice(&(other.handle() as u64).to_le_bytes());
        Box::new(other)
    };
    assert_eq!(register(Token::system(), &of_a_file), 0xc000_0024);
    let of_a_reader = |process: &Process, request: &mut Vec<u8>| -> Box<dyn std::any::Any> {
        // SYNCHRONIZE, and not EVENT_MODIFY_STATE.
        let event = process.create_event_with(true, 0x0010_0000).unwrap();
        request[16..24].copy_from_slice(&(event.handle() as u64).to_le_bytes());
        Box::new(event)
    };
    assert_eq!(register(Token::system(), &of_a_reader), 0xc000_0022);
    // STATUS_INVALID_USER_BUFFER: the driver's __except took what MmProbeAndLockPages raised.
    assert_eq!(register(Token::system(), &plain(|request| request[13] ^= 0x40)), 0xc000_00e8);
    let read_only = |process: &Process, request: &mut Vec<u8>| -> Box<dyn std::any::Any> {
        let memory = process.allocate_read_only(RING).unwrap();
        request[32..40].copy_from_slice(&(memory.address() as u64).to_le_bytes());
        Box::new(memory)
    };
    assert_eq!(register(Token::system(), &read_only), 0xc000_00e8);
    adapter.pause().unwrap();
    end(&lab, driver, &adapter);
    assert_understood(&lab, &[]);
}

/// The driver frees its context without `ExDeleteResourceLite` when MiniportInitializeEx fails behind
/// `ExInitializeResourceLite`: on Windows the kernel's list of resources then leads into freed memory.
#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn a_failing_initialization_shows_a_defect_of_the_driver() {
    for (function, broken) in [("ExAllocatePoolWithTag", false), ("NdisAllocateNetBufferListPool", true)] {
        let lab = Lab::new();
        let driver = lab.load_image(&registry::wintun().image, "wintun").unwrap();
        lab.set_faults(move |point| point.function == function);
        let failed = driver.add_adapter(AdapterConfig::new());
        assert!(matches!(failed, Err(LabError::Initialize(_))), "{failed:?}");
        let found: Vec<_> = lab.violations().iter().map(|one| one.rule.id).collect();
        assert_eq!(found, if broken { vec!["resource-use"] } else { vec![] }, "{function}");
        lab.clear_faults();
        driver.unload().unwrap();
        assert!(lab.census().is_empty(), "{:#?}", lab.census().lines());
    }
}

#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn an_import_that_is_missing_is_named() {
    let package = registry::wintun();
    let mapped =
        ndis_lab::loader::Image::load(&package.image, |_, name| (name != "SeAccessCheck").then_some(0x1000));
    let error = mapped.unwrap_err().to_string();
    assert!(
        error.contains("lacks 1 ") && error.contains("ntoskrnl.exe, not in the lab: SeAccessCheck"),
        "{error}"
    );
}

#[test]
#[ignore = "without WINTUN_SYS reads the driver out of wintun.dll, which its licence may not allow: docs/hosting.md"]
fn a_process_that_dies_and_a_device_that_goes_leave_nothing() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    adapter.restart().unwrap();
    // The process ends with everything open.
    let process = lab.process("crash.exe", Token::system()).unwrap();
    let session = Session::open(&process, &adapter);
    session.inbound().put(&ipv4(1, 10), &session.receive_moved);
    adapter.wait_received(1, PATIENCE).unwrap();
    process.exit().unwrap();
    assert!(!session.file.is_open());
    drop(session);
    // The device is asked to go: the driver closes the program's handle itself.
    let process = lab.process("tunnel.exe", Token::system()).unwrap();
    let session = Session::open(&process, &adapter);
    assert!(adapter.pnp_request(PnpRequest::QueryRemove).unwrap().is_success());
    assert!(!session.file.is_open(), "the driver closes what is open");
    assert_eq!(session.memory.atomic(4).load(Ordering::Acquire), GONE);
    // A program that keeps its handle: halted under it, closed after.
    let file = process.open(&adapter).unwrap();
    adapter.pause().unwrap();
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    assert!(matches!(driver.clone().unload(), Err(LabError::FilesOpen(1))));
    file.close().unwrap();
    drop(session);
    drop(process);
    driver.unload().unwrap();
    assert!(lab.census().is_empty(), "{:#?}", lab.census().lines());
    assert_understood(&lab, &["IRP_MJ_PNP"]);
}
