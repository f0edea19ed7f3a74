//! `cargo xtask instructions`: counts the instructions of each case of `crates/instructions`, and refuses a rise.
//!
//! Callgrind executes the program, so the counts are exact and a busy machine changes nothing. They do depend on the
//! compiler, the C library and what the processor can do: `crates/instructions/baselines.toml` holds one table for each
//! such machine. Where this machine has none, an older commit is built and counted beside this one. Deliberately absent:
//! time and caches, which callgrind can only guess; `martlet bench` and criterion measure time.

mod baselines;
mod callgrind;
mod history;
mod verdict;

use crate::{Error, Outcome, workspace};
use baselines::{Baselines, Key};
use callgrind::{Case, Program};
use clap::Args;
use history::Commit;
use std::collections::BTreeMap;
use verdict::{Reference, Verdict, judge};

/// Flags of `cargo xtask instructions`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// The commit to compare with where the baselines say nothing: by default where this branch left main, or the last
    /// commit
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// Measure the other commit even where the baselines have a count
    #[arg(long)]
    measure_both: bool,
    /// Store the counts as baselines of this machine; WHY says what made them rise
    #[arg(long, value_name = "WHY")]
    bless: Option<String>,
}

/// Counts by case.
type Counts = BTreeMap<String, f64>;

/// Counts, compares, prints a table.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    let Some(valgrind) = callgrind::version() else {
        return Ok(skip(
            "valgrind cannot be started; on Debian: apt-get install valgrind",
        ));
    };
    let program = Program::of_this_checkout()?;
    let wanted = |case: &Case| {
        let filter = options.filter.as_deref().unwrap_or_default();
        case.name.contains(filter)
    };
    let cases: Vec<Case> = program.cases()?.into_iter().filter(wanted).collect();
    if cases.is_empty() {
        return Err("no case has such a name".into());
    }
    let key = Key::of_this_machine(valgrind);
    println!("{key}");
    let counts = program.count(&cases)?;
    let mut stored = Baselines::read()?;
    if let Some(why) = &options.bless {
        return bless(&mut stored, &key, &counts, why);
    }

    let against = history::find(options.against.as_deref())?;
    let before = match &against {
        Some(commit) => commit.baselines()?,
        None => Baselines::default(),
    };
    let mut references = BTreeMap::new();
    if !options.measure_both {
        let stored = stored.counts(&key).into_iter();
        references.extend(stored.map(|(name, count)| (name, Reference::Stored(count))));
    }
    let missing: Vec<Case> = cases
        .iter()
        .filter(|case| !references.contains_key(&case.name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let counted = count_other(against.as_ref(), &missing)?.into_iter();
        references.extend(counted.map(|(name, count)| (name, Reference::Counted(count))));
    }
    Ok(report(&cases, &counts, &references, &stored, &before))
}

/// Says why nothing is counted here, in the form that CI repeats in its closing lines.
fn skip(reason: &str) -> Outcome {
    println!("instructions: SKIPPED ({reason})");
    println!("0 passed, 0 failed, 1 skipped");
    Outcome::Skipped
}

/// Counts `missing` at the other commit, those it has.
fn count_other(against: Option<&Commit>, missing: &[Case]) -> Result<Counts, Error> {
    let Some(commit) = against else {
        return Ok(Counts::new());
    };
    println!(
        "counting the cases without a baseline ({}) at {commit} too",
        missing.len()
    );
    let Some(other) = commit.program()? else {
        println!("{commit} has no such cases");
        return Ok(Counts::new());
    };
    let known = other.cases()?;
    let both: Vec<Case> = known
        .into_iter()
        .filter(|case| missing.iter().any(|wanted| wanted.name == case.name))
        .collect();
    other.count(&both)
}

fn report(
    cases: &[Case],
    counts: &Counts,
    references: &BTreeMap<String, Reference>,
    stored: &Baselines,
    before: &Baselines,
) -> Outcome {
    println!("\n| case | instructions | before | change | verdict | one round |");
    println!("| --- | ---: | ---: | ---: | --- | --- |");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases {
        let Some(count) = counts.get(&case.name).copied() else {
            continue;
        };
        let reference = references.get(&case.name).copied();
        let verdict = judge(&case.name, count, reference, stored, before);
        match verdict {
            Verdict::Failed(_) => failed += 1,
            Verdict::Alone => skipped += 1,
            Verdict::Passed(_) => passed += 1,
        }
        let (reference, change) = match reference {
            Some(reference) => (
                format!("{:.1}", reference.count()),
                format!("{:+.2} %", verdict::rise(count, reference.count()) * 100.0),
            ),
            None => (String::from("-"), String::from("-")),
        };
        let Case { name, about, .. } = case;
        println!("| {name} | {count:.1} | {reference} | {change} | {verdict} | {about} |");
    }
    if skipped > 0 {
        println!("instructions: SKIPPED (cases with nothing to be compared with: {skipped})");
    }
    if failed > 0 {
        println!(
            "\nA rise above {:.0} % needs a reason: cargo xtask instructions --bless \"WHY\", and commit {}.",
            verdict::RISE_MAX * 100.0,
            baselines::PATH
        );
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    match (passed, failed) {
        (_, 1..) => Outcome::Failed,
        (0, 0) => Outcome::Skipped,
        _ => Outcome::Passed,
    }
}

/// Stores the counts that are new or have moved.
fn bless(stored: &mut Baselines, key: &Key, counts: &Counts, why: &str) -> Result<Outcome, Error> {
    if why.trim().is_empty() {
        return Err("--bless wants to know why".into());
    }
    for line in stored.bless(key, counts, why.trim()) {
        println!("{line}");
    }
    stored.write()?;
    println!(
        "wrote {}",
        workspace::root().join(baselines::PATH).display()
    );
    Ok(Outcome::Passed)
}
