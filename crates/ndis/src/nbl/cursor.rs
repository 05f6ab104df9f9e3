//! [`NetBuffer`]: one frame of a sender, scattered over memory descriptor lists (`[ns-nbl-net_buffer]`).

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use ndis_sys::{
    FALSE, KernelMode, MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, MdlMappingNoExecute,
    MmCached, MmMapLockedPagesSpecifyCache, NET_BUFFER, NormalPagePriority, ULONG,
};

use crate::status::Status;

/// Why bytes could not be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// The system ran out of address space to map an MDL.
    Mapping,
    /// The destination is shorter than the frame, or the range is not inside it.
    TooShort,
    /// The MDL chain is shorter than DataLength says.
    Chain,
}

impl From<CopyError> for Status {
    /// The send status for it: RESOURCES, INVALID_LENGTH, INVALID_PACKET.
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Mapping => Self::RESOURCES,
            CopyError::TooShort => Self::INVALID_LENGTH,
            CopyError::Chain => Self::INVALID_PACKET,
        }
    }
}

/// One frame: DataLength bytes from CurrentMdlOffset in CurrentMdl on, over any number of MDLs of any length, zero included.
///
/// The bytes can only be copied out. They belong to the sender, who may be a user-mode program that changes them meanwhile:
/// copy once, then parse the copy.
///
/// # Invariants
///
/// `raw` is a NET_BUFFER of a send NBL that is not completed during `'a`.
#[derive(Clone, Copy, Debug)]
pub struct NetBuffer<'a> {
    raw: NonNull<NET_BUFFER>,
    nbl: PhantomData<&'a ()>,
}

impl NetBuffer<'_> {
    /// # Safety
    ///
    /// `raw` and its MDL chain are valid during the lifetime, and no reference to writable parts of them exists.
    pub(crate) unsafe fn from_raw(raw: NonNull<NET_BUFFER>) -> Self {
        Self { raw, nbl: PhantomData }
    }

    /// Bytes in the frame.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: by the invariant.
        unsafe { (*self.raw.as_ptr()).DataLength as usize }
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the whole frame to the start of `destination` and gives its length. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// See [`CopyError`]; `destination` then holds nothing useful.
    pub fn copy_to(&self, destination: &mut [u8]) -> Result<usize, CopyError> {
        let length = self.len();
        self.copy_at(0, destination.get_mut(..length).ok_or(CopyError::TooShort)?)?;
        Ok(length)
    }

    /// Fills `destination` with the bytes of the frame from `offset` on. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    pub fn copy_at(&self, offset: usize, destination: &mut [u8]) -> Result<(), CopyError> {
        if offset.checked_add(destination.len()).is_none_or(|end| end > self.len()) {
            return Err(CopyError::TooShort);
        }
        // SAFETY: by the invariant.
        let (mut mdl, current) =
            unsafe { ((*self.raw.as_ptr()).CurrentMdl, (*self.raw.as_ptr()).CurrentMdlOffset as usize) };
        let mut skip = offset.checked_add(current).ok_or(CopyError::Chain)?;
        let mut rest = destination;
        while !rest.is_empty() {
            let here = NonNull::new(mdl).ok_or(CopyError::Chain)?;
            // SAFETY: by the invariant the chain is valid.
            let count = unsafe { (*here.as_ptr()).ByteCount as usize };
            if skip >= count {
                skip -= count;
            } else {
                let (now, later) = rest.split_at_mut(rest.len().min(count - skip));
                // SAFETY: by the invariant the chain is valid.
                let source = unsafe { system_address(here) }.ok_or(CopyError::Mapping)?;
                // SAFETY: the MDL maps `count` bytes at `source`, and `skip + now.len() <= count`. They are not ours, `now` is.
                unsafe { ptr::copy_nonoverlapping(source.as_ptr().add(skip), now.as_mut_ptr(), now.len()) };
                rest = later;
                skip = 0;
            }
            // SAFETY: by the invariant the chain is valid.
            mdl = unsafe { (*here.as_ptr()).Next };
        }
        Ok(())
    }
}

/// MmGetSystemAddressForMdlSafe, an inline function of the WDK: where an MDL's bytes are in system space. `None` if they
/// cannot be mapped. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
///
/// `mdl` is valid and describes locked pages or non-paged pool.
unsafe fn system_address(mdl: NonNull<MDL>) -> Option<NonNull<u8>> {
    // SAFETY: the caller's contract.
    let (flags, mapped) = unsafe { ((*mdl.as_ptr()).MdlFlags, (*mdl.as_ptr()).MappedSystemVa) };
    if flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
        return NonNull::new(mapped.cast());
    }
    // SAFETY: the pages are locked; without BugCheckOnFailure a failure is null.
    let mapped = unsafe {
        MmMapLockedPagesSpecifyCache(
            mdl.as_ptr(),
            KernelMode,
            MmCached,
            ptr::null_mut(),
            ULONG::from(FALSE),
            NormalPagePriority.cast_unsigned() | MdlMappingNoExecute,
        )
    };
    NonNull::new(mapped.cast())
}

/// The frames of a net buffer list, in order.
#[derive(Clone, Debug)]
pub struct NetBuffers<'a> {
    next: *mut NET_BUFFER,
    nbl: PhantomData<&'a ()>,
}

impl NetBuffers<'_> {
    /// # Safety
    ///
    /// `first` is null or begins a null-terminated chain of NET_BUFFERs that stay valid, with their MDLs, during the lifetime.
    pub(super) unsafe fn new(first: *mut NET_BUFFER) -> Self {
        Self { next: first, nbl: PhantomData }
    }
}

impl<'a> Iterator for NetBuffers<'a> {
    type Item = NetBuffer<'a>;

    fn next(&mut self) -> Option<NetBuffer<'a>> {
        let raw = NonNull::new(self.next)?;
        // SAFETY: by the contract of `new`.
        self.next = unsafe { (*raw.as_ptr()).Next };
        // SAFETY: as above.
        Some(unsafe { NetBuffer::from_raw(raw) })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::vec::Vec;

    use ndis_sys::{KPROCESSOR_MODE, MEMORY_CACHING_TYPE, PVOID, ndis_fn};
    use proptest::prelude::*;

    use super::*;

    ndis_fn! {
        /// Maps an MDL to its StartVa: null is the failure.
        #[unsafe(no_mangle)]
        unsafe extern fn MmMapLockedPagesSpecifyCache(mdl: *mut MDL, mode: KPROCESSOR_MODE, cache: MEMORY_CACHING_TYPE, address: PVOID, bugcheck: ULONG, priority: ULONG) -> PVOID {
            assert_eq!((mode, cache, bugcheck), (KernelMode, MmCached, 0));
            assert!(address.is_null());
            assert_eq!(priority, 0x4000_0010, "normal priority, no execute");
            // SAFETY: the tests pass their own MDLs.
            unsafe { (*mdl).StartVa }
        }
    }

    /// A frame over MDLs, each with memory of its own, so that a read beyond one would not hit the next.
    struct Frame {
        buffer: Box<NET_BUFFER>,
        #[allow(clippy::vec_box)] // they point to each other
        mdls: Vec<Box<MDL>>,
        memory: Vec<Box<[u8]>>,
    }

    impl Frame {
        /// `offset` bytes of 0xEE, then `bytes`, then `tail` of 0xEE, cut at `cuts` (made ascending).
        fn new(bytes: &[u8], offset: usize, tail: usize, cuts: &[usize]) -> Self {
            let mut all = std::vec![0xEE; offset];
            all.extend_from_slice(bytes);
            all.resize(all.len() + tail, 0xEE);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (all.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(all.len());
            let mut from = 0;
            let memory: Vec<Box<[u8]>> = cuts
                .into_iter()
                .map(|to| {
                    let piece = all[from..to].into();
                    from = to;
                    piece
                })
                .collect();
            let mut frame = Self { buffer: Box::new(NET_BUFFER::zeroed()), mdls: Vec::new(), memory };
            for piece in &mut frame.memory {
                let mut mdl = Box::new(MDL::zeroed());
                mdl.ByteCount = u32::try_from(piece.len()).unwrap();
                mdl.MdlFlags = MDL_MAPPED_TO_SYSTEM_VA;
                mdl.MappedSystemVa = piece.as_mut_ptr().cast();
                frame.mdls.push(mdl);
            }
            for index in (1..frame.mdls.len()).rev() {
                let next: *mut MDL = &raw mut *frame.mdls[index];
                frame.mdls[index - 1].Next = next;
            }
            frame.buffer.DataLength = u32::try_from(bytes.len()).unwrap();
            frame.buffer.MdlChain = &raw mut *frame.mdls[0];
            frame.buffer.CurrentMdl = frame.buffer.MdlChain;
            frame.buffer.CurrentMdlOffset = u32::try_from(offset).unwrap();
            frame
        }

        fn net_buffer(&self) -> NetBuffer<'_> {
            // SAFETY: buffer and chain live as long as the frame, which the result borrows.
            unsafe { NetBuffer::from_raw(NonNull::from(&*self.buffer)) }
        }
    }

    const BYTES: [u8; 7] = [10, 11, 12, 13, 14, 15, 16];

    #[test]
    fn every_split_into_up_to_four_mdls_gives_the_frame() {
        for offset in 0..3 {
            for tail in 0..3 {
                let end = offset + BYTES.len() + tail;
                for first in 0..=end {
                    for second in first..=end {
                        for third in second..=end {
                            let frame = Frame::new(&BYTES, offset, tail, &[first, second, third]);
                            let mut copy = [0; 9];
                            assert_eq!(frame.net_buffer().copy_to(&mut copy), Ok(7));
                            assert_eq!(
                                copy,
                                [10, 11, 12, 13, 14, 15, 16, 0, 0],
                                "{offset} {first} {second} {third}"
                            );
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_range_of_every_split(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            offset in 0..20_usize,
            tail in 0..20_usize,
            cuts in prop::collection::vec(0..200_usize, 0..6),
            from in 0..100_usize,
            length in 0..100_usize,
        ) {
            let frame = Frame::new(&bytes, offset, tail, &cuts);
            let mut copy = std::vec![0; length];
            let result = frame.net_buffer().copy_at(from, &mut copy);
            if let Some(expected) = bytes.get(from..from + length) {
                prop_assert_eq!(result, Ok(()));
                prop_assert_eq!(copy, expected);
            } else {
                prop_assert_eq!(result, Err(CopyError::TooShort));
                prop_assert!(copy.iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn a_short_destination_is_left_alone() {
        let frame = Frame::new(&BYTES, 0, 0, &[3]);
        for length in 0..BYTES.len() {
            let mut copy = [0; 7];
            assert_eq!(frame.net_buffer().copy_to(&mut copy[..length]), Err(CopyError::TooShort));
            assert_eq!(copy, [0; 7]);
        }
        assert_eq!(frame.net_buffer().copy_at(usize::MAX, &mut [0]), Err(CopyError::TooShort));
    }

    #[test]
    fn a_chain_shorter_than_the_frame_is_noticed() {
        for (length, offset) in [(8, 0), (7, 1), (1, 7), (1, 100)] {
            let mut frame = Frame::new(&BYTES, 0, 0, &[2, 5]);
            frame.buffer.DataLength = length;
            frame.buffer.CurrentMdlOffset = offset;
            assert_eq!(frame.net_buffer().copy_to(&mut [0; 8]), Err(CopyError::Chain), "{length} {offset}");
        }
        let mut frame = Frame::new(&BYTES, 0, 0, &[]);
        frame.buffer.CurrentMdl = ptr::null_mut();
        assert_eq!(frame.net_buffer().copy_to(&mut [0; 7]), Err(CopyError::Chain));
        frame.buffer.DataLength = 0;
        assert_eq!(frame.net_buffer().copy_to(&mut []), Ok(0));
    }

    #[test]
    fn mdls_are_mapped_when_needed_and_only_then() {
        let mut frame = Frame::new(&BYTES, 0, 0, &[3, 3]);
        frame.mdls[2].MdlFlags = 0;
        frame.mdls[2].StartVa = frame.mdls[2].MappedSystemVa;
        frame.mdls[2].MappedSystemVa = ptr::null_mut();
        frame.mdls[1].MdlFlags = 0; // empty: never mapped, its StartVa is null
        let mut copy = [0; 7];
        assert_eq!(frame.net_buffer().copy_to(&mut copy), Ok(7));
        assert_eq!(copy, BYTES);
        frame.mdls[2].StartVa = ptr::null_mut();
        assert_eq!(frame.net_buffer().copy_to(&mut copy), Err(CopyError::Mapping));
        assert_eq!(frame.net_buffer().copy_at(0, &mut copy[..3]), Ok(()), "the first MDL is mapped");
    }

    #[test]
    fn frames_of_a_list_come_in_order() {
        let mut second = Frame::new(&BYTES[..3], 0, 0, &[]);
        let mut first = Frame::new(&BYTES, 0, 0, &[]);
        first.buffer.Next = &raw mut *second.buffer;
        // SAFETY: both buffers live to the end of the test.
        let lengths: Vec<_> =
            unsafe { NetBuffers::new(&raw mut *first.buffer) }.map(|frame| frame.len()).collect();
        assert_eq!(lengths, [7, 3]);
    }
}
