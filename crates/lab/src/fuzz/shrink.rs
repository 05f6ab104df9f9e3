//! Makes a failing script small, keeping the way in which it fails.

use super::step::{self, Action, Bytes, Failure, Step};
use crate::life::Subject;

/// Plays at most so many scripts; then what is left is small enough.
const MOST_TRIALS: u32 = 600;

/// The smallest script found that breaks the same rule.
pub(super) fn shrink(subject: &Subject, steps: Vec<Step>, failure: Failure) -> (Vec<Step>, Failure) {
    let mut shrinker = Shrinker { subject, steps, failure, trials: 0 };
    // What comes after the failure is of no account.
    let end = (shrinker.failure.step + 1).min(shrinker.steps.len());
    let head = shrinker.steps[..end].to_vec();
    shrinker.accept(head);
    shrinker.drop_steps();
    shrinker.simplify();
    shrinker.drop_steps();
    (shrinker.steps, shrinker.failure)
}

struct Shrinker<'a> {
    subject: &'a Subject,
    steps: Vec<Step>,
    failure: Failure,
    trials: u32,
}

impl Shrinker<'_> {
    /// Takes a smaller script if it fails in the same way.
    fn accept(&mut self, steps: Vec<Step>) -> bool {
        if self.trials >= MOST_TRIALS {
            return false;
        }
        self.trials += 1;
        match step::play(self.subject, &steps, &mut 0) {
            Err(failure) if failure.rule == self.failure.rule => {
                (self.steps, self.failure) = (steps, failure);
                true
            }
            _ => false,
        }
    }

    /// Delta debugging: leaves out ever smaller parts.
    fn drop_steps(&mut self) {
        let mut part = self.steps.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            let mut dropped = false;
            while at < self.steps.len() {
                let mut without = self.steps.clone();
                without.drain(at..(at + part).min(without.len()));
                if self.accept(without) {
                    dropped = true;
                } else {
                    at += part;
                }
            }
            if part > 1 {
                part /= 2;
            } else if !dropped {
                part = 0;
            }
        }
    }

    /// Makes each step simpler.
    fn simplify(&mut self) {
        for at in 0..self.steps.len() {
            let mut smaller = true;
            while smaller {
                smaller = simpler(&self.steps[at]).into_iter().any(|step| {
                    let mut steps = self.steps.clone();
                    steps[at] = step;
                    self.accept(steps)
                });
            }
        }
    }
}

/// Steps that are simpler than this one in one respect, each strictly smaller.
fn simpler(step: &Step) -> Vec<Step> {
    let with = |action: Action| Step { adapter: step.adapter, action };
    let halves = |bytes: &Bytes| {
        let half = bytes.0.len() / 2;
        (!bytes.0.is_empty()).then(|| Bytes(bytes.0[..half].to_vec()))
    };
    let mut found = Vec::new();
    match &step.action {
        Action::Oid(request) => {
            if let Some(input) = halves(&request.input) {
                found.push(with(Action::Oid(super::step::Request { input, ..request.clone() })));
            }
            if request.misalign > 0 {
                found.push(with(Action::Oid(super::step::Request { misalign: 0, ..request.clone() })));
            }
            if request.at_dispatch {
                found.push(with(Action::Oid(super::step::Request { at_dispatch: false, ..request.clone() })));
            }
        }
        Action::Send(lists, dispatch) => {
            for at in 0..lists.len() {
                if lists.len() > 1 {
                    let mut fewer = lists.clone();
                    fewer.remove(at);
                    found.push(with(Action::Send(fewer, *dispatch)));
                }
                if lists[at].frames.len() > 1 {
                    let mut fewer = lists.clone();
                    fewer[at].frames.pop();
                    found.push(with(Action::Send(fewer, *dispatch)));
                }
                if lists[at].frames.iter().any(|frame| !frame.split.is_empty()) {
                    let mut fewer = lists.clone();
                    fewer[at].frames.iter_mut().for_each(|frame| frame.split.clear());
                    found.push(with(Action::Send(fewer, *dispatch)));
                }
            }
            if *dispatch {
                found.push(with(Action::Send(lists.clone(), false)));
            }
        }
        Action::AddSaList(sas) if sas.len() > 1 => {
            for at in 0..sas.len() {
                let mut fewer = sas.clone();
                fewer.remove(at);
                found.push(with(Action::AddSaList(fewer)));
            }
        }
        Action::DeleteSas(handles) if handles.len() > 1 => {
            for at in 0..handles.len() {
                let mut fewer = handles.clone();
                fewer.remove(at);
                found.push(with(Action::DeleteSas(fewer)));
            }
        }
        _ => {}
    }
    found
}
