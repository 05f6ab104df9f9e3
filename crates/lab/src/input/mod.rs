//! What the lab is given to carry: captures, read with every bound checked, and the judgement of each packet.
//!
//! A file is taken whole or refused with one line; a packet is carried or counted under a reason.

mod capture;
mod classify;
mod link;

pub use capture::{Capture, InputError, Packet};
pub use classify::{Carried, Reason, classify};
pub use link::LinkType;

/// The capture that is carried when none is named: `tests/data/mixed.pcapng`.
pub const DEFAULT_CAPTURE: &[u8] = include_bytes!("../../../../tests/data/mixed.pcapng");
/// Its name in reports.
pub const DEFAULT_CAPTURE_NAME: &str = "tests/data/mixed.pcapng (built in)";
