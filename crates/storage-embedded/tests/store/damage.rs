//! Files that are not what was written: flipped bytes, torn tails, holes, missing files.

use std::fs;
use std::path::Path;

use martlet_storage::Storage;
use martlet_storage_embedded::{EmbeddedOptions, MarkFound, OpenError};

use crate::support::{batches, contents, copy, directory, log, open, states, write_store};

/// Opens a store that was damaged. It must refuse, or hold everything; a row that is there and cannot be read
/// says so when it is read.
fn nothing_silently_lost(path: &Path, read_only: bool, what: &str) {
    let expect = states(&batches()).pop().expect("a state");
    let options = EmbeddedOptions::default().read_only(read_only);
    let Ok((storage, _)) = options.open(path) else {
        return;
    };
    if let Ok(found) = contents(&storage) {
        assert_eq!(found, expect, "{what}");
    }
}

#[test]
fn no_flipped_bit_opens_silently_with_less() {
    let root = directory();
    let whole = root.path().join("whole");
    write_store(&whole, &batches());
    for name in ["00000001.log", "FORMAT", "mark"] {
        let bytes = fs::read(whole.join(name)).expect("reads");
        let at = root.path().join("flipped");
        copy(&whole, &at);
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                fs::write(at.join(name), &flipped).expect("writes");
                nothing_silently_lost(&at, true, &format!("{name} byte {byte} bit {bit}"));
            }
        }
        fs::remove_dir_all(&at).expect("removes");
    }
}

#[test]
fn no_flipped_byte_is_repaired_into_less() {
    let root = directory();
    let whole = root.path().join("whole");
    write_store(&whole, &batches());
    let bytes = fs::read(log(&whole)).expect("reads");
    for byte in 0..bytes.len() {
        let at = root.path().join("flipped");
        copy(&whole, &at);
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x11;
        fs::write(log(&at), &flipped).expect("writes");
        nothing_silently_lost(&at, false, &format!("byte {byte}"));
        // Opened for writing and refused: not a byte was changed.
        if EmbeddedOptions::default().open(&at).is_err() {
            assert_eq!(fs::read(log(&at)).expect("reads"), flipped, "byte {byte}");
        }
        fs::remove_dir_all(&at).expect("removes");
    }
}

#[test]
fn without_its_mark_a_store_says_so() {
    let root = directory();
    write_store(root.path(), &batches());
    fs::remove_file(root.path().join("mark")).expect("removes");
    let (storage, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert_eq!(report.mark, MarkFound::Missing);
    assert!(!report.is_clean());
    assert_eq!(report.remarks().len(), 1);
    let expect = states(&batches()).pop().expect("a state");
    assert_eq!(contents(&storage).expect("lists"), expect);
    drop(storage);
    let (_, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.is_clean(), "the next mark is there again");
}

/// Appends to the log of a whole store, as a crash in the middle of a write would.
fn torn(tail: &[u8]) {
    let root = directory();
    write_store(root.path(), &batches());
    let mut bytes = fs::read(log(root.path())).expect("reads");
    let end = bytes.len();
    bytes.extend_from_slice(tail);
    fs::write(log(root.path()), &bytes).expect("writes");
    let expect = states(&batches()).pop().expect("a state");
    {
        let (storage, report) = EmbeddedOptions::default()
            .read_only(true)
            .open(root.path())
            .expect("opens for reading");
        assert!(report.torn);
        assert_eq!(contents(&storage).expect("lists"), expect);
        assert!(storage.apply(&batches()[0]).is_err());
    }
    assert_eq!(
        fs::read(log(root.path())).expect("reads"),
        bytes,
        "untouched"
    );
    let (storage, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.torn && report.lost.is_empty());
    assert_eq!(contents(&storage).expect("lists"), expect);
    let [aside] = report.aside.as_slice() else {
        panic!("one piece is kept: {report:?}");
    };
    assert_eq!((aside.at, aside.bytes), (end as u64, tail.len() as u64));
    assert_eq!(
        fs::read(&aside.kept).expect("reads"),
        tail,
        "kept as it was"
    );
    assert_eq!(report.remarks().len(), 1);
    // It goes on from there.
    storage.apply(&batches()[0]).expect("applies");
    storage.sync().expect("syncs");
    drop(storage);
    let (_, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.is_clean());
    assert_eq!(report.last_batch, 7);
}

#[test]
fn a_torn_tail_is_cut_and_kept() {
    torn(&[0; 100]);
    torn(b"x");
    torn(&[0xA5; 3000]);
    // The first half of a batch that was once written whole.
    let root = directory();
    write_store(root.path(), &batches());
    let bytes = fs::read(log(root.path())).expect("reads");
    for cut in [10, 43, 44, 45, 100] {
        torn(&bytes[36..36 + cut]);
    }
}

#[test]
fn every_cut_of_an_unsynced_batch_leaves_the_synced_ones() {
    let root = directory();
    let path = root.path().join("store");
    let all = batches();
    let (last, first) = all.split_last().expect("batches");
    write_store(&path, first);
    let synced = fs::metadata(log(&path)).expect("there").len() as usize;
    let mark = fs::read(path.join("mark")).expect("reads");
    {
        let storage = open(&path);
        storage.apply(last).expect("applies");
    }
    let bytes = fs::read(log(&path)).expect("reads");
    let states = states(&all);
    for cut in synced..=bytes.len() {
        let at = root.path().join("cut");
        copy(&path, &at);
        // The mark as it was before the last batch, which was never synced.
        fs::write(at.join("mark"), &mark).expect("writes");
        fs::write(log(&at), &bytes[..cut]).expect("writes");
        let (storage, report) = EmbeddedOptions::default().open(&at).expect("opens");
        let found = contents(&storage).expect("lists");
        let whole = cut == bytes.len();
        assert_eq!(found, states[first.len() + usize::from(whole)], "cut {cut}");
        assert_eq!(report.torn, cut != synced && !whole, "cut {cut}");
        fs::remove_dir_all(&at).expect("removes");
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused_until_the_loss_is_accepted() {
    let root = directory();
    write_store(root.path(), &batches());
    let bytes = fs::read(log(root.path())).expect("reads");
    fs::write(log(root.path()), &bytes[..bytes.len() - 1]).expect("writes");
    let error = EmbeddedOptions::default()
        .open(root.path())
        .err()
        .expect("refused");
    assert!(
        matches!(
            error,
            OpenError::Lost {
                first_lost: 6,
                last_lost: 6,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("00000001.log") && text.contains("--accept-loss"),
        "{text}"
    );
    let (storage, report) = EmbeddedOptions::default()
        .accept_loss(true)
        .open(root.path())
        .expect("opens");
    assert_eq!(report.lost, [(6, 6)]);
    assert_eq!(report.aside.len(), 1);
    assert_eq!(contents(&storage).expect("lists"), states(&batches())[5]);
    drop(storage);
    let (_, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.is_clean(), "accepted once is enough");
}

#[test]
fn a_hole_is_refused_then_closed_with_what_is_behind_it() {
    for segment_bytes in [1, 16 << 20] {
        let root = directory();
        let options = EmbeddedOptions::default().segment_bytes(segment_bytes);
        let mut expect = states(&[]).remove(0);
        {
            let (storage, _) = options.open(root.path()).expect("opens");
            for n in 0..20_u8 {
                let row = crate::support::put(martlet_storage::Table::Queue, &[n], &[n; 4000]);
                storage.apply(std::slice::from_ref(&row)).expect("applies");
                storage.sync().expect("syncs");
                if n != 7 {
                    expect.insert((martlet_storage::Table::Queue, vec![n]), vec![n; 4000]);
                }
            }
        }
        // Into the rows of the eighth batch, wherever it is.
        let needle = [1, 4, 1, 0, 0, 0, 7];
        let mut hit = false;
        for entry in fs::read_dir(root.path()).expect("lists").flatten() {
            let mut bytes = fs::read(entry.path()).expect("reads");
            if let Some(at) = bytes.windows(7).position(|at| at == needle) {
                bytes[at + 2] ^= 2;
                fs::write(entry.path(), bytes).expect("writes");
                hit = true;
            }
        }
        assert!(hit, "the row was found");
        let error = options.open(root.path()).err().expect("refused");
        let lost = matches!(
            error,
            OpenError::Lost {
                first_lost: 8,
                last_lost: 8,
                ..
            }
        );
        assert!(lost, "{error}");
        let accepting = options.clone().accept_loss(true);
        let (storage, report) = accepting.open(root.path()).expect("opens");
        assert_eq!(report.lost, [(8, 8)]);
        assert!(!report.aside.is_empty());
        assert_eq!(contents(&storage).expect("lists"), expect);
        drop(storage);
        let (storage, report) = options.open(root.path()).expect("opens");
        assert!(report.is_clean() && report.last_batch == 20, "{report:?}");
        assert_eq!(contents(&storage).expect("lists"), expect);
    }
}

#[test]
fn a_missing_file_of_the_log_is_a_hole() {
    let root = directory();
    let options = EmbeddedOptions::default().segment_bytes(1);
    {
        let (storage, _) = options.open(root.path()).expect("opens");
        for n in 0..9_u8 {
            let row = crate::support::put(martlet_storage::Table::Queue, &[n], &[n; 4096]);
            storage.apply(&[row]).expect("applies");
            storage.sync().expect("syncs");
        }
    }
    let last = fs::read_dir(root.path())
        .expect("lists")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|it| it == "log"))
        .count();
    assert!(last > 4, "{last} segments");
    for number in [1, 3, last] {
        let name = format!("{number:08x}.log");
        let kept = fs::read(root.path().join(&name)).expect("reads");
        fs::remove_file(root.path().join(&name)).expect("removes");
        let error = options.open(root.path()).err().expect("refused");
        assert!(matches!(error, OpenError::Lost { .. }), "{name}: {error}");
        fs::write(root.path().join(&name), kept).expect("writes");
    }
    fs::remove_file(root.path().join("00000003.log")).expect("removes");
    let accepting = options.clone().accept_loss(true);
    let (storage, report) = accepting.open(root.path()).expect("opens");
    assert_eq!(report.lost.len(), 1);
    assert_eq!(contents(&storage).expect("lists").len(), 8);
}

#[test]
fn a_payload_that_looks_like_a_batch_is_none() {
    let root = directory();
    let path = root.path().join("store");
    let other = root.path().join("other");
    // Whole frames of another store, as a publisher who knows the format could send them.
    write_store(&other, &batches());
    let forged = fs::read(log(&other)).expect("reads")[36..].to_vec();
    let row = crate::support::put(martlet_storage::Table::Message, b"m", &forged);
    write_store(
        &path,
        std::slice::from_ref(&row)
            .chunks(1)
            .map(<[_]>::to_vec)
            .collect::<Vec<_>>()
            .as_slice(),
    );
    let bytes = fs::read(log(&path)).expect("reads");
    // The same batch once more, torn in its middle: only what it carried is behind the damage.
    let mut torn = bytes.clone();
    torn.extend_from_slice(&bytes[36..bytes.len() - 1]);
    let at = torn.len() - bytes.len() + 36 + 40;
    torn[at] ^= 1;
    fs::write(log(&path), &torn).expect("writes");
    let (storage, report) = EmbeddedOptions::default().open(&path).expect("opens");
    assert!(report.torn && report.lost.is_empty(), "{report:?}");
    assert_eq!(contents(&storage).expect("lists").len(), 1);
}

#[test]
fn a_damaged_body_is_reported_when_it_is_read() {
    let root = directory();
    write_store(root.path(), &batches());
    let mut bytes = fs::read(log(root.path())).expect("reads");
    let at = bytes
        .windows(60)
        .position(|at| at == [2 ^ 0x55; 60])
        .expect("the body is there");
    bytes[at + 5] ^= 0x80;
    fs::write(log(root.path()), bytes).expect("writes");
    let storage = open(root.path());
    let read = storage.get(martlet_storage::Table::Message, &[2], &mut |_| {
        panic!("a damaged value is not shown");
    });
    assert!(
        matches!(read, Err(martlet_storage::StorageError::Corrupt(_))),
        "{read:?}"
    );
    assert_eq!(
        storage.get(martlet_storage::Table::Message, &[3], &mut |_| {}),
        Ok(true),
        "its neighbours are fine"
    );
}
