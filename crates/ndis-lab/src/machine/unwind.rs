//! Frames of x64 images, undone by their exception directory (`x64 exception handling` of the MSVC documentation).
//!
//! Call stacks ([`super::stack`]) and structured exceptions ([`super::seh`]) both go up by it. Registers that are
//! not known stay unknown; what is read of the image is checked to lie in one of its constant sections, and what
//! is read of the stack is up to the caller.

use crate::loader::Image;

/// Registers by their number in UNWIND_INFO.
pub(super) const RSP: usize = 4;
pub(super) const RBP: usize = 5;
/// `UNW_FLAG_EHANDLER`, `UNW_FLAG_UHANDLER`, `UNW_FLAG_CHAININFO`.
pub(super) const EHANDLER: u8 = 1;
pub(super) const UHANDLER: u8 = 2;
const CHAINED: u8 = 4;
/// No function has so many parts.
const MAX_CHAIN: usize = 32;
/// Sections that a view remembers; drivers have ten or so.
const MAX_SECTIONS: usize = 24;

/// The registers of a frame, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Registers {
    /// In the order of the processor's register numbers.
    pub(super) general: [Option<u64>; 16],
    /// XMM registers that an unwind restored.
    pub(super) xmm: [Option<[u64; 2]>; 16],
}

/// What lies above a frame.
pub(super) struct Unwound {
    /// The address to which the function returns.
    pub(super) caller: u64,
    /// The establisher frame.
    pub(super) frame: u64,
    /// The address of the function's RUNTIME_FUNCTION; 0 for a leaf.
    pub(super) function: usize,
    /// The language handler, its data, and whether it takes exceptions and unwinds.
    pub(super) handler: Option<(usize, usize, u8)>,
}

/// Where an image lies, with its exception directory and its constant sections. It owns nothing, so that frames
/// which are left without being unwound may hold one; the image stays mapped while its code runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) base: usize,
    size: usize,
    directory: (usize, usize),
    constant: [(u32, u32); MAX_SECTIONS],
}

impl View {
    pub(super) fn new(image: &Image) -> Self {
        let directory = image.exception_directory();
        let mut constant = [(0, 0); MAX_SECTIONS];
        let sections = image.sections().iter().filter(|section| !section.writable && !section.discardable);
        for (place, section) in constant.iter_mut().zip(sections) {
            *place = (section.range.start, section.range.end);
        }
        Self {
            base: image.base(),
            size: image.size() as usize,
            directory: (directory.start as usize, directory.len()),
            constant,
        }
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        usize::try_from(address).is_ok_and(|a| (self.base..self.base + self.size).contains(&a))
    }

    /// Reads numbers of a constant section; `None` elsewhere.
    pub(super) fn read<T: Copy>(&self, rva: usize) -> Option<T> {
        let end = u32::try_from(rva.checked_add(size_of::<T>())?).ok()?;
        let within = |(from, to): &(u32, u32)| *from as usize <= rva && end <= *to;
        // SAFETY: within a section that is mapped, readable, and never written while the image lives; the callers
        // read numbers, which may lie anywhere.
        self.constant.iter().any(within).then(|| unsafe { ((self.base + rva) as *const T).read_unaligned() })
    }

    /// The RUNTIME_FUNCTION of an address: (its place, begin, unwind information).
    fn function(&self, rva: u32) -> Option<(usize, u32, u32)> {
        let (start, length) = self.directory;
        let (mut low, mut high) = (0, length / 12);
        while low < high {
            let middle = low.midpoint(high);
            let at = start + middle * 12;
            let [begin, end, information] = self.read::<[u32; 3]>(at)?;
            if rva < begin {
                high = middle;
            } else if rva >= end {
                low = middle + 1;
            } else {
                return Some((at, begin, information));
            }
        }
        None
    }

    /// Undoes the frame of the function that runs at `address`. `load` reads the stack.
    pub(super) fn unwind(
        &self,
        address: u64,
        registers: &mut Registers,
        load: impl Fn(u64) -> Option<u64>,
    ) -> Option<Unwound> {
        let rva = u32::try_from(usize::try_from(address).ok()?.checked_sub(self.base)?).ok()?;
        let returns = |registers: &mut Registers| {
            let stack = registers.general[RSP]?;
            registers.general[RSP] = Some(stack + 8);
            load(stack)
        };
        let Some((at, begin, information)) = self.function(rva) else {
            // A function without an entry is a leaf: it moved nothing.
            let frame = registers.general[RSP]?;
            return Some(Unwound { caller: returns(registers)?, frame, function: 0, handler: None });
        };
        let mut part = Part { info: information as usize, within: rva - begin };
        let mut frame = None;
        for _ in 0..MAX_CHAIN {
            let [head, prolog, count, register] = self.read::<[u8; 4]>(part.info)?;
            let (flags, codes, count) = (head >> 3, part.info + 4, usize::from(count));
            let base = self.undo(&part, prolog, count, register, registers, &load)?;
            frame.get_or_insert(base);
            let behind = codes + 2 * count.next_multiple_of(2);
            if flags & CHAINED != 0 {
                // The whole prolog of the chained part has run.
                part = Part { info: self.read::<u32>(behind + 8)? as usize, within: u32::MAX };
                continue;
            }
            let mut handler = None;
            if flags & (EHANDLER | UHANDLER) != 0 && part.within >= u32::from(prolog) {
                let routine = self.read::<u32>(behind)? as usize;
                let inside = routine < self.size;
                handler = inside.then_some((self.base + routine, self.base + behind + 4, flags));
            }
            let caller = returns(registers)?;
            return Some(Unwound { caller, frame: frame?, function: self.base + at, handler });
        }
        None
    }

    /// Undoes the operations of one UNWIND_INFO that were done; gives the frame's base, 0 if it is not known.
    fn undo(
        &self,
        part: &Part,
        prolog: u8,
        count: usize,
        frame: u8,
        registers: &mut Registers,
        load: &impl Fn(u64) -> Option<u64>,
    ) -> Option<u64> {
        let (register, offset) = (usize::from(frame & 15), u64::from(frame >> 4) * 16);
        let codes = part.info + 4;
        let code = |index: usize| -> Option<[u8; 2]> { self.read(codes + 2 * index) };
        let done = |place: u8| part.within >= u32::from(prolog) || part.within >= u32::from(place);
        // The frame register holds from the instruction on that sets it.
        let mut set = register != 0;
        if set && part.within < u32::from(prolog) {
            set = (0..count).filter_map(code).any(|c| c[1] & 15 == 3 && part.within >= u32::from(c[0]));
        }
        let of_register = |registers: &Registers| registers.general[register]?.checked_sub(offset);
        let base = if set { of_register(registers) } else { registers.general[RSP] };
        let mut index = 0;
        while index < count {
            let [place, operation] = code(index)?;
            let (kind, value) = (operation & 15, usize::from(operation >> 4));
            let word = || Some(u64::from(u16::from_le_bytes(code(index + 1)?)));
            let long = || -> Option<u64> { Some(u64::from(self.read::<u32>(codes + 2 * (index + 1))?)) };
            let slots = match kind {
                0 | 2 | 3 | 10 => 1,
                1 => 2 + usize::from(value != 0),
                4 | 8 => 2,
                5 | 9 => 3,
                // What a later version of the format may have.
                _ => return None,
            };
            if done(place) {
                let stack = registers.general[RSP]?;
                match kind {
                    // UWOP_PUSH_NONVOL
                    0 => {
                        registers.general[value] = load(stack);
                        registers.general[RSP] = stack.checked_add(8);
                    }
                    // UWOP_ALLOC_LARGE and UWOP_ALLOC_SMALL
                    1 if value == 0 => registers.general[RSP] = stack.checked_add(word()? * 8),
                    1 => registers.general[RSP] = stack.checked_add(long()?),
                    2 => registers.general[RSP] = stack.checked_add(value as u64 * 8 + 8),
                    // UWOP_SET_FPREG
                    3 => registers.general[RSP] = of_register(registers),
                    // UWOP_SAVE_NONVOL and UWOP_SAVE_NONVOL_FAR
                    4 | 5 => {
                        let at = if kind == 4 { word()? * 8 } else { long()? };
                        registers.general[value] = base.and_then(|base| load(base.checked_add(at)?));
                    }
                    // UWOP_SAVE_XMM128 and UWOP_SAVE_XMM128_FAR
                    8 | 9 => {
                        let at = if kind == 8 { word()? * 16 } else { long()? };
                        let both = |base: u64| {
                            Some([load(base.checked_add(at)?)?, load(base.checked_add(at + 8)?)?])
                        };
                        registers.xmm[value] = base.and_then(both);
                    }
                    // UWOP_PUSH_MACHFRAME: an interrupt, which the lab does not make.
                    _ => return None,
                }
            }
            index += slots;
        }
        Some(base.unwrap_or(0))
    }
}

/// One UNWIND_INFO, and how far into its function the frame is.
struct Part {
    info: usize,
    within: u32,
}
