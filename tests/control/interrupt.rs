//! One thread does its part just before a call that the driver makes in another: every order of the two, one by one.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Bench;

/// Time for a thread to get as far as it can: to its end, or to a lock that the interrupted thread holds.
const MOMENT: Duration = Duration::from_millis(2);

type Action = Box<dyn FnOnce() + Send>;

/// Does something once, in the middle of a handler of the driver.
pub struct Interrupt {
    countdown: Arc<AtomicU32>,
    action: Arc<Mutex<Option<Action>>>,
}

impl Interrupt {
    /// On this machine, in these handlers. One for each machine.
    pub fn new(bench: &Bench, handlers: &'static [&'static str]) -> Self {
        let (countdown, action) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None::<Action>)));
        let this = Self { countdown: countdown.clone(), action: action.clone() };
        bench.lab.on_call(move |call| {
            let there = call.handler.is_some_and(|handler| handlers.contains(&handler));
            // Relaxed: one such handler at a time runs while it is armed.
            if there && countdown.load(Relaxed) > 0 && countdown.fetch_sub(1, Relaxed) == 1 {
                let action = action.lock().unwrap().take();
                if let Some(action) = action {
                    action();
                }
            }
        });
        this
    }

    /// Does `work`, which enters the handler, with `action` before the `nth` call of the driver there, counted from 1, or after
    /// the work if it makes fewer. Gives what came of the work, whether there were so many, and what came of the action.
    pub fn at<W, T: Send + 'static>(
        &self,
        nth: u32,
        work: impl FnOnce() -> W,
        action: impl FnOnce() -> T + Send + 'static,
    ) -> (W, bool, T) {
        let result = Arc::new(Mutex::new(None));
        let keep = result.clone();
        *self.action.lock().unwrap() = Some(Box::new(move || *keep.lock().unwrap() = Some(action())));
        self.countdown.store(nth, Relaxed);
        let done = work();
        self.countdown.store(0, Relaxed);
        let left = self.action.lock().unwrap().take();
        let interrupted = left.is_none();
        if let Some(action) = left {
            action();
        }
        let result = result.lock().unwrap().take().expect("the action ran");
        (done, interrupted, result)
    }
}

/// Runs something on a thread of its own, and comes back when it has got as far as it can.
pub fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    as_far_as_it_can(std::thread::spawn(work))
}

/// Waits until a thread has ended, or cannot go on before this one does.
pub fn as_far_as_it_can<T>(thread: JoinHandle<T>) -> JoinHandle<T> {
    let start = Instant::now();
    while !thread.is_finished() && start.elapsed() < MOMENT {
        std::thread::yield_now();
    }
    thread
}
