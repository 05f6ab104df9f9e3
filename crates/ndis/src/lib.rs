//! Safe layer over NDIS 6.30: write an Ethernet miniport without `unsafe`.
//!
//! A driver implements two traits, [`Driver`] for its image and [`Miniport`] for its adapters, and calls [`driver_entry`] in
//! DriverEntry. The layer owns every function that NDIS calls ([`callbacks`](self)) and hands over what they bring as owned
//! values:
//!
//! | NDIS | here | what the type sees to |
//! |---|---|---|
//! | adapter context, handle | [`Initializing`], [`Handle`] | attributes in order; no handler before or after the miniport's life; no call after halt |
//! | MiniportPause | [`Pause`] | completes once, when nothing is in flight |
//! | send NBLs | [`SendChain`], [`SendNbl`], [`CompletedChain`] | each completed once |
//! | NET_BUFFER, MDLs | [`NetBuffer`] | bytes are copied out, within bounds |
//! | receive NBLs | [`ReceivePool`], [`ReceiveBatch`], [`ReturnedChain`] | no access while indicated |
//! | OID requests | [`OidRequest`], [`PendedOid`] | answered once, on their path, byte counts right |
//! | IPsecOV2 structures | [`SaRequest`], [`DeleteSaList`], [`UpdateSa`] | checked before anything is done |
//! | pool, spin lock, registry | [`PoolAlloc`], [`SpinLock`], [`Configuration`] | allocation may fail; guards; defaults |
//!
//! This crate touches NDIS through `ndis-sys` alone and has no state of its own.
#![no_std]
// The WDK's names appear in patterns.
#![allow(non_upper_case_globals)]

mod adapter;
mod attributes;
mod callbacks;
mod config;
mod driver;
mod indication;
mod initialize;
mod ipsec_v2;
mod irql;
mod lock;
mod miniport;
mod nbl;
mod offload;
mod oid;
mod pause;
mod pnp;
mod pool;
mod reset;
mod rundown;
mod status;

pub use adapter::Handle;
pub use attributes::{
    GeneralAttributes, LinkState, MAC_ADDRESS_LENGTH, MacAddress, MediaConnectState, MediaDuplexState,
    OffloadAttributes, PauseFunctions, Registration,
};
pub use config::Configuration;
pub use driver::{Driver, DriverCell, DriverRef, DriverVersion, NDIS_VERSION, driver_entry};
pub use indication::StatusIndication;
pub use initialize::{Attributed, Initialized, Initializing};
pub use ipsec_v2::{
    CryptoStatus, DeleteSaHandles, DeleteSaList, Endpoints, IpsecOperation, IpsecReceive, IpsecReceiveHeader,
    IpsecSend, IpsecSendHeader, MAX_SA_KEY, MAX_SA_LIST, SaAlgorithm, SaAssociation, SaRequest, UpdateSa,
};
pub use irql::Irql;
pub use lock::{SpinLock, SpinLockGuard};
pub use miniport::{HaltAction, Miniport, SendContext, ShutdownAction};
pub use nbl::cursor::{CopyError, NetBuffer, NetBuffers};
pub use nbl::oob::{ChecksumReceive, ChecksumSend, ChecksumVerdict, LargeSend, LargeSendVersion, VlanTag};
pub use nbl::receive::{ReceiveBatch, ReceiveBuffer, ReceiveFlags, ReceiveOob, ReceivePool, ReturnedChain};
pub use nbl::send::{CancelId, CompletedChain, SendChain, SendNbl};
pub use offload::{
    ChecksumIpv4, ChecksumIpv6, ChecksumSetting, EncapsulationFamily, IpsecOffload, IpsecSetting, LsoV1,
    LsoV2Ipv4, LsoV2Ipv6, Offload, OffloadEncapsulation, OffloadParameters, OffloadSwitch, Toggle,
};
pub use oid::{
    Applied, Direct, OidCompletion, OidKind, OidPath, OidRequest, PendedOid, Regular, RequestId, SetError,
    Statistics,
};
pub use pause::{Pause, PauseOutcome, Restart};
pub use pnp::PnpEvent;
pub use pool::{PoolAlloc, pool_tag};
pub use reset::{Reset, ResetOutcome};
pub use status::{Result, Status};

/// The constants that NDIS's numbers come from, and its raw types.
pub use ndis_sys as sys;

/// Fallible `Box` and `Vec`, for use with [`PoolAlloc`].
pub use allocator_api2 as alloc;
