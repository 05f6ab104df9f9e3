//! Adapter attributes: plain structures with our units; the layer adds types, revisions, sizes and pointers.

use core::ptr;

use ndis_sys::{
    BOOLEAN, IF_TYPE_ETHERNET_CSMACD, NDIS_HANDLE, NDIS_INTERFACE_TYPE, NDIS_LINK_STATE,
    NDIS_LINK_STATE_REVISION_1, NDIS_MEDIA_CONNECT_STATE, NDIS_MEDIA_DUPLEX_STATE,
    NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2, NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1, NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM,
    NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND, NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, NDIS_OID, NDIS_PM_CAPABILITIES,
    NDIS_PM_CAPABILITIES_REVISION_2, NDIS_SIZEOF_LINK_STATE_REVISION_1,
    NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
    NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
    NDIS_SUPPORTED_PAUSE_FUNCTIONS, NET_IF_ACCESS_BROADCAST, NET_IF_CONNECTION_DEDICATED,
    NET_IF_DIRECTION_SENDRECEIVE, NdisInterfaceInternal, NdisMSetMiniportAttributes, NdisMedium802_3,
    NdisPhysicalMedium802_3,
};

use crate::offload::Offload;
use crate::status::{Result, Status};

/// Bytes of an Ethernet address.
pub const MAC_ADDRESS_LENGTH: usize = 6;

/// An Ethernet address.
pub type MacAddress = [u8; MAC_ADDRESS_LENGTH];

/// NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `NDIS_MINIPORT_ATTRIBUTES_*`.
    pub flags: u32,
    /// Period of MiniportCheckForHangEx, an even number of seconds; 0 = NDIS's default of 2.
    pub check_for_hang_seconds: u32,
    /// NDIS_INTERFACE_TYPE.
    pub interface_type: NDIS_INTERFACE_TYPE,
}

impl Registration {
    /// A root-enumerated software device: NDIS_WDM, SURPRISE_REMOVE_OK, NO_PAUSE_ON_SUSPEND (what the 6.30 porting page asks
    /// every miniport for); NdisInterfaceInternal.
    pub const SOFTWARE: Self = Self {
        flags: NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
            | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND,
        check_for_hang_seconds: 0,
        interface_type: NdisInterfaceInternal,
    };
}

/// Whether there is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MediaConnectState {
    /// Not known; also what to indicate in a low power state.
    Unknown = ndis_sys::MediaConnectStateUnknown,
    /// Up.
    Connected = ndis_sys::MediaConnectStateConnected,
    /// Down.
    Disconnected = ndis_sys::MediaConnectStateDisconnected,
}

/// How the link carries both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MediaDuplexState {
    /// Not known.
    Unknown = ndis_sys::MediaDuplexStateUnknown,
    /// In turns.
    Half = ndis_sys::MediaDuplexStateHalf,
    /// At once.
    Full = ndis_sys::MediaDuplexStateFull,
}

/// Which 802.3 pause frames are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum PauseFunctions {
    /// None.
    Unsupported = ndis_sys::NdisPauseFunctionsUnsupported,
    /// Sent.
    SendOnly = ndis_sys::NdisPauseFunctionsSendOnly,
    /// Obeyed.
    ReceiveOnly = ndis_sys::NdisPauseFunctionsReceiveOnly,
    /// Both.
    SendAndReceive = ndis_sys::NdisPauseFunctionsSendAndReceive,
    /// Not known.
    Unknown = ndis_sys::NdisPauseFunctionsUnknown,
}

/// A link's state: part of the general attributes, and what LINK_STATE indicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Connected or not.
    pub connect: MediaConnectState,
    /// Half or full duplex.
    pub duplex: MediaDuplexState,
    /// Transmit speed, bit/s; `u64::MAX` = unknown.
    pub transmit_bps: u64,
    /// Receive speed, bit/s; `u64::MAX` = unknown.
    pub receive_bps: u64,
    /// Pause frames.
    pub pause: PauseFunctions,
    /// `NDIS_LINK_STATE_*_AUTO_NEGOTIATED`.
    pub auto_negotiation: u32,
}

impl LinkState {
    /// The state as NDIS_LINK_STATE.
    pub(crate) fn to_raw(self) -> NDIS_LINK_STATE {
        NDIS_LINK_STATE {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NDIS_LINK_STATE_REVISION_1,
                Size: NDIS_SIZEOF_LINK_STATE_REVISION_1,
            },
            MediaConnectState: self.connect as NDIS_MEDIA_CONNECT_STATE,
            MediaDuplexState: self.duplex as NDIS_MEDIA_DUPLEX_STATE,
            XmitLinkSpeed: self.transmit_bps,
            RcvLinkSpeed: self.receive_bps,
            PauseFunctions: self.pause as NDIS_SUPPORTED_PAUSE_FUNCTIONS,
            AutoNegotiationFlags: self.auto_negotiation,
        }
    }
}

/// NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES of an Ethernet adapter without wake-up support, NDIS 6.30 (revision 2).
#[derive(Clone, Copy, Debug)]
pub struct GeneralAttributes {
    /// Largest payload without MAC header, in bytes: 1500 for a 1514-byte frame.
    pub mtu: u32,
    /// Highest transmit speed, bit/s.
    pub max_transmit_bps: u64,
    /// Highest receive speed, bit/s.
    pub max_receive_bps: u64,
    /// The link now.
    pub link: LinkState,
    /// Bytes of payload that are indicated contiguously, <= `mtu`.
    pub lookahead: u32,
    /// `NDIS_MAC_OPTION_*`.
    pub mac_options: u32,
    /// `NDIS_PACKET_TYPE_*`.
    pub packet_filters: u32,
    /// Multicast addresses the adapter holds; the HLK wants 32.
    pub max_multicast: u32,
    /// The address in the hardware.
    pub permanent_address: MacAddress,
    /// The address in use.
    pub current_address: MacAddress,
    /// IfConnectorPresent: false for a software adapter.
    pub connector_present: bool,
    /// `NDIS_STATISTICS_*_SUPPORTED`. Not the FLAGS_VALID bits of OID_GEN_STATISTICS.
    pub statistics: u32,
    /// All OIDs that work.
    pub oids: &'static [NDIS_OID],
}

impl GeneralAttributes {
    /// # Errors
    ///
    /// What NDIS says; INVALID_PARAMETER if the OID list is too long to be told.
    ///
    /// # Safety
    ///
    /// `ndis` is the handle of an adapter whose initialisation is in progress. PASSIVE_LEVEL.
    pub(crate) unsafe fn set(&self, ndis: NDIS_HANDLE) -> Result<()> {
        let address_length = u16::try_from(MAC_ADDRESS_LENGTH).map_err(|_| Status::INVALID_PARAMETER)?;
        let oid_bytes = u32::try_from(size_of_val(self.oids)).map_err(|_| Status::INVALID_PARAMETER)?;
        let mut power = NDIS_PM_CAPABILITIES {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NDIS_PM_CAPABILITIES_REVISION_2,
                Size: NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
            },
            ..Default::default()
        };
        let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
            GeneralAttributes: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
                Header: NDIS_OBJECT_HEADER {
                    Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
                    Revision: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
                    Size: NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
                },
                Flags: 0,
                MediaType: NdisMedium802_3,
                PhysicalMediumType: NdisPhysicalMedium802_3,
                MtuSize: self.mtu,
                MaxXmitLinkSpeed: self.max_transmit_bps,
                XmitLinkSpeed: self.link.transmit_bps,
                MaxRcvLinkSpeed: self.max_receive_bps,
                RcvLinkSpeed: self.link.receive_bps,
                MediaConnectState: self.link.connect as NDIS_MEDIA_CONNECT_STATE,
                MediaDuplexState: self.link.duplex as NDIS_MEDIA_DUPLEX_STATE,
                LookaheadSize: self.lookahead,
                PowerManagementCapabilities: ptr::null_mut(),
                MacOptions: self.mac_options,
                SupportedPacketFilters: self.packet_filters,
                MaxMulticastListSize: self.max_multicast,
                MacAddressLength: address_length,
                PermanentMacAddress: padded(self.permanent_address),
                CurrentMacAddress: padded(self.current_address),
                RecvScaleCapabilities: ptr::null_mut(),
                AccessType: NET_IF_ACCESS_BROADCAST,
                DirectionType: NET_IF_DIRECTION_SENDRECEIVE,
                ConnectionType: NET_IF_CONNECTION_DEDICATED,
                IfType: IF_TYPE_ETHERNET_CSMACD,
                IfConnectorPresent: BOOLEAN::from(self.connector_present),
                SupportedStatistics: self.statistics,
                SupportedPauseFunctions: (self.link.pause as i32).cast_unsigned(),
                DataBackFillSize: 0,
                ContextBackFillSize: 0,
                SupportedOidList: self.oids.as_ptr().cast_mut(),
                SupportedOidListLength: oid_bytes,
                AutoNegotiationFlags: self.link.auto_negotiation,
                PowerManagementCapabilitiesEx: &raw mut power,
            },
        };
        // SAFETY: the handle is valid, the structures are complete and live through the call; NDIS reads the OID list, which
        // is static, and copies everything.
        Status::from_raw(unsafe { NdisMSetMiniportAttributes(ndis, &raw mut attributes) }).ok()
    }
}

fn padded(address: MacAddress) -> [u8; 32] {
    let mut field = [0; 32];
    field[..MAC_ADDRESS_LENGTH].copy_from_slice(&address);
    field
}

/// NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES.
#[derive(Clone, Copy, Debug)]
pub struct OffloadAttributes {
    /// What is in force now: hardware within the keywords.
    pub current: Offload,
    /// What the hardware can, switched off features included.
    pub hardware: Offload,
}

impl OffloadAttributes {
    /// # Errors
    ///
    /// What NDIS says.
    ///
    /// # Safety
    ///
    /// `ndis` is the handle of an adapter whose initialisation is in progress and whose general attributes are set.
    /// PASSIVE_LEVEL.
    pub(crate) unsafe fn set(&self, ndis: NDIS_HANDLE) -> Result<()> {
        let mut current = self.current.to_raw();
        let mut hardware = self.hardware.to_raw();
        let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
            OffloadAttributes: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
                Header: NDIS_OBJECT_HEADER {
                    Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
                    Revision: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
                    Size: NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
                },
                DefaultOffloadConfiguration: current.as_mut_ptr(),
                HardwareOffloadCapabilities: hardware.as_mut_ptr(),
                DefaultTcpConnectionOffloadConfiguration: ptr::null_mut(),
                TcpConnectionOffloadHardwareCapabilities: ptr::null_mut(),
            },
        };
        // SAFETY: the handle is valid, and the structures are complete and live through the call; NDIS copies them.
        Status::from_raw(unsafe { NdisMSetMiniportAttributes(ndis, &raw mut attributes) }).ok()
    }
}
