//! What crosses the wire: a capture of it, and what Wireshark needs to decrypt that capture.
//!
//! The lab sees the wire as a station with a promiscuous packet filter sees it: a *monitor port*, an adapter
//! instance on the same segment. What it is indicated crossed the wire; what it sends is injected there.
//! A [`Bridge`] joins the segment to another one, to a UNIX datagram socket or to a Linux TAP device, by a
//! [`Cable`] that may delay, reorder, duplicate, lose and damage what passes.

mod bridge;
mod cable;
mod capture;
mod esp_sa;

#[cfg(unix)]
pub use bridge::SocketPort;
#[cfg(target_os = "linux")]
pub use bridge::TapPort;
pub use bridge::{Bridge, MonitorPort, Port, Take};
pub use cable::{Cable, End, Impairments, Tally};
pub use capture::CaptureWriter;
pub use esp_sa::{esp_sa_line, write_esp_sa};
