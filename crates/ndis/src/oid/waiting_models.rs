//! Models of [`Waiting`] for the loom model checker.
//!
//! ```text
//! RUSTFLAGS='--cfg loom' cargo test -p ndis --release --lib waiting
//! ```
//!
//! Conditions are relaxed atomics: the list alone is to make them visible. Links, and what who ended a node writes into it, are cells
//! whose accesses loom checks against each other. `LOOM_MAX_PREEMPTIONS` overrides the bound, which is 3.

extern crate std;

use std::ptr::NonNull;
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread;

use super::{Node, Waiting};

/// A waiting request. Which condition it waits for does not change while it waits.
struct Request {
    next: UnsafeCell<*mut Self>,
    condition: usize,
    ended: UnsafeCell<bool>,
}

// SAFETY: `next` alone is the link.
unsafe impl Node for Request {
    unsafe fn next(node: NonNull<Self>) -> *mut Self {
        // SAFETY: the caller's contract; loom panics if it is broken.
        unsafe { node.as_ref().next.with(|next| *next) }
    }

    unsafe fn set_next(node: NonNull<Self>, to: *mut Self) {
        // SAFETY: as above.
        unsafe { node.as_ref().next.with_mut(|next| *next = to) }
    }
}

// SAFETY: for the sake of the models: whether this is true is what loom checks.
unsafe impl Send for Request {}
// SAFETY: likewise.
unsafe impl Sync for Request {}

/// The list, the requests of a model, and what they wait for.
struct World {
    waiting: Waiting<Request>,
    requests: Vec<Request>,
    conditions: Vec<AtomicBool>,
}

impl World {
    /// One request for each of these conditions.
    fn new(conditions: &[usize]) -> Arc<Self> {
        let count = conditions.iter().max().map_or(0, |last| last + 1);
        let request = |&condition| Request {
            next: UnsafeCell::new(std::ptr::null_mut()),
            condition,
            ended: UnsafeCell::new(false),
        };
        Arc::new(Self {
            waiting: Waiting::new(),
            requests: conditions.iter().map(request).collect(),
            conditions: (0..count).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    fn add(&self, number: usize) {
        // SAFETY: each model adds a request once; they live as long as the list.
        unsafe { self.waiting.push(NonNull::from(&self.requests[number])) }
    }

    /// What DELETE_SA does: the requests are added, and then looked for.
    fn add_and_complete(&self, numbers: &[usize]) {
        numbers.iter().for_each(|&number| self.add(number));
        self.complete();
    }

    /// What the last packet does: the condition becomes true, and then who waits for it is looked for.
    fn happen_and_complete(&self, condition: usize) {
        self.conditions[condition].store(true, Relaxed);
        self.complete();
    }

    fn is_ready(&self, node: NonNull<Request>) -> bool {
        // SAFETY: requests live as long as the list.
        self.conditions[unsafe { node.as_ref() }.condition].load(Relaxed)
    }

    /// What who took a request out does; a second time, or at the same time as anybody's look at it, it panics.
    fn end(&self, node: NonNull<Request>) {
        // SAFETY: requests live as long as the list; loom panics if anybody else is at it.
        unsafe {
            node.as_ref().ended.with_mut(|ended| {
                assert!(!*ended, "ended twice");
                *ended = true;
            });
            // As of a request that its owner uses again at once.
            Node::set_next(node, NonNull::dangling().as_ptr());
        }
    }

    fn complete(&self) {
        while let Some(node) = self.waiting.look(|node| self.is_ready(node)) {
            self.end(node);
        }
    }

    fn cancel(&self, number: usize) {
        let wanted = NonNull::from(&self.requests[number]);
        if let Some(node) = self.waiting.take(|node| node == wanted) {
            self.end(node);
        }
        self.complete();
    }

    fn abort(&self) {
        while let Some(node) = self.waiting.take(|_| true) {
            self.end(node);
        }
    }

    fn assert_all_ended(&self) {
        for request in &self.requests {
            // SAFETY: the threads of the model are joined.
            assert!(request.ended.with(|ended| unsafe { *ended }), "overlooked");
        }
    }
}

/// Runs a model whose threads are these, in each order of starting them.
fn model<const N: usize>(conditions: &'static [usize], threads: [fn(&World); N], last: fn(&World)) {
    for turn in 0..N {
        let mut builder = Builder::new();
        builder.preemption_bound.get_or_insert(3);
        builder.check(move || {
            let world = World::new(conditions);
            let mut threads = threads;
            threads.rotate_left(turn);
            let handles: Vec<_> = threads[1..]
                .iter()
                .map(|&thread| {
                    let world = world.clone();
                    thread::spawn(move || thread(&world))
                })
                .collect();
            threads[0](&world);
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            last(&world);
        });
    }
}

/// DELETE_SA adds itself and looks; the last packet leaves and looks.
#[test]
fn what_happens_before_a_look_is_found() {
    let threads =
        [|world: &World| world.add_and_complete(&[0]), |world: &World| world.happen_and_complete(0)];
    model(&[0], threads, World::assert_all_ended);
}

/// Two packets end one request each, while both are added.
#[test]
fn each_look_counts() {
    let threads = [
        |world: &World| world.add_and_complete(&[0, 1]),
        |world: &World| world.happen_and_complete(0),
        |world: &World| world.happen_and_complete(1),
    ];
    model(&[0, 1], threads, World::assert_all_ended);
}

/// Two add at once what one packet ends.
#[test]
fn two_add() {
    let threads = [
        |world: &World| world.add_and_complete(&[0]),
        |world: &World| world.add_and_complete(&[1]),
        |world: &World| world.happen_and_complete(0),
    ];
    model(&[0, 0], threads, World::assert_all_ended);
}

/// A cancellation of one request, while the other one becomes ready: both end, each once, whoever has the baton.
#[test]
fn a_cancellation_pays_what_it_owes() {
    let add = |world: &World| {
        world.add_and_complete(&[0, 1]);
        world.cancel(0);
    };
    model(&[0, 1], [add, |world: &World| world.happen_and_complete(1)], World::assert_all_ended);
}

/// A cancellation waits for a look that has nothing to do with it: it does not miss the request because of that.
#[test]
fn a_cancellation_finds_its_request() {
    let add = |world: &World| {
        world.add(0);
        let wanted = NonNull::from(&world.requests[0]);
        let node = world.waiting.take(|node| node == wanted).expect("nobody else takes it");
        world.end(node);
        world.complete();
    };
    model(&[0], [add, World::complete, World::complete], World::assert_all_ended);
}

/// A reset ends what was added before; what comes later ends by its own look.
#[test]
fn a_reset_against_additions_and_looks() {
    let add = |world: &World| {
        world.add_and_complete(&[0]);
        world.add_and_complete(&[1]);
    };
    let last = |world: &World| {
        world.abort();
        world.assert_all_ended();
    };
    model(&[0, 0], [add, World::abort], last);
}

/// A reset that gives the baton back leaves nobody's look undone.
#[test]
fn a_reset_overlooks_nothing() {
    let threads = [
        |world: &World| world.add_and_complete(&[0]),
        |world: &World| world.happen_and_complete(0),
        World::abort,
    ];
    model(&[0], threads, World::assert_all_ended);
}
