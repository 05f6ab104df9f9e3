//! Two adapters of the linked driver, on a deterministic machine that is made anew now and then.

use std::cell::RefCell;

use ipsecnic::dump::{Dump, Entry, OID_IPSECNIC_SA_TABLE, Summary};
use ndis_lab::ipsec_v2::{Association, DeleteSaList, SaParameters};
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, Lab, Oid, State};
use ndis_sys::NDIS_STATUS_SUCCESS;

/// SA slots of each adapter.
pub(crate) const CAPACITY: u32 = 16;
/// MAC addresses of adapter and peer.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// IP addresses of adapter and peer.
pub(crate) const IPS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
/// Cases before the machine is made anew: its log grows.
const LIFE: u32 = 500;

/// The machine.
pub(crate) struct Bench {
    lab: Lab,
    driver: Option<Driver>,
    /// The adapter under test.
    pub(crate) adapter: Adapter,
    /// The other end.
    pub(crate) peer: Adapter,
    cases: u32,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// Runs a case, and holds the driver to the lab's rules.
pub(crate) fn with(case: impl FnOnce(&Bench)) {
    BENCH.with_borrow_mut(|slot| {
        let bench = slot.get_or_insert_with(Bench::new);
        case(bench);
        bench.settle();
        bench.cases += 1;
        if bench.cases == LIFE {
            slot.take().into_iter().for_each(Bench::end);
        }
    });
}

/// Takes the machine down: nothing may be left. To be called when the targets are done with; the driver exists once in a process.
///
/// # Panics
/// If something is left.
pub fn end() {
    BENCH.with_borrow_mut(|slot| slot.take().into_iter().for_each(Bench::end));
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::builder().deterministic(1).build();
        // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
        let driver = unsafe { lab.load_native(ipsecnic::DriverEntry, "ipsecnic") }.expect("DriverEntry");
        let start = |index: usize| {
            let config = AdapterConfig::new()
                .keyword("SaOffloadCapacity", CAPACITY.to_string())
                .keyword("SegmentId", "3")
                .keyword("FaultInjection", "1")
                .network_address(MACS[index]);
            let adapter = driver.add_adapter(config).expect("MiniportInitializeEx");
            adapter.restart().expect("MiniportRestart");
            adapter
        };
        let (adapter, peer) = (start(0), start(1));
        let bench = Self { lab, driver: Some(driver), adapter, peer, cases: 0 };
        bench.restore();
        bench
    }

    /// The settings that a case may have changed.
    fn restore(&self) {
        let promiscuous = ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS;
        for adapter in [&self.adapter, &self.peer] {
            if adapter.check_for_hang().expect("a check") {
                adapter.reset(0).expect("a reset");
            }
            let power = ndis_sys::NdisDeviceStateD0.cast_unsigned();
            set(adapter, Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, power));
            set(adapter, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, promiscuous));
            let off = ipsecnic::dump::wedge_order(None);
            set(adapter, Oid::set(ipsecnic::dump::OID_IPSECNIC_WEDGE, off));
            let mut parameters = vec![0x80, 3, 26, 0];
            parameters.resize(26, 0);
            parameters[21] = 3; // IPsecV2IPv4: ESP
            set(adapter, Oid::set(ndis_sys::OID_TCP_OFFLOAD_PARAMETERS, parameters));
            let mut encapsulation = vec![0xA8, 1, 28, 0];
            for word in [1_u32, 2, 14, 0, 0, 0] {
                encapsulation.extend(word.to_le_bytes());
            }
            set(adapter, Oid::set(ndis_sys::OID_OFFLOAD_ENCAPSULATION, encapsulation));
            adapter.take_statuses();
        }
    }

    /// After a case: the rules held, and nothing of it stays.
    fn settle(&self) {
        if let Some(bugcheck) = self.lab.bugcheck() {
            panic!("{bugcheck}");
        }
        self.restore();
        self.lab.assert_clean();
        for adapter in [&self.adapter, &self.peer] {
            adapter.take_received();
            let handles: Vec<usize> =
                table(adapter).1.iter().map(|sa| usize::try_from(sa.handle).expect("a handle")).collect();
            if !handles.is_empty() {
                set(adapter, DeleteSaList::new(&handles).expect("a list").request());
            }
        }
    }

    fn end(mut self) {
        for adapter in [&self.adapter, &self.peer] {
            if adapter.state() == State::Running {
                adapter.pause().expect("MiniportPause");
            }
            adapter.halt(HaltAction::DeviceDisabled).expect("MiniportHaltEx");
        }
        if let Some(driver) = self.driver.take() {
            driver.unload().expect("MiniportDriverUnload");
        }
        self.lab.assert_clean();
        let census = self.lab.census();
        assert!(census.is_empty(), "left: {census}");
    }
}

/// A request that has to succeed.
#[track_caller]
pub(crate) fn set(adapter: &Adapter, oid: Oid) {
    let outcome = adapter.oid(oid).expect("a request");
    assert_eq!(outcome.status, NDIS_STATUS_SUCCESS, "{:#010x}", outcome.status.cast_unsigned());
}

/// The SA table.
pub(crate) fn table(adapter: &Adapter) -> (Summary, Vec<Entry>) {
    let room = ipsecnic::dump::SUMMARY_LEN + CAPACITY as usize * ipsecnic::dump::ENTRY_LEN;
    let outcome = adapter.oid(Oid::query(OID_IPSECNIC_SA_TABLE, room)).expect("the private OID");
    assert_eq!(outcome.status, NDIS_STATUS_SUCCESS);
    let dump = Dump::parse(outcome.answer()).expect("a dump");
    (*dump.summary(), dump.collect())
}

/// A sound SA: AES-GCM-128, the key full of `key`. `inbound` as the adapter sees it.
pub(crate) fn sa(spi: u32, inbound: bool, key: usize) -> SaParameters {
    let (from, to) = if inbound { (IPS[1], IPS[0]) } else { (IPS[0], IPS[1]) };
    SaParameters::new(inbound, from.into(), to.into(), Association::esp_gcm(spi, &vec![0x42; key]))
}

/// Adds an SA.
pub(crate) fn add(adapter: &Adapter, sa: &SaParameters) -> usize {
    let (outcome, handle) = adapter.add_sa_ex(sa).expect("ADD_SA_EX");
    handle.unwrap_or_else(|| panic!("ADD_SA_EX ended with {:#010x}", outcome.status.cast_unsigned()))
}
