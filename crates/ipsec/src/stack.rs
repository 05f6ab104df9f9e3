//! The stack below the caller, overwritten: key set-up leaves the key and its schedule there.

use zeroize::Zeroize;

use crate::aead::Backend;

/// Bytes of one frame's area. The frame stays below a page, from where on the compiler would call `__chkstk`.
const AREA_LEN: usize = 2048;

/// How many frames of [`wipe_frames`], one below the other, reach below what key set-up for `backend` uses:
/// `esp::combined::stack_tests` compares the two. Unoptimised, it moves the schedule through more and larger frames.
#[inline]
pub(crate) fn frames(backend: Backend) -> usize {
    match backend {
        _ if cfg!(debug_assertions) => 16,
        Backend::Sse => 2,
        Backend::Portable => 4,
    }
}

/// Overwrites `frames` times [`AREA_LEN`] bytes below the caller's frame. Call it from the function that called the one
/// whose frames shall be wiped, for both then start at the same address; that one must not be inlined.
///
/// Always inlined: a frame of its own would leave gaps where those of key set-up have data.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn wipe(frames: usize) {
    wipe_frames(frames);
    wipe_shifted(frames);
}

/// Between two frames' areas lie some bytes that are never written (alignment, and on Windows the home of four
/// arguments). A second pass, its areas somewhat lower, covers them.
#[inline(never)]
fn wipe_shifted(frames: usize) {
    let mut area = [0_u64; 32];
    area.zeroize();
    wipe_frames(frames);
    // A volatile write, so that the frame lasts as long as the call above.
    area[0].zeroize();
}

#[inline(never)]
fn wipe_frames(count: usize) {
    // `zeroize` writes volatile: what nobody reads is written all the same.
    let mut area = [0_u64; AREA_LEN / size_of::<u64>()];
    area.zeroize();
    if let Some(rest @ 1..) = count.checked_sub(1) {
        wipe_frames(rest);
        // As above: without it the call would be a jump, and every area the same.
        area[0].zeroize();
    }
}
