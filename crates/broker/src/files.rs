//! Open files: every connection is one, and the system allows a process only so many.
//!
//! [`raise_limit`] is for the program that runs a broker, once, at its start: the limit belongs to the process, and
//! a library does not change it unasked. [`Reserve`] keeps the accept loop alive when descriptors have run out all
//! the same. Deliberately absent: counting open descriptors.

use std::{fmt, fs::File, io};

use martlet_sync::Mutex;

/// Descriptors a broker needs besides its connections: listeners, timers, logs, the files of a store.
const BESIDES_CONNECTIONS: u64 = 64;

/// The limit on open files of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit as it was; `None` for unlimited.
    pub before: Option<u64>,
    /// The limit in force; `None` for unlimited.
    pub now: Option<u64>,
    /// What it could be raised to without privileges; `None` for unlimited.
    pub hard: Option<u64>,
}

impl OpenFiles {
    /// The limit as it is, unchanged. `None` where the system has none to ask for.
    pub fn current() -> Option<Self> {
        limits().map(|(now, hard)| Self {
            before: now,
            now,
            hard,
        })
    }

    /// A sentence for the log if `connections` at one time cannot be served under this limit; `None` if they can.
    pub fn warning(&self, connections: usize) -> Option<String> {
        let now = self.now?;
        let needed = (connections as u64).saturating_add(BESIDES_CONNECTIONS);
        if needed <= now {
            return None;
        }
        let served = now.saturating_sub(BESIDES_CONNECTIONS);
        let remedy = match self.hard {
            Some(hard) if hard < needed => format!(
                "raise the hard limit from {hard} to {needed} (LimitNOFILE= of a systemd unit, or ulimit -Hn)"
            ),
            _ => format!(
                "raise the limit to {needed} (LimitNOFILE= of a systemd unit, or ulimit -n)"
            ),
        };
        Some(format!(
            "limits.connections_max is {connections}, but this process may open {now} files, enough for about {served} \
             connections: {remedy}, or lower limits.connections_max"
        ))
    }
}

/// As a line for a start-up banner, like `65536 open files (raised from 1024)`.
impl fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now {
            Some(now) => write!(f, "{now} open files")?,
            None => f.write_str("unlimited open files")?,
        }
        match self.before {
            Some(before) if self.now != Some(before) => write!(f, " (raised from {before})"),
            _ => Ok(()),
        }
    }
}

/// Raises the limit on open files of this process as far as it may go, and never lowers it.
///
/// # Errors
/// The system's, where it has such limits and refused; [`io::ErrorKind::Unsupported`] where it has none.
pub fn raise_limit() -> io::Result<OpenFiles> {
    let (before, hard) = limits().ok_or(io::ErrorKind::Unsupported)?;
    if before != hard {
        set_limit(hard)?;
    }
    let (now, hard) = limits().ok_or(io::ErrorKind::Unsupported)?;
    Ok(OpenFiles { before, now, hard })
}

/// Soft and hard limit.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no such limit")]
fn limits() -> Option<(Option<u64>, Option<u64>)> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Some((limit.current, limit.maximum))
}

#[cfg(not(unix))]
fn limits() -> Option<(Option<u64>, Option<u64>)> {
    None
}

#[cfg(unix)]
fn set_limit(hard: Option<u64>) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let set = |current| {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current,
                maximum: hard,
            },
        )
    };
    // Where the hard limit is infinite (macOS), the kernel still has a bound of its own, and refuses more.
    let fallback = |error| {
        if hard.is_none() {
            set(Some(10_240))
        } else {
            Err(error)
        }
    };
    Ok(set(hard).or_else(fallback)?)
}

#[cfg(not(unix))]
fn set_limit(_hard: Option<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// One descriptor held back for the moment when there are none left.
///
/// A listener that cannot accept for want of a descriptor finds the same connection waiting again at once, and spins.
/// With the reserve it releases one, accepts, tells or closes the newcomer, and arms the reserve again.
#[derive(Debug)]
pub struct Reserve {
    held: Mutex<Option<File>>,
}

impl Default for Reserve {
    fn default() -> Self {
        Self::new()
    }
}

impl Reserve {
    /// Takes a descriptor, if there is one.
    pub fn new() -> Self {
        Self {
            held: Mutex::new(open().ok()),
        }
    }

    /// Gives the descriptor up; `false` if none was held.
    pub fn release(&self) -> bool {
        self.held.lock().take().is_some()
    }

    /// Takes a descriptor unless one is held.
    ///
    /// # Errors
    /// The system's, when descriptors are still exhausted.
    pub fn rearm(&self) -> io::Result<()> {
        let mut held = self.held.lock();
        if held.is_none() {
            *held = Some(open()?);
        }
        Ok(())
    }

    /// Whether a descriptor is held.
    pub fn is_armed(&self) -> bool {
        self.held.lock().is_some()
    }
}

fn open() -> io::Result<File> {
    File::open(if cfg!(windows) { "NUL" } else { "/dev/null" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_changed() {
        fn check(before: Option<u64>, now: Option<u64>, expected: &str) {
            assert_eq!(
                OpenFiles {
                    before,
                    now,
                    hard: now
                }
                .to_string(),
                expected
            );
        }
        check(
            Some(1_024),
            Some(65_536),
            "65536 open files (raised from 1024)",
        );
        check(Some(1_024), Some(1_024), "1024 open files");
        check(Some(1_024), None, "unlimited open files (raised from 1024)");
        check(None, None, "unlimited open files");
    }

    #[test]
    fn a_warning_names_the_setting_and_the_remedy() {
        fn check(now: Option<u64>, hard: Option<u64>, connections: usize, expected: &[&str]) {
            let warning = OpenFiles {
                before: now,
                now,
                hard,
            }
            .warning(connections);
            match (&warning, expected) {
                (None, []) => {}
                (Some(text), [_, ..]) => {
                    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
                }
                _ => panic!("{warning:?}, expected {expected:?}"),
            }
        }
        check(Some(1_064), Some(1_064), 1_000, &[]);
        check(
            Some(1_063),
            Some(1_063),
            1_000,
            &[
                "limits.connections_max is 1000",
                "may open 1063 files",
                "from 1063 to 1064",
            ],
        );
        check(
            Some(1_063),
            Some(4_096),
            1_000,
            &["raise the limit to 1064"],
        );
        check(Some(1_063), None, 1_000, &["raise the limit to 1064"]);
        check(Some(10), Some(10), 1_000, &["about 0 connections"]);
        check(None, None, usize::MAX, &[]);
        check(Some(u64::MAX), Some(u64::MAX), usize::MAX, &[]);
    }

    #[cfg(unix)]
    #[test]
    fn raising_reaches_the_hard_limit_and_stays() {
        let first = raise_limit().expect("raised");
        assert_eq!(first.now, first.hard);
        let second = raise_limit().expect("nothing to do");
        assert_eq!((second.before, second.now), (first.now, first.now));
        assert_eq!(OpenFiles::current().and_then(|files| files.now), first.now);
    }

    #[test]
    fn the_reserve_is_given_up_once_and_taken_again() {
        let reserve = Reserve::new();
        assert!(reserve.is_armed());
        assert!(reserve.release());
        assert!(!reserve.release());
        assert!(!reserve.is_armed());
        reserve.rearm().expect("descriptor");
        reserve.rearm().expect("held already");
        assert!(reserve.release());
    }
}
