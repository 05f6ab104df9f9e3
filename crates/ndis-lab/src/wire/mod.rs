//! What crosses the wire: a capture of it, and what Wireshark needs to decrypt that capture.
//!
//! The lab sees the wire as a station with a promiscuous packet filter sees it: a *monitor port*, an adapter
//! instance on the same segment. What it is indicated crossed the wire; what it sends is injected there.
//! A pair of monitor ports on two segments can join them, and delay, lose or damage what passes between.

mod capture;
mod esp_sa;

pub use capture::CaptureWriter;
pub use esp_sa::{esp_sa_line, write_esp_sa};
