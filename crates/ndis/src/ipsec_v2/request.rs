//! The IPsecOV2 views of an OID request. NDIS sends these OIDs on the direct path. They take set requests, as documented, and method requests too.

use core::num::NonZeroUsize;

use ndis_sys::{
    NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
};

use super::add::{ADD_SA_EX_SIZE, add_list, add_one, clear_list, clear_one};
use super::delete::DeleteSaList;
use super::sa::SaRequest;
use super::update::UpdateSa;
use crate::oid::{Applied, OidCompletion, OidKind, OidPath, OidRequest, SetError};
use crate::status::{Result, Status};

/// Bytes of an ADD_SA element without its key.
const ADD_SA_SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1 as usize;
/// Bytes of a DELETE_SA element.
const DELETE_SA_SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1 as usize;
/// The revision all four structures have.
const REVISION: u8 = NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1;

impl<'r, K: OidPath> OidRequest<'r, K> {
    /// Answers OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA: offers each element of the list to `add`, which gives the handle of the SA
    /// or why there is none. SUCCESS if any was added; failed elements get a NULL handle. A malformed list adds nothing.
    pub fn add_sa_list(
        self,
        add: impl FnMut(&SaRequest<'_>) -> Result<NonZeroUsize>,
    ) -> OidCompletion<'r, K> {
        // SAFETY: the buffer is ours while the request is; its further elements are the caller's, alive and unchanged until the
        // request completes, as the interface of this OID has it.
        self.in_place(ADD_SA_SIZE, |start, length| unsafe { add_list(start, length, add) })
    }

    /// Answers OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX: offers the one SA to `add`, which gives its handle or why there is none.
    pub fn add_sa_ex(self, add: impl FnOnce(&SaRequest<'_>) -> Result<NonZeroUsize>) -> OidCompletion<'r, K> {
        // SAFETY: the buffer is ours while the request is.
        self.in_place(ADD_SA_EX_SIZE, |start, length| unsafe { add_one(start, length, add) })
    }

    /// Fails OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA without a look at what it asks for: all handles become NULL. (Some statuses of a
    /// refusal, NOT_ACCEPTED for one, count as success where only the severity is looked at.)
    pub fn refuse_add_sa_list(self, status: Status) -> OidCompletion<'r, K> {
        if self.is_in_place() {
            let buffer = self.buffer();
            // A malformed list needs no other status.
            // SAFETY: as in `add_sa_list`.
            let _ = unsafe { clear_list(buffer.start, buffer.input) };
        }
        self.fail(status)
    }

    /// Fails OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, as [`refuse_add_sa_list`](Self::refuse_add_sa_list) does a list.
    pub fn refuse_add_sa_ex(self, status: Status) -> OidCompletion<'r, K> {
        if self.is_in_place() {
            let buffer = self.buffer();
            // SAFETY: the buffer is ours while the request is.
            unsafe { clear_one(buffer.start, buffer.input) };
        }
        self.fail(status)
    }

    /// Answers OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA.
    pub fn update_sa(self, update: impl FnOnce(UpdateSa) -> Result<()>) -> OidCompletion<'r, K> {
        if !self.is_in_place() {
            return self.fail(Status::NOT_SUPPORTED);
        }
        match UpdateSa::parse(self.input()) {
            Ok(request) => self.conclude(UpdateSa::SIZE, update(request)),
            Err(error) => self.fail_needed(error.status, error.needed),
        }
    }

    /// The handles of OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, the whole list checked. Follow it up with
    /// [`succeed_delete_sa`](Self::succeed_delete_sa) or [`pend`](Self::pend) (byte counts are recorded already).
    ///
    /// # Errors
    ///
    /// What to [`fail_needed`](Self::fail_needed) the request with: INVALID_LENGTH, INVALID_DATA or INVALID_PARAMETER for a malformed list,
    /// NOT_SUPPORTED for a query.
    pub fn delete_sa_list(&mut self) -> Result<DeleteSaList<'_>, SetError> {
        if !self.is_in_place() {
            return Err(Status::NOT_SUPPORTED.into());
        }
        let buffer = self.buffer();
        if buffer.input < DELETE_SA_SIZE {
            return Err(SetError { status: Status::INVALID_LENGTH, needed: DELETE_SA_SIZE });
        }
        // SAFETY: the buffer and the further elements, the caller's, stay as they are until the request completes, which takes
        // `self` and so ends the borrow that the list stands for. `record` writes the request, not its buffer.
        let list = unsafe { DeleteSaList::new(buffer.start, buffer.input) }?;
        let written = DELETE_SA_SIZE.min(buffer.output);
        self.record(Applied { read: DELETE_SA_SIZE, revision: Some(REVISION) }, written);
        Ok(list)
    }

    /// All SAs of the list are deleted.
    pub fn succeed_delete_sa(self) -> OidCompletion<'r, K> {
        self.conclude(DELETE_SA_SIZE, Ok(()))
    }

    fn is_in_place(&self) -> bool {
        matches!(self.kind(), OidKind::Set | OidKind::Method)
    }

    fn in_place(self, size: usize, apply: impl FnOnce(*mut u8, usize) -> Result<()>) -> OidCompletion<'r, K> {
        if !self.is_in_place() {
            return self.fail(Status::NOT_SUPPORTED);
        }
        let buffer = self.buffer();
        if buffer.input < size {
            return self.fail_needed(Status::INVALID_LENGTH, size);
        }
        let result = apply(buffer.start, buffer.input);
        self.conclude(size, result)
    }

    fn conclude(self, size: usize, result: Result<()>) -> OidCompletion<'r, K> {
        let written = size.min(self.buffer().output);
        match result {
            Ok(()) => self.succeed(Applied { read: size, revision: Some(REVISION) }, written),
            Err(status) => self.fail(status),
        }
    }
}
