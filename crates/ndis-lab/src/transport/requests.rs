//! The direct OIDs that add and delete security associations.
//!
//! The lists are linked as the stack links them: each element in memory of its own, the first one the
//! request's information buffer, the others behind `Next`.

use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    IPSEC_OFFLOAD_V2_DELETE_SA, IPSEC_OFFLOAD_V2_ENDPOINTS, IPSEC_OFFLOAD_V2_INBOUND,
    IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS, IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION,
    IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE, IPsecOffloadV2Esp, NDIS_HANDLE,
    NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1, NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OID,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA,
};

use super::{Direction, ICV_LENGTH, SaParameters};
use crate::adapter::oid::{Keep, Oid, OidOutcome};
use crate::error::LabError;
use crate::packet::Memory;

/// Where the key lies in the buffer of ADD_SA_EX: behind the structure.
const EX_KEY_OFFSET: usize = size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>();

/// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`, a direct request: offload one SA in one direction.
pub fn add_sa_ex(sa: &SaParameters, direction: Direction) -> Oid {
    let mut add = IPSEC_OFFLOAD_V2_ADD_SA_EX::zeroed();
    add.Header =
        header(NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1);
    add.NumExtHdrs = 1;
    add.Flags = flags(direction);
    add.Endpoints = endpoints(sa);
    add.UdpEspEncapsulation = IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE;
    add.SecAssoc[0] = association(sa);
    add.KeyLength = length(sa.key.bytes());
    add.KeyOffset = length_of(EX_KEY_OFFSET);
    let mut bytes = vec![0; EX_KEY_OFFSET + sa.key.bytes().len()];
    // SAFETY: the vector is as long as the structure and the key; writing it whole needs no alignment.
    unsafe { bytes.as_mut_ptr().cast::<IPSEC_OFFLOAD_V2_ADD_SA_EX>().write_unaligned(add) };
    bytes[EX_KEY_OFFSET..].copy_from_slice(sa.key.bytes());
    Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, bytes).direct()
}

/// The handle in an answered ADD_SA_EX; 0 (NULL) if the miniport refused.
pub fn offload_handle(outcome: &OidOutcome) -> usize {
    let at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
    let bytes = outcome.buffer.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| usize::from_ne_bytes(*bytes))
}

/// Elements of a linked list, each in memory of its own.
struct Elements {
    memory: Vec<Memory>,
    first_length: usize,
}

impl Keep for Elements {}

impl Elements {
    /// Links the elements through the pointer at `next`.
    fn link(&self, next: usize) {
        for pair in self.memory.windows(2) {
            // SAFETY: `next` is the offset of the pointer in the structure that each element holds.
            unsafe { pair[0].at::<*mut u8>(next).write(pair[1].at(0)) };
        }
    }

    fn request(self: &Arc<Self>, oid: NDIS_OID) -> Option<Oid> {
        let first = self.memory.first()?;
        Some(Oid::raw_set(oid, first.address(), self.first_length, self.clone()).direct())
    }
}

fn memory(length: usize) -> Result<Memory, LabError> {
    Memory::zeroed(length).ok_or(LabError::Invalid("the host has no memory left"))
}

/// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA`: a linked list of SAs.
pub struct AddSaList(Arc<Elements>);

impl AddSaList {
    /// A list of all of `sas`, in that order.
    ///
    /// # Errors
    /// [`LabError::Invalid`] if the host has no memory left.
    pub fn new<'a>(sas: impl IntoIterator<Item = (&'a SaParameters, Direction)>) -> Result<Self, LabError> {
        let mut elements = Elements { memory: Vec::new(), first_length: 0 };
        for (sa, direction) in sas {
            let (memory, length) = element(sa, direction)?;
            if elements.memory.is_empty() {
                elements.first_length = length;
            }
            elements.memory.push(memory);
        }
        elements.link(offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Next));
        Ok(Self(Arc::new(elements)))
    }

    /// The direct request; `None` for an empty list.
    pub fn request(&self) -> Option<Oid> {
        self.0.request(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA)
    }

    /// The handles that the miniport wrote, in the list's order; 0 (NULL) for what it did not take. To be
    /// called when the request has ended.
    pub fn handles(&self) -> Vec<usize> {
        let at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle);
        // SAFETY: each element holds the structure, and nobody writes to it when the request has ended.
        self.0.memory.iter().map(|memory| unsafe { memory.at::<NDIS_HANDLE>(at).read() }.addr()).collect()
    }
}

/// One element of the list with `Next` still NULL, and its length: the key starts within the structure.
fn element(sa: &SaParameters, direction: Direction) -> Result<(Memory, usize), LabError> {
    let mut add = IPSEC_OFFLOAD_V2_ADD_SA::zeroed();
    add.Header =
        header(NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1);
    add.NumExtHdrs = 1;
    add.Flags = flags(direction);
    add.Endpoints = endpoints(sa);
    add.UdpEspEncapsulation = IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE;
    add.SecAssoc[0] = association(sa);
    let key = sa.key.bytes();
    add.KeyLength = length(key);
    let key_offset = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyData);
    let length = key_offset + key.len();
    let memory = memory(length.max(size_of::<IPSEC_OFFLOAD_V2_ADD_SA>()))?;
    // SAFETY: the memory is aligned for the structure, and as long as it, and as the key at its offset.
    unsafe {
        memory.at::<IPSEC_OFFLOAD_V2_ADD_SA>(0).write(add);
        memory.at::<u8>(key_offset).copy_from_nonoverlapping(key.as_ptr(), key.len());
    }
    Ok((memory, length))
}

/// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA`: a linked list of handles.
pub struct DeleteSaList(Arc<Elements>);

impl DeleteSaList {
    /// A list of all `handles`, in that order.
    ///
    /// # Errors
    /// [`LabError::Invalid`] if the host has no memory left.
    pub fn new(handles: &[usize]) -> Result<Self, LabError> {
        let length = size_of::<IPSEC_OFFLOAD_V2_DELETE_SA>();
        let mut elements = Elements { memory: Vec::with_capacity(handles.len()), first_length: length };
        for handle in handles {
            let memory = memory(length)?;
            let delete = IPSEC_OFFLOAD_V2_DELETE_SA {
                Header: header(
                    NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
                    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
                ),
                Next: std::ptr::null_mut(),
                OffloadHandle: std::ptr::without_provenance_mut(*handle),
            };
            // SAFETY: the memory is aligned for the structure and as long.
            unsafe { memory.at::<IPSEC_OFFLOAD_V2_DELETE_SA>(0).write(delete) };
            elements.memory.push(memory);
        }
        elements.link(offset_of!(IPSEC_OFFLOAD_V2_DELETE_SA, Next));
        Ok(Self(Arc::new(elements)))
    }

    /// The direct request; `None` for an empty list.
    pub fn request(&self) -> Option<Oid> {
        self.0.request(OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA)
    }
}

fn header(revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: NDIS_OBJECT_TYPE_DEFAULT, Revision: revision, Size: size }
}

const fn flags(direction: Direction) -> u32 {
    match direction {
        Direction::Inbound => IPSEC_OFFLOAD_V2_INBOUND,
        Direction::Outbound => 0,
    }
}

fn endpoints(sa: &SaParameters) -> IPSEC_OFFLOAD_V2_ENDPOINTS {
    let ipv4 = IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS {
        SrcAddr: in_memory(sa.source),
        DestAddr: in_memory(sa.destination),
    };
    let mut endpoints = IPSEC_OFFLOAD_V2_ENDPOINTS::zeroed();
    endpoints.IPv4Endpoints = ipv4;
    endpoints
}

/// An address as the field holds it: in network order.
const fn in_memory(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

fn association(sa: &SaParameters) -> IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION {
    IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION {
        Flags: 0,
        Operation: IPsecOffloadV2Esp,
        // In network order, as the addresses are: the documents do not say (the one place to change it).
        Spi: sa.spi.to_be(),
        // With AES-GCM the miniport must not look at it: all ones would break one that does.
        AuthenticationAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO {
            Identifier: u32::MAX,
            KeyLength: u32::MAX,
            KeyOffsetBytes: u32::MAX,
            AdditionalInfo: u32::MAX,
        },
        EncryptionAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO {
            Identifier: sa.algorithm.identifier(),
            KeyLength: length(sa.key.bytes()),
            KeyOffsetBytes: 0,
            AdditionalInfo: length_of(ICV_LENGTH),
        },
        SequenceNumberHighOrder: 0,
    }
}

fn length(bytes: &[u8]) -> u32 {
    length_of(bytes.len())
}

/// Lengths here are below 300.
fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Algorithm, KeyMaterial};

    fn sa(algorithm: Algorithm, last: u8) -> SaParameters {
        SaParameters {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, last),
            spi: 0x0102_0304,
            algorithm,
            key: KeyMaterial::generate(algorithm, |bytes| {
                for (value, byte) in (last..).zip(bytes) {
                    *byte = value;
                }
            }),
        }
    }

    /// The bytes of a list's elements, in the order of `Next` (at offset 8 of both structures).
    fn walk(elements: &Elements, length: impl Fn(usize) -> usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut at = elements.memory.first().map_or(std::ptr::null_mut(), |memory| memory.at::<u8>(0));
        while !at.is_null() {
            // SAFETY: an element's memory, as long as the test says it was made.
            unsafe {
                found.push(std::slice::from_raw_parts(at, length(found.len())).to_vec());
                at = at.add(8).cast::<*mut u8>().read_unaligned();
            }
        }
        found
    }

    #[test]
    fn add_sa_ex_is_laid_out_as_the_documents_say() {
        for algorithm in Algorithm::ALL {
            let sa = sa(algorithm, 9);
            let oid = add_sa_ex(&sa, Direction::Inbound);
            assert_eq!((oid.oid, oid.direct), (0xFC03_0205, true));
            let bytes = oid.input;
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(bytes[..4], [0x80, 1, 170, 0]);
            assert_eq!((word(4), word(8)), (1, 1));
            assert_eq!(bytes[12..20], [10, 0, 0, 1, 10, 0, 0, 9]);
            assert_eq!(bytes[48..56], [0; 8]);
            assert_eq!(word(64), 2);
            assert_eq!(bytes[68..72], [1, 2, 3, 4]);
            assert_eq!(word(88), algorithm.identifier());
            assert_eq!(word(92) as usize, sa.key.bytes().len());
            assert_eq!((word(96), word(100)), (0, 16));
            assert_eq!(word(156) as usize, sa.key.bytes().len());
            assert_eq!(bytes[word(160) as usize..], *sa.key.bytes());
        }
    }

    #[test]
    fn an_add_sa_list_is_linked_in_order_with_the_keys_inline() {
        let sas = [sa(Algorithm::AesGcm128, 1), sa(Algorithm::AesGcm192, 2), sa(Algorithm::AesGcm256, 3)];
        let list = AddSaList::new(sas.iter().map(|sa| (sa, Direction::Outbound))).unwrap();
        assert_eq!(list.handles(), [0; 3]);
        assert!(list.request().unwrap().direct);
        let elements = walk(&list.0, |index| 168 + sas[index].key.bytes().len());
        assert_eq!(elements.len(), sas.len());
        for (bytes, sa) in elements.iter().zip(&sas) {
            assert_eq!(bytes[..4], [0x80, 1, 169, 0]);
            assert_eq!(bytes[20..24], [0; 4]);
            assert_eq!(bytes[28..32], sa.destination.octets());
            assert_eq!(bytes[168..], *sa.key.bytes());
        }
        assert!(AddSaList::new([]).unwrap().request().is_none());
    }

    #[test]
    fn a_delete_sa_list_names_every_handle_once() {
        let handles = [3_usize, 1, 2];
        let list = DeleteSaList::new(&handles).unwrap();
        let elements = walk(&list.0, |_| 24);
        assert_eq!(elements.len(), handles.len());
        for (bytes, handle) in elements.iter().zip(handles) {
            assert_eq!(bytes[..4], [0x80, 1, 24, 0]);
            assert_eq!(bytes[16..24], handle.to_ne_bytes());
        }
        assert!(DeleteSaList::new(&[]).unwrap().request().is_none());
    }
}
