//! The keywords of an adapter.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::{Config, M, WILD, check, header, is};

/// Settings of an adapter.
pub(super) struct Settings {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) max_frame: usize,
    pub(super) config: Config,
}

unsafe fn open_configuration(handle: NDIS_HANDLE) -> Result<NDIS_HANDLE, NDIS_STATUS> {
    let size = NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1;
    let wrong = if is(M::ConfigurationSize) { 4 } else { 0 };
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, 1, size + wrong),
        NdisHandle: handle,
        Flags: if is(M::ConfigurationFlags) { 1 } else { 0 },
    };
    let mut configuration = null_mut();
    check(NdisOpenConfigurationEx(&mut object, &mut configuration))?;
    Ok(configuration)
}

/// What a mutant keeps of its configuration.
static KEPT: std::sync::atomic::AtomicPtr<u8> = std::sync::atomic::AtomicPtr::new(null_mut());

/// A number, or `None` if there is none.
unsafe fn read_number(configuration: NDIS_HANDLE, keyword: &str) -> Option<u32> {
    let mut words: Vec<u16> = keyword.encode_utf16().collect();
    let length = (words.len() * 2) as u16;
    let buffer = if is(M::NameWild) { WILD as *mut u16 } else { words.as_mut_ptr() };
    let mut name = NDIS_STRING { Length: length, MaximumLength: length, Buffer: buffer };
    let (mut status, mut value) = (0, null_mut());
    NdisReadConfiguration(&mut status, &mut value, configuration, &mut name, NdisParameterInteger);
    if is(M::StatusUnchecked) {
        return Some((*value).ParameterData.IntegerData);
    }
    let found = status == NDIS_STATUS_SUCCESS && (*value).ParameterType == NdisParameterInteger;
    if found && is(M::StringKept) {
        KEPT.store(value.cast(), Ordering::Relaxed);
    }
    found.then(|| (*value).ParameterData.IntegerData)
}

pub(super) unsafe fn read_settings(handle: NDIS_HANDLE) -> Result<Settings, NDIS_STATUS> {
    let configuration = open_configuration(handle)?;
    let (mut status, mut address, mut length) = (0, null_mut(), 0);
    NdisReadNetworkAddress(&mut status, &mut address, &mut length, configuration);
    let mut mac = None;
    if status == NDIS_STATUS_SUCCESS && length >= 6 && !is(M::AddressIgnored) {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(std::slice::from_raw_parts(address.cast::<u8>(), 6));
        let group = bytes[0] & 1 == 1 && !is(M::GroupAddressAccepted);
        let long = length != 6 && !is(M::LongAddressAccepted);
        if !group && bytes != [0; 6] && !long {
            mac = Some(bytes);
        }
    }
    let jumbo = read_number(configuration, "*JumboPacket");
    let mut trusted = false;
    let max_frame = match jumbo {
        Some(value @ 1514..=9014) => value as usize,
        Some(value) if is(M::KeywordClamped) => value.clamp(1514, 9014) as usize,
        Some(_) => {
            trusted = is(M::KeywordTrusted);
            1514
        }
        None => 1514,
    };
    let four = |keyword: &str| match read_number(configuration, keyword) {
        Some(value @ 0..=3) => value as u8,
        _ => 3,
    };
    let config = Config {
        ip: four("*IPChecksumOffloadIPv4"),
        tcp: four("*TCPChecksumOffloadIPv4"),
        udp: four("*UDPChecksumOffloadIPv4"),
        large: read_number(configuration, "*LsoV2IPv4") != Some(0),
        ah: four("*IPsecOffloadV2IPv4") & 1 != 0,
        esp: four("*IPsecOffloadV2IPv4") & 2 != 0,
    };
    if is(M::ConfigurationClosedTwice) {
        NdisCloseConfiguration(configuration);
    }
    if !is(M::ConfigurationLeft) {
        NdisCloseConfiguration(configuration);
    }
    if is(M::ConfigurationReadClosed) {
        read_number(configuration, "*JumboPacket");
    }
    if is(M::AddressKept) && mac.is_some() {
        KEPT.store(address.cast(), Ordering::Relaxed);
    }
    let kept = KEPT.swap(null_mut(), Ordering::Relaxed);
    if !kept.is_null() {
        kept.write_volatile(1);
    }
    if trusted {
        return Err(NDIS_STATUS_FAILURE);
    }
    Ok(Settings { mac, max_frame, config })
}
