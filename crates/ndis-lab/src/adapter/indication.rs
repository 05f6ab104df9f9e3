//! Status indications and error log entries: recorded, with their buffers copied.

use ndis_sys::{NDIS_OFFLOAD, NDIS_STATUS_INDICATION};
use parking_lot::Mutex;

use super::attributes::{self, LINK_STATE, STATUS_INDICATION};
use super::{Adapter, AdapterCore};
use crate::machine::Machine;
use crate::rules;

/// A status that the driver indicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `StatusCode`.
    pub code: i32,
    /// A copy of the status buffer.
    pub buffer: Vec<u8>,
    /// `PortNumber`.
    pub port: u32,
    /// `RequestId`, when it answers a request.
    pub request_id: usize,
}

impl Status {
    /// The buffer as NDIS_OFFLOAD, for a `TASK_OFFLOAD_…` indication.
    pub fn offload(&self) -> Option<NDIS_OFFLOAD> {
        if self.buffer.len() < ndis_sys::NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1.into() {
            return None;
        }
        // Of any revision: which one a driver has to use is judged where it indicates.
        let header = read_header(&self.buffer)?;
        let shape = attributes::check(header, attributes::NDIS_OFFLOAD_SHAPES, 1).ok()?;
        let mut whole = NDIS_OFFLOAD::default();
        let len = usize::from(shape.size).min(self.buffer.len()).min(size_of::<NDIS_OFFLOAD>());
        // SAFETY: buffer and `whole` have `len` bytes at least, and any bytes are a value of its numbers.
        unsafe { std::ptr::copy_nonoverlapping(self.buffer.as_ptr(), (&raw mut whole).cast(), len) };
        Some(whole)
    }
}

/// An entry that the driver wrote to the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorLogEntry {
    /// `ErrorCode`.
    pub code: u32,
    /// The values with it.
    pub values: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct Indications {
    statuses: Mutex<Vec<Status>>,
    pub(crate) log: Mutex<Vec<ErrorLogEntry>>,
    /// What the last indication said is in force.
    offload: Mutex<Option<NDIS_OFFLOAD>>,
    /// The last link state indication: (connect state, duplex, transmit speed, receive speed).
    pub(crate) link: Mutex<Option<(i32, i32, u64, u64)>>,
}

impl Adapter {
    /// What the driver indicated since the last look; takes it.
    pub fn take_statuses(&self) -> Vec<Status> {
        std::mem::take(&mut *self.core.indications.statuses.lock())
    }

    /// What the driver indicated since the last [`Adapter::take_statuses`].
    pub fn statuses(&self) -> Vec<Status> {
        self.core.indications.statuses.lock().clone()
    }

    /// The offload configuration in force: the last indicated one, or the default of the attributes.
    pub fn current_offload(&self) -> Option<NDIS_OFFLOAD> {
        let indicated = *self.core.indications.offload.lock();
        indicated.or_else(|| self.core.attributes.lock().offload.map(|o| o.default))
    }

    /// Error log entries that the driver wrote for this adapter.
    pub fn error_log(&self) -> Vec<ErrorLogEntry> {
        self.core.indications.log.lock().clone()
    }
}

/// A structure that starts a status buffer.
fn read_header(buffer: &[u8]) -> Option<ndis_sys::NDIS_OBJECT_HEADER> {
    let [kind, revision, low, high, ..] = *buffer else { return None };
    Some(ndis_sys::NDIS_OBJECT_HEADER {
        Type: kind,
        Revision: revision,
        Size: u16::from_le_bytes([low, high]),
    })
}

impl Machine {
    /// `NdisMIndicateStatusEx`.
    ///
    /// # Safety
    /// `indication` points to a structure as large as its header says, with a buffer of its size.
    pub(crate) unsafe fn indicate_status(
        &self,
        adapter: &AdapterCore,
        indication: *const NDIS_STATUS_INDICATION,
    ) {
        // SAFETY: the caller vouches for the structure; the header comes first.
        if let Err(text) = attributes::check(unsafe { (*indication).Header }, STATUS_INDICATION, 1) {
            self.violate_for(adapter, rules::STATUS_HEADER, text);
            return;
        }
        // SAFETY: the header says that the structure is complete.
        let indication = unsafe { *indication };
        let size = indication.StatusBufferSize as usize;
        if indication.SourceHandle as usize != adapter.handle {
            self.violate_for(
                adapter,
                rules::STATUS_HEADER,
                format!("SourceHandle {:p} is not the adapter's handle", indication.SourceHandle),
            );
        }
        if indication.PortNumber != 0 {
            self.violate_for(
                adapter,
                rules::STATUS_HEADER,
                format!("PortNumber {}: the adapter has port 0 only", indication.PortNumber),
            );
        }
        if indication.StatusBuffer.is_null() && size != 0 {
            self.violate_for(adapter, rules::STATUS_HEADER, format!("{size} bytes at NULL"));
            return;
        }
        let mut buffer = vec![0_u8; size];
        if size > 0 {
            // SAFETY: the caller vouches for the buffer; it is not NULL.
            let source = unsafe { std::slice::from_raw_parts(indication.StatusBuffer.cast::<u8>(), size) };
            buffer.copy_from_slice(source);
        }
        if adapter.context() == 0 {
            self.violate_for(
                adapter,
                rules::ATTRIBUTE_ORDER,
                "a status is indicated before the registration attributes are set",
            );
        }
        self.check_status(adapter, indication.StatusCode, &buffer);
        let status = Status {
            code: indication.StatusCode,
            buffer,
            port: indication.PortNumber,
            request_id: indication.RequestId as usize,
        };
        if status.code == ndis_sys::NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG {
            *adapter.indications.offload.lock() = status.offload();
        }
        if status.code == ndis_sys::NDIS_STATUS_LINK_STATE && status.buffer.len() >= 40 {
            let word =
                |at: usize| i32::from_le_bytes(status.buffer[at..at + 4].try_into().unwrap_or_default());
            let long =
                |at: usize| u64::from_le_bytes(status.buffer[at..at + 8].try_into().unwrap_or_default());
            *adapter.indications.link.lock() = Some((word(4), word(8), long(16), long(24)));
        }
        adapter.indications.statuses.lock().push(status);
        self.notify();
    }

    fn check_status(&self, adapter: &AdapterCore, code: i32, buffer: &[u8]) {
        let minor = adapter.driver.minor();
        let found = format!("status {:#010x}", code.cast_unsigned());
        let header = read_header(buffer);
        let shaped = |shapes: &[attributes::Shape], least: u8| match header {
            Some(header) => attributes::check(header, shapes, least).and_then(|shape| {
                if buffer.len() >= usize::from(shape.size) {
                    Ok(())
                } else {
                    Err(format!("{} bytes do not hold {}", buffer.len(), shape.name))
                }
            }),
            None => Err(format!("{} bytes do not hold a header", buffer.len())),
        };
        let checked = match code {
            ndis_sys::NDIS_STATUS_LINK_STATE => shaped(LINK_STATE, 1),
            ndis_sys::NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG
            | ndis_sys::NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES => {
                shaped(attributes::NDIS_OFFLOAD_SHAPES, if minor >= 30 { 3 } else { 1 })
            }
            ndis_sys::NDIS_STATUS_NETWORK_CHANGE if buffer.len() != 4 => {
                Err("the buffer is an NDIS_NETWORK_CHANGE_TYPE".into())
            }
            _ => Ok(()),
        };
        if let Err(text) = checked {
            self.violate_for(adapter, rules::STATUS_HEADER, format!("{found}: {text}"));
        }
        let foreign = [
            ndis_sys::NDIS_STATUS_RESET_START,
            ndis_sys::NDIS_STATUS_RESET_END,
            ndis_sys::NDIS_STATUS_PACKET_FILTER,
            ndis_sys::NDIS_STATUS_OPER_STATUS,
            ndis_sys::NDIS_STATUS_MEDIA_CONNECT,
            ndis_sys::NDIS_STATUS_MEDIA_DISCONNECT,
        ];
        if foreign.contains(&code) {
            self.violate_for(adapter, rules::STATUS_CODE, format!("{found} is not a miniport's to indicate"));
        }
    }
}
