//! What a driver left in a request and its buffer, against what its page allows.

use ndis_sys::{NDIS_OID, NDIS_OID_REQUEST, NDIS_STATUS_INDICATION_REQUIRED, NDIS_STATUS_SUCCESS};

use super::{GUARD, GUARD_BYTE, OidKind, OidOutcome, PendingOid, UNWRITTEN};
use crate::rules;

/// Sets whose buffer the miniport writes into (`oid-tcp-task-ipsec-offload-v2-add-sa`, `-add-sa-ex`).
const RETURN_IN_PLACE: [NDIS_OID; 2] =
    [ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA, ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX];

/// Whether a request may end with this: a status of its page that is no failure, or a failure of the system
/// or of NDIS. Pages of single OIDs have failures of their own.
fn is_status(status: i32) -> bool {
    let known = [
        NDIS_STATUS_SUCCESS,
        NDIS_STATUS_INDICATION_REQUIRED,
        ndis_sys::NDIS_STATUS_NOT_ACCEPTED,
        ndis_sys::NDIS_STATUS_NOT_RECOGNIZED,
        ndis_sys::NDIS_STATUS_BUFFER_OVERFLOW,
        ndis_sys::NDIS_STATUS_NOT_RESETTABLE,
    ];
    // Facilities: the system's, that of the statuses of NDIS 5, that of those of NDIS 6.
    known.contains(&status) || matches!(status.cast_unsigned() >> 16, 0xc000 | 0xc001 | 0xc023)
}

impl PendingOid {
    /// Reads and checks what the driver left in request and buffer.
    pub(super) fn outcome(&self, status: i32) -> OidOutcome {
        let oid = self.address as *const NDIS_OID_REQUEST;
        // SAFETY: the request is memory of ours, and the driver is done with it. The union's arms
        // hold plain numbers and a pointer, all initialised.
        let (written, read, needed, revision, now) = unsafe {
            let (written, read, needed) = match self.request.kind {
                OidKind::Query | OidKind::QueryStatistics => {
                    let data = (*oid).DATA.QUERY_INFORMATION;
                    (data.BytesWritten, 0, data.BytesNeeded)
                }
                OidKind::Set => {
                    let data = (*oid).DATA.SET_INFORMATION;
                    (0, data.BytesRead, data.BytesNeeded)
                }
                OidKind::Method => {
                    let data = (*oid).DATA.METHOD_INFORMATION;
                    (data.BytesWritten, data.BytesRead, data.BytesNeeded)
                }
            };
            let now = std::slice::from_raw_parts(oid.cast::<u8>(), size_of::<NDIS_OID_REQUEST>());
            (written, read, needed, (*oid).SupportedRevision, now)
        };
        // Header to RequestHandle, OID, buffer and lengths, reserved bytes of NDIS and of the sender.
        for (range, what) in [
            (0..52, "header, type, identifiers, buffer"),
            (72..200, "NdisReserved"),
            (216..232, "SourceReserved"),
        ] {
            if now[range.clone()] != self.before[range] {
                self.violate(rules::OID_REQUEST_CHANGED, format!("{what} changed"));
            }
        }
        if !is_status(status) {
            let text = format!("it ends with {:#010x}, which is no status of NDIS", status.cast_unsigned());
            self.violate(rules::OID_STATUS, text);
        }
        // Only pages of mobile broadband, whose OIDs begin with 0x0e, ask for it.
        if status == NDIS_STATUS_INDICATION_REQUIRED && self.request.oid >> 24 != 0x0e {
            let text =
                "it ends with NDIS_STATUS_INDICATION_REQUIRED, which the page of this OID does not name";
            self.violate(rules::OID_STATUS, text);
        }
        let buffer = self.check_buffer(status, written, read, needed);
        OidOutcome {
            status,
            pended: self.pended,
            bytes_written: written,
            bytes_read: read,
            bytes_needed: needed,
            buffer,
            supported_revision: revision,
        }
    }

    fn check_buffer(&self, status: i32, written: u32, read: u32, needed: u32) -> Vec<u8> {
        let success = status == NDIS_STATUS_SUCCESS || status == NDIS_STATUS_INDICATION_REQUIRED;
        let Some(memory) = &self.buffer else { return Vec::new() };
        let (input, output) = (self.request.input.len(), self.request.output);
        let length = input.max(output);
        let start = GUARD + self.request.misalign;
        // SAFETY: the buffer is initialised memory of ours, and the driver is done with it.
        let whole =
            unsafe { std::slice::from_raw_parts(memory.address() as *const u8, length + 2 * GUARD + 8) };
        let outside = |at: &usize| *at < start || *at >= start + length;
        if let Some(at) = (0..whole.len()).filter(outside).find(|at| whole[*at] != GUARD_BYTE) {
            let offset = at.cast_signed() - start.cast_signed();
            self.violate(
                rules::OID_OVERRUN,
                format!("byte {offset} of a buffer of {length} bytes was written"),
            );
        }
        let buffer = &whole[start..start + length];
        let untouched = |from: usize| {
            let was = |at: usize| self.request.input.get(at).copied().unwrap_or(UNWRITTEN);
            (from..length).find(|at| buffer[*at] != was(*at))
        };
        match self.request.kind {
            OidKind::Query | OidKind::QueryStatistics => {
                if written as usize > length {
                    self.violate(rules::OID_BYTES, format!("BytesWritten {written} of {length}"));
                } else if !success && written != 0 {
                    self.violate(
                        rules::OID_BYTES,
                        format!("BytesWritten {written} with status {:#x}", status.cast_unsigned()),
                    );
                }
                if success && let Some(at) = untouched((written as usize).min(length)) {
                    self.violate(
                        rules::OID_OVERRUN,
                        format!("byte {at} was written, BytesWritten is {written}"),
                    );
                }
                if !success && let Some(at) = untouched(0) {
                    self.violate(
                        rules::OID_FAILED_WRITE,
                        format!("byte {at} was written, the status is {:#x}", status.cast_unsigned()),
                    );
                }
            }
            OidKind::Set => {
                if read as usize > length {
                    self.violate(rules::OID_BYTES, format!("BytesRead {read} of {length}"));
                }
                // ADD_SA and ADD_SA_EX return the handle in place, on whichever path they come.
                let returns_in_place = self.request.direct || RETURN_IN_PLACE.contains(&self.request.oid);
                if let Some(at) = untouched(0)
                    && !returns_in_place
                {
                    self.violate(rules::OID_SET_WRITE, format!("byte {at} was written"));
                }
            }
            OidKind::Method => {
                if written as usize > output || read as usize > input {
                    self.violate(
                        rules::OID_BYTES,
                        format!("BytesWritten {written} of {output}, BytesRead {read} of {input}"),
                    );
                }
            }
        }
        let short = [ndis_sys::NDIS_STATUS_INVALID_LENGTH, ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT];
        let too_short =
            short.contains(&status) && matches!(self.request.kind, OidKind::Query | OidKind::QueryStatistics);
        if too_short && needed as usize <= length {
            self.violate(
                rules::OID_BYTES,
                format!("status {:#x} for {length} bytes, BytesNeeded is {needed}", status.cast_unsigned()),
            );
        }
        buffer.to_vec()
    }
}
