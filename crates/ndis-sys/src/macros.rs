//! The calling convention, imports, bit-fields and sizes, each in one place.

/// Defines functions in the calling convention of Windows: `extern "win64"` on x86-64, `extern "C"` elsewhere.
///
/// Type parameters may have one bound each. In an `impl` it defines associated functions.
///
/// ```
/// use ndis_sys::{MINIPORT_HALT, NDIS_HALT_ACTION, NDIS_HANDLE};
///
/// ndis_sys::ndis_fn! {
///     /// A miniport's halt handler.
///     ///
///     /// # Safety
///     /// Called by NDIS.
///     pub unsafe extern fn halt(_context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {}
/// }
/// let _: MINIPORT_HALT = halt;
/// ```
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! ndis_fn {
    ($(
        $(#[$meta:meta])*
        $vis:vis unsafe extern fn $name:ident $(<$($g:ident $(: $bound:path)?),+ $(,)?>)? ($($arg:tt)*) $(-> $ret:ty)?
            $body:block
    )*) => {
        $($(#[$meta])* $vis unsafe extern "win64" fn $name $(<$($g $(: $bound)?),+>)? ($($arg)*) $(-> $ret)? $body)*
    };
}
/// Defines functions in the calling convention of Windows: `extern "win64"` on x86-64, `extern "C"` elsewhere.
#[cfg(not(target_arch = "x86_64"))]
#[macro_export]
macro_rules! ndis_fn {
    ($(
        $(#[$meta:meta])*
        $vis:vis unsafe extern fn $name:ident $(<$($g:ident $(: $bound:path)?),+ $(,)?>)? ($($arg:tt)*) $(-> $ret:ty)?
            $body:block
    )*) => {
        $($(#[$meta])* $vis unsafe extern "C" fn $name $(<$($g $(: $bound)?),+>)? ($($arg)*) $(-> $ret)? $body)*
    };
}

/// The type of a pointer to a function in the calling convention of Windows.
///
/// ```
/// type Callback = ndis_sys::abi!(fn(ndis_sys::NDIS_HANDLE) -> ndis_sys::NDIS_STATUS);
/// ```
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! abi {
    (fn($($arg:tt)*) $(-> $ret:ty)?) => { unsafe extern "win64" fn($($arg)*) $(-> $ret)? };
}
/// The type of a pointer to a function in the calling convention of Windows.
#[cfg(not(target_arch = "x86_64"))]
#[macro_export]
macro_rules! abi {
    (fn($($arg:tt)*) $(-> $ret:ty)?) => { unsafe extern "C" fn($($arg)*) $(-> $ret)? };
}

/// Types of callbacks: `fn` stands for an unsafe function in the calling convention of Windows.
macro_rules! callbacks {
    ($($(#[$meta:meta])* pub type $name:ident = fn($($arg:tt)*) $(-> $ret:ty)?;)*) => {
        $($(#[$meta])* pub type $name = $crate::abi!(fn($($arg)*) $(-> $ret)?);)*
    };
}

/// Functions of a kernel module: imports by name, or symbols that a host defines.
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
/// Functions of a kernel module: imports by name, or symbols that a host defines.
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

/// Bytes from the start of a structure to the end of one of its fields: the WDK's macro of this name.
macro_rules! RTL_SIZEOF_THROUGH_FIELD {
    ($t:ty, $field:ident) => {{
        const fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
            size_of::<F>()
        }
        let size = core::mem::offset_of!($t, $field) + size_of_field(|t: &$t| &t.$field);
        assert!(size <= u16::MAX as usize);
        #[allow(clippy::cast_possible_truncation)] // the line above
        let size = size as u16;
        size
    }};
}

/// A word of bit-fields: a transparent integer with a getter and a builder for each field, given its name, lowest bit
/// and number of bits. The paths say where in the C structures the word is; tests compare the bits with the WDK's.
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
            /// The word.
            pub $word,
        );

        // The word is 32 or 64 bits wide; a field never has more than 32, so no cast loses any of it.
        #[allow(clippy::cast_possible_truncation, clippy::cast_lossless, clippy::unnecessary_cast)]
        impl $name {
            /// Where the word is in the C structures.
            pub const WDK_PATHS: &[&str] = &[$($path),+];

            $(
                $(#[$fmeta])*
                #[inline]
                #[must_use]
                pub const fn $get(self) -> u32 {
                    ((self.0 >> $low) & ((1 << $width) - 1)) as u32
                }

                #[doc = concat!("This word with `", stringify!($get), "` set to the low bits of `value`.")]
                #[inline]
                #[must_use]
                pub const fn $with(self, value: u32) -> Self {
                    let mask: $word = ((1 << $width) - 1) << $low;
                    Self((self.0 & !mask) | (((value as $word) << $low) & mask))
                }
            )*
        }
    };
}
