//! Types: how C spells them and how Rust does, and the aliases.

use crate::data::Data;
use crate::extra;
use crate::source::Source;

/// Aliases of built-in types, from the WDK's basetsd.h, minwindef.h and ntdef.h.
const BASIC: &[(&str, &str)] = &[
    ("BOOLEAN", "u8"),
    ("CCHAR", "i8"),
    ("CHAR", "i8"),
    ("CSHORT", "i16"),
    ("IPAddr", "ULONG"),
    ("KAFFINITY", "usize"),
    ("KIRQL", "u8"),
    ("KPRIORITY", "i32"),
    ("KSPIN_LOCK", "usize"),
    ("LONG", "i32"),
    ("LONGLONG", "i64"),
    ("NDIS_OID", "ULONG"),
    ("NDIS_PORT_NUMBER", "ULONG"),
    ("NDIS_STATUS", "i32"),
    ("NDIS_SWITCH_PORT_ID", "ULONG"),
    ("NET_IFINDEX", "ULONG"),
    ("NET_IFTYPE", "USHORT"),
    ("NTSTATUS", "i32"),
    ("IPSEC_OFFLOAD_V2_SPI_TYPE", "ULONG"),
    ("SIZE_T", "usize"),
    ("UCHAR", "u8"),
    ("UINT", "u32"),
    ("ULONG", "u32"),
    ("ULONG64", "u64"),
    ("ULONG_PTR", "usize"),
    ("USHORT", "u16"),
    ("WCHAR", "u16"),
    ("HANDLE", "PVOID"),
    ("NDIS_HANDLE", "PVOID"),
    ("PVOID", "*mut c_void"),
    ("NDIS_STRING", "UNICODE_STRING"),
    ("PHYSICAL_ADDRESS", "LARGE_INTEGER"),
    ("NDIS_PHYSICAL_ADDRESS", "PHYSICAL_ADDRESS"),
    ("NDIS_MEDIA_CONNECT_STATE", "NET_IF_MEDIA_CONNECT_STATE"),
    ("NDIS_MEDIA_DUPLEX_STATE", "NET_IF_MEDIA_DUPLEX_STATE"),
];

/// Aliases of pointers to callbacks.
const POINTERS: &[(&str, &str)] = &[
    ("MINIPORT_DRIVER_UNLOAD", "MINIPORT_UNLOAD"),
    ("NDIS_IO_WORKITEM_ROUTINE", "NDIS_IO_WORKITEM_FUNCTION"),
    ("PDRIVER_DISPATCH", "DRIVER_DISPATCH"),
    ("PKDEFERRED_ROUTINE", "KDEFERRED_ROUTINE"),
    ("PNDIS_TIMER_FUNCTION", "NDIS_TIMER_FUNCTION"),
];

/// What Rust should say for a C type.
pub(crate) fn rust(c_type: &str) -> String {
    let c_type = c_type.trim_start_matches("volatile ").trim_start_matches("struct _").trim();
    if let Some(start) = c_type.find('[') {
        return format!("[{}; {}", rust(&c_type[..start]), &c_type[start + 1..]);
    }
    if let Some(target) = c_type.strip_suffix('*') {
        return format!("*mut {}", rust(target));
    }
    match c_type {
        "void" => "()",
        // NDIS_STATUS and NTSTATUS in canonical form.
        "int" => "NDIS_STATUS",
        "long" => "NTSTATUS",
        "unsigned char" => "UCHAR",
        "unsigned short" => "USHORT",
        "unsigned long" => "ULONG",
        "LPCGUID" => "*const GUID",
        "PCUNICODE_STRING" => "*const UNICODE_STRING",
        "PCWSTR" => "*const WCHAR",
        "PCSTR" => "*const CHAR",
        "PWCH" => "*mut WCHAR",
        "PRKDPC" => "*mut KDPC",
        "PRKEVENT" => "*mut KEVENT",
        "PVOID" | "PROCESSOR_NUMBER" | "PHYSICAL_ADDRESS" | "POOL_FLAGS" => c_type,
        _ if POINTERS.iter().any(|(name, _)| *name == c_type) => c_type,
        _ => match c_type.strip_prefix('P') {
            Some(target) => return format!("*mut {target}"),
            None => c_type,
        },
    }
    .to_owned()
}

#[test]
fn aliases_have_their_definitions() {
    let (source, data) = (Source::load(), Data::load());
    for (name, target) in &source.aliases {
        let basic = BASIC.iter().chain(extra::ALIASES).find(|(alias, _)| alias == name);
        if let Some((_, expected)) = basic {
            assert_eq!(target, expected, "{name}");
        } else if data.enums.contains_key(name) {
            assert_eq!(target, "i32", "{name}");
        } else {
            let callback = POINTERS.iter().find(|(alias, _)| alias == name).map(|(_, callback)| *callback);
            let callback = callback
                .or_else(|| name.strip_suffix("_HANDLER"))
                .unwrap_or_else(|| panic!("{name} is unknown"));
            assert_eq!(*target, format!("Option<{callback}>"), "{name}");
            assert!(source.callbacks.contains_key(callback), "{name}");
        }
    }
}

#[test]
fn opaque_types_are_pointed_to() {
    let source = Source::load();
    let parameters = source.functions.values().chain(source.callbacks.values()).flat_map(|f| &f.parameters);
    let fields = source.structs.values().flat_map(|declared| &declared.fields);
    let used: Vec<_> = parameters.chain(fields).map(|(_, ty)| ty.trim_start_matches("*mut ")).collect();
    for name in &source.opaque {
        assert!(used.contains(&name.as_str()), "{name}");
    }
}
