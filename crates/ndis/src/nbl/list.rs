//! Singly linked chains of NET_BUFFER_LISTs.

use core::ptr;

use ndis_sys::NET_BUFFER_LIST;

/// A chain with a tail and a length. It owns nothing by itself: its users do.
///
/// # Invariants
///
/// `head` begins a chain of `length` NBLs linked by `Next`, the last of which is `tail` and has a null `Next`; both are null if
/// `length` is 0. Whoever holds the list has sole access to the `Next` fields.
#[derive(Debug)]
pub(crate) struct NblList {
    head: *mut NET_BUFFER_LIST,
    tail: *mut NET_BUFFER_LIST,
    length: usize,
}

impl NblList {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), length: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(super) const fn head(&self) -> *mut NET_BUFFER_LIST {
        self.head
    }

    /// # Safety
    ///
    /// `nbl` is valid, in no list, and from now on accessed through this list.
    pub(super) unsafe fn push_back(&mut self, nbl: *mut NET_BUFFER_LIST) {
        // SAFETY: the caller's contract.
        unsafe { (*nbl).Next = ptr::null_mut() };
        if self.tail.is_null() {
            self.head = nbl;
        } else {
            // SAFETY: the tail is in this list, which has sole access to it.
            unsafe { (*self.tail).Next = nbl };
        }
        self.tail = nbl;
        self.length += 1;
    }

    /// Takes the first NBL out; its `Next` is null.
    pub(super) fn pop_front(&mut self) -> Option<*mut NET_BUFFER_LIST> {
        if self.head.is_null() {
            return None;
        }
        let nbl = self.head;
        // SAFETY: the head is in this list, which has sole access to it.
        unsafe {
            self.head = (*nbl).Next;
            (*nbl).Next = ptr::null_mut();
        }
        self.length -= 1;
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(nbl)
    }

    /// Moves all of `other` to the end.
    pub(super) fn append(&mut self, other: Self) {
        if other.head.is_null() {
            return;
        }
        if self.tail.is_null() {
            *self = other;
            return;
        }
        // SAFETY: the tail is in this list, which has sole access to it; `other`'s NBLs now belong to this list.
        unsafe { (*self.tail).Next = other.head };
        self.tail = other.tail;
        self.length += other.length;
    }

    /// # Safety
    ///
    /// `chain` is null or a null-terminated chain of valid NBLs, from now on accessed through the list.
    pub(crate) unsafe fn from_chain(chain: *mut NET_BUFFER_LIST) -> Self {
        let mut list = Self { head: chain, tail: ptr::null_mut(), length: 0 };
        let mut nbl = chain;
        while !nbl.is_null() {
            list.tail = nbl;
            list.length += 1;
            // SAFETY: the caller's contract.
            nbl = unsafe { (*nbl).Next };
        }
        list
    }
}
