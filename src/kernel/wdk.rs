//! The image with Microsoft's crates (windows-drivers-rs).

#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

// `wdk-panic` stops by looping for ever. This driver's panics are bug checks (`panic`), so it is used only when asked for.
#[cfg(feature = "wdk-panic")]
extern crate wdk_panic as _;
