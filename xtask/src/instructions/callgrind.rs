//! Builds the program with the cases and runs it under callgrind.

use super::Counts;
use crate::{Error, workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

/// The package of the cases, and the name of its program.
pub(super) const PACKAGE: &str = "martlet-instructions";

/// The function in which is counted, in whatever way its name is mangled.
const MEASURED: &str = "*measured_rounds*";

/// What `valgrind --version` says; `None` where it cannot be started.
pub(super) fn version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// One thing that is counted.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) rounds: u32,
    pub(super) about: String,
}

/// The program with the cases.
pub(super) struct Program(PathBuf);

impl Program {
    pub(super) fn of_this_checkout() -> Result<Self, Error> {
        let target = workspace::metadata()?.target_directory;
        Self::build(&workspace::root(), &target)
    }

    /// Builds the program of the checkout in `root` as releases are built, below `target`.
    pub(super) fn build(root: &Path, target: &Path) -> Result<Self, Error> {
        let status = workspace::cargo()
            .current_dir(root)
            .args(["build", "--quiet", "--release", "--package", PACKAGE])
            .env("CARGO_TARGET_DIR", target)
            // Flags of the person who happens to build would change the counts.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()?;
        if !status.success() {
            return Err(format!("{PACKAGE} does not build in {}", root.display()).into());
        }
        Ok(Self(target.join("release").join(PACKAGE)))
    }

    /// The cases it has.
    pub(super) fn cases(&self) -> Result<Vec<Case>, Error> {
        let output = Command::new(&self.0).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let cases: Option<Vec<Case>> = text.lines().map(case).collect();
        match cases {
            Some(cases) if output.status.success() => Ok(cases),
            _ => Err(format!("{} does not list its cases", self.0.display()).into()),
        }
    }

    /// Counts `cases`, as many at a time as there are processors.
    pub(super) fn count(&self, cases: &[Case]) -> Result<Counts, Error> {
        let waiting = Mutex::new(cases.iter());
        let results = Mutex::new(Ok(Counts::new()));
        let work = || {
            loop {
                let next = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .next();
                let Some(case) = next else { return };
                let counted = self.count_one(case);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *results, counted) {
                    (Ok(counts), Ok(count)) => {
                        counts.insert(case.name.clone(), count);
                    }
                    (Ok(_), Err(error)) => *results = Err(error),
                    (Err(_), _) => return,
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads.min(cases.len()) {
                scope.spawn(work);
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Instructions a round.
    fn count_one(&self, case: &Case) -> Result<f64, Error> {
        let out = self.0.with_file_name(format!("callgrind.{}", case.name));
        let failed = |why: &str| -> Error { format!("{}: {why}", case.name).into() };
        let output = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--toggle-collect={MEASURED}"))
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(&self.0)
            .arg(&case.name)
            // The size of the environment moves the stack, and with it the alignment of what is copied.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
        let text = fs::read_to_string(&out)?;
        fs::remove_file(&out)?;
        match total(&text) {
            Some(total) if total > 0 => Ok(total as f64 / f64::from(case.rounds)),
            _ => Err(failed("callgrind has counted nothing")),
        }
    }
}

/// A line of the program's list: name, rounds, what one round is.
fn case(line: &str) -> Option<Case> {
    let mut words = line.splitn(3, ' ');
    Some(Case {
        name: words.next()?.to_owned(),
        rounds: words.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
        about: words.next()?.to_owned(),
    })
}

/// The sum in a file of callgrind's.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_sums_are_read() {
        let read = case("decode_v5 100 split and decode").expect("a whole line");
        assert_eq!(
            (&*read.name, read.rounds, &*read.about),
            ("decode_v5", 100, "split and decode")
        );
        assert!(case("decode_v5 0 nothing").is_none());
        assert!(case("decode_v5").is_none());
        assert_eq!(total("events: Ir\nfn=(1) f\n1 2\ntotals: 123\n"), Some(123));
        assert_eq!(total("events: Ir\n"), None);
    }
}
