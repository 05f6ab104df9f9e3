//! What the monitor saw, in files: a capture, and the table that decrypts it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ndis_lab::transport::TransportSa;
use ndis_lab::wire::{CaptureWriter, write_esp_sa};

use super::plan::Station;
use super::{DemoError, StepError};

/// The table's name, as Wireshark looks for it in a profile's folder.
const ESP_SA: &str = "esp_sa";

/// Where the table goes: beside the capture.
pub(super) fn esp_sa_path(output: &Path) -> PathBuf {
    output.with_file_name(ESP_SA)
}

/// The files that are being written.
pub(super) struct WireFiles {
    path: PathBuf,
    capture: CaptureWriter<BufWriter<File>>,
    interface: u32,
    /// The last frame, and who received it.
    last: Option<(Station, Vec<u8>)>,
}

impl WireFiles {
    /// Creates the capture, unless it would take the place of the input.
    pub(super) fn create(input: Option<&Path>, path: &Path) -> Result<Self, DemoError> {
        let real = |path: &Path| path.canonicalize().ok();
        if let Some(input) = input
            && real(path).is_some_and(|output| Some(output) == real(input))
        {
            return Err(DemoError::OutputIsInput(path.to_owned()));
        }
        if path.file_name().is_some_and(|name| name == ESP_SA) {
            return Err(DemoError::OutputIsKeyTable(path.to_owned()));
        }
        let output = |error| DemoError::Output(path.to_owned(), error);
        let file = BufWriter::new(File::create(path).map_err(output)?);
        let mut capture =
            CaptureWriter::new(file, concat!("lab ", env!("CARGO_PKG_VERSION"))).map_err(output)?;
        let interface = capture
            .interface("segment-1", "virtual Ethernet segment, as its monitor port sees it")
            .map_err(output)?;
        Ok(Self { path: path.to_owned(), capture, interface, last: None })
    }

    /// Writes the table of all SAs.
    pub(super) fn esp_sa<'a>(&self, sas: impl Iterator<Item = &'a TransportSa>) -> Result<(), StepError> {
        let path = esp_sa_path(&self.path);
        let write = || write_esp_sa(BufWriter::new(File::create(&path)?), sas);
        write().map_err(|error| StepError::Output(path.clone(), error))
    }

    /// The last frame of the capture, and who received it.
    pub(super) fn last(&self) -> Option<(Station, &[u8])> {
        self.last.as_ref().map(|(station, frame)| (*station, &frame[..]))
    }

    /// Writes one frame to `receiver` with what is known about it.
    pub(super) fn frame(&mut self, receiver: Station, frame: &[u8], comment: &str) -> Result<(), StepError> {
        self.last = Some((receiver, frame.to_vec()));
        // A clock before 1970 shows as 1970.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.capture
            .frame(self.interface, now, frame, Some(comment))
            .map_err(|error| StepError::Output(self.path.clone(), error))
    }

    /// Closes the capture.
    pub(super) fn finish(self) -> Result<(), DemoError> {
        self.capture.finish().map_err(|error| DemoError::Output(self.path, error))?;
        Ok(())
    }
}
