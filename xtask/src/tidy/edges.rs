//! Which crate may use which: the crate graph of ARCHITECTURE.md as a table.
//!
//! Only normal and build dependencies count. A test may use more than the code it tests, as long as cargo accepts it.

use super::Finding;
use crate::workspace::{Dependency, Package};
use std::path::Path;

const RULE: &str = "crate-edge";

/// What a crate may use of this workspace.
enum Allowed {
    /// These crates, by the name of their folder.
    Only(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

/// One row for each crate. A crate without a row is refused, so that a new one is placed on purpose.
const EDGES: &[(&str, Allowed)] = &[
    ("topic", Allowed::Only(&[])),
    ("codec", Allowed::Only(&[])),
    ("sync", Allowed::Only(&[])),
    ("storage", Allowed::Only(&["codec", "topic", "sync"])),
    ("storage-embedded", Allowed::Only(&["storage"])),
    ("acme", Allowed::Only(&[])),
    ("storage-redis", Allowed::Only(&["storage"])),
    ("storage-rocksdb", Allowed::Only(&["storage"])),
    (
        "session",
        Allowed::Only(&["codec", "topic", "storage", "sync"]),
    ),
    ("transport", Allowed::Only(&[])),
    ("client", Allowed::Only(&["codec", "transport"])),
    ("bench", Allowed::Only(&["client", "codec"])),
    (
        "broker",
        Allowed::Only(&["codec", "topic", "session", "storage", "sync", "transport"]),
    ),
    (
        "simulate",
        Allowed::Only(&["codec", "storage", "sync", "broker"]),
    ),
    ("cli", Allowed::AllBut(&[])),
    ("broker-bin", Allowed::AllBut(&[])),
    (
        "instructions",
        Allowed::Only(&["codec", "topic", "session", "storage", "broker"]),
    ),
    ("xtask", Allowed::AllBut(&[])),
    ("interop", Allowed::AllBut(&[])),
];

/// Crates that nothing may depend on.
const NEVER_USED: &[&str] = &["broker-bin", "instructions", "interop", "simulate", "xtask"];

/// Outside crates with few places where they belong: (crate, folders that may name it, why).
const OUTSIDE: &[(&str, &[&str], &str)] = &[
    (
        "clap",
        &["cli", "broker-bin", "simulate", "xtask", "interop"],
        "flags are read in `cli` only, so that the rest can be embedded",
    ),
    (
        "toml",
        &["cli", "interop", "xtask"],
        "configuration files are read in `cli` only",
    ),
    (
        "tokio",
        &[
            "transport",
            "broker",
            "client",
            "bench",
            "cli",
            "acme",
            "broker-bin",
            "instructions",
            "interop",
            "simulate",
        ],
        "this crate stays free of I/O and tasks",
    ),
    (
        "tracing",
        &["transport", "broker", "cli", "acme", "broker-bin"],
        "this crate returns values, its caller logs",
    ),
    (
        "tracing-subscriber",
        &["cli", "broker-bin"],
        "a library must not choose where logs go",
    ),
    (
        "rand",
        &["broker", "client", "cli", "transport"],
        "randomness comes in as an argument",
    ),
];

/// Outside crates that `codec` may use only behind a feature, to stay `no_std`.
const CODEC_OPTIONAL: &[&str] = &["serde", "tokio-util"];

/// The folder name that stands for a package in the tables.
pub(super) fn folder(package: &str) -> &str {
    package.strip_prefix("martlet-").unwrap_or(package)
}

/// Reports every dependency the tables do not allow.
pub(super) fn check(root: &Path, packages: &[Package]) -> Vec<Finding> {
    let names: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let path = package
            .manifest_path
            .strip_prefix(root)
            .unwrap_or(&package.manifest_path);
        let owner = folder(&package.name);
        let mut report = |advice: String| findings.push(Finding::new(path, 0, RULE, advice));
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == owner) else {
            report(format!(
                "give `{owner}` a row in xtask/src/tidy/edges.rs and a paragraph in ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        {
            let advice = if names.contains(&dependency.name.as_str()) {
                inside(owner, allowed, folder(&dependency.name))
            } else {
                outside(owner, dependency)
            };
            if let Some(advice) = advice {
                report(advice);
            }
        }
    }
    findings
}

fn inside(owner: &str, allowed: &Allowed, used: &str) -> Option<String> {
    if NEVER_USED.contains(&used) {
        return Some(format!(
            "nothing may depend on `{used}`; move what `{owner}` needs into a library crate"
        ));
    }
    let fits = match allowed {
        Allowed::Only(list) => list.contains(&used),
        Allowed::AllBut(list) => !list.contains(&used),
    };
    (!fits).then(|| {
        format!("`{owner}` must not use `{used}`; see the crate graph in ARCHITECTURE.md for where the code belongs")
    })
}

fn outside(owner: &str, dependency: &Dependency) -> Option<String> {
    let used = dependency.name.as_str();
    if owner == "codec" && CODEC_OPTIONAL.contains(&used) && !dependency.optional {
        return Some(format!(
            "make `{used}` optional: `codec` works without the standard library"
        ));
    }
    let (_, places, reason) = OUTSIDE.iter().find(|(name, _, _)| *name == used)?;
    (!places.contains(&owner)).then(|| format!("`{owner}` must not use `{used}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn package(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|&(name, kind, optional)| Dependency {
                name: name.into(),
                kind: kind.map(Into::into),
                optional,
            })
            .collect();
        Package {
            name: name.into(),
            manifest_path: PathBuf::from("/r/Cargo.toml"),
            dependencies,
        }
    }

    /// Checks `owner` with one dependency in a workspace that also holds the package depended on.
    fn findings(owner: &str, used: &str, kind: Option<&str>, optional: bool) -> usize {
        let mut packages = vec![package(owner, &[(used, kind, optional)])];
        if used.starts_with("martlet-") {
            packages.push(package(used, &[]));
        }
        check(Path::new("/r"), &packages).len()
    }

    #[test]
    fn edges_between_our_crates() {
        let table = [
            ("martlet-session", "martlet-codec", None, 0),
            ("martlet-session", "martlet-broker", None, 1),
            ("martlet-session", "martlet-broker", Some("dev"), 0),
            ("martlet-session", "martlet-broker", Some("build"), 1),
            ("martlet-topic", "martlet-codec", None, 1),
            ("martlet-transport", "martlet-codec", None, 1),
            ("martlet-cli", "martlet-broker", None, 0),
            ("martlet-cli", "martlet-broker-bin", None, 1),
            ("martlet-broker-bin", "martlet-interop", None, 1),
            ("martlet-newcomer", "martlet-codec", None, 1),
        ];
        for (owner, used, kind, expected) in table {
            assert_eq!(
                findings(owner, used, kind, false),
                expected,
                "{owner} -> {used} ({kind:?})"
            );
        }
    }

    #[test]
    fn edges_to_outside_crates() {
        let table = [
            ("martlet-session", "tokio", false, 1),
            ("martlet-broker", "tokio", false, 0),
            ("martlet-broker", "clap", false, 1),
            ("martlet-codec", "serde", false, 1),
            ("martlet-codec", "serde", true, 0),
            ("martlet-codec", "nom", false, 0),
        ];
        for (owner, used, optional, expected) in table {
            assert_eq!(
                findings(owner, used, None, optional),
                expected,
                "{owner} -> {used}"
            );
        }
    }
}
