//! Wireshark's table of ESP security associations: the file `esp_sa` of a profile (Wireshark 4.0 and later).

use std::fmt::Write as _;
use std::io::Write;

use crate::transport::TransportSa;

/// The line for one SA. The ICV's length is part of the algorithm's name: without it, the ICV is taken for data.
pub fn esp_sa_line(sa: &TransportSa) -> String {
    let key = sa.key.bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    });
    format!(
        r#""IPv4","{}","{}","{:#010x}","AES-GCM with 16 octet ICV [RFC4106]","0x{key}","NULL","""#,
        sa.source, sa.destination, sa.spi
    )
}

/// Writes the table. The keys are in it in clear: it is for traffic that was made to be looked at.
///
/// # Errors
/// What the writer returns.
pub fn write_esp_sa<'a>(
    mut writer: impl Write,
    sas: impl IntoIterator<Item = &'a TransportSa>,
) -> std::io::Result<()> {
    for sa in sas {
        writeln!(writer, "{}", esp_sa_line(sa))?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::transport::{Algorithm, KeyMaterial};

    #[test]
    fn a_line_has_eight_quoted_fields() {
        let sa = TransportSa {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            spi: 0x1000,
            algorithm: Algorithm::AesGcm128,
            key: KeyMaterial::generate(Algorithm::AesGcm128, |bytes| bytes.fill(0xab)),
        };
        let mut text = Vec::new();
        write_esp_sa(&mut text, [&sa, &sa]).unwrap();
        let key = "ab".repeat(20);
        let line = format!(
            "\"IPv4\",\"10.0.0.1\",\"10.0.0.2\",\"0x00001000\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\"\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), line.repeat(2));
    }
}
