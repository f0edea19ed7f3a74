//! The commands against stores with a few rows.

use std::path::Path;

use clap::Parser;
use martlet_storage::{
    Group, Lsn, SessionId, SessionRecord, Storage as _, StoreOp, Timestamp, load,
};
use martlet_storage_embedded::EmbeddedOptions;

use super::args::StoreCommand;
use super::{Verdict, command};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: StoreCommand,
}

/// Runs a line; `{}` stands for `root`. Returns verdict and standard output, or the error.
fn run(root: &Path, line: &str) -> Result<(Verdict, String), String> {
    let line = line.replace("{}", &root.display().to_string());
    let words = std::iter::once("store").chain(line.split(' '));
    let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let verdict = command(&parsed.command, &mut out).map_err(|failure| failure.0)?;
    Ok((verdict, String::from_utf8_lossy(&out).into_owned()))
}

fn well(root: &Path, line: &str) -> String {
    match run(root, line) {
        Ok((Verdict::Well, out)) => out,
        other => panic!("{line}: {other:?}"),
    }
}

/// A store with two sessions.
fn make(path: &Path) {
    let (storage, _) = EmbeddedOptions::default().open(path).expect("opens");
    let (mut planner, _) = load(&storage, &mut ()).expect("loads");
    for n in 1..=2 {
        let record = SessionRecord {
            client_id: format!("client {n}").into(),
            username: None,
            expiry_interval_secs: 60,
            expires: None,
            connected: true,
        };
        let mut group = Group::default();
        let session = SessionId::new(n);
        planner.add(
            Lsn::new(n),
            vec![StoreOp::PutSession { session, record }],
            &mut group,
        );
        let writes = planner.finish(group, Timestamp::from_millis(5));
        storage.apply(&writes).expect("applies");
    }
    storage.sync().expect("syncs");
}

#[test]
fn a_store_is_looked_at_copied_and_carried() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    make(&root.join("a"));
    let info = well(root, "info --data {}/a");
    assert!(
        info.contains("last batch 2") && info.contains("session"),
        "{info}"
    );
    let json = well(root, "info --data {}/a --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert_eq!(json["rows"]["session"], 2);
    let dump = well(root, "dump --data {}/a --table session");
    assert_eq!(
        dump,
        "session 1: client \"client 1\", kept for 60 s, connected\n\
         session 2: client \"client 2\", kept for 60 s, connected\n"
    );
    well(root, "check --data {}/a");
    assert_eq!(well(root, "info {}/a"), info);
    assert_eq!(well(root, "dump {}/a --table session"), dump);
    well(root, "check {}/a");
    well(root, "compact {}/a");
    well(root, "backup --data {}/a {}/copy");
    well(root, "compact --data {}/a");
    std::fs::create_dir(root.join("b")).expect("a directory");
    well(root, "restore --data {}/b {}/copy");
    well(root, "export --data {}/b {}/lines");
    well(root, "import --data {}/c {}/lines");
    let everything = well(root, "dump --data {}/a");
    assert_eq!(everything.lines().count(), 3);
    for copy in ["b", "c", "copy"] {
        assert_eq!(well(root, &format!("dump --data {{}}/{copy}")), everything);
    }
    assert_eq!(
        well(root, "export --data {}/c"),
        std::fs::read_to_string(root.join("lines")).expect("reads")
    );
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_store_is_carried_to_rocksdb_and_back() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    make(&root.join("a"));
    well(root, "export --data {}/a {}/lines");
    well(root, "import --data rocksdb:{}/r {}/lines");
    let info = well(root, "info --data {}/r");
    assert!(
        info.contains("rocksdb store, format 1") && info.contains("on disk"),
        "{info}"
    );
    well(root, "check --data {}/r");
    well(root, "compact --data {}/r");
    well(root, "backup --data {}/r {}/copy");
    well(root, "restore --data {}/s {}/copy");
    well(root, "import --data {}/b {}/lines");
    let everything = well(root, "dump --data {}/b");
    for copy in ["r", "s", "copy"] {
        assert_eq!(well(root, &format!("dump --data {{}}/{copy}")), everything);
    }
    let lines = std::fs::read_to_string(root.join("lines")).expect("reads");
    assert_eq!(well(root, "export --data {}/s"), lines);
    let error = run(root, "import --data rocksdb:{}/a {}/lines").expect_err("another's directory");
    assert!(error.contains("backend embedded"), "{error}");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    make(&root.join("a"));
    make(&root.join("b"));
    std::fs::write(root.join("file"), "x\n").expect("writes");
    let check = |line: &str, words: &str| {
        let error = run(root, line).expect_err(line);
        assert!(error.contains(words), "{line}: `{error}` says `{words}`");
    };
    check("info --data {}/none", "holds no store");
    check("dump --data {}/none", "holds no store");
    check("check --data {}/none", "holds no store");
    check("compact --data {}/none", "holds no store");
    check("backup --data {}/none {}/c", "holds no store");
    check("import --data {}/c {}/none", "none: No such file");
    assert!(!root.join("none").exists() && !root.join("c").exists());
    check("info --data {}/file", "not a directory");
    check("dump --data {}/a --table tables", "no table `tables`");
    check("backup --data {}/a {}/b", "exists");
    check("restore --data {}/b {}/a", "exists");
    check("export --data {}/a {}/file", "exists");
    check("import --data {}/a {}/file", "not empty");
    check("import --data {}/d {}/file", "line 1");
    check("check --data {}/a --accept-loss", "--repair");
    check("check --data {}/a {}/b", "cannot be used with");
    let held = EmbeddedOptions::default()
        .open(root.join("a"))
        .expect("opens");
    check("info --data {}/a", "is in use by process");
    drop(held);
    well(root, "info --data {}/a");
}

#[test]
fn a_damaged_store_is_checked_and_repaired_when_told() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    make(&root.join("a"));
    let log = root.join("a/00000001.log");
    let bytes = std::fs::read(&log).expect("reads");
    std::fs::write(&log, &bytes[..bytes.len() - 1]).expect("writes");
    let error = run(root, "check --data {}/a").expect_err("is refused");
    assert!(error.contains("batches 2 to 2"), "{error}");
    assert!(run(root, "check --data {}/a --repair").is_err());
    let (verdict, _) = run(root, "check --data {}/a --repair --accept-loss").expect("is repaired");
    assert_eq!(verdict, Verdict::Wrong, "what was lost is still said");
    well(root, "check --data {}/a");
    assert_eq!(
        well(root, "dump --data {}/a --table session")
            .lines()
            .count(),
        1
    );
}
