//! What was measured, and the table that is made of it: medians, spread, ratios and targets.

use super::Options;
use super::peers::{MEMORY, Peer};
use super::rows::{Line, Row, Target};
use crate::{Error, workspace};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// One broker, one workload, one round.
pub(super) enum Cell {
    Report(Value),
    Failed(String),
}

/// A broker in the results.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) version: String,
    settings: &'static str,
}

/// Everything that was measured.
pub(super) struct Results {
    pub(super) columns: Vec<Column>,
    missing: Vec<(String, String)>,
    pub(super) rows: Vec<&'static Row>,
    cells: BTreeMap<(String, String), Vec<Cell>>,
    rounds: usize,
    duration: f64,
    machine: String,
}

/// Median and range of one line for one broker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// The same, or why there is none.
pub(super) enum Entry {
    Summary(Summary),
    Failed(String),
    Absent,
}

impl Results {
    pub(super) fn new(
        peers: &[Peer],
        missing: &[(String, String)],
        rows: &[&'static Row],
        options: &Options,
    ) -> Self {
        Self {
            columns: peers
                .iter()
                .map(|peer| Column {
                    name: peer.name.clone(),
                    version: peer.version.clone(),
                    settings: peer.settings,
                })
                .collect(),
            missing: missing.to_vec(),
            rows: rows.to_vec(),
            cells: BTreeMap::new(),
            rounds: options.rounds,
            duration: options.duration,
            machine: machine(options.martlet.is_none()),
        }
    }

    pub(super) fn add(&mut self, row: &Row, peer: &Peer, cell: Cell) {
        let key = (row.name.to_string(), peer.name.clone());
        self.cells.entry(key).or_default().push(cell);
    }

    /// Runs of a broker.
    pub(super) fn runs(&self, peer: &str) -> usize {
        self.of(peer).count()
    }

    /// Failed runs of a broker.
    pub(super) fn failures(&self, peer: &str) -> usize {
        self.of(peer)
            .filter(|cell| matches!(cell, Cell::Failed(_)))
            .count()
    }

    fn of(&self, peer: &str) -> impl Iterator<Item = &Cell> {
        self.cells
            .iter()
            .filter(move |((_, name), _)| name == peer)
            .flat_map(|(_, cells)| cells)
    }

    /// What a broker reached in a line. One failed run makes the line a failure: a promise is kept always or not.
    pub(super) fn entry(&self, row: &Row, line: &Line, peer: &str) -> Entry {
        let key = (row.name.to_string(), peer.to_string());
        let Some(cells) = self.cells.get(&key) else {
            return Entry::Absent;
        };
        let mut values = Vec::new();
        for cell in cells {
            match cell {
                Cell::Failed(reason) => return Entry::Failed(reason.clone()),
                Cell::Report(report) => values.extend(figure(report, line.figure)),
            }
        }
        summarise(values).map_or(Entry::Absent, Entry::Summary)
    }

    /// The median of a line, if every run kept its promises.
    fn median(&self, row: &Row, line: &Line, peer: &str) -> Option<f64> {
        match self.entry(row, line, peer) {
            Entry::Summary(summary) => Some(summary.median),
            Entry::Failed(_) | Entry::Absent => None,
        }
    }

    /// The limit that a target means in this run, and the share of it that each of ours takes.
    fn judge(&self, row: &Row, line: &Line) -> Option<(String, Vec<(&'static str, f64)>)> {
        let (words, limit) = match line.target {
            Target::None => return None,
            Target::Mosquitto(factor) => (
                format!("{factor} × Mosquitto"),
                self.median(row, line, "mosquitto")
                    .map(|theirs| theirs * factor),
            ),
            Target::AtMost(limit) => (format!("{limit} {}", line.unit), Some(limit)),
            Target::Row(name, factor) => (
                format!("{factor} × {name}"),
                self.lines()
                    .find(|(row, other)| row.name == name && other.figure == line.figure)
                    .and_then(|(row, line)| self.median(row, line, "martlet"))
                    .map(|other| other * factor),
            ),
            Target::Best => (
                "best peer".to_string(),
                self.columns
                    .iter()
                    .filter(|column| !column.name.starts_with("martlet") && column.name != "null")
                    .filter_map(|column| self.median(row, line, &column.name))
                    .reduce(f64::min),
            ),
        };
        let limit = limit.filter(|limit| *limit > 0.0);
        let shares = [("martlet", ""), (MEMORY, "in memory: ")]
            .into_iter()
            .filter_map(|(peer, words)| Some((words, self.median(row, line, peer)? / limit?)));
        Some((words, shares.collect()))
    }

    /// The report for people.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# Side by side\n\n");
        let _ = writeln!(
            text,
            "Made by `cargo xtask bench --rounds {} --duration {}`. {}\n",
            self.rounds, self.duration, self.machine
        );
        text.push_str(
            "Median of the rounds (least to most). CPU figures are microseconds of broker CPU per delivered 64-byte \
             message, all threads, unless the line says otherwise; less is better. *null* is no broker but a relay that \
             passes bytes on: the floor. A run in which one message was lost, doubled, out of order or changed is FAIL.\n\n",
        );
        text.push_str("| workload | unit |");
        for column in &self.columns {
            let _ = write!(text, " {} |", column.name);
        }
        text.push_str(" ÷ mosquitto | target | met |\n|---|---|");
        text.push_str(&"--:|".repeat(self.columns.len()));
        text.push_str("--:|---|---|\n");
        let mut reasons = Vec::new();
        for (row, line) in self.lines() {
            let _ = write!(text, "| {} | {} |", line.title, line.unit);
            for column in &self.columns {
                let cell = match self.entry(row, line, &column.name) {
                    Entry::Summary(summary) => format!(
                        "{} ({} – {})",
                        number(summary.median),
                        number(summary.least),
                        number(summary.most)
                    ),
                    Entry::Failed(reason) => {
                        reasons.push(format!("{}, {}: {reason}", line.title, column.name));
                        format!("FAIL [{}]", reasons.len())
                    }
                    Entry::Absent => "–".to_string(),
                };
                let _ = write!(text, " {cell} |");
            }
            let ratio = self
                .median(row, line, "martlet")
                .zip(self.median(row, line, "mosquitto"))
                .filter(|(_, theirs)| *theirs > 0.0)
                .map_or("–".to_string(), |(ours, theirs)| number(ours / theirs));
            let (target, shares) = self
                .judge(row, line)
                .unwrap_or_else(|| ("–".to_string(), Vec::new()));
            let verdicts: Vec<String> = shares
                .into_iter()
                .map(|(words, share)| {
                    let met = if share <= 1.0 { "met" } else { "**not met**" };
                    format!("{words}{met}, at {:.0} %", share * 100.0)
                })
                .collect();
            let met = if verdicts.is_empty() {
                "–".to_string()
            } else {
                verdicts.join("; ")
            };
            let _ = writeln!(text, " {ratio} | {target} | {met} |");
        }
        text.push_str("\n\"At 80 %\" means 80 % of what the target allows.\n");
        if !reasons.is_empty() {
            text.push_str("\n## Failures\n\n");
            for (index, reason) in reasons.iter().enumerate() {
                let _ = writeln!(text, "{}. {}", index + 1, reason.replace('\n', " "));
            }
        }
        text.push_str("\n## Brokers\n\n");
        for column in &self.columns {
            let _ = writeln!(
                text,
                "* **{}**: {}; {}.",
                column.name, column.version, column.settings
            );
        }
        for (name, reason) in &self.missing {
            let _ = writeln!(text, "* **{name}**: skipped, {reason}.");
        }
        text.push_str("\n## Generator\n\nCPU of the generator per delivered message, beside the broker's:\n\n| workload |");
        for column in &self.columns {
            let _ = write!(text, " {} |", column.name);
        }
        text.push_str("\n|---|");
        text.push_str(&"--:|".repeat(self.columns.len()));
        text.push('\n');
        for row in &self.rows {
            let line = Line {
                title: row.name,
                figure: "generator_cpu_micros_per_delivery",
                unit: "µs",
                target: Target::None,
            };
            let values: Vec<Option<f64>> = self
                .columns
                .iter()
                .map(|column| self.median(row, &line, &column.name))
                .collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "| `martlet bench {}` |", row.arguments.join(" "));
            for value in values {
                let _ = write!(text, " {} |", value.map_or("–".to_string(), number));
            }
            text.push('\n');
        }
        text
    }

    /// Every line of the table.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static Row, &'static Line)> {
        self.rows
            .iter()
            .flat_map(|row| row.lines.iter().map(move |line| (*row, line)))
    }

    /// All reports as they came.
    pub(super) fn json(&self) -> Result<String, Error> {
        let runs: Vec<Value> = self
            .cells
            .iter()
            .flat_map(|((row, peer), cells)| {
                cells.iter().map(move |cell| match cell {
                    Cell::Report(report) => json!({"row": row, "broker": peer, "report": report}),
                    Cell::Failed(reason) => json!({"row": row, "broker": peer, "failed": reason}),
                })
            })
            .collect();
        let brokers: BTreeMap<&str, &str> = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.version.as_str()))
            .collect();
        let all = json!({"machine": self.machine, "brokers": brokers, "runs": runs});
        Ok(serde_json::to_string_pretty(&all)?)
    }
}

/// What the terminal shows of one run.
pub(super) fn summary(row: &Row, cell: &Cell) -> String {
    match cell {
        Cell::Failed(reason) => format!("FAIL ({reason})"),
        Cell::Report(report) => row
            .lines
            .iter()
            .filter_map(|line| {
                let value = figure(report, line.figure)?;
                Some(format!("{} {}", number(value), line.unit))
            })
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// A figure of a report.
fn figure(report: &Value, name: &str) -> Option<f64> {
    match name.split_once('.') {
        Some((group, key)) => report.get(group)?.get(key)?.as_f64(),
        None => report.get("figures")?.get(name)?.as_f64(),
    }
}

/// Median and range; `None` of nothing.
fn summarise(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    let (&least, &most) = (values.first()?, values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Summary {
        median,
        least,
        most,
    })
}

/// Three significant digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        value_abs if value_abs >= 100.0 => format!("{value:.0}"),
        value_abs if value_abs >= 10.0 => format!("{value:.1}"),
        value_abs if value_abs >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Processor, kernel, day and load, so that a table can be judged later.
fn machine(built_here: bool) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(workspace::root())
            .output();
        output.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        })
    };
    let day = said("date", &["-u", "+%Y-%m-%d"]);
    // A program that was handed in may have been built from anything.
    let commit = if built_here {
        let clean = said("git", &["status", "--porcelain"]).is_empty();
        let changes = if clean {
            ""
        } else {
            " with uncommitted changes"
        };
        format!(
            "commit {}{changes}",
            said("git", &["rev-parse", "--short", "HEAD"])
        )
    } else {
        "a program that was handed in, of unknown commit".to_string()
    };
    format!(
        "{cores} cores of {processor}, Linux {}, load {load} before the first run, {day}, {commit}.",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_rounds() {
        assert_eq!(summarise(vec![]), None);
        let of = |values: &[f64]| summarise(values.to_vec()).map(|summary| summary.median);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn figures_and_percentiles_are_found() {
        let report = json!({"figures": {"a": 1.5}, "latency_micros": {"p50": 20}});
        assert_eq!(figure(&report, "a"), Some(1.5));
        assert_eq!(figure(&report, "latency_micros.p50"), Some(20.0));
        assert_eq!(figure(&report, "latency_micros.p51"), None);
        assert_eq!(figure(&report, "b"), None);
    }
}
