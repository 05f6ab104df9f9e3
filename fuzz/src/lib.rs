//! Fuzz targets: every parser of a wire or OID structure, through the driver's real entry points in the lab, and the parsers of
//! the lab itself.
//!
//! A target is a function of bytes that panics if something is wrong. `fuzz_targets/` hands them to libFuzzer
//! (`cargo xtask fuzz`), `tests/corpus.rs` feeds them the committed corpus in every `cargo test`. What was found became a file of
//! the corpus, and a test where the defect was.
//!
//! | target | what is parsed |
//! |---|---|
//! | `add_sa`, `delete_sa` | lists whose elements overlap, lie, and link anywhere in their memory |
//! | `add_sa_ex`, `update_sa` | one structure |
//! | `offload_parameters`, `offload_encapsulation` | configuration: all of it or nothing |
//! | `oids` | any OID, any kind of request, any buffer |
//! | `received_frames` | what comes off the wire, authentic or not |
//! | `sent_frames` | NBLs with any out-of-band data, frames in any number of MDLs |
//! | `ipsec_wire` | `ipsec`'s header views and the opening of ESP packets |
//! | `dump` | the driver's SA table, as tools read it |
//! | `pe_image`, `inf`, `capture` | the lab's own input |
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod bench;
mod frames;
mod input;
mod parsers;
mod requests;

pub use bench::end;

/// A target: panics if something is wrong.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("add_sa", requests::add_sa),
    ("add_sa_ex", requests::add_sa_ex),
    ("update_sa", requests::update_sa),
    ("delete_sa", requests::delete_sa),
    ("offload_parameters", requests::offload_parameters),
    ("offload_encapsulation", requests::offload_encapsulation),
    ("oids", requests::oids),
    ("received_frames", frames::received),
    ("sent_frames", frames::sent),
    ("ipsec_wire", parsers::ipsec_wire),
    ("dump", parsers::dump),
    ("pe_image", parsers::pe_image),
    ("inf", parsers::inf),
    ("capture", parsers::capture),
];

/// Runs a target.
///
/// # Panics
/// If there is none of this name, or it finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(found, _)| *found == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    target(data);
}
