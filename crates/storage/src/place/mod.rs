//! The directory of a store on disk: private, locked, known for what it is, with a mark of how far it was synced. For backends.
//! Deliberately absent: what else is in the directory.

mod error;
mod mark;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use error::OpenError;
pub use mark::{Mark, MarkFile};

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK_FILE: &str = "lock";
const MARK_FILE: &str = "mark";
const ASIDE: &str = "aside";
/// What the format file begins with, before the name of the backend.
const FORMAT_WORD: &str = "martlet ";
/// What stands between that name and the number.
const FORMAT_REST: &str = " store, format ";

/// What a backend's directories look like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name of the backend, as in the configuration.
    pub backend: &'static str,
    /// The format that new stores get, and the highest one that can be read.
    pub format: u32,
    /// Whether a file of this name may be there before a new store is sealed.
    pub unfinished: fn(&str) -> bool,
}

/// A directory that belongs to this process while the value lives.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    kind: Kind,
    /// Whether there was no store.
    pub new: bool,
    _lock: File,
}

impl Place {
    /// Checks and locks the directory. Changes nothing in a directory that is not a store's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn take(path: &Path, create: bool, kind: Kind) -> Result<Self, OpenError> {
        match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => return Err(OpenError::NotADirectory(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !create {
                    return Err(OpenError::Missing(path.to_owned()));
                }
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .map_err(OpenError::io(path, "create the directory"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(OpenError::NotADirectory(path.to_owned()));
            }
            Err(error) => return Err(OpenError::io(path, "look at it")(error)),
        }
        let known = read_format(path, kind)?;
        let contents = contents(path, kind)?;
        if !known && let Some(found) = contents.foreign {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
        if !known && !create {
            return Err(OpenError::Missing(path.to_owned()));
        }
        private(path, contents.empty)?;
        let lock = lock(path)?;
        // Looked at again under the lock: another process may have just made the store.
        let new = !read_format(path, kind)?;
        Ok(Self {
            path: path.to_owned(),
            kind,
            new,
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the high-water mark is.
    pub fn mark(&self) -> PathBuf {
        self.path.join(MARK_FILE)
    }

    /// Where what was taken away is kept.
    pub fn aside(&self) -> PathBuf {
        self.path.join(ASIDE)
    }

    /// Writes the file that makes the directory a store; the last step of making one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn seal(&self) -> Result<(), OpenError> {
        let new = self.path.join(FORMAT_NEW);
        let Kind {
            backend, format, ..
        } = self.kind;
        let format = format!("{FORMAT_WORD}{backend}{FORMAT_REST}{format}\n");
        let write = || -> io::Result<()> {
            let mut file = create(&new)?;
            file.write_all(format.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, self.path.join(FORMAT_FILE))?;
            self.sync_directory()
        };
        write().map_err(OpenError::io(&new, "write the format file"))
    }

    /// Makes created, renamed and deleted files survive a power failure.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Creates or empties a file that only its owner may read.
///
/// # Errors
/// Those of the operating system.
pub fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// The name of the backend whose store is in a directory, and its format, as the format file says.
pub fn backend_of(path: &Path) -> Option<(String, u32)> {
    let mut text = String::new();
    let file = File::open(path.join(FORMAT_FILE)).ok()?;
    file.take(1024).read_to_string(&mut text).ok()?;
    let (backend, number) = parse(&text)?;
    Some((backend.to_owned(), number))
}

fn parse(text: &str) -> Option<(&str, u32)> {
    let rest = text.strip_prefix(FORMAT_WORD)?.strip_suffix('\n')?;
    let (backend, number) = rest.split_once(FORMAT_REST)?;
    Some((backend, number.parse().ok()?))
}

/// Whether there is a store of a format that can be read.
fn read_format(path: &Path, kind: Kind) -> Result<bool, OpenError> {
    let file = path.join(FORMAT_FILE);
    let mut text = Vec::new();
    match File::open(&file) {
        Ok(open) => {
            open.take(1024)
                .read_to_end(&mut text)
                .map_err(OpenError::io(&file, "read it"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(OpenError::io(&file, "read it")(error)),
    }
    match str::from_utf8(&text).ok().and_then(parse) {
        Some((backend, _)) if backend != kind.backend => Err(OpenError::OtherBackend {
            path: path.to_owned(),
            backend: backend.to_owned(),
        }),
        Some((_, found)) if found > kind.format => Err(OpenError::Newer {
            path: file,
            found,
            known: kind.format,
        }),
        Some((_, 1..)) => Ok(true),
        Some((_, 0)) | None => Err(OpenError::Foreign {
            path: path.to_owned(),
            found: FORMAT_FILE.to_owned(),
        }),
    }
}

struct Contents {
    empty: bool,
    /// A file that a store would not have.
    foreign: Option<String>,
}

fn contents(path: &Path, kind: Kind) -> Result<Contents, OpenError> {
    let mut contents = Contents {
        empty: true,
        foreign: None,
    };
    for entry in fs::read_dir(path).map_err(OpenError::io(path, "list the directory"))? {
        let entry = entry.map_err(OpenError::io(path, "list the directory"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "lost+found" {
            continue;
        }
        contents.empty = false;
        let ours = [FORMAT_FILE, FORMAT_NEW, LOCK_FILE, MARK_FILE].contains(&name.as_str())
            || (kind.unfinished)(&name);
        if !ours {
            contents.foreign = Some(name);
        }
    }
    Ok(contents)
}

/// An empty directory is made private; one with a store must be already.
fn private(path: &Path, empty: bool) -> Result<(), OpenError> {
    let meta = fs::metadata(path).map_err(OpenError::io(path, "look at it"))?;
    let mode = meta.permissions().mode() & 0o7777;
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    if empty {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(OpenError::io(path, "make it private (mode 0700)"));
    }
    Err(OpenError::Permissions {
        path: path.to_owned(),
        mode,
    })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let name = path.join(LOCK_FILE);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(OpenError::io(&name, "open the lock file"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Whoever holds it may be just writing its number.
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked {
                path: path.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => {
            return Err(OpenError::io(&name, "lock it")(error));
        }
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    // On a full disk the lock holds all the same, only without a number to show.
    let _ = write(&mut file);
    Ok(file)
}
