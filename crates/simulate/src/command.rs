//! The command line: which seeds, how long, with which planted bug; progress while they run and figures at the end.

#![expect(
    clippy::print_stdout,
    reason = "a program talks to the person who started it"
)]

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use martlet_sync::Planted;

use crate::{
    executor::locked,
    world::{self, Failure, Report},
};

#[derive(Parser)]
#[command(about = "Run the broker's core in a deterministic simulator")]
struct Options {
    /// How many seeds, from --from on
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The seed after the last, instead of --seeds
    #[arg(long)]
    to: Option<u64>,
    /// Only this seed, twice: that both runs are the same is checked, too
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: print what clients send and hear, after the number of their connection, and what goes wrong
    #[arg(long)]
    trace: bool,
    /// Events of a run before it is brought to its end
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// Plant this bug, which must be found; `all` takes one after the other
    #[arg(long)]
    planted: Option<String>,
    /// Threads; the result does not depend on them
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after failures, up to so many
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

/// What came of many seeds.
#[derive(Default)]
struct Total {
    report: Report,
    seeds: u64,
    failures: Vec<(u64, Failure)>,
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    // Panics of the broker are findings with a seed; a trace for each helps only with a single one.
    if options.seed.is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let (from, to) = match options.seed {
        Some(seed) => (seed, seed + 1),
        None => (
            options.from,
            options.to.unwrap_or(options.from + options.seeds),
        ),
    };
    match &options.planted {
        None => judge(&options, from, to),
        Some(name) => {
            let bugs: Vec<_> = Planted::ALL
                .into_iter()
                .filter(|bug| name == "all" || bug.name() == name)
                .collect();
            if bugs.is_empty() {
                println!("no planted bug is called {name}; there are:");
                for bug in Planted::ALL {
                    println!("  {}", bug.name());
                }
                return ExitCode::from(2);
            }
            let mut found = 0;
            for bug in &bugs {
                found += usize::from(find(&options, *bug, from, to));
            }
            println!("{found} of {} planted bugs found", bugs.len());
            println!("{found} passed, {} failed, 0 skipped", bugs.len() - found);
            ExitCode::from(u8::from(found < bugs.len()))
        }
    }
}

/// Looks for real bugs.
fn judge(options: &Options, from: u64, to: u64) -> ExitCode {
    let started = Instant::now();
    let total = run_all(options, None, from, to);
    let seconds = started.elapsed().as_secs_f64();
    for (seed, _) in &total.failures {
        println!(
            "again: cargo xtask simulate --seed {seed} --events {} --trace",
            options.events
        );
    }
    let Report {
        events,
        messages,
        deliveries,
        crashes,
        cuts,
        switches,
        ..
    } = total.report;
    println!(
        "{} seeds from {from}: {events} events in {seconds:.1} s, {:.0} events/s; {messages} messages, {deliveries} deliveries, \
         {crashes} crashes, {cuts} cuts, {switches} turns; {} failures",
        total.seeds,
        events as f64 / seconds,
        total.failures.len()
    );
    let failed = total.failures.len() as u64;
    println!(
        "{} passed, {failed} failed, 0 skipped",
        total.seeds - failed
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Whether a planted bug is found.
fn find(options: &Options, bug: Planted, from: u64, to: u64) -> bool {
    let started = Instant::now();
    let total = run_all(options, Some(bug), from, to);
    let seconds = started.elapsed().as_secs_f64();
    match total.failures.first() {
        Some((seed, failure)) => {
            println!(
                "{}: found by seed {seed} ({} seeds, {seconds:.1} s): {}",
                bug.name(),
                seed - from + 1,
                failure.violation
            );
            true
        }
        None => {
            println!(
                "{}: NOT FOUND in {} seeds, {seconds:.1} s",
                bug.name(),
                total.seeds
            );
            false
        }
    }
}

fn run_all(options: &Options, planted: Option<Planted>, from: u64, to: u64) -> Total {
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let started = Instant::now();
    let spoken = Mutex::new(started);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let mut result = world::run(seed, options.events, planted, options.trace);
                    if options.seed.is_some() {
                        result = same_again(result, seed, options.events, planted);
                    }
                    let mut total = locked(&total);
                    total.add(seed, result);
                    if total.failures.len() >= options.failures {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let mut spoken = locked(&spoken);
                    if planted.is_none() && spoken.elapsed() >= Duration::from_secs(10) {
                        *spoken = Instant::now();
                        let Total { report, seeds, failures } = &*total;
                        println!(
                            "  {seeds} of {} seeds, {} events, {:.0} events/s, {} failures; go on from --from {seed}",
                            to - from,
                            report.events,
                            report.events as f64 / started.elapsed().as_secs_f64(),
                            failures.len()
                        );
                    }
                }
            });
        }
    });
    let mut total = total
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    total.failures.sort_by_key(|(seed, _)| *seed);
    total
}

/// Runs a seed a second time: a simulator that does not repeat itself is of no use.
fn same_again(
    first: Result<Report, Failure>,
    seed: u64,
    events: u64,
    planted: Option<Planted>,
) -> Result<Report, Failure> {
    let second = world::run(seed, events, planted, false);
    let differ = match (&first, &second) {
        (Ok(first), Ok(second)) => first.trace != second.trace,
        (Err(first), Err(second)) => {
            first.event != second.event || first.violation != second.violation
        }
        _ => true,
    };
    if differ {
        return Err(Failure {
            event: 0,
            violation: format!("the seed does not repeat itself: {first:?}, then {second:?}"),
        });
    }
    first
}

impl Total {
    fn add(&mut self, seed: u64, result: Result<Report, Failure>) {
        self.seeds += 1;
        match result {
            Ok(report) => {
                let sum = &mut self.report;
                sum.events += report.events;
                sum.messages += report.messages;
                sum.deliveries += report.deliveries;
                sum.crashes += report.crashes;
                sum.cuts += report.cuts;
                sum.switches += report.switches;
            }
            Err(failure) => {
                println!(
                    "  seed {seed} failed at event {}: {}",
                    failure.event, failure.violation
                );
                self.failures.push((seed, failure));
            }
        }
    }
}
