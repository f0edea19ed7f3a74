//! `cargo xtask conformance`: runs our conversations with the broker, then reports which statements they show.
//!
//! The report itself is `interop/conformance.rs`, beside the tables and the tests it joins.

use crate::{Error, Outcome, workspace};
use clap::Args;
use std::process::Command;

/// Flags of `cargo xtask conformance`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only report; the tests have run already
    #[arg(long)]
    no_run: bool,
    /// Run the tests behind deliberate violations and require that each is caught
    #[arg(long)]
    mutants: bool,
}

/// Runs the tests and the report.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    if !options.no_run && !options.mutants {
        let tests = workspace::cargo()
            .args(["test", "--workspace", "--test", "conformance"])
            .status()?;
        if !tests.success() {
            return Ok(Outcome::Failed);
        }
    }
    let Some(program) = workspace::build_program("conformance")? else {
        return Ok(Outcome::Failed);
    };
    let mut report = Command::new(program);
    if options.mutants {
        report.arg("--mutants");
    }
    Ok(if report.status()?.success() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}
