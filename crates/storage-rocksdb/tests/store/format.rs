//! Stores of released formats open, with everything in them.

use std::fs;
use std::path::{Path, PathBuf};

use martlet_storage::contract::exchange::message;
use martlet_storage::contract::fixture::{CONTENTS, batches, commit, describe};
use martlet_storage::{MessageId, Storage};
use martlet_storage_rocksdb::{FORMAT, RocksDbOptions};

use crate::support::{contents, copy, directory, open};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn every_released_format_opens() {
    for format in 1..=FORMAT {
        let root = directory();
        let path = root.path().join("store");
        copy(&fixtures().join(format!("format-{format}")), &path);
        let (storage, report) = RocksDbOptions::default().open(&path).expect("opens");
        let remarks = report.remarks();
        assert_eq!(remarks, Vec::<String>::new(), "format {format}");
        let found = describe(&storage).expect("loads");
        assert_eq!(found, CONTENTS, "format {format}");
        let body = storage.read_body(MessageId::new(3)).expect("reads");
        assert_eq!(body, Some(message(3, &[3; 300])));
    }
}

/// What this program writes is what the fixture of its format holds. With `MARTLET_WRITE_FIXTURE` set the fixture is
/// written anew, once for each format that is released: a database with sorted files, a body apart, and a log.
#[test]
fn the_fixture_of_this_format_is_what_is_written() {
    let root = directory();
    let path = root.path().join("store");
    let (first, rest) = {
        let mut first = batches();
        // The last batches are in the log only; what is before them was in the log of an earlier opening.
        let rest = first.split_off(first.len() - 1);
        (first, rest)
    };
    commit(&open(&path), first).expect("commits");
    commit(&open(&path), rest).expect("commits");
    let to = fixtures().join(format!("format-{FORMAT}"));
    if std::env::var_os("MARTLET_WRITE_FIXTURE").is_some() {
        fs::create_dir_all(fixtures()).expect("a directory");
        fs::remove_dir_all(&to).ok();
        copy(&path, &to);
        fs::remove_file(to.join("lock")).expect("removes");
        for entry in fs::read_dir(to.join("db")).expect("lists").flatten() {
            // What RocksDB makes anew at every opening.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("LO") || name.starts_with("OPTIONS") {
                fs::remove_file(entry.path()).expect("removes");
            }
        }
    }
    let fixture = directory();
    let copied = fixture.path().join("store");
    copy(&to, &copied);
    let written = contents(&open(&path)).expect("reads");
    assert_eq!(contents(&open(&copied)).expect("reads"), written);
}
