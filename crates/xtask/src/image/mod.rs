//! The checks that an image has to pass before it is called `ipsecnic.sys`.
//!
//! They read bytes and nothing else, know nothing of how the image was built, and each says why it exists. What they look
//! for is what makes Windows refuse, bugcheck or corrupt: a section that is writable and executable, an import that the
//! oldest supported Windows does not have, an instruction that needs saved extended state, a PDB of another build.

mod code;
#[cfg(test)]
mod fixture;
mod headers;
mod imports;
mod pe;
mod sections;
mod stack;
mod symbols;

use std::fmt;

pub use pe::{Image, NotAnImage};
use symbols::Symbols;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not: the image must not ship.
    Failed,
    /// It could not be looked at (no PDB was given). Not a pass.
    NotChecked,
    /// A fact worth knowing; nothing depends on it.
    Noted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::NotChecked => "not checked",
            Self::Noted => "note",
        })
    }
}

/// A verdict with what was seen in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the check came to.
    pub verdict: Verdict,
    /// What was seen: counts when it passed, the offenders when not.
    pub seen: String,
}

impl Finding {
    fn new(verdict: Verdict, seen: impl Into<String>) -> Self {
        Self { verdict, seen: seen.into() }
    }

    fn passed(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Passed, seen)
    }

    fn failed(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, seen)
    }

    fn noted(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Noted, seen)
    }

    fn passed_if(holds: bool, seen: impl Into<String>) -> Self {
        Self::new(if holds { Verdict::Passed } else { Verdict::Failed }, seen)
    }

    /// Passes with `seen` if there are no offenders, else fails and names the first few.
    fn passed_unless(offenders: &[String], seen: impl Into<String>) -> Self {
        const SHOWN: usize = 6;
        if offenders.is_empty() {
            return Self::passed(seen);
        }
        let mut named: Vec<String> = offenders.iter().take(SHOWN).cloned().collect();
        if offenders.len() > SHOWN {
            named.push(format!("and {} more", offenders.len() - SHOWN));
        }
        Self::failed(named.join("; "))
    }
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the check, stable, for machines too.
    pub check: &'static str,
    /// Why the check exists, with its source.
    pub why: &'static str,
    /// What it found.
    pub finding: Finding,
}

/// What all checks found in one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One row a check, in the order in which they are shown.
    pub rows: Vec<Row>,
}

impl Report {
    /// Number of rows with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.finding.verdict == verdict).count()
    }

    /// Whether no check failed. Checks that could not be made do not count.
    pub fn holds(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    /// Whether every check was made and none failed: what an image that ships has to be.
    pub fn is_complete_pass(&self) -> bool {
        self.holds() && self.count(Verdict::NotChecked) == 0
    }

    /// The finding of one check.
    ///
    /// # Panics
    /// If there is no check of that name.
    pub fn finding(&self, check: &str) -> &Finding {
        let row = self.rows.iter().find(|row| row.check == check);
        &row.unwrap_or_else(|| panic!("no check is named {check}")).finding
    }
}

/// What a check may look at.
struct Subject<'a> {
    image: &'a Image<'a>,
    /// The PDB's symbols; `None` if no PDB was given, an error if it could not be read.
    symbols: Option<Result<Symbols, String>>,
    code: code::Survey,
}

struct Check {
    name: &'static str,
    why: &'static str,
    look: fn(&Subject<'_>) -> Finding,
}

/// Every check, in the order in which they are shown.
const CHECKS: &[Check] = &[
    Check {
        name: "machine",
        why: "The kernel loads only images of its own machine (PE/COFF, Machine Types).",
        look: headers::machine,
    },
    Check {
        name: "subsystem",
        why: "A driver runs without a Win32 environment: IMAGE_SUBSYSTEM_NATIVE (PE/COFF, Windows Subsystem).",
        look: headers::subsystem,
    },
    Check {
        name: "dll-characteristics",
        why: "NX_COMPAT, DYNAMIC_BASE and HIGH_ENTROPY_VA, as wdk-build links drivers: no executable data, no fixed address.",
        look: headers::dll_characteristics,
    },
    Check {
        name: "checksum",
        why: "Windows verifies CheckSum of boot drivers and the kernel dump carries it (PE/COFF, Optional Header).",
        look: headers::checksum,
    },
    Check {
        name: "relocations",
        why: "The image is never loaded at its preferred address; without .reloc its pointers would be wild (PE/COFF, .reloc).",
        look: sections::relocations,
    },
    Check {
        name: "write-xor-execute",
        why: "HVCI refuses a section that is writable and executable (Driver compatibility with memory integrity).",
        look: sections::write_xor_execute,
    },
    Check {
        name: "page-alignment",
        why: "HVCI protects whole pages: sections must start on page boundaries (Driver compatibility with memory integrity).",
        look: sections::page_alignment,
    },
    Check {
        name: "no-tls",
        why: "The kernel's loader sets up no thread-local storage (PE/COFF, .tls is for user mode).",
        look: headers::no_tls,
    },
    Check {
        name: "imports",
        why: "Only ndis.sys and ntoskrnl.exe, only by name, only names that Windows 10 2004 has (data/imports.txt, each with its source).",
        look: imports::allowed,
    },
    Check {
        name: "no-vector-extensions",
        why: "VEX and EVEX change the upper halves of YMM/ZMM, which the kernel does not save for drivers (Floating-Point Support for 64-Bit Drivers).",
        look: code::no_vector_extensions,
    },
    Check {
        name: "no-x87-mmx",
        why: "x87 and MMX registers are not available to x64 drivers (Using Floating Point or MMX in a WDM Driver).",
        look: code::no_x87_mmx,
    },
    Check {
        name: "code-decodes",
        why: "What could not be disassembled was not checked.",
        look: code::decodes,
    },
    Check {
        name: "stack-frames",
        why: "A driver may count on 12 KiB of kernel stack for all its calls; overflow is a double fault (Using the kernel stack).",
        look: stack::frames,
    },
    Check {
        name: "entry",
        why: "Windows calls the entry point as DriverEntry (DRIVER_INITIALIZE).",
        look: symbols::entry,
    },
    Check {
        name: "pdb",
        why: "A crash dump is readable only with the PDB of this very build: GUID and age (PE/COFF, Debug Directory).",
        look: symbols::identity,
    },
    Check {
        name: "signature",
        why: "Windows wants a signature: FORCE_INTEGRITY says so in the header; docs/windows.md says how to test-sign.",
        look: headers::signature,
    },
    Check {
        name: "control-flow-guard",
        why: "Optional for kernel images; effective with HVCI (Control Flow Guard for platform security).",
        look: headers::control_flow_guard,
    },
];

/// Looks at an image, with its PDB if there is one.
///
/// # Errors
/// If `image` is not a whole 64-bit PE image.
pub fn check(image: &[u8], pdb: Option<&[u8]>) -> Result<Report, NotAnImage> {
    let image = Image::parse(image)?;
    let symbols = pdb.map(Symbols::read);
    let code = code::survey(&image, symbols.as_ref().and_then(|symbols| symbols.as_ref().ok()));
    let subject = Subject { image: &image, symbols, code };
    let rows = CHECKS
        .iter()
        .map(|check| Row { check: check.name, why: check.why, finding: (check.look)(&subject) })
        .collect();
    Ok(Report { rows })
}

#[cfg(test)]
mod tests;
