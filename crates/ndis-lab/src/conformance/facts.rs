//! What a driver claims, looked at once before the cases run; cases apply by it.

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128, IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256, NDIS_OFFLOAD, NdisMedium802_3,
};

use super::context::Context;
use super::station;
use super::{Outcome, Stop};
use crate::adapter::attributes::Attributes;
use crate::driver::Registered;

/// The AES-GCM encryption identifiers.
pub(super) const GCM: u32 = IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128
    | IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192
    | IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256;

/// What the driver under test is.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) registered: Registered,
    pub(super) attributes: Attributes,
    /// A frame that one adapter broadcasts comes in at another one.
    pub(super) shares_wire: bool,
    /// It made a device besides those of its adapters.
    pub(super) has_device: bool,
}

impl Facts {
    /// Loads the driver and looks.
    pub(super) fn probe(context: &Context) -> Outcome<Self> {
        let driver = context.driver()?;
        let registered =
            driver.registered().ok_or_else(|| Stop::Failed("the driver is not registered".into()))?;
        let adapter = context.adapter()?;
        let attributes = adapter.attributes();
        let ethernet = attributes.general.MediaType == NdisMedium802_3;
        // A driver that breaks a rule or fails on the way is not let off: the cases will tell what is wrong.
        let shares_wire = ethernet
            && (station::share_a_wire(context, &adapter).unwrap_or(true)
                || !context.lab.violations().is_empty());
        let has_device = !context.lab.device_names().is_empty();
        Ok(Self { registered, attributes, shares_wire, has_device })
    }

    /// What the hardware can offload.
    pub(super) fn hardware(&self) -> Option<&NDIS_OFFLOAD> {
        self.attributes.offload.as_ref().map(|offload| &offload.hardware)
    }

    /// What it offloads by default.
    fn default(&self) -> Option<&NDIS_OFFLOAD> {
        self.attributes.offload.as_ref().map(|offload| &offload.default)
    }

    /// Whether it says that it does ESP with AES-GCM in transport mode.
    fn has_esp(&self) -> bool {
        self.hardware().is_some_and(|hardware| {
            let ipsec = &hardware.IPsecV2;
            ipsec.Esp != 0 && ipsec.Transport != 0 && ipsec.EncryptionAlgorithms & GCM != 0
        })
    }
}

/// What a driver must have for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its medium is Ethernet.
    Ethernet,
    /// Two of its adapters, installed with the same keywords, are on one Ethernet segment.
    Wire,
    /// It has MiniportResetEx.
    Reset,
    /// It makes a control device, besides the devices of its adapters.
    ControlDevice,
    /// It has MiniportDirectOidRequest.
    DirectOids,
    /// It stays up without a pause when the machine sleeps (NO_PAUSE_ON_SUSPEND).
    NoPauseOnSuspend,
    /// It wants to be told of a bug check (REGISTER_BUGCHECK_CALLBACK).
    BugCheckCallback,
    /// It has offload attributes.
    Offload,
    /// By default it fills in checksums of IPv4 packets that it sends.
    TransmitChecksum,
    /// By default it checks checksums of IPv4 packets that it receives.
    ReceiveChecksum,
    /// By default it segments large sends (version 2) over IPv4.
    LargeSend,
    /// It offloads IPsec in some form (IPsecOV2).
    Ipsec,
    /// It offloads ESP with AES-GCM in transport mode.
    Esp,
    /// It offloads SAs with extended sequence numbers.
    ExtendedSequenceNumbers,
    /// It segments large sends also under an SA.
    LargeSendsUnderEsp,
    /// It offloads AH and ESP in one packet.
    AhAndEsp,
    /// It offloads transport mode within tunnel mode.
    TransportOverTunnel,
}

impl Need {
    /// What the driver lacks, if it lacks it.
    pub(super) fn lacking(self, facts: &Facts) -> Option<&'static str> {
        let registration = &facts.attributes.registration;
        let handlers = &facts.registered.characteristics;
        let flag = |flag: u32| registration.flags & flag != 0;
        let (has, text) = match self {
            Self::Ethernet => {
                (facts.attributes.general.MediaType == NdisMedium802_3, "its medium is not Ethernet")
            }
            Self::Wire => (facts.shares_wire, "two adapters with the same keywords do not share a wire"),
            Self::Reset => (handlers.ResetHandlerEx.is_some(), "it has no MiniportResetEx"),
            Self::ControlDevice => (facts.has_device, "it makes no control device"),
            Self::DirectOids => {
                (handlers.DirectOidRequestHandler.is_some(), "it has no MiniportDirectOidRequest")
            }
            Self::NoPauseOnSuspend => (
                flag(ndis_sys::NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND),
                "it is paused before it sleeps (no NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND)",
            ),
            Self::BugCheckCallback => (
                flag(ndis_sys::NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK)
                    || facts.registered.ndis_version < ndis_sys::NDIS_RUNTIME_VERSION_630,
                "it is not told of a bug check (no NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK)",
            ),
            Self::Offload => (facts.attributes.offload.is_some(), "it offloads nothing"),
            Self::TransmitChecksum => (
                facts.default().is_some_and(|now| now.Checksum.IPv4Transmit.Encapsulation != 0),
                "it does not offload checksums of IPv4 sends",
            ),
            Self::ReceiveChecksum => (
                facts.default().is_some_and(|now| now.Checksum.IPv4Receive.Encapsulation != 0),
                "it does not offload checksums of IPv4 receives",
            ),
            Self::LargeSend => (
                facts.default().is_some_and(|now| now.LsoV2.IPv4.MaxOffLoadSize != 0),
                "it does not offload large sends (version 2) over IPv4",
            ),
            Self::Ipsec => (
                facts.hardware().is_some_and(|hardware| hardware.IPsecV2.SaOffloadCapacity > 0),
                "it does not offload IPsec",
            ),
            Self::LargeSendsUnderEsp => (
                facts.hardware().is_some_and(|hardware| hardware.IPsecV2.LsoSupported != 0),
                "it does not segment large sends under an SA (LsoSupported)",
            ),
            Self::AhAndEsp => (
                facts
                    .hardware()
                    .is_some_and(|hardware| hardware.IPsecV2.Ah != 0 && hardware.IPsecV2.AhEspCombined != 0),
                "it does not offload AH and ESP in one packet (AhEspCombined)",
            ),
            Self::TransportOverTunnel => (
                facts.hardware().is_some_and(|hardware| {
                    hardware.IPsecV2.Tunnel != 0 && hardware.IPsecV2.TransportTunnelCombined != 0
                }),
                "it does not offload transport mode within a tunnel (TransportTunnelCombined)",
            ),
            Self::ExtendedSequenceNumbers => (
                facts.hardware().is_some_and(|hardware| hardware.IPsecV2.ExtendedSequenceNumbers != 0),
                "it has no extended sequence numbers",
            ),
            Self::Esp => (facts.has_esp(), "it does not offload ESP with AES-GCM in transport mode"),
        };
        (!has).then_some(text)
    }
}
