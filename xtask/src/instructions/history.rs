//! The commit that this checkout is compared with: which one it is, its baselines, and its program.

use super::baselines::{self, Baselines};
use super::callgrind::Program;
use crate::{Error, workspace};
use std::process::{Command, Stdio};
use std::{fmt, fs};

/// A commit, by its full name.
pub(super) struct Commit(String);

impl fmt::Display for Commit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(workspace::root());
    command
}

/// What git answers; `None` where it does not know, or cannot be started.
fn ask(arguments: &[&str]) -> Option<String> {
    let output = git().args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn resolve(name: &str) -> Option<String> {
    ask(&[
        "rev-parse",
        "--verify",
        "--quiet",
        &format!("{name}^{{commit}}"),
    ])
}

/// The commit that was asked for; else where this branch left main; on main itself the commit before the changes, which
/// is the last one while they are not committed. `None` where there is no history.
pub(super) fn find(asked: Option<&str>) -> Result<Option<Commit>, Error> {
    if let Some(asked) = asked {
        let commit = resolve(asked).ok_or_else(|| format!("there is no commit {asked}"))?;
        return Ok(Some(Commit(commit)));
    }
    let Some(head) = resolve("HEAD") else {
        return Ok(None);
    };
    let main = ["main", "origin/main"]
        .iter()
        .find_map(|name| resolve(name));
    let base = main.and_then(|main| ask(&["merge-base", &head, &main]));
    if let Some(base) = base.filter(|base| *base != head) {
        return Ok(Some(Commit(base)));
    }
    let changed = ask(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|changed| !changed.is_empty()) {
        return Ok(Some(Commit(head)));
    }
    Ok(resolve("HEAD^").map(Commit))
}

impl Commit {
    /// The baselines as they were; none where there was no such file.
    pub(super) fn baselines(&self) -> Result<Baselines, Error> {
        match ask(&["show", &format!("{}:{}", self.0, baselines::PATH)]) {
            Some(text) => Baselines::parse(&text),
            None => Ok(Baselines::default()),
        }
    }

    /// The program of that commit, built in a folder of its own; `None` where it had none.
    pub(super) fn program(&self) -> Result<Option<Program>, Error> {
        let manifest = format!("{}:crates/instructions/Cargo.toml", self.0);
        if ask(&["cat-file", "-e", &manifest]).is_none() {
            return Ok(None);
        }
        let folder = workspace::metadata()?.target_directory.join("instructions");
        let tree = folder.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(&tree)?;
        let mut archive = git()
            .args(["archive", "--format=tar", &self.0])
            .stdout(Stdio::piped())
            .spawn()?;
        let files = archive.stdout.take().ok_or("git archive has no output")?;
        // -m: files are as new as their folder, so that cargo builds what an older commit had.
        let unpacked = Command::new("tar")
            .args(["-x", "-m", "-f", "-", "-C"])
            .arg(&tree)
            .stdin(files)
            .status()?;
        if !archive.wait()?.success() || !unpacked.success() {
            return Err(format!("cannot unpack {self} into {}", tree.display()).into());
        }
        Program::build(&tree, &folder.join("target")).map(Some)
    }
}
