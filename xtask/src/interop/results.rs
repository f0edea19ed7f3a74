//! Results as a table for the terminal and for a Markdown file.

use super::process::output_of;
use crate::{Error, Outcome, workspace};
use std::fmt::Write as _;
use std::path::Path;

/// One row: a test or a check of a client, over all its runs.
pub(super) struct Row {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) passed: u32,
    pub(super) runs: u32,
    /// Shortest and longest run, in seconds.
    pub(super) seconds: Option<(f64, f64)>,
    /// Why a run failed or the row was left out.
    pub(super) note: String,
}

impl Row {
    fn failed(&self) -> u32 {
        self.runs - self.passed
    }
}

/// Prints the rows and the closing line that counts them.
pub(super) fn print(rows: &[Row]) -> Outcome {
    println!("\n{}", table(rows));
    let passed: u32 = rows.iter().map(|row| row.passed).sum();
    let failed: u32 = rows.iter().map(Row::failed).sum();
    let skipped: Vec<&Row> = rows.iter().filter(|row| row.runs == 0).collect();
    for row in &skipped {
        println!("{} {}: SKIPPED ({})", row.group, row.name, row.note);
    }
    println!(
        "{passed} passed, {failed} failed, {} skipped",
        skipped.len()
    );
    if failed == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    }
}

/// The rows as a Markdown table.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | test | passed | seconds | note |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let seconds = row
            .seconds
            .map_or_else(String::new, |(low, high)| format!("{low:.1} - {high:.1}"));
        let Row {
            group,
            name,
            passed,
            runs,
            note,
            ..
        } = row;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {group} | {name} | {passed}/{runs} | {seconds} | {} |",
            note.replace('|', "/")
        );
    }
    text
}

/// Keeps the table, with what was tested and how to repeat it.
pub(super) fn write(
    path: &Path,
    title: &str,
    facts: &[(&str, String)],
    rows: &[Row],
) -> Result<(), Error> {
    let mut text = format!("# {title}\n\n");
    for (name, value) in facts {
        writeln!(text, "* {name}: {value}")?;
    }
    let passed: u32 = rows.iter().map(|row| row.passed).sum();
    let runs: u32 = rows.iter().map(|row| row.runs).sum();
    write!(text, "* passed: {passed} of {runs}\n\n{}", table(rows))?;
    let path = workspace::root().join(path);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The commit of this checkout, marked when files differ from it.
pub(super) fn commit() -> String {
    let Some(commit) = output_of("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    let changes = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "Cargo.lock",
        "crates",
    ];
    match output_of("git", &changes) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with local changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table() {
        let row = |passed, runs, seconds| Row {
            group: "MQTT 5.0".into(),
            name: "test_basic".into(),
            passed,
            runs,
            seconds,
            note: "a|b".into(),
        };
        let text = table(&[row(9, 10, Some((1.0, 2.25))), row(0, 0, None)]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| MQTT 5.0 | test_basic | 9/10 | 1.0 - 2.2 | a/b |",
                "| MQTT 5.0 | test_basic | 0/0 |  | a/b |"
            ]
        );
    }
}
