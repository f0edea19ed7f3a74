//! Where things are: the root of the repository, cargo, and what `cargo metadata` says about the workspace.

use crate::Error;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository: the folder above this crate's. Cargo says where that is when it runs the task; the folder
/// that this was compiled in can be another checkout's, where several share a target directory.
pub(crate) fn root() -> PathBuf {
    let said = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let xtask = said.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    xtask
        .parent()
        .map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// A command that runs the cargo which started this task, in the root of the repository.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Builds an example of this workspace and returns its path; `None` when it does not build.
///
/// The whole workspace is selected, as for the tests: cargo then takes the crates they have built,
/// instead of building them again with the features that this one program would need.
pub(crate) fn build_example(name: &str) -> Result<Option<PathBuf>, Error> {
    build(&["--example", name], Path::new("debug/examples").join(name))
}

/// As [`build_example`], for a program.
pub(crate) fn build_program(name: &str) -> Result<Option<PathBuf>, Error> {
    build(&["--bin", name], Path::new("debug").join(name))
}

fn build(selection: &[&str], program: PathBuf) -> Result<Option<PathBuf>, Error> {
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--workspace"])
        .args(selection);
    if !command.status()?.success() {
        return Ok(None);
    }
    Ok(Some(metadata()?.target_directory.join(program)))
}

/// The part of `cargo metadata` that the tasks use.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Packages of the workspace (dependencies from registries are left out).
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    /// Its name, for example `martlet-codec`.
    pub(crate) name: String,
    /// Path of its `Cargo.toml`.
    pub(crate) manifest_path: PathBuf,
    /// What its manifest names, of every kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependency tables.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// Name of the package depended on.
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Behind a feature.
    pub(crate) optional: bool,
}

/// Asks cargo about the packages of this workspace. Needs no network.
pub(crate) fn metadata() -> Result<Metadata, Error> {
    let output = cargo()
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata failed: {reason}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
