//! `martlet store`: looking at a store, copying it, and carrying it elsewhere, while no broker runs on it.
//!
//! Everything that was done is on the standard error stream, everything that was asked for on standard output.
//! Deliberately absent: changing single rows, and the online backup of a running broker.

#![cfg_attr(
    not(any(feature = "redis", feature = "rocksdb")),
    expect(
        irrefutable_let_patterns,
        reason = "a build with one backend has nothing to tell apart"
    )
)]

pub mod args;
mod progress;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use martlet_storage::transfer::{self, TransferError};
use martlet_storage::{Storage as _, Table};

use crate::output::stderr_line;
use crate::stores::{How, Opened, Place, Store};
use args::{
    BackupArgs, CheckStoreArgs, DumpArgs, ExportArgs, ImportArgs, InfoArgs, RestoreArgs, StoreArgs,
    StoreCommand, StorePlaceArgs,
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

/// Opens a store, and says what was out of the ordinary.
fn open(place: &Place, how: How) -> Result<Opened, Failure> {
    let password = std::env::var("MARTLET_STORAGE__PASSWORD").unwrap_or_default();
    let place = place.clone().with_password(&password);
    let opened = place.open(how)?;
    for remark in &opened.remarks {
        stderr_line(&format!("{place}: {remark}"));
    }
    Ok(opened)
}

/// Opens a directory for what only files can do.
fn open_files(place: &Place, what: &str) -> Result<(PathBuf, Store), Failure> {
    let Some(path) = place.directory() else {
        return Err(Failure(format!(
            "{place}: cannot {what} what is no directory; the server has its own ways, and `martlet store export` \
             writes every row"
        )));
    };
    Ok((path.to_owned(), open(place, writing())?.store))
}

fn reading() -> How {
    How {
        read_only: true,
        create: false,
        ..How::default()
    }
}

fn writing() -> How {
    How {
        create: false,
        ..How::default()
    }
}

fn info(args: &InfoArgs, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let place = args.place.flags().place()?;
    let Opened { store, .. } = open(&place, reading())?;
    let usage = store.storage().usage();
    let mut rows = Vec::new();
    for table in Table::ALL {
        rows.push((table.name(), store.rows(table)?));
    }
    let (backend, format, batch) = (store.backend(), store.format(), store.last_batch());
    let text = if args.json {
        let rows: serde_json::Map<String, serde_json::Value> = rows
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        let mut value = serde_json::json!({
            "path": place.to_string(),
            "backend": backend,
            "format": format,
            "last_batch": batch,
            "rows": rows,
        });
        if let Store::Embedded(_, report) = &store {
            value["files"] = report.segments.into();
            value["torn"] = report.torn.into();
        }
        if place.directory().is_some() {
            value["disk_bytes"] = usage.disk_bytes.into();
            value["live_bytes"] = usage.live_bytes.into();
        }
        format!("{value}\n")
    } else {
        let mut text = format!("{place}: {backend} store, format {format}\nlast batch {batch}");
        // Writing to a string cannot fail.
        if let Store::Embedded(_, report) = &store {
            let _ = write!(text, ", {} files", report.segments);
        }
        if place.directory().is_some() {
            let _ = write!(
                text,
                ", {} on disk, {} of it live",
                bytes(usage.disk_bytes),
                bytes(usage.live_bytes)
            );
        }
        text.push('\n');
        for (name, count) in rows.into_iter().filter(|(_, count)| *count > 0) {
            text.push_str(&row_line(name, count));
        }
        text
    };
    written(out.write_all(text.as_bytes()))?;
    Ok(Verdict::Well)
}

fn row_line(name: &str, count: u64) -> String {
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
    let place = args.place.flags().place()?;
    let storage = open(&place, reading())?.store.storage();
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
    let flags = args.place.flags();
    let place = flags.place()?;
    let how = if args.repair {
        How {
            accept_loss: args.accept_loss,
            ..writing()
        }
    } else {
        reading()
    };
    let Opened { store, lost, .. } = open(&place, how)?;
    let storage = store.storage();
    let mut progress = Progress::new("check", !flags.quiet);
    let checked = transfer::check(&*storage, &mut |done| progress.at(done, None))?;
    drop(progress);
    for problem in &checked.problems {
        stderr_line(&format!("{place}: {problem}"));
    }
    let more = checked.problem_count - checked.problems.len() as u64;
    if more > 0 {
        stderr_line(&format!("{place}: and {more} more"));
    }
    stderr_line(&checked.totals.to_string());
    if checked.problem_count > 0 || lost > 0 {
        stderr_line(&format!(
            "{}: {} problems",
            place,
            checked.problem_count + lost
        ));
        return Ok(Verdict::Wrong);
    }
    stderr_line(&format!("{place}: every row fits"));
    Ok(Verdict::Well)
}

/// Copies an open store.
fn copy(store: &Store, to: &Path, what: &'static str, quiet: bool) -> Result<(), Failure> {
    let mut progress = Progress::new(what, !quiet);
    store.checkpoint(to, &mut |done, total| progress.at(done, Some(total)))?;
    drop(progress);
    stderr_line(&format!(
        "{}: batch {} and everything before it, {}",
        to.display(),
        store.last_batch(),
        bytes(store.storage().usage().disk_bytes)
    ));
    Ok(())
}

fn backup(args: &BackupArgs) -> Result<Verdict, Failure> {
    let (_, store) = open_files(&args.place.place()?, "back up")?;
    copy(&store, &args.to, "backup", args.place.quiet)?;
    Ok(Verdict::Well)
}

fn restore(args: &RestoreArgs) -> Result<Verdict, Failure> {
    let place = args.place.place()?;
    let Some(to) = place.directory() else {
        return Err(Failure(format!(
            "{place}: cannot restore a copy of a directory there; `martlet store export` and `import` carry it"
        )));
    };
    let (_, store) = open_files(&Place::at(&args.from)?, "restore")?;
    let mut progress = Progress::new("check", !args.place.quiet);
    let checked = transfer::check(&*store.storage(), &mut |done| progress.at(done, None))?;
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
    copy(&store, to, "restore", args.place.quiet)?;
    Ok(Verdict::Well)
}

fn compact(args: &StorePlaceArgs) -> Result<Verdict, Failure> {
    let flags = args.flags();
    let (path, store) = open_files(&flags.place()?, "compact")?;
    let storage = store.storage();
    let before = storage.usage().disk_bytes;
    let mut progress = Progress::new("compact", !flags.quiet);
    store.compact(&mut |done, total| progress.at(done, Some(total)))?;
    drop(progress);
    stderr_line(&format!(
        "{}: {} before, {} now",
        path.display(),
        bytes(before),
        bytes(storage.usage().disk_bytes)
    ));
    Ok(Verdict::Well)
}

fn export(args: &ExportArgs, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let storage = open(&args.place.place()?, reading())?.store.storage();
    let mut progress = Progress::new("export", !args.place.quiet);
    let mut told = |done| progress.at(done, None);
    let totals = if args.to == Path::new("-") {
        match transfer::export(&*storage, out, &mut told) {
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
        let totals = transfer::export(&*storage, &mut file, &mut told)?;
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
    let storage = open(&args.place.place()?, How::default())?.store.storage();
    let mut progress = Progress::new("import", !args.place.quiet);
    let mut told = |done| progress.at(done, None);
    let totals = transfer::import(&*storage, &mut *input, &mut told)?;
    drop(progress);
    stderr_line(&totals.to_string());
    Ok(Verdict::Well)
}
