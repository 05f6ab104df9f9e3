//! `OID_GEN_*`: what the adapter is, and the packet filter.

use ndis::{Driver, OidCompletion, OidRequest, Regular, SetError, Status};
use ndis_sys as sys;

use crate::{
    Ipsecnic,
    adapter::{Adapter, attributes::PACKET_FILTERS, settings::RECEIVE_BUFFERS},
    nic::filter::PacketFilter,
};

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

/// Without an OUI of its own a vendor answers FFFFFF; the low byte is the device's, here its only model.
const VENDOR_ID: u32 = 0x00FF_FFFF;

/// ANSI with its terminating zero, as the sample drivers have it; the page says Unicode.
const VENDOR_DESCRIPTION: &[u8] = b"ipsecnic IPsec Offload Ethernet Adapter\0";

pub(super) fn hardware_status<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(sys::NdisHardwareStatusReady.cast_unsigned())
}

pub(super) fn transmit_buffer_space<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(adapter.settings.max_frame.saturating_mul(adapter.transmit_buffers.count()))
}

pub(super) fn receive_buffer_space<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(adapter.settings.max_frame.saturating_mul(RECEIVE_BUFFERS))
}

pub(super) fn max_frame<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(adapter.settings.max_frame)
}

pub(super) fn vendor_id<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(VENDOR_ID)
}

pub(super) fn vendor_description<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_bytes(VENDOR_DESCRIPTION)
}

pub(super) fn vendor_driver_version<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    let version = Ipsecnic::VERSION;
    request.answer_u32(u32::from(version.major) << 16 | u32::from(version.minor))
}

/// Obsolete, but a test of the HCK fails without it. There is no limit.
pub(super) fn max_send_packets<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(u32::MAX)
}

/// Sends complete within the call; nothing ever waits.
pub(super) fn transmit_queue_length<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(0)
}

pub(super) fn set_packet_filter<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_u32_exact(|bits| {
        if bits & !PACKET_FILTERS != 0 {
            return Err(Status::NOT_SUPPORTED);
        }
        let has = |bit: u32| bits & bit != 0;
        adapter.nic.port().set_packet_filter(PacketFilter {
            directed: has(sys::NDIS_PACKET_TYPE_DIRECTED),
            multicast: has(sys::NDIS_PACKET_TYPE_MULTICAST),
            all_multicast: has(sys::NDIS_PACKET_TYPE_ALL_MULTICAST),
            broadcast: has(sys::NDIS_PACKET_TYPE_BROADCAST),
            promiscuous: has(sys::NDIS_PACKET_TYPE_PROMISCUOUS),
        });
        Ok(())
    })
}

/// Whole frames are indicated in one piece, more than any lookahead asks for.
pub(super) fn set_lookahead<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_u32(|_| Ok(()))
}

/// The wire has one speed and duplex.
pub(super) fn set_link_parameters<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| -> Result<usize, SetError> {
        let needed = sys::NDIS_SIZEOF_LINK_PARAMETERS_REVISION_1.into();
        if input.len() < needed {
            return Err(SetError { status: Status::INVALID_LENGTH, needed });
        }
        Err(Status::NOT_ACCEPTED.into())
    })
}

pub(super) fn interrupt_moderation<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_interrupt_moderation(sys::NdisInterruptModerationNotSupported)
}

pub(super) fn set_interrupt_moderation<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| -> Result<usize, SetError> {
        let needed = sys::NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1.into();
        if input.len() < needed {
            return Err(SetError { status: Status::INVALID_LENGTH, needed });
        }
        Err(Status::INVALID_DATA.into())
    })
}
