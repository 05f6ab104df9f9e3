//! AH and ESP transforms over byte slices.
