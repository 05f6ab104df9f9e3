//! Frames: NET_BUFFER, NET_BUFFER_LIST and their pools.

use crate::{
    BOOLEAN, LARGE_INTEGER, LONG, MDL, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_STATUS, PVOID, UCHAR, ULONG,
    USHORT,
};

#[cfg(doc)] // for links
use crate::*;

/// One frame: a range of bytes of a chain of MDLs. From an NDIS pool only; neither made nor copied by hand.
/// Its first 48 bytes are a union in C, of which `Link` is not declared, nor is `stDataLength`, the view of
/// `DataLength` that is as wide as a pointer. `[ns-nbl-net_buffer]`
#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER {
    /// The next NET_BUFFER of the list, or null.
    pub Next: *mut NET_BUFFER,
    /// The MDL that holds the first byte of the frame.
    pub CurrentMdl: *mut MDL,
    /// Where in `CurrentMdl` the frame starts, bytes.
    pub CurrentMdlOffset: ULONG,
    _union_alignment: ULONG,
    /// Bytes of the frame.
    pub DataLength: ULONG,
    /// The first MDL of the chain.
    pub MdlChain: *mut MDL,
    /// Where in the chain the frame starts, bytes: the unused space before it.
    pub DataOffset: ULONG,
    _header_padding: ULONG,
    /// Bytes before the frame to skip in checksums; 0.
    pub ChecksumBias: USHORT,
    /// Reserved.
    pub Reserved: USHORT,
    /// The pool it came from.
    pub NdisPoolHandle: NDIS_HANDLE,
    /// Reserved for NDIS.
    pub NdisReserved: [PVOID; 2],
    /// For the protocol driver.
    pub ProtocolReserved: [PVOID; 6],
    /// For the miniport while it owns the NET_BUFFER.
    pub MiniportReserved: [PVOID; 4],
    /// Physical address of the data, if the pool's memory is shared.
    pub DataPhysicalAddress: LARGE_INTEGER,
    /// Shared memory of the data, or, after a scatter/gather mapping, its list.
    pub SharedMemoryInfo: *mut NET_BUFFER_SHARED_MEMORY,
}
const _: () = assert!(size_of::<NET_BUFFER>() == 176 && align_of::<NET_BUFFER>() == 16);

/// A list of frames that share their out-of-band data, of NDIS 6.30. From an NDIS pool only; neither made
/// nor copied by hand: later versions are longer. `[ns-nbl-net_buffer_list]`
#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER_LIST {
    /// The next NET_BUFFER_LIST of the chain, or null.
    pub Next: *mut NET_BUFFER_LIST,
    /// The first frame.
    pub FirstNetBuffer: *mut NET_BUFFER,
    /// Context data of the drivers that hold the list.
    pub Context: *mut NET_BUFFER_LIST_CONTEXT,
    /// The list it was cloned from, or null.
    pub ParentNetBufferList: *mut NET_BUFFER_LIST,
    /// The pool it came from.
    pub NdisPoolHandle: NDIS_HANDLE,
    _reserved_alignment: PVOID,
    /// Reserved for NDIS.
    pub NdisReserved: [PVOID; 2],
    /// For the protocol driver.
    pub ProtocolReserved: [PVOID; 4],
    /// For the miniport while it owns the list.
    pub MiniportReserved: [PVOID; 2],
    /// For the driver that owns the list; not kept when it is passed on.
    pub Scratch: PVOID,
    /// Who sent it: a miniport sets its adapter handle in receives and keeps what it finds in sends.
    pub SourceHandle: NDIS_HANDLE,
    /// `NDIS_NBL_FLAGS_…` and reserved bits.
    pub NblFlags: ULONG,
    /// Lists that were derived from it.
    pub ChildRefCount: LONG,
    /// `NBL_FLAGS_…`.
    pub Flags: ULONG,
    /// Set by the miniport when it completes the send.
    pub Status: NDIS_STATUS,
    /// Out-of-band slots by [`NDIS_NET_BUFFER_LIST_INFO`].
    pub NetBufferListInfo: [PVOID; MaxNetBufferListInfo as usize],
}
const _: () = assert!(size_of::<NET_BUFFER_LIST>() == 336 && align_of::<NET_BUFFER_LIST>() == 16);

/// Context data that drivers attach to a list; a stack of them. `[ns-nbl-net_buffer_list_context]`
#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER_LIST_CONTEXT {
    /// The next block, or null.
    pub Next: *mut NET_BUFFER_LIST_CONTEXT,
    /// Bytes of `ContextData`.
    pub Size: USHORT,
    /// Where in `ContextData` the data in use starts.
    pub Offset: USHORT,
    _data_alignment: ULONG,
    /// The data, aligned to 16 bytes.
    pub ContextData: [UCHAR; 0],
}
const _: () =
    assert!(size_of::<NET_BUFFER_LIST_CONTEXT>() == 16 && align_of::<NET_BUFFER_LIST_CONTEXT>() == 16);

/// Properties of a pool of lists. `[ns-nblapi-net_buffer_list_pool_parameters]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_LIST_POOL_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// [`NDIS_PROTOCOL_ID_DEFAULT`] for a miniport.
    pub ProtocolId: UCHAR,
    /// Whether each list comes with a NET_BUFFER.
    pub fAllocateNetBuffer: BOOLEAN,
    /// Bytes of context for each list; a multiple of 16.
    pub ContextSize: USHORT,
    /// The tag of the pool's memory; not 0.
    pub PoolTag: ULONG,
    /// Bytes of data and MDL for each NET_BUFFER, or 0.
    pub DataSize: ULONG,
}
const _: () = assert!(
    size_of::<NET_BUFFER_LIST_POOL_PARAMETERS>() == 16 && align_of::<NET_BUFFER_LIST_POOL_PARAMETERS>() == 4
);

/// Properties of a pool of NET_BUFFERs. `[nf-nblapi-ndisallocatenetbufferpool]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_POOL_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The tag of the pool's memory; not 0.
    pub PoolTag: ULONG,
    /// Bytes of data and MDL for each NET_BUFFER, or 0.
    pub DataSize: ULONG,
}
const _: () =
    assert!(size_of::<NET_BUFFER_POOL_PARAMETERS>() == 12 && align_of::<NET_BUFFER_POOL_PARAMETERS>() == 4);

/// A segment of memory shared with the NIC. `[ns-nbl-net_buffer_shared_memory]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_SHARED_MEMORY {
    /// The next segment, or null.
    pub NextSharedMemorySegment: *mut NET_BUFFER_SHARED_MEMORY,
    /// Reserved.
    pub SharedMemoryFlags: ULONG,
    /// The shared memory.
    pub SharedMemoryHandle: NDIS_HANDLE,
    /// Where in it the segment starts, bytes.
    pub SharedMemoryOffset: ULONG,
    /// Bytes of the segment.
    pub SharedMemoryLength: ULONG,
}
const _: () =
    assert!(size_of::<NET_BUFFER_SHARED_MEMORY>() == 32 && align_of::<NET_BUFFER_SHARED_MEMORY>() == 8);

/// An index into [`NET_BUFFER_LIST::NetBufferListInfo`]. `[ne-nblinfo-ndis_net_buffer_list_info]`
pub type NDIS_NET_BUFFER_LIST_INFO = i32;
/// Checksum offload: [`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT`],
/// [`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE`].
pub const TcpIpChecksumNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 0;
/// Bytes transferred (TCP chimney).
pub const TcpOffloadBytesTransferred: NDIS_NET_BUFFER_LIST_INFO = 0;
/// IPsec offload version 1.
pub const IPsecOffloadV1NetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 1;
/// IPsec offload version 2: [`NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_TRANSMIT`],
/// [`NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE`].
pub const IPsecOffloadV2NetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 1;
/// Large send offload: [`NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_TRANSMIT`].
pub const TcpLargeSendNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 2;
/// No push (TCP chimney).
pub const TcpReceiveNoPush: NDIS_NET_BUFFER_LIST_INFO = 2;
/// Handle of a traffic class.
pub const ClassificationHandleNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 3;
/// VLAN and priority: [`NDIS_NET_BUFFER_LIST_8021Q_INFO`].
pub const Ieee8021QNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 4;
/// The cancel identifier of a send.
pub const NetBufferListCancelId: NDIS_NET_BUFFER_LIST_INFO = 5;
/// Data of the medium.
pub const MediaSpecificInformation: NDIS_NET_BUFFER_LIST_INFO = 6;
/// The Ethernet type of received frames, network byte order.
pub const NetBufferListFrameType: NDIS_NET_BUFFER_LIST_INFO = 7;
/// The protocol that sent the frames.
pub const NetBufferListProtocolId: NDIS_NET_BUFFER_LIST_INFO = 7;
/// The hash of received frames (receive-side scaling).
pub const NetBufferListHashValue: NDIS_NET_BUFFER_LIST_INFO = 8;
/// The hash function and type.
pub const NetBufferListHashInfo: NDIS_NET_BUFFER_LIST_INFO = 9;
/// Reserved for the Windows Filtering Platform.
pub const WfpNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 10;
/// IPsec offload version 2, tunnel: [`NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_TRANSMIT`].
pub const IPsecOffloadV2TunnelNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 11;
/// IPsec offload version 2, headers: [`NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT`],
/// [`NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE`].
pub const IPsecOffloadV2HeaderNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 12;
/// An identifier for tracing.
pub const NetBufferListCorrelationId: NDIS_NET_BUFFER_LIST_INFO = 13;
/// Result of receive filters.
pub const NetBufferListFilteringInfo: NDIS_NET_BUFFER_LIST_INFO = 14;
/// Data of the medium, NDIS 6.
pub const MediaSpecificInformationEx: NDIS_NET_BUFFER_LIST_INFO = 15;
/// The interface that received the frames.
pub const NblOriginalInterfaceIfIndex: NDIS_NET_BUFFER_LIST_INFO = 16;
/// Reserved for the Windows Filtering Platform.
pub const NblReAuthWfpFlowContext: NDIS_NET_BUFFER_LIST_INFO = 16;
/// Bytes transferred (TCP chimney).
pub const TcpReceiveBytesTransferred: NDIS_NET_BUFFER_LIST_INFO = 17;
/// Reserved for name resolution.
pub const NrtNameResolutionId: NDIS_NET_BUFFER_LIST_INFO = 17;
/// Reserved for the Hyper-V switch.
pub const SwitchForwardingReserved: NDIS_NET_BUFFER_LIST_INFO = 18;
/// Forwarding of the Hyper-V switch.
pub const SwitchForwardingDetail: NDIS_NET_BUFFER_LIST_INFO = 19;
/// The virtual subnet.
pub const VirtualSubnetInfo: NDIS_NET_BUFFER_LIST_INFO = 20;
/// For an intermediate driver.
pub const IMReserved: NDIS_NET_BUFFER_LIST_INFO = 21;
/// Receive segment coalescing.
pub const TcpRecvSegCoalesceInfo: NDIS_NET_BUFFER_LIST_INFO = 22;
/// Receive segment coalescing: difference of TCP timestamps.
pub const RscTcpTimestampDelta: NDIS_NET_BUFFER_LIST_INFO = 23;
/// More about offloads of encapsulated sends.
pub const TcpSendOffloadsSupplementalNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 23;
/// The number of slots, at NDIS 6.30.
pub const MaxNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 24;

// [`NET_BUFFER_LIST::Flags`].

/// Bits of `Flags` for the miniport.
pub const NBL_FLAGS_MINIPORT_RESERVED: ULONG = 0xF000;
/// Bits of `Flags` for NDIS.
pub const NBL_FLAGS_NDIS_RESERVED: ULONG = 0xFFC;
/// Bits of `Flags` for the protocol driver.
pub const NBL_FLAGS_PROTOCOL_RESERVED: ULONG = 0xFFF0_0003;
/// Bits of `Flags` for the owner.
pub const NBL_FLAGS_SCRATCH: ULONG = 0x000F_0000;

// [`NET_BUFFER_LIST::NblFlags`].

/// Header and data are split.
pub const NDIS_NBL_FLAGS_HD_SPLIT: ULONG = 0x100;
/// All frames are IPv4 (a hint).
pub const NDIS_NBL_FLAGS_IS_IPV4: ULONG = 0x200;
/// All frames are IPv6 (a hint).
pub const NDIS_NBL_FLAGS_IS_IPV6: ULONG = 0x400;
/// Looped back.
pub const NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET: ULONG = 0x8000;
/// All frames are TCP (a hint).
pub const NDIS_NBL_FLAGS_IS_TCP: ULONG = 0x800;
/// All frames are UDP (a hint).
pub const NDIS_NBL_FLAGS_IS_UDP: ULONG = 0x1000;
/// The list may not be changed in receives.
pub const NDIS_NBL_FLAGS_RECV_READ_ONLY: ULONG = 2;
/// The list may not be changed in sends.
pub const NDIS_NBL_FLAGS_SEND_READ_ONLY: ULONG = 1;
/// Split where the upper-layer header starts.
pub const NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_HEADER: ULONG = 0x2000;
/// Split where the upper-layer payload starts.
pub const NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_PAYLOAD: ULONG = 0x4000;

// `SendFlags` of [`MINIPORT_SEND_NET_BUFFER_LISTS`].

/// Frames to be looped back may be among them; NDIS does it if [`NDIS_MAC_OPTION_NO_LOOPBACK`] is set.
pub const NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: ULONG = 2;
/// The caller is at DISPATCH_LEVEL.
pub const NDIS_SEND_FLAGS_DISPATCH_LEVEL: ULONG = 1;
/// All lists are for one VM queue.
pub const NDIS_SEND_FLAGS_SINGLE_QUEUE: ULONG = 4;
/// All lists have the same destinations (Hyper-V switch).
pub const NDIS_SEND_FLAGS_SWITCH_DESTINATION_GROUP: ULONG = 0x10;
/// All lists have one source port (Hyper-V switch).
pub const NDIS_SEND_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 0x20;

// `SendCompleteFlags` of [`NdisMSendNetBufferListsComplete`].

/// The caller is at DISPATCH_LEVEL.
pub const NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL: ULONG = 1;
/// All lists are of one VM queue.
pub const NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE: ULONG = 2;
/// All lists have one source port (Hyper-V switch).
pub const NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 4;

// `ReceiveFlags` of [`NdisMIndicateReceiveNetBufferLists`].

/// The caller is at DISPATCH_LEVEL.
pub const NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL: ULONG = 1;
/// More lists follow; reserved.
pub const NDIS_RECEIVE_FLAGS_MORE_NBLS: ULONG = 0x2000;
/// All frames pass the packet filter exactly.
pub const NDIS_RECEIVE_FLAGS_PERFECT_FILTERED: ULONG = 0x400;
/// The miniport has the lists back when the call returns; they are not passed to its return handler.
pub const NDIS_RECEIVE_FLAGS_RESOURCES: ULONG = 2;
/// `SharedMemoryInfo` is valid.
pub const NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID: ULONG = 0x1000;
/// All frames have one Ethernet type.
pub const NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE: ULONG = 0x100;
/// All lists are of one VM queue.
pub const NDIS_RECEIVE_FLAGS_SINGLE_QUEUE: ULONG = 0x800;
/// All frames are of one VLAN.
pub const NDIS_RECEIVE_FLAGS_SINGLE_VLAN: ULONG = 0x200;
/// All lists have the same destinations (Hyper-V switch).
pub const NDIS_RECEIVE_FLAGS_SWITCH_DESTINATION_GROUP: ULONG = 0x4000;
/// All lists have one source port (Hyper-V switch).
pub const NDIS_RECEIVE_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 0x8000;

// `ReturnFlags` of [`MINIPORT_RETURN_NET_BUFFER_LISTS`].

/// The caller is at DISPATCH_LEVEL.
pub const NDIS_RETURN_FLAGS_DISPATCH_LEVEL: ULONG = 1;
/// All lists are of one VM queue.
pub const NDIS_RETURN_FLAGS_SINGLE_QUEUE: ULONG = 2;
/// All lists have one source port (Hyper-V switch).
pub const NDIS_RETURN_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 4;

// [`NET_BUFFER_LIST_POOL_PARAMETERS::ProtocolId`].

/// No protocol in particular.
pub const NDIS_PROTOCOL_ID_DEFAULT: UCHAR = 0;
/// IPv6.
pub const NDIS_PROTOCOL_ID_IP6: UCHAR = 3;
/// The bits of a protocol identifier.
pub const NDIS_PROTOCOL_ID_MASK: UCHAR = 0xF;
/// TCP/IP.
pub const NDIS_PROTOCOL_ID_TCP_IP: UCHAR = 2;

// Ethernet types, host byte order.

/// Ethernet type of a VLAN tag.
pub const NDIS_ETH_TYPE_802_1Q: USHORT = 0x8100;
/// Ethernet type of 802.1X.
pub const NDIS_ETH_TYPE_802_1X: USHORT = 0x888E;
/// Ethernet type of ARP.
pub const NDIS_ETH_TYPE_ARP: USHORT = 0x806;
/// Ethernet type of IPv4.
pub const NDIS_ETH_TYPE_IPV4: USHORT = 0x800;
/// Ethernet type of IPv6.
pub const NDIS_ETH_TYPE_IPV6: USHORT = 0x86DD;
/// Ethernet type of slow protocols (link aggregation).
pub const NDIS_ETH_TYPE_SLOW_PROTOCOL: USHORT = 0x8809;
