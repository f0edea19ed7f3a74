//! Tasks of this workspace, run as `cargo xtask TASK`.
//!
//! What needs more than one cargo command, or a look at the sources, lives here instead of in shell scripts, so that it
//! runs the same on every machine and is checked by the compiler. Deliberately absent: anything the broker itself needs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

mod bench;
mod conformance;
mod crash;
mod fuzz;
mod instructions;
mod interop;
mod simulate;
mod stall;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What went wrong, in words for the person at the terminal.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Martlet workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check crate edges, module docs, leftovers, file lengths and the layout of the repository
    Tidy,
    /// Run fuzz targets on the pinned toolchain
    Fuzz(fuzz::Options),
    /// Run the Eclipse Paho suite, or real clients, against a freshly built broker
    Interop(interop::Options),
    /// Compare Martlet with the brokers installed here, under the same load
    Bench(bench::Options),
    /// Count the instructions of the hot paths and refuse a rise without a reason
    Instructions(instructions::Options),
    /// Kill the broker at random moments and compare what it kept with what it acknowledged
    Crash(crash::Options),
    /// Run the core in a deterministic simulator, with faults of the network and the disk, from numbered seeds
    #[command(disable_help_flag = true)]
    Simulate(simulate::Options),
    /// Hold thousands of stalled connections open while a pair of clients goes on and new ones get in
    Stall(stall::Options),
    /// Report which statements of the specifications a test shows, and whether the tests can fail
    Conformance(conformance::Options),
}

/// Exit code of a task that could not run here, apart from the code of a failure.
const SKIPPED_CODE: u8 = 77;

/// How a task ended, beside an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was asked for holds.
    Passed,
    /// Something that was asked for does not hold; the task has said what.
    Failed,
    /// What was asked for cannot run on this machine; the task has said why.
    Skipped,
}

impl Outcome {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Failed => ExitCode::FAILURE,
            Self::Skipped => ExitCode::from(SKIPPED_CODE),
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => tidy::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Interop(options) => interop::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Instructions(options) => instructions::run(&options),
        Task::Crash(options) => crash::run(&options),
        Task::Simulate(options) => simulate::run(&options),
        Task::Stall(options) => stall::run(&options),
        Task::Conformance(options) => conformance::run(&options),
    };
    match outcome {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
