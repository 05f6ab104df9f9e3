//! NET_BUFFER and NET_BUFFER_LIST.

use crate::*;

#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER {
    pub Next: *mut NET_BUFFER,
    pub CurrentMdl: *mut MDL,
    pub CurrentMdlOffset: ULONG,
    _align_data_length: ULONG,
    pub DataLength: ULONG,
    pub MdlChain: *mut MDL,
    pub DataOffset: ULONG,
    pub ChecksumBias: USHORT,
    pub Reserved: USHORT,
    pub NdisPoolHandle: NDIS_HANDLE,
    pub NdisReserved: [PVOID; 2],
    pub ProtocolReserved: [PVOID; 6],
    pub MiniportReserved: [PVOID; 4],
    pub DataPhysicalAddress: LARGE_INTEGER,
    pub SharedMemoryInfo: *mut NET_BUFFER_SHARED_MEMORY,
}
const _: () = assert!(size_of::<NET_BUFFER>() == 176 && align_of::<NET_BUFFER>() == 16);

#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER_LIST {
    pub Next: *mut NET_BUFFER_LIST,
    pub FirstNetBuffer: *mut NET_BUFFER,
    pub Context: *mut NET_BUFFER_LIST_CONTEXT,
    pub ParentNetBufferList: *mut NET_BUFFER_LIST,
    pub NdisPoolHandle: NDIS_HANDLE,
    pub NdisReserved: [PVOID; 2],
    pub ProtocolReserved: [PVOID; 4],
    pub MiniportReserved: [PVOID; 2],
    pub Scratch: PVOID,
    pub SourceHandle: NDIS_HANDLE,
    pub NblFlags: ULONG,
    pub ChildRefCount: LONG,
    pub Flags: ULONG,
    pub Status: NDIS_STATUS,
    pub NetBufferListInfo: [PVOID; MaxNetBufferListInfo as usize],
}
const _: () = assert!(size_of::<NET_BUFFER_LIST>() == 336 && align_of::<NET_BUFFER_LIST>() == 16);

#[derive(Debug)]
#[repr(C, align(16))]
pub struct NET_BUFFER_LIST_CONTEXT {
    pub Next: *mut NET_BUFFER_LIST_CONTEXT,
    pub Size: USHORT,
    pub Offset: USHORT,
    pub ContextData: [UCHAR; 0],
}
const _: () =
    assert!(size_of::<NET_BUFFER_LIST_CONTEXT>() == 16 && align_of::<NET_BUFFER_LIST_CONTEXT>() == 16);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_LIST_POOL_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub ProtocolId: UCHAR,
    pub fAllocateNetBuffer: BOOLEAN,
    pub ContextSize: USHORT,
    pub PoolTag: ULONG,
    pub DataSize: ULONG,
}
const _: () = assert!(
    size_of::<NET_BUFFER_LIST_POOL_PARAMETERS>() == 16 && align_of::<NET_BUFFER_LIST_POOL_PARAMETERS>() == 4
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_POOL_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub PoolTag: ULONG,
    pub DataSize: ULONG,
}
const _: () =
    assert!(size_of::<NET_BUFFER_POOL_PARAMETERS>() == 12 && align_of::<NET_BUFFER_POOL_PARAMETERS>() == 4);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_BUFFER_SHARED_MEMORY {
    pub NextSharedMemorySegment: *mut NET_BUFFER_SHARED_MEMORY,
    pub SharedMemoryFlags: ULONG,
    pub SharedMemoryHandle: NDIS_HANDLE,
    pub SharedMemoryOffset: ULONG,
    pub SharedMemoryLength: ULONG,
}
const _: () =
    assert!(size_of::<NET_BUFFER_SHARED_MEMORY>() == 32 && align_of::<NET_BUFFER_SHARED_MEMORY>() == 8);

pub type NDIS_NET_BUFFER_LIST_INFO = i32;
pub const TcpIpChecksumNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 0;
pub const TcpOffloadBytesTransferred: NDIS_NET_BUFFER_LIST_INFO = 0;
pub const IPsecOffloadV1NetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 1;
pub const IPsecOffloadV2NetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 1;
pub const TcpLargeSendNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 2;
pub const TcpReceiveNoPush: NDIS_NET_BUFFER_LIST_INFO = 2;
pub const ClassificationHandleNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 3;
pub const Ieee8021QNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 4;
pub const NetBufferListCancelId: NDIS_NET_BUFFER_LIST_INFO = 5;
pub const MediaSpecificInformation: NDIS_NET_BUFFER_LIST_INFO = 6;
pub const NetBufferListFrameType: NDIS_NET_BUFFER_LIST_INFO = 7;
pub const NetBufferListProtocolId: NDIS_NET_BUFFER_LIST_INFO = 7;
pub const NetBufferListHashValue: NDIS_NET_BUFFER_LIST_INFO = 8;
pub const NetBufferListHashInfo: NDIS_NET_BUFFER_LIST_INFO = 9;
pub const WfpNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 10;
pub const IPsecOffloadV2TunnelNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 11;
pub const IPsecOffloadV2HeaderNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 12;
pub const NetBufferListCorrelationId: NDIS_NET_BUFFER_LIST_INFO = 13;
pub const NetBufferListFilteringInfo: NDIS_NET_BUFFER_LIST_INFO = 14;
pub const MediaSpecificInformationEx: NDIS_NET_BUFFER_LIST_INFO = 15;
pub const NblOriginalInterfaceIfIndex: NDIS_NET_BUFFER_LIST_INFO = 16;
pub const NblReAuthWfpFlowContext: NDIS_NET_BUFFER_LIST_INFO = 16;
pub const TcpReceiveBytesTransferred: NDIS_NET_BUFFER_LIST_INFO = 17;
pub const NrtNameResolutionId: NDIS_NET_BUFFER_LIST_INFO = 17;
pub const SwitchForwardingReserved: NDIS_NET_BUFFER_LIST_INFO = 18;
pub const SwitchForwardingDetail: NDIS_NET_BUFFER_LIST_INFO = 19;
pub const VirtualSubnetInfo: NDIS_NET_BUFFER_LIST_INFO = 20;
pub const IMReserved: NDIS_NET_BUFFER_LIST_INFO = 21;
pub const TcpRecvSegCoalesceInfo: NDIS_NET_BUFFER_LIST_INFO = 22;
pub const RscTcpTimestampDelta: NDIS_NET_BUFFER_LIST_INFO = 23;
pub const TcpSendOffloadsSupplementalNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 23;
pub const MaxNetBufferListInfo: NDIS_NET_BUFFER_LIST_INFO = 24;
pub const NBL_FLAGS_MINIPORT_RESERVED: ULONG = 0xF000;
pub const NBL_FLAGS_NDIS_RESERVED: ULONG = 0xFFC;
pub const NBL_FLAGS_PROTOCOL_RESERVED: ULONG = 0xFFF0_0003;
pub const NBL_FLAGS_SCRATCH: ULONG = 0x000F_0000;
pub const NDIS_NBL_FLAGS_HD_SPLIT: ULONG = 0x100;
pub const NDIS_NBL_FLAGS_IS_IPV4: ULONG = 0x200;
pub const NDIS_NBL_FLAGS_IS_IPV6: ULONG = 0x400;
pub const NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET: ULONG = 0x8000;
pub const NDIS_NBL_FLAGS_IS_TCP: ULONG = 0x800;
pub const NDIS_NBL_FLAGS_IS_UDP: ULONG = 0x1000;
pub const NDIS_NBL_FLAGS_RECV_READ_ONLY: ULONG = 2;
pub const NDIS_NBL_FLAGS_SEND_READ_ONLY: ULONG = 1;
pub const NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_HEADER: ULONG = 0x2000;
pub const NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_PAYLOAD: ULONG = 0x4000;
pub const NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: ULONG = 2;
pub const NDIS_SEND_FLAGS_DISPATCH_LEVEL: ULONG = 1;
pub const NDIS_SEND_FLAGS_SINGLE_QUEUE: ULONG = 4;
pub const NDIS_SEND_FLAGS_SWITCH_DESTINATION_GROUP: ULONG = 0x10;
pub const NDIS_SEND_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 0x20;
pub const NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL: ULONG = 1;
pub const NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE: ULONG = 2;
pub const NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 4;
pub const NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL: ULONG = 1;
pub const NDIS_RECEIVE_FLAGS_MORE_NBLS: ULONG = 0x2000;
pub const NDIS_RECEIVE_FLAGS_PERFECT_FILTERED: ULONG = 0x400;
pub const NDIS_RECEIVE_FLAGS_RESOURCES: ULONG = 2;
pub const NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID: ULONG = 0x1000;
pub const NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE: ULONG = 0x100;
pub const NDIS_RECEIVE_FLAGS_SINGLE_QUEUE: ULONG = 0x800;
pub const NDIS_RECEIVE_FLAGS_SINGLE_VLAN: ULONG = 0x200;
pub const NDIS_RECEIVE_FLAGS_SWITCH_DESTINATION_GROUP: ULONG = 0x4000;
pub const NDIS_RECEIVE_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 0x8000;
pub const NDIS_RETURN_FLAGS_DISPATCH_LEVEL: ULONG = 1;
pub const NDIS_RETURN_FLAGS_SINGLE_QUEUE: ULONG = 2;
pub const NDIS_RETURN_FLAGS_SWITCH_SINGLE_SOURCE: ULONG = 4;
pub const NDIS_PROTOCOL_ID_DEFAULT: UCHAR = 0;
pub const NDIS_PROTOCOL_ID_IP6: UCHAR = 3;
pub const NDIS_PROTOCOL_ID_IPX: UCHAR = 6;
pub const NDIS_PROTOCOL_ID_MASK: UCHAR = 0xF;
pub const NDIS_PROTOCOL_ID_MAX: UCHAR = 0xF;
pub const NDIS_PROTOCOL_ID_NBF: UCHAR = 7;
pub const NDIS_PROTOCOL_ID_TCP_IP: UCHAR = 2;
pub const NDIS_ETH_TYPE_802_1Q: USHORT = 0x8100;
pub const NDIS_ETH_TYPE_802_1X: USHORT = 0x888E;
pub const NDIS_ETH_TYPE_ARP: USHORT = 0x806;
pub const NDIS_ETH_TYPE_IPV4: USHORT = 0x800;
pub const NDIS_ETH_TYPE_IPV6: USHORT = 0x86DD;
pub const NDIS_ETH_TYPE_SLOW_PROTOCOL: USHORT = 0x8809;
