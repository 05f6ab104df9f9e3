//! Receives while NDIS owns them: their lists are filled with pointers that tell where they were read, what
//! they held is put aside, and on their way back everything is compared.
//!
//! `MiniportReserved` stays as it is: it belongs to the miniport that allocated the list, all the time.

use std::mem::offset_of;
use std::ops::Range;

use ndis_sys::{NET_BUFFER, NET_BUFFER_LIST, PVOID};

use super::{ListRecord, Owner, Packets};
use crate::adapter::AdapterId;
use crate::bytes::{fill_words, first_difference, first_other_word};
use crate::machine::{Machine, Origin, grave};
use crate::rules;

const LIST: usize = super::LIST_BYTES;
const BUFFER: usize = size_of::<NET_BUFFER>();

/// What NDIS knows of a list that it owns.
pub(super) struct Away {
    /// List and buffer as they were handed over.
    saved: Box<[u8]>,
    grave: usize,
    /// The MDLs of its frame.
    mdls: Vec<usize>,
    /// Where the frame's bytes lie, in pieces, and the frame.
    pieces: Vec<Range<usize>>,
    frame: Vec<u8>,
    gone: Origin,
}

impl Away {
    /// Who gave it away.
    pub(super) fn gone(&self) -> Origin {
        self.gone
    }
}

/// The parts of a list and its buffer that are not the miniport's while NDIS owns them.
fn parts(with_buffer: bool) -> impl Iterator<Item = Range<usize>> {
    let reserved = |start: usize, offset: usize, words: usize| {
        let at = start + offset;
        (at, at + words * size_of::<PVOID>())
    };
    let list = reserved(0, offset_of!(NET_BUFFER_LIST, MiniportReserved), 2);
    let buffer = reserved(LIST, offset_of!(NET_BUFFER, MiniportReserved), 4);
    let of_list = [0..list.0, list.1..LIST];
    let of_buffer = [LIST..buffer.0, buffer.1..LIST + BUFFER];
    of_list.into_iter().chain(of_buffer.into_iter().filter(move |_| with_buffer))
}

/// The field of a list, or of its buffer, at an offset.
fn field(at: usize) -> &'static str {
    let fields: &[(usize, &'static str)] = if at < LIST {
        &[
            (offset_of!(NET_BUFFER_LIST, Next), "Next"),
            (offset_of!(NET_BUFFER_LIST, FirstNetBuffer), "FirstNetBuffer"),
            (offset_of!(NET_BUFFER_LIST, Context), "Context"),
            (offset_of!(NET_BUFFER_LIST, ParentNetBufferList), "ParentNetBufferList"),
            (offset_of!(NET_BUFFER_LIST, NdisPoolHandle), "NdisPoolHandle"),
            (offset_of!(NET_BUFFER_LIST, NdisReserved), "NdisReserved"),
            (offset_of!(NET_BUFFER_LIST, ProtocolReserved), "ProtocolReserved"),
            (offset_of!(NET_BUFFER_LIST, Scratch), "Scratch"),
            (offset_of!(NET_BUFFER_LIST, SourceHandle), "SourceHandle"),
            (offset_of!(NET_BUFFER_LIST, NblFlags), "NblFlags"),
            (offset_of!(NET_BUFFER_LIST, ChildRefCount), "ChildRefCount"),
            (offset_of!(NET_BUFFER_LIST, Flags), "Flags"),
            (offset_of!(NET_BUFFER_LIST, Status), "Status"),
            (offset_of!(NET_BUFFER_LIST, NetBufferListInfo), "NetBufferListInfo"),
        ]
    } else {
        &[
            (offset_of!(NET_BUFFER, Next), "Next of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, CurrentMdl), "CurrentMdl of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, CurrentMdlOffset), "CurrentMdlOffset of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, DataLength), "DataLength of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, MdlChain), "MdlChain of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, DataOffset), "DataOffset of its NET_BUFFER"),
            (offset_of!(NET_BUFFER, ChecksumBias), "another field of its NET_BUFFER"),
        ]
    };
    let at = if at < LIST { at } else { at - LIST };
    fields.iter().rev().find(|(start, _)| *start <= at).map_or("a field", |(_, name)| name)
}

impl ListRecord {
    fn length(&self) -> usize {
        LIST + if self.with_buffer { BUFFER } else { 0 }
    }

    /// Where `range` of the list lies.
    fn place(&self, range: &Range<usize>) -> *mut u8 {
        self.memory.at(range.start)
    }

    /// The first byte that was written since the list was handed over.
    fn written(&self, away: &Away) -> Option<usize> {
        parts(self.with_buffer).find_map(|range| {
            // SAFETY: initialised memory of the list, which NDIS owns.
            let bytes = unsafe { std::slice::from_raw_parts(self.place(&range), range.len()) };
            Some(range.start + first_other_word(bytes, away.grave)?)
        })
    }
}

impl Packets {
    /// NDIS owns a list from now on. Its frame was copied, and `Next` read.
    ///
    /// # Safety
    /// The list lives. If there is a `frame`, its NET_BUFFER and MDLs do so as well and describe it.
    pub(crate) unsafe fn hand_over(
        &self,
        list: usize,
        adapter: AdapterId,
        frame: Option<&[u8]>,
        gone: Origin,
    ) {
        let mut tables = self.0.lock();
        let Some(record) = tables.lists.get_mut(&list) else { return };
        record.owner = Owner::Indicated(adapter);
        let (mdls, pieces) = if frame.is_some() {
            // SAFETY: the caller vouches for the buffer and its MDLs, if there is a frame.
            unsafe { pieces((*(list as *const NET_BUFFER_LIST)).FirstNetBuffer) }
        } else {
            (Vec::new(), Vec::new())
        };
        // SAFETY: the memory of the list and its buffer is initialised.
        let saved: Box<[u8]> =
            unsafe { std::slice::from_raw_parts(record.memory.at::<u8>(0), record.length()) }.into();
        let grave = grave::bury(rules::RECEIVE_CHAIN_CHANGED, "NET_BUFFER_LIST", list, Some(gone));
        for range in parts(record.with_buffer) {
            // SAFETY: as above; NDIS owns the list now.
            unsafe { fill_words(record.place(&range), range.len(), grave) };
        }
        record.away =
            Some(Away { saved, grave, mdls, pieces, frame: frame.unwrap_or_default().to_vec(), gone });
    }

    /// The list whose frame an MDL describes, if NDIS owns it, and who gave it away.
    pub(super) fn indicated_with(
        lists: &super::AddressMap<ListRecord>,
        mdl: usize,
    ) -> Option<(usize, Origin)> {
        lists.iter().find_map(|(list, record)| {
            let away = record.away.as_ref()?;
            away.mdls.contains(&mdl).then_some((*list, away.gone))
        })
    }
}

/// The MDLs of a buffer, and where the bytes of its frame lie.
///
/// # Safety
/// Buffer and MDLs are valid and mapped.
unsafe fn pieces(buffer: *const NET_BUFFER) -> (Vec<usize>, Vec<Range<usize>>) {
    let (mut mdls, mut pieces) = (Vec::new(), Vec::new());
    // SAFETY: the caller vouches for the structures.
    unsafe {
        let (mut mdl, mut offset) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset as usize);
        let mut left = (*buffer).DataLength as usize;
        while left > 0 && !mdl.is_null() {
            let count = ((*mdl).ByteCount as usize).saturating_sub(offset).min(left);
            let start = (*mdl).MappedSystemVa as usize + offset;
            mdls.push(mdl as usize);
            pieces.push(start..start + count);
            left -= count;
            offset = 0;
            mdl = (*mdl).Next;
        }
    }
    (mdls, pieces)
}

impl Machine {
    /// A list is the driver's again: looks whether it was left alone.
    pub(crate) fn take_back(&self, adapter: &crate::adapter::AdapterCore, list: usize) {
        let mut tables = self.packets.0.lock();
        let Some(record) = tables.lists.get_mut(&list) else { return };
        record.owner = Owner::Driver;
        let Some(away) = record.away.take() else { return };
        let written = record.written(&away);
        for range in parts(record.with_buffer) {
            // SAFETY: as many bytes as the list has were saved; NDIS still owns it.
            unsafe {
                let from = away.saved[range.clone()].as_ptr();
                std::ptr::copy_nonoverlapping(from, record.place(&range), range.len());
            }
        }
        drop(tables);
        let past = [("indicated", away.gone)];
        let report = |text| self.violate_past(Some(adapter), rules::RECEIVE_CHAIN_CHANGED, text, &past);
        if let Some(at) = written {
            report(format!("{} of NET_BUFFER_LIST {list:#x} was written while NDIS owned it", field(at)));
        }
        let mut frame = away.frame.as_slice();
        for piece in away.pieces {
            let (part, rest) = frame.split_at(piece.len().min(frame.len()));
            // SAFETY: what the MDLs described when the list was handed over. The driver may not free it in
            // the meantime; what it freed all the same is in quarantine.
            let now = unsafe { std::slice::from_raw_parts(piece.start as *const u8, part.len()) };
            if let Some(at) = first_difference(now, part) {
                let at = away.frame.len() - frame.len() + at;
                report(format!(
                    "byte {at} of the frame of NET_BUFFER_LIST {list:#x} was written while NDIS owned it"
                ));
                break;
            }
            frame = rest;
        }
    }
}
