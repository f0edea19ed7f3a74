//! Which statements of the specifications a test shows, and whether the tests can fail; behind `cargo xtask conformance`.
//!
//! Without an argument it joins `statements.csv` with the `// shows:` lines of the tests, prints covered / testable by
//! specification and area, and fails when a testable statement on the server or on both has no test. With `--mutants` it
//! runs, for each row of `mutants.csv`, the named test behind the rule-breaking proxy and requires that it fails, after the
//! same tests have passed without it. Deliberately absent: a judgement of its own on what a statement means.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the result of this program"
)]

use martlet_interop::mutants::VARIABLE;
use martlet_interop::statements::{Key, Statement, csv, statements, tests_below};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;

/// Tests at one time; most of them wait for a silence.
const JOBS: usize = 8;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> Result<String, Failure> {
    std::fs::read_to_string(folder().join(name)).map_err(|error| format!("{name}: {error}").into())
}

/// Prints the coverage; `Ok(true)` when nothing that must be shown is missing.
fn coverage() -> Result<bool, Failure> {
    let statements = statements(&read("statements.csv")?);
    let mut tests: BTreeMap<Key, usize> = BTreeMap::new();
    for shown in tests_below(&folder().join("tests/conformance"))? {
        for key in shown.keys {
            *tests.entry(key).or_default() += 1;
        }
    }
    let known: BTreeSet<&Key> = statements.iter().map(|row| &row.key).collect();
    let unknown: Vec<&Key> = tests.keys().filter(|key| !known.contains(key)).collect();
    for (specification, id) in &unknown {
        println!("{specification} {id}: named by a test, but not a statement");
    }
    println!(
        "| specification | party | covered | testable | all |\n| --- | --- | --- | --- | --- |"
    );
    for specification in ["5.0", "3.1.1"] {
        for party in ["server", "both", "client"] {
            let rows: Vec<&Statement> = statements
                .iter()
                .filter(|row| row.key.0 == specification && row.party == party)
                .collect();
            let testable = rows.iter().filter(|row| row.testable).count();
            let covered = rows
                .iter()
                .filter(|row| row.testable && tests.contains_key(&row.key))
                .count();
            println!(
                "| MQTT {specification} | {party} | {covered} | {testable} | {} |",
                rows.len()
            );
        }
    }
    let missing: Vec<&Statement> = statements
        .iter()
        .filter(|row| row.testable && row.party != "client" && !tests.contains_key(&row.key))
        .collect();
    for row in &missing {
        let (specification, id) = &row.key;
        println!("{specification} {id}: no test shows it: {}", row.paraphrase);
    }
    let required = statements
        .iter()
        .filter(|row| row.testable && row.party != "client")
        .count();
    println!(
        "{} of {required} testable server statements shown",
        required - missing.len()
    );
    Ok(missing.is_empty() && unknown.is_empty())
}

/// A row of `mutants.csv`.
struct Row {
    mutant: String,
    statement: String,
    test: String,
    description: String,
}

fn rows() -> Result<Vec<Row>, Failure> {
    csv(&read("mutants.csv")?)
        .into_iter()
        .skip(1)
        .map(|fields| match <[String; 5]>::try_from(fields) {
            Ok([mutant, specification, id, test, description]) => Ok(Row {
                mutant,
                statement: format!("{specification} {id}"),
                test,
                description,
            }),
            Err(fields) => Err(format!("mutants.csv: five fields, not {fields:?}").into()),
        })
        .collect()
}

/// Builds the tests and returns the program that runs them, as cargo names it: `Executable tests/... (PATH)`.
/// With the features that the whole workspace uses, because that is how they have been built before.
fn test_program() -> Result<PathBuf, Failure> {
    let root = folder().parent().unwrap_or(folder());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["test", "--workspace", "--test", "conformance", "--no-run"])
        .args(["--color", "never"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let path = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("Executable ")?.split_once(" ("))
        .map(|(_, path)| path.trim_end_matches(')'))
        .ok_or_else(|| format!("the tests do not build:\n{text}"))?;
    Ok(root.join(path))
}

/// Whether exactly this one test ran, and if so whether it passed.
fn verdict(output: &Output) -> Option<bool> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.starts_with("test result: "))?;
    if line.contains(" 1 passed; 0 failed;") {
        return Some(true);
    }
    line.contains(" 0 passed; 1 failed;").then_some(false)
}

fn run_test(program: &Path, test: &str, mutant: &str) -> Result<Option<bool>, Failure> {
    let output = Command::new(program)
        .args(["--exact", test])
        .env(VARIABLE, mutant)
        .output()?;
    Ok(verdict(&output))
}

/// Runs `work` for every item on a few threads and returns the results in order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = next.lock().expect("no thread panics with the counter");
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    let mut results = results.lock().expect("no thread panics with the results");
                    results.push((index, result));
                }
            });
        }
    });
    let mut results = results
        .into_inner()
        .expect("no thread panics with the results");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Prints a row for each mutant; `Ok(true)` when every one is caught by its test.
fn mutants() -> Result<bool, Failure> {
    let rows = rows()?;
    let program = test_program()?;
    let tests: BTreeSet<&str> = rows.iter().map(|row| row.test.as_str()).collect();
    let tests: Vec<&str> = tests.into_iter().collect();
    println!("{} tests without a mutant", tests.len());
    let honest = in_parallel(&tests, |test| run_test(&program, test, ""));
    let mut sound = BTreeSet::new();
    for (test, result) in tests.iter().zip(honest) {
        if result? == Some(true) {
            sound.insert(*test);
        } else {
            println!("{test}: does not pass without a mutant");
        }
    }
    println!("{} mutants", rows.len());
    let results = in_parallel(&rows, |row| {
        let result = run_test(&program, &row.test, &row.mutant);
        let caught = matches!(result, Ok(Some(false))) && sound.contains(row.test.as_str());
        println!(
            "  {}: {}",
            row.mutant,
            if caught { "caught" } else { "NOT CAUGHT" }
        );
        caught
    });
    println!("\n| mutant | statement | caught by | what it does |\n| --- | --- | --- | --- |");
    for (row, caught) in rows.iter().zip(&results) {
        let test = if *caught {
            row.test.as_str()
        } else {
            "**nothing**"
        };
        println!(
            "| {} | {} | {test} | {} |",
            row.mutant, row.statement, row.description
        );
    }
    let caught = results.iter().filter(|caught| **caught).count();
    println!("\n{caught} of {} mutants caught", rows.len());
    Ok(caught == rows.len() && sound.len() == tests.len())
}

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        None => coverage(),
        Some("--mutants") => mutants(),
        Some(other) => Err(format!("unknown argument {other:?}; there is only --mutants").into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
