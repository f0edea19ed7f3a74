//! The cases whose instructions `cargo xtask instructions` counts: what the broker does for a message, in parts and whole.
//!
//! `martlet-instructions` lists the cases; `martlet-instructions CASE` prepares and warms one up, then runs it in
//! [`measured_rounds`], the function that callgrind is told to count in. Everything is repeatable: seeds and the clock are
//! fixed, there is one thread, and nothing of the broker runs that the case did not ask for. Deliberately absent: time,
//! which criterion measures in the benches of the crates, and the arithmetic, which the task does.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to the task that runs it"
)]

mod broker;
mod parts;
mod wire;

use std::process::ExitCode;

/// What is run again and again.
type Round = Box<dyn FnMut()>;

/// One thing to count.
struct Case {
    name: &'static str,
    /// What one round is.
    about: &'static str,
    /// Rounds that are counted; before them, as many warm up.
    rounds: u32,
    prepare: fn() -> Round,
}

/// Counts begin when this function is entered and end when it is left; its name is known to `cargo xtask instructions`.
#[inline(never)]
fn measured_rounds(round: &mut dyn FnMut(), rounds: u32) {
    for _ in 0..rounds {
        round();
    }
}

fn main() -> ExitCode {
    let cases = || parts::CASES.iter().chain(broker::CASES);
    let Some(name) = std::env::args().nth(1) else {
        for case in cases() {
            println!("{} {} {}", case.name, case.rounds, case.about);
        }
        return ExitCode::SUCCESS;
    };
    let Some(case) = cases().find(|case| case.name == name) else {
        eprintln!("no case {name:?}");
        return ExitCode::FAILURE;
    };
    let mut round = (case.prepare)();
    for _ in 0..case.rounds {
        round();
    }
    measured_rounds(&mut *round, case.rounds);
    ExitCode::SUCCESS
}
