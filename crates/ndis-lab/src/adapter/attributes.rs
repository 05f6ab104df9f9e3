//! Miniport attributes: what NdisMSetMiniportAttributes accepts, and a deep copy of what was set.

use std::ops::Deref;
use std::slice;

use ndis_sys::{
    NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, NDIS_OBJECT_HEADER, NDIS_OFFLOAD, NDIS_OID,
    NDIS_PM_CAPABILITIES, NDIS_STATUS,
};

use super::AdapterCore;
use crate::machine::Machine;
use crate::rules;

/// A type, revision and size that belong together, from `NDIS_SIZEOF_x_REVISION_n`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) kind: u8,
    pub(crate) revision: u8,
    pub(crate) size: u16,
    /// Of the structure, in bytes: a compiler pads its end to a multiple of it.
    pub(crate) align: usize,
}

macro_rules! shapes {
    ($($constant:ident = $name:ident, $kind:ident, [$($revision:ident / $size:ident),+];)*) => {
        $(
            #[doc = concat!("The revisions of ", stringify!($name), ", oldest first.")]
            pub(crate) const $constant: &[Shape] = &[$(Shape {
                name: stringify!($name),
                kind: ndis_sys::$kind,
                revision: ndis_sys::$revision,
                size: ndis_sys::$size,
                align: align_of::<ndis_sys::$name>(),
            }),+];
        )*
    };
}

shapes! {
    CHARACTERISTICS_BEFORE_680 = NDIS_MINIPORT_DRIVER_CHARACTERISTICS, NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS, [
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1 / NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1,
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2 / NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2
    ];
    REGISTRATION = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, [
        NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1 / NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
        NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2 / NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2
    ];
    GENERAL = NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, [
        NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1 / NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1,
        NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2 / NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2
    ];
    OFFLOAD = NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, [
        NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1 / NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1
    ];
    HARDWARE_ASSIST_BEFORE_660 = NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES, [
        NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_1 / NDIS_SIZEOF_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_1,
        NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_2 / NDIS_SIZEOF_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_2,
        NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_3 / NDIS_SIZEOF_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES_REVISION_3
    ];
    NDIS_OFFLOAD_BEFORE_650 = NDIS_OFFLOAD, NDIS_OBJECT_TYPE_OFFLOAD, [
        NDIS_OFFLOAD_REVISION_1 / NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1,
        NDIS_OFFLOAD_REVISION_2 / NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2,
        NDIS_OFFLOAD_REVISION_3 / NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3
    ];
    PM_CAPABILITIES = NDIS_PM_CAPABILITIES, NDIS_OBJECT_TYPE_DEFAULT, [
        NDIS_PM_CAPABILITIES_REVISION_1 / NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1,
        NDIS_PM_CAPABILITIES_REVISION_2 / NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2
    ];
    LINK_STATE = NDIS_LINK_STATE, NDIS_OBJECT_TYPE_DEFAULT, [
        NDIS_LINK_STATE_REVISION_1 / NDIS_SIZEOF_LINK_STATE_REVISION_1
    ];
    STATUS_INDICATION = NDIS_STATUS_INDICATION, NDIS_OBJECT_TYPE_STATUS_INDICATION, [
        NDIS_STATUS_INDICATION_REVISION_1 / NDIS_SIZEOF_STATUS_INDICATION_REVISION_1
    ];
    CONFIGURATION_OBJECT = NDIS_CONFIGURATION_OBJECT, NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, [
        NDIS_CONFIGURATION_OBJECT_REVISION_1 / NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1
    ];
    LIST_POOL = NET_BUFFER_LIST_POOL_PARAMETERS, NDIS_OBJECT_TYPE_DEFAULT, [
        NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1 / NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1
    ];
    BUFFER_POOL = NET_BUFFER_POOL_PARAMETERS, NDIS_OBJECT_TYPE_DEFAULT, [
        NET_BUFFER_POOL_PARAMETERS_REVISION_1 / NDIS_SIZEOF_NET_BUFFER_POOL_PARAMETERS_REVISION_1
    ];
    TIMER = NDIS_TIMER_CHARACTERISTICS, NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS, [
        NDIS_TIMER_CHARACTERISTICS_REVISION_1 / NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1
    ];
}

/// The revisions of NDIS_MINIPORT_DRIVER_CHARACTERISTICS. Revision 3 is NDIS 6.80's: it ends with
/// `SynchronousOidRequestHandler`, which this lab never calls, so its size alone matters.
pub(crate) const CHARACTERISTICS: &[Shape] = &[
    CHARACTERISTICS_BEFORE_680[0],
    CHARACTERISTICS_BEFORE_680[1],
    Shape { revision: 3, size: CHARACTERISTICS_BEFORE_680[1].size + 8, ..CHARACTERISTICS_BEFORE_680[1] },
];

/// The revisions of NDIS_OFFLOAD. Those after 3 end with capabilities that the lab does not look at:
/// VXLAN encapsulation (4), RFC 6877 translation (5), UDP segmentation (6, 12 bytes for IPv4 and 16 for
/// IPv6), UDP receive coalescing (7, one flag).
pub(crate) const NDIS_OFFLOAD_SHAPES: &[Shape] = &[
    NDIS_OFFLOAD_BEFORE_650[0],
    NDIS_OFFLOAD_BEFORE_650[1],
    NDIS_OFFLOAD_BEFORE_650[2],
    Shape { revision: 4, size: 177, ..NDIS_OFFLOAD_BEFORE_650[2] },
    Shape { revision: 5, size: 188, ..NDIS_OFFLOAD_BEFORE_650[2] },
    Shape { revision: 6, size: 188 + 12 + 16, ..NDIS_OFFLOAD_BEFORE_650[2] },
    Shape { revision: 7, size: 188 + 12 + 16 + 1, ..NDIS_OFFLOAD_BEFORE_650[2] },
];

/// The revisions of the hardware assist attributes; 4 adds NIC switches with packet direct (6.60).
pub(crate) const HARDWARE_ASSIST: &[Shape] = &[
    HARDWARE_ASSIST_BEFORE_660[0],
    HARDWARE_ASSIST_BEFORE_660[1],
    HARDWARE_ASSIST_BEFORE_660[2],
    Shape { revision: 4, size: 96, ..HARDWARE_ASSIST_BEFORE_660[2] },
];

/// What is wrong with a header, or the revision that it has.
pub(crate) fn check(header: NDIS_OBJECT_HEADER, shapes: &[Shape], at_least: u8) -> Result<Shape, String> {
    let NDIS_OBJECT_HEADER { Type, Revision, Size } = header;
    let found = format!("type {Type:#x}, revision {Revision}, size {Size}");
    let exact = shapes.iter().find(|s| s.kind == Type && s.revision == Revision && s.size == Size);
    match exact {
        Some(shape) if shape.revision >= at_least => Ok(*shape),
        _ => {
            let want: Vec<_> = shapes
                .iter()
                .filter(|s| s.revision >= at_least)
                .map(|s| format!("type {:#x}, revision {}, size {}", s.kind, s.revision, s.size))
                .collect();
            let name = shapes.first().map_or("structure", |s| s.name);
            Err(format!("{name} has {found}; expected {}", want.join(", or ")))
        }
    }
}

/// The revision of a header that NDIS takes, though it is not as its page wants it.
///
/// Drivers should say `NDIS_SIZEOF_x_REVISION_n` and use the revisions of the NDIS version that they register, but NDIS
/// asks for no less than a revision's own size `[overview-of-ndis-support-for-header-versions]`; netvmini says
/// `sizeof`, and has revisions of 6.20 in a driver of 6.30. A size that the structure has in no header is none.
fn tolerated(header: NDIS_OBJECT_HEADER, shapes: &[Shape]) -> Option<Shape> {
    let NDIS_OBJECT_HEADER { Type, Revision, Size } = header;
    let size_of = |s: &Shape| usize::from(s.size).next_multiple_of(s.align);
    let fits = |s: &Shape| Size == s.size || usize::from(Size) == size_of(s);
    let large_enough = shapes.iter().any(|s| s.revision >= Revision && fits(s));
    shapes.iter().find(|s| s.kind == Type && s.revision == Revision && large_enough).copied()
}

impl Machine {
    /// Checks the header of a structure that comes in one version of NDIS or more; gives whether NDIS takes it.
    pub(crate) fn takes_header(&self, header: NDIS_OBJECT_HEADER, shapes: &[Shape]) -> bool {
        let Err(text) = check(header, shapes, 1) else { return true };
        self.violate(rules::STRUCTURE_HEADER, text);
        tolerated(header, shapes).is_some()
    }
}

/// Registration attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationAttributes {
    /// Revision that the driver used.
    pub revision: u8,
    /// `AttributeFlags`.
    pub flags: u32,
    /// `CheckForHangTimeInSeconds`.
    pub check_for_hang_seconds: u32,
    /// `InterfaceType`.
    pub interface_type: i32,
}

/// General attributes; the structure's own fields are reached by dereference, its pointers are null
/// here and their contents in the fields of this type.
#[derive(Debug, Clone)]
pub struct GeneralAttributes {
    raw: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    /// `SupportedOidList`.
    pub supported_oids: Vec<NDIS_OID>,
    /// `PowerManagementCapabilitiesEx`.
    pub power_management: Option<NDIS_PM_CAPABILITIES>,
    /// Whether `RecvScaleCapabilities` was given.
    pub receive_scaling: bool,
}

// SAFETY: the pointers of `raw` are null.
unsafe impl Send for GeneralAttributes {}
// SAFETY: as above.
unsafe impl Sync for GeneralAttributes {}

impl Deref for GeneralAttributes {
    type Target = NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES;
    fn deref(&self) -> &Self::Target {
        &self.raw
    }
}

impl GeneralAttributes {
    /// The current MAC address.
    pub fn current_address(&self) -> &[u8] {
        &self.raw.CurrentMacAddress[..usize::from(self.raw.MacAddressLength).min(32)]
    }

    /// The permanent MAC address.
    pub fn permanent_address(&self) -> &[u8] {
        &self.raw.PermanentMacAddress[..usize::from(self.raw.MacAddressLength).min(32)]
    }
}

/// Offload attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadAttributes {
    /// `DefaultOffloadConfiguration`: what is in force.
    pub default: NDIS_OFFLOAD,
    /// `HardwareOffloadCapabilities`: what the device can do.
    pub hardware: NDIS_OFFLOAD,
}

/// All attributes of an initialised adapter.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Registration attributes.
    pub registration: RegistrationAttributes,
    /// General attributes.
    pub general: GeneralAttributes,
    /// Offload attributes, if the adapter offloads anything.
    pub offload: Option<OffloadAttributes>,
    /// Whether hardware assist attributes were set.
    pub hardware_assist: bool,
}

/// Attributes as they come in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collected {
    pub(crate) registration: Option<RegistrationAttributes>,
    pub(crate) general: Option<GeneralAttributes>,
    pub(crate) offload: Option<OffloadAttributes>,
    pub(crate) hardware_assist: bool,
}

impl Collected {
    pub(crate) fn complete(&self) -> Option<Attributes> {
        Some(Attributes {
            registration: self.registration?,
            general: self.general.clone()?,
            offload: self.offload,
            hardware_assist: self.hardware_assist,
        })
    }
}

/// The lowest revision that a driver of this NDIS version may use, per structure
/// `[version-information-requirements-for-ndis-drivers]`.
fn least(minor: u8, kind: u8) -> u8 {
    match kind {
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES if minor >= 20 => 2,
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES => match minor {
            30.. => 3,
            20.. => 2,
            _ => 1,
        },
        ndis_sys::NDIS_OBJECT_TYPE_OFFLOAD => match minor {
            30.. => 3,
            1.. => 2,
            0 => 1,
        },
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS if minor >= 1 => 2,
        _ => 1,
    }
}

/// The highest revision that the headers of this NDIS version know, per structure: a driver that was
/// compiled for the version cannot have a later one.
fn most(minor: u8, kind: u8) -> u8 {
    match kind {
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS => match minor {
            80.. => 3,
            1.. => 2,
            0 => 1,
        },
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES if minor < 20 => 1,
        ndis_sys::NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES => match minor {
            60.. => 4,
            30.. => 3,
            20.. => 2,
            _ => 1,
        },
        ndis_sys::NDIS_OBJECT_TYPE_OFFLOAD => match minor {
            85.. => 7,
            83.. => 6,
            70.. => 5,
            50.. => 4,
            30.. => 3,
            1.. => 2,
            0 => 1,
        },
        _ => u8::MAX,
    }
}

/// Checks a header against the revisions that a driver of this NDIS version may use.
fn check_version(header: NDIS_OBJECT_HEADER, shapes: &[Shape], minor: u8) -> Result<Shape, String> {
    let kind = shapes.first().map_or(0, |shape| shape.kind);
    let newest = most(minor, kind);
    let shapes: Vec<_> = shapes.iter().copied().filter(|shape| shape.revision <= newest).collect();
    check(header, &shapes, least(minor, kind))
}

/// Checks the characteristics' header for the NDIS version that they register.
pub(crate) fn check_characteristics(header: NDIS_OBJECT_HEADER, minor: u8) -> Result<Shape, String> {
    check_version(header, CHARACTERISTICS, minor)
}

/// `NDIS_MINIPORT_ATTRIBUTES_…`, all of them.
const KNOWN_FLAGS: u32 = 0x7ff;

impl Machine {
    fn attribute_error(&self, rule: &'static crate::rules::Rule, detail: String) -> NDIS_STATUS {
        self.violate(rule, detail);
        ndis_sys::NDIS_STATUS_BAD_CHARACTERISTICS
    }

    /// The revision of an attribute structure, or the status that refuses it.
    fn attribute_shape(
        &self,
        header: NDIS_OBJECT_HEADER,
        shapes: &[Shape],
        minor: u8,
    ) -> Result<Shape, NDIS_STATUS> {
        check_version(header, shapes, minor).or_else(|text| match tolerated(header, shapes) {
            Some(shape) if shape.revision <= most(minor, header.Type) => {
                self.violate(rules::ATTRIBUTE_HEADER, text);
                Ok(shape)
            }
            _ => Err(self.attribute_error(rules::ATTRIBUTE_HEADER, text)),
        })
    }

    /// `NdisMSetMiniportAttributes`.
    ///
    /// # Safety
    /// `attributes` points to a structure as large as its header says.
    pub(crate) unsafe fn set_attributes(
        &self,
        adapter: &AdapterCore,
        attributes: *const NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
    ) -> NDIS_STATUS {
        // Acquire: pairs with the store in `initialize`.
        if !adapter.initializing.load(std::sync::atomic::Ordering::Acquire) {
            return self.attribute_error(
                rules::ATTRIBUTE_ORDER,
                "attributes are set outside of MiniportInitializeEx".into(),
            );
        }
        // SAFETY: every attribute structure starts with a header.
        let header = unsafe { (*attributes).Header };
        let collected = adapter.attributes.lock().clone();
        let minor = adapter.driver.minor();
        let order = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
        let (shapes, ordered) = match header.Type {
            t if t == REGISTRATION[0].kind => (
                REGISTRATION,
                order(collected.registration.is_none(), "registration attributes are set twice"),
            ),
            t if t == GENERAL[0].kind => {
                let first = collected.registration.is_some()
                    && collected.offload.is_none()
                    && !collected.hardware_assist;
                let text = "general attributes come after registration, before all others, and once";
                (GENERAL, order(first && collected.general.is_none(), text))
            }
            t if t == OFFLOAD[0].kind => {
                let ok = collected.general.is_some() && collected.offload.is_none();
                (OFFLOAD, order(ok, "offload attributes come after general ones, and once"))
            }
            // One call for each kind of assistance is as good: netvmini sets VMQ's, then QoS's.
            t if t == HARDWARE_ASSIST[0].kind => {
                let ok = collected.general.is_some();
                (HARDWARE_ASSIST, order(ok, "hardware assist attributes come after general ones"))
            }
            other => {
                return self
                    .attribute_error(rules::ATTRIBUTE_HEADER, format!("no attributes have type {other:#x}"));
            }
        };
        if let Err(text) = ordered {
            return self.attribute_error(rules::ATTRIBUTE_ORDER, text);
        }
        let shape = match self.attribute_shape(header, shapes, minor) {
            Ok(shape) => shape,
            Err(status) => return status,
        };
        if self.fault(0, 0) {
            return ndis_sys::NDIS_STATUS_RESOURCES;
        }
        let mut collected = collected;
        // SAFETY: the header was checked, so the structure is the one that its type names; the
        // pointers in it are the driver's, for this call.
        let result = unsafe {
            match header.Type {
                t if t == REGISTRATION[0].kind => {
                    let raw = (*attributes).RegistrationAttributes;
                    adapter.set_context(raw.MiniportAdapterContext as usize);
                    collected.registration = Some(RegistrationAttributes {
                        revision: header.Revision,
                        flags: raw.AttributeFlags,
                        check_for_hang_seconds: raw.CheckForHangTimeInSeconds,
                        interface_type: raw.InterfaceType,
                    });
                    if raw.AttributeFlags & !KNOWN_FLAGS != 0 {
                        self.violate(
                            rules::ATTRIBUTE_CONTENT,
                            format!(
                                "AttributeFlags {:#x}: {:#x} are unknown",
                                raw.AttributeFlags,
                                raw.AttributeFlags & !KNOWN_FLAGS
                            ),
                        );
                    }
                    if raw.MiniportAdapterContext.is_null() {
                        Err((rules::ATTRIBUTE_CONTENT, "MiniportAdapterContext is NULL".to_owned()))
                    } else if raw.CheckForHangTimeInSeconds % 2 == 1 {
                        Err((rules::ATTRIBUTE_CONTENT, "CheckForHangTimeInSeconds is odd".to_owned()))
                    } else {
                        Ok(())
                    }
                }
                t if t == GENERAL[0].kind => {
                    // The part that the driver's revision has; the rest stays zero.
                    let mut raw: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES = std::mem::zeroed();
                    std::ptr::copy_nonoverlapping(
                        attributes.cast::<u8>(),
                        (&raw mut raw).cast(),
                        usize::from(shape.size),
                    );
                    self.copy_general(raw, minor).map(|general| collected.general = Some(general))
                }
                t if t == OFFLOAD[0].kind => self
                    .copy_offload(&(*attributes).OffloadAttributes, minor)
                    .map(|offload| collected.offload = Some(offload)),
                _ => {
                    collected.hardware_assist = true;
                    Ok(())
                }
            }
        };
        match result {
            Ok(()) => {
                *adapter.attributes.lock() = collected;
                ndis_sys::NDIS_STATUS_SUCCESS
            }
            Err((rule, text)) => self.attribute_error(rule, text),
        }
    }

    /// # Safety
    /// The pointers of `raw` are null or lead to what they stand for.
    unsafe fn copy_general(
        &self,
        mut raw: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
        minor: u8,
    ) -> Result<GeneralAttributes, (&'static crate::rules::Rule, String)> {
        let content = |text: &str| Err((rules::ATTRIBUTE_CONTENT, text.to_owned()));
        if raw.SupportedOidList.is_null()
            || raw.SupportedOidListLength == 0
            || !raw.SupportedOidListLength.is_multiple_of(4)
        {
            return content(
                "SupportedOidList is empty, or SupportedOidListLength is no number of bytes of whole OIDs",
            );
        }
        if raw.MacAddressLength > 32 {
            return content("MacAddressLength is above NDIS_MAX_PHYS_ADDRESS_LENGTH");
        }
        if raw.MediaType == ndis_sys::NdisMedium802_3 {
            if raw.MacAddressLength != 6 {
                return content("an Ethernet adapter has MacAddressLength 6");
            }
            if raw.CurrentMacAddress[0] & 1 == 1 || raw.PermanentMacAddress[0] & 1 == 1 {
                return content("a MAC address is a group address");
            }
        }
        if raw.Flags != 0 {
            self.violate(rules::ATTRIBUTE_CONTENT, format!("Flags are {:#x}: they are reserved", raw.Flags));
        }
        if !(0..=2).contains(&raw.MediaConnectState) || !(0..=2).contains(&raw.MediaDuplexState) {
            let (connect, duplex) = (raw.MediaConnectState, raw.MediaDuplexState);
            let text = format!("MediaConnectState is {connect}, MediaDuplexState {duplex}: both are 0 to 2");
            self.violate(rules::ATTRIBUTE_CONTENT, text);
        }
        if raw.MacOptions & ndis_sys::NDIS_MAC_OPTION_RESERVED != 0 {
            self.violate(rules::ATTRIBUTE_CONTENT, "MacOptions hold NDIS_MAC_OPTION_RESERVED");
        }
        if raw.LookaheadSize > raw.MtuSize {
            self.violate(rules::ATTRIBUTE_CONTENT, "LookaheadSize is above MtuSize");
        }
        if raw.MacOptions & ndis_sys::NDIS_MAC_OPTION_8021P_PRIORITY == 0 {
            self.violate(rules::ATTRIBUTE_CONTENT, "MacOptions lack NDIS_MAC_OPTION_8021P_PRIORITY");
        }
        if minor >= 20 && raw.PowerManagementCapabilitiesEx.is_null() {
            return content("PowerManagementCapabilitiesEx is NULL");
        }
        if minor >= 20 && !raw.PowerManagementCapabilities.is_null() {
            self.violate(
                rules::ATTRIBUTE_CONTENT,
                "PowerManagementCapabilities is not NULL; 6.20 and later use the Ex member",
            );
        }
        // SAFETY: the caller vouches for the pointers; NULL was excluded.
        let (oids, power) = unsafe {
            let count = raw.SupportedOidListLength as usize / 4;
            let oids = slice::from_raw_parts(raw.SupportedOidList, count).to_vec();
            let power = raw.PowerManagementCapabilitiesEx.as_ref().copied();
            (oids, power)
        };
        if let Some(power) = power {
            let least = if minor >= 30 { 2 } else { 1 };
            // NDIS takes it all the same: tap-windows6 says type 0 and revision 1, and runs.
            if let Err(text) = check(power.Header, PM_CAPABILITIES, least) {
                self.violate(rules::ATTRIBUTE_HEADER, text);
            }
        }
        let receive_scaling = !raw.RecvScaleCapabilities.is_null();
        raw.SupportedOidList = std::ptr::null_mut();
        raw.PowerManagementCapabilities = std::ptr::null_mut();
        raw.PowerManagementCapabilitiesEx = std::ptr::null_mut();
        raw.RecvScaleCapabilities = std::ptr::null_mut();
        Ok(GeneralAttributes { raw, supported_oids: oids, power_management: power, receive_scaling })
    }

    /// # Safety
    /// The pointers of `raw` are null or lead to what they stand for.
    unsafe fn copy_offload(
        &self,
        raw: &NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
        minor: u8,
    ) -> Result<OffloadAttributes, (&'static crate::rules::Rule, String)> {
        if !raw.DefaultTcpConnectionOffloadConfiguration.is_null()
            || !raw.TcpConnectionOffloadHardwareCapabilities.is_null()
        {
            self.violate(
                rules::ATTRIBUTE_CONTENT,
                "TCP connection offload is obsolete: its pointers are NULL",
            );
        }
        let copy = |pointer: *const NDIS_OFFLOAD, name: &str| {
            if pointer.is_null() {
                return Err((rules::ATTRIBUTE_CONTENT, format!("{name} is NULL")));
            }
            // SAFETY: the caller vouches that this leads to an NDIS_OFFLOAD.
            unsafe { read_offload(pointer, minor) }
                .map_err(|text| (rules::ATTRIBUTE_HEADER, format!("{name}: {text}")))
        };
        Ok(OffloadAttributes {
            default: copy(raw.DefaultOffloadConfiguration, "DefaultOffloadConfiguration")?,
            hardware: copy(raw.HardwareOffloadCapabilities, "HardwareOffloadCapabilities")?,
        })
    }
}

/// Copies an NDIS_OFFLOAD of any known revision; what an older one lacks is zero, and what a newer one
/// adds is left out (its header is kept).
///
/// # Safety
/// `pointer` leads to a structure as large as its header says.
pub(crate) unsafe fn read_offload(pointer: *const NDIS_OFFLOAD, minor: u8) -> Result<NDIS_OFFLOAD, String> {
    // SAFETY: the structure starts with a header; only as many bytes are read as a known revision has.
    unsafe {
        let shape = check_version((*pointer).Header, NDIS_OFFLOAD_SHAPES, minor)?;
        let mut offload = NDIS_OFFLOAD::default();
        let length = usize::from(shape.size).min(size_of_val(&offload));
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut offload).cast(), length);
        Ok(offload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
        NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size }
    }

    #[test]
    fn a_size_that_ndis_takes_is_one_that_the_structure_has_in_the_headers() {
        // 28 bytes and, with what a compiler puts behind them, 32; the two revisions are as long.
        let kind = REGISTRATION[0].kind;
        for (revision, size) in [(1, 28), (1, 32), (2, 28), (2, 32)] {
            let header = header(kind, revision, size);
            assert_eq!(tolerated(header, REGISTRATION).unwrap().revision, revision);
            assert_eq!(check(header, REGISTRATION, 1).is_ok(), size == 28);
        }
        for (revision, size) in [(2, 27), (2, 29), (2, 36), (2, 40), (3, 28), (0, 28)] {
            assert!(tolerated(header(kind, revision, size), REGISTRATION).is_none(), "{revision}, {size}");
        }
        assert!(tolerated(header(kind + 1, 2, 28), REGISTRATION).is_none());
        // An older revision in the structure of a newer one; not the other way round.
        let [old, .., new] = HARDWARE_ASSIST else { panic!() };
        let mixed = header(old.kind, old.revision, new.size);
        assert_eq!(tolerated(mixed, HARDWARE_ASSIST).unwrap().size, old.size);
        assert!(tolerated(header(new.kind, new.revision, old.size), HARDWARE_ASSIST).is_none());
        // A revision that is too old is named with those that are wanted.
        let text = check(header(old.kind, old.revision, old.size), HARDWARE_ASSIST, 3).unwrap_err();
        assert!(text.contains("revision 1") && text.contains("expected type 0xaf, revision 3"), "{text}");
    }
}
