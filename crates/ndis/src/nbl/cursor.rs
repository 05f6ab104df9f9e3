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
