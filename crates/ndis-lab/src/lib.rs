//! A host for NDIS miniports: PE loader, NDIS and kernel functions, adapters, transport.
