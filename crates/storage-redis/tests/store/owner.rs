//! One owner at a time: refused, fenced, taken over.

use martlet_storage::{Storage as _, StorageError, Table};
use martlet_storage_redis::OpenError;

use crate::support::{Server, put};

#[test]
fn a_second_broker_is_refused_by_name_until_the_first_has_gone() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let first = server.open();
    assert!(first.created());
    let error = server.options().open().map(|_| ()).expect_err("is refused");
    let words = error.to_string();
    assert!(matches!(error, OpenError::Locked { .. }), "{words}");
    let process = format!("in use by process {}", std::process::id());
    assert!(words.contains(&process), "{words}");
    assert!(
        words.contains(&server.port.to_string()) && words.contains("martlet"),
        "{words}"
    );
    let another = format!("{}?prefix=another", server.url());
    let another = martlet_storage_redis::RedisOptions::parse(&another).expect("is an address");
    another.open().expect("another prefix is another store");
    first.apply(&[put(b"k", b"1")]).expect("goes on");
    drop(first);
    let second = server.open();
    assert!(!second.created());
    assert_eq!(second.rows(Table::Queue), Ok(1));
}

#[test]
fn one_that_was_killed_is_followed_at_once() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let first = server.open();
    first.apply(&[put(b"k", b"1")]).expect("applies");
    // As if the process had been another one that is no more: its number was never given to anybody.
    let holder: String = server.ask(&["HGET", "{martlet}:owner", "holder"]);
    let (_, rest) = holder.split_once(' ').expect("starts with a number");
    let dead = format!("4294967295 {rest}");
    let _: u8 = server.ask(&["HSET", "{martlet}:owner", "holder", &dead]);
    let second = server.open();
    second.apply(&[put(b"k", b"2")]).expect("applies");
    // The first was not dead after all.
    let error = first.apply(&[put(b"k", b"3")]).expect_err("is fenced");
    assert!(matches!(error, StorageError::Fenced(_)), "{error}");
    assert!(error.to_string().contains("process"), "{error}");
    let mut value = Vec::new();
    let found = second.get(Table::Queue, b"k", &mut |read| value = read.to_vec());
    assert_eq!((found, value), (Ok(true), b"2".to_vec()));
    drop(first);
    second
        .apply(&[put(b"k", b"4")])
        .expect("the first gave nothing back that was not its own");
    assert!(server.options().open().is_err(), "it is still in use");
}

#[test]
fn one_of_another_machine_is_watched() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let first = server.open();
    let elsewhere = "1 1 elsewhere far-away";
    let _: u8 = server.ask(&["HSET", "{martlet}:owner", "holder", elsewhere]);
    std::thread::scope(|threads| {
        let second = threads.spawn(|| server.options().open().map(|_| ()));
        while !second.is_finished() {
            first.apply(&[put(b"k", b"1")]).expect("lives");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let error = second.join().expect("ends").expect_err("is refused");
        assert!(
            error.to_string().contains("process 1 on far-away"),
            "{error}"
        );
    });
    // One that says nothing any more loses it with its lease.
    let _: u8 = server.ask(&["PEXPIRE", "{martlet}:lock", "500"]);
    let second = server.open();
    second.apply(&[put(b"k", b"2")]).expect("applies");
}

#[test]
fn what_is_no_store_of_this_version_is_refused() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let refused = || server.options().open().map(|_| ()).expect_err("is refused");
    let missing = server.options().create(false).open().map(|_| ());
    assert!(matches!(missing, Err(OpenError::Missing { .. })));
    let keys: u32 = server.ask(&["DBSIZE"]);
    assert_eq!(keys, 0, "nothing was made");
    let _: u8 = server.ask(&["HSET", "{martlet}:owner", "name", "x"]);
    assert!(matches!(refused(), OpenError::Foreign { .. }));
    let _: String = server.ask(&["SET", "{martlet}:owner", "x"]);
    assert!(matches!(refused(), OpenError::Foreign { .. }));
    let _: u8 = server.ask(&["DEL", "{martlet}:owner"]);
    drop(server.open());
    let _: u8 = server.ask(&["HSET", "{martlet}:owner", "format", "2"]);
    assert!(refused().to_string().contains("has format 2"));
}
