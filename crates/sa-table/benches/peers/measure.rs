//! Clocks and medians.

use std::sync::OnceLock;
use std::time::Duration;

/// How long this thread has had a processor; elsewhere than on Unix, how long the process exists.
#[cfg(unix)]
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
pub(crate) fn thread_time() -> Duration {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// How many processors there are, or were when this was first called: by a thread that is not bound to one.
pub(crate) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Keeps this thread on one processor, if the system lets it: a scheduler that puts a reader and the writer on the same
/// one, while another is idle, would be measured instead of the tables.
pub(crate) fn stay_on(processor: usize) {
    #[cfg(target_os = "linux")]
    {
        let processors = processors();
        // SAFETY: all zero is an empty set of processors.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the number is below the 1,024 of a set.
        unsafe { libc::CPU_SET(processor % processors.min(1024), &mut set) };
        // SAFETY: `set` is valid, of that size, and 0 is this thread. If it fails, the thread stays free.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    }
    let _ = processor;
}

/// Runs `body`, which may bind this thread to a processor; afterwards the thread is as free as before.
#[cfg(target_os = "linux")]
pub(crate) fn unbound<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: all zero is an empty set of processors.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid, of that size, and 0 is this thread.
    let known = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } == 0;
    let result = body();
    if known {
        // SAFETY: as above.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    }
    result
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unbound<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// Calls `body` until this thread has had a processor for `at_least`, and gives the nanoseconds of that time per unit, of which a
/// call has `units`.
pub(crate) fn per_unit(at_least: Duration, units: usize, mut body: impl FnMut() -> u64) -> f64 {
    let begin = thread_time();
    let mut calls = 0u64;
    loop {
        std::hint::black_box(body());
        calls += 1;
        let time = thread_time() - begin;
        if time >= at_least {
            return time.as_nanos() as f64 / (calls * units as u64) as f64;
        }
    }
}

/// The median; not a number if there is nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
