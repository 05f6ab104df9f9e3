//! The image without the WDK crates.

#[global_allocator]
static ALLOCATOR: super::Pool = ndis::PoolAlloc;
