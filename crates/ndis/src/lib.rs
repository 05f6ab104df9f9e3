//! Safe layer over NDIS: write a miniport without unsafe.
