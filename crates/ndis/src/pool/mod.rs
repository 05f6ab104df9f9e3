//! Non-paged pool, as an allocator that may fail.

mod arc;

use core::alloc::{GlobalAlloc, Layout};
use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box;
use ndis_sys::{
    ExAllocatePool2, ExFreePoolWithTag, POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED, POOL_FLAGS,
};

pub use arc::PoolArc;

use crate::status::Status;

/// Non-paged, non-executable pool under one tag. IRQL <= DISPATCH_LEVEL.
///
/// Use it with the fallible constructors of [`alloc`](crate::alloc) (`Box::try_new_in`, `Vec::try_reserve_exact`); it never
/// panics and never raises. The pool itself aligns to 16 bytes and no more (`[pool_flags]`; `POOL_FLAG_CACHE_ALIGNED` is
/// best effort), so larger alignments are made by over-allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolAlloc<const TAG: u32>;

/// A pool tag from the four characters that debuggers show.
#[must_use]
pub const fn pool_tag(characters: [u8; 4]) -> u32 {
    u32::from_le_bytes(characters)
}

/// Tag of what the layer itself allocates. Shows as `NdRs`.
pub(crate) const LAYER_TAG: u32 = pool_tag(*b"NdRs");

/// The layer's own allocator.
pub(crate) type LayerAlloc = PoolAlloc<LAYER_TAG>;

/// The pool is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for Status {
    /// RESOURCES.
    fn from(_: OutOfMemory) -> Self {
        Self::RESOURCES
    }
}

/// A box whose contents `init` makes in place, so that no copy of them stays elsewhere. `init` returns the initialised slot.
///
/// # Errors
///
/// [`OutOfMemory`], or `init`'s error; the memory is freed.
///
/// # Panics
///
/// If `init` returns a reference to something else than its slot, which takes leaking a `T`.
pub fn try_box_with<T, A: Allocator, E: From<OutOfMemory>>(
    alloc: A,
    init: impl for<'a> FnOnce(&'a mut MaybeUninit<T>) -> Result<&'a mut T, E>,
) -> Result<Box<T, A>, E> {
    let mut memory: Box<MaybeUninit<T>, A> =
        Box::try_new_uninit_in(alloc).map_err(|AllocError| OutOfMemory)?;
    let slot: *const T = memory.as_ptr();
    let made: *const T = init(&mut memory)?;
    assert!(ptr::eq(slot, made), "the slot is not what was initialised");
    // SAFETY: `init` gave a `&mut T` to this very memory, which it had as uninitialised: so it is initialised now.
    Ok(unsafe { memory.assume_init() })
}

/// What the pool guarantees on 64-bit Windows (MEMORY_ALLOCATION_ALIGNMENT).
const POOL_ALIGNMENT: usize = 16;

impl<const TAG: u32> PoolAlloc<TAG> {
    const TAG: u32 = {
        assert!(TAG != 0, "the pool refuses tag 0");
        TAG
    };

    fn allocate_with(layout: Layout, flags: POOL_FLAGS) -> Option<NonNull<u8>> {
        if layout.align() <= POOL_ALIGNMENT {
            // SAFETY: ExAllocatePool2 has no preconditions but IRQL <= DISPATCH_LEVEL for non-paged pool, at which
            // everything in this crate runs, and a non-zero tag. It returns null on failure without RAISE_ON_FAILURE.
            let block = unsafe { ExAllocatePool2(flags | POOL_FLAG_NON_PAGED, layout.size(), Self::TAG) };
            return NonNull::new(block.cast());
        }
        // Room for the alignment and, below the aligned address, for the address to free.
        let size = layout.size().checked_add(layout.align())?;
        // SAFETY: as above.
        let block = unsafe { ExAllocatePool2(flags | POOL_FLAG_NON_PAGED, size, Self::TAG) }.cast::<u8>();
        let block = NonNull::new(block)?;
        // The block is aligned to 16, so the next multiple of a larger power of two above `block + 16` lies within
        // `block + align`: at least 16 bytes above the start and with `layout.size()` bytes behind it.
        let offset = layout.align() - (block.addr().get() & (layout.align() - 1));
        // SAFETY: 16 <= offset <= align (see above), so the result is inside the block of `size` bytes.
        let aligned = unsafe { block.add(offset) };
        // SAFETY: the 16 bytes below `aligned` belong to the block and are aligned for a pointer.
        unsafe { aligned.cast::<NonNull<u8>>().sub(1).write(block) };
        Some(aligned)
    }

    /// # Safety
    ///
    /// `pointer` is from [`allocate_with`](Self::allocate_with) of the same `TAG` and a layout of the same
    /// alignment, and has
    /// not been freed.
    unsafe fn free(pointer: NonNull<u8>, layout: Layout) {
        let block = if layout.align() <= POOL_ALIGNMENT {
            pointer
        } else {
            // SAFETY: for such a layout `allocate_with` stored the block's address just below what it returned.
            unsafe { pointer.cast::<NonNull<u8>>().sub(1).read() }
        };
        // SAFETY: the block is an allocation of ExAllocatePool2 with this tag, not freed yet.
        unsafe { ExFreePoolWithTag(block.as_ptr().cast(), Self::TAG) };
    }
}

/// An allocation of no bytes: any aligned address.
fn empty(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(NonNull::without_provenance(layout_align(layout)), 0)
}

fn layout_align(layout: Layout) -> NonZeroUsize {
    // An alignment is a power of two, so the fallback is never taken.
    NonZeroUsize::new(layout.align()).unwrap_or(NonZeroUsize::MIN)
}

// SAFETY: blocks stay valid until freed and do not depend on the allocator value, which is zero-sized and `Copy`: all
// values of one type are the same allocator. `deallocate` gets the layout's alignment back.
unsafe impl<const TAG: u32> Allocator for PoolAlloc<TAG> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        let block = Self::allocate_with(layout, POOL_FLAG_UNINITIALIZED).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        // ExAllocatePool2 zeroes unless told not to.
        let block = Self::allocate_with(layout, 0).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, pointer: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's contract; blocks of no bytes, which are not pool memory, are excluded.
            unsafe { Self::free(pointer, layout) };
        }
    }
}

// SAFETY: as for `Allocator`; failure is a null pointer, never a panic.
unsafe impl<const TAG: u32> GlobalAlloc for PoolAlloc<TAG> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::allocate_with(layout, POOL_FLAG_UNINITIALIZED).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::allocate_with(layout, 0).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller's contract: `pointer` came from `alloc` with this layout.
            unsafe { Self::free(pointer, layout) };
        }
    }
}
