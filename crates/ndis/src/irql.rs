//! [`Irql`]: proof of the interrupt request level the code runs at.

use core::marker::PhantomData;

/// What is known of the current IRQL. NDIS may be told "at DISPATCH_LEVEL" only from knowledge of the call path
/// (`[dispatch-irql-tracking]`), so a value that says so comes only from the layer and lives no longer than that path.
///
/// Neither `Send` nor `Sync`: a level belongs to the processor it was seen on.
#[derive(Clone, Copy, Debug)]
pub struct Irql<'a> {
    dispatch: bool,
    path: PhantomData<(&'a (), *const ())>,
}

impl Irql<'_> {
    /// Nothing is known beyond IRQL <= DISPATCH_LEVEL. Always right, a little slower.
    pub const UNKNOWN: Irql<'static> = Irql { dispatch: false, path: PhantomData };

    /// # Safety
    ///
    /// If `dispatch`, the IRQL is DISPATCH_LEVEL throughout `'a`.
    pub(crate) const unsafe fn new(dispatch: bool) -> Self {
        Self { dispatch, path: PhantomData }
    }

    /// Whether the level is known to be DISPATCH_LEVEL.
    #[must_use]
    pub const fn is_dispatch(self) -> bool {
        self.dispatch
    }
}
