//! Who holds the store: enough about a process to tell whether it still lives, if it is of this machine.
//!
//! Deliberately absent: the lock itself. Ownership is decided by the epoch in the server; this only saves a broker that
//! is started again after a crash from waiting for the lease of its own dead predecessor.

use std::fmt;
use std::fs;

/// A process that holds, or held, the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    /// When it started, in ticks since the start of the machine.
    start: u64,
    /// The start of the machine and the namespace of process numbers; empty where the system does not tell.
    machine: String,
    host: String,
}

/// How long a name may be in a text that others wrote.
const HOST_CHARS_MAX: usize = 80;

impl Holder {
    /// This process.
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let machine = match boot.trim() {
            "" => String::new(),
            boot => format!("{boot}/{}", space.display()),
        };
        let host = rustix::system::uname();
        Self {
            pid,
            start: started(pid).unwrap_or(0),
            machine,
            host: host.nodename().to_string_lossy().replace(' ', "-"),
        }
    }

    /// Reads what [`Holder::text`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        let machine = words.next()?.to_owned();
        let host = words.next()?.chars().take(HOST_CHARS_MAX).collect();
        Some(Self {
            pid,
            start,
            machine,
            host,
        })
    }

    /// What is stored of it.
    pub(crate) fn text(&self) -> String {
        let Self {
            pid,
            start,
            machine,
            host,
        } = self;
        format!("{pid} {start} {machine} {host}")
    }

    /// Whether it is certain that this process is no more, or that it is there. `None`: it is of another machine.
    pub(crate) fn lives(&self) -> Option<bool> {
        let this = Self::this();
        if self.machine.is_empty() || self.machine != this.machine {
            return None;
        }
        Some(started(self.pid) == Some(self.start))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// When a process started; a number that is used again has another start.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie has ended; what it held open is closed.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_to_live_or_not_on_its_own_machine_only() {
        let this = Holder::this();
        assert_eq!(Holder::parse(&this.text()), Some(this.clone()));
        let check = |what: &str, holder: &Holder, expect| {
            assert_eq!(holder.lives(), expect, "{what}: {holder:?}");
        };
        if this.machine.is_empty() {
            return check("a system that does not tell", &this, None);
        }
        check("this process", &this, Some(true));
        let start = this.start + 1;
        let another = Holder { start, ..this };
        check("its number, used again", &another, Some(false));
        let machine = "elsewhere".to_owned();
        let elsewhere = Holder { machine, ..another };
        check("another machine", &elsewhere, None);
        assert_eq!(Holder::parse("12 nonsense"), None);
    }
}
