//! `cargo xtask simulate`: builds the simulator and runs it.
//!
//! Its build differs from every other one by `--cfg martlet_simulate`, which turns each lock of the core into a schedule
//! point and lets bugs be planted; a folder of its own keeps it apart. Deliberately absent: the simulator, which is
//! `crates/simulate`, and what its flags mean, which it says itself.

use crate::{Error, Outcome, workspace};
use clap::Args;

/// Flags of `cargo xtask simulate`.
#[derive(Args)]
pub(crate) struct Options {
    /// Flags of the simulator: --seeds N, --from A, --to B, --seed X, --events E, --planted NAME; --help lists them all
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    flags: Vec<String>,
}

/// Builds and runs.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    let target = workspace::metadata()?.target_directory.join("simulate");
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let built = workspace::cargo()
        .args(["build", "--quiet", "--profile", "simulate"])
        .args(["--package", "martlet-simulate", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", format!("{given} --cfg martlet_simulate"))
        .status()?;
    if !built.success() {
        return Err("the simulator does not build".into());
    }
    let program = target.join("simulate").join("martlet-simulate");
    let ran = std::process::Command::new(program)
        .args(&options.flags)
        .status()?;
    Ok(if ran.success() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}
