//! Security associations on the command line: `in:0x1000:KEY:10.9.0.2`.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ndis_lab::transport::{Algorithm, Direction, KeyMaterial, TransportSa};

/// One SA of a station: ESP in transport mode with AES-GCM and an ICV of 16 bytes (RFC 4106).
#[derive(Clone, Debug)]
pub struct SaArgument {
    /// Which way.
    pub direction: Direction,
    /// Its SPI.
    pub spi: u32,
    /// The other end.
    pub peer: Ipv4Addr,
    algorithm: Algorithm,
    key: KeyMaterial,
}

impl SaArgument {
    /// The SA of a station with this address.
    pub fn of(&self, own: Ipv4Addr) -> TransportSa {
        let (source, destination) = match self.direction {
            Direction::Inbound => (self.peer, own),
            Direction::Outbound => (own, self.peer),
        };
        TransportSa { source, destination, spi: self.spi, algorithm: self.algorithm, key: self.key.clone() }
    }
}

impl FromStr for SaArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [direction, spi, key, peer] = parts.as_slice() else {
            return Err("in|out:SPI:KEY:PEER is expected".into());
        };
        let direction = match *direction {
            "in" => Direction::Inbound,
            "out" => Direction::Outbound,
            other => return Err(format!("{other} is neither in nor out")),
        };
        let number = spi.strip_prefix("0x").map_or_else(|| spi.parse(), |hex| u32::from_str_radix(hex, 16));
        let spi = number.map_err(|_| format!("{spi} is no SPI"))?;
        let bytes = crate::fuzz::Bytes::try_from(key.trim_start_matches("0x").to_owned())?.0;
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.key_length() == bytes.len());
        let algorithm = algorithm.ok_or("a key has 16, 24 or 32 bytes, and 4 bytes of salt behind")?;
        let key = KeyMaterial::generate(algorithm, |to| to.copy_from_slice(&bytes));
        let peer = peer.parse().map_err(|_| format!("{peer} is no IPv4 address"))?;
        Ok(Self { direction, spi, peer, algorithm, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones_are_understood_and_bad_ones_named() {
        let key = "42".repeat(36);
        let sa: SaArgument = format!("out:0x1000:0x{key}:10.9.0.2").parse().unwrap();
        let own = Ipv4Addr::new(10, 9, 0, 1);
        let parameters = sa.of(own);
        assert_eq!((parameters.source, parameters.spi), (own, 0x1000));
        assert_eq!(parameters.algorithm, Algorithm::AesGcm256);
        for bad in
            ["", "out:1:42:10.9.0.2", &format!("both:1:{key}:10.9.0.2"), &format!("in:x:{key}:10.9.0.2")]
        {
            assert!(bad.parse::<SaArgument>().is_err(), "{bad}");
        }
    }
}
