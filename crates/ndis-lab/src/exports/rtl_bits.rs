//! Bit maps of ntoskrnl.exe.

use ndis_sys::{BOOLEAN, ULONG};

use super::{Call, leaves};
use crate::rules;

/// `RTL_BITMAP`.
#[repr(C)]
pub(crate) struct BitMap {
    bits: ULONG,
    buffer: *mut u32,
}

/// What a search answers that found nothing.
const NONE: ULONG = u32::MAX;

impl BitMap {
    /// # Safety
    /// The map was initialised over memory that holds its bits.
    unsafe fn get(&self, at: ULONG) -> bool {
        // SAFETY: callers stay below the number of bits.
        unsafe { self.buffer.add(at as usize / 32).read() >> (at % 32) & 1 != 0 }
    }

    /// # Safety
    /// As for [`BitMap::get`].
    unsafe fn put(&mut self, at: ULONG, value: bool) {
        // SAFETY: as above.
        unsafe {
            let word = self.buffer.add(at as usize / 32);
            let bit = 1 << (at % 32);
            word.write(if value { word.read() | bit } else { word.read() & !bit });
        }
    }

    /// # Safety
    /// As for [`BitMap::get`].
    unsafe fn all(&self, start: ULONG, count: ULONG, value: bool) -> bool {
        // SAFETY: as above.
        (start..start + count).all(|at| unsafe { self.get(at) } == value)
    }

    /// The first run of `count` bits of this value, looked for from `hint` on and then from the start.
    ///
    /// # Safety
    /// As for [`BitMap::get`].
    unsafe fn find(&self, count: ULONG, hint: ULONG, value: bool) -> ULONG {
        if count == 0 {
            // The documentation: the start of the byte that the hint lies in.
            return hint & !7;
        }
        let Some(last) = self.bits.checked_sub(count) else { return NONE };
        let hint = if hint > last { 0 } else { hint };
        // SAFETY: as above.
        (hint..=last).chain(0..hint).find(|at| unsafe { self.all(*at, count, value) }).unwrap_or(NONE)
    }
}

/// Checks that bits lie in the map.
fn within(call: &Call<'_>, map: &BitMap, start: ULONG, count: ULONG) -> bool {
    let good = start.checked_add(count).is_some_and(|end| end <= map.bits);
    if !good {
        call.violate(
            rules::PARAMETER,
            format!("{count} bits from bit {start} on of a map of {} bits", map.bits),
        );
    }
    good
}

/// Sets or clears bits.
///
/// # Safety
/// `map` is an initialised RTL_BITMAP.
unsafe fn change(call: &Call<'_>, map: *mut BitMap, start: ULONG, count: ULONG, value: bool) {
    // SAFETY: as the caller says; the bits were checked to lie in the map.
    unsafe {
        if within(call, &*map, start, count) {
            (start..start + count).for_each(|at| (*map).put(at, value));
        }
    }
}

/// Finds bits and turns them over.
///
/// # Safety
/// `map` is an initialised RTL_BITMAP.
unsafe fn take(map: *mut BitMap, count: ULONG, hint: ULONG, value: bool) -> ULONG {
    // SAFETY: as the caller says; what is found lies in the map.
    unsafe {
        let start = (*map).find(count, hint, value);
        if start != NONE {
            (start..start + count).for_each(|at| (*map).put(at, !value));
        }
        start
    }
}

/// Counts the bits of a value.
///
/// # Safety
/// `map` is an initialised RTL_BITMAP.
unsafe fn count(map: *const BitMap, value: bool) -> ULONG {
    // SAFETY: as the caller says.
    let count = unsafe { (0..(*map).bits).filter(|at| (*map).get(*at) == value).count() };
    u32::try_from(count).unwrap_or(NONE)
}

// Each function gets an RTL_BITMAP that RtlInitializeBitMap filled, over memory that holds its bits.
leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn RtlInitializeBitMap(_, map: *mut BitMap, buffer: *mut u32, bits: ULONG) {
        // SAFETY: the caller's structure.
        unsafe { map.write(BitMap { bits, buffer }) }
    }

    ANY fn RtlClearAllBits(call, map: *mut BitMap) {
        // SAFETY: see above.
        unsafe { change(call, map, 0, (*map).bits, false) }
    }

    ANY fn RtlSetAllBits(call, map: *mut BitMap) {
        // SAFETY: see above.
        unsafe { change(call, map, 0, (*map).bits, true) }
    }

    ANY fn RtlSetBits(call, map: *mut BitMap, start: ULONG, count: ULONG) {
        // SAFETY: see above.
        unsafe { change(call, map, start, count, true) }
    }

    ANY fn RtlClearBits(call, map: *mut BitMap, start: ULONG, count: ULONG) {
        // SAFETY: see above.
        unsafe { change(call, map, start, count, false) }
    }

    ANY fn RtlSetBit(call, map: *mut BitMap, at: ULONG) {
        // SAFETY: see above.
        unsafe { change(call, map, at, 1, true) }
    }

    ANY fn RtlClearBit(call, map: *mut BitMap, at: ULONG) {
        // SAFETY: see above.
        unsafe { change(call, map, at, 1, false) }
    }

    ANY fn RtlTestBit(call, map: *const BitMap, at: ULONG) -> BOOLEAN {
        // SAFETY: see above; the bit was checked to lie in the map.
        unsafe { u8::from(within(call, &*map, at, 1) && (*map).get(at)) }
    }

    ANY fn RtlAreBitsSet(_, map: *const BitMap, start: ULONG, count: ULONG) -> BOOLEAN {
        // SAFETY: see above.
        unsafe {
            let inside = count > 0 && start.checked_add(count).is_some_and(|end| end <= (*map).bits);
            u8::from(inside && (*map).all(start, count, true))
        }
    }

    ANY fn RtlAreBitsClear(_, map: *const BitMap, start: ULONG, count: ULONG) -> BOOLEAN {
        // SAFETY: see above.
        unsafe {
            let inside = count > 0 && start.checked_add(count).is_some_and(|end| end <= (*map).bits);
            u8::from(inside && (*map).all(start, count, false))
        }
    }

    ANY fn RtlFindClearBits(_, map: *const BitMap, count: ULONG, hint: ULONG) -> ULONG {
        // SAFETY: see above.
        unsafe { (*map).find(count, hint, false) }
    }

    ANY fn RtlFindSetBits(_, map: *const BitMap, count: ULONG, hint: ULONG) -> ULONG {
        // SAFETY: see above.
        unsafe { (*map).find(count, hint, true) }
    }

    ANY fn RtlFindClearBitsAndSet(_, map: *mut BitMap, count: ULONG, hint: ULONG) -> ULONG {
        // SAFETY: see above.
        unsafe { take(map, count, hint, false) }
    }

    ANY fn RtlFindSetBitsAndClear(_, map: *mut BitMap, count: ULONG, hint: ULONG) -> ULONG {
        // SAFETY: see above.
        unsafe { take(map, count, hint, true) }
    }

    ANY fn RtlNumberOfSetBits(_, map: *const BitMap) -> ULONG {
        // SAFETY: see above.
        unsafe { count(map, true) }
    }

    ANY fn RtlNumberOfClearBits(_, map: *const BitMap) -> ULONG {
        // SAFETY: see above.
        unsafe { count(map, false) }
    }

    ANY fn RtlFindNextForwardRunClear(_, map: *const BitMap, from: ULONG, start: *mut ULONG) -> ULONG {
        // SAFETY: see above, and the caller's variable.
        unsafe {
            let bits = (*map).bits;
            let begin = (from..bits).find(|at| !(*map).get(*at)).unwrap_or(bits);
            start.write(begin);
            (begin..bits).find(|at| (*map).get(*at)).unwrap_or(bits) - begin
        }
    }

    ANY fn RtlFindFirstRunClear(_, map: *const BitMap, start: *mut ULONG) -> ULONG {
        // SAFETY: see above, and the caller's variable.
        unsafe {
            let bits = (*map).bits;
            let begin = (0..bits).find(|at| !(*map).get(*at)).unwrap_or(bits);
            start.write(begin);
            (begin..bits).find(|at| (*map).get(*at)).unwrap_or(bits) - begin
        }
    }

    ANY fn RtlFindMostSignificantBit(_, set: u64) -> i8 {
        i8::try_from(set.checked_ilog2().map_or(-1, u32::cast_signed)).unwrap_or(-1)
    }

    ANY fn RtlFindLeastSignificantBit(_, set: u64) -> i8 {
        if set == 0 { -1 } else { i8::try_from(set.trailing_zeros()).unwrap_or(-1) }
    }

    ANY fn RtlNumberOfSetBitsUlongPtr(_, set: u64) -> ULONG {
        set.count_ones()
    }
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_from_the_hint_on_and_then_from_the_start() {
        let mut words = [0xffff_00ff_u32, 0xffff_fff0];
        let map = BitMap { bits: 64, buffer: words.as_mut_ptr() };
        // SAFETY: the map lies over 64 bits.
        unsafe {
            assert_eq!(map.find(8, 0, false), 8);
            assert_eq!(map.find(4, 20, false), 32);
            assert_eq!(map.find(8, 33, false), 8);
            assert_eq!(map.find(9, 0, false), NONE);
            assert_eq!(map.find(65, 0, true), NONE);
            assert_eq!(map.find(0, 13, true), 8);
            assert_eq!((count(&raw const map, false), count(&raw const map, true)), (12, 52));
        }
    }
}
