//! The directory of a store: private, locked, and known for what it is. Deliberately absent: what is in the log.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// The format that new stores get, and the highest one that can be read.
pub const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK_FILE: &str = "lock";
const MARK_FILE: &str = "mark";
const ASIDE: &str = "aside";
const FORMAT_LINE: &str = "martlet embedded store, format ";

/// A directory that belongs to this process while the value lives.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Whether there was no store.
    pub(crate) new: bool,
    _lock: File,
}

impl Place {
    /// Checks and locks the directory. Changes nothing in a directory that is not a store's.
    pub(crate) fn take(path: &Path, create: bool) -> Result<Self, OpenError> {
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
        let known = read_format(path)?;
        let contents = contents(path)?;
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
        let new = !read_format(path)?;
        Ok(Self {
            path: path.to_owned(),
            new,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn mark(&self) -> PathBuf {
        self.path.join(MARK_FILE)
    }

    pub(crate) fn segment(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:08x}.log"))
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.path.join(ASIDE)
    }

    /// Numbers of the segments that are there, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<u32>, OpenError> {
        let entries =
            fs::read_dir(&self.path).map_err(OpenError::io(&self.path, "list the directory"))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(OpenError::io(&self.path, "list the directory"))?;
            if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes the file that makes the directory a store; the last step of making one.
    pub(crate) fn seal(&self) -> Result<(), OpenError> {
        let new = self.path.join(FORMAT_NEW);
        let write = || -> io::Result<()> {
            let mut file = create(&new)?;
            file.write_all(format!("{FORMAT_LINE}{FORMAT}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, self.path.join(FORMAT_FILE))?;
            self.sync_directory()
        };
        write().map_err(OpenError::io(&new, "write the format file"))
    }

    /// Makes created, renamed and deleted files survive a power failure.
    pub(crate) fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Creates or empties a file that only its owner may read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 8)
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Whether there is a store of a format that can be read.
fn read_format(path: &Path) -> Result<bool, OpenError> {
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
    let number = str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_LINE))
        .and_then(|rest| rest.strip_suffix('\n'))
        .and_then(|number| number.parse::<u32>().ok());
    match number {
        Some(found) if found > FORMAT => Err(OpenError::Newer {
            path: file,
            found,
            known: FORMAT,
        }),
        Some(1..) => Ok(true),
        Some(0) | None => Err(OpenError::Foreign {
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

fn contents(path: &Path) -> Result<Contents, OpenError> {
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
            || segment_number(&name) == Some(1);
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
