//! Status indications.

use std::mem::zeroed;
use std::ptr::null_mut;

use ndis_sys::*;

use super::{Adapter, M, WILD, header, is};

/// Indicates a link state.
pub(super) unsafe fn indicate_link(adapter: *mut Adapter, connect: NDIS_MEDIA_CONNECT_STATE) {
    let mut state: NDIS_LINK_STATE = zeroed();
    let wrong = if is(M::StatusSize) { 4 } else { 0 };
    state.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_LINK_STATE_REVISION_1 + wrong);
    state.MediaConnectState = connect;
    if connect == MediaConnectStateConnected && !is(M::LinkSpeedNotTold) {
        (state.XmitLinkSpeed, state.RcvLinkSpeed) = (10_000_000_000, 10_000_000_000);
        state.MediaDuplexState = MediaDuplexStateFull;
    }
    let code = if is(M::StatusForeign) {
        NDIS_STATUS_RESET_START
    } else if is(M::StatusOld) {
        NDIS_STATUS_MEDIA_CONNECT
    } else {
        NDIS_STATUS_LINK_STATE
    };
    let size = if is(M::StatusShort) { 20 } else { size_of::<NDIS_LINK_STATE>() as u32 };
    indicate(adapter, code, (&raw mut state).cast(), size);
}

/// Indicates a status.
pub(super) unsafe fn indicate(adapter: *mut Adapter, code: NDIS_STATUS, buffer: PVOID, size: u32) {
    let mut indication: NDIS_STATUS_INDICATION = zeroed();
    indication.Header =
        header(NDIS_OBJECT_TYPE_STATUS_INDICATION, 1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1);
    if is(M::StatusRevision) {
        indication.Header.Revision = 2;
    }
    indication.SourceHandle = if is(M::StatusSource) { null_mut() } else { (*adapter).handle };
    indication.PortNumber = if is(M::StatusPort) { 1 } else { 0 };
    indication.StatusCode = code;
    indication.StatusBuffer = match () {
        () if is(M::StatusNoBuffer) => null_mut(),
        () if is(M::StatusBufferWild) => WILD as PVOID,
        () => buffer,
    };
    indication.StatusBufferSize = size;
    NdisMIndicateStatusEx((*adapter).handle, &mut indication);
}
