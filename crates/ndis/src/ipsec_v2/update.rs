//! UPDATE_SA: one association's new sequence number high half (`[oid-tcp-task-ipsec-offload-v2-update-sa]`).

use core::mem::offset_of;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_UPDATE_SA, NDIS_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1,
};

use super::sa::IpsecOperation;
use crate::oid::{SetError, checked_header, u32_at, usize_at};

/// A checked IPSEC_OFFLOAD_V2_UPDATE_SA. Always one: the structure has no `Next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateSa {
    /// The SA's handle.
    pub handle: usize,
    /// AH or ESP.
    pub operation: IpsecOperation,
    /// Its SPI, as stored.
    pub spi: u32,
    /// The new high half.
    pub sequence_high: u32,
}

impl UpdateSa {
    /// Bytes to report as read.
    pub(super) const SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1 as usize;

    pub(super) fn parse(buffer: &[u8]) -> Result<Self, SetError> {
        checked_header(
            buffer,
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1,
            Self::SIZE,
        )?;
        Ok(Self {
            handle: usize_at(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, OffloadHandle))?,
            operation: IpsecOperation::from_raw(
                u32_at(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation))?.cast_signed(),
            )?,
            spi: u32_at(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Spi))?,
            sequence_high: u32_at(buffer, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, SequenceNumberHighOrder))?,
        })
    }
}
