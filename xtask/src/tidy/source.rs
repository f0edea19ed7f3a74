//! Rules about the text of one Rust file: module docs, leftovers, length.
//!
//! These are readings of lines, not of a syntax tree: a heuristic that is right on ordinary code and cheap to satisfy on
//! the rest. It looks at code before a comment only, and at plain `//` comments, never inside documentation.

use super::Finding;
use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that passes this is usually two ideas.
const LINES_MAX: usize = 1000;

/// Folders that hold our Rust sources.
const FOLDERS: &[&str] = &["crates", "fuzz", "interop", "xtask"];

/// Folders below them that hold what tools write.
const SKIPPED: &[&str] = &["target", "corpus", "artifacts", "coverage", "node_modules"];

/// What stands in code only while it is being written. Spelled in two halves so that this table is not its own finding.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("dbg", "!("), "remove the debug print"),
    (
        concat!("todo", "!("),
        "write it, or leave the feature out and say so in the module's docs",
    ),
    (
        concat!("unimplemented", "!("),
        "write it, or return an error that names what is missing",
    ),
    (
        concat!("#[ig", "nore"),
        "make the test fast and steady, or delete it: a test nobody runs shows nothing",
    ),
    (
        concat!("allow(dead", "_code)"),
        "delete what nobody calls, or give the reason",
    ),
];

/// Marks of unfinished work in comments.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];

/// Beginnings of Rust statements that prose does not have.
const CODE_STARTS: &[&str] = &[
    "let ", "let mut ", "use ", "pub ", "fn ", "impl ", "struct ", "enum ", "match ", "return ",
    "#[", "mod ", "assert",
];

/// Reads every Rust file below the known folders.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for path in rust_files(root)? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        findings.extend(check_text(relative, &text));
    }
    Ok(findings)
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS
        .iter()
        .map(|name| root.join(name))
        .filter(|path| path.is_dir())
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_text(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !has_module_docs(text) {
        let advice = "begin the file with `//!`: what it is, and what is deliberately absent";
        findings.push(Finding::new(path, 1, "module-docs", advice));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        let advice =
            format!("{lines} lines; split it, a file over {LINES_MAX} lines is usually two ideas");
        findings.push(Finding::new(path, LINES_MAX, "file-length", advice));
    }
    for (index, line) in text.lines().enumerate() {
        let (code, comment) = split_comment(line);
        for (pattern, advice) in LEFTOVERS {
            if code.contains(pattern) {
                findings.push(Finding::new(path, index + 1, "leftover", *advice));
            }
        }
        let Some(comment) = comment else { continue };
        if MARKS.iter().any(|mark| comment.contains(mark)) {
            findings.push(Finding::new(
                path,
                index + 1,
                "leftover",
                "do it now, or describe the limit in words",
            ));
        }
        if is_commented_out_code(comment) {
            let advice = "delete the commented-out code; git keeps it";
            findings.push(Finding::new(path, index + 1, "commented-out-code", advice));
        }
    }
    findings
}

/// True when the first line that is neither blank nor part of an inner attribute is module documentation.
fn has_module_docs(text: &str) -> bool {
    let mut depth = 0_usize;
    for line in text.lines() {
        let line = line.trim();
        if depth == 0 && !line.starts_with("#![") {
            if line.is_empty() {
                continue;
            }
            return line.starts_with("//!");
        }
        depth += line.matches('[').count();
        depth = depth.saturating_sub(line.matches(']').count());
    }
    false
}

/// Divides a line into code and the text of a plain `//` comment. Documentation comments count as neither.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let trimmed = line.trim_start();
    if trimmed.starts_with("///") || trimmed.starts_with("//!") {
        return ("", None);
    }
    if let Some(comment) = trimmed.strip_prefix("//") {
        return ("", Some(comment.trim()));
    }
    // A `//` inside a string literal (an URL) follows a colon; a comment after code follows a space.
    match line.find(" // ") {
        Some(position) => (&line[..position], Some(line[position + 4..].trim())),
        None => (line, None),
    }
}

fn is_commented_out_code(comment: &str) -> bool {
    let ends_like_code =
        comment.ends_with(';') || comment.ends_with('{') || comment.ends_with("},");
    let only_closing = !comment.is_empty() && comment.chars().all(|c| "})];,".contains(c));
    let starts_like_code = CODE_STARTS.iter().any(|start| comment.starts_with(start));
    let calls = comment.ends_with(");") && !comment.contains(". ");
    only_closing || calls || (starts_like_code && (ends_like_code || comment.ends_with(']')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that `text` breaks, with their lines.
    fn rules(text: &str) -> Vec<(usize, &'static str)> {
        check_text(Path::new("a.rs"), text)
            .into_iter()
            .map(|finding| (finding.line, finding.rule))
            .collect()
    }

    #[test]
    fn module_docs_come_first() {
        let table = [
            ("//! Docs.\n", true),
            ("\n#![no_main]\n//! Docs.\n", true),
            (
                "#![expect(\n    a,\n    reason = \"b\"\n)]\n//! Docs.\n",
                true,
            ),
            ("use std::fs;\n//! Docs.\n", false),
            ("// Not docs.\n", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(has_module_docs(text), expected, "{text:?}");
        }
    }

    #[test]
    fn leftovers_are_found_in_code_only() {
        for (pattern, _) in LEFTOVERS {
            assert_eq!(
                rules(&format!("//! Docs.\n    {pattern}x)\n")),
                [(2, "leftover")],
                "{pattern}"
            );
            assert_eq!(
                rules(&format!("//! Docs.\n/// Mentions {pattern}x)\n")),
                [],
                "{pattern}"
            );
        }
        for mark in MARKS {
            assert_eq!(
                rules(&format!("//! Docs.\nlet a = 1; // {mark}: later\n")),
                [(2, "leftover")],
                "{mark}"
            );
        }
    }

    #[test]
    fn commented_out_code_is_told_from_prose() {
        let table = [
            ("let a = 1;", true),
            ("self.flush();", true),
            ("}", true),
            ("if ready {", false),
            ("use std::fs;", true),
            ("#[derive(Debug)]", true),
            ("The lock is held;", false),
            ("use this when the socket is closed", false),
            (
                "shows: 5.0 MQTT-3.1.2-1, MQTT-3.1.2-2; 3.1.1 MQTT-3.1.2-1",
                false,
            ),
            ("", false),
        ];
        for (comment, expected) in table {
            assert_eq!(is_commented_out_code(comment), expected, "{comment:?}");
        }
    }

    #[test]
    fn long_files_are_reported() {
        let text = format!("//! Docs.\n{}", "fn a() {}\n".repeat(LINES_MAX));
        assert_eq!(rules(&text), [(LINES_MAX, "file-length")]);
    }
}
