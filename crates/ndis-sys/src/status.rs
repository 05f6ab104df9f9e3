//! Status codes that functions return. Those that are indicated are in `indication`.

use crate::{NDIS_STATUS, NTSTATUS, ULONG};

#[cfg(doc)] // for links
use crate::*;

// Statuses of NDIS functions and handlers.

/// Done.
pub const NDIS_STATUS_SUCCESS: NDIS_STATUS = 0;
/// The completion function will be called later.
pub const NDIS_STATUS_PENDING: NDIS_STATUS = 0x103;
/// The value was not recognised.
pub const NDIS_STATUS_NOT_RECOGNIZED: NDIS_STATUS = 0x0001_0001;
/// Nothing was copied.
pub const NDIS_STATUS_NOT_COPIED: NDIS_STATUS = 0x0001_0002;
/// The request was not accepted: resetting, or surprise removed. Beware: its severity is success.
pub const NDIS_STATUS_NOT_ACCEPTED: NDIS_STATUS = 0x0001_0003;
/// A call is active (connection-oriented media).
pub const NDIS_STATUS_CALL_ACTIVE: NDIS_STATUS = 0x0001_0007;
/// The OID request is done, but its result follows in a status indication.
pub const NDIS_STATUS_INDICATION_REQUIRED: NDIS_STATUS = 0x4023_0001;
/// The adapter can't be reset.
pub const NDIS_STATUS_NOT_RESETTABLE: NDIS_STATUS = 0x8001_0001_u32.cast_signed();
/// The reset ended with soft errors.
pub const NDIS_STATUS_SOFT_ERRORS: NDIS_STATUS = 0x8001_0003_u32.cast_signed();
/// The reset ended with hard errors.
pub const NDIS_STATUS_HARD_ERRORS: NDIS_STATUS = 0x8001_0004_u32.cast_signed();
/// The data did not fit the buffer.
pub const NDIS_STATUS_BUFFER_OVERFLOW: NDIS_STATUS = 0x8000_0005_u32.cast_signed();
/// The device is busy.
pub const NDIS_STATUS_BUSY: NDIS_STATUS = 0x8000_0011_u32.cast_signed();
/// Failed, for no more specific reason.
pub const NDIS_STATUS_FAILURE: NDIS_STATUS = 0xC000_0001_u32.cast_signed();
/// Memory or another resource is exhausted.
pub const NDIS_STATUS_RESOURCES: NDIS_STATUS = 0xC000_009A_u32.cast_signed();
/// A parameter is invalid.
pub const NDIS_STATUS_INVALID_PARAMETER: NDIS_STATUS = 0xC000_000D_u32.cast_signed();
/// The request is invalid for this device or its state.
pub const NDIS_STATUS_INVALID_DEVICE_REQUEST: NDIS_STATUS = 0xC000_0010_u32.cast_signed();
/// Not supported; for OIDs, also unknown to the driver.
pub const NDIS_STATUS_NOT_SUPPORTED: NDIS_STATUS = 0xC000_00BB_u32.cast_signed();
/// Invalid in this state.
pub const NDIS_STATUS_INVALID_STATE: NDIS_STATUS = 0xC000_0184_u32.cast_signed();
/// The binding is closing.
pub const NDIS_STATUS_CLOSING: NDIS_STATUS = 0xC001_0002_u32.cast_signed();
/// The driver registered for an NDIS version that this NDIS does not support.
pub const NDIS_STATUS_BAD_VERSION: NDIS_STATUS = 0xC001_0004_u32.cast_signed();
/// The characteristics are too short or lack a mandatory handler.
pub const NDIS_STATUS_BAD_CHARACTERISTICS: NDIS_STATUS = 0xC001_0005_u32.cast_signed();
/// The adapter was not found.
pub const NDIS_STATUS_ADAPTER_NOT_FOUND: NDIS_STATUS = 0xC001_0006_u32.cast_signed();
/// Opening the adapter failed.
pub const NDIS_STATUS_OPEN_FAILED: NDIS_STATUS = 0xC001_0007_u32.cast_signed();
/// The device failed.
pub const NDIS_STATUS_DEVICE_FAILED: NDIS_STATUS = 0xC001_0008_u32.cast_signed();
/// The multicast list is longer than the adapter's.
pub const NDIS_STATUS_MULTICAST_FULL: NDIS_STATUS = 0xC001_0009_u32.cast_signed();
/// The multicast address is in the list already.
pub const NDIS_STATUS_MULTICAST_EXISTS: NDIS_STATUS = 0xC001_000A_u32.cast_signed();
/// The multicast address is not in the list.
pub const NDIS_STATUS_MULTICAST_NOT_FOUND: NDIS_STATUS = 0xC001_000B_u32.cast_signed();
/// The OID request was cancelled, or a reset interrupted it.
pub const NDIS_STATUS_REQUEST_ABORTED: NDIS_STATUS = 0xC001_000C_u32.cast_signed();
/// A reset is in progress.
pub const NDIS_STATUS_RESET_IN_PROGRESS: NDIS_STATUS = 0xC001_000D_u32.cast_signed();
/// Closing while an indication is in progress.
pub const NDIS_STATUS_CLOSING_INDICATING: NDIS_STATUS = 0xC001_000E_u32.cast_signed();
/// The frame is malformed.
pub const NDIS_STATUS_INVALID_PACKET: NDIS_STATUS = 0xC001_000F_u32.cast_signed();
/// The adapter is not ready.
pub const NDIS_STATUS_ADAPTER_NOT_READY: NDIS_STATUS = 0xC001_0011_u32.cast_signed();
/// A length is not what the OID or the medium requires.
pub const NDIS_STATUS_INVALID_LENGTH: NDIS_STATUS = 0xC001_0014_u32.cast_signed();
/// The buffer's contents are invalid.
pub const NDIS_STATUS_INVALID_DATA: NDIS_STATUS = 0xC001_0015_u32.cast_signed();
/// The buffer is too short; `BytesNeeded` says what is needed.
pub const NDIS_STATUS_BUFFER_TOO_SHORT: NDIS_STATUS = 0xC001_0016_u32.cast_signed();
/// The OID is invalid, or invalid for this request type.
pub const NDIS_STATUS_INVALID_OID: NDIS_STATUS = 0xC001_0017_u32.cast_signed();
/// The adapter was removed.
pub const NDIS_STATUS_ADAPTER_REMOVED: NDIS_STATUS = 0xC001_0018_u32.cast_signed();
/// The medium is not supported.
pub const NDIS_STATUS_UNSUPPORTED_MEDIA: NDIS_STATUS = 0xC001_0019_u32.cast_signed();
/// The send was cancelled. Not [`NDIS_STATUS_REQUEST_ABORTED`], which is for OID requests.
pub const NDIS_STATUS_SEND_ABORTED: NDIS_STATUS = 0xC023_000C_u32.cast_signed();
/// The medium is disconnected.
pub const NDIS_STATUS_MEDIA_DISCONNECTED: NDIS_STATUS = 0xC023_001F_u32.cast_signed();
/// The adapter is paused or pausing.
pub const NDIS_STATUS_PAUSED: NDIS_STATUS = 0xC023_002A_u32.cast_signed();
/// The interface was not found.
pub const NDIS_STATUS_INTERFACE_NOT_FOUND: NDIS_STATUS = 0xC023_002B_u32.cast_signed();
/// The structure's revision is not supported.
pub const NDIS_STATUS_UNSUPPORTED_REVISION: NDIS_STATUS = 0xC023_002C_u32.cast_signed();
/// The port does not exist.
pub const NDIS_STATUS_INVALID_PORT: NDIS_STATUS = 0xC023_002D_u32.cast_signed();
/// Invalid in the port's state.
pub const NDIS_STATUS_INVALID_PORT_STATE: NDIS_STATUS = 0xC023_002E_u32.cast_signed();
/// The adapter is in a low-power state.
pub const NDIS_STATUS_LOW_POWER_STATE: NDIS_STATUS = 0xC023_002F_u32.cast_signed();
/// The adapter has to be restarted for the change to take effect.
pub const NDIS_STATUS_REINIT_REQUIRED: NDIS_STATUS = 0xC023_0030_u32.cast_signed();
/// No room for another wake-on-LAN pattern.
pub const NDIS_STATUS_PM_WOL_PATTERN_LIST_FULL: NDIS_STATUS = 0xC023_2003_u32.cast_signed();
/// No room for another protocol offload.
pub const NDIS_STATUS_PM_PROTOCOL_OFFLOAD_LIST_FULL: NDIS_STATUS = 0xC023_2004_u32.cast_signed();

// Statuses of the NT kernel.

/// Done.
pub const STATUS_SUCCESS: NTSTATUS = 0;
/// Failed, for no more specific reason.
pub const STATUS_UNSUCCESSFUL: NTSTATUS = 0xC000_0001_u32.cast_signed();
/// Memory or another resource is exhausted.
pub const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xC000_009A_u32.cast_signed();
/// Not supported.
pub const STATUS_NOT_SUPPORTED: NTSTATUS = 0xC000_00BB_u32.cast_signed();
/// A parameter is invalid.
pub const STATUS_INVALID_PARAMETER: NTSTATUS = 0xC000_000D_u32.cast_signed();
/// The request is invalid for this device.
pub const STATUS_INVALID_DEVICE_REQUEST: NTSTATUS = 0xC000_0010_u32.cast_signed();
/// The buffer is too small; nothing was written.
pub const STATUS_BUFFER_TOO_SMALL: NTSTATUS = 0xC000_0023_u32.cast_signed();
/// The data did not fit the buffer; what fits was written.
pub const STATUS_BUFFER_OVERFLOW: NTSTATUS = 0x8000_0005_u32.cast_signed();
/// Cancelled.
pub const STATUS_CANCELLED: NTSTATUS = 0xC000_0120_u32.cast_signed();
/// The device is not ready.
pub const STATUS_DEVICE_NOT_READY: NTSTATUS = 0xC000_00A3_u32.cast_signed();
/// Access denied.
pub const STATUS_ACCESS_DENIED: NTSTATUS = 0xC000_0022_u32.cast_signed();
/// Will be completed later.
pub const STATUS_PENDING: NTSTATUS = 0x103;

// Codes for [`NdisWriteErrorLogEntry`]; its page lists them.

/// The adapter is disabled.
pub const NDIS_ERROR_CODE_ADAPTER_DISABLED: ULONG = 0x8000_1396;
/// The adapter was not found.
pub const NDIS_ERROR_CODE_ADAPTER_NOT_FOUND: ULONG = 0xC000_138B;
/// The configured I/O base address is not the adapter's.
pub const NDIS_ERROR_CODE_BAD_IO_BASE_ADDRESS: ULONG = 0xC000_1394;
/// The driver's version is wrong.
pub const NDIS_ERROR_CODE_BAD_VERSION: ULONG = 0xC000_138E;
/// The driver failed.
pub const NDIS_ERROR_CODE_DRIVER_FAILURE: ULONG = 0xC000_138D;
/// The hardware failed.
pub const NDIS_ERROR_CODE_HARDWARE_FAILURE: ULONG = 0xC000_138A;
/// The interrupt could not be connected.
pub const NDIS_ERROR_CODE_INTERRUPT_CONNECT: ULONG = 0xC000_138C;
/// The adapter returned an invalid value.
pub const NDIS_ERROR_CODE_INVALID_VALUE_FROM_ADAPTER: ULONG = 0xC000_1392;
/// A required configuration parameter is missing.
pub const NDIS_ERROR_CODE_MISSING_CONFIGURATION_PARAMETER: ULONG = 0xC000_1393;
/// The configured network address is invalid.
pub const NDIS_ERROR_CODE_NETWORK_ADDRESS: ULONG = 0xC000_1390;
/// Memory or another resource is exhausted.
pub const NDIS_ERROR_CODE_OUT_OF_RESOURCES: ULONG = 0xC000_1389;
/// The receive space is smaller than recommended.
pub const NDIS_ERROR_CODE_RECEIVE_SPACE_SMALL: ULONG = 0x4000_1395;
/// A hardware resource is used by another device.
pub const NDIS_ERROR_CODE_RESOURCE_CONFLICT: ULONG = 0xC000_1388;
/// An operation timed out.
pub const NDIS_ERROR_CODE_TIMEOUT: ULONG = 0x8000_138F;
/// The configuration is not supported.
pub const NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION: ULONG = 0xC000_1391;
