//! The retained store against a map, and its limits, expiry and slices.

use std::collections::BTreeMap;

use martlet_codec::QoS;
use martlet_storage::{MessageHead, MessageId, SessionId};
use martlet_topic::TopicFilter;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn message(topic: &str, payload: &[u8], expires: Option<u64>) -> Message {
    let head = MessageHead {
        id: MessageId::NONE,
        qos: QoS::AtMostOnce,
        retain: true,
        publisher: SessionId::NONE,
        received: NOW,
        expires: expires.map(|secs| NOW.plus_millis(secs * 1_000)),
    };
    Message::new(head, topic, &[], payload, &mut Vec::new())
}

/// The message of one topic, if it is to be seen.
fn get(store: &Retained, topic: &str, now: Timestamp) -> Option<Message> {
    let mut found = None;
    let end = store.walk(TopicFilter::new(topic).unwrap(), None, 1, now, |message| {
        found = Some(message.clone());
    });
    assert!(end.is_none());
    found
}

/// Sweeps once and returns how many messages went.
fn sweep(store: &Retained, now: Timestamp) -> usize {
    let mut count = 0;
    store.sweep_then(now, |message| {
        assert!(is_expired(message, now));
        count += 1;
    });
    count
}

fn store() -> Retained {
    Retained::new(usize::MAX, u64::MAX, 1)
}

/// Walks in slices and returns topics and payloads in order of topics.
fn walk(store: &Retained, filter: &str, budget: usize, now: Timestamp) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut place = None;
    loop {
        place = store.walk(
            TopicFilter::new(filter).unwrap(),
            place,
            budget,
            now,
            |message| {
                found.push((message.topic().to_owned(), message.payload().to_vec()));
            },
        );
        if place.is_none() {
            break;
        }
    }
    found.sort();
    found
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, u8, Option<u64>),
    Remove(String),
    Sweep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let topic = || {
        prop_oneof![
            "[ab]",
            "[ab]/[ab]",
            "[ab]/[ab]/[cd]",
            Just("$x/a".to_owned())
        ]
    };
    prop_oneof![
        6 => (topic(), 0..40_u8, proptest::option::of(1..100_u64)).prop_map(|(topic, len, expires)| Step::Set(topic, len, expires)),
        2 => topic().prop_map(Step::Remove),
        1 => (0..100_u64).prop_map(Step::Sweep),
    ]
}

proptest! {
    /// Any sequence of changes leaves the store equal to a map, with exact counts, seen through any filter,
    /// in slices of any size.
    #[test]
    fn equals_a_map(steps in prop::collection::vec(step(), 1..80), budget in 0_usize..10, at in 0..100_u64) {
        let store = store();
        let mut model: BTreeMap<String, (Vec<u8>, Option<u64>)> = BTreeMap::new();
        // Time only goes forward, and what is set is not yet expired.
        let mut swept = 0;
        for step in steps {
            match step {
                Step::Set(topic, len, expires) => {
                    let payload = vec![len; len.into()];
                    let expires = expires.map(|secs| secs + swept);
                    let now = NOW.plus_millis(swept * 1_000);
                    prop_assert_eq!(store.set(&message(&topic, &payload, expires), now), Ok(()));
                    model.insert(topic, (payload, expires));
                }
                Step::Remove(topic) => prop_assert_eq!(store.remove(&topic), model.remove(&topic).is_some()),
                Step::Sweep(secs) => {
                    swept += secs;
                    let before = model.len();
                    model.retain(|_, (_, expires)| expires.is_none_or(|expires| expires > swept));
                    prop_assert_eq!(sweep(&store, NOW.plus_millis(swept * 1_000)), before - model.len());
                }
            }
            prop_assert_eq!(store.count(), model.len());
            let bytes: usize = model.iter().map(|(topic, (payload, _))| topic.len() + payload.len()).sum();
            prop_assert_eq!(store.bytes(), bytes as u64);
        }
        let at = swept + at;
        let now = NOW.plus_millis(at * 1_000);
        let live = |topic: &str, filter: &str| {
            TopicFilter::new(filter).unwrap().matches(TopicName::new(topic).unwrap())
        };
        for filter in ["#", "+", "a/#", "+/b", "a/+/c", "a/b", "$x/#", "b", "+/+/d"] {
            let expected: Vec<_> = model
                .iter()
                .filter(|(topic, (_, expires))| live(topic, filter) && expires.is_none_or(|expires| expires > at))
                .map(|(topic, (payload, _))| (topic.clone(), payload.clone()))
                .collect();
            prop_assert_eq!(walk(&store, filter, budget, now), expected, "{}", filter);
        }
        for topic in model.keys() {
            prop_assert!(store.remove(topic));
        }
        prop_assert_eq!((store.count(), store.bytes()), (0, 0));
    }
}

#[test]
fn limits_at_n_and_one_more() {
    let store = Retained::new(2, u64::MAX, 1);
    assert_eq!(store.set(&message("a", b"1", None), NOW), Ok(()));
    assert_eq!(store.set(&message("b", b"1", None), NOW), Ok(()));
    assert_eq!(
        store.set(&message("c", b"1", None), NOW),
        Err(QuotaExceeded)
    );
    assert_eq!(
        store.set(&message("a", b"2", None), NOW),
        Ok(()),
        "a known topic is no further one"
    );
    assert_eq!(get(&store, "a", NOW).unwrap().payload(), b"2");
    assert_eq!((store.count(), store.bytes()), (2, 4));
    assert!(store.remove("b"));
    assert_eq!(store.set(&message("c", b"1", None), NOW), Ok(()));

    let store = Retained::new(usize::MAX, 10, 1);
    assert_eq!(store.set(&message("a", b"1234", None), NOW), Ok(()));
    assert_eq!(store.set(&message("b", b"1234", None), NOW), Ok(()));
    assert_eq!(store.set(&message("c", b"", None), NOW), Err(QuotaExceeded));
    assert_eq!(
        store.set(&message("b", b"12345", None), NOW),
        Err(QuotaExceeded)
    );
    assert_eq!(
        get(&store, "b", NOW).unwrap().payload(),
        b"1234",
        "a refused message leaves the old one"
    );
    assert_eq!((store.count(), store.bytes()), (2, 10));
}

#[test]
fn a_lowered_limit_keeps_what_is_there() {
    let store = store();
    store.set(&message("a", b"12345678", None), NOW).unwrap();
    store.set(&message("b", b"12345678", None), NOW).unwrap();
    store.set(&message("b", b"1234", None), NOW).unwrap();
    assert_eq!((store.count(), store.bytes()), (2, 14));
    store.set_limits(1, 4);
    assert_eq!(
        store.set(&message("a", b"1234", None), NOW),
        Ok(()),
        "smaller than what it replaces"
    );
    assert_eq!(
        store.set(&message("a", b"12345", None), NOW),
        Err(QuotaExceeded)
    );
    assert_eq!(store.set(&message("c", b"", None), NOW), Err(QuotaExceeded));
    assert_eq!((store.count(), store.bytes()), (2, 10));
}

#[test]
fn expired_messages_are_not_read() {
    let store = store();
    store.set(&message("a", b"x", Some(10)), NOW).unwrap();
    assert!(get(&store, "a", NOW.plus_secs(9)).is_some());
    assert!(get(&store, "a", NOW.plus_secs(10)).is_none());
    assert_eq!(walk(&store, "a", 1, NOW.plus_secs(10)), []);
    assert_eq!(walk(&store, "#", 1, NOW.plus_secs(10)), []);
    assert_eq!(store.count(), 1, "counted until swept");
    assert_eq!(sweep(&store, NOW.plus_secs(9)), 0);
    assert_eq!(sweep(&store, NOW.plus_secs(10)), 1);
    assert_eq!((store.count(), store.bytes()), (0, 0));
}

#[test]
fn a_message_that_arrives_expired_only_clears() {
    let store = store();
    store.set(&message("a", b"old", None), NOW).unwrap();
    store.set(&message("a", b"new", Some(0)), NOW).unwrap();
    assert!(get(&store, "a", NOW).is_none());
    assert_eq!((store.count(), store.bytes()), (0, 0));
}

/// More topics than one sweep looks at: it goes on next time, and finds what was set behind its back.
#[test]
fn a_sweep_goes_on() {
    let store = store();
    let count = SWEEP_BUDGET * 3;
    for topic in 0..count {
        store
            .set(
                &message(&format!("t/{topic}"), b"", Some(1 + topic as u64 % 2 * 100)),
                NOW,
            )
            .unwrap();
    }
    let due = NOW.plus_secs(1);
    let mut removed = sweep(&store, due);
    assert!(removed > 0 && removed <= SWEEP_BUDGET, "{removed}");
    for topic in 0..100 {
        store
            .set(&message(&format!("new/{topic}"), b"", Some(2)), due)
            .unwrap();
    }
    for _ in 0..10 {
        removed += sweep(&store, due);
    }
    assert_eq!(removed, count / 2);
    assert_eq!(sweep(&store, NOW.plus_secs(2)), 100);
    assert_eq!(store.count(), count / 2);
    for _ in 0..10 {
        sweep(&store, NOW.plus_secs(101));
    }
    assert_eq!((store.count(), store.bytes()), (0, 0));
}

/// A slice holds its lock for a bounded number of topics, and a selective filter needs few slices.
#[test]
fn slices_are_bounded() {
    let store = store();
    for topic in 0..2_000 {
        store
            .set(&message(&format!("t/{topic:04}/x"), b"", None), NOW)
            .unwrap();
    }
    let mut place = None;
    let mut slices = 0;
    loop {
        let mut visited = 0;
        place = store.walk(TopicFilter::new("#").unwrap(), place, 100, NOW, |_| {
            visited += 1;
        });
        slices += 1;
        assert!(visited <= 100, "{visited}");
        if place.is_none() {
            break;
        }
    }
    assert!(slices >= 20);
    let end = store.walk(
        TopicFilter::new("t/0001/+").unwrap(),
        None,
        SHARDS * 3,
        NOW,
        |_| (),
    );
    assert!(end.is_none(), "one slice");
}
