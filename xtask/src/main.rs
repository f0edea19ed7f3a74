//! Tasks of this workspace, run as `cargo xtask TASK`.
//!
//! What needs more than one cargo command, or a look at the sources, lives here instead of in shell scripts, so that it
//! runs the same on every machine and is checked by the compiler. Deliberately absent: anything the broker itself needs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

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
}

/// How a task ended, beside an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was asked for holds.
    Passed,
    /// Something that was asked for does not hold; the task has said what.
    Failed,
}

impl Outcome {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Failed => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => tidy::run(),
    };
    match outcome {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
