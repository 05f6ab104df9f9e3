//! Requests of IPsec Task Offload Version 2: security associations as TCP/IP describes them to a NIC.
//!
//! ADD_SA and DELETE_SA are lists linked by pointers. A list here owns its nodes in one block that
//! stays while the request is pending, and it can be bent (wrong headers, cycles) to see what a
//! driver makes of it. No cryptography happens here.

use std::net::IpAddr;
use std::sync::Arc;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    IPSEC_OFFLOAD_V2_DELETE_SA, IPSEC_OFFLOAD_V2_ENDPOINTS, IPSEC_OFFLOAD_V2_ESN_SA,
    IPSEC_OFFLOAD_V2_INBOUND, IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS, IPSEC_OFFLOAD_V2_IPv6,
    IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS, IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION, IPSEC_OFFLOAD_V2_UPDATE_SA,
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
};

use crate::adapter::Adapter;
use crate::adapter::oid::{Keep, Oid, OidOutcome};
use crate::error::LabError;
use crate::packet::Memory;

/// AH or ESP: IPSEC_OFFLOAD_V2_OPERATION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Authentication Header.
    Ah,
    /// Encapsulating Security Payload.
    Esp,
}

impl Operation {
    fn raw(self) -> i32 {
        match self {
            Self::Ah => ndis_sys::IPsecOffloadV2Ah,
            Self::Esp => ndis_sys::IPsecOffloadV2Esp,
        }
    }
}

/// An algorithm with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_…` or `IPSEC_OFFLOAD_V2_ENCRYPTION_…`.
    pub id: u32,
    /// The key; of AES-GCM the key and behind it the four bytes of salt.
    pub key: Vec<u8>,
    /// `AdditionalInfo`: the ICV's length for AES-GCM.
    pub additional_info: u32,
}

/// One AH or ESP header: IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// AH or ESP.
    pub operation: Operation,
    /// The SPI as a number; it is stored as it stands on the wire.
    pub spi: u32,
    /// The high half of an extended sequence number, if the SA uses them.
    pub esn: Option<u32>,
    /// Integrity.
    pub authentication: Option<Algorithm>,
    /// Encryption.
    pub encryption: Option<Algorithm>,
}

impl Association {
    /// ESP with AES-GCM and an ICV of 16 bytes. `key` is the AES key (16, 24 or 32 bytes) and behind
    /// it the salt (4 bytes).
    pub fn esp_gcm(spi: u32, key: &[u8]) -> Self {
        let id = match key.len() {
            28 => ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
            36 => ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
            _ => ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128,
        };
        Self {
            operation: Operation::Esp,
            spi,
            esn: None,
            authentication: None,
            encryption: Some(Algorithm { id, key: key.to_vec(), additional_info: 16 }),
        }
    }
}

/// A security association to offload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaParameters {
    /// Whether it is for received packets.
    pub inbound: bool,
    /// Who sends the packets (of a tunnel: the outer address).
    pub source: IpAddr,
    /// Who receives the packets.
    pub destination: IpAddr,
    /// `UdpEspEncapsulation`.
    pub udp_esp: u32,
    /// One header, or two: ESP first, then AH.
    pub associations: Vec<Association>,
}

impl SaParameters {
    /// A transport-mode SA of one header, without UDP encapsulation.
    pub fn new(inbound: bool, source: IpAddr, destination: IpAddr, association: Association) -> Self {
        Self { inbound, source, destination, udp_esp: 0, associations: vec![association] }
    }

    fn flags(&self) -> u32 {
        let inbound = if self.inbound { IPSEC_OFFLOAD_V2_INBOUND } else { 0 };
        inbound | if self.destination.is_ipv6() { IPSEC_OFFLOAD_V2_IPv6 } else { 0 }
    }

    fn endpoints(&self) -> IPSEC_OFFLOAD_V2_ENDPOINTS {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => IPSEC_OFFLOAD_V2_ENDPOINTS {
                IPv4Endpoints: IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS {
                    SrcAddr: u32::from_ne_bytes(source.octets()),
                    DestAddr: u32::from_ne_bytes(destination.octets()),
                },
            },
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                IPSEC_OFFLOAD_V2_ENDPOINTS {
                    IPv6Endpoints: IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS {
                        SrcAddr: octets(source),
                        DestAddr: octets(destination),
                    },
                }
            }
        }
    }

    /// The headers and the key blob, in which the keys follow one another.
    fn headers(&self) -> ([IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; 2], Vec<u8>) {
        let mut keys = Vec::new();
        let mut headers = [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION::default(); 2];
        for (raw, header) in headers.iter_mut().zip(&self.associations) {
            let mut algorithm = |algorithm: &Option<Algorithm>| {
                algorithm.as_ref().map_or_else(IPSEC_OFFLOAD_V2_ALGORITHM_INFO::default, |algorithm| {
                    let offset = number(keys.len());
                    keys.extend_from_slice(&algorithm.key);
                    IPSEC_OFFLOAD_V2_ALGORITHM_INFO {
                        Identifier: algorithm.id,
                        KeyLength: number(algorithm.key.len()),
                        KeyOffsetBytes: offset,
                        AdditionalInfo: algorithm.additional_info,
                    }
                })
            };
            *raw = IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION {
                Flags: if header.esn.is_some() { IPSEC_OFFLOAD_V2_ESN_SA } else { 0 },
                Operation: header.operation.raw(),
                Spi: header.spi.to_be(),
                EncryptionAlgorithm: algorithm(&header.encryption),
                AuthenticationAlgorithm: algorithm(&header.authentication),
                SequenceNumberHighOrder: header.esn.unwrap_or(0),
            };
        }
        (headers, keys)
    }

    /// The buffer of `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`: the structure, then the keys.
    ///
    /// # Panics
    /// If there is no memory left.
    pub fn add_sa_ex(&self) -> Vec<u8> {
        let (headers, keys) = self.headers();
        let fixed = size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>();
        let memory = Memory::zeroed(fixed + keys.len()).expect("memory for an SA");
        let raw = memory.at::<IPSEC_OFFLOAD_V2_ADD_SA_EX>(0);
        // SAFETY: zeroed memory of the structure's size and the keys' behind it; every field is a
        // number, an array or a pointer, for which zero is a value, so all bytes are initialised.
        unsafe {
            (*raw).Header = header(ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1);
            (*raw).NumExtHdrs = number(self.associations.len());
            (*raw).Flags = self.flags();
            (*raw).Endpoints = self.endpoints();
            (*raw).UdpEspEncapsulation = self.udp_esp;
            (*raw).SecAssoc = headers;
            (*raw).KeyLength = number(keys.len());
            (*raw).KeyOffset = number(fixed);
            std::ptr::copy_nonoverlapping(keys.as_ptr(), raw.cast::<u8>().add(fixed), keys.len());
            std::slice::from_raw_parts(memory.address() as *const u8, fixed + keys.len()).to_vec()
        }
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn header(size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: NDIS_OBJECT_TYPE_DEFAULT, Revision: 1, Size: size }
}

/// The handle that a driver wrote into an ADD_SA_EX buffer.
pub fn handle_of_add_sa_ex(buffer: &[u8]) -> Option<usize> {
    let at = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
    let handle = usize::from_ne_bytes(buffer.get(at..at + 8)?.try_into().ok()?);
    (handle != 0).then_some(handle)
}

/// The nodes of a list, in one block of memory, each on its own 16-byte boundary.
struct Nodes {
    memory: Memory,
    /// (offset, length) of each node.
    places: Vec<(usize, usize)>,
}

impl Keep for Nodes {}

impl Nodes {
    fn new(lengths: &[usize]) -> Result<Self, LabError> {
        let mut places = Vec::with_capacity(lengths.len());
        let mut offset = 0_usize;
        for length in lengths {
            places.push((offset, *length));
            offset += length.next_multiple_of(16);
        }
        let memory = Memory::zeroed(offset).ok_or(LabError::Invalid("the host has no memory left"))?;
        Ok(Self { memory, places })
    }

    fn address(&self, index: usize) -> usize {
        self.memory.address() + self.places[index].0
    }

    fn set_header(&self, index: usize, header: NDIS_OBJECT_HEADER) {
        // SAFETY: each node starts with a header; the list is built by one thread before it is sent.
        unsafe { self.memory.at::<NDIS_OBJECT_HEADER>(self.places[index].0).write(header) };
    }

    /// `Next` lies behind the header, at 8, in either kind of node.
    fn set_next(&self, index: usize, next: usize) {
        // SAFETY: as above.
        unsafe { self.memory.at::<usize>(self.places[index].0 + 8).write(next) };
    }

    /// Writes bytes anywhere in the block, counted from the start of a node.
    fn set_bytes(&self, index: usize, at: usize, bytes: &[u8]) {
        let start = self.places[index].0 + at;
        let end = self.places.last().map_or(0, |(offset, length)| offset + length);
        assert!(start + bytes.len() <= end, "{start} and {} bytes are not in the list", bytes.len());
        // SAFETY: inside the block, as just checked; the list is built by one thread before it is sent.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.at::<u8>(start), bytes.len()) };
    }

    fn chain(&self) {
        for index in 0..self.places.len() {
            let next = if index + 1 < self.places.len() { self.address(index + 1) } else { 0 };
            self.set_next(index, next);
        }
    }

    /// What the driver wrote (or was given) as `OffloadHandle` of a node.
    fn handle(&self, index: usize, at: usize) -> Option<usize> {
        // SAFETY: the field lies within the node; drivers write it before they complete.
        let handle = unsafe { self.memory.at::<usize>(self.places[index].0 + at).read_volatile() };
        (handle != 0).then_some(handle)
    }
}

/// A list of IPSEC_OFFLOAD_V2_ADD_SA.
#[derive(Clone)]
pub struct AddSaList(Arc<Nodes>);

impl AddSaList {
    /// A list in this order.
    ///
    /// # Errors
    /// [`LabError::Invalid`] for an empty list.
    pub fn new(sas: &[SaParameters]) -> Result<Self, LabError> {
        if sas.is_empty() {
            return Err(LabError::Invalid("a list of SAs has an SA"));
        }
        let keys_at = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyData);
        let parts: Vec<_> = sas.iter().map(SaParameters::headers).collect();
        let lengths: Vec<_> = parts
            .iter()
            .map(|(_, keys)| (keys_at + keys.len()).max(size_of::<IPSEC_OFFLOAD_V2_ADD_SA>()))
            .collect();
        let nodes = Nodes::new(&lengths)?;
        for (index, (sa, (headers, keys))) in sas.iter().zip(&parts).enumerate() {
            let raw = nodes.memory.at::<IPSEC_OFFLOAD_V2_ADD_SA>(nodes.places[index].0);
            // SAFETY: the node is as long as the structure and its keys, in memory of ours.
            unsafe {
                (*raw).Header = header(ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1);
                (*raw).NumExtHdrs = number(sa.associations.len());
                (*raw).Flags = sa.flags();
                (*raw).Endpoints = sa.endpoints();
                (*raw).UdpEspEncapsulation = sa.udp_esp;
                (*raw).SecAssoc = *headers;
                (*raw).KeyLength = number(keys.len());
                std::ptr::copy_nonoverlapping(keys.as_ptr(), raw.cast::<u8>().add(keys_at), keys.len());
            }
        }
        nodes.chain();
        Ok(Self(Arc::new(nodes)))
    }

    /// The direct request; the list stays alive with it.
    pub fn request(&self) -> Oid {
        request(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA, &self.0)
    }

    /// The handles that the driver gave, node by node, after the request has ended.
    pub fn handles(&self) -> Vec<Option<usize>> {
        let at = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle);
        (0..self.0.places.len()).map(|index| self.0.handle(index, at)).collect()
    }

    /// Gives a node another header.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn with_header(self, index: usize, header: NDIS_OBJECT_HEADER) -> Self {
        self.0.set_header(index, header);
        self
    }

    /// Links a node to another one, even to an earlier one.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn with_link(self, from: usize, to: usize) -> Self {
        self.0.set_next(from, self.0.address(to));
        self
    }

    /// Has a node say other bytes, from `at` on, counted from its start; they may reach into the nodes behind it. A `Next`
    /// among them has to point to what may be read, or be misaligned: drivers cannot check it.
    ///
    /// # Panics
    /// If there is no such node, or the bytes lie outside the list.
    #[must_use]
    pub fn with_bytes(self, index: usize, at: usize, bytes: &[u8]) -> Self {
        self.0.set_bytes(index, at, bytes);
        self
    }

    /// Where a node is.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn address(&self, index: usize) -> usize {
        self.0.address(index)
    }
}

/// A list of IPSEC_OFFLOAD_V2_DELETE_SA.
#[derive(Clone)]
pub struct DeleteSaList(Arc<Nodes>);

impl DeleteSaList {
    /// A list of these handles.
    ///
    /// # Errors
    /// [`LabError::Invalid`] for an empty list.
    pub fn new(handles: &[usize]) -> Result<Self, LabError> {
        if handles.is_empty() {
            return Err(LabError::Invalid("a list of handles has a handle"));
        }
        let nodes = Nodes::new(&vec![size_of::<IPSEC_OFFLOAD_V2_DELETE_SA>(); handles.len()])?;
        for (index, handle) in handles.iter().enumerate() {
            let raw = nodes.memory.at::<IPSEC_OFFLOAD_V2_DELETE_SA>(nodes.places[index].0);
            // SAFETY: the node is as long as the structure, in memory of ours.
            unsafe {
                (*raw).Header = header(ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1);
                (*raw).OffloadHandle = *handle as NDIS_HANDLE;
            }
        }
        nodes.chain();
        Ok(Self(Arc::new(nodes)))
    }

    /// The direct request; the list stays alive with it.
    pub fn request(&self) -> Oid {
        request(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, &self.0)
    }

    /// Gives a node another header.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn with_header(self, index: usize, header: NDIS_OBJECT_HEADER) -> Self {
        self.0.set_header(index, header);
        self
    }

    /// Links a node to another one, even to an earlier one.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn with_link(self, from: usize, to: usize) -> Self {
        self.0.set_next(from, self.0.address(to));
        self
    }

    /// Has a node say other bytes, from `at` on, counted from its start; they may reach into the nodes behind it. A `Next`
    /// among them has to point to what may be read, or be misaligned: drivers cannot check it.
    ///
    /// # Panics
    /// If there is no such node, or the bytes lie outside the list.
    #[must_use]
    pub fn with_bytes(self, index: usize, at: usize, bytes: &[u8]) -> Self {
        self.0.set_bytes(index, at, bytes);
        self
    }

    /// Where a node is.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn address(&self, index: usize) -> usize {
        self.0.address(index)
    }
}

fn request(oid: u32, nodes: &Arc<Nodes>) -> Oid {
    Oid::raw_set(oid, nodes.address(0), nodes.places[0].1, nodes.clone()).direct()
}

/// The direct request that gives an SA the high half of its sequence number.
pub fn update_sa(handle: usize, operation: Operation, spi: u32, high: u32) -> Oid {
    let mut bytes = vec![0_u8; size_of::<IPSEC_OFFLOAD_V2_UPDATE_SA>()];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &[NDIS_OBJECT_TYPE_DEFAULT, 1]);
    put(2, &ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1.to_ne_bytes());
    put(std::mem::offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, OffloadHandle), &handle.to_ne_bytes());
    put(std::mem::offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation), &operation.raw().to_ne_bytes());
    put(std::mem::offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Spi), &spi.to_be_bytes());
    put(std::mem::offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, SequenceNumberHighOrder), &high.to_ne_bytes());
    Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA, bytes).direct()
}

impl Adapter {
    /// Offloads one SA by ADD_SA_EX: how the request ended, and the handle.
    ///
    /// # Errors
    /// As [`Adapter::oid`].
    pub fn add_sa_ex(&self, sa: &SaParameters) -> Result<(OidOutcome, Option<usize>), LabError> {
        let request = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, sa.add_sa_ex()).direct();
        let outcome = self.oid(request)?;
        let handle = handle_of_add_sa_ex(&outcome.buffer);
        Ok((outcome, handle))
    }

    /// Offloads SAs by an ADD_SA list: how the request ended, and the handle of each.
    ///
    /// # Errors
    /// As [`Adapter::oid`].
    pub fn add_sa_list(&self, sas: &[SaParameters]) -> Result<(OidOutcome, Vec<Option<usize>>), LabError> {
        let list = AddSaList::new(sas)?;
        let outcome = self.oid(list.request())?;
        Ok((outcome, list.handles()))
    }

    /// Deletes SAs by one DELETE_SA list.
    ///
    /// # Errors
    /// As [`Adapter::oid`].
    pub fn delete_sas(&self, handles: &[usize]) -> Result<OidOutcome, LabError> {
        self.oid(DeleteSaList::new(handles)?.request())
    }
}
