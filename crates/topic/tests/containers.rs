//! The map, the trie and the tree against lists and the oracle, removal included.

mod oracle;

use martlet_topic::{Cursor, ExactMap, RetainedTree, TopicFilter, TopicHasher, TopicName, Trie};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

fn level() -> impl Strategy<Value = String> {
    // `!`, `$` and `-` sort before `/`, `0` right after it, `a` well after.
    prop_oneof![6 => "[ab]", 1 => Just(String::new()), 2 => "[ab]?[!$0-]", 1 => "[ab]{2}"]
}

fn any_topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn any_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => level(), 1 => Just("+".to_owned())];
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

fn trie_matches(trie: &Trie<u32>, topic: &str) -> Vec<u32> {
    let mut found = Vec::new();
    trie.for_each_match(name(topic), |value| found.push(*value));
    found.sort_unstable();
    found
}

proptest! {
    /// A sequence of insertions and removals leaves the trie equal to a plain list, and removing the
    /// rest leaves nothing.
    #[test]
    fn trie_equals_a_list(
        steps in prop::collection::vec((any_filter(), prop::bool::weighted(0.6)), 1..60),
        topics in prop::collection::vec(any_topic(), 1..20),
    ) {
        let mut trie = Trie::with_hasher(TopicHasher::with_seed(1));
        let mut list: BTreeMap<String, u32> = BTreeMap::new();
        for (value, (text, add)) in (0_u32..).zip(steps) {
            if add {
                prop_assert_eq!(trie.insert(filter(&text), value), list.insert(text, value));
            } else {
                prop_assert_eq!(trie.remove(filter(&text)), list.remove(&text));
            }
            prop_assert_eq!(trie.len(), list.len());
        }
        for topic in &topics {
            let mut expected: Vec<u32> = list
                .iter()
                .filter(|(text, _)| oracle::matches(text, topic))
                .map(|(_, value)| *value)
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(trie_matches(&trie, topic), expected, "{}", topic);
        }
        let mut listed = BTreeMap::new();
        trie.for_each(|text, value| assert!(listed.insert(text.as_str().to_owned(), *value).is_none()));
        prop_assert_eq!(&listed, &list);
        for (text, value) in &list {
            prop_assert_eq!(trie.get(filter(text)), Some(value));
            prop_assert_eq!(trie.get_mut(filter(text)).copied(), Some(*value));
        }
        // As many nodes as the filters have distinct beginnings, a final wildcard not counted.
        let mut paths: Vec<Vec<&str>> = list
            .keys()
            .flat_map(|text| {
                let mut levels: Vec<_> = text.split('/').collect();
                if levels.last().is_some_and(|last| ["+", "#"].contains(last)) {
                    levels.pop();
                }
                (1..=levels.len()).map(move |len| levels[..len].to_vec()).collect::<Vec<_>>()
            })
            .collect();
        paths.sort();
        paths.dedup();
        prop_assert_eq!(trie.node_count(), paths.len());
        for text in list.keys() {
            prop_assert!(trie.remove(filter(text)).is_some());
        }
        prop_assert!(trie.is_empty());
        prop_assert_eq!(trie.node_count(), 0);
        for topic in &topics {
            prop_assert_eq!(trie_matches(&trie, topic), Vec::<u32>::new());
        }
    }

    #[test]
    fn exact_map_equals_a_hash_map(steps in prop::collection::vec((any_topic(), any::<bool>()), 1..200)) {
        let mut map = ExactMap::new();
        let mut model: HashMap<String, usize> = HashMap::new();
        for (value, (text, add)) in steps.into_iter().enumerate() {
            if add {
                prop_assert_eq!(map.insert(&text, value), model.insert(text, value));
            } else {
                prop_assert_eq!(map.remove(&text), model.remove(&text));
            }
            prop_assert_eq!(map.len(), model.len());
        }
        for (text, value) in &model {
            prop_assert_eq!(map.get(text), Some(value));
            prop_assert_eq!(map.get_hashed(map.hasher().hash(text), text), Some(value));
        }
        let listed: HashMap<String, usize> = map.iter().map(|(text, value)| (text.to_owned(), *value)).collect();
        prop_assert_eq!(&listed, &model);
        for text in model.keys() {
            prop_assert!(map.remove(text).is_some());
        }
        prop_assert!(map.is_empty());
    }

    /// A walk in slices of any size visits what the oracle selects, in order, once each.
    #[test]
    fn retained_walk_equals_a_scan(
        topics in prop::collection::vec((any_topic(), prop::bool::weighted(0.8)), 1..150),
        filters in prop::collection::vec(any_filter(), 1..20),
        budget in 0_usize..20,
    ) {
        let mut tree = RetainedTree::new();
        let mut model = BTreeMap::new();
        for (value, (text, add)) in topics.into_iter().enumerate() {
            if add {
                let old = tree.insert((text.clone(), value));
                prop_assert_eq!(old, model.insert(text.clone(), value).map(|value| (text, value)));
            } else {
                let old = tree.remove(name(&text));
                prop_assert_eq!(old, model.remove(&text).map(|value| (text, value)));
            }
        }
        prop_assert_eq!(tree.len(), model.len());
        for text in &filters {
            let expected: Vec<_> = model
                .iter()
                .filter(|(topic, _)| oracle::matches(text, topic))
                .map(|(topic, value)| (topic.clone(), *value))
                .collect();
            let mut found = Vec::new();
            let mut cursor: Option<Cursor> = None;
            let mut slices = 0;
            loop {
                cursor = tree.walk(filter(text), cursor.as_ref(), &mut { budget }, |pair| {
                    found.push(pair.clone());
                });
                slices += 1;
                prop_assert!(slices <= model.len() * 2 + 2, "a walk ends");
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert_eq!(&found, &expected, "{}", text);
        }
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            cursor = tree.scan(cursor.as_ref(), &mut { budget }, |pair| {
                listed.push(pair.clone());
            });
            if cursor.is_none() {
                break;
            }
        }
        prop_assert!(listed.iter().map(|(topic, value)| (topic, value)).eq(&model));
        for topic in model.keys() {
            prop_assert!(tree.remove(name(topic)).is_some());
        }
        prop_assert!(tree.is_empty());
    }
}

#[test]
fn a_walk_goes_on_after_its_place_was_removed() {
    let mut tree = RetainedTree::new();
    for topic in ["a/1", "a/2", "a/3", "a/4"] {
        tree.insert((topic, ()));
    }
    let mut found = Vec::new();
    let cursor = tree.walk(filter("a/+"), None, &mut 2, |(topic, ())| {
        found.push(topic.to_owned());
    });
    tree.remove(name("a/3"));
    tree.insert(("a/0", ()));
    tree.insert(("a/5", ()));
    let end = tree.walk(filter("a/+"), cursor.as_ref(), &mut 100, |(topic, ())| {
        found.push(topic.to_owned());
    });
    assert_eq!(found, ["a/1", "a/2", "a/4", "a/5"]);
    assert_eq!(end, None);
}

/// A walk is charged for what it looks at: a selective filter passes over the rest.
#[test]
fn a_walk_skips_what_cannot_match() {
    let mut tree = RetainedTree::new();
    for site in 0..10 {
        for device in 0..1_000 {
            tree.insert((format!("site/{site}/{device:04}"), ()));
        }
    }
    let slices = |pattern: &str, budget: usize| {
        let (mut count, mut found, mut cursor) = (0, 0, None);
        loop {
            cursor = tree.walk(filter(pattern), cursor.as_ref(), &mut { budget }, |_| {
                found += 1;
            });
            count += 1;
            if cursor.is_none() {
                return (count, found);
            }
        }
    };
    assert_eq!(slices("site/+/0500", 500), (1, 10));
    assert_eq!(slices("site/3/#", 2_000), (1, 1_000));
    assert_eq!(slices("+/none", 100), (1, 0));
    assert_eq!(slices("#", 1_000).1, 10_000);
    assert!(slices("#", 1_000).0 >= 10);
}

#[test]
fn the_trie_holds_each_kind_of_filter() {
    let mut trie = Trie::new();
    let filters = [
        "#", "+", "a", "a/#", "a/+", "a/b", "+/b", "+/#", "$SYS/#", "/", "/#",
    ];
    for (value, text) in (0_u32..).zip(filters) {
        assert_eq!(trie.insert(filter(text), value), None);
    }
    let matching = |topic: &str| -> Vec<&str> {
        trie_matches(&trie, topic)
            .iter()
            .map(|&value| filters[value as usize])
            .collect()
    };
    assert_eq!(matching("a"), ["#", "+", "a", "a/#", "+/#"]);
    assert_eq!(matching("a/b"), ["#", "a/#", "a/+", "a/b", "+/b", "+/#"]);
    assert_eq!(matching("$SYS"), ["$SYS/#"]);
    assert_eq!(matching("/"), ["#", "+/#", "/", "/#"]);
    assert_eq!(*trie.get_or_insert_with(filter("a"), || 99), 2);
    assert_eq!(*trie.get_or_insert_with(filter("new/+"), || 99), 99);
    assert_eq!(trie.len(), filters.len() + 1);
}

/// The worst a trie can be asked: every combination of a literal and `+` at each level. Deep topics
/// spill the stack of waiting branches and still need no recursion.
#[test]
fn wildcard_explosion_and_depth() {
    let mut trie = Trie::new();
    for bits in 0_u32..1 << 10 {
        let levels: Vec<_> = (0..10)
            .map(|level| if bits >> level & 1 == 0 { "a" } else { "+" })
            .collect();
        trie.insert(filter(&levels.join("/")), bits);
    }
    assert_eq!(trie_matches(&trie, &["a"; 10].join("/")).len(), 1 << 10);

    let depth = 200;
    let mut deep = Trie::new();
    for at in 0..depth {
        let mut levels = vec!["a"; depth];
        levels[at] = "+";
        deep.insert(filter(&levels.join("/")), at as u32);
    }
    assert_eq!(
        trie_matches(&deep, &vec!["a"; depth].join("/")).len(),
        depth
    );
    let all: Vec<u32> = (0..depth as u32).collect();
    for at in all {
        let mut levels = vec!["a"; depth];
        levels[at as usize] = "+";
        assert_eq!(deep.remove(filter(&levels.join("/"))), Some(at));
    }
    assert_eq!(deep.node_count(), 0);
}

#[test]
fn freed_nodes_are_used_again() {
    let mut trie = Trie::new();
    trie.insert(filter("keep/+"), 0);
    for round in 0..100 {
        trie.insert(filter(&format!("a/{round}/+/b")), round);
        assert_eq!(trie.node_count(), 5);
        assert_eq!(trie.remove(filter(&format!("a/{round}/+/b"))), Some(round));
        assert_eq!(trie.node_count(), 1);
    }
    assert_eq!(trie.remove(filter("keep/+/x")), None);
    assert_eq!(
        trie.remove(filter("keep")),
        None,
        "an inner node is no filter"
    );
    assert_eq!(trie.remove(filter("keep/#")), None);
}
