//! Functions that kernel modules export. Their pages say which arguments may be null.

mod ndis;
mod ntoskrnl;

pub use ndis::*;
pub use ntoskrnl::*;
