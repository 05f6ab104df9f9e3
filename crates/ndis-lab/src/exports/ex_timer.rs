//! EX_TIMER objects: ExAllocateTimer and its kin.
//!
//! Such an object is a block of the pool that begins with a KTIMER, which can be waited for, and holds the DPC that calls
//! the driver's callback. It is deleted once, and not left behind.

use ndis_sys::{KDPC, LARGE_INTEGER, PVOID, ULONG};

use super::{Call, exports, outside};
use crate::machine::pool::PoolKind;
use crate::machine::{APC, ktimer, thread};
use crate::rules;

/// `'ExTm'`
const TAG: ULONG = u32::from_le_bytes(*b"ExTm");
/// `EX_TIMER_HIGH_RESOLUTION`, `…_NO_WAKE` and `…_NOTIFICATION`.
const HIGH_RESOLUTION: ULONG = 4;
const NO_WAKE: ULONG = 8;
const NOTIFICATION: ULONG = 1 << 31;

/// What follows the KTIMER.
#[repr(C)]
struct Rest {
    dpc: KDPC,
    callback: usize,
    context: usize,
    attributes: ULONG,
    /// It goes when it has fired.
    last: bool,
}

const SIZE: usize = ktimer::SIZE + size_of::<Rest>();

/// The parts of a timer behind its KTIMER; what is no timer is reported.
fn rest(call: &Call<'_>, timer: PVOID) -> Option<*mut Rest> {
    let address = timer as usize;
    match call.pool.find(address) {
        Some((block, true)) if block.tag == TAG && block.address == address && block.size == SIZE => {
            Some((address + ktimer::SIZE) as *mut Rest)
        }
        Some((block, false)) => {
            call.violate(rules::TIMER_USE, format!("EX_TIMER {timer:p} was deleted before: {block}"));
            None
        }
        _ => {
            call.violate(rules::TIMER_USE, format!("{timer:p} is no EX_TIMER"));
            None
        }
    }
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn ExAllocateTimer(call, callback: PVOID, context: PVOID, attributes: ULONG) -> PVOID {
        let both = HIGH_RESOLUTION | NO_WAKE;
        if attributes & !(both | NOTIFICATION) != 0 || attributes & both == both {
            call.violate(rules::PARAMETER, format!("Attributes {attributes:#x}"));
        }
        let block = call.allocate(SIZE, TAG, PoolKind::NonPaged, true);
        if block.is_null() {
            return Ok(block.cast());
        }
        let timer = block as usize;
        let kind = if attributes & NOTIFICATION == 0 { ktimer::SYNCHRONIZATION } else { ktimer::NOTIFICATION };
        call.initialize_ktimer(timer, kind)?;
        let rest = (timer + ktimer::SIZE) as *mut Rest;
        // SAFETY: a fresh block, as large as both.
        unsafe {
            (*rest).callback = callback as usize;
            (*rest).context = context as usize;
            (*rest).attributes = attributes;
            call.initialize_dpc(&raw mut (*rest).dpc, Some(ExpTimerDpcRoutine), timer as PVOID);
        }
        Ok(timer as PVOID)
    }

    UP_TO_DISPATCH fn ExSetTimer(call, timer: PVOID, due: LARGE_INTEGER, period: i64, _parameters: PVOID) -> u8 {
        let Some(rest) = rest(call, timer) else { return Ok(0) };
        // SAFETY: a timer that lives.
        let (attributes, dpc) = unsafe { ((*rest).attributes, &raw mut (*rest).dpc) };
        if attributes & HIGH_RESOLUTION != 0 && due.QuadPart > 0 {
            let text = "a timer of high resolution is set to an absolute time";
            call.violate(rules::TIMER_USE, text);
            return Err(call.stop(0xc7, [0, timer as u64, 0, 0], text));
        }
        if !(0..=i64::from(i32::MAX)).contains(&period) {
            call.violate(rules::PARAMETER, format!("Period {period}"));
        }
        // In milliseconds: a shorter one is the shortest that there is.
        let milliseconds = period.clamp(0, i64::from(i32::MAX)).div_euclid(10_000).max(i64::from(period > 0));
        call.start_ktimer(timer as usize, due, i32::try_from(milliseconds).unwrap_or(i32::MAX), dpc).map(u8::from)
    }

    UP_TO_DISPATCH fn ExCancelTimer(call, timer: PVOID, parameters: PVOID) -> u8 {
        if !parameters.is_null() {
            call.violate(rules::PARAMETER, "Parameters is not NULL");
        }
        let Some(_) = rest(call, timer) else { return Ok(0) };
        call.stop_ktimer(timer as usize).map(u8::from)
    }

    UP_TO_DISPATCH fn ExDeleteTimer(call, timer: PVOID, cancel: u8, wait: u8, _parameters: PVOID) -> u8 {
        if wait != 0 && cancel == 0 {
            call.violate(rules::TIMER_USE, "Wait without Cancel");
            return Err(call.stop(0xc7, [0, timer as u64, 0, 0], "Wait without Cancel"));
        }
        let Some(rest) = rest(call, timer) else { return Ok(0) };
        if wait != 0 && thread::irql() > APC {
            call.violate(rules::IRQL_WAIT, "ExDeleteTimer with Wait");
            return Err(call.stop(0xa, [0; 4], "a wait at DISPATCH_LEVEL"));
        }
        if cancel == 0 && call.ktimer_is_set(timer as usize) {
            // SAFETY: a timer that lives.
            unsafe { (*rest).last = true };
            return Ok(0);
        }
        let was_set = call.stop_ktimer(timer as usize)?;
        if wait != 0 {
            call.flush_dpcs()?;
        } else {
            // SAFETY: as above. A DPC that waits is withdrawn: the block goes.
            call.remove_dpc(unsafe { &raw mut (*rest).dpc });
        }
        call.free(timer as usize, Some(TAG))?;
        Ok(u8::from(was_set && cancel != 0))
    }
} }

// The deferred routine of each timer. No driver imports it.
exports! { ROUTINE in "" {
    AT_DISPATCH fn ExpTimerDpcRoutine(call, _dpc: *mut KDPC, timer: PVOID, _first: PVOID, _second: PVOID) {
        type Callback = unsafe extern "win64" fn(PVOID, PVOID);
        let rest = (timer as usize + ktimer::SIZE) as *mut Rest;
        // SAFETY: the DPC of a timer that was not deleted, which would have withdrawn it or waited for it.
        let (callback, context, last) = unsafe { ((*rest).callback, (*rest).context, (*rest).last) };
        if callback != 0 {
            // SAFETY: the driver's callback with its two arguments; this frame owns nothing.
            unsafe {
                let callback: Callback = std::mem::transmute(callback);
                outside(|| callback(timer, context as PVOID));
            }
        }
        if last {
            call.stop_ktimer(timer as usize)?;
            call.free(timer as usize, Some(TAG))?;
        }
        Ok(())
    }
} }
