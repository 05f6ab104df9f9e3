//! The memory of a table: one block, taken at creation, whose parts are handed out as slices.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem;
use core::ptr::{self, NonNull};
use core::slice;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::epoch::{Control, Line};
use crate::index::{Bucket, Index, Lanes};
use crate::slot::{NONE, Slot};

/// What every allocator gives; a kernel pool gives no more. What needs more is aligned within the block.
const BLOCK_ALIGN: usize = 16;
/// The block's parts start at cache lines even where their types do not ask for it.
const PART_ALIGN: usize = 64;

/// How many of each thing a table has; as many lanes as `buckets`. None is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dimensions {
    pub(crate) slots: u32,
    pub(crate) buckets: u32,
    pub(crate) lines: u32,
    pub(crate) first_generation: usize,
}

/// The block and its parts.
///
/// # Invariants
///
/// `block` is what the allocator gave for `layout`, and stays allocated until [`free`](Self::free). Each part
/// lies in it, aligned for its type, disjoint from the others, with as many initialised elements as `dims` says.
pub(crate) struct Storage<V> {
    control: NonNull<Control>,
    lines: NonNull<Line>,
    lanes: NonNull<Lanes>,
    buckets: NonNull<Bucket>,
    slots: NonNull<Slot<V>>,
    dims: Dimensions,
    block: NonNull<u8>,
    layout: Layout,
    owns: PhantomData<Slot<V>>,
}

// SAFETY: a storage owns its parts and gives them out as shared slices, like a `Box<[Slot<V>]>` would; the other
// parts are atomics.
unsafe impl<V: Send> Send for Storage<V> {}
// SAFETY: as above.
unsafe impl<V: Send + Sync> Sync for Storage<V> {}

impl<V> Storage<V> {
    /// Takes and initialises the block; all slots are Free and linked in order.
    ///
    /// # Errors
    ///
    /// When the allocator has no such block, or the sizes overflow.
    pub(crate) fn try_new_in<A: Allocator>(dims: Dimensions, allocator: &A) -> Result<Self, AllocError> {
        let plan = Plan::<V>::new(dims).ok_or(AllocError)?;
        // A base that is aligned to `plan.align` lies within the first `plan.align - BLOCK_ALIGN` bytes of any
        // block that is aligned to BLOCK_ALIGN.
        let slack = plan.align.saturating_sub(BLOCK_ALIGN);
        let size = plan.size.checked_add(slack).ok_or(AllocError)?;
        let layout = Layout::from_size_align(size, BLOCK_ALIGN).map_err(|_| AllocError)?;
        let block: NonNull<u8> = allocator.allocate(layout)?.cast();
        let start = block.as_ptr().align_offset(plan.align);
        if start > slack {
            // Not BLOCK_ALIGN-aligned, against the allocator's contract: give it back rather than overrun it.
            // SAFETY: just allocated, with this layout.
            unsafe { allocator.deallocate(block, layout) };
            return Err(AllocError);
        }
        // SAFETY: start + plan.size <= size, so the base and each part's offset lie in the block.
        let (control, lines, lanes, buckets, slots) = unsafe {
            let base = block.add(start);
            (
                base.cast::<Control>(),
                base.add(plan.lines).cast::<Line>(),
                base.add(plan.lanes).cast::<Lanes>(),
                base.add(plan.buckets).cast::<Bucket>(),
                base.add(plan.slots).cast::<Slot<V>>(),
            )
        };
        // SAFETY: each address is in the block, aligned (the base to the largest alignment, the offsets by the plan)
        // and within its part; the block is ours alone.
        unsafe {
            control.write(Control::new());
            for i in 0..dims.lines {
                lines.add(i as usize).write(Line::new());
            }
            for i in 0..dims.buckets {
                lanes.add(i as usize).write(Lanes::new());
                buckets.add(i as usize).write(Bucket::new());
            }
            for i in 0..dims.slots {
                let next = if i + 1 < dims.slots { i + 1 } else { NONE };
                Slot::init(slots.add(i as usize).as_ptr(), i, dims.first_generation, next);
            }
        }
        Ok(Self { control, lines, lanes, buckets, slots, dims, block, layout, owns: PhantomData })
    }

    /// Gives the block back. Values are not dropped: the table does that first.
    ///
    /// # Safety
    ///
    /// `allocator` is the one that the block came from; no part is used from here on.
    pub(crate) unsafe fn free<A: Allocator>(&mut self, allocator: &A) {
        // The atomics themselves need no drop, but the model checker's do.
        if mem::needs_drop::<Line>() {
            // SAFETY: by the invariants these are initialised; by the contract nobody uses them any more. A slot's
            // `MaybeUninit` value is not dropped.
            unsafe {
                ptr::drop_in_place(self.control.as_ptr());
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(
                    self.lines.as_ptr(),
                    self.dims.lines as usize,
                ));
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(
                    self.lanes.as_ptr(),
                    self.dims.buckets as usize,
                ));
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(
                    self.buckets.as_ptr(),
                    self.dims.buckets as usize,
                ));
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(
                    self.slots.as_ptr(),
                    self.dims.slots as usize,
                ));
            }
        }
        // SAFETY: allocated by `allocator` with this layout, and by the contract not used again.
        unsafe { allocator.deallocate(self.block, self.layout) };
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    pub(crate) fn slot_count(&self) -> u32 {
        self.dims.slots
    }

    #[inline]
    pub(crate) fn control(&self) -> &Control {
        // SAFETY: by the invariants.
        unsafe { self.control.as_ref() }
    }

    #[inline]
    pub(crate) fn lines(&self) -> &[Line] {
        // SAFETY: by the invariants.
        unsafe { slice::from_raw_parts(self.lines.as_ptr(), self.dims.lines as usize) }
    }

    #[inline]
    pub(crate) fn index(&self) -> Index<'_> {
        let count = self.dims.buckets as usize;
        // SAFETY: by the invariants; `dims.buckets` is not 0.
        unsafe {
            Index::new(
                slice::from_raw_parts(self.lanes.as_ptr(), count),
                slice::from_raw_parts(self.buckets.as_ptr(), count),
            )
        }
    }

    #[inline]
    pub(crate) fn slots(&self) -> &[Slot<V>] {
        // SAFETY: by the invariants.
        unsafe { slice::from_raw_parts(self.slots.as_ptr(), self.dims.slots as usize) }
    }
}

/// Offsets of the parts from the base, which is where the control part is.
struct Plan<V> {
    lines: usize,
    lanes: usize,
    buckets: usize,
    slots: usize,
    size: usize,
    align: usize,
    of: PhantomData<V>,
}

impl<V> Plan<V> {
    fn new(dims: Dimensions) -> Option<Self> {
        fn then<T>(layout: Layout, count: u32) -> Option<(Layout, usize)> {
            let part = Layout::array::<T>(count as usize).ok()?.align_to(PART_ALIGN).ok()?;
            layout.extend(part).ok()
        }
        let layout = Layout::new::<Control>();
        let (layout, lines) = then::<Line>(layout, dims.lines)?;
        let (layout, lanes) = then::<Lanes>(layout, dims.buckets)?;
        let (layout, buckets) = then::<Bucket>(layout, dims.buckets)?;
        let (layout, slots) = then::<Slot<V>>(layout, dims.slots)?;
        Some(Self {
            lines,
            lanes,
            buckets,
            slots,
            size: layout.size(),
            align: layout.align(),
            of: PhantomData,
        })
    }
}
