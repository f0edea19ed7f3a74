//! `cargo xtask fuzz`: runs fuzz targets on the pinned stable toolchain and says what they did.
//!
//! It does what `cargo fuzz run TARGET --sanitizer none` does, after installing cargo-fuzz and writing the seeds, and reads
//! libFuzzer's figures. With `--planted` it proves that a target can find something: the target is built with a defect
//! behind `cfg(planted_bug)`, which must be found in time. Deliberately absent: the targets, which are in `fuzz/`.

use crate::{Error, Outcome, workspace};
use clap::Args;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The cargo-fuzz that is installed when there is none.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// A smoke run shows that a target builds, starts, and reads its seeds.
const SMOKE_SECONDS: u64 = 10;

/// A planted bug must be found within this time.
const PLANTED_SECONDS: u64 = 60;

/// Flags of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets to run; their names stand in fuzz/Cargo.toml
    targets: Vec<String>,
    /// Run every target
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// How long to run each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run each target for a few seconds only
    #[arg(long)]
    smoke: bool,
    /// Build with the planted defects and require that each target finds its own
    #[arg(long)]
    planted: bool,
}

/// How one target ended.
struct Report {
    target: String,
    passed: bool,
    note: String,
    figures: Figures,
}

/// libFuzzer's figures at the end of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    executions_per_second: u64,
    /// Edges of the control flow that were reached.
    coverage: u64,
    features: u64,
    corpus: u64,
}

/// Runs the targets and prints a table.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    install()?;
    let known = targets()?;
    let chosen: Vec<String> = if options.all {
        known.clone()
    } else {
        options.targets.clone()
    };
    if let Some(target) = chosen.iter().find(|target| !known.contains(target)) {
        return Err(format!("no target {target:?}; there are: {}", known.join(", ")).into());
    }
    if chosen.is_empty() {
        return Err(format!(
            "name a target or pass --all; there are: {}",
            known.join(", ")
        )
        .into());
    }
    let seconds = match (options.planted, options.smoke) {
        (true, _) => PLANTED_SECONDS,
        (false, true) => SMOKE_SECONDS,
        (false, false) => options.seconds,
    };
    let mut reports = Vec::new();
    for target in &chosen {
        println!("{target}: at most {seconds} s");
        reports.push(run_target(target, seconds, options.planted)?);
    }
    println!("\n| target | verdict | executions | per second | coverage | features | corpus |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for Report {
        target,
        note,
        figures,
        ..
    } in &reports
    {
        let Figures {
            executions,
            executions_per_second,
            coverage,
            features,
            corpus,
        } = figures;
        println!(
            "| {target} | {note} | {executions} | {executions_per_second} | {coverage} | {features} | {corpus} |"
        );
    }
    let passed = reports.iter().filter(|report| report.passed).count();
    println!(
        "{passed} passed, {} failed, 0 skipped",
        reports.len() - passed
    );
    Ok(if passed == reports.len() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

/// Installs cargo-fuzz when it is missing. It, and libFuzzer, need a C++ compiler.
fn install() -> Result<(), Error> {
    let works = |program: &str, argument: &str| {
        let status = Command::new(program)
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !works("c++", "--version") {
        return Err("libFuzzer needs a C++ compiler; on Debian: apt-get install g++".into());
    }
    if works("cargo-fuzz", "--version") {
        return Ok(());
    }
    println!("installing cargo-fuzz {CARGO_FUZZ_VERSION}");
    let install = [
        "install",
        "--locked",
        "cargo-fuzz",
        "--version",
        CARGO_FUZZ_VERSION,
    ];
    if workspace::cargo().args(install).status()?.success() {
        return Ok(());
    }
    Err(format!("try by hand: cargo {}", install.join(" ")).into())
}

/// The targets of the fuzz crate.
fn targets() -> Result<Vec<String>, Error> {
    let output = workspace::cargo().args(["fuzz", "list"]).output()?;
    if !output.status.success() {
        return Err(format!(
            "cargo fuzz list: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .map(ToString::to_string)
        .collect())
}

/// The folders of a run. Those of a planted run are apart, so that its finding is not taken for a real one.
struct Folders {
    corpus: PathBuf,
    artifacts: PathBuf,
    build: Option<PathBuf>,
}

fn folders(target: &str, planted: bool) -> Result<Folders, Error> {
    let folders = if planted {
        let base = workspace::metadata()?.target_directory.join("fuzz-planted");
        let corpus = base.join("corpus").join(target);
        // An earlier run may have left the very input that shows the defect.
        let _ = fs::remove_dir_all(&corpus);
        Folders {
            corpus,
            artifacts: base.join("artifacts").join(target),
            build: Some(base.join("build")),
        }
    } else {
        let base = workspace::root().join("fuzz");
        Folders {
            corpus: base.join("corpus").join(target),
            artifacts: base.join("artifacts").join(target),
            build: None,
        }
    };
    fs::create_dir_all(&folders.corpus)?;
    fs::create_dir_all(&folders.artifacts)?;
    Ok(folders)
}

/// Writes the seeds of a target `<crate>_<name>`, if that crate has an example `<crate>_seeds`.
fn write_seeds(target: &str, corpus: &Path) -> Result<(), Error> {
    let owner = target.split('_').next().unwrap_or_default();
    let example = format!("{owner}_seeds");
    let source = format!("crates/{owner}/examples/{example}.rs");
    if !workspace::root().join(source).is_file() {
        return Ok(());
    }
    if let Some(program) = workspace::build_example(&example)?
        && Command::new(program).arg(corpus).status()?.success()
    {
        return Ok(());
    }
    Err(format!("the seeds of {target} cannot be written").into())
}

fn cargo_fuzz(verb: &str, target: &str, folders: &Folders) -> Command {
    let mut command = workspace::cargo();
    command.args(["fuzz", verb, "--sanitizer", "none", "--debug-assertions"]);
    if let Some(build) = &folders.build {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{flags} --cfg planted_bug"));
        command.arg("--target-dir").arg(build);
    }
    command.arg(target);
    command
}

fn run_target(target: &str, seconds: u64, planted: bool) -> Result<Report, Error> {
    let folders = folders(target, planted)?;
    write_seeds(target, &folders.corpus)?;
    if !cargo_fuzz("build", target, &folders).status()?.success() {
        return Ok(Report {
            target: target.into(),
            passed: false,
            note: "does not build".into(),
            figures: Figures::default(),
        });
    }
    let begin = Instant::now();
    let mut command = cargo_fuzz("run", target, &folders);
    command.arg(&folders.corpus).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", folders.artifacts.display()));
    command.arg("-print_final_stats=1");
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut figures = Figures::default();
    let mut tail = Vec::new();
    if let Some(output) = child.stderr.take() {
        // The fuzzed program may print bytes that are not text.
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            figures.read(&line);
            if line.contains("\tpulse") {
                println!("  {line}");
            }
            tail.push(line);
            if tail.len() > 40 {
                tail.remove(0);
            }
        }
    }
    let clean = child.wait()?.success();
    let took = begin.elapsed().as_secs();
    let passed = clean != planted;
    let note = match (clean, planted) {
        (true, false) => "no finding".to_string(),
        (false, false) => format!("FINDING in {}", folders.artifacts.display()),
        (true, true) => format!("planted bug NOT FOUND in {took} s"),
        (false, true) => format!("planted bug found in {took} s"),
    };
    if !passed {
        eprintln!("{}", tail.join("\n"));
    }
    Ok(Report {
        target: target.into(),
        passed,
        note,
        figures,
    })
}

impl Figures {
    /// Takes in a line of libFuzzer's output: a status line or one of its final figures.
    fn read(&mut self, line: &str) {
        if let Some((name, value)) = line
            .strip_prefix("stat::")
            .and_then(|rest| rest.split_once(':'))
        {
            let value = value.trim().parse().unwrap_or_default();
            match name {
                "number_of_executed_units" => self.executions = value,
                "average_exec_per_sec" => self.executions_per_second = value,
                _ => {}
            }
            return;
        }
        if !line.starts_with('#') {
            return;
        }
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let field = match word {
                "cov:" => &mut self.coverage,
                "ft:" => &mut self.features,
                "corp:" => &mut self.corpus,
                "exec/s:" => &mut self.executions_per_second,
                _ => continue,
            };
            let value = words.next().unwrap_or_default();
            let digits = value
                .split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap_or_default();
            *field = digits.parse().unwrap_or(*field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_libfuzzers_lines() {
        let mut figures = Figures::default();
        for line in [
            "INFO: Seed: 1",
            "#8192\tpulse  cov: 120 ft: 300 corp: 40/2Kb lim: 80 exec/s: 4096 rss: 40Mb",
            "#20000\tDONE   cov: 130 ft: 310 corp: 41/2Kb lim: 80 exec/s: 5000 rss: 41Mb",
            "stat::number_of_executed_units: 20000",
            "stat::average_exec_per_sec:     4999",
            "stat::peak_rss_mb:              41",
        ] {
            figures.read(line);
        }
        let expected = Figures {
            executions: 20_000,
            executions_per_second: 4_999,
            coverage: 130,
            features: 310,
            corpus: 41,
        };
        assert_eq!(figures, expected);
    }
}
