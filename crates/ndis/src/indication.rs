//! Status indications (`[nf-ndis-ndismindicatestatusex]`).

use core::ptr;

use ndis_sys::{
    GUID, NDIS_DEFAULT_PORT_NUMBER, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_STATUS_INDICATION,
    NDIS_SIZEOF_STATUS_INDICATION_REVISION_1, NDIS_STATUS, NDIS_STATUS_INDICATION,
    NDIS_STATUS_INDICATION_REVISION_1, NDIS_STATUS_LINK_STATE, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG,
    NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES, ULONG,
};

use crate::adapter::Handle;
use crate::attributes::LinkState;
use crate::offload::Offload;

/// Something to tell the drivers above.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StatusIndication<'a> {
    /// The link changed; also on the way to low power (unknown) and back.
    LinkState(LinkState),
    /// What is offloaded now: after each successful set of OFFLOAD_PARAMETERS or OFFLOAD_ENCAPSULATION, and any other change.
    TaskOffloadCurrentConfig(&'a Offload),
    /// What could be offloaded has changed.
    TaskOffloadHardwareCapabilities(&'a Offload),
}

impl Handle {
    /// Indicates a status to the drivers above. IRQL <= DISPATCH_LEVEL, no lock held. Nothing happens once the adapter is
    /// halted.
    pub fn indicate_status(&self, indication: StatusIndication<'_>) {
        match indication {
            StatusIndication::LinkState(state) => self.indicate(NDIS_STATUS_LINK_STATE, &state.to_raw()),
            StatusIndication::TaskOffloadCurrentConfig(offload) => {
                self.indicate(NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, &offload.to_raw());
            }
            StatusIndication::TaskOffloadHardwareCapabilities(offload) => {
                self.indicate(NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES, &offload.to_raw());
            }
        }
    }

    fn indicate<T>(&self, code: NDIS_STATUS, buffer: &T) {
        let mut indication = NDIS_STATUS_INDICATION {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_STATUS_INDICATION,
                Revision: NDIS_STATUS_INDICATION_REVISION_1,
                Size: NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
            },
            SourceHandle: ptr::null_mut(), // the adapter's, filled in below
            PortNumber: NDIS_DEFAULT_PORT_NUMBER,
            StatusCode: code,
            Flags: 0,
            DestinationHandle: ptr::null_mut(),
            RequestId: ptr::null_mut(),
            StatusBuffer: ptr::from_ref(buffer).cast_mut().cast(),
            // The structures indicated have a few hundred bytes at most.
            StatusBufferSize: ULONG::try_from(size_of::<T>()).unwrap_or(0),
            Guid: GUID::default(),
            NdisReserved: [ptr::null_mut(); 4],
        };
        self.indicate_status_raw(&mut indication);
    }
}
