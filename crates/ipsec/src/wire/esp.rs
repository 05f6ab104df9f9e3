//! The ESP header (RFC 4303 §2): what an inbound SA is looked up by.

use super::{Error, bytes};

/// An ESP packet, of which only the header can be read: the rest is for [`crate::esp`].
#[derive(Clone, Copy, Debug)]
pub struct EspHeader<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> EspHeader<T> {
    /// # Errors
    /// [`Error::Truncated`] when SPI and sequence number are not all there.
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        if buffer.as_ref().len() < crate::esp::HEADER_LEN {
            Err(Error::Truncated)
        } else {
            Ok(Self { buffer })
        }
    }

    /// The SPI as a number.
    pub fn spi(&self) -> u32 {
        u32::from_be_bytes(bytes(self.buffer.as_ref(), 0))
    }

    /// The sequence number, or the low half of an extended one.
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(bytes(self.buffer.as_ref(), 4))
    }
}
