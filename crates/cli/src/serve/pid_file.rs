//! The pid file: says which process serves, and keeps a second one away.
//!
//! The file is locked as long as the process lives, so a file left behind by a crash is never mistaken for a running
//! broker, whoever has its process id now.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Longest content that is taken for a process id.
const CONTENT_BYTES_MAX: u64 = 32;

/// Attempts to win against processes that remove the file at the same moment.
const ATTEMPTS_MAX: usize = 16;

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process holds it.
    #[error(
        "{path}: martlet runs already, as process {pid}; stop it (`kill {pid}`) or choose another pid_file"
    )]
    Running {
        /// The file.
        path: String,
        /// What stands in it.
        pid: String,
    },
    /// The file holds something else than a process id.
    #[error("{path}: not a pid file, so it is left alone; choose another pid_file or remove it")]
    Foreign {
        /// The file.
        path: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot keep the process id there: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// A pid file of this process; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
}

impl PidFile {
    /// Writes the id of this process to `path`.
    ///
    /// # Errors
    /// When another process holds the file, when it is no pid file, or when it cannot be written.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let name = || path.display().to_string();
        let io_error = |source| PidFileError::Io {
            path: name(),
            source,
        };
        for _ in 0..ATTEMPTS_MAX {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(io_error)?;
            let locked = file.try_lock();
            let mut content = Vec::new();
            (&mut file)
                .take(CONTENT_BYTES_MAX)
                .read_to_end(&mut content)
                .map_err(io_error)?;
            let content = String::from_utf8_lossy(&content).trim().to_owned();
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PidFileError::Running {
                        path: name(),
                        pid: content,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(io_error(source)),
            }
            if !content.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(PidFileError::Foreign { path: name() });
            }
            // Its former owner may have removed the file between our opening and our locking it.
            if !is_at(&file, path) {
                continue;
            }
            file.set_len(0).map_err(io_error)?;
            file.rewind().map_err(io_error)?;
            writeln!(file, "{}", std::process::id()).map_err(io_error)?;
            return Ok(Self {
                path: path.to_owned(),
                _file: file,
            });
        }
        Err(io_error(io::Error::other("is removed again and again")))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Removed while the lock is held; a file that cannot be removed is harmless without its lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("m.pid");
        let first = PidFile::create(&path).expect("free");
        let id = std::process::id().to_string();
        assert_eq!(std::fs::read_to_string(&path).expect("written").trim(), id);
        match PidFile::create(&path) {
            Err(PidFileError::Running { pid, .. }) => assert_eq!(pid, id),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_left_behind_is_taken_over_and_a_foreign_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("m.pid");
        // Process 1 lives always, but holds no lock.
        std::fs::write(&path, "1\n").expect("written");
        drop(PidFile::create(&path).expect("taken over"));
        std::fs::write(&path, "[limits]\n").expect("written");
        assert!(matches!(
            PidFile::create(&path),
            Err(PidFileError::Foreign { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "[limits]\n");
    }
}
