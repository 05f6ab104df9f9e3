//! The order in which locks are taken: who took B while A was held. Two orders that disagree are a
//! deadlock that has not happened yet.
//!
//! Only threads that hold a lock already come here, and each pair of locks is remembered once, with the
//! stack that took them first.

use std::collections::HashSet;
use std::ops::Range;

use parking_lot::Mutex;

use super::{AddressMap, Machine, thread};
use crate::rules;
use crate::symbols::CallStack;

/// What was taken while another lock was held.
struct Edge {
    to: usize,
    function: &'static str,
    handler: &'static str,
    stack: CallStack,
}

#[derive(Default)]
struct Graph {
    /// By the lock that was held.
    edges: AddressMap<Vec<Edge>>,
}

impl Graph {
    fn knows(&self, from: usize, to: usize) -> bool {
        self.edges.get(&from).is_some_and(|edges| edges.iter().any(|edge| edge.to == to))
    }

    /// The locks from `from` to `to`, both included, each of which was taken while the one before was
    /// held.
    fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut seen = HashSet::from([from]);
        let mut paths = vec![vec![from]];
        while let Some(path) = paths.pop() {
            let last = *path.last()?;
            if last == to {
                return Some(path);
            }
            for edge in self.edges.get(&last).into_iter().flatten() {
                if seen.insert(edge.to) {
                    paths.push(path.iter().copied().chain([edge.to]).collect());
                }
            }
        }
        None
    }
}

/// The order of all locks of a machine.
#[derive(Default)]
pub(crate) struct Order(Mutex<Graph>);

impl Order {
    /// The memory of these locks is gone, or holds new locks.
    pub(crate) fn forget(&self, range: &Range<usize>) {
        let mut graph = self.0.lock();
        if graph.edges.is_empty() {
            return;
        }
        graph.edges.retain(|from, edges| {
            edges.retain(|edge| !range.contains(&edge.to));
            !range.contains(from) && !edges.is_empty()
        });
    }
}

fn indented(stack: &CallStack) -> String {
    let lines: Vec<_> = stack.lines().into_iter().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

impl Machine {
    /// The calling thread is about to take a lock: reports it if other code takes it before one that
    /// this thread holds. Called before it waits, since a deadlock would keep the report for itself.
    pub(super) fn note_lock_order(&self, address: usize, kind: &'static str) {
        let held = thread::with(|thread| {
            let held = thread.held.borrow();
            if held.is_empty() {
                Vec::new()
            } else {
                held.iter().map(|lock| (lock.address, lock.kind)).collect()
            }
        });
        for (from, held_kind) in held {
            if from == address {
                continue;
            }
            let mut graph = self.locks.order.0.lock();
            if graph.knows(from, address) {
                continue;
            }
            let reverse = graph.path(address, from);
            let before = reverse.as_ref().and_then(|path| {
                let edge = graph.edges.get(path.first()?)?.iter().find(|edge| edge.to == path[1])?;
                Some((edge.function, edge.handler, edge.stack.clone()))
            });
            let stack = CallStack::here();
            let (function, handler) = thread::with(|thread| {
                (thread.function().unwrap_or_default(), thread.context().handler.unwrap_or_default())
            });
            graph.edges.entry(from).or_default().push(Edge {
                to: address,
                function,
                handler,
                stack: stack.clone(),
            });
            drop(graph);
            if let (Some(path), Some((function, handler, other))) = (reverse, before) {
                let way: Vec<_> = path.iter().map(|lock| format!("{lock:#x}")).collect();
                self.violate(
                    rules::LOCK_CYCLE,
                    format!(
                        "{kind} {address:#x} is taken while {held_kind} {from:#x} is held:\n{}\n  and the other way \
                         round, {}, by {function} in {handler}:\n{}",
                        indented(&stack),
                        way.join(" before "),
                        indented(&other),
                    ),
                );
            }
        }
    }
}
