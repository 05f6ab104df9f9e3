//! Lock-free IPsec security association table.
