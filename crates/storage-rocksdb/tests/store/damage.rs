//! Files that are not what was written: flipped bytes, torn tails, lost ends, missing files.

use std::fs;
use std::path::Path;

use martlet_storage::Storage;
use martlet_storage_rocksdb::{OpenError, RocksDbOptions};

use crate::support::{
    Contents, batches, contents, copy, directory, killed, log, open, states, within,
};

fn whole() -> Contents {
    states(&batches()).pop().expect("a state")
}

/// Opens a damaged store. It must refuse, or hold everything.
fn nothing_silently_lost(path: &Path, read_only: bool, what: &str) {
    let options = RocksDbOptions::default().read_only(read_only);
    if let Ok((storage, _)) = options.open(path)
        && let Ok(found) = contents(&storage)
    {
        assert_eq!(found, whole(), "{what}");
    }
}

#[test]
fn no_flipped_byte_opens_silently_with_less() {
    let root = directory();
    let good = root.path().join("good");
    killed(&good, &batches());
    let at = root.path().join("flipped");
    copy(&good, &at);
    for file in [log(&at), at.join("FORMAT"), at.join("mark")] {
        let bytes = fs::read(&file).expect("reads");
        // Between the two slots of the mark there is nothing.
        for byte in (0..bytes.len()).filter(|byte| bytes[*byte] != 0 || *byte < 100) {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 0x11;
            fs::write(&file, &flipped).expect("writes");
            let what = format!("{} byte {byte}", file.display());
            nothing_silently_lost(&at, true, &what);
        }
        fs::write(&file, &bytes).expect("writes");
    }
}

#[test]
fn no_flipped_byte_is_repaired_into_less() {
    let root = directory();
    let good = root.path().join("good");
    killed(&good, &batches());
    let bytes = fs::read(log(&good)).expect("reads");
    let at = root.path().join("flipped");
    for byte in (0..bytes.len()).step_by(13) {
        copy(&good, &at);
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x11;
        fs::write(log(&at), &flipped).expect("writes");
        nothing_silently_lost(&at, false, &format!("byte {byte}"));
        // What was refused once is refused again.
        nothing_silently_lost(&at, false, &format!("byte {byte}, again"));
        fs::remove_dir_all(&at).expect("removes");
    }
}

#[test]
fn a_torn_tail_is_cut_and_kept() {
    let check = |tail: &[u8]| {
        let root = directory();
        let path = within(&root);
        killed(&path, &batches());
        let file = log(&path);
        let mut bytes = fs::read(&file).expect("reads");
        bytes.extend_from_slice(tail);
        fs::write(&file, &bytes).expect("writes");
        let (storage, report) = RocksDbOptions::default()
            .read_only(true)
            .open(&path)
            .expect("opens for reading");
        assert!(report.torn, "{tail:?}");
        assert_eq!(contents(&storage).expect("lists"), whole());
        assert!(storage.apply(&batches()[0]).is_err());
        drop(storage);
        assert_eq!(fs::read(&file).expect("reads"), bytes, "untouched");
        let (storage, report) = RocksDbOptions::default().open(&path).expect("opens");
        assert!(report.torn && report.lost.is_none());
        let [kept] = report.aside.as_slice() else {
            panic!("one log is kept: {report:?}");
        };
        assert_eq!(fs::read(kept).expect("reads"), bytes, "kept as it was");
        assert_eq!(contents(&storage).expect("lists"), whole());
        // It goes on from there.
        storage.apply(&batches()[0]).expect("applies");
        storage.sync().expect("syncs");
        let expect = contents(&storage).expect("lists");
        drop(storage);
        assert_eq!(contents(&open(&path)).expect("lists"), expect);
    };
    check(b"garbage that is no record");
    check(&vec![0x5A; 40_000]);
    // The head of a record that goes on for longer than the file.
    check(&[1, 2, 3, 4, 200, 0, 1, 9, 9]);
}

#[test]
fn what_is_kept_aside_is_bounded() {
    let root = directory();
    let path = within(&root);
    drop(open(&path));
    for n in 0..20_u8 {
        let file = log(&path);
        let mut bytes = fs::read(&file).expect("reads");
        bytes.extend([n, 2, 3, 4, 200, 0, 1, 9, 9]);
        fs::write(file, bytes).expect("writes");
        let (_, report) = RocksDbOptions::default().open(&path).expect("opens");
        assert!(report.aside.iter().any(|kept| kept.exists()), "{report:?}");
    }
    let kept = fs::read_dir(path.join("aside")).expect("lists").count();
    assert!((8..=16).contains(&kept), "{kept}");
}

#[test]
fn every_cut_of_an_unsynced_batch_leaves_the_synced_ones() {
    let root = directory();
    let (synced, unsynced) = (&batches()[..3], &batches()[3..]);
    let good = root.path().join("good");
    let (before, after) = {
        let work = root.path().join("work");
        let storage = open(&work);
        for batch in synced {
            storage.apply(batch).expect("applies");
            storage.sync().expect("syncs");
        }
        let before = fs::metadata(log(&work)).expect("there").len();
        storage.apply(&unsynced[0]).expect("applies");
        let after = fs::metadata(log(&work)).expect("there").len();
        copy(&work, &good);
        (before, after)
    };
    assert!(before < after, "an applied batch is in the file");
    let states = states(&batches());
    let at = root.path().join("cut");
    for length in (before..after).step_by(3).chain([after]) {
        copy(&good, &at);
        let file = fs::File::options().write(true).open(log(&at));
        file.and_then(|file| file.set_len(length)).expect("cuts");
        let (storage, report) = RocksDbOptions::default().open(&at).expect("opens");
        let expect = if length == after {
            &states[4]
        } else {
            &states[3]
        };
        assert_eq!(&contents(&storage).expect("lists"), expect, "{length}");
        assert_eq!(report.torn, length != before && length != after, "{length}");
        drop(storage);
        fs::remove_dir_all(&at).expect("removes");
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused_until_the_loss_is_accepted() {
    let root = directory();
    let path = within(&root);
    // The state of the files before the last batch, with the mark after it.
    killed(&path, &batches()[..3]);
    let later = root.path().join("later");
    killed(&later, &batches());
    fs::copy(later.join("mark"), path.join("mark")).expect("copies");
    for _ in 0..2 {
        let error = RocksDbOptions::default().open(&path).err();
        let Some(OpenError::Lost {
            first_lost: 4,
            last_lost: 4,
            ..
        }) = error
        else {
            panic!("refused as a loss: {error:?}");
        };
    }
    let (storage, report) = RocksDbOptions::default()
        .accept_loss(true)
        .open(&path)
        .expect("opens");
    assert_eq!(report.lost, Some((4, 4)));
    assert_eq!(contents(&storage).expect("lists"), states(&batches())[3]);
    drop(storage);
    drop(open(&path));
}

#[test]
fn missing_files_are_refused() {
    let root = directory();
    let good = root.path().join("good");
    killed(&good, &batches());
    let at = root.path().join("less");
    let check = |what: &str, remove: &dyn Fn(&Path)| {
        copy(&good, &at);
        remove(&at);
        let error = RocksDbOptions::default().open(&at).err();
        let lost = matches!(
            error,
            Some(OpenError::Lost { .. } | OpenError::Damaged { .. })
        );
        assert!(lost, "{what}: {error:?}");
        fs::remove_dir_all(&at).expect("removes");
    };
    check("the log", &|path| {
        fs::remove_file(log(path)).expect("removes");
    });
    check("the database", &|path| {
        fs::remove_dir_all(path.join("db")).expect("removes");
    });
    check("the name of the manifest", &|path| {
        fs::remove_file(path.join("db/CURRENT")).expect("removes");
    });
}

#[test]
fn without_its_mark_a_store_says_so() {
    let root = directory();
    let path = within(&root);
    killed(&path, &batches());
    fs::remove_file(path.join("mark")).expect("removes");
    let (storage, report) = RocksDbOptions::default().open(&path).expect("opens");
    assert!(report.mark_missing);
    assert_eq!(report.remarks().len(), 1);
    assert_eq!(contents(&storage).expect("lists"), whole());
    drop(storage);
    drop(open(&path));
}
