//! Why the lab lacks a function: what the function is for.

use std::fmt;

/// What a missing function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MissingKind {
    /// Interrupts, DMA, I/O ports, device memory, buses: the lab has no hardware.
    Hardware,
    /// The Windows Driver Frameworks and class extensions, which are libraries of their own.
    Framework,
    /// Protocol, filter, intermediate or CoNDIS drivers: the lab hosts miniports.
    OtherDriver,
    /// Another module of the kernel: sockets, filtering, cryptography, storage.
    Module,
    /// The kernel or NDIS has it, or had it, and the lab does not.
    Unimplemented,
    /// Imported by ordinal, which modules of the kernel do not promise anything about.
    Ordinal,
}

impl fmt::Display for MissingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware, which the lab has not",
            Self::Framework => "a driver framework, which the lab has not",
            Self::OtherDriver => "for protocol, filter or intermediate drivers, which the lab does not host",
            Self::Module => "another module of the kernel, which the lab has not",
            Self::Unimplemented => "not in the lab",
            Self::Ordinal => "imported by ordinal",
        })
    }
}

/// Parts of names of functions that hardware needs.
const HARDWARE: &[&str] = &[
    "Interrupt",
    "Dma",
    "ScatterGather",
    "SGList",
    "SharedMemory",
    "IoSpace",
    "IoPortRange",
    "BusData",
    "MSIX",
    "ReadPort",
    "WritePort",
    "READ_PORT",
    "WRITE_PORT",
    "READ_REGISTER",
    "WRITE_REGISTER",
    "PciSlot",
    "AdapterChannel",
    "MapRegisters",
    "MapTransfer",
    "IoMap",
    "SynchronizeExecution",
    "IoConnect",
    "IoDisconnect",
    "Hal",
    "NdisMQueueDpc",
    "SharedDataAlignment",
    "Poll",
];
/// Beginnings of names of functions of other kinds of NDIS drivers.
const OTHER_DRIVERS: &[&str] = &[
    "NdisF",
    "NdisIM",
    "NdisCl",
    "NdisCo",
    "NdisCm",
    "NdisMCm",
    "NdisMCo",
    "NdisIf",
    "NdisOpenAdapter",
    "NdisCloseAdapter",
    "NdisRegisterProtocol",
    "NdisDeregisterProtocol",
    "NdisSendNetBufferLists",
    "NdisReturnNetBufferLists",
    "NdisOidRequest",
    "NdisDirectOidRequest",
    "NdisCancel",
    "NdisCompleteBind",
    "NdisCompleteUnbind",
    "NdisUnbind",
    "NdisReEnumerate",
    "NdisSetOptionalHandlers",
];
/// Names that begin like those of another kind and are not of it.
const FREE: &[&str] = &["NdisFree", "NdisCopy", "NdisClose", "NdisFlush"];

/// What a function that the lab lacks is for; `module` in lower case.
pub(super) fn of(module: &str, name: &str) -> MissingKind {
    let stem = module.rsplit_once('.').map_or(module, |(stem, _)| stem);
    if stem.starts_with("wdf") || stem.starts_with("wpprecorder") || stem.ends_with("cx") {
        return MissingKind::Framework;
    }
    if !matches!(stem, "ntoskrnl" | "hal" | "ndis") {
        return MissingKind::Module;
    }
    if HARDWARE.iter().any(|part| name.contains(part)) {
        return MissingKind::Hardware;
    }
    let other = OTHER_DRIVERS.iter().any(|start| name.starts_with(start));
    if stem == "ndis"
        && other
        && !FREE.iter().any(|start| name.starts_with(start) && !name.contains("Adapter"))
    {
        return MissingKind::OtherDriver;
    }
    MissingKind::Unimplemented
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_apart_by_what_they_are_for() {
        for (module, name, kind) in [
            ("ndis.sys", "NdisMRegisterInterruptEx", MissingKind::Hardware),
            ("ndis.sys", "NdisMAllocateNetBufferSGList", MissingKind::Hardware),
            ("ndis.sys", "NdisMMapIoSpace", MissingKind::Hardware),
            ("hal.dll", "HalGetInterruptVector", MissingKind::Hardware),
            ("ntoskrnl.exe", "MmMapIoSpaceEx", MissingKind::Hardware),
            ("wdfldr.sys", "WdfVersionBind", MissingKind::Framework),
            ("netadaptercx.sys", "NetAdapterCreate", MissingKind::Framework),
            ("ndis.sys", "NdisFRegisterFilterDriver", MissingKind::OtherDriver),
            ("ndis.sys", "NdisOpenAdapterEx", MissingKind::OtherDriver),
            ("ndis.sys", "NdisCloseAdapterEx", MissingKind::OtherDriver),
            ("ndis.sys", "NdisFreeFragmentNetBufferList", MissingKind::Unimplemented),
            ("netio.sys", "WskRegister", MissingKind::Module),
            ("cng.sys", "BCryptEncrypt", MissingKind::Module),
            ("fwpkclnt.sys", "FwpmEngineOpen0", MissingKind::Module),
            ("ntoskrnl.exe", "ZwCreateFile", MissingKind::Unimplemented),
        ] {
            assert_eq!(of(module, name), kind, "{module}!{name}");
        }
    }
}
