//! Net buffer lists, owned. A list that NDIS gave us to send is completed once, whatever the driver does with the value; a
//! buffer that was indicated cannot be touched until it is back.

pub(crate) mod cursor;
mod list;
pub(crate) mod oob;
pub(crate) mod receive;
pub(crate) mod send;

pub(crate) use list::NblList;
