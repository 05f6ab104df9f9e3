//! The information buffers of the direct OIDs that add and delete security associations.
//!
//! The lists are linked as the stack links them: each element in an allocation of its own, the first one
//! in the request's information buffer, the others behind `Next`.

use std::mem::offset_of;
use std::net::Ipv4Addr;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    IPSEC_OFFLOAD_V2_DELETE_SA, IPSEC_OFFLOAD_V2_ENDPOINTS, IPSEC_OFFLOAD_V2_INBOUND,
    IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS, IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION,
    IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE, IPsecOffloadV2Esp,
    NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1, NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
};

use super::{Direction, ICV_LENGTH, SaParameters};

/// A structure followed by its key, in memory aligned as the structure is.
#[derive(Debug)]
struct WithKey {
    words: Vec<u64>,
    length: usize,
}

impl WithKey {
    /// `structure` with `key` at `key_offset`, which may lie in the structure's tail.
    fn new<T: Copy>(structure: T, key_offset: usize, key: &[u8]) -> Self {
        const { assert!(align_of::<T>() <= align_of::<u64>()) };
        let length = key_offset + key.len();
        let words = vec![0_u64; length.max(size_of::<T>()).div_ceil(size_of::<u64>())];
        let mut this = Self { words, length };
        let base = this.words.as_mut_ptr();
        // SAFETY: the allocation is aligned for `T` and at least as long as `T`, and as `key_offset` and the key.
        unsafe {
            base.cast::<T>().write(structure);
            base.cast::<u8>().add(key_offset).copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        this
    }

    /// The pointer-sized field at `offset`.
    fn pointer_at(&self, offset: usize) -> usize {
        assert!(offset + size_of::<usize>() <= self.words.len() * size_of::<u64>());
        // SAFETY: the field lies in the allocation, and initialised bytes are a number.
        unsafe { self.words.as_ptr().cast::<u8>().add(offset).cast::<usize>().read_unaligned() }
    }

    /// Writes the pointer-sized field at `offset`.
    fn set_pointer_at(&mut self, offset: usize, value: *mut u8) {
        assert!(offset + size_of::<usize>() <= self.words.len() * size_of::<u64>());
        // SAFETY: the field lies in the allocation.
        unsafe { self.words.as_mut_ptr().cast::<u8>().add(offset).cast::<*mut u8>().write_unaligned(value) }
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }
}

/// The buffer of `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`: one SA, its key behind it.
#[derive(Debug)]
pub struct AddSaEx(WithKey);

impl AddSaEx {
    /// Asks for `sa` to be offloaded in one direction.
    pub fn new(sa: &SaParameters, direction: Direction) -> Self {
        let mut add = IPSEC_OFFLOAD_V2_ADD_SA_EX::zeroed();
        add.Header = header(
            NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
            NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
        );
        add.NumExtHdrs = 1;
        add.Flags = flags(direction);
        add.Endpoints = endpoints(sa);
        add.UdpEspEncapsulation = IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE;
        add.SecAssoc[0] = association(sa);
        add.KeyLength = length(sa.key.bytes());
        let key_offset = size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>();
        add.KeyOffset = length_of(key_offset);
        Self(WithKey::new(add, key_offset, sa.key.bytes()))
    }

    /// The information buffer and its length. Valid while this value is neither moved out of nor dropped.
    pub fn buffer(&mut self) -> (*mut u8, usize) {
        (self.0.as_mut_ptr(), self.0.length)
    }

    /// The handle that the miniport wrote; 0 (NULL) before that, and when it refused.
    pub fn handle(&self) -> usize {
        self.0.pointer_at(offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle))
    }
}

/// The buffers of `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA`: a linked list of SAs.
#[derive(Debug)]
pub struct AddSaList(Vec<WithKey>);

impl AddSaList {
    /// Asks for all of `sas`, in that order.
    pub fn new<'a>(sas: impl IntoIterator<Item = (&'a SaParameters, Direction)>) -> Self {
        let mut nodes: Vec<WithKey> = sas.into_iter().map(|(sa, direction)| node(sa, direction)).collect();
        for index in (1..nodes.len()).rev() {
            let next = nodes[index].as_mut_ptr();
            nodes[index - 1].set_pointer_at(offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Next), next);
        }
        Self(nodes)
    }

    /// The first element, which is the information buffer, and its length; `None` for an empty list.
    pub fn buffer(&mut self) -> Option<(*mut u8, usize)> {
        self.0.first_mut().map(|node| (node.as_mut_ptr(), node.length))
    }

    /// The handles that the miniport wrote, in the list's order; 0 (NULL) for what it did not take.
    pub fn handles(&self) -> Vec<usize> {
        self.0
            .iter()
            .map(|node| node.pointer_at(offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle)))
            .collect()
    }
}

/// One element of the list, with `Next` still NULL.
fn node(sa: &SaParameters, direction: Direction) -> WithKey {
    let mut add = IPSEC_OFFLOAD_V2_ADD_SA::zeroed();
    add.Header =
        header(NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1);
    add.NumExtHdrs = 1;
    add.Flags = flags(direction);
    add.Endpoints = endpoints(sa);
    add.UdpEspEncapsulation = IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE;
    add.SecAssoc[0] = association(sa);
    add.KeyLength = length(sa.key.bytes());
    WithKey::new(add, offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyData), sa.key.bytes())
}

/// The buffers of `OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA`: a linked list of handles.
#[derive(Debug)]
pub struct DeleteSaList(Vec<IPSEC_OFFLOAD_V2_DELETE_SA>);

impl DeleteSaList {
    /// Asks for the deletion of all `handles`, in that order.
    pub fn new(handles: &[usize]) -> Self {
        let mut nodes = vec![IPSEC_OFFLOAD_V2_DELETE_SA::zeroed(); handles.len()];
        let base = nodes.as_mut_ptr();
        for (index, handle) in handles.iter().enumerate() {
            let next =
                if index + 1 < handles.len() { base.wrapping_add(index + 1) } else { std::ptr::null_mut() };
            nodes[index] = IPSEC_OFFLOAD_V2_DELETE_SA {
                Header: header(
                    NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
                    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
                ),
                Next: next,
                OffloadHandle: std::ptr::without_provenance_mut(*handle),
            };
        }
        Self(nodes)
    }

    /// The first element, which is the information buffer, and its length; `None` for an empty list.
    pub fn buffer(&mut self) -> Option<(*mut u8, usize)> {
        (!self.0.is_empty()).then(|| (self.0.as_mut_ptr().cast(), size_of::<IPSEC_OFFLOAD_V2_DELETE_SA>()))
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

    fn bytes(buffer: (*mut u8, usize)) -> Vec<u8> {
        // SAFETY: the buffers under test are that long, and initialised.
        unsafe { std::slice::from_raw_parts(buffer.0, buffer.1) }.to_vec()
    }

    #[test]
    fn add_sa_ex_is_laid_out_as_the_documents_say() {
        for algorithm in Algorithm::ALL {
            let sa = sa(algorithm, 9);
            let mut add = AddSaEx::new(&sa, Direction::Inbound);
            let bytes = bytes(add.buffer());
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(bytes[..4], [0x80, 1, 170, 0]);
            assert_eq!((word(4), word(8)), (1, 1));
            assert_eq!(bytes[12..20], [10, 0, 0, 1, 10, 0, 0, 9]);
            assert_eq!(add.handle(), 0);
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
        let mut list = AddSaList::new(sas.iter().map(|sa| (sa, Direction::Outbound)));
        assert_eq!(list.handles(), [0; 3]);
        let (mut at, _) = list.buffer().unwrap();
        for (index, sa) in sas.iter().enumerate() {
            let bytes = bytes((at, 168 + sa.key.bytes().len()));
            assert_eq!(bytes[..4], [0x80, 1, 169, 0]);
            assert_eq!(bytes[20..24], [0; 4]);
            assert_eq!(bytes[28..32], sa.destination.octets());
            assert_eq!(bytes[168..], *sa.key.bytes());
            // SAFETY: an element of the list; `Next` is at offset 8.
            at = unsafe { at.add(8).cast::<*mut u8>().read_unaligned() };
            assert_eq!(at.is_null(), index + 1 == sas.len());
        }
        assert!(AddSaList::new([]).buffer().is_none());
    }

    #[test]
    fn a_delete_sa_list_names_every_handle_once() {
        let handles = [3, 1, 2];
        let mut list = DeleteSaList::new(&handles);
        let (mut at, length) = list.buffer().unwrap();
        assert_eq!(length, 24);
        for (index, handle) in handles.iter().enumerate() {
            let bytes = bytes((at, 24));
            assert_eq!(bytes[..4], [0x80, 1, 24, 0]);
            assert_eq!(usize::from_ne_bytes(bytes[16..24].try_into().unwrap()), *handle);
            // SAFETY: as above.
            at = unsafe { at.add(8).cast::<*mut u8>().read_unaligned() };
            assert_eq!(at.is_null(), index + 1 == handles.len());
        }
        assert!(DeleteSaList::new(&[]).buffer().is_none());
    }
}
