//! Wireshark's ESP dissector as a judge: it authenticates and decrypts with its own cryptography (libgcrypt).

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Whether tshark is there.
///
/// # Panics
/// If it is not, and nobody said that it need not be.
pub(crate) fn present() -> bool {
    match Command::new("tshark").arg("--version").output() {
        Ok(output) if output.status.success() => true,
        Err(error) if error.kind() == ErrorKind::NotFound && super::native_only() => false,
        other => panic!(
            "tshark does not run ({other:?}): install Debian's package tshark, or set IPSECNIC_NATIVE_ONLY=1 to do \
             without this judge"
        ),
    }
}

/// What tshark says of one ESP packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) frame: u64,
    pub(crate) icv_good: bool,
    pub(crate) icv_bad: bool,
    /// The decrypted payload with its ESP trailer.
    pub(crate) decrypted: Vec<u8>,
}

/// Has tshark authenticate and decrypt the ESP packets of a capture, with the `esp_sa` file of its folder.
pub(crate) fn judge(capture: &Path) -> Vec<Verdict> {
    let fields = ["frame.number", "esp.icv_good", "esp.icv_bad", "esp.decrypted_data"];
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture);
    command.args(["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]);
    // A payload dissector that throws would hide the verdict on the ICV (Wireshark 4.0).
    command.args(["--disable-protocol", "tcp", "--disable-protocol", "udp", "--disable-protocol", "icmp"]);
    command.args(["-Y", "esp", "-T", "fields"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    // The folder of the capture is the profile: tshark finds `esp_sa` there.
    let output = command.env("WIRESHARK_CONFIG_DIR", capture.parent().unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let verdicts = text.lines().map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [frame, good, bad, decrypted] = columns[..] else { panic!("tshark printed {line:?}") };
        let yes = |value: &str| matches!(value, "1" | "True");
        Verdict {
            frame: frame.parse().unwrap(),
            icv_good: yes(good),
            icv_bad: yes(bad),
            decrypted: hex(decrypted),
        }
    });
    verdicts.collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    digits.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
