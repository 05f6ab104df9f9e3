//! Checks of the instructions.
//!
//! Executable sections are decoded in a line and in whole, with no byte left out. Wherever the exception directory says
//! that a function begins, decoding must arrive exactly there, so that data between functions can neither hide code nor
//! pass for it unnoticed.

use iced_x86::{Decoder, DecoderOptions, Instruction, Register};
use object::pe;

use super::symbols::Symbols;
use super::{Finding, Image, Subject};

/// What decoding found.
pub(super) struct Survey {
    instructions: usize,
    functions: usize,
    bytes: usize,
    vector: Vec<String>,
    x87_mmx: Vec<String>,
    undecoded: Vec<String>,
}

pub(super) fn survey(image: &Image<'_>, symbols: Option<&Symbols>) -> Survey {
    let mut starts: Vec<u32> = image.functions().iter().map(|function| function.begin).collect();
    starts.dedup();
    let mut survey = Survey {
        instructions: 0,
        functions: starts.len(),
        bytes: 0,
        vector: Vec::new(),
        x87_mmx: Vec::new(),
        undecoded: Vec::new(),
    };
    for section in image.sections.iter().filter(|section| section.has(pe::IMAGE_SCN_MEM_EXECUTE.0)) {
        survey.bytes += section.data.len();
        // Function starts in this section, then its end: each run between two of them is decoded by itself.
        let end = section.rva.start + u32::try_from(section.data.len()).unwrap_or(u32::MAX);
        let mut cuts: Vec<u32> =
            starts.iter().copied().filter(|start| *start > section.rva.start && *start < end).collect();
        cuts.push(end);
        let mut from = section.rva.start;
        for to in cuts {
            let offset = |rva: u32| (rva - section.rva.start) as usize;
            survey.decode(&section.data[offset(from)..offset(to)], from, symbols);
            from = to;
        }
    }
    if survey.instructions == 0 {
        survey.undecoded.push("no executable section".into());
    }
    survey
}

impl Survey {
    fn decode(&mut self, bytes: &[u8], rva: u32, symbols: Option<&Symbols>) {
        let mut decoder = Decoder::with_ip(64, bytes, u64::from(rva), DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let start = decoder.position();
            decoder.decode_out(&mut instruction);
            let encoded = &bytes[start..decoder.position()];
            let place = || {
                let at = u32::try_from(instruction.ip()).unwrap_or(u32::MAX);
                let inside = symbols.and_then(|symbols| symbols.function_at(at));
                format!("{at:#x}{}", inside.map_or(String::new(), |name| format!(" in {name}")))
            };
            self.instructions += 1;
            if instruction.is_invalid() {
                self.undecoded.push(format!("{} ({encoded:02x?})", place()));
            } else if has_vector_prefix(encoded) {
                self.vector.push(format!("{:?} at {}", instruction.code(), place()));
            } else if uses_x87_mmx(&instruction, encoded) {
                self.x87_mmx.push(format!("{:?} at {}", instruction.code(), place()));
            }
        }
    }
}

/// The instruction's bytes after the legacy prefixes.
fn after_legacy_prefixes(encoded: &[u8]) -> &[u8] {
    let is_prefix = |byte: &u8| {
        matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
    };
    &encoded[encoded.iter().take_while(|byte| is_prefix(byte)).count()..]
}

/// Whether a valid instruction is encoded with VEX (C4, C5), EVEX (62) or XOP (8F with an opcode map, which is not POP).
/// In 64-bit mode C4, C5 and 62 mean nothing else (Intel SDM vol. 2, 2.3.5 and 2.7).
fn has_vector_prefix(encoded: &[u8]) -> bool {
    match after_legacy_prefixes(encoded) {
        [0xc4 | 0xc5 | 0x62, ..] => true,
        [0x8f, second, ..] => second & 0x1f >= 8,
        _ => false,
    }
}

/// Whether a valid instruction is of the x87 (D8 to DF), or names an MMX register, or is EMMS.
fn uses_x87_mmx(instruction: &Instruction, encoded: &[u8]) -> bool {
    let opcode = match after_legacy_prefixes(encoded) {
        [0x40..=0x4f, rest @ ..] => rest,
        all => all,
    };
    matches!(opcode, [0xd8..=0xdf, ..] | [0x0f, 0x77, ..])
        || (0..instruction.op_count()).any(|operand| {
            (Register::MM0 as u32..=Register::MM7 as u32).contains(&(instruction.op_register(operand) as u32))
        })
}

fn counted(survey: &Survey) -> String {
    format!("{} instructions in {} bytes", survey.instructions, survey.bytes)
}

pub(super) fn no_vector_extensions(subject: &Subject<'_>) -> Finding {
    Finding::passed_unless(&subject.code.vector, format!("none in {}", counted(&subject.code)))
}

pub(super) fn no_x87_mmx(subject: &Subject<'_>) -> Finding {
    Finding::passed_unless(&subject.code.x87_mmx, format!("none in {}", counted(&subject.code)))
}

pub(super) fn decodes(subject: &Subject<'_>) -> Finding {
    Finding::passed_unless(
        &subject.code.undecoded,
        format!("every byte, {} functions by the exception directory", subject.code.functions),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(encoded: &[u8]) -> bool {
        let instruction = Decoder::new(64, encoded, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid() && instruction.len() == encoded.len(), "{encoded:02x?}");
        has_vector_prefix(encoded)
    }

    fn x87_mmx(encoded: &[u8]) -> bool {
        let instruction = Decoder::new(64, encoded, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid() && instruction.len() == encoded.len(), "{encoded:02x?}");
        uses_x87_mmx(&instruction, encoded)
    }

    #[test]
    fn vector_encodings_are_told_from_legacy_ones() {
        assert!(vector(&[0xc5, 0xf8, 0x77]), "vzeroupper");
        assert!(vector(&[0xc4, 0xe2, 0x79, 0xdc, 0xc1]), "vaesenc xmm0, xmm0, xmm1");
        assert!(vector(&[0x62, 0xf1, 0x7c, 0x48, 0x10, 0xc1]), "vmovups zmm0, zmm1");
        assert!(vector(&[0x67, 0xc5, 0xf8, 0x10, 0x00]), "vmovups xmm0, [eax]");
        assert!(vector(&[0x8f, 0xe8, 0x78, 0xc2, 0xc1, 0x05]), "vprotd xmm0, xmm1, 5 (XOP)");
        assert!(!vector(&[0x66, 0x0f, 0x38, 0xdc, 0xc1]), "aesenc xmm0, xmm1");
        assert!(!vector(&[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x10]), "pclmulqdq xmm0, xmm1, 16");
        assert!(!vector(&[0x48, 0x89, 0xc4]), "mov rsp, rax");
        assert!(!vector(&[0x8f, 0xc0]), "pop rax");
        assert!(!vector(&[0x48, 0xb8, 0xc5, 0xf8, 0x77, 0x62, 0xc4, 0, 0, 0]), "mov rax, imm64");
    }

    #[test]
    fn x87_and_mmx_are_told_from_sse() {
        assert!(x87_mmx(&[0xd9, 0xe8]), "fld1");
        assert!(x87_mmx(&[0x0f, 0x77]), "emms");
        assert!(x87_mmx(&[0x0f, 0x6f, 0xc1]), "movq mm0, mm1");
        assert!(!x87_mmx(&[0x66, 0x0f, 0x6f, 0xc1]), "movdqa xmm0, xmm1");
        assert!(!x87_mmx(&[0x48, 0x89, 0xc4]), "mov rsp, rax");
    }
}
