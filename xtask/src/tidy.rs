//! `cargo xtask tidy`: reads the sources and manifests and reports what the compiler cannot see.
//!
//! Each rule is one function that returns findings; a finding says where, which rule, and what to do. The same rules run
//! as a unit test, so `cargo test` refuses what tidy refuses. Deliberately absent: style that rustfmt or clippy decide.

mod documents;
mod edges;
mod layout;
mod source;

use crate::{Error, Outcome, workspace};
use std::fmt;
use std::path::{Path, PathBuf};

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the root of the repository.
    path: PathBuf,
    /// From 1; 0 when the finding is about the whole file.
    line: usize,
    rule: &'static str,
    advice: String,
}

impl Finding {
    fn new(
        path: impl AsRef<Path>,
        line: usize,
        rule: &'static str,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            line,
            rule,
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            advice,
        } = self;
        write!(formatter, "{}:{line}: {rule}: {advice}", path.display())
    }
}

/// Everything that is wrong in this checkout, in a stable order.
fn findings() -> Result<Vec<Finding>, Error> {
    let root = workspace::root();
    let metadata = workspace::metadata()?;
    let mut findings = edges::check(&root, &metadata.packages);
    findings.extend(documents::check(&root, &metadata.packages)?);
    findings.extend(layout::check(&root)?);
    findings.extend(source::check(&root)?);
    findings.sort_by(|a, b| (&a.path, a.line, a.rule).cmp(&(&b.path, b.line, b.rule)));
    Ok(findings)
}

/// Prints every finding; passes when there is none.
pub(crate) fn run() -> Result<Outcome, Error> {
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(Outcome::Passed);
    }
    println!("tidy: {} to mend", findings.len());
    Ok(Outcome::Failed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_checkout_is_tidy() {
        let findings = super::findings().expect("tidy can read the checkout");
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "cargo xtask tidy:\n{}", list.join("\n"));
    }
}
