//! The documents at the top level stay true: commands they show exist, and the map names every crate.

use super::Finding;
use crate::Error;
use crate::workspace::Package;
use std::fs;
use std::path::Path;

const RULE: &str = "documents";

/// A text that must stand in both files: what one shows, the other runs or defines.
const SHARED: &[(&str, &str, &str)] = &[
    ("README.md", ".ci/run", ".ci/setup cargo test --workspace"),
    ("CONTRIBUTING.md", ".ci/run", "cargo test --workspace"),
    (
        "CONTRIBUTING.md",
        ".ci/run",
        "cargo clippy --workspace --all-targets -- -D warnings",
    ),
    ("README.md", ".cargo/config.toml", "cargo martlet"),
];

/// Reports commands that differ between documents and scripts, and crates the map leaves out.
pub(super) fn check(root: &Path, packages: &[Package]) -> Result<Vec<Finding>, Error> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let mut findings = Vec::new();
    for (document, script, text) in SHARED {
        for name in [document, script] {
            if !read(name)?.contains(text) {
                let advice = format!("`{text}` must stand in {document} and in {script}");
                findings.push(Finding::new(name, 0, RULE, advice));
            }
        }
    }
    // Without the map, the rule on the top level says so.
    if let Ok(map) = read("ARCHITECTURE.md") {
        let unnamed = packages
            .iter()
            .map(|package| super::edges::folder(&package.name));
        for folder in unnamed.filter(|folder| !map.contains(&format!("`{folder}`"))) {
            let advice =
                format!("give `{folder}` a paragraph: what it is, and what is deliberately absent");
            findings.push(Finding::new("ARCHITECTURE.md", 0, RULE, advice));
        }
    }
    Ok(findings)
}
