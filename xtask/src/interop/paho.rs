//! Runs the tests of the Paho suite: each in a fresh process against a fresh broker on a free port, in random order.

use super::broker::BrokerCommand;
use super::process::Running;
use super::results::{self, Row};
use super::{Options, suite};
use crate::{Error, Outcome, workspace};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The longest test waits about 25 s; some wait for ever when the broker is wrong.
const TEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Protocol versions of the suite and how many tests the pinned commit has for each.
const VERSIONS: &[(&str, usize)] = &[("3.1.1", 11), ("5.0", 27)];

/// One test of the suite.
#[derive(Clone, PartialEq, Eq)]
struct Test {
    version: &'static str,
    name: String,
}

/// How one run of one test ended.
struct Run {
    test: Test,
    seconds: f64,
    /// Why it failed.
    failure: Option<String>,
}

/// Runs every test `options.runs` times and prints the table.
pub(super) fn run(
    options: &Options,
    suite: &Path,
    broker: &BrokerCommand,
) -> Result<Outcome, Error> {
    let tests = list(options, suite)?;
    let seed = options.seed.unwrap_or_else(seed_from_clock);
    let logs = workspace::metadata()?.target_directory.join("interop");
    fs::create_dir_all(&logs)?;
    println!(
        "{} tests, {} runs each against {}, seed {seed}",
        tests.len(),
        options.runs,
        broker.label
    );

    let mut queue: Vec<(Test, PathBuf)> = Vec::new();
    for round in (1..=options.runs).rev() {
        let mut order = tests.clone();
        shuffle(&mut order, seed.wrapping_add(u64::from(round)));
        queue.extend(order.into_iter().map(|test| {
            let stem = format!("{}-{}-{round}", test.version.replace('.', ""), test.name);
            (test, logs.join(stem))
        }));
    }
    let total = queue.len();
    let queue = Mutex::new(queue);
    let done: Mutex<Vec<Run>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, total.max(1)) {
            scope.spawn(|| {
                loop {
                    let Some((test, log)) = lock(&queue).pop() else {
                        break;
                    };
                    let begin = Instant::now();
                    let failure = run_one(suite, broker, &test, &log)
                        .err()
                        .map(|error| error.to_string());
                    let run = Run {
                        test,
                        seconds: begin.elapsed().as_secs_f64(),
                        failure,
                    };
                    let mut done = lock(&done);
                    let verdict = run
                        .failure
                        .as_deref()
                        .map_or("ok".into(), |failure| format!("FAILED: {failure}"));
                    let Test { version, name } = &run.test;
                    println!(
                        "[{}/{total}] {version} {name}: {verdict} ({:.1} s)",
                        done.len() + 1,
                        run.seconds
                    );
                    done.push(run);
                }
            });
        }
    });
    let done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let rows: Vec<Row> = tests.iter().map(|test| row(test, &done)).collect();
    let outcome = results::print(&rows);
    if let Some(path) = &options.write {
        let facts = [
            ("broker", broker.label.clone()),
            ("commit", results::commit()),
            (
                "suite",
                format!("eclipse/paho.mqtt.testing at {}", &suite::COMMIT[..12]),
            ),
            (
                "order",
                format!("random, seed {seed}, {} at a time", options.jobs),
            ),
            (
                "repeat with",
                format!(
                    "`cargo xtask interop --runs {} --seed {seed}`",
                    options.runs
                ),
            ),
        ];
        results::write(path, "Eclipse Paho interoperability suite", &facts, &rows)?;
    }
    Ok(outcome)
}

fn row(test: &Test, done: &[Run]) -> Row {
    let runs: Vec<&Run> = done.iter().filter(|run| run.test == *test).collect();
    let seconds = runs.iter().map(|run| run.seconds);
    let low = seconds.clone().fold(f64::INFINITY, f64::min);
    let high = seconds.fold(0.0, f64::max);
    Row {
        group: format!("MQTT {}", test.version),
        name: test.name.clone(),
        passed: runs.iter().filter(|run| run.failure.is_none()).count() as u32,
        runs: runs.len() as u32,
        seconds: (!runs.is_empty()).then_some((low, high)),
        note: runs
            .iter()
            .find_map(|run| run.failure.clone())
            .unwrap_or_default(),
    }
}

/// Asks the suite for its tests; another number than the pinned commit has is an error, not a smaller table.
fn list(options: &Options, suite: &Path) -> Result<Vec<Test>, Error> {
    let mut tests = Vec::new();
    for &(version, expected) in VERSIONS {
        let output = runner(suite, version)
            .arg("--list")
            .output()
            .map_err(|error| format!("python3: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "the suite cannot be read: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into());
        }
        let names: Vec<String> = String::from_utf8(output.stdout)?
            .lines()
            .map(ToString::to_string)
            .collect();
        if names.len() != expected {
            let found = names.len();
            return Err(format!(
                "the suite has {found} tests for MQTT {version}, not {expected}: another commit?"
            )
            .into());
        }
        let wanted = |name: &String| {
            options
                .filter
                .as_ref()
                .is_none_or(|text| name.contains(text.as_str()))
        };
        tests.extend(
            names
                .into_iter()
                .filter(wanted)
                .map(|name| Test { version, name }),
        );
    }
    Ok(tests)
}

fn runner(suite: &Path, version: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(workspace::root().join("interop/run_paho.py"));
    command
        .arg("--suite")
        .arg(suite)
        .args(["--version", version])
        .stdin(Stdio::null());
    command
}

/// One test against one broker. The error is the reason of the failure; output is kept beside `log`.
fn run_one(suite: &Path, broker: &BrokerCommand, test: &Test, log: &Path) -> Result<(), Error> {
    let broker = broker.start(&log.with_extension("broker.log"))?;
    let path = log.with_extension("test.log");
    let output = File::create(&path)?;
    let mut command = runner(suite, test.version);
    command.args(["--port", &broker.port.to_string(), "--test", &test.name]);
    command.stdout(output.try_clone()?).stderr(output);
    let status = Running::new(command.spawn()?).wait(TEST_TIMEOUT)?;
    broker.stop()?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(format!("{}; see {}", last_error(&path), path.display()).into()),
        None => Err(format!(
            "no end after {} s; see {}",
            TEST_TIMEOUT.as_secs(),
            path.display()
        )
        .into()),
    }
}

/// The last line of the output that names an exception.
fn last_error(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .rfind(|line| line.contains("Error") || line.contains("Exception"));
    line.unwrap_or("failed").trim().chars().take(160).collect()
}

fn seed_from_clock() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    now.as_secs() % 1_000_000
}

/// Fisher and Yates with an xorshift generator: the same seed gives the same order on every machine.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_an_order() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..38).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut sorted = order(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..38).collect::<Vec<u32>>());
    }
}
