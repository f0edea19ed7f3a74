//! What a run adds up to: kept while it goes on, so that it can be resumed, and written as a row of a log.

use super::scene::Kind;
use crate::{Error, workspace};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sums over all cycles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) cycles: u64,
    /// Kills, also those before the broker was ready.
    pub(super) kills: u64,
    pub(super) acknowledged: u64,
    pub(super) delivered: u64,
    /// Handshakes that were open when the broker was killed.
    pub(super) in_flight: u64,
    /// Fewest messages acknowledged in a cycle.
    pub(super) fewest: Option<u64>,
    /// Damages the store had to survive.
    pub(super) torn: u64,
    /// Damages the store had to refuse.
    pub(super) refused: u64,
    /// Wills, looks at retained messages and looks at subscriptions that were right.
    pub(super) wills: u64,
    pub(super) retained: u64,
    pub(super) subscriptions: u64,
    /// Slowest start, in milliseconds.
    pub(super) slowest_start: u64,
    /// By [`Kind`].
    pub(super) findings: [u64; Kind::ALL.len()],
    pub(super) seconds: u64,
}

impl Totals {
    pub(super) fn finding(&self, kind: Kind) -> u64 {
        self.findings[kind as usize]
    }

    pub(super) fn all_findings(&self) -> u64 {
        self.findings.iter().sum()
    }

    /// What was found beside losses, duplicates and order, in words.
    fn others(&self) -> String {
        let main = [Kind::Lost, Kind::Duplicated, Kind::Order];
        let others: Vec<String> = Kind::ALL
            .into_iter()
            .filter(|kind| !main.contains(kind) && self.finding(*kind) > 0)
            .map(|kind| format!("{} {}", self.finding(kind), kind.name()))
            .collect();
        if others.is_empty() {
            "none".to_string()
        } else {
            others.join(", ")
        }
    }

    /// The sums in words.
    pub(super) fn text(&self) -> String {
        format!(
            "{} cycles, {} kills, {} messages acknowledged, {} delivered, {} in flight when killed; \
             {} wills, {} retained messages and {} sets of subscriptions right; \
             {} damaged ends survived, {} damaged logs refused; slowest start {} ms; \
             {} lost, {} duplicated, {} out of order; other findings: {}; {} s",
            self.cycles,
            self.kills,
            self.acknowledged,
            self.delivered,
            self.in_flight,
            self.wills,
            self.retained,
            self.subscriptions,
            self.torn,
            self.refused,
            self.slowest_start,
            self.finding(Kind::Lost),
            self.finding(Kind::Duplicated),
            self.finding(Kind::Order),
            self.others(),
            self.seconds
        )
    }

    fn row(&self, label: &str, seed: u64) -> String {
        format!(
            "| {} | {} | {label} | {seed} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            output("date", &["-u", "+%F"]),
            output("git", &["rev-parse", "--short=10", "HEAD"]),
            self.cycles,
            self.kills,
            self.acknowledged,
            self.delivered,
            self.in_flight,
            self.finding(Kind::Lost),
            self.finding(Kind::Duplicated),
            self.finding(Kind::Order),
            self.others(),
            self.torn,
            self.refused,
        )
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace::root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        }
        _ => "unknown".to_string(),
    }
}

/// Where the totals of a run with these settings are kept.
pub(super) fn path(label: &str, seed: u64) -> Result<PathBuf, Error> {
    let name: String = label
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect();
    let folder = workspace::metadata()?.target_directory.join("crash");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}-{seed}.json")))
}

pub(super) fn load(path: &Path) -> Result<Option<Totals>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
}

pub(super) fn save(path: &Path, totals: &Totals) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(totals)?)?;
    Ok(fs::rename(new, path)?)
}

const HEAD: &str = "\
# Crash log

Runs of `cargo xtask crash`: publishers and persistent subscribers against the real program, which is killed with
SIGKILL at random moments and restarted on the same data; at the end of every few cycles everything is drained and
compared. A row is appended by `--write`. \"In flight\" are handshakes that were open when the broker was killed; \"torn\"
are damages behind the synced mark, which the store must survive; \"refused\" are damages before it, on a copy, which it
must not open.

| date | commit | broker | seed | cycles | kills | acknowledged | delivered | in flight | lost | duplicated | out of order | other findings | torn | refused |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// Appends a row to the log.
pub(super) fn append(log: &Path, totals: &Totals, label: &str, seed: u64) -> Result<(), Error> {
    let new = !log.exists();
    let mut file = fs::File::options().append(true).create(true).open(log)?;
    if new {
        file.write_all(HEAD.as_bytes())?;
    }
    Ok(file.write_all(totals.row(label, seed).as_bytes())?)
}
