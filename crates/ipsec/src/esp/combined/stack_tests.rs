//! What key set-up leaves on the stack, read from outside the language: no rule of Rust says what a frame holds when its
//! function has returned.

// Stack is what this is about.
#![allow(clippy::large_stack_arrays)]

extern crate std;

use core::hint::black_box;
use core::mem::MaybeUninit;
use std::boxed::Box;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::vec;
use std::vec::Vec;

use super::EspSa;
use crate::aead::Backend;
use crate::algorithm::Algorithm;
use crate::stack;

/// Bytes below the function under test that are looked at.
const WINDOW: usize = 96 << 10;
/// What they hold before.
const PAINT: u8 = 0xA5;
/// Bytes between the function under test and those that look.
const GAP: usize = 64 << 10;
/// The shortest piece of a secret that is looked for.
const PIECE: usize = 8;

#[inline(never)]
fn paint() {
    black_box(&mut [PAINT; WINDOW + 4096]);
}

/// Calls `function` far below the caller's frame, and returns where.
#[inline(never)]
fn call_below_a_gap(function: &mut dyn FnMut()) -> usize {
    let mut gap = [0_u8; GAP];
    black_box(&mut gap);
    paint();
    function();
    black_box(&mut gap).as_ptr().addr()
}

/// The stack that `function` may have used, as it left it; the lowest address first.
fn stack_after(mut function: impl FnMut()) -> Vec<u8> {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut stack = vec![0; WINDOW];
    let top = call_below_a_gap(&mut function);
    memory.read_exact_at(&mut stack, (top - WINDOW) as u64).unwrap();
    stack
}

/// How many bytes of the stack `function` wrote to, or skipped to write below.
fn stack_use(function: impl FnMut()) -> usize {
    let stack = stack_after(function);
    let lowest = stack.iter().position(|&byte| byte != PAINT).unwrap();
    assert!(lowest > 0, "the window is too small");
    WINDOW - lowest
}

/// Which of the secrets' pieces lie in `memory`.
fn found<'s>(memory: &[u8], secrets: &[&'s [u8]]) -> Vec<&'s [u8]> {
    let mut windows: Vec<&[u8]> = memory.windows(PIECE).collect();
    windows.sort_unstable();
    let pieces = secrets.iter().flat_map(|secret| secret.windows(PIECE));
    pieces.filter(|piece| windows.binary_search(piece).is_ok()).collect()
}

fn key_material(algorithm: Algorithm) -> Vec<u8> {
    // Another one for each, so that one length's remains are not taken for another's.
    let odd = 2 * u8::try_from(algorithm.key_len()).unwrap() + 1;
    (0..algorithm.key_material_len()).map(|i| u8::try_from(i).unwrap().wrapping_mul(odd) ^ 0x5A).collect()
}

/// Every algorithm on every back end that this CPU can run.
fn all() -> impl Iterator<Item = (Backend, Algorithm)> {
    Backend::available().iter().flat_map(|&backend| Algorithm::ALL.map(|algorithm| (backend, algorithm)))
}

fn new_slot() -> Box<MaybeUninit<EspSa>> {
    Box::new(MaybeUninit::uninit())
}

/// What is expanded from the key, as it lies in an SA: all that differs between SAs of two keys. What an SA has from the
/// stack it was made on does not, for they are made in one slot and on one stack, painted before.
fn expanded(backend: Backend, algorithm: Algorithm, material: &[u8]) -> Vec<Vec<u8>> {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut slot = new_slot();
    let mut image = |material: &[u8]| {
        stack_after(|| {
            EspSa::new_in_over(backend, &mut slot, algorithm, 1, material).unwrap();
        });
        let mut bytes = vec![0; size_of::<EspSa>()];
        memory.read_exact_at(&mut bytes, slot.as_ptr().addr() as u64).unwrap();
        bytes
    };
    let inverted: Vec<u8> = material.iter().map(|byte| !byte).collect();
    let (one, other) = (image(material), image(&inverted));
    let pieces = one.chunks_exact(PIECE).zip(other.chunks_exact(PIECE));
    // Eight times one byte (the portable schedule is bit-sliced) may lie on any stack.
    let telling = |piece: &[u8]| piece.iter().any(|&byte| byte != piece[0]);
    pieces
        .filter(|(piece, other)| piece != other && telling(piece))
        .map(|(piece, _)| piece.to_vec())
        .collect()
}

/// Runs `test` with the key, and with all that is expanded from it and of which no copy may stay.
fn with_secrets(test: impl Fn(Backend, Algorithm, &[u8], &[&[u8]])) {
    for (backend, algorithm) in all() {
        let material = key_material(algorithm);
        let expanded = expanded(backend, algorithm, &material);
        // The round keys and the hash key at least.
        assert!(
            expanded.len() * PIECE >= 16 * (algorithm.key_len() / 4 + 7 + 1),
            "{backend:?} {algorithm:?}"
        );
        let mut secrets: Vec<&[u8]> = expanded.iter().map(Vec::as_slice).collect();
        secrets.push(&material[..algorithm.key_len()]);
        test(backend, algorithm, &material, &secrets);
    }
}

#[test]
fn without_the_wipe_key_and_schedule_are_found() {
    with_secrets(|backend, algorithm, material, secrets| {
        let mut slot = new_slot();
        let stack = stack_after(|| {
            EspSa::set_up(backend, &mut slot, algorithm, 1, material).unwrap();
        });
        assert!(
            !found(&stack, secrets).is_empty(),
            "{backend:?} {algorithm:?}: the test cannot see what it looks for"
        );
    });
}

#[test]
fn a_new_sa_leaves_no_piece_of_key_or_schedule() {
    with_secrets(|backend, algorithm, material, secrets| {
        let mut slot = new_slot();
        let stack = stack_after(|| {
            EspSa::new_in_over(backend, &mut slot, algorithm, 1, material).unwrap();
        });
        assert_eq!(found(&stack, secrets), Vec::<&[u8]>::new(), "{backend:?} {algorithm:?}");
    });
}

#[test]
fn a_dropped_sa_leaves_no_piece_of_key_or_schedule() {
    with_secrets(|backend, algorithm, material, secrets| {
        // A vector drops in place.
        let mut slots = Vec::<EspSa>::with_capacity(1);
        EspSa::new_in_over(backend, &mut slots.spare_capacity_mut()[0], algorithm, 1, material).unwrap();
        // SAFETY: the one slot has just been written.
        #[allow(unsafe_code)]
        unsafe {
            slots.set_len(1);
        }
        let stack = stack_after(|| slots.clear());
        assert_eq!(found(&stack, secrets), Vec::<&[u8]>::new(), "{backend:?} {algorithm:?}");
    });
}

#[test]
fn the_wipe_reaches_below_key_set_up() {
    for (backend, algorithm) in all() {
        let wiped = stack_use(|| stack::wipe(stack::frames(backend)));
        if !cfg!(debug_assertions) {
            let limit = if backend == Backend::Portable { 9 << 10 } else { 5 << 10 };
            assert!(wiped <= limit, "{backend:?}: {wiped} bytes, more than `EspSa::new_in` says");
        }
        let material = key_material(algorithm);
        let mut slot = new_slot();
        let used = stack_use(|| {
            EspSa::set_up(backend, &mut slot, algorithm, 1, &material).unwrap();
        });
        std::eprintln!("{backend:?} {algorithm:?}: {used} bytes used, {wiped} wiped");
        assert!(used <= wiped, "{backend:?} {algorithm:?}: {used} bytes used, {wiped} wiped");
    }
}
