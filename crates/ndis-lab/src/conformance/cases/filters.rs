//! Which frames an adapter indicates: packet filter, multicast list.

use ndis_sys::{
    NDIS_PACKET_TYPE_ALL_MULTICAST, NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED,
    NDIS_PACKET_TYPE_MULTICAST, NDIS_PACKET_TYPE_PROMISCUOUS, NDIS_STATUS_INVALID_DATA,
    NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_MULTICAST_FULL, NDIS_STATUS_NOT_SUPPORTED,
    OID_802_3_MULTICAST_LIST, OID_GEN_CURRENT_PACKET_FILTER,
};

use crate::adapter::Adapter;
use crate::adapter::oid::{Oid, OidOutcome};
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{
    self, BROADCAST, GROUP, Mac, OTHER_GROUP, Pair, SILENCE, STRANGER, set_filter, succeed,
};
use crate::conformance::{Case, Need, Outcome, check, status_text};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 24,
        id: "set-packet-filter",
        area: "PacketFilters",
        title: "A packet filter is four bytes of supported bits; anything else is refused.",
        page: "oid-gen-current-packet-filter",
        needs: &[Need::Ethernet],
        run: set_packet_filter,
    },
    Case {
        number: 24,
        id: "packet-filters",
        area: "PacketFilters",
        title: "Each packet filter lets in the frames of its class and no others.",
        page: "oid-gen-current-packet-filter",
        needs: &[Need::Wire],
        run: packet_filters,
    },
    Case {
        number: 25,
        id: "set-multicast-list",
        area: "MultiCast",
        title: "A multicast list is a multiple of six bytes, up to the announced size.",
        page: "oid-802-3-multicast-list",
        needs: &[Need::Ethernet],
        run: set_multicast_list,
    },
    Case {
        number: 25,
        id: "multicast-filtering",
        area: "MultiCast",
        title: "Each set replaces the multicast list, one that is refused leaves it, and just its groups come in.",
        page: "oid-802-3-multicast-list",
        needs: &[Need::Wire],
        run: multicast_filtering,
    },
];

fn set_packet_filter(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    for length in [0, 3, 8] {
        let outcome = adapter.oid(Oid::set(OID_GEN_CURRENT_PACKET_FILTER, vec![0; length]))?;
        let tolerated = length == 8 && outcome.is_success();
        check!(
            tolerated || outcome.status == NDIS_STATUS_INVALID_LENGTH && outcome.bytes_needed == 4,
            "a packet filter of {length} bytes: {}, BytesNeeded {}",
            status_text(outcome.status),
            outcome.bytes_needed
        );
    }
    let supported = adapter.attributes().general.SupportedPacketFilters;
    for filter in [0, supported, NDIS_PACKET_TYPE_DIRECTED] {
        let outcome = adapter.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, filter))?;
        check!(
            outcome.is_success() && outcome.bytes_read == 4,
            "packet filter {filter:#x}: {}, BytesRead {}",
            status_text(outcome.status),
            outcome.bytes_read
        );
    }
    for bit in (0..32).map(|bit| 1_u32 << bit).filter(|bit| supported & bit == 0) {
        let outcome =
            adapter.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, bit | NDIS_PACKET_TYPE_DIRECTED))?;
        check!(
            [NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_INVALID_DATA].contains(&outcome.status),
            "packet filter {bit:#x} is not among the supported ones, and ends with {}",
            status_text(outcome.status)
        );
    }
    Ok(())
}

/// Sends a frame to each address and says which came in, in order.
fn let_in(pair: &Pair<'_>, to: &[Mac]) -> Outcome<Vec<Mac>> {
    let from = station::address(&pair.a);
    let lists: Vec<_> =
        (1..).zip(to).map(|(seed, to)| SendNbl::frame(station::frame(*to, from, 70, seed))).collect();
    pair.b.take_received();
    pair.send(&lists, SendOptions::default())?;
    // Nothing says that no more will come.
    std::thread::sleep(SILENCE);
    let received = pair.b.take_received();
    let own = pair.a.take_received().len();
    check!(own == 0, "{own} frames came in at the adapter that sent them: NDIS loops back, no miniport does");
    Ok(received.iter().filter_map(|received| received.frame.first_chunk().copied()).collect())
}

fn set_groups(adapter: &Adapter, groups: &[Mac]) -> Outcome<OidOutcome> {
    Ok(adapter.oid(Oid::set(OID_802_3_MULTICAST_LIST, groups.as_flattened()))?)
}

fn packet_filters(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let own = station::address(&pair.b);
    let all = [own, STRANGER, GROUP, OTHER_GROUP, BROADCAST];
    check!(set_groups(&pair.b, &[GROUP])?.is_success(), "a multicast list of one group is refused");
    let supported = pair.b.attributes().general.SupportedPacketFilters;
    let filters: [(u32, &[Mac]); 8] = [
        (0, &[]),
        (NDIS_PACKET_TYPE_DIRECTED, &[own]),
        (NDIS_PACKET_TYPE_MULTICAST, &[GROUP]),
        (NDIS_PACKET_TYPE_ALL_MULTICAST, &[GROUP, OTHER_GROUP]),
        (NDIS_PACKET_TYPE_BROADCAST, &[BROADCAST]),
        (station::USUAL_FILTER, &[own, GROUP, BROADCAST]),
        (NDIS_PACKET_TYPE_PROMISCUOUS, &all),
        (0, &[]),
    ];
    for (filter, expect) in filters {
        if supported & filter != filter {
            continue;
        }
        set_filter(&pair.b, filter)?;
        let came = let_in(&pair, &all)?;
        check!(
            came == expect,
            "with packet filter {filter:#x} frames to {came:02x?} came in, not to {expect:02x?}"
        );
    }
    // A filter that is refused changes nothing.
    set_filter(&pair.b, NDIS_PACKET_TYPE_DIRECTED)?;
    pair.b.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, 0x4000_0000 | NDIS_PACKET_TYPE_BROADCAST))?;
    let came = let_in(&pair, &all)?;
    check!(came == [own], "after a refused packet filter frames to {came:02x?} came in, not to {own:02x?}");
    Ok(())
}

/// Some group addresses.
fn groups(count: usize) -> Vec<Mac> {
    let numbers = (0_u16..).take(count).map(u16::to_be_bytes);
    numbers.map(|[high, low]| [0x01, 0, 0x5e, 0x7f, high, low]).collect()
}

fn set_multicast_list(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let max = adapter.attributes().general.MaxMulticastListSize as usize;
    for count in [0, 1, max] {
        let outcome = set_groups(&adapter, &groups(count))?;
        check!(
            outcome.is_success() && outcome.bytes_read as usize == 6 * count,
            "a multicast list of {count} addresses: {}, BytesRead {}",
            status_text(outcome.status),
            outcome.bytes_read
        );
    }
    for length in [1, 5, 7, 6 * max - 1] {
        let outcome = adapter.oid(Oid::set(OID_802_3_MULTICAST_LIST, vec![1; length]))?;
        check!(
            outcome.status == NDIS_STATUS_INVALID_LENGTH,
            "a multicast list of {length} bytes ends with {}",
            status_text(outcome.status)
        );
    }
    let outcome = set_groups(&adapter, &groups(max + 1))?;
    check!(
        outcome.status == NDIS_STATUS_MULTICAST_FULL,
        "a multicast list of {} addresses, {max} are announced, ends with {}",
        max + 1,
        status_text(outcome.status)
    );
    check!(outcome.bytes_needed as usize == 6 * max, "MULTICAST_FULL: BytesNeeded {}", outcome.bytes_needed);
    let size = adapter.oid(Oid::query(ndis_sys::OID_802_3_MAXIMUM_LIST_SIZE, 4))?.u32();
    check!(
        size.is_none_or(|size| size as usize == max),
        "OID_802_3_MAXIMUM_LIST_SIZE {size:?}, MaxMulticastListSize {max}"
    );
    Ok(())
}

fn multicast_filtering(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let max = pair.b.attributes().general.MaxMulticastListSize as usize;
    set_filter(&pair.b, NDIS_PACKET_TYPE_MULTICAST)?;
    let list = groups(max);
    let (first, last) = (list[0], list[max - 1]);
    let probes = [GROUP, first, BROADCAST, last, OTHER_GROUP, station::address(&pair.b)];
    let expect = |list: &[Mac], came: &[Mac], what: &str| -> Outcome {
        check!(came == list, "{what}: frames to {came:02x?} came in, not to {list:02x?}");
        Ok(())
    };
    set_groups(&pair.b, &list)?;
    expect(&[first, last], &let_in(&pair, &probes)?, "with a full multicast list")?;
    set_groups(&pair.b, &groups(max + 1))?;
    expect(&[first, last], &let_in(&pair, &probes)?, "after a list that is too long")?;
    set_groups(&pair.b, &[OTHER_GROUP])?;
    expect(&[OTHER_GROUP], &let_in(&pair, &probes)?, "with a list of one")?;
    succeed(&pair.b, Oid::set(OID_802_3_MULTICAST_LIST, []), "clearing the multicast list")?;
    expect(&[], &let_in(&pair, &probes)?, "with an empty list")
}
