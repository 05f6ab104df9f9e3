//! Rules that a driver is known to break: of these nothing is made but a count, so that what is new stands out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ALL, BUGCHECK, Rule, Violation};

/// A way in which a driver is known to break a rule.
///
/// In words it is `RULE`, the rule's identifier, or `RULE:TEXT`: only what is told with this text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Known {
    rule: &'static Rule,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum How {
    /// What is told holds this text.
    Told(String),
    /// The same handler and function, and the same told but for numbers.
    Like { handler: Option<&'static str>, function: Option<&'static str>, detail: String },
}

/// What names no rule that can be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KnownError {
    /// There is no such rule.
    #[error("there is no rule {0:?}{near}", near = near(.0))]
    NoRule(String),
    /// Nothing comes after a bug check.
    #[error("a bug check ends the machine: it cannot be passed over")]
    BugCheck,
}

/// Rules that begin as a wrong identifier does.
fn near(name: &str) -> String {
    let start = name.split('-').next().unwrap_or_default();
    let near: Vec<_> =
        ALL.iter().map(|rule| rule.id).filter(|id| id.split('-').next() == Some(start)).collect();
    if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) }
}

impl Known {
    /// A violation just like this one, whatever numbers are in it.
    pub fn like(violation: &Violation) -> Self {
        let Violation { rule, handler, function, ref detail, .. } = *violation;
        Self { rule, how: How::Like { handler, function, detail: without_numbers(detail) } }
    }

    /// Whether a violation is what is meant.
    pub fn covers(&self, violation: &Violation) -> bool {
        self.rule == violation.rule
            && match &self.how {
                How::Told(text) => text.is_empty() || violation.to_string().contains(text.as_str()),
                How::Like { handler, function, detail } => {
                    *handler == violation.handler
                        && *function == violation.function
                        && *detail == without_numbers(&violation.detail)
                }
            }
    }
}

impl FromStr for Known {
    type Err = KnownError;
    fn from_str(text: &str) -> Result<Self, KnownError> {
        let (id, told) = text.split_once(':').unwrap_or((text, ""));
        let rule = ALL.iter().copied().find(|rule| rule.id == id);
        match rule.ok_or_else(|| KnownError::NoRule(id.to_owned()))? {
            rule if rule == BUGCHECK => Err(KnownError::BugCheck),
            rule => Ok(Self { rule, how: How::Told(told.to_owned()) }),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.id)?;
        match &self.how {
            How::Told(text) if text.is_empty() => Ok(()),
            How::Told(text) => write!(f, ":{text}"),
            How::Like { detail, .. } => write!(f, ":{detail}"),
        }
    }
}

/// A text without its numbers, decimal and hexadecimal: addresses, counts and lengths differ from life to life.
pub fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        // A digit within a word is part of a name: NDIS 6.0's functions, IPv4.
        let named = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hexadecimal = number.strip_prefix("0x");
        let digits = hexadecimal.unwrap_or(number);
        let end = digits
            .find(|c: char| if hexadecimal.is_some() { !c.is_ascii_hexdigit() } else { !c.is_ascii_digit() });
        let (digits, after) = digits.split_at(end.unwrap_or(digits.len()));
        plain.push_str(before);
        plain.push_str(if named { digits } else { "#" });
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// All that a driver is known to break, and how often it did. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct KnownRules(Vec<(Known, Arc<AtomicU64>)>);

impl KnownRules {
    /// These.
    pub fn new(known: impl IntoIterator<Item = Known>) -> Self {
        Self(known.into_iter().map(|known| (known, Arc::default())).collect())
    }

    /// These, which go on to count together with their clones, and more.
    #[must_use]
    pub fn and(&self, more: impl IntoIterator<Item = Known>) -> Self {
        Self(self.0.iter().cloned().chain(Self::new(more).0).collect())
    }

    /// Whether a violation is known; counts it.
    pub(crate) fn take(&self, violation: &Violation) -> bool {
        let found = self.0.iter().find(|(known, _)| known.covers(violation));
        if let Some((_, times)) = found {
            // Relaxed: a count, read after the threads were joined.
            times.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Each with the number of times that it was broken.
    pub fn times(&self) -> impl Iterator<Item = (&Known, u64)> {
        // Relaxed: as above.
        self.0.iter().map(|(known, times)| (known, times.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;
    use crate::symbols::CallStack;

    fn violation(rule: &'static Rule, detail: &str) -> Violation {
        Violation {
            rule,
            function: Some("NdisMSetMiniportAttributes"),
            handler: Some("MiniportInitializeEx"),
            irql: 0,
            adapter: None,
            state: None,
            detail: detail.into(),
            stack: CallStack::default(),
            past: Vec::new(),
        }
    }

    #[test]
    fn a_rule_is_known_by_its_identifier_and_by_what_is_told() {
        let wide: Known = "attribute-header".parse().unwrap();
        let narrow: Known = "attribute-header:NDIS_PM_CAPABILITIES".parse().unwrap();
        let power = violation(rules::ATTRIBUTE_HEADER, "NDIS_PM_CAPABILITIES has type 0x0");
        let offload = violation(rules::ATTRIBUTE_HEADER, "NDIS_OFFLOAD has type 0x0");
        let order = violation(rules::ATTRIBUTE_ORDER, "NDIS_PM_CAPABILITIES has type 0x0");
        assert!(wide.covers(&power) && wide.covers(&offload) && !wide.covers(&order));
        assert!(narrow.covers(&power) && !narrow.covers(&offload) && !narrow.covers(&order));
        assert_eq!(narrow.to_string().parse(), Ok(narrow));
        let error = "attribute-haeder".parse::<Known>().unwrap_err();
        assert!(error.to_string().contains("attribute-header"), "{error}");
        assert_eq!("bugcheck".parse::<Known>(), Err(KnownError::BugCheck));
    }

    #[test]
    fn violations_are_alike_but_for_their_numbers() {
        let lock = |address: &str| violation(rules::LOCK_ORDER, &format!("KSPIN_LOCK {address} gave 1 of 2"));
        let known = Known::like(&lock("0x7f40"));
        assert!(known.covers(&lock("0x55ab108")));
        assert!(!known.covers(&violation(rules::LOCK_ORDER, "NDIS_SPIN_LOCK 0x1 gave 1 of 2")));
        assert!(!known.covers(&Violation { handler: Some("MiniportHaltEx"), ..lock("0x1") }));
        assert_eq!(without_numbers("IPv4 at 0xfF, 12 of 3"), "IPv4 at #, # of #");
        assert_eq!(without_numbers("802.3"), "#.#");
    }

    #[test]
    fn clones_count_together() {
        let known = KnownRules::new(["lock-order".parse().unwrap(), "pool-flags".parse().unwrap()]);
        let clone = known.clone();
        assert!(
            clone.take(&violation(rules::LOCK_ORDER, "")) && known.take(&violation(rules::LOCK_ORDER, ""))
        );
        assert!(!known.take(&violation(rules::LOCK_CYCLE, "")));
        let more = known.and(["lock-cycle".parse().unwrap()]);
        assert!(more.take(&violation(rules::LOCK_CYCLE, "")) && more.take(&violation(rules::LOCK_ORDER, "")));
        assert_eq!(known.times().map(|(_, times)| times).collect::<Vec<_>>(), [3, 0]);
    }
}
