//! Stores of released formats open, with everything in them.

use std::fs;
use std::path::{Path, PathBuf};

use martlet_storage::contract::exchange::message;
use martlet_storage::contract::fixture::{CONTENTS, batches, commit, describe};
use martlet_storage::{MessageId, Storage};
use martlet_storage_embedded::{EmbeddedOptions, FORMAT};

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
        let (storage, report) = EmbeddedOptions::default().open(&path).expect("opens");
        let remarks = report.remarks();
        assert_eq!(remarks, Vec::<String>::new(), "format {format}");
        let found = describe(&storage).expect("loads");
        assert_eq!(found, CONTENTS, "format {format}");
        let body = storage.read_body(MessageId::new(3)).expect("reads");
        assert_eq!(body, Some(message(3, &[3; 300])));
    }
}

/// What this program writes is what the fixture of its format holds. With `MARTLET_WRITE_FIXTURE` set the fixture is
/// written anew, once for each format that is released.
#[test]
fn the_fixture_of_this_format_is_what_is_written() {
    let root = directory();
    let path = root.path().join("store");
    commit(&open(&path), batches()).expect("commits");
    let to = fixtures().join(format!("format-{FORMAT}"));
    if std::env::var_os("MARTLET_WRITE_FIXTURE").is_some() {
        fs::create_dir_all(fixtures()).expect("a directory");
        fs::remove_dir_all(&to).ok();
        copy(&path, &to);
        fs::remove_file(to.join("lock")).expect("removes");
    }
    let fixture = directory();
    let copied = fixture.path().join("store");
    copy(&to, &copied);
    let written = contents(&open(&path)).expect("reads");
    assert_eq!(contents(&open(&copied)).expect("reads"), written);
}
