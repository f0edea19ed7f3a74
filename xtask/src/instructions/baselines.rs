//! `crates/instructions/baselines.toml`: counts that were accepted, by machine and case, each with the reason.

use super::Counts;
use crate::{Error, workspace};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::Command;
use std::{fs, io};

/// The file, from the root of the repository.
pub(super) const PATH: &str = "crates/instructions/baselines.toml";

/// Counts that moved by less than this are left as they are, so that a change shows only what it touched.
const MOVED: f64 = 0.005;

/// What valgrind passes on of a processor, and the C library and crates choose code by. The rest it hides.
const FLAGS: &[&str] = &[
    "abm",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "cx16",
    "erms",
    "f16c",
    "fma",
    "pclmulqdq",
    "rdrand",
    "rdseed",
    "sse4_2",
    "ssse3",
];

/// What a count depends on besides the sources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    toolchain: String,
    libc: String,
    valgrind: String,
    cpu: String,
}

impl Key {
    pub(super) fn of_this_machine(valgrind: String) -> Self {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let first_line = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .current_dir(workspace::root())
                .args(arguments)
                .output()
                .ok()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let line = text.lines().next()?.trim();
            (output.status.success() && !line.is_empty()).then(|| line.to_owned())
        };
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            toolchain: first_line(&rustc, &["--version"]).unwrap_or_else(|| "unknown".into()),
            libc: first_line("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|| "other".into()),
            valgrind,
            cpu: cpu(&cpuinfo),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            toolchain,
            libc,
            valgrind,
            cpu,
        } = self;
        write!(formatter, "{toolchain}, {libc}, {valgrind}, {cpu}")
    }
}

/// Architecture and the flags that matter, of the first processor that `/proc/cpuinfo` shows.
fn cpu(cpuinfo: &str) -> String {
    let of_first = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    let present: Vec<&str> = of_first.unwrap_or_default().split_whitespace().collect();
    let mut cpu = String::from(std::env::consts::ARCH);
    for flag in FLAGS.iter().filter(|flag| present.contains(flag)) {
        cpu.push(' ');
        cpu.push_str(flag);
    }
    cpu
}

/// An accepted count.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Entry {
    /// Instructions a round.
    pub(super) count: f64,
    /// Why it is not what it was before.
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Machine {
    #[serde(flatten)]
    key: Key,
    #[serde(default)]
    cases: BTreeMap<String, Entry>,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Baselines {
    #[serde(default)]
    machine: Vec<Machine>,
}

impl Baselines {
    /// Of this checkout; without a file, none.
    pub(super) fn read() -> Result<Self, Error> {
        match fs::read_to_string(workspace::root().join(PATH)) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{PATH}: {error}").into()),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| format!("{PATH}: {error}").into())
    }

    pub(super) fn write(&self) -> Result<(), Error> {
        fs::write(workspace::root().join(PATH), self.text())
            .map_err(|error| format!("{PATH}: {error}").into())
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# Instructions a round of each case, as callgrind counts them, and why a count is not lower.\n\
             # Written by: cargo xtask instructions --bless \"WHY\"\n",
        );
        for Machine { key, cases } in &self.machine {
            let Key {
                toolchain,
                libc,
                valgrind,
                cpu,
            } = key;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n[[machine]]\ntoolchain = {toolchain:?}\nlibc = {libc:?}\nvalgrind = {valgrind:?}\ncpu = {cpu:?}\n\n\
                 [machine.cases]\n"
            );
            for (name, Entry { count, why }) in cases {
                let why = toml::Value::String(why.clone());
                let _ = writeln!(text, "{name} = {{ count = {count:.1}, why = {why} }}");
            }
        }
        text
    }

    fn find(&self, key: &Key) -> Option<&Machine> {
        self.machine.iter().find(|machine| machine.key == *key)
    }

    /// The accepted counts of a machine.
    pub(super) fn counts(&self, key: &Key) -> Counts {
        let cases = self
            .find(key)
            .into_iter()
            .flat_map(|machine| &machine.cases);
        cases
            .map(|(name, entry)| (name.clone(), entry.count))
            .collect()
    }

    /// The entries of a case here and, on the same machine, in `before`.
    pub(super) fn history<'a>(
        &'a self,
        case: &'a str,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a Entry, Option<&'a Entry>)> {
        self.machine.iter().filter_map(move |machine| {
            let then = before.find(&machine.key);
            let then = then.and_then(|machine| machine.cases.get(case));
            Some((machine.cases.get(case)?, then))
        })
    }

    /// Accepts the counts that are new on this machine or have moved. What moved is out of date on other machines, and
    /// forgotten there. Returns what was done, in lines.
    pub(super) fn bless(&mut self, key: &Key, counts: &Counts, why: &str) -> Vec<String> {
        let place = self.machine.iter().position(|machine| machine.key == *key);
        let place = place.unwrap_or_else(|| {
            self.machine.push(Machine {
                key: key.clone(),
                cases: BTreeMap::new(),
            });
            self.machine.len() - 1
        });
        let mut lines = Vec::new();
        for (name, count) in counts {
            // As it will be read back.
            let count = (count * 10.0).round() / 10.0;
            let old = self.machine[place].cases.get(name).map(|entry| entry.count);
            if old.is_some_and(|old| super::verdict::rise(count, old).abs() < MOVED) {
                continue;
            }
            if let Some(old) = old {
                lines.push(format!("{name}: {old:.1} -> {count:.1}"));
                for (index, machine) in self.machine.iter_mut().enumerate() {
                    if index != place {
                        machine.cases.remove(name);
                    }
                }
            } else {
                lines.push(format!("{name}: {count:.1}"));
            }
            let why = why.to_owned();
            self.machine[place]
                .cases
                .insert(name.clone(), Entry { count, why });
        }
        self.machine.retain(|machine| !machine.cases.is_empty());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cpu: &str) -> Key {
        Key {
            toolchain: "rustc 1".into(),
            libc: "glibc 2".into(),
            valgrind: "valgrind-3".into(),
            cpu: cpu.into(),
        }
    }

    fn counts(list: &[(&str, f64)]) -> Counts {
        let owned = |(name, count): &(&str, f64)| ((*name).to_owned(), *count);
        list.iter().map(owned).collect()
    }

    #[test]
    fn the_file_in_the_checkout_is_as_bless_writes_it() {
        let text = fs::read_to_string(workspace::root().join(PATH)).expect("the file is there");
        let parsed = Baselines::parse(&text).expect("the file is valid");
        assert_eq!(parsed.text(), text);
        let entries = parsed.machine.iter().flat_map(|machine| &machine.cases);
        for (name, entry) in entries {
            assert!(entry.count > 0.0 && !entry.why.trim().is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut baselines = Baselines::default();
        baselines.bless(
            &key("a"),
            &counts(&[("x", 10.04), ("y", 7.0)]),
            "a \"quoted\" \\ reason",
        );
        baselines.bless(&key("b"), &counts(&[("x", 11.0)]), "another machine");
        let read = Baselines::parse(&baselines.text()).expect("it parses");
        assert_eq!(read, baselines);
        assert_eq!(read.counts(&key("a")), counts(&[("x", 10.0), ("y", 7.0)]));
        assert_eq!(read.counts(&key("c")), Counts::new());
    }

    #[test]
    fn blessing_changes_what_moved_and_forgets_it_elsewhere() {
        let mut baselines = Baselines::default();
        baselines.bless(&key("a"), &counts(&[("x", 100.0), ("y", 100.0)]), "first");
        baselines.bless(&key("b"), &counts(&[("x", 200.0), ("y", 200.0)]), "first");
        let lines = baselines.bless(&key("a"), &counts(&[("x", 110.0), ("y", 100.2)]), "second");
        assert_eq!(lines, ["x: 100.0 -> 110.0"]);
        assert_eq!(
            baselines.counts(&key("a")),
            counts(&[("x", 110.0), ("y", 100.0)])
        );
        assert_eq!(baselines.counts(&key("b")), counts(&[("y", 200.0)]));
    }

    #[test]
    fn only_flags_that_matter_are_part_of_the_key() {
        let info =
            "processor\t: 0\nflags\t\t: fpu avx2 avx512f sse4_2\nprocessor\t: 1\nflags\t\t: avx\n";
        let arch = std::env::consts::ARCH;
        assert_eq!(cpu(info), format!("{arch} avx2 sse4_2"));
        assert_eq!(cpu(""), arch);
    }
}
