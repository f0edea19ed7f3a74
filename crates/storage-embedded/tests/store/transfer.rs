//! Export, import and check, from and to the embedded store, with QoS 2 in flight.

use std::io::Cursor;

use martlet_storage::contract::exchange::exchange;
use martlet_storage::transfer::{Checked, TransferError, check, describe, export, import};
use martlet_storage::{Group, Lsn, MemoryStorage, Storage, Table, Timestamp, load};

use crate::support::{contents, delete, directory, log, open, put};

/// A store in which the first `count` batches of the exchange were committed.
fn committed(storage: &dyn Storage, count: usize) {
    let (mut planner, _) = load(storage, &mut ()).expect("loads");
    for (n, ops) in exchange().into_iter().take(count).enumerate() {
        let mut group = Group::default();
        planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
        let writes = planner.finish(group, Timestamp::from_millis(7));
        storage.apply(&writes).expect("applies");
    }
}

fn exported(storage: &dyn Storage) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut told = 0;
    let totals = export(storage, &mut lines, &mut |rows| told = rows).expect("exports");
    assert_eq!(told, totals.all());
    lines
}

fn checked(storage: &dyn Storage) -> Checked {
    check(storage, &mut |_| {}).expect("checks")
}

#[test]
fn every_moment_of_an_exchange_moves_between_backends() {
    for count in 0..=exchange().len() {
        let root = directory();
        let embedded = open(&root.path().join("store"));
        committed(&embedded, count);
        let lines = exported(&embedded);
        let memory = MemoryStorage::new();
        import(&memory, &mut Cursor::new(&lines), &mut |_| {}).expect("imports");
        assert_eq!(contents(&memory), contents(&embedded), "after {count}");
        let back = open(&root.path().join("back"));
        import(&back, &mut Cursor::new(exported(&memory)), &mut |_| {}).expect("imports");
        drop(back);
        let back = open(&root.path().join("back"));
        assert_eq!(contents(&back), contents(&embedded), "after {count}");
        assert_eq!(exported(&back), lines, "after {count}");
        let checked = checked(&back);
        assert_eq!(checked.problems, [] as [String; 0], "after {count}");
        // It goes on where the other one was.
        let (_, opened) = load(&back, &mut ()).expect("loads");
        assert_eq!(opened.lsn, Lsn::new(count as u64));
    }
}

#[test]
fn an_import_takes_whole_exports_into_empty_stores_only() {
    let memory = MemoryStorage::new();
    committed(&memory, 10);
    let lines = exported(&memory);
    let into = |lines: &[u8]| import(&MemoryStorage::new(), &mut Cursor::new(lines), &mut |_| {});
    assert!(matches!(
        import(&memory, &mut Cursor::new(&lines), &mut |_| {}),
        Err(TransferError::NotEmpty)
    ));
    for cut in 0..lines.len() - 1 {
        let result = into(&lines[..cut]);
        assert!(result.is_err(), "{cut} of {} bytes", lines.len());
    }
    assert!(
        into(&lines[..lines.len() - 1]).is_ok(),
        "the last line end may be missing"
    );
    let text = String::from_utf8(lines).expect("is text");
    let without = |n: usize| -> Vec<u8> {
        let lines = text.lines().enumerate().filter(|(at, _)| *at != n);
        lines
            .flat_map(|(_, line)| format!("{line}\n").into_bytes())
            .collect()
    };
    for n in 0..text.lines().count() {
        assert!(into(&without(n)).is_err(), "without line {n}");
    }
    let check = |from: &str, to: &str, why: &str| {
        assert!(text.contains(from), "`{from}` is there to be replaced");
        let error = into(text.replacen(from, to, 1).as_bytes()).expect_err(why);
        assert!(error.to_string().contains(why), "`{error}` says `{why}`");
    };
    check("export\":1", "export\":2", "version 2");
    check("\"session\"", "\"sessions\"", "table that does not exist");
    check("\"key\":\"00", "\"key\":\"0", "not hexadecimal");
    check("\"key\":\"00", "\"key\":\"0g", "not hexadecimal");
    check("\"value\":\"01", "\"value\":\"09", "version 9");
}

#[test]
fn a_check_names_what_is_wrong() {
    let root = directory();
    let storage = open(root.path());
    committed(&storage, 5);
    assert_eq!(checked(&storage).problem_count, 0);
    storage
        .apply(&[
            put(Table::Queue, &[9; 18], &[1, 1, 0, 0, 0, 0, 0, 0]),
            put(Table::Session, b"short", b"x"),
            delete(Table::Message, &1_u64.to_be_bytes()),
        ])
        .expect("applies");
    let found = checked(&storage);
    assert_eq!(found.problem_count, 1, "{:?}", found.problems);
    storage
        .apply(&[delete(Table::Session, b"short")])
        .expect("applies");
    let found = checked(&storage);
    assert_eq!(found.problem_count, 2, "{:?}", found.problems);
    assert!(
        found
            .problems
            .iter()
            .all(|text| text.contains("belongs to nothing"))
    );
}

#[test]
fn a_check_names_a_damaged_body_and_goes_on() {
    let root = directory();
    {
        let storage = open(root.path());
        committed(&storage, 10);
        storage.sync().expect("syncs");
    }
    let mut bytes = std::fs::read(log(root.path())).expect("reads");
    let at = bytes.windows(200).position(|at| at == [2; 200]);
    bytes[at.expect("the body is there") + 50] ^= 1;
    std::fs::write(log(root.path()), bytes).expect("writes");
    let storage = open(root.path());
    let found = checked(&storage);
    assert_eq!(found.problem_count, 1, "{:?}", found.problems);
    assert!(found.problems[0].contains("table message, key 0000000000000002"));
    assert!(found.totals.rows[Table::Queue as usize] > 0);
    assert!(export(&storage, &mut Vec::new(), &mut |_| {}).is_err());
}

#[test]
fn rows_are_described_without_their_payloads() {
    let memory = MemoryStorage::new();
    committed(&memory, 15);
    let mut lines = Vec::new();
    for table in Table::ALL {
        memory
            .scan(table, &[], &mut |key, value| {
                lines.push(describe(table, key, value).expect("is described"));
                true
            })
            .expect("lists");
    }
    assert_eq!(
        lines,
        [
            "batch 15 at 7 ms, sessions up to 2, messages up to 3",
            "session 1: client \"client 1\", kept for 3600 s, connected",
            "session 2: client \"client 2\", kept for 3600 s, connected",
            "session 2: \"exchange/#\", QoS 2",
            "message 3: \"exchange/topic\", QoS 2, 300 bytes",
            "session 2: message 3, QoS 2, 314 bytes",
            "session 2: packet 3 is message 3, sent",
            "session 1: packet 3 was received",
        ]
    );
}
