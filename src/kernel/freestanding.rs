//! The image without the WDK crates.

#[global_allocator]
static ALLOCATOR: super::Pool = ndis::PoolAlloc;

/// The compiler refers to this symbol where there are floating-point instructions (`core` has some); a C run-time library
/// would define it. Nothing reads it. With feature `wdk` it is wdk-sys's.
// SAFETY: no other symbol of this image has the name, and its value and type are of no consequence.
#[unsafe(no_mangle)]
static _fltused: i32 = 0;
