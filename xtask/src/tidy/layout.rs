//! The top level of the repository holds a fixed set of names, so that a newcomer sees the whole at a glance.

use super::Finding;
use crate::Error;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const RULE: &str = "top-level";

/// What must be there. Names that start with a dot are free.
const EXPECTED: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "crates",
    "deny.toml",
    "docs",
    "fuzz",
    "interop",
    "rust-toolchain.toml",
    "xtask",
];

/// Reports names that are missing and names that do not belong.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>, Error> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let mut present = BTreeSet::new();
    for entry in fs::read_dir(root)? {
        present.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(compare(&present, &ignored))
}

fn compare(present: &BTreeSet<String>, gitignore: &str) -> Vec<Finding> {
    let ignored: Vec<&str> = gitignore
        .lines()
        .map(|line| line.trim_matches('/'))
        .collect();
    let extra = present
        .iter()
        .filter(|name| {
            !name.starts_with('.')
                && !EXPECTED.contains(&name.as_str())
                && !ignored.contains(&name.as_str())
        })
        .map(|name| {
            Finding::new(
                name,
                0,
                RULE,
                "move it into a folder: the top level is a fixed list",
            )
        });
    let missing = EXPECTED
        .iter()
        .filter(|name| !present.contains(**name))
        .map(|name| Finding::new(name, 0, RULE, "is missing"));
    extra.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_and_missing_names_are_reported() {
        let mut present: BTreeSet<String> = EXPECTED.iter().map(ToString::to_string).collect();
        present.insert("target".into());
        present.insert(".ci".into());
        assert_eq!(compare(&present, "/target\n"), []);
        present.insert("notes.txt".into());
        present.remove("README.md");
        let rows: Vec<String> = compare(&present, "/target\n")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            rows,
            [
                "notes.txt:0: top-level: move it into a folder: the top level is a fixed list",
                "README.md:0: top-level: is missing",
            ]
        );
    }
}
