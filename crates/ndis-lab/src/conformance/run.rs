//! Runs cases: each in a thread and on a machine of its own, and none for longer than a limit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ndis_sys::DRIVER_INITIALIZE;

use super::context::Context;
use super::facts::Facts;
use super::{Case, CaseReport, Failure, Outcome, Report, Stop, Verdict, cases};
use crate::driver::Driver;
use crate::error::LabError;
use crate::lab::Lab;
use crate::objects::Keywords;
use crate::rules::KnownRules;

/// Cases that make so many adapters that pages to itself for each block of theirs cost too much time. What
/// they run, others run with such pages.
const UNGUARDED: &[&str] =
    &["parallel-initialize", "malformed-keywords", "keywords-out-of-range", "offload-keywords"];

/// Cases that are about several threads.
const THREADED: &[&str] = &["parallel-initialize", "pause-under-load", "sa-stress", "delete-sa-orders"];

/// Where the driver's code comes from.
enum Source {
    /// With the file that it came from, beside which its PDB lies.
    Image(Vec<u8>, Option<PathBuf>),
    Native(DRIVER_INITIALIZE),
}

/// A driver under test.
pub struct Subject {
    source: Source,
    name: String,
    /// The keywords of each of its adapters, as its INF and a user set them. Two adapters that are
    /// installed with them should be on one wire; if they are not, cases that need a wire do not apply.
    pub keywords: Keywords,
    /// What the driver is known to break; no case fails for that.
    pub known: KnownRules,
}

impl Subject {
    /// A driver image.
    pub fn image(bytes: Vec<u8>, name: &str) -> Self {
        Self::of(Source::Image(bytes, None), name)
    }

    /// A driver image in a file, named as the file; stacks are named by the PDB beside it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn file(path: &Path) -> std::io::Result<Self> {
        let name = path.file_stem().map_or("driver".into(), |stem| stem.to_string_lossy());
        Ok(Self::of(Source::Image(std::fs::read(path)?, Some(path.to_owned())), &name))
    }

    /// A driver that is linked into this program.
    ///
    /// # Safety
    /// As for [`Lab::load_native`].
    pub unsafe fn native(entry: DRIVER_INITIALIZE, name: &str) -> Self {
        Self::of(Source::Native(entry), name)
    }

    fn of(source: Source, name: &str) -> Self {
        Self { source, name: name.into(), keywords: Keywords::new(), known: KnownRules::default() }
    }

    pub(super) fn load(&self, lab: &Lab) -> Result<Driver, LabError> {
        match &self.source {
            Source::Image(bytes, path) => lab.load(bytes, &self.name, path.as_deref()),
            // SAFETY: who made the subject vouched for the entry point.
            Source::Native(entry) => unsafe { lab.load_native(*entry, &self.name) },
        }
    }

    /// There can be one native driver at a time in a process.
    fn is_native(&self) -> bool {
        matches!(self.source, Source::Native(_))
    }
}

/// A selection of cases for one driver.
pub struct Suite {
    subject: Arc<Subject>,
    filters: Vec<String>,
    patience: Duration,
    limit: Duration,
    jobs: usize,
    seed: Option<u64>,
}

impl Suite {
    /// All cases.
    pub fn new(subject: Subject) -> Self {
        let jobs = if subject.is_native() {
            1
        } else {
            std::thread::available_parallelism().map_or(1, |count| count.get().min(8))
        };
        Self {
            subject: Arc::new(subject),
            filters: Vec::new(),
            patience: Duration::from_secs(3),
            limit: Duration::from_mins(1),
            jobs,
            seed: None,
        }
    }

    /// Only cases whose number, name, area or title match one of these texts; case does not matter.
    #[must_use]
    pub fn filter(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.filters = texts.into_iter().map(|text| text.into().to_lowercase()).collect();
        self
    }

    /// How long the driver may take for one thing: 3 seconds unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a case may take before the driver counts as hung: 60 seconds unless set.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs each case on a deterministic machine: one thread, virtual time, and timers, DPCs and work items in an
    /// order that the seed decides, so that a run that fails repeats exactly. Cases that are about several
    /// threads do not apply.
    #[must_use]
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The cases that are selected.
    pub fn selected(&self) -> Vec<&'static Case> {
        cases::all().into_iter().filter(|case| matches(&self.filters, case)).collect()
    }

    /// Runs the selected cases and tells `observer` of each as it ends, not always in order.
    pub fn run(&self, observer: &mut (dyn FnMut(&CaseReport) + Send)) -> Report {
        let started = Instant::now();
        let selected = self.selected();
        let facts = self.probe();
        let next = AtomicUsize::new(0);
        let hung = Mutex::new(None);
        let done: Mutex<Vec<(usize, CaseReport)>> = Mutex::default();
        let observer = Mutex::new(observer);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(selected.len()) {
                scope.spawn(|| {
                    loop {
                        // Relaxed: only hands out numbers.
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = selected.get(at).copied() else { break };
                        let report = self.one(case, facts.as_ref(), &hung);
                        (lock(&observer))(&report);
                        lock(&done).push((at, report));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        let cases = done.into_iter().map(|(_, report)| report).collect();
        Report { cases, duration: started.elapsed() }
    }

    fn probe(&self) -> Option<Arc<Facts>> {
        let (subject, patience) = (self.subject.clone(), self.patience);
        let (send, receive) = channel();
        let work = move || {
            let context = Context::new(subject, None, patience, false, None);
            let facts = Facts::probe(&context);
            // Whatever is wrong here is wrong in a case again, and reported there.
            let _ = context.take_down();
            drop(context);
            let _ = send.send(facts);
        };
        spawn("probe", work)?;
        receive.recv_timeout(self.limit).ok()?.ok().map(Arc::new)
    }

    fn one(
        &self,
        case: &'static Case,
        facts: Option<&Arc<Facts>>,
        hung: &Mutex<Option<&'static str>>,
    ) -> CaseReport {
        let started = Instant::now();
        let report = |verdict| CaseReport { case, verdict, duration: started.elapsed() };
        let failed = |text: String| Verdict::Failed(Failure { seen: Some(text), ..Failure::default() });
        if let Some(other) = *lock(hung) {
            return report(failed(format!("not run: the driver hangs since case {other}")));
        }
        if self.seed.is_some() && THREADED.contains(&case.id) {
            return report(Verdict::NotApplicable(
                "it is about several threads; this machine has one".into(),
            ));
        }
        if let Some(facts) = facts {
            let lacking = case.needs.iter().find_map(|need| need.lacking(facts));
            if let Some(text) = lacking {
                return report(Verdict::NotApplicable(text.into()));
            }
        }
        let (send, receive) = channel();
        let (subject, facts, patience, seed) =
            (self.subject.clone(), facts.cloned(), self.patience, self.seed);
        let work = move || {
            let guarded = !UNGUARDED.contains(&case.id);
            let verdict = judge(case, &Context::new(subject, facts, patience, guarded, seed));
            let _ = send.send(verdict);
        };
        if spawn(case.id, work).is_none() {
            return report(failed("the host has no thread left".into()));
        }
        match receive.recv_timeout(self.limit) {
            Ok(verdict) => report(verdict),
            Err(RecvTimeoutError::Timeout) => {
                // The thread is lost in the driver; a native one is in the way of all further cases.
                if self.subject.is_native() {
                    *lock(hung) = Some(case.id);
                }
                report(failed(format!("the driver does not come back within {:?}", self.limit)))
            }
            Err(RecvTimeoutError::Disconnected) => report(failed("the case panicked in the lab".into())),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<()> {
    // A debug build of a driver and of the lab shares the stack.
    std::thread::Builder::new().name(name.into()).stack_size(8 << 20).spawn(work).ok().map(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panicking observer does not make the rest wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a case and looks at what the machine has to say of it.
fn judge(case: &Case, context: &Context) -> Verdict {
    let outcome = (case.run)(context);
    // After a shutdown nothing is expected of the driver any more; it is taken down all the same,
    // for the statics of a native one stay in this process.
    let shut_down = context.is_abandoned().then(|| context.lab.violations());
    let down = context.take_down();
    let (mut violations, down) = match shut_down {
        Some(violations) => (violations, Ok(())),
        None => (context.lab.violations(), down),
    };
    let mut left = if context.is_abandoned() || context.lab.bugcheck().is_some() || down.is_err() {
        Vec::new()
    } else {
        context.lab.census().grouped()
    };
    let elsewhere = context.elsewhere();
    violations.extend(elsewhere.violations);
    left.extend(elsewhere.left);
    let seen = match (&outcome, down) {
        (Err(Stop::Failed(text)), _) => Some(text.clone()),
        (_, Err(Stop::Failed(text))) => Some(format!("at its end: {text}")),
        _ => None,
    };
    if seen.is_some() || !violations.is_empty() || !left.is_empty() {
        return Verdict::Failed(Failure { seen, violations, left });
    }
    match outcome {
        Err(Stop::NotApplicable(text)) => Verdict::NotApplicable(text),
        _ => Verdict::Passed,
    }
}

fn matches(filters: &[String], case: &Case) -> bool {
    let number = case.number.to_string();
    let texts = [case.id, case.area, case.title].map(str::to_lowercase);
    // A number is just that, and no text.
    let is_number = |filter: &String| filter.bytes().all(|byte| byte.is_ascii_digit());
    let hit = |filter: &String| *filter == number || texts.iter().any(|text| text.contains(filter));
    filters.is_empty()
        || filters.iter().any(|filter| if is_number(filter) { *filter == number } else { hit(filter) })
}

/// For cases that run one thing after another on machines of their own.
pub(super) fn each<T>(items: impl IntoIterator<Item = T>, run: impl FnMut(T) -> Outcome) -> Outcome {
    items.into_iter().try_for_each(run)
}
