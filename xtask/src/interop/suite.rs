//! Finds the Eclipse Paho suite: where the user says, else a clone of the pinned commit.

use crate::{Error, workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The suite's home.
const REPOSITORY: &str = "https://github.com/eclipse/paho.mqtt.testing";

/// The commit whose 38 tests are run.
pub(super) const COMMIT: &str = "9d7bb80bb8b9d9cfc0b52f8cb4c1916401281103";

/// What the search ended with.
pub(super) enum Suite {
    /// A checkout of the suite.
    Found(PathBuf),
    /// There is none and none can be had; the reason names what to do.
    Missing(String),
}

/// Looks for the suite. An explicit folder that does not hold it is an error, not a reason to look elsewhere.
pub(super) fn find(explicit: Option<&Path>) -> Result<Suite, Error> {
    if let Some(folder) = explicit {
        if !is_suite(folder) {
            return Err(format!(
                "{} holds no interoperability/client_test5.py",
                folder.display()
            )
            .into());
        }
        return Ok(Suite::Found(std::path::absolute(folder)?));
    }
    let folder = workspace::metadata()?
        .target_directory
        .join("paho.mqtt.testing");
    if !is_suite(&folder) {
        println!("cloning {REPOSITORY}");
        if let Err(reason) = clone(&folder) {
            return Ok(Suite::Missing(format!(
                "{reason}; clone {REPOSITORY} elsewhere and pass --suite DIR or set MARTLET_PAHO_SUITE"
            )));
        }
    }
    Ok(Suite::Found(folder))
}

fn is_suite(folder: &Path) -> bool {
    folder.join("interoperability/client_test5.py").is_file()
}

fn clone(folder: &Path) -> Result<(), String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        // Without a terminal git must fail, not wait for a password.
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .args(arguments)
            .stdout(Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(text
                    .lines()
                    .last()
                    .unwrap_or("git failed")
                    .trim()
                    .to_string())
            }
            Err(error) => Err(format!("git cannot be started: {error}")),
        }
    };
    let path = folder.to_string_lossy();
    if !folder.join(".git").is_dir() {
        git(&["clone", "--quiet", "--no-checkout", REPOSITORY, &path])?;
    }
    git(&["-C", &path, "checkout", "--quiet", COMMIT])
}
