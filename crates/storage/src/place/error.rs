//! Why a store cannot be opened: each error names the path and says what to do. Deliberately absent: errors of
//! a store that is open, which are [`crate::StorageError`].

use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused something.
    #[error("{}: cannot {action}: {error}{}", path.display(), advice(error))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// The path is something else.
    #[error("{} is not a directory; name the directory that holds the store", .0.display())]
    NotADirectory(PathBuf),
    /// Nothing is there, and nothing is to be made.
    #[error("{} holds no store", .0.display())]
    Missing(PathBuf),
    /// Others may read it.
    #[error(
        "{} has mode {mode:04o}: others on this machine could read its messages; run `chmod 700 {}`",
        path.display(), path.display()
    )]
    Permissions {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has it open.
    #[error("{} is in use by {}; stop that one first or name another directory", path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, as it wrote into the lock file.
        pid: Option<u32>,
    },
    /// Files of something else are there.
    #[error("{} holds files that are not of this store (`{found}`); nothing was changed: name an empty directory", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Another backend's store is there.
    #[error(
        "{} holds a store of the backend {backend}; nothing was changed: name that backend, or another directory and carry everything over with `martlet store export` and `import`",
        path.display()
    )]
    OtherBackend {
        /// The directory.
        path: PathBuf,
        /// The name of the backend.
        backend: String,
    },
    /// A later program wrote it.
    #[error(
        "{} has format {found}, this program knows up to {known}; nothing was changed: use the newer program, or export there and import here",
        path.display()
    )]
    Newer {
        /// The format file.
        path: PathBuf,
        /// Its number.
        found: u32,
        /// The highest number that can be read.
        known: u32,
    },
    /// It was opened for reading only and cannot be read as it is.
    #[error("{} must be repaired first ({what}): start the broker on it, or run `martlet store check --repair`", path.display())]
    NeedsRepair {
        /// The file with the damage.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Its files are not what was written, and cannot be repaired.
    #[error("{} is damaged ({what}); nothing was changed: restore a backup", path.display())]
    Damaged {
        /// The file or directory with the damage.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Something that was acknowledged as safe is not there any more.
    #[error(
        "{}: batches {first_lost} to {last_lost} were acknowledged and are not readable ({what}); nothing was changed: restore a backup, or open with `--accept-loss` to go on without them (the damaged files are kept in `aside`)",
        path.display()
    )]
    Lost {
        /// The file with the damage, or the directory.
        path: PathBuf,
        /// The first batch that is missing.
        first_lost: u64,
        /// The last batch that is missing.
        last_lost: u64,
        /// What was found in its place.
        what: String,
    },
}

/// What to do about what the operating system said, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; nothing was changed: run this as the user who owns the store, or give it to this one with `chown -R`"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; nothing was changed: name a directory that can be written"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room on that file system"
        }
        _ => "",
    }
}

impl OpenError {
    /// Makes one of what the operating system said, for `map_err`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| Self::Io {
            path,
            action,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refused_is_told_with_what_to_do() {
        let check = |kind: io::ErrorKind, part: &str| {
            let text = OpenError::io("some/store", "read it")(kind.into()).to_string();
            assert!(text.starts_with("some/store: cannot read it: "), "{text}");
            assert!(text.contains(part), "{text}");
        };
        check(io::ErrorKind::PermissionDenied, "chown");
        check(io::ErrorKind::ReadOnlyFilesystem, "can be written");
        check(io::ErrorKind::StorageFull, "make room");
        check(io::ErrorKind::NotFound, "");
    }
}
