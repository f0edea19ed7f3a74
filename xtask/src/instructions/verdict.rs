//! Whether a count is accepted.

use super::baselines::Baselines;
use std::fmt;

/// A rise above this share needs a reason.
pub(super) const RISE_MAX: f64 = 0.03;

/// A fall of more than this is worth keeping as the new baseline.
const FALL_WORTH: f64 = 0.03;

/// What a count is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reference {
    /// The baseline of this machine.
    Stored(f64),
    /// What the other commit was just found to take.
    Counted(f64),
}

impl Reference {
    pub(super) fn count(self) -> f64 {
        match self {
            Self::Stored(count) | Self::Counted(count) => count,
        }
    }
}

/// What is said of one case.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Passed(String),
    Failed(String),
    /// There is nothing to compare with.
    Alone,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(text) => formatter.write_str(text),
            Self::Failed(text) => write!(formatter, "FAIL: {text}"),
            Self::Alone => formatter.write_str("nothing to compare with"),
        }
    }
}

/// How much more `count` is than `reference`, as a share of it.
pub(super) fn rise(count: f64, reference: f64) -> f64 {
    count / reference - 1.0
}

/// Compares a count with its reference. An entry of the baselines is a reason when it is new since `before` and says why. It
/// has moved the baseline of its own machine; on a machine without one, it excuses a rise from the other commit. An entry
/// that rose without a new reason fails, whatever was counted.
pub(super) fn judge(
    case: &str,
    count: f64,
    reference: Option<Reference>,
    stored: &Baselines,
    before: &Baselines,
) -> Verdict {
    let mut reason = None;
    for (entry, then) in stored.history(case, before) {
        let says_why = !entry.why.trim().is_empty();
        if says_why && then.is_none_or(|then| then.why != entry.why) {
            reason = Some(entry.why.as_str());
        } else if then.is_some_and(|then| rise(entry.count, then.count) > RISE_MAX) {
            return Verdict::Failed("the baseline rose, and its line does not say why".into());
        }
    }
    let Some(reference) = reference else {
        return Verdict::Alone;
    };
    let rise = rise(count, reference.count());
    if rise > RISE_MAX {
        return match (reference, reason) {
            (Reference::Counted(_), Some(why)) => Verdict::Passed(format!("more, because: {why}")),
            _ => Verdict::Failed("more, and no reason".into()),
        };
    }
    if rise < -FALL_WORTH {
        return Verdict::Passed("less; --bless keeps it so".into());
    }
    Verdict::Passed("ok".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baselines(machines: &[(&str, f64, &str)]) -> Baselines {
        let machine = |(cpu, count, why): &(&str, f64, &str)| {
            format!(
                "[[machine]]\ntoolchain = 't'\nlibc = 'l'\nvalgrind = 'v'\ncpu = '{cpu}'\n\
                 [machine.cases]\ncase = {{ count = {count:.1}, why = '{why}' }}\n"
            )
        };
        let text: String = machines.iter().map(machine).collect();
        Baselines::parse(&text).expect("a valid file")
    }

    fn check(
        count: f64,
        reference: Option<Reference>,
        stored: &[(&str, f64, &str)],
        before: &[(&str, f64, &str)],
        passes: Option<bool>,
    ) {
        let verdict = judge(
            "case",
            count,
            reference,
            &baselines(stored),
            &baselines(before),
        );
        let found = match &verdict {
            Verdict::Passed(_) => Some(true),
            Verdict::Failed(_) => Some(false),
            Verdict::Alone => None,
        };
        assert_eq!(
            found, passes,
            "{count} {reference:?} {stored:?} {before:?}: {verdict}"
        );
    }

    #[test]
    fn a_rise_needs_a_reason() {
        let old: &[_] = &[("a", 100.0, "first")];
        let (stored, counted) = (
            |n| Some(Reference::Stored(n)),
            |n| Some(Reference::Counted(n)),
        );
        check(102.9, stored(100.0), old, old, Some(true));
        check(103.1, stored(100.0), old, old, Some(false));
        check(50.0, stored(100.0), old, old, Some(true));
        // The baseline moved with the code.
        let new: &[_] = &[("a", 110.0, "checks the topic")];
        check(110.0, stored(110.0), new, old, Some(true));
        check(120.0, stored(110.0), new, old, Some(false));
        check(
            110.0,
            stored(110.0),
            &[("a", 110.0, "first")],
            old,
            Some(false),
        );
        check(110.0, stored(110.0), &[("a", 110.0, " ")], old, Some(false));
        // Both commits were measured on a machine without baselines.
        check(220.0, counted(200.0), old, old, Some(false));
        check(220.0, counted(200.0), new, old, Some(true));
        check(220.0, counted(200.0), &[], &[], Some(false));
        check(201.0, counted(200.0), &[], &[], Some(true));
        // A new case.
        check(220.0, None, &[], &[], None);
        check(220.0, None, &[("a", 110.0, "")], old, Some(false));
    }
}
