//! Where the driver comes from.

use std::path::PathBuf;

use ndis_lab::{Driver, Lab, LabError, LoadError};
use ndis_sys::DRIVER_INITIALIZE;

use crate::settings::SettingsError;

/// The name of the linked driver's service; an image's is its file's.
const SERVICE: &str = "ipsecnic";

/// Which driver to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverSource {
    /// A driver's image.
    Image(PathBuf),
    /// The driver that is linked into this program.
    Native,
    /// Another driver that is linked into this program.
    Linked(Linked),
}

/// A linked driver: its name and its entry point.
#[derive(Clone, Copy, Debug)]
pub struct Linked {
    name: &'static str,
    entry: DRIVER_INITIALIZE,
}

impl Linked {
    /// A driver that is linked into this program.
    ///
    /// # Safety
    /// As [`Lab::load_native`].
    pub const unsafe fn new(name: &'static str, entry: DRIVER_INITIALIZE) -> Self {
        Self { name, entry }
    }
}

impl PartialEq for Linked {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.entry as usize == other.entry as usize
    }
}

impl Eq for Linked {}

/// Why a driver cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// It is no driver that the lab can load, or it does not register a miniport.
    #[error("{path}: {1}", path = .0.display())]
    Load(PathBuf, LabError),
    /// Its INF cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The linked driver does not start.
    #[error("the native driver: {0}")]
    Native(LabError),
}

impl DriverSource {
    /// Makes a machine, loads the driver and runs its DriverEntry.
    ///
    /// # Errors
    /// [`SourceError`] if there is no driver that can be used.
    pub fn load(&self) -> Result<(Lab, Driver), SourceError> {
        self.load_on(Lab::new())
    }

    /// As [`load`](Self::load), on this machine.
    ///
    /// # Errors
    /// [`SourceError`] if there is no driver that can be used.
    pub fn load_on(&self, lab: Lab) -> Result<(Lab, Driver), SourceError> {
        let driver = self.load_into(&lab).map_err(|error| match (self, error) {
            (Self::Native | Self::Linked(_), error) => SourceError::Native(error),
            (Self::Image(path), LabError::Load(LoadError::Io(error))) => {
                SourceError::Read(path.clone(), error)
            }
            (Self::Image(path), error) => SourceError::Load(path.clone(), error),
        })?;
        Ok((lab, driver))
    }

    /// Loads the driver into a machine that was made before and runs its DriverEntry.
    ///
    /// # Errors
    /// What the lab says.
    pub fn load_into(&self, lab: &Lab) -> Result<Driver, LabError> {
        match self {
            Self::Image(path) => lab.load_file(path),
            // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
            Self::Native => unsafe { lab.load_native(ipsecnic::DriverEntry, SERVICE) },
            // SAFETY: `Linked::new` asked for what this needs.
            Self::Linked(linked) => unsafe { lab.load_native(linked.entry, linked.name) },
        }
    }
}

impl std::fmt::Display for DriverSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(path) => write!(f, "{}", path.display()),
            Self::Native => f.write_str("the native driver"),
            Self::Linked(linked) => write!(f, "the native driver {}", linked.name),
        }
    }
}
