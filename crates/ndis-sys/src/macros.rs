//! The macros that hide the calling convention, and those that spell bit-fields and sizes.

/// Defines functions in the calling convention of Windows: `extern "win64"` on x86-64, `extern "C"` elsewhere.
///
/// ```
/// ndis_sys::ndis_fn! {
///     /// A MINIPORT_HALT callback.
///     unsafe extern fn halt(_context: ndis_sys::NDIS_HANDLE, _action: ndis_sys::NDIS_HALT_ACTION) {}
/// }
/// let _: ndis_sys::MINIPORT_HALT = halt;
/// ```
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! ndis_fn {
    ($($(#[$meta:meta])* $vis:vis unsafe extern fn $name:ident $(<$($g:ident $(: $b:path)?),+ $(,)?>)? ($($arg:tt)*) $(-> $ret:ty)? $body:block)*) => {
        $($(#[$meta])* $vis unsafe extern "win64" fn $name $(<$($g $(: $b)?),+>)? ($($arg)*) $(-> $ret)? $body)*
    };
}
/// Defines functions in the calling convention of Windows: `extern "win64"` on x86-64, `extern "C"` elsewhere.
#[cfg(not(target_arch = "x86_64"))]
#[macro_export]
macro_rules! ndis_fn {
    ($($(#[$meta:meta])* $vis:vis unsafe extern fn $name:ident $(<$($g:ident $(: $b:path)?),+ $(,)?>)? ($($arg:tt)*) $(-> $ret:ty)? $body:block)*) => {
        $($(#[$meta])* $vis unsafe extern "C" fn $name $(<$($g $(: $b)?),+>)? ($($arg)*) $(-> $ret)? $body)*
    };
}

/// The type of a function in the calling convention of Windows: `abi!(fn(NDIS_HANDLE) -> NDIS_STATUS)`.
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! abi {
    (fn($($arg:tt)*) $(-> $ret:ty)?) => { unsafe extern "win64" fn($($arg)*) $(-> $ret)? };
}
/// The type of a function in the calling convention of Windows: `abi!(fn(NDIS_HANDLE) -> NDIS_STATUS)`.
#[cfg(not(target_arch = "x86_64"))]
#[macro_export]
macro_rules! abi {
    (fn($($arg:tt)*) $(-> $ret:ty)?) => { unsafe extern "C" fn($($arg)*) $(-> $ret)? };
}

/// Bytes from the start of a structure to the end of one of its fields: what `Header.Size` counts.
macro_rules! RTL_SIZEOF_THROUGH_FIELD {
    ($t:ty, $f:ident) => {{
        const fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
            size_of::<F>()
        }
        let size = core::mem::offset_of!($t, $f) + field_size(|s: &$t| &s.$f);
        assert!(size <= u16::MAX as usize);
        #[allow(clippy::cast_possible_truncation)] // checked above
        {
            size as u16
        }
    }};
}

/// Function types in the calling convention of Windows.
macro_rules! callbacks {
    ($($(#[$meta:meta])* pub type $name:ident = fn($($arg:tt)*) $(-> $ret:ty)?;)*) => {
        $($(#[$meta])* pub type $name = $crate::abi!(fn($($arg)*) $(-> $ret)?);)*
    };
}

/// Functions imported from a kernel module by name; natively, symbols that the host defines.
#[cfg(target_arch = "x86_64")]
macro_rules! imports {
    ($module:literal => $($item:tt)*) => {
        #[cfg_attr(
            all(windows, not(feature = "hosted")),
            link(name = $module, kind = "raw-dylib", modifiers = "+verbatim")
        )]
        unsafe extern "win64" { $($item)* }
    };
}
/// Functions imported from a kernel module by name; natively, symbols that the host defines.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! imports {
    ($module:literal => $($item:tt)*) => {
        #[cfg_attr(
            all(windows, not(feature = "hosted")),
            link(name = $module, kind = "raw-dylib", modifiers = "+verbatim")
        )]
        unsafe extern "C" { $($item)* }
    };
}

/// A word of bit-fields: a transparent integer with a getter and a builder per field.
/// The paths name the C structures that hold it; tests check every field's bits against them.
macro_rules! bits {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($word:ty) = $($path:literal),+;
        $($(#[$fmeta:meta])* $get:ident / $with:ident: $low:literal, $width:literal;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(
            /// The whole word.
            pub $word,
        );

        impl $name {
            /// The C structures whose bit-fields these are.
            pub const WDK_PATHS: &[&str] = &[$($path),+];

            $(
                $(#[$fmeta])*
                #[inline]
                #[must_use]
                pub const fn $get(self) -> u32 {
                    ((self.0 >> $low) & ((1 << $width) - 1)) as u32
                }

                /// The word with this field set to the low bits of `value`.
                #[inline]
                #[must_use]
                pub const fn $with(self, value: u32) -> Self {
                    let mask: $word = ((1 << $width) - 1) << $low;
                    Self(self.0 & !mask | ((value as $word) << $low) & mask)
                }
            )*
        }
    };
}
