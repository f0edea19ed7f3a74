//! `martlet store`: looking at a store, copying it, and carrying it elsewhere, while no broker runs on it.
//!
//! Everything that was done is on the standard error stream, everything that was asked for on standard output.
//! Deliberately absent: changing single rows, and the online backup of a running broker.

pub mod args;
mod progress;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use martlet_storage::transfer::{self, TransferError};
use martlet_storage::{Storage as _, Table};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage, OpenReport};

use crate::output::stderr_line;
use args::{
    BackupArgs, CheckStoreArgs, DumpArgs, ExportArgs, ImportArgs, InfoArgs, PlaceArgs, RestoreArgs,
    StoreArgs, StoreCommand,
};
use progress::{Progress, bytes};

/// Runs the command.
pub fn run(args: &StoreArgs) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match command(&args.command, &mut stdout) {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Err(Failure(text)) => {
            stderr_line(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether the store is as it should be.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    Wrong,
}

/// Why a command could not be carried out.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn command(command: &StoreCommand, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let result = match command {
        StoreCommand::Info(args) => info(args, out),
        StoreCommand::Dump(args) => dump(args, out),
        StoreCommand::Check(args) => check(args),
        StoreCommand::Backup(args) => backup(args),
        StoreCommand::Restore(args) => restore(args),
        StoreCommand::Compact(args) => compact(args),
        StoreCommand::Export(args) => export(args, out),
        StoreCommand::Import(args) => import(args),
    };
    match result {
        // Whoever read the output has seen enough.
        Err(Failure(text)) if text == BROKEN_PIPE => Ok(Verdict::Well),
        other => other,
    }
}

/// Stands for a reader that went away.
const BROKEN_PIPE: &str = "the reader has gone";

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        Failure(if error.kind() == io::ErrorKind::BrokenPipe {
            BROKEN_PIPE.to_owned()
        } else {
            format!("standard output: {error}")
        })
    })
}

/// Opens a store that exists, and says what was out of the ordinary.
fn open(path: &Path, options: &EmbeddedOptions) -> Result<(EmbeddedStorage, OpenReport), Failure> {
    let (storage, report) = options.open(path)?;
    for remark in report.remarks() {
        stderr_line(&format!("{}: {remark}", path.display()));
    }
    Ok((storage, report))
}

fn reading() -> EmbeddedOptions {
    EmbeddedOptions::default().read_only(true)
}

fn writing() -> EmbeddedOptions {
    EmbeddedOptions::default().create(false)
}

fn info(args: &InfoArgs, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let path = &args.place.directory;
    let (storage, report) = open(path, &reading())?;
    let usage = storage.usage();
    let rows = Table::ALL.map(|table| (table.name(), storage.rows(table)));
    let text = if args.json {
        let rows: serde_json::Map<String, serde_json::Value> = rows
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        let value = serde_json::json!({
            "path": path.display().to_string(),
            "backend": "embedded",
            "format": martlet_storage_embedded::FORMAT,
            "last_batch": report.last_batch,
            "files": report.segments,
            "disk_bytes": usage.disk_bytes,
            "live_bytes": usage.live_bytes,
            "torn": report.torn,
            "rows": rows,
        });
        format!("{value}\n")
    } else {
        let mut text = format!(
            "{}: embedded store, format {}\nlast batch {}, {} files, {} on disk, {} of use\n",
            path.display(),
            martlet_storage_embedded::FORMAT,
            report.last_batch,
            report.segments,
            bytes(usage.disk_bytes),
            bytes(usage.live_bytes)
        );
        for (name, count) in rows.into_iter().filter(|(_, count)| *count > 0) {
            text.push_str(&row_line(name, count));
        }
        text
    };
    written(out.write_all(text.as_bytes()))?;
    Ok(Verdict::Well)
}

fn row_line(name: &str, count: usize) -> String {
    format!("{name:<13} {count:>10}\n")
}

fn dump(args: &DumpArgs, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let unknown = args
        .table
        .iter()
        .find(|name| Table::ALL.iter().all(|table| table.name() != name.as_str()));
    if let Some(name) = unknown {
        let known = Table::ALL.map(Table::name).join(", ");
        return Err(Failure(format!(
            "there is no table `{name}`; there are {known}"
        )));
    }
    let (storage, _) = open(&args.place.directory, &reading())?;
    let mut out = io::BufWriter::new(out);
    let mut verdict = Verdict::Well;
    for table in Table::ALL {
        if !args.table.is_empty() && !args.table.iter().any(|name| name == table.name()) {
            continue;
        }
        let mut failed = None;
        storage.scan(table, &[], &mut |key, value| {
            let text = transfer::describe(table, key, value).unwrap_or_else(|error| {
                verdict = Verdict::Wrong;
                format!("{}: {error}", table.name())
            });
            let result = out.write_all(format!("{text}\n").as_bytes());
            result.map_err(|error| failed = Some(error)).is_ok()
        })?;
        if let Some(error) = failed {
            written(Err(error))?;
        }
    }
    written(out.flush())?;
    Ok(verdict)
}

fn check(args: &CheckStoreArgs) -> Result<Verdict, Failure> {
    let path = &args.place.directory;
    let options = if args.repair {
        writing().accept_loss(args.accept_loss)
    } else {
        reading()
    };
    let (storage, report) = open(path, &options)?;
    let mut progress = Progress::new("check", !args.place.quiet);
    let checked = transfer::check(&storage, &mut |done| progress.at(done, None))?;
    drop(progress);
    for problem in &checked.problems {
        stderr_line(&format!("{}: {problem}", path.display()));
    }
    let more = checked.problem_count - checked.problems.len() as u64;
    if more > 0 {
        stderr_line(&format!("{}: and {more} more", path.display()));
    }
    stderr_line(&checked.totals.to_string());
    if checked.problem_count > 0 || !report.lost.is_empty() {
        stderr_line(&format!(
            "{}: {} problems",
            path.display(),
            checked.problem_count + report.lost.len() as u64
        ));
        return Ok(Verdict::Wrong);
    }
    stderr_line(&format!("{}: every row fits", path.display()));
    Ok(Verdict::Well)
}

/// Copies an open store.
fn copy(
    storage: &EmbeddedStorage,
    to: &Path,
    what: &'static str,
    quiet: bool,
) -> Result<(), Failure> {
    let mut progress = Progress::new(what, !quiet);
    storage.checkpoint(to, false, &mut |done, total| progress.at(done, Some(total)))?;
    drop(progress);
    stderr_line(&format!(
        "{}: batch {} and everything before it, {}",
        to.display(),
        storage.last_batch(),
        bytes(storage.usage().disk_bytes)
    ));
    Ok(())
}

fn backup(args: &BackupArgs) -> Result<Verdict, Failure> {
    let (storage, _) = open(&args.place.directory, &writing())?;
    copy(&storage, &args.to, "backup", args.place.quiet)?;
    Ok(Verdict::Well)
}

fn restore(args: &RestoreArgs) -> Result<Verdict, Failure> {
    let to = &args.place.directory;
    let (storage, _) = open(&args.from, &writing())?;
    let mut progress = Progress::new("check", !args.place.quiet);
    let checked = transfer::check(&storage, &mut |done| progress.at(done, None))?;
    drop(progress);
    if let Some(problem) = checked.problems.first() {
        return Err(Failure(format!(
            "{} has {} problems and is not restored; the first: {problem}",
            args.from.display(),
            checked.problem_count
        )));
    }
    // An empty directory is as good as none, and often is what a package made.
    if to.is_dir() && std::fs::read_dir(to)?.next().is_none() {
        std::fs::remove_dir(to)?;
    }
    copy(&storage, to, "restore", args.place.quiet)?;
    Ok(Verdict::Well)
}

fn compact(args: &PlaceArgs) -> Result<Verdict, Failure> {
    let (storage, _) = open(&args.directory, &writing())?;
    let before = storage.usage().disk_bytes;
    let mut progress = Progress::new("compact", !args.quiet);
    storage.compact(&mut |done, total| progress.at(done, Some(total)))?;
    drop(progress);
    stderr_line(&format!(
        "{}: {} before, {} now",
        args.directory.display(),
        bytes(before),
        bytes(storage.usage().disk_bytes)
    ));
    Ok(Verdict::Well)
}

fn export(args: &ExportArgs, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let (storage, _) = open(&args.place.directory, &reading())?;
    let mut progress = Progress::new("export", !args.place.quiet);
    let mut told = |done| progress.at(done, None);
    let totals = if args.to == Path::new("-") {
        match transfer::export(&storage, out, &mut told) {
            Err(TransferError::Io(error)) => {
                written(Err(error))?;
                return Ok(Verdict::Wrong);
            }
            other => other?,
        }
    } else {
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let named = |error| Failure(format!("{}: {error}", args.to.display()));
        let mut file = options
            .write(true)
            .create_new(true)
            .open(&args.to)
            .map_err(named)?;
        let totals = transfer::export(&storage, &mut file, &mut told)?;
        file.sync_all().map_err(named)?;
        totals
    };
    drop(progress);
    stderr_line(&totals.to_string());
    Ok(Verdict::Well)
}

fn import(args: &ImportArgs) -> Result<Verdict, Failure> {
    // Before the store: what cannot be read makes none.
    let mut input: Box<dyn BufRead> = if args.from == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.from)
            .map_err(|error| Failure(format!("{}: {error}", args.from.display())))?;
        Box::new(BufReader::new(file))
    };
    let (storage, _) = open(&args.place.directory, &EmbeddedOptions::default())?;
    let mut progress = Progress::new("import", !args.place.quiet);
    let mut told = |done| progress.at(done, None);
    let totals = transfer::import(&storage, &mut *input, &mut told)?;
    drop(progress);
    stderr_line(&totals.to_string());
    Ok(Verdict::Well)
}
