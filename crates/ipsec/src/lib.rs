//! ESP transforms over byte slices: what a NIC that offloads ESP does to a packet, and nothing else.
//!
//! The host's stack has built the packet completely: IP header, ESP header, IV, payload, padding, trailer
//! and room for the ICV. Outbound, [`esp::EspSa::seal`] encrypts in place and writes the ICV; inbound,
//! [`esp::EspSa::open`] verifies and decrypts in place. No length changes and nothing moves.
//!
//! | Module | What it is |
//! | --- | --- |
//! | [`wire`] | checked views of Ethernet, IPv4 and ESP headers |
//! | [`checksum`] | the Internet checksum (RFC 1071) |
//! | [`algorithm`] | the algorithms by name, their key lengths, and keying material taken apart |
//! | [`aead`] | the seam to the cipher: one small trait, and AES-GCM behind it |
//! | [`esp`] | ESP: framing, AAD, nonce, trailer (RFC 4303, RFC 4106) |
//!
//! The crate allocates nothing, takes no lock, keeps no global state of its own and knows nothing of NDIS;
//! it can be called at any IRQL and on any processor. No input makes it panic. It uses XMM registers with
//! legacy-SSE encodings only. Sealing and opening have no stack frame above 1 KiB. It does no replay protection and
//! makes no IVs: those are the host's.
//!
//! Of keys: [`esp::EspSa::new_in`] and dropping an SA leave no copy of the key or of what is expanded from it on the
//! stack, and dropping wipes the SA. Sealing and opening may leave values that the compiler spilled or the portable
//! cipher copied, the hash key among them; the stack they used is not wiped.
#![no_std]
// The exceptions: the wiping of keys in `aead::aes_gcm`, the CPU's AES instructions in `aead::sse`.
#![deny(unsafe_code)]

pub mod aead;
pub mod algorithm;
pub mod checksum;
pub mod esp;
mod stack;
pub mod wire;
