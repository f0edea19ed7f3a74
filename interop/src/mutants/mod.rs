//! The mutants: each breaks exactly one statement, to prove that the test which names the statement can fail.
//!
//! `mutants.csv` joins them with statements and tests. A mutant is a pair of plain functions over packets; where the violation
//! is the server's own decision (keeping what it should drop, ignoring what it should obey) the request is changed on its way
//! up, so that an honest broker behaves as a broken one would.

use crate::proxy::{Frame, Link};

/// Environment variable that names the mutant.
pub const VARIABLE: &str = "MARTLET_MUTANT";

/// One way to break one rule.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// Name in `mutants.csv`.
    pub name: &'static str,
    /// Handles a packet from the client.
    pub up: fn(Frame, &mut Link),
    /// Handles a packet from the server.
    pub down: fn(Frame, &mut Link),
    /// Whether the client's connection stays open when the server ended its own.
    pub hold: fn(&mut Link) -> bool,
    /// Changes bytes from a client whose connection is not plain MQTT.
    pub raw_up: fn(Vec<u8>) -> Vec<u8>,
    /// Changes bytes to a client whose connection is not plain MQTT.
    pub raw_down: fn(Vec<u8>) -> Vec<u8>,
}

impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn honest(name: &'static str) -> Mutant {
    Mutant {
        name,
        up: |frame, link| link.up(&frame),
        down: |frame, link| link.down(&frame),
        hold: |_| false,
        raw_up: |bytes| bytes,
        raw_down: |bytes| bytes,
    }
}

/// Changes what clients say.
const fn up(name: &'static str, up: fn(Frame, &mut Link)) -> Mutant {
    Mutant { up, ..honest(name) }
}

/// Changes what the server says.
const fn down(name: &'static str, down: fn(Frame, &mut Link)) -> Mutant {
    Mutant { down, ..honest(name) }
}

/// Changes both.
const fn both(name: &'static str, up: fn(Frame, &mut Link), down: fn(Frame, &mut Link)) -> Mutant {
    Mutant { up, down, ..honest(name) }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    static NONE: Mutant = honest("none");
    std::iter::once(&NONE)
}

/// The mutant the environment asks for.
pub fn chosen() -> Option<&'static Mutant> {
    let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
    Some(all().find(|mutant| mutant.name == name).unwrap_or_else(|| panic!("{VARIABLE}: no mutant is called {name:?}")))
}
