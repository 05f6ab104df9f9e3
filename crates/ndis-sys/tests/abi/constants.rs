//! Constants and enumerations.

use crate::data::Data;
use crate::extra;
use crate::source::Source;

/// The WDK's value, if the tables or `extra` have one.
fn expected(data: &Data, name: &str, ty: &str) -> Option<i128> {
    if let Some((_, value, _)) = extra::CONSTANTS.iter().find(|(extra, ..)| *extra == name) {
        return Some(*value);
    }
    match data.enums.get(ty) {
        Some(members) => members.get(name).copied().map(i128::from),
        None => data.constants.get(name).copied().map(i128::from),
    }
}

#[test]
fn constants_have_the_wdks_values() {
    let (source, data) = (Source::load(), Data::load());
    let mut wrong = Vec::new();
    for constant in crate::constants() {
        let Some(expected) = expected(&data, constant.name, &source.constants[constant.name]) else {
            wrong.push(format!("{} is in no table", constant.name));
            continue;
        };
        // The tables write statuses as unsigned numbers; the crate's are signed: compare the bits of the type.
        let mask = (1 << (8 * constant.size)) - 1;
        if expected > mask || constant.value & mask != expected & mask {
            wrong.push(format!("{}: {:#x}, expected {expected:#x}", constant.name, constant.value & mask));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn oob_slots_end_where_the_array_of_ndis_630_does() {
    let array = &Data::load().layouts["NET_BUFFER_LIST"].fields;
    let array = array.iter().find(|field| field.path == "NetBufferListInfo").unwrap();
    assert_eq!(array.c_type, format!("PVOID[{}]", ndis_sys::MaxNetBufferListInfo));
}

#[test]
fn extra_constants_are_needed() {
    let (source, data) = (Source::load(), Data::load());
    for (name, value, source_of_it) in extra::CONSTANTS {
        let ty = source.constants.get(*name).unwrap_or_else(|| panic!("{name} is not declared"));
        assert!(!source_of_it.is_empty());
        // Those two are in the tables with another value.
        if !["NDIS_LINK_SPEED_UNKNOWN", "MaxNetBufferListInfo"].contains(name) {
            assert!(!data.constants.contains_key(*name), "{name}");
            assert!(
                data.enums.get(ty).is_none_or(|members| !members.contains_key(*name)),
                "{name} = {value}"
            );
        }
    }
}
