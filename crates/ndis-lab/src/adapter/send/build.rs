//! NET_BUFFER_LISTs in memory, built as a transport builds them, and what must be the same at completion.

use ndis_sys::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_MAPPING_CAN_FAIL, MDL_PAGES_LOCKED, NET_BUFFER, NET_BUFFER_LIST, PVOID,
    TcpLargeSendNetBufferListInfo,
};

use super::{OOB_SLOTS, SendFrame, SendNbl};
use crate::error::LabError;
use crate::machine::Machine;
use crate::packet::{self, Memory};

/// What the unused bytes around a frame hold.
const FILL: u8 = 0xa5;

/// The memory of one NET_BUFFER_LIST and all that hangs off it.
pub(super) struct Built {
    pub(super) list: Memory,
    /// (buffer, MDLs, data, original bytes of the data)
    pub(super) frames: Vec<BuiltFrame>,
    pub(super) large_send: bool,
}

pub(super) struct BuiltFrame {
    pub(super) buffer: Memory,
    pub(super) mdls: Vec<(Memory, usize)>,
    pub(super) data: Memory,
    pub(super) start: usize,
    pub(super) original: Vec<u8>,
}

/// `Next`, `Size`, flags, and the range that an MDL describes.
type MdlShape = (usize, i16, i16, (usize, u32, u32));

/// What must be the same at completion.
#[derive(PartialEq, Eq, Clone)]
pub(super) struct Snapshot {
    pub(super) list: (usize, usize, usize, usize, usize, u32, i32),
    /// What is NDIS' and the protocol's in lists and buffers.
    pub(super) reserved: Vec<usize>,
    pub(super) oob: [usize; OOB_SLOTS],
    pub(super) buffers: Vec<(usize, usize, u32, u32, usize, u32)>,
    pub(super) mdls: Vec<MdlShape>,
}

impl Snapshot {
    /// # Safety
    /// The lists, buffers and MDLs of `built` are initialised.
    pub(super) unsafe fn take(built: &Built) -> Self {
        let list = built.list.at::<NET_BUFFER_LIST>(0);
        // SAFETY: the caller vouches for them; each is memory of `built`.
        unsafe {
            let buffers = built.frames.iter().map(|frame| {
                let b = frame.buffer.at::<NET_BUFFER>(0);
                (
                    (*b).Next as usize,
                    (*b).CurrentMdl as usize,
                    (*b).CurrentMdlOffset,
                    (*b).DataLength,
                    (*b).MdlChain as usize,
                    (*b).DataOffset,
                )
            });
            let of_buffers = built.frames.iter().flat_map(|frame| {
                let b = frame.buffer.at::<NET_BUFFER>(0);
                let own = [(*b).NdisPoolHandle as usize, usize::from((*b).ChecksumBias)];
                let reserved = (*b).NdisReserved.into_iter().chain((*b).ProtocolReserved);
                own.into_iter().chain(reserved.map(|word| word as usize))
            });
            let of_list = (*list).NdisReserved.into_iter().chain((*list).ProtocolReserved);
            let reserved = of_list.map(|word| word as usize).chain(of_buffers).collect();
            let mdls = built.frames.iter().flat_map(|frame| &frame.mdls).map(|(memory, _)| {
                let m = memory.at::<MDL>(0);
                // A mapping is the miniport's to make.
                let flags = (*m).MdlFlags & !(MDL_MAPPED_TO_SYSTEM_VA | MDL_MAPPING_CAN_FAIL);
                let range = ((*m).StartVa as usize, (*m).ByteOffset, (*m).ByteCount);
                ((*m).Next as usize, (*m).Size, flags, range)
            });
            Self {
                list: (
                    (*list).FirstNetBuffer as usize,
                    (*list).Context as usize,
                    (*list).ParentNetBufferList as usize,
                    (*list).NdisPoolHandle as usize,
                    (*list).SourceHandle as usize,
                    (*list).NblFlags,
                    (*list).ChildRefCount,
                ),
                reserved,
                oob: (*list).NetBufferListInfo.map(|slot| slot as usize),
                buffers: buffers.collect(),
                mdls: mdls.collect(),
            }
        }
    }
}

fn memory(machine: &Machine, size: usize, what: &'static str) -> Result<Memory, LabError> {
    Memory::guarded(machine, size, what).ok_or(LabError::Invalid("the host has no memory left"))
}

pub(super) fn build(machine: &Machine, nbl: &SendNbl, source: usize) -> Result<Built, LabError> {
    let list = memory(machine, crate::packet::LIST_BYTES, "NET_BUFFER_LIST to send")?;
    let mut frames = Vec::with_capacity(nbl.frames.len());
    for frame in &nbl.frames {
        frames.push(build_frame(machine, frame)?);
    }
    let raw = list.at::<NET_BUFFER_LIST>(0);
    // SAFETY: zeroed memory of the right sizes, not shared with anyone yet.
    unsafe {
        (*raw).SourceHandle = source as PVOID;
        (*raw).NdisPoolHandle = source as PVOID;
        (*raw).NblFlags = nbl.nbl_flags;
        (*raw).NetBufferListInfo = nbl.oob.map(|slot| slot as PVOID);
        let mut next = std::ptr::null_mut();
        for frame in frames.iter().rev() {
            let buffer = frame.buffer.at::<NET_BUFFER>(0);
            (*buffer).Next = next;
            (*buffer).NdisPoolHandle = source as PVOID;
            next = buffer;
        }
        (*raw).FirstNetBuffer = next;
    }
    Ok(Built { list, frames, large_send: nbl.oob[TcpLargeSendNetBufferListInfo as usize] != 0 })
}

fn build_frame(machine: &Machine, frame: &SendFrame) -> Result<BuiltFrame, LabError> {
    let total = frame.data_offset + frame.bytes.len() + frame.tail;
    let misalign = frame.misalign % 16;
    let data = memory(machine, total + misalign, "data to send")?;
    let start = data.address() + misalign;
    let mut original = vec![FILL; total];
    original[frame.data_offset..frame.data_offset + frame.bytes.len()].copy_from_slice(&frame.bytes);
    // SAFETY: `total` bytes from `start` lie in the data's memory.
    unsafe { std::ptr::copy_nonoverlapping(original.as_ptr(), start as *mut u8, total) };
    let mut lengths = Vec::with_capacity(frame.split.len() + 1);
    let mut left = total;
    for length in &frame.split {
        let length = (*length).min(left);
        lengths.push(length);
        left -= length;
    }
    if left > 0 || lengths.is_empty() {
        lengths.push(left);
    }
    let mut mdls = Vec::with_capacity(lengths.len());
    let mut address = start;
    for length in lengths {
        let bytes = u32::try_from(length).map_err(|_| LabError::Invalid("the frame is too long"))?;
        let mdl = memory(machine, packet::mdl_bytes(address, bytes), "MDL to send")?;
        // SAFETY: the memory holds an MDL with its pages.
        unsafe {
            packet::write_mdl(mdl.at(0), address, bytes, !frame.unmapped);
            let raw = mdl.at::<MDL>(0);
            if frame.unmapped {
                // Locked user pages, say: StartVa means nothing in this address space.
                (*raw).MdlFlags = MDL_PAGES_LOCKED;
                (*raw).StartVa = (0x00cd_0000_0000_0000 | (address & !0xfff)) as PVOID;
            }
        }
        mdls.push((mdl, address));
        address += length;
    }
    let buffer = memory(machine, size_of::<NET_BUFFER>(), "NET_BUFFER to send")?;
    let raw = buffer.at::<NET_BUFFER>(0);
    let number = |value: usize| u32::try_from(value).map_err(|_| LabError::Invalid("the frame is too long"));
    // SAFETY: zeroed memory of the right sizes, not shared with anyone yet.
    unsafe {
        for pair in mdls.windows(2) {
            (*pair[0].0.at::<MDL>(0)).Next = pair[1].0.at(0);
        }
        let chain = mdls[0].0.at::<MDL>(0);
        let offset = number(frame.data_offset)?;
        let (current, within) = packet::locate(chain, offset).unwrap_or((chain, 0));
        (*raw).MdlChain = chain;
        (*raw).DataOffset = offset;
        (*raw).CurrentMdl = current;
        (*raw).CurrentMdlOffset = within;
        (*raw).DataLength = number(frame.bytes.len())?;
    }
    Ok(BuiltFrame { buffer, mdls, data, start, original })
}
