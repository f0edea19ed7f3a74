//! Directories that are not what a store expects: each is refused by name, and nothing in it changes.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use martlet_storage_embedded::{EmbeddedOptions, OpenError};

use crate::support::{directory, open, write_store};

/// Refused, with all of `words` in the message; nothing in the directory was touched.
fn refused(path: &Path, words: &[&str]) -> OpenError {
    let listing = |path: &Path| -> Vec<_> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| {
                (
                    entry.file_name(),
                    fs::read(entry.path()).unwrap_or_default(),
                )
            })
            .filter(|(name, _)| name != "lock")
            .collect();
        names.sort();
        names
    };
    let before = listing(path);
    let error = EmbeddedOptions::default()
        .open(path)
        .err()
        .unwrap_or_else(|| panic!("{} is refused", path.display()));
    let text = error.to_string();
    for word in words.iter().chain(&[&*path.display().to_string()]) {
        assert!(text.contains(word), "`{text}` names `{word}`");
    }
    assert_eq!(listing(path), before, "nothing was changed");
    error
}

#[test]
fn a_new_store_is_private() {
    let root = directory();
    let path = root.path().join("a/b/store");
    drop(open(&path));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).expect("lists").flatten() {
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn an_empty_directory_is_made_private() {
    let root = directory();
    let path = root.path().join("store");
    fs::DirBuilder::new()
        .mode(0o755)
        .create(&path)
        .expect("made");
    drop(open(&path));
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let root = directory();
    let held = open(root.path());
    let own = format!("process {}", std::process::id());
    let error = refused(root.path(), &["in use", &own]);
    assert!(matches!(error, OpenError::Locked { pid: Some(_), .. }));
    drop(held);
    drop(open(root.path()));
}

#[test]
fn what_is_no_store_is_refused() {
    let root = directory();
    let file = root.path().join("file");
    fs::write(&file, "x").expect("writes");
    assert!(matches!(
        refused(&file, &["not a directory"]),
        OpenError::NotADirectory(_)
    ));
    let below = file.join("store");
    assert!(matches!(
        refused(&below, &["not a directory"]),
        OpenError::NotADirectory(_)
    ));
    let make = |name: &str, files: &[(&str, &str)]| {
        let path = root.path().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .expect("made");
        for (name, text) in files {
            fs::write(path.join(name), text).expect("writes");
        }
        path
    };
    refused(
        &make("mosquitto", &[("mosquitto.db", "\0")]),
        &["mosquitto.db", "empty directory"],
    );
    refused(&make("rocksdb", &[("CURRENT", "MANIFEST-1")]), &["CURRENT"]);
    refused(&make("other", &[("FORMAT", "something else")]), &["FORMAT"]);
    let newer = make("newer", &[("FORMAT", "martlet embedded store, format 2\n")]);
    refused(&newer, &["format 2", "up to 1", "newer program"]);
}

#[test]
fn a_store_that_others_may_read_is_refused() {
    let root = directory();
    let path = root.path().join("store");
    write_store(&path, &[]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("changes");
    refused(&path, &["0750", "chmod 700"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("changes");
    drop(open(&path));
}

#[test]
fn without_leave_to_create_nothing_is_created() {
    let root = directory();
    let path = root.path().join("store");
    let options = EmbeddedOptions::default().create(false);
    assert!(matches!(options.open(&path), Err(OpenError::Missing(_))));
    assert!(!path.exists());
    let options = EmbeddedOptions::default().read_only(true);
    assert!(matches!(
        options.open(root.path()),
        Err(OpenError::Missing(_))
    ));
    assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 0);
}

#[test]
fn a_creation_that_was_cut_short_is_finished() {
    let root = directory();
    drop(open(root.path()));
    fs::remove_file(root.path().join("FORMAT")).expect("removes");
    let (_, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.created);
    assert!(root.path().join("FORMAT").exists());
}
