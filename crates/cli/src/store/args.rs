//! Flags of `martlet store`. Deliberately absent: what the commands do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config;
use crate::stores::{Place, WrongPlace};

/// Flags of `martlet store`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The broker must not be running on the store: it is locked, and a second user is refused with the \
    number of the\nfirst. A broker that runs copies its store when told by SIGUSR1 (storage.backup_path).\n\n\
    Exit code: 0 when all is well, 1 when something is wrong with the store, 2 when the command line is wrong."
)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What can be done with a store.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Say what is in a store and how much room it takes
    Info(InfoArgs),
    /// Print every row in words, without payloads
    Dump(DumpArgs),
    /// Read every row and body and prove that they fit together
    Check(CheckStoreArgs),
    /// Copy a store (a directory) to a new directory
    Backup(BackupArgs),
    /// Make a store of a copy
    Restore(RestoreArgs),
    /// Write what lives again and give back the rest
    Compact(StorePlaceArgs),
    /// Write a store as JSON lines; payloads are in it
    Export(ExportArgs),
    /// Fill a new store from JSON lines
    Import(ImportArgs),
}

/// Where the store is.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// Directory of the store (rocksdb:DIRECTORY for a new one of that backend), or redis://HOST:PORT (a password can be in MARTLET_STORAGE__PASSWORD); default: MARTLET_STORAGE__PATH, else martlet-data
    #[arg(long, value_name = "WHERE")]
    data: Option<Place>,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl PlaceArgs {
    /// The store that is meant.
    ///
    /// # Errors
    /// `MARTLET_STORAGE__PATH` names none.
    pub fn place(&self) -> Result<Place, WrongPlace> {
        if let Some(place) = &self.data {
            return Ok(place.clone());
        }
        match std::env::var_os("MARTLET_STORAGE__PATH").filter(|path| !path.is_empty()) {
            Some(path) => path.to_string_lossy().parse(),
            None => Place::at(&config::Storage::default().path),
        }
    }
}

/// Where the store is, for commands that take nothing else that could be meant.
#[derive(Args, Clone, Debug)]
pub struct StorePlaceArgs {
    /// As --data
    #[arg(value_name = "WHERE", conflicts_with = "data")]
    store: Option<Place>,
    #[command(flatten)]
    flags: PlaceArgs,
}

impl StorePlaceArgs {
    /// The same, said by the flag.
    pub fn flags(&self) -> PlaceArgs {
        PlaceArgs {
            data: self.store.clone().or_else(|| self.flags.data.clone()),
            quiet: self.flags.quiet,
        }
    }
}

/// Flags of `martlet store info`.
#[derive(Args, Clone, Debug)]
pub struct InfoArgs {
    /// Where.
    #[command(flatten)]
    pub place: StorePlaceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `martlet store dump`.
#[derive(Args, Clone, Debug)]
pub struct DumpArgs {
    /// Where.
    #[command(flatten)]
    pub place: StorePlaceArgs,
    /// Only this table (repeatable): session, subscription, message, queue, outbound, inbound, retained, will
    #[arg(long, value_name = "NAME")]
    pub table: Vec<String>,
}

/// Flags of `martlet store check`.
#[derive(Args, Clone, Debug)]
pub struct CheckStoreArgs {
    /// Where.
    #[command(flatten)]
    pub place: StorePlaceArgs,
    /// Repair what can be repaired without loss; what is taken out of the log is kept in `aside`
    #[arg(long)]
    pub repair: bool,
    /// With --repair: go on without batches that were acknowledged and cannot be read
    #[arg(long, requires = "repair")]
    pub accept_loss: bool,
}

/// Flags of `martlet store backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Directory for the copy; must not exist
    #[arg(value_name = "COPY")]
    pub to: PathBuf,
}

/// Flags of `martlet store restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Where; must not exist or be empty
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The copy; it is checked first and stays as it is
    #[arg(value_name = "COPY")]
    pub from: PathBuf,
}

/// Flags of `martlet store export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// File for the lines, which must not exist; `-` is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    pub to: PathBuf,
}

/// Flags of `martlet store import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Where; must not exist or be empty
    #[command(flatten)]
    pub place: PlaceArgs,
    /// File with the lines; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub from: PathBuf,
}
