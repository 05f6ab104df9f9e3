//! Raw ABI of NDIS 6.30 miniports and the NT functions they use.
