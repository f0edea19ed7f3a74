//! Directories that are not what a store expects: each is refused by name. Copies, and what compacting leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use martlet_storage::{Storage, Table, Write};
use martlet_storage_rocksdb::{OpenError, RocksDbOptions};

use crate::support::{batches, contents, directory, open, put, states, within};

fn refused(path: &Path, words: &[&str]) -> OpenError {
    let error = RocksDbOptions::default()
        .open(path)
        .err()
        .unwrap_or_else(|| panic!("{} is refused", path.display()));
    let text = error.to_string();
    for word in words.iter().chain(&[&*path.display().to_string()]) {
        assert!(text.contains(word), "`{text}` names `{word}`");
    }
    error
}

#[test]
fn a_new_store_is_private() {
    let root = directory();
    let path = root.path().join("a/b/store");
    drop(open(&path));
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("changes");
    refused(&path, &["mode 0750", "chmod 700"]);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let root = directory();
    let path = within(&root);
    let held = open(&path);
    let own = format!("process {}", std::process::id());
    let error = refused(&path, &["in use", &own]);
    assert!(matches!(error, OpenError::Locked { pid: Some(_), .. }));
    // Also where only RocksDB's own lock is in the way.
    fs::remove_file(path.join("lock")).expect("removes");
    refused(&path, &["in use"]);
    drop(held);
    drop(open(&path));
}

#[test]
fn what_is_no_store_of_ours_is_refused() {
    let root = directory();
    let file = root.path().join("file");
    fs::write(&file, "x").expect("writes");
    refused(&file, &["is not a directory"]);

    let check = |name: &str, file: &str, text: &str, words: &[&str]| {
        let path = root.path().join(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("changes");
        fs::write(path.join(file), text).expect("writes");
        refused(&path, words);
        assert_eq!(fs::read_to_string(path.join(file)).expect("reads"), text);
        assert!(!path.join("db").exists(), "nothing is made");
    };
    check("other", "CURRENT", "MANIFEST-000001\n", &["`CURRENT`"]);
    check("odd", "FORMAT", "something else\n", &["`FORMAT`"]);
    let embedded = "martlet embedded store, format 1\n";
    check("embedded", "FORMAT", embedded, &["backend embedded"]);

    let path = within(&root);
    drop(open(&path));
    let newer = "martlet rocksdb store, format 9\n";
    fs::write(path.join("FORMAT"), newer).expect("writes");
    refused(&path, &["format 9", "up to 1"]);
}

#[test]
fn without_leave_to_create_nothing_is_created() {
    let root = directory();
    let path = within(&root);
    for options in [
        RocksDbOptions::default().create(false),
        RocksDbOptions::default().read_only(true),
    ] {
        let error = options.open(&path).err();
        assert!(matches!(error, Some(OpenError::Missing(_))), "{error:?}");
        assert!(!path.exists());
    }
}

#[test]
fn a_creation_that_was_cut_short_is_finished() {
    let root = directory();
    let path = within(&root);
    drop(open(&path));
    // As it is between the format file and the database.
    fs::remove_dir_all(path.join("db")).expect("removes");
    fs::remove_file(path.join("mark")).expect("removes");
    let storage = open(&path);
    storage.apply(&batches()[0]).expect("applies");
}

#[test]
fn a_copy_of_an_open_store_is_a_store() {
    let root = directory();
    let storage = open(&within(&root));
    let states = states(&batches());
    for batch in &batches()[..2] {
        storage.apply(batch).expect("applies");
    }
    let copy = root.path().join("copy");
    storage.checkpoint(&copy).expect("copies");
    for batch in &batches()[2..] {
        storage.apply(batch).expect("goes on");
    }
    let copied = open(&copy);
    assert_eq!(copied.last_batch(), 2);
    assert_eq!(contents(&copied).expect("lists"), states[2]);
    assert_eq!(contents(&storage).expect("lists"), states[4]);
    let error = storage.checkpoint(&copy).err();
    assert!(error.is_some(), "what is there is not written over");
}

#[test]
fn compacting_leaves_what_lives_and_nothing_else() {
    let root = directory();
    let path = within(&root);
    let storage = open(&path);
    let body = |n: u32| vec![(n % 251) as u8; 6_000];
    for n in 0..2_000_u32 {
        let key = n.to_be_bytes();
        let row = put(Table::Message, &key, &body(n));
        storage.apply(&[row]).expect("applies");
    }
    let deletions = (10..2_000_u32).map(|n| Write::Delete {
        table: Table::Message,
        key: n.to_be_bytes().to_vec(),
    });
    storage
        .apply(&deletions.collect::<Vec<_>>())
        .expect("applies");
    drop(storage);
    let storage = open(&path);
    let mut told = (0, 0);
    storage
        .compact(&mut |done, total| told = (done, total))
        .expect("compacts");
    assert_eq!(told.0, told.1);
    assert_eq!(storage.rows(Table::Message).expect("counts"), 10);
    for n in 0..10_u32 {
        let mut read = Vec::new();
        let found = storage.get(Table::Message, &n.to_be_bytes(), &mut |value| {
            read = value.to_vec();
        });
        assert!(found.expect("reads") && read == body(n), "{n}");
    }
    drop(storage);
    let storage = open(&path);
    let usage = storage.usage();
    assert!(
        usage.disk_bytes > 0 && usage.disk_bytes < 1 << 20,
        "{usage:?}"
    );
}
