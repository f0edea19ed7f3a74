//! Counters are one row that comes back, that no other row depends on, and that is not there unless it was asked for.

use super::{A, commit, put, rows, session, value};
use crate::{
    COUNTERS_KEY, CountersRecord, Storage, StorageError, StoreOp, Table, VERSION, Visitor, load,
};

/// What a store says of its counters.
#[derive(Default)]
struct Found(Option<Result<CountersRecord, StorageError>>);

impl Visitor for Found {
    fn counters(&mut self, counters: Result<CountersRecord, StorageError>) {
        assert!(self.0.replace(counters).is_none(), "shown once");
    }
}

fn found(storage: &dyn Storage) -> Option<Result<CountersRecord, StorageError>> {
    let mut found = Found::default();
    load(storage, &mut found).expect("loads");
    found.0
}

fn record(totals: &[(&str, u64)]) -> CountersRecord {
    let totals = totals.iter().map(|(name, total)| ((*name).into(), *total));
    CountersRecord {
        totals: totals.collect(),
    }
}

pub(super) fn kept<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let put_counters = |record| vec![StoreOp::PutCounters { record }];
    let (storage, _, _) = commit(make(), vec![vec![session(A)]], reopen);
    assert_eq!(
        (
            found(&storage),
            value(&storage, Table::Meta, COUNTERS_KEY),
            rows(&storage, Table::Meta, &[]).len()
        ),
        (None, None, 1),
        "a store that was never asked has none"
    );
    let last = record(&[("bytes_received", u64::MAX), ("of another version", 7)]);
    let batches = vec![
        put_counters(record(&[("bytes_received", 1), ("gone", 2)])),
        vec![StoreOp::DeleteSession { session: A }],
        put_counters(last.clone()),
    ];
    let (storage, seen, opened) = commit(storage, batches, reopen);
    assert_eq!(found(&storage), Some(Ok(last)), "the last ones, as a whole");
    assert_eq!(
        (seen.sessions.len(), opened.lsn.get(), opened.removed),
        (0, 4, 0),
        "nothing else notices"
    );
    // Later ones, damaged ones: the store opens, and says what it found.
    for (bytes, words) in [
        (&[VERSION + 1, 1][..], "version"),
        (&[VERSION, 9, 0, 1], "cut short"),
        (&[], "cut short"),
    ] {
        storage
            .apply(&[put(Table::Meta, COUNTERS_KEY, bytes)])
            .expect("applies");
        let error = found(&storage).expect("there").expect_err("unreadable");
        assert!(error.to_string().contains(words), "{error}");
    }
    let (storage, _, _) = commit(storage, vec![put_counters(record(&[("a", 1)]))], reopen);
    assert_eq!(
        found(&storage),
        Some(Ok(record(&[("a", 1)]))),
        "written over"
    );
}
