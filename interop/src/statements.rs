//! The table of normative statements, the `shows:` lines of the tests, and what is missing between them.

use std::collections::BTreeSet;
use std::path::Path;

/// A specification and the id of one of its statements, as `("5.0", "MQTT-3.1.0-2")`.
pub type Key = (String, String);

/// A row of `statements.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Specification and id.
    pub key: Key,
    /// `server`, `client` or `both`.
    pub party: String,
    /// What it says.
    pub paraphrase: String,
    /// Whether a partner on the wire can see it kept or broken.
    pub testable: bool,
}

/// A test and the statements it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Module and function, as `connect::second_connect`.
    pub test: String,
    /// The statements.
    pub keys: BTreeSet<Key>,
}

/// Splits lines of double-quoted fields, as all tables here are written.
pub fn csv(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let inner = line.trim().trim_start_matches('"').trim_end_matches('"');
            inner
                .split("\",\"")
                .map(|field| field.replace("\"\"", "\""))
                .collect()
        })
        .collect()
}

/// Reads `statements.csv`.
pub fn statements(text: &str) -> Vec<Statement> {
    csv(text)
        .into_iter()
        .skip(1)
        .map(|row| Statement {
            key: (row[1].clone(), row[0].clone()),
            party: row[2].clone(),
            paraphrase: row[3].clone(),
            testable: row[5] == "yes",
        })
        .collect()
}

/// Reads `// shows: 5.0 MQTT-1-1, MQTT-1-2; 3.1.1 MQTT-1-1` after its `shows:`.
///
/// # Errors
/// The line has no specification in front of an id, or one nobody knows.
pub fn shows(line: &str) -> Result<BTreeSet<Key>, String> {
    let mut keys = BTreeSet::new();
    for group in line
        .split(';')
        .map(str::trim)
        .filter(|group| !group.is_empty())
    {
        let (specification, ids) = group
            .split_once(' ')
            .ok_or_else(|| format!("no ids in {group:?}"))?;
        if !["5.0", "3.1.1"].contains(&specification) {
            return Err(format!("unknown specification {specification:?}"));
        }
        for id in ids.split(',').map(str::trim) {
            keys.insert((specification.to_owned(), id.to_owned()));
        }
    }
    Ok(keys)
}

/// Reads all tests of one source file.
///
/// # Errors
/// A `shows:` line that cannot be read, or that no test follows.
pub fn tests_in(module: &str, source: &str) -> Result<Vec<Shown>, String> {
    let mut tests = Vec::new();
    let mut keys = BTreeSet::new();
    for (index, line) in source.lines().enumerate() {
        let line = line.trim();
        if let Some(list) = line.strip_prefix("// shows:") {
            keys.extend(
                shows(list).map_err(|error| format!("{module} line {}: {error}", index + 1))?,
            );
        } else if let Some(rest) = line
            .strip_prefix("async fn ")
            .or_else(|| line.strip_prefix("fn "))
        {
            let name = rest.split('(').next().unwrap_or_default();
            if !keys.is_empty() {
                tests.push(Shown {
                    test: format!("{module}::{name}"),
                    keys: std::mem::take(&mut keys),
                });
            }
        } else if !line.is_empty()
            && !line.starts_with("//")
            && !line.starts_with("#[")
            && !keys.is_empty()
        {
            return Err(format!(
                "{module} line {}: `shows:` is not followed by a test",
                index + 1
            ));
        }
    }
    Ok(tests)
}

/// Reads all tests below `folder`; each file is a module.
///
/// # Errors
/// A file that cannot be read, or what [`tests_in`] finds wrong.
pub fn tests_below(folder: &Path) -> Result<Vec<Shown>, String> {
    let mut tests = Vec::new();
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let module = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        tests.extend(tests_in(&module, &source)?);
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants;

    fn own(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
            .expect("a file of this crate")
    }

    fn own_tests() -> Vec<Shown> {
        tests_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"))
            .expect("the tests can be read")
    }

    #[test]
    fn the_table_has_both_specifications_whole() {
        let statements = statements(&own("statements.csv"));
        let count = |specification: &str| {
            statements
                .iter()
                .filter(|row| row.key.0 == specification)
                .count()
        };
        assert_eq!(
            (count("5.0"), count("3.1.1"), statements.len()),
            (251, 141, 392)
        );
    }

    #[test]
    fn shows_lines_are_read() {
        let source = "// shows: 5.0 MQTT-1-1, MQTT-1-2\n// shows: 3.1.1 MQTT-9-9\n#[tokio::test]\nasync fn it() {\n";
        let tests = tests_in("m", source).unwrap();
        assert_eq!(tests.len(), 1);
        assert_eq!(tests[0].test, "m::it");
        assert_eq!(
            tests[0].keys,
            shows("5.0 MQTT-1-1, MQTT-1-2; 3.1.1 MQTT-9-9").unwrap()
        );
        assert!(shows("4.0 MQTT-1-1").is_err());
        assert!(tests_in("m", "// shows: 5.0 A\nlet x = 1;\n").is_err());
    }

    #[test]
    fn every_shown_statement_exists() {
        let known: BTreeSet<Key> = statements(&own("statements.csv"))
            .into_iter()
            .map(|row| row.key)
            .collect();
        for shown in own_tests() {
            for key in &shown.keys {
                assert!(
                    known.contains(key),
                    "{} shows {key:?}, which is no statement",
                    shown.test
                );
            }
        }
    }

    #[test]
    fn every_testable_statement_is_shown() {
        let shown: BTreeSet<Key> = own_tests().into_iter().flat_map(|test| test.keys).collect();
        let missing: Vec<String> = statements(&own("statements.csv"))
            .into_iter()
            .filter(|row| row.testable && !shown.contains(&row.key))
            .map(|row| {
                format!(
                    "{} {} ({}): {}",
                    row.key.0, row.key.1, row.party, row.paraphrase
                )
            })
            .collect();
        assert!(
            missing.is_empty(),
            "{} without a test:\n{}",
            missing.len(),
            missing.join("\n")
        );
    }

    #[test]
    fn every_mutant_names_a_statement_and_a_test_that_shows_it() {
        let tests = own_tests();
        let rows = csv(&own("mutants.csv"));
        let mut names = BTreeSet::new();
        for row in &rows[1..] {
            let [name, specification, statement, test, description] = row.as_slice() else {
                panic!("five fields, not {row:?}");
            };
            assert!(
                !description.is_empty() && names.insert(name.as_str()),
                "{row:?}"
            );
            let shown = tests
                .iter()
                .find(|shown| shown.test == *test)
                .unwrap_or_else(|| panic!("no test {test}"));
            assert!(
                shown
                    .keys
                    .contains(&(specification.clone(), statement.clone())),
                "{test} does not show {statement}"
            );
        }
        let built: BTreeSet<&str> = mutants::all()
            .map(|mutant| mutant.name)
            .filter(|name| *name != "none")
            .collect();
        assert_eq!(
            names, built,
            "mutants.csv and the mutants in the source differ"
        );
    }
}
