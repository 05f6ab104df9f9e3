//! Control devices: what a program may send to a device that the driver made besides those of its adapters.

use std::time::Duration;

use crate::conformance::context::Context;
use crate::conformance::{Case, Need, Outcome, Stop, check};
use crate::device::{DeviceFile, Process, Token};
use crate::error::LabError;

pub(super) const CASES: &[Case] = &[Case {
    number: 61,
    id: "control-devices",
    area: "DF_FuzzTest",
    title: "A control device answers whatever a program sends, within its buffers, and refuses controls that mean nothing.",
    page: "irp-mj-device-control",
    needs: &[Need::ControlDevice],
    run: control_devices,
}];

/// How long a read may be pending before its program takes it back.
const READ: Duration = Duration::from_millis(5);
/// `FILE_DEVICE_NETWORK`, `FILE_DEVICE_PHYSICAL_NETCARD`, `FILE_DEVICE_UNKNOWN`: what miniports number their controls by.
const TYPES: [u32; 3] = [0x12, 0x17, 0x22];
/// The functions that drivers count from: 0, and 0x800, where those of their own begin.
const FUNCTIONS: [u32; 2] = [0, 0x800];
/// Functions from each of them.
const COUNT: u32 = 48;
/// A device type and a function that nobody has given to anything.
const NONE: (u32, u32) = (0x9eaf, 0xabc);
/// Bytes of input and output.
const LENGTHS: [(usize, usize); 6] = [(0, 0), (1, 0), (0, 1), (3, 3), (8, 64), (64, 3)];

/// `CTL_CODE`; `access` is `FILE_ANY_ACCESS` (0) or for reading and writing (3).
fn control_code(kind: u32, function: u32, method: u32, access: u32) -> u32 {
    kind << 16 | access << 14 | function << 2 | method
}

fn control_devices(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let process = context.lab.process("program.exe", Token::system())?;
    let mut random = fastrand::Rng::with_seed(61);
    let mut opened = 0;
    for (name, _) in context.lab.device_names() {
        let Some(file) = open(&process, &name)? else { continue };
        opened += 1;
        ask(&file, &name, &mut random)?;
        // Another one beside it, which is closed first.
        if let Some(second) = open(&process, &name)? {
            second.read(16, READ)?;
            second.close()?;
        }
        file.write(&[0; 20])?;
        file.close()?;
    }
    drop(process);
    drop(adapter);
    if opened == 0 {
        return Err(Stop::NotApplicable("its control devices cannot be opened".into()));
    }
    Ok(())
}

/// Opens a device; `None` if the driver refuses.
fn open(process: &Process, name: &str) -> Outcome<Option<DeviceFile>> {
    match process.open_name(name) {
        Ok(file) => Ok(Some(file)),
        Err(LabError::Device { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends controls, reads and writes of all lengths.
fn ask(file: &DeviceFile, name: &str, random: &mut fastrand::Rng) -> Outcome {
    for kind in TYPES {
        for function in FUNCTIONS.into_iter().flat_map(|first| first..first + COUNT) {
            for method in 0..4 {
                let (input, output) = LENGTHS[random.usize(..LENGTHS.len())];
                let bytes: Vec<u8> = (0..input).map(|_| random.u8(..)).collect();
                let access = if random.bool() { 3 } else { 0 };
                file.control(control_code(kind, function, method, access), &bytes, output)?;
            }
        }
    }
    // Each length once with the first of the driver's own controls, for who counts from there.
    for (input, output) in LENGTHS {
        for kind in TYPES {
            file.control(control_code(kind, FUNCTIONS[1], 0, 0), &vec![0; input], output)?;
        }
    }
    for method in 0..4 {
        let code = control_code(NONE.0, NONE.1, method, 0);
        for (input, output) in LENGTHS {
            let outcome = file.control(code, &vec![0; input], output)?;
            check!(
                !outcome.is_success(),
                "{name} answers control {code:#010x}, which means nothing, with status {:#010x}; \
                 STATUS_INVALID_DEVICE_REQUEST is expected",
                outcome.status
            );
        }
    }
    for length in [0, 1, 13, 14, 60, 1514, 9000] {
        file.write(&vec![0x55; length])?;
        file.read(length, READ)?;
    }
    Ok(())
}
