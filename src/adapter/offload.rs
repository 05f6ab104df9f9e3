//! What the adapter offloads: what the NIC can do, what the settings leave of it, and what is on now.
//!
//! The one description of capabilities: what is advertised to NDIS and what an ADD_SA is checked against are the same
//! values.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use ndis::{
    EncapsulationFamily, IpsecOffload, Offload, OffloadEncapsulation, OffloadParameters, OffloadSwitch,
    Status, Toggle,
};
use ndis_sys as sys;

use super::settings::{IpsecKeyword, Settings};
use crate::nic::{ReceiveIpsec, Switches};

/// ESP algorithms of the engine (`IPSEC_OFFLOAD_V2_ENCRYPTION_*`).
pub(crate) const ENCRYPTION: u32 = sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128
    | sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192
    | sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256;

/// What the NIC can do for IPsec: ESP in transport mode over IPv4, with extended sequence numbers.
///
/// `Tunnel` is false because tunnel mode does not work yet, though the structure's page says that Windows offers no IPsec
/// offload at all without it: a capability that is not there is not claimed.
const fn hardware_ipsec(capacity: u32) -> IpsecOffload {
    IpsecOffload {
        encapsulation: sys::NDIS_ENCAPSULATION_IEEE_802_3,
        ipv6: false,
        ipv4_options: false,
        ipv6_extension_headers: false,
        ah: false,
        esp: true,
        ah_esp_combined: false,
        transport: true,
        tunnel: false,
        transport_tunnel_combined: false,
        lso: false,
        extended_sequence_numbers: true,
        udp_esp: sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE,
        authentication: 0,
        encryption: ENCRYPTION,
        capacity,
    }
}

/// The adapter's offload configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffloadConfig {
    capacity: u32,
    keyword: IpsecKeyword,
    /// ESP is on by keyword or by `OID_TCP_OFFLOAD_PARAMETERS`.
    esp: bool,
    /// `OID_OFFLOAD_ENCAPSULATION` has switched IPv4 receive offloads on.
    ipv4_receive: bool,
}

impl OffloadConfig {
    /// The configuration after initialisation.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            capacity: settings.sa_capacity,
            keyword: settings.ipsec_keyword,
            esp: settings.ipsec.esp,
            ipv4_receive: false,
        }
    }

    /// What the NIC can do, switched off or not.
    pub(crate) fn hardware(self) -> Offload {
        Offload { ipsec: Some(hardware_ipsec(self.capacity)), ..Offload::default() }
    }

    /// What is on.
    pub(crate) fn current(self) -> Offload {
        Offload { ipsec: self.esp.then(|| hardware_ipsec(self.capacity)), ..Offload::default() }
    }

    /// What the NIC is to do with packets of SAs.
    ///
    /// When IPsec is switched off while there are SAs, they stay until they are deleted, but are not used: sends that carry
    /// a handle fail, never going out in clear, and received packets come as they are, with the request to delete the SA
    /// (`managing-security-associations-in-ipsec-offload-version-2`). Switched on again, SAs that are still there work again.
    pub(crate) fn switches(self) -> Switches {
        let receive = match (self.esp, self.ipv4_receive) {
            (false, _) => ReceiveIpsec::AskToDelete,
            (true, false) => ReceiveIpsec::Off,
            (true, true) => ReceiveIpsec::On,
        };
        Switches { transmit: self.esp, receive }
    }

    /// Applies `OID_TCP_OFFLOAD_PARAMETERS`: all of it or nothing.
    ///
    /// # Errors
    /// `INVALID_PARAMETER` for switching on what the NIC cannot do; switching that off is fine.
    pub(crate) fn apply(&mut self, parameters: &OffloadParameters) -> Result<(), Status> {
        let checksums = [
            parameters.ipv4_checksum,
            parameters.tcp_ipv4_checksum,
            parameters.udp_ipv4_checksum,
            parameters.tcp_ipv6_checksum,
            parameters.udp_ipv6_checksum,
        ];
        let toggles = [
            parameters.lso_v1,
            parameters.lso_v2_ipv4,
            parameters.lso_v2_ipv6,
            parameters.rsc_ipv4,
            parameters.rsc_ipv6,
            parameters.tcp_connection_ipv4,
            parameters.tcp_connection_ipv6,
            parameters.encapsulated,
        ];
        let wants_checksum =
            checksums.into_iter().flatten().any(|setting| setting.transmit || setting.receive);
        let wants_toggle = toggles.into_iter().flatten().any(|toggle| toggle == Toggle::On);
        // One of the two fields is this device's, by the keyword it is installed with.
        let (ours, other) = match self.keyword {
            IpsecKeyword::Ipv4Only => (parameters.ipsec_v2_ipv4, parameters.ipsec_v2),
            IpsecKeyword::BothFamilies => (parameters.ipsec_v2, parameters.ipsec_v2_ipv4),
        };
        let wants_other =
            [other, parameters.ipsec_v1].into_iter().flatten().any(|setting| setting.ah || setting.esp);
        // AH alone cannot be had. AH and ESP together are what the keyword's default says, and give what there is: ESP.
        let wants_ah = ours.is_some_and(|setting| setting.ah && !setting.esp);
        if wants_checksum || wants_toggle || wants_other || wants_ah {
            return Err(Status::INVALID_PARAMETER);
        }
        if let Some(setting) = ours {
            self.esp = setting.esp;
        }
        Ok(())
    }

    /// Applies `OID_OFFLOAD_ENCAPSULATION`.
    ///
    /// # Errors
    /// `INVALID_PARAMETER` for switching on anything but IPv4 in IEEE 802.3 frames.
    pub(crate) fn encapsulate(&mut self, encapsulation: &OffloadEncapsulation) -> Result<(), Status> {
        let possible = |family: EncapsulationFamily| {
            family.switch != OffloadSwitch::On || family.encapsulation == sys::NDIS_ENCAPSULATION_IEEE_802_3
        };
        // IPv6: there is nothing to switch on, which is no reason to refuse a stack that switches both families.
        if !possible(encapsulation.ipv4) || !possible(encapsulation.ipv6) {
            return Err(Status::INVALID_PARAMETER);
        }
        match encapsulation.ipv4.switch {
            OffloadSwitch::On => self.ipv4_receive = true,
            OffloadSwitch::Off => self.ipv4_receive = false,
            OffloadSwitch::NoChange => {}
        }
        Ok(())
    }
}

/// The configuration, to be read at any IRQL without a lock.
pub(crate) struct OffloadState {
    /// As it was at first: what does not change.
    initial: OffloadConfig,
    /// What does, as bits.
    bits: AtomicU8,
}

impl OffloadState {
    const ESP: u8 = 1;
    const IPV4_RECEIVE: u8 = 2;

    /// Begins with `config`.
    pub(crate) fn new(config: OffloadConfig) -> Self {
        let state = Self { initial: config, bits: AtomicU8::new(0) };
        state.set(config);
        state
    }

    /// The configuration now.
    pub(crate) fn get(&self) -> OffloadConfig {
        // Relaxed, also below: one word, nothing is published through it. Who reads it just before a change acts on what was.
        let bits = self.bits.load(Relaxed);
        OffloadConfig {
            esp: bits & Self::ESP != 0,
            ipv4_receive: bits & Self::IPV4_RECEIVE != 0,
            ..self.initial
        }
    }

    /// Replaces it; who changes it is one at a time.
    pub(crate) fn set(&self, config: OffloadConfig) {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        self.bits.store(bit(config.esp, Self::ESP) | bit(config.ipv4_receive, Self::IPV4_RECEIVE), Relaxed);
    }
}
