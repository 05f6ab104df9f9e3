//! Fault injection: any function that can fail on Windows can be made to.
//!
//! [`Search`] is systematic: each distinct call stack that reaches such a function fails once, in a run
//! of its own, until no new stack appears (the method of microsoft/usersim). A stack that only shows up
//! after a failure is tried together with that failure. [`random`] fails calls by chance.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::adapter::AdapterId;
use crate::lab::Lab;
use crate::symbols::CallStack;

/// A call that is about to succeed and may be made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPoint {
    /// Which such call this is, counted from 0 over the life of the lab.
    pub nth: u64,
    /// The function.
    pub function: &'static str,
    /// The driver's handler that calls it.
    pub handler: &'static str,
    /// The adapter that the handler was called for.
    pub adapter: Option<AdapterId>,
    /// Bytes asked for, or 0.
    pub size: usize,
    /// The pool tag, or 0.
    pub tag: u32,
}

/// Decides whether a call fails. It runs on the driver's thread and must not call the lab.
pub type FaultHook = dyn Fn(&FaultPoint) -> bool + Send + Sync;

/// A distinct way to a function that can fail.
#[derive(Debug, Clone)]
pub struct Site {
    /// Tells it from other sites, and is the same in every run of one build.
    pub id: u64,
    /// The function.
    pub function: &'static str,
    /// The driver's handler under which it was first seen.
    pub handler: &'static str,
    /// The driver's frames.
    pub stack: CallStack,
}

impl Site {
    /// The site of the call that a fault hook is asked about; to be called in the hook.
    pub fn of(point: &FaultPoint) -> Self {
        let stack = CallStack::here();
        // Where stacks cannot be walked, the handler has to do.
        let place = if stack.frames().is_empty() { hash(0, point.handler) } else { stack.id() };
        Self { id: hash(place, point.function), function: point.function, handler: point.handler, stack }
    }
}

/// FNV-1a, so that the number of a site is the same in every run.
fn hash(start: u64, text: &str) -> u64 {
    text.bytes().fold(start ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A systematic search. Take a [`Trial`], run the driver's life with it, give it back; repeat until
/// there is none.
#[derive(Debug)]
pub struct Search {
    sites: HashMap<u64, Site>,
    queue: VecDeque<Vec<u64>>,
    depth: usize,
    tried: HashSet<u64>,
}

impl Search {
    /// A search that combines up to `depth` failures in one run (1: only those that a good run meets).
    pub fn new(depth: usize) -> Self {
        // The first trial fails nothing and finds the first sites.
        Self { sites: HashMap::new(), queue: VecDeque::from([Vec::new()]), depth, tried: HashSet::new() }
    }

    /// The next trial. The first one fails nothing.
    pub fn next_trial(&mut self) -> Option<Trial> {
        let plan = self.queue.pop_front()?;
        let state = TrialState { remaining: plan.iter().copied().collect(), ..TrialState::default() };
        Some(Trial { plan, state: Arc::new(Mutex::new(state)) })
    }

    /// Learns from a trial that was run: new sites are queued.
    pub fn learn(&mut self, trial: &Trial) {
        let state = trial.state.lock();
        self.tried.extend(trial.plan.iter().copied());
        for site in &state.seen {
            if self.sites.contains_key(&site.id) {
                continue;
            }
            self.sites.insert(site.id, site.clone());
            if trial.plan.len() < self.depth {
                let mut plan = trial.plan.clone();
                plan.push(site.id);
                self.queue.push_back(plan);
            }
        }
    }

    /// Sites that were found so far.
    pub fn found(&self) -> usize {
        self.sites.len()
    }

    /// Trials that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// A site by its number.
    pub fn site(&self, id: u64) -> Option<&Site> {
        self.sites.get(&id)
    }

    /// Sites that no trial failed, because more failures than the depth lie before them.
    pub fn beyond_depth(&self) -> usize {
        let waiting: HashSet<u64> = self.queue.iter().filter_map(|plan| plan.last().copied()).collect();
        self.sites.keys().filter(|id| !self.tried.contains(id) && !waiting.contains(id)).count()
    }
}

/// One run of the search: some sites fail once each, in their order.
#[derive(Debug, Clone)]
pub struct Trial {
    plan: Vec<u64>,
    state: Arc<Mutex<TrialState>>,
}

#[derive(Debug, Default)]
struct TrialState {
    remaining: VecDeque<u64>,
    known: HashSet<u64>,
    seen: Vec<Site>,
    injected: Vec<Site>,
}

impl Trial {
    /// Puts the trial in force; [`Lab::clear_faults`] ends it.
    pub fn arm(&self, lab: &Lab) {
        let state = self.state.clone();
        lab.set_faults(move |point| {
            let site = Site::of(point);
            let mut state = state.lock();
            let fails = state.remaining.front() == Some(&site.id);
            if fails {
                state.remaining.pop_front();
                state.injected.push(site.clone());
            }
            if state.known.insert(site.id) {
                state.seen.push(site);
            }
            fails
        });
    }

    /// The sites that it is to fail, in their order.
    pub fn plan(&self) -> &[u64] {
        &self.plan
    }

    /// What it did fail.
    pub fn injected(&self) -> Vec<Site> {
        self.state.lock().injected.clone()
    }
}

/// Fails `percent` of the calls that can fail, by chance; says which did, through what it returns.
pub fn random(lab: &Lab, seed: u64, percent: u8) -> Arc<Mutex<Vec<Site>>> {
    let injected = Arc::new(Mutex::new(Vec::new()));
    let (log, generator) = (injected.clone(), Mutex::new(fastrand::Rng::with_seed(seed)));
    lab.set_faults(move |point| {
        let fails = generator.lock().u8(..100) < percent;
        if fails {
            log.lock().push(Site::of(point));
        }
        fails
    });
    injected
}
