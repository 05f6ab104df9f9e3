//! What the tests of the control plane share: a lab with the driver in it, natively linked or as its image, two or three
//! stations on a segment, and a second opinion on ESP packets.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]
#![allow(clippy::doc_markdown, reason = "words of the field, not Rust items")]

pub mod interrupt;

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use aes_gcm::{AeadInPlace, Aes128Gcm, KeyInit};
use ipsecnic::dump::{Dump, ENTRY_LEN, Entry, OID_IPSECNIC_SA_TABLE, SUMMARY_LEN, Summary};
use ndis_lab::ipsec_v2::{Association, SaParameters};
use ndis_lab::transport::ethernet;
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, Lab, Oid, Received, SendNbl, State};
use ndis_sys::{
    IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo,
    NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT as TransmitHeader, NDIS_STATUS_SUCCESS,
};

/// Which driver is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Linked into the test.
    Native,
    /// The file that `IPSECNIC_IMAGE` names.
    Image,
}

/// Defines tests that run over both: `mod name { fn native(); fn image(); }`.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* fn $name:ident($bench:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "whatever the bodies use")]
            use super::*;

            fn body($bench: &$crate::control::Bench) $body

            #[test]
            fn native() {
                $crate::control::run($crate::control::Source::Native, body);
            }

            #[test]
            fn image() {
                $crate::control::run($crate::control::Source::Image, body);
            }
        }
    )*};
}

/// Where the image is; `None` in runs that are told to do without (`IPSECNIC_NATIVE_ONLY=1`).
pub fn image_file() -> Option<PathBuf> {
    match std::env::var_os("IPSECNIC_IMAGE") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("IPSECNIC_NATIVE_ONLY").is_some_and(|value| value == "1") => None,
        None => panic!(
            "IPSECNIC_IMAGE is not set: it names the ipsecnic.sys to test (`cargo xtask image` makes one). \
             IPSECNIC_NATIVE_ONLY=1 tests the linked driver alone."
        ),
    }
}

/// Its bytes.
pub fn image() -> Option<&'static [u8]> {
    static IMAGE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = |path: PathBuf| {
        std::fs::read(&path).unwrap_or_else(|error| panic!("IPSECNIC_IMAGE={}: {error}", path.display()))
    };
    IMAGE.get_or_init(|| image_file().map(read)).as_deref()
}

/// Loads the driver into a fresh lab; `None` if the image is not to be tested.
pub fn load(source: Source, lab: &Lab) -> Option<Driver> {
    let driver = match source {
        Source::Image => lab.load_image(image()?, "ipsecnic"),
        // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
        Source::Native => unsafe { lab.load_native(ipsecnic::DriverEntry, "ipsecnic") },
    };
    Some(driver.expect("DriverEntry"))
}

/// Runs a test body; then halts what it left, unloads the driver, and holds it to the lab's rules and to leaving nothing.
pub fn run(source: Source, body: fn(&Bench)) {
    let lab = Lab::new();
    let Some(driver) = load(source, &lab) else { return };
    let bench = Bench { source, lab, driver, adapters: RefCell::default() };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&bench))) {
        // The linked driver's statics exist once: the next test needs it unloaded.
        drop(catch_unwind(AssertUnwindSafe(|| bench.end())));
        resume_unwind(panic);
    }
    bench.end();
}

/// A lab with the driver loaded.
pub struct Bench {
    /// Where the driver is from.
    pub source: Source,
    /// The machine.
    pub lab: Lab,
    /// The driver.
    pub driver: Driver,
    adapters: RefCell<Vec<Adapter>>,
}

impl Bench {
    /// An adapter that is initialised and paused; halted when the test ends.
    pub fn adapter(&self, config: AdapterConfig) -> Adapter {
        let adapter = self.driver.add_adapter(config).expect("MiniportInitializeEx");
        self.adapters.borrow_mut().push(adapter.clone());
        adapter
    }

    /// Station number `number` on segment 7: running, its filter open, IPv4 receive offloads on.
    pub fn station(&self, number: u8) -> Adapter {
        self.station_with(number, AdapterConfig::new().keyword("SaOffloadCapacity", CAPACITY.to_string()))
    }

    /// As [`Bench::station`], with further keywords.
    pub fn station_with(&self, number: u8, config: AdapterConfig) -> Adapter {
        let adapter = self.adapter(config.keyword("SegmentId", "7").network_address(mac(number)));
        adapter.restart().expect("MiniportRestart");
        let filter = ndis_sys::NDIS_PACKET_TYPE_DIRECTED;
        set(&adapter, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, filter));
        set(&adapter, encapsulation(ndis_sys::NDIS_OFFLOAD_SET_ON));
        adapter.take_statuses();
        adapter
    }

    fn end(self) {
        for adapter in self.adapters.take() {
            stop(&adapter);
        }
        self.driver.unload().expect("unload");
        self.lab.assert_clean();
        let census = self.lab.census();
        assert!(census.is_empty(), "left: {census}");
    }
}

/// Brings an adapter down from whatever state it is in.
pub fn stop(adapter: &Adapter) {
    if adapter.state() == State::Running {
        adapter.pause().expect("MiniportPause");
    }
    if adapter.state() == State::Paused {
        adapter.halt(HaltAction::DeviceDisabled).expect("MiniportHaltEx");
    }
}

/// The MAC address of a station.
pub fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

/// The IP address of a station.
pub fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 8, number)
}

/// Sends a request that has to succeed.
#[track_caller]
pub fn set(adapter: &Adapter, oid: Oid) {
    let outcome = adapter.oid(oid).expect("an OID request");
    assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
}

/// A status for messages.
pub fn status(status: i32) -> String {
    format!("{:#010x}", status.cast_unsigned())
}

/// NDIS_OFFLOAD_ENCAPSULATION: `switch` for IPv4 in Ethernet frames, IPv6 as it is.
pub fn encapsulation(switch: u32) -> Oid {
    encapsulation_of(switch, ndis_sys::NDIS_ENCAPSULATION_IEEE_802_3, ndis_sys::NDIS_OFFLOAD_SET_NO_CHANGE, 0)
}

/// NDIS_OFFLOAD_ENCAPSULATION for both families.
pub fn encapsulation_of(ipv4: u32, ipv4_type: u32, ipv6: u32, ipv6_type: u32) -> Oid {
    let mut bytes = vec![
        ndis_sys::NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION,
        ndis_sys::NDIS_OFFLOAD_ENCAPSULATION_REVISION_1,
    ];
    bytes.extend(ndis_sys::NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1.to_le_bytes());
    for word in [ipv4, ipv4_type, 14, ipv6, ipv6_type, 14] {
        bytes.extend(word.to_le_bytes());
    }
    Oid::set(ndis_sys::OID_OFFLOAD_ENCAPSULATION, bytes)
}

/// One field, by its offset, of an otherwise unchanging OID_TCP_OFFLOAD_PARAMETERS of revision 3.
pub fn offload_parameters(fields: &[(usize, u8)]) -> Oid {
    let mut bytes = vec![0; ndis_sys::NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3.into()];
    bytes[0] = ndis_sys::NDIS_OBJECT_TYPE_DEFAULT;
    bytes[1] = ndis_sys::NDIS_OFFLOAD_PARAMETERS_REVISION_3;
    bytes[2..4].copy_from_slice(&ndis_sys::NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3.to_le_bytes());
    for (at, value) in fields {
        bytes[*at] = *value;
    }
    Oid::set(ndis_sys::OID_TCP_OFFLOAD_PARAMETERS, bytes)
}

/// Offset of IPsecV2IPv4 there.
pub const IPSEC_V2_IPV4: usize = std::mem::offset_of!(ndis_sys::NDIS_OFFLOAD_PARAMETERS, IPsecV2IPv4);

/// The SA table by the private OID: asked again with more room until it fits, as a tool does.
#[track_caller]
pub fn table(adapter: &Adapter) -> (Summary, Vec<Entry>) {
    let mut room = SUMMARY_LEN + 8 * ENTRY_LEN;
    loop {
        let outcome = adapter.oid(Oid::query(OID_IPSECNIC_SA_TABLE, room)).expect("the private OID");
        if outcome.status == ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT {
            room = outcome.bytes_needed as usize;
            continue;
        }
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        let dump = Dump::parse(outcome.answer()).expect("a dump");
        return (*dump.summary(), dump.collect());
    }
}

/// One direction of traffic, AES-GCM-128: what both ends know, and framing by hand.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Sending and receiving station.
    pub from: u8,
    /// See `from`.
    pub to: u8,
    /// The SPI.
    pub spi: u32,
    /// Key, then salt.
    pub key: [u8; 20],
    /// The sender's handle.
    pub handle: usize,
    /// The receiver's.
    pub inbound: usize,
    /// The last sequence number used.
    pub sequence: u32,
    /// The last IV used.
    pub iv: u64,
    /// High half of the sequence number.
    pub high: Option<u32>,
}

impl Flow {
    /// A flow without SAs yet; the key follows from the SPI.
    pub fn new(from: u8, to: u8, spi: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(spi.into());
        let mut key = [0; 20];
        random.fill(&mut key);
        Self { from, to, spi, key, handle: 0, inbound: 0, sequence: 0, iv: random.u64(..), high: None }
    }

    /// With extended sequence numbers.
    pub fn extended(mut self, high: u32) -> Self {
        self.high = Some(high);
        self
    }

    /// Adds the SA on either side.
    #[track_caller]
    pub fn add(mut self, sender: &Adapter, receiver: &Adapter) -> Self {
        self.handle = add(sender, &self.parameters(false));
        self.inbound = add(receiver, &self.parameters(true));
        self
    }

    /// For ADD_SA and ADD_SA_EX.
    pub fn parameters(&self, inbound: bool) -> SaParameters {
        let mut association = Association::esp_gcm(self.spi, &self.key);
        association.esn = self.high;
        SaParameters::new(inbound, ip(self.from).into(), ip(self.to).into(), association)
    }

    /// The next packet as the stack hands it over: in clear, with room for the ICV.
    pub fn clear(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        self.iv = self.iv.wrapping_add(1);
        let pad = (4 - (payload.len() + 2) % 4) % 4;
        let mut esp = Vec::new();
        esp.extend(self.spi.to_be_bytes());
        esp.extend(self.sequence.to_be_bytes());
        esp.extend(self.iv.to_be_bytes());
        esp.extend(payload);
        esp.extend((1..=pad).map(|byte| u8::try_from(byte).unwrap()));
        esp.extend([u8::try_from(pad).unwrap(), NEXT_HEADER]);
        esp.extend([0; 16]);
        ethernet(mac(self.to), mac(self.from), &ipv4(ip(self.from), ip(self.to), 50, &esp))
    }

    /// The send of such a packet.
    pub fn send_of(&self, frame: Vec<u8>) -> SendNbl {
        let body = frame.len() - ESP_AT - 16 - 16;
        let pad = frame[ESP_AT + 16 + body - 2];
        let header = TransmitHeader::default()
            .with_NextHeader(NEXT_HEADER.into())
            .with_PadLength(pad.into())
            .with_EspHeaderOffset(5);
        SendNbl::frame(frame)
            .oob(IPsecOffloadV2NetBufferListInfo, self.handle)
            .oob(IPsecOffloadV2HeaderNetBufferListInfo, header.into_slot().addr())
    }

    /// The next packet to send.
    pub fn next(&mut self, payload: &[u8]) -> SendNbl {
        let frame = self.clear(payload);
        self.send_of(frame)
    }

    /// A packet as it is to be on the wire, by another hand.
    pub fn seal(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let (aad, nonce) = self.aad_and_nonce(&frame);
        let end = frame.len() - 16;
        let cipher = Aes128Gcm::new_from_slice(&self.key[..16]).unwrap();
        let tag =
            cipher.encrypt_in_place_detached(&nonce.into(), &aad, &mut frame[ESP_AT + 16..end]).unwrap();
        frame[end..].copy_from_slice(&tag);
        frame
    }

    fn aad_and_nonce(&self, frame: &[u8]) -> (Vec<u8>, [u8; 12]) {
        let mut aad = frame[ESP_AT..ESP_AT + 4].to_vec();
        if let Some(high) = self.high {
            aad.extend(high.to_be_bytes());
        }
        aad.extend(&frame[ESP_AT + 4..ESP_AT + 8]);
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.key[16..]);
        nonce[4..].copy_from_slice(&frame[ESP_AT + 8..ESP_AT + 16]);
        (aad, nonce)
    }

    /// Sends one packet and gives what the receiver was indicated.
    #[track_caller]
    pub fn carry(&mut self, sender: &Adapter, receiver: &Adapter) -> Received {
        let nbl = self.next(b"a packet of the flow");
        let outcomes = sender.send(&[nbl]).expect("a send");
        assert_eq!(status(outcomes[0].status), status(NDIS_STATUS_SUCCESS));
        receive(receiver)
    }

    /// Sends one packet, which has to arrive decrypted.
    #[track_caller]
    pub fn works(&mut self, sender: &Adapter, receiver: &Adapter) {
        let received = self.carry(sender, receiver);
        assert_eq!(slot_1(&received), CRYPTO_DONE, "CryptoDone, CryptoStatus 0");
        let body = &received.frame[ESP_AT + 16..];
        assert!(body.starts_with(b"a packet of the flow"), "decrypted");
    }

    /// Sends one packet, which has to be refused, and nothing of it to come.
    #[track_caller]
    pub fn is_refused(&mut self, sender: &Adapter, receiver: &Adapter) {
        let before = receiver.frames_received();
        let nbl = self.next(b"a packet of the flow");
        let outcomes = sender.send(&[nbl]).expect("a send");
        assert_eq!(status(outcomes[0].status), status(ndis_sys::NDIS_STATUS_FAILURE));
        assert_eq!(receiver.frames_received(), before, "nothing on the wire");
    }
}

/// SA slots of a [`Bench::station`].
pub const CAPACITY: u32 = 64;
/// UDP.
const NEXT_HEADER: u8 = 17;
/// Where ESP begins in a frame.
pub const ESP_AT: usize = 34;
/// Slot 1 of a good packet.
pub const CRYPTO_DONE: usize = 2;
/// Slot 1 of a packet whose SA should be deleted, not processed.
pub const SA_DELETE_REQ: usize = 1;
/// Slot 1 of a packet that does not authenticate.
pub const AUTH_FAILED: usize = CRYPTO_DONE | (ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED as usize) << 16;

/// An IPv4 packet.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let checksum = ipsec::checksum::of(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Slot 1 of a received packet.
pub fn slot_1(received: &Received) -> usize {
    received.oob[usize::try_from(IPsecOffloadV2NetBufferListInfo).unwrap()]
}

/// The one frame that an adapter is indicated.
#[track_caller]
pub fn receive(adapter: &Adapter) -> Received {
    let mut frames = adapter.wait_received(1, Duration::from_secs(5)).expect("a frame");
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

/// Adds an SA by ADD_SA_EX; it has to be taken.
#[track_caller]
pub fn add(adapter: &Adapter, sa: &SaParameters) -> usize {
    let (outcome, handle) = adapter.add_sa_ex(sa).expect("ADD_SA_EX");
    assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
    handle.expect("a handle")
}

/// ADD_SA_EX has to end with this status and a NULL handle.
#[track_caller]
pub fn refuses(adapter: &Adapter, sa: &SaParameters, expected: i32) {
    let (outcome, handle) = adapter.add_sa_ex(sa).expect("ADD_SA_EX");
    assert_eq!((status(outcome.status), handle), (status(expected), None));
}

/// DELETE_SA of these handles has to succeed.
#[track_caller]
pub fn delete(adapter: &Adapter, handles: &[usize]) {
    let outcome = adapter.delete_sas(handles).expect("DELETE_SA");
    assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
}

/// Stops the next sender that maps an unmapped MDL, in the middle of its send call, where it has entered the SA table.
pub struct Roadblock {
    state: Arc<(Mutex<Stage>, Condvar)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Reached,
    Released,
}

impl Roadblock {
    /// Puts it up. It holds one sender, once.
    pub fn new(lab: &Lab) -> Self {
        let state = Arc::new((Mutex::new(Stage::Waiting), Condvar::new()));
        let shared = state.clone();
        lab.set_faults(move |point| {
            if point.function == "MmMapLockedPagesSpecifyCache" {
                let (stage, changed) = &*shared;
                let mut stage = stage.lock().unwrap();
                if *stage == Stage::Waiting {
                    *stage = Stage::Reached;
                    changed.notify_all();
                    while *stage != Stage::Released {
                        stage = changed.wait(stage).unwrap();
                    }
                }
            }
            false
        });
        Self { state }
    }

    /// Sends packets on a thread of its own, and returns when the last one is held up: those before it are on the wire, it
    /// has not been looked at. The join gives their statuses.
    pub fn send(&self, sender: &Adapter, mut nbls: Vec<SendNbl>) -> JoinHandle<Vec<i32>> {
        for frame in nbls.iter_mut().next_back().into_iter().flat_map(|nbl| &mut nbl.frames) {
            frame.unmapped = true;
        }
        let sender = sender.clone();
        let thread = std::thread::spawn(move || {
            sender.send(&nbls).expect("a send").into_iter().map(|outcome| outcome.status).collect()
        });
        let (stage, changed) = &*self.state;
        let mut stage = stage.lock().unwrap();
        while *stage == Stage::Waiting {
            stage = changed.wait(stage).unwrap();
        }
        thread
    }

    /// Lets the sender go on.
    pub fn release(&self) {
        let (stage, changed) = &*self.state;
        *stage.lock().unwrap() = Stage::Released;
        changed.notify_all();
    }
}

impl Drop for Roadblock {
    fn drop(&mut self) {
        self.release();
    }
}

/// Looks for these keys in every block of pool memory that is freed from now on; the number of finds.
pub fn watch_freed_memory(lab: &Lab, keys: &[Vec<u8>]) -> Arc<AtomicUsize> {
    let found = Arc::new(AtomicUsize::new(0));
    let count = found.clone();
    // Eight bytes that are random do not come about by themselves. The first two of them sort out nearly all else.
    let pieces: HashSet<[u8; 8]> = keys.iter().map(|key| *key.first_chunk().unwrap()).collect();
    let mut begins = vec![false; 1 << 16];
    for [a, b, ..] in &pieces {
        begins[usize::from(*a) << 8 | usize::from(*b)] = true;
    }
    lab.on_pool_free(move |_, bytes| {
        let mut before = usize::from(bytes.first().copied().unwrap_or(0));
        for (at, byte) in bytes.iter().enumerate().skip(1) {
            let pair = (before & 0xFF) << 8 | usize::from(*byte);
            before = pair;
            if begins[pair]
                && let Some(piece) = bytes[at - 1..].first_chunk()
                && pieces.contains(piece)
            {
                count.fetch_add(1, Relaxed);
            }
        }
    });
    found
}
