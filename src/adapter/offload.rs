//! What the adapter offloads: what the NIC can do, what the settings leave of it, and what is on now.
//!
//! The one description of capabilities: what is advertised to NDIS and what an ADD_SA is checked against are the same
//! values.

use ndis::{
    EncapsulationFamily, IpsecOffload, IpsecSetting, Offload, OffloadEncapsulation, OffloadParameters,
    OffloadSwitch, Status, Toggle,
};
use ndis_sys as sys;

/// ESP algorithms of the engine (`IPSEC_OFFLOAD_V2_ENCRYPTION_*`).
pub(crate) const ENCRYPTION: u32 = sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128
    | sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192
    | sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256;

/// What the NIC can do for IPsec: ESP in transport mode over IPv4.
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
        extended_sequence_numbers: false,
        udp_esp: sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE,
        authentication: 0,
        encryption: ENCRYPTION,
        capacity,
    }
}

/// The adapter's offload configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffloadConfig {
    capacity: u32,
    /// ESP is on by keyword or by `OID_TCP_OFFLOAD_PARAMETERS`.
    esp: bool,
    /// `OID_OFFLOAD_ENCAPSULATION` has switched IPv4 receive offloads on.
    ipv4_receive: bool,
}

impl OffloadConfig {
    /// The configuration after initialisation.
    pub(crate) fn new(capacity: u32, setting: IpsecSetting) -> Self {
        Self { capacity, esp: setting.esp, ipv4_receive: false }
    }

    /// What the NIC can do, switched off or not.
    pub(crate) fn hardware(&self) -> Offload {
        Offload { ipsec: Some(hardware_ipsec(self.capacity)), ..Offload::default() }
    }

    /// What is on.
    pub(crate) fn current(&self) -> Offload {
        Offload { ipsec: self.esp.then(|| hardware_ipsec(self.capacity)), ..Offload::default() }
    }

    /// Whether ESP SAs are accepted.
    pub(crate) fn offloads_esp(&self) -> bool {
        self.esp
    }

    /// Whether received packets are matched with SAs.
    pub(crate) fn receives_ipsec(&self) -> bool {
        self.esp && self.ipv4_receive
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
        ];
        let wants_checksum =
            checksums.into_iter().flatten().any(|setting| setting.transmit || setting.receive);
        let wants_toggle = toggles.into_iter().flatten().any(|toggle| toggle == Toggle::On);
        // IPsecV2 is for devices of both families, IPsecV2IPv4 for devices like this one.
        let wants_both = parameters.ipsec_v2.is_some_and(|setting| setting.ah || setting.esp);
        let wants_ah = parameters.ipsec_v2_ipv4.is_some_and(|setting| setting.ah && !setting.esp);
        if wants_checksum || wants_toggle || wants_both || wants_ah {
            return Err(Status::INVALID_PARAMETER);
        }
        if let Some(setting) = parameters.ipsec_v2_ipv4 {
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
