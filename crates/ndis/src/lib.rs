//! Safe layer over NDIS 6.30: write an Ethernet miniport without `unsafe`.
//!
//! A driver implements two traits, [`Driver`] for its image and [`Miniport`] for its adapters, and calls [`driver_entry`] in
//! DriverEntry. The layer owns every function that NDIS calls (`callbacks.rs`) and hands over what they bring as owned
//! values:
//!
//! | NDIS | here | what the type sees to |
//! |---|---|---|
//! | adapter context, handle | [`Initializing`], [`Handle`] | attributes in order; no handler before or after the miniport's life; no call after halt |
//! | MiniportPause | [`Pause`] | completes once, when nothing is in flight |
//! | send NBLs | [`nbl::SendChain`], [`nbl::SendNbl`], [`nbl::CompletedChain`] | each completed once |
//! | NET_BUFFER, MDLs | [`nbl::NetBuffer`] | bytes are copied out, within bounds |
//! | receive NBLs | [`nbl::ReceivePool`], [`nbl::ReceiveBatch`], [`nbl::ReturnedChain`] | no access while indicated |
//! | OID requests | [`oid::OidRequest`], [`oid::PendedOid`] | answered once, on their path, byte counts right |
//! | IPsecOV2 structures | [`ipsec_v2::SaRequest`], [`ipsec_v2::DeleteSaList`], [`ipsec_v2::UpdateSa`] | checked before anything is done |
//! | pool, spin lock, registry | [`pool::PoolAlloc`], [`pool::PoolArc`], [`lock::SpinLock`], [`Configuration`] | allocation may fail; guards; defaults |
//!
//! Where to look: who calls the driver, `callbacks.rs`; what keeps an adapter's memory alive, `adapter.rs` and `rundown.rs`; who
//! completes a send, `nbl/send.rs`. This crate touches NDIS through `ndis-sys` alone and has no state of its own.
//!
//! A miniport that loses what it is sent:
//!
//! ```no_run
//! use ndis::nbl::SendChain;
//! use ndis::oid::{Direct, OidCompletion, OidRequest, Regular};
//! use ndis::*;
//!
//! struct Hole;
//!
//! impl Driver for Hole {
//!     type Adapter = Adapter;
//!     const VERSION: DriverVersion = DriverVersion { major: 1, minor: 0 };
//!     fn cell() -> &'static DriverCell<Self> {
//!         static CELL: DriverCell<Hole> = DriverCell::new();
//!         &CELL
//!     }
//!     fn load() -> Result<Self> {
//!         Ok(Hole)
//!     }
//! }
//!
//! struct Adapter {
//!     running: lock::SpinLock<bool>,
//! }
//!
//! impl Miniport for Adapter {
//!     type Driver = Hole;
//!     fn initialize<'i>(_: &Hole, init: Initializing<'i, Self>) -> Result<Initialized<'i, Self>> {
//!         let address = init.configuration()?.network_address()?.unwrap_or([2, 0, 0, 0, 0, 1]);
//!         let init = init.set_general(&attributes(address))?;
//!         Ok(init.finish(Self { running: lock::SpinLock::new(false) }))
//!     }
//!     fn restart(&self, _: Restart<'_>) -> Result<()> {
//!         *self.running.lock() = true;
//!         Ok(())
//!     }
//!     fn pause(&self, pause: Pause) -> PauseOutcome {
//!         *self.running.lock() = false;
//!         PauseOutcome::Complete(pause)
//!     }
//!     fn halt(&self, _: HaltAction) {}
//!     fn oid_request<'r>(&self, request: OidRequest<'r, Regular>) -> OidCompletion<'r, Regular> {
//!         match request.oid() {
//!             ndis_sys::OID_GEN_XMIT_OK => request.answer_counter64(0),
//!             _ => request.fail(Status::NOT_SUPPORTED),
//!         }
//!     }
//!     fn direct_oid_request<'r>(&self, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
//!         request.fail(Status::NOT_SUPPORTED)
//!     }
//!     fn send(&self, chain: SendChain, context: SendContext<'_>) {
//!         let running = *self.running.lock();
//!         chain.complete(if running { Status::SUCCESS } else { Status::PAUSED }, context.irql);
//!     }
//! }
//!
//! ndis_sys::ndis_fn! {
//!     /// The one unsafe function of the driver.
//!     unsafe extern fn driver_entry(driver: *mut ndis_sys::DRIVER_OBJECT, path: *mut ndis_sys::UNICODE_STRING) -> i32 {
//!         // SAFETY: called by the kernel, once; `cell` is always the same static.
//!         unsafe { ndis::driver_entry::<Hole>(driver.cast(), path) }
//!     }
//! }
//! # fn attributes(_: MacAddress) -> GeneralAttributes { unimplemented!() }
//! ```
#![no_std]
// The WDK's names appear in patterns.
#![allow(non_upper_case_globals)]
// Documentation names C items as C does, without backquotes around each.
#![allow(clippy::doc_markdown)]

mod adapter;
mod attributes;
mod callbacks;
mod config;
mod driver;
mod indication;
mod initialize;
pub mod ipsec_v2;
mod irql;
pub mod lock;
mod miniport;
pub mod nbl;
pub mod offload;
pub mod oid;
mod pause;
mod pnp;
pub mod pool;
pub mod processor;
mod reset;
mod rundown;
mod status;
mod sync;
pub mod time;

pub use adapter::Handle;
pub use attributes::{
    GeneralAttributes, LinkState, MAC_ADDRESS_LENGTH, MacAddress, MediaConnectState, MediaDuplexState,
    OffloadAttributes, PauseFunctions, Registration,
};
pub use config::Configuration;
pub use driver::{Driver, DriverCell, DriverRef, DriverVersion, NDIS_VERSION, driver_entry};
pub use indication::StatusIndication;
pub use initialize::{Attributed, Initialized, Initializing};
#[doc(no_inline)]
pub use ipsec_v2::{
    CryptoStatus, DeleteSaHandles, DeleteSaList, Endpoints, IpsecOperation, IpsecReceive, IpsecReceiveHeader,
    IpsecSend, IpsecSendHeader, SaAlgorithm, SaAssociation, SaRequest, UpdateSa,
};
pub use irql::Irql;
#[doc(no_inline)]
pub use lock::{SpinLock, SpinLockGuard};
pub use miniport::{HaltAction, Miniport, SendContext, ShutdownAction};
#[doc(no_inline)]
pub use nbl::{
    CancelId, ChecksumReceive, ChecksumSend, ChecksumVerdict, CompletedChain, CopyError, LargeSend,
    LargeSendVersion, NetBuffer, NetBuffers, ReceiveBatch, ReceiveBuffer, ReceiveFlags, ReceiveOob,
    ReceivePool, ReturnedChain, SendChain, SendNbl, VlanTag,
};
#[doc(no_inline)]
pub use offload::{
    ChecksumIpv4, ChecksumIpv6, ChecksumSetting, EncapsulationFamily, IpsecOffload, IpsecSetting, LsoV1,
    LsoV2Ipv4, LsoV2Ipv6, Offload, OffloadEncapsulation, OffloadParameters, OffloadSwitch, Toggle,
};
#[doc(no_inline)]
pub use oid::{
    Applied, Direct, OidCompletion, OidKind, OidPath, OidRequest, PendedOid, PendedQueue, Regular, RequestId,
    SetError, Statistics,
};
pub use pause::{Pause, PauseOutcome, Restart};
pub use pnp::PnpEvent;
#[doc(no_inline)]
pub use pool::{OutOfMemory, PoolAlloc, PoolArc, pool_tag, try_box_with};
pub use reset::{Reset, ResetOutcome};
pub use status::{Result, Status};

/// `Box` and `Vec` with fallible allocation, for [`PoolAlloc`].
pub use allocator_api2 as alloc;
