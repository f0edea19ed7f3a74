//! Fuzz target: topic validation and matching against what the specification says in plain words, and the
//! trie, the map and the retained tree against lists.
//!
//! The input is a script of lines. The first character of a line says what to do with the rest: `+` adds a
//! filter, `-` removes it, `!` retains a topic, `_` clears it, `?` asks who matches a topic, `*` walks the
//! retained topics with a filter. Every line is also taken as a name, a filter and a shared filter.
//!
//! An input that begins with a byte above 127 is text as it stands. In all others each byte stands for one of
//! sixteen characters, so that filters and topics meet often enough for the fuzzer to get anywhere.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use martlet_topic::{ExactMap, Filter, RetainedTree, TopicFilter, TopicHasher, TopicName, Trie};

#[path = "../../crates/topic/tests/oracle/mod.rs"]
mod oracle;

/// More lines than this teach nothing new and slow the run down.
const LINES_MAX: usize = 200;

/// What scripts are made of. `-` sorts before `/`, `0` right after it.
const LETTERS: [char; 16] = [
    '\n', '\n', '+', '+', '#', '/', '/', '?', '-', '!', '_', '*', '$', '0', 'a', 'b',
];

fuzz_target!(|data: &[u8]| {
    let text = match data {
        [128..=255, text @ ..] => String::from_utf8_lossy(text).into_owned(),
        letters => letters
            .iter()
            .map(|byte| LETTERS[usize::from(byte % 16)])
            .collect(),
    };
    let mut broker = Broker::new();
    for (line, value) in text.split('\n').take(LINES_MAX).zip(0_u32..) {
        let mut chars = line.chars();
        let command = chars.next();
        let rest = chars.as_str();
        validate(rest);
        match (command, TopicFilter::new(rest), TopicName::new(rest)) {
            (Some('+'), Ok(filter), _) => broker.add(filter, value),
            (Some('-'), Ok(filter), _) => broker.remove(filter),
            (Some('!'), _, Ok(topic)) => broker.retain(topic, value),
            (Some('_'), _, Ok(topic)) => broker.clear(topic),
            (Some('?'), _, Ok(topic)) => broker.ask(topic),
            (Some('*'), Ok(filter), _) => broker.walk(filter, line.len() % 7),
            _ => {}
        }
    }
    broker.tear_down();
});

/// The rules of sections 4.7 and 4.8, level by level.
fn validate(text: &str) {
    let plain = !text.is_empty() && text.len() <= 65_535 && !text.contains('\0');
    let is_name = plain && !text.contains(['+', '#']);
    assert_eq!(TopicName::new(text).is_ok(), is_name, "{text:?}");

    let filter = |text: &str| {
        let levels: Vec<&str> = text.split('/').collect();
        let fills = |level: &&str| matches!(*level, "+" | "#") || !level.contains(['+', '#']);
        let last = levels
            .iter()
            .position(|level| *level == "#")
            .is_none_or(|at| at + 1 == levels.len());
        !text.is_empty()
            && text.len() <= 65_535
            && !text.contains('\0')
            && levels.iter().all(fills)
            && last
    };
    assert_eq!(TopicFilter::new(text).is_ok(), filter(text), "{text:?}");

    let parsed = Filter::parse(text);
    let shared = text
        .strip_prefix("$share/")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    match shared {
        None => assert_eq!(parsed.is_ok(), filter(text), "{text:?}"),
        Some((group, rest)) => {
            let named = !group.is_empty() && !group.contains(['+', '#', '\0']);
            assert_eq!(parsed.is_ok(), named && plain && filter(rest), "{text:?}");
        }
    }
    if let Ok(parsed) = parsed {
        assert_eq!(parsed.to_string(), text);
        assert_eq!(
            Filter::parse_with_queue(text).is_ok(),
            !text.starts_with("$queue/") || text.len() > 7
        );
    }
}

struct Broker {
    trie: Trie<u32>,
    exact: ExactMap<u32>,
    filters: BTreeMap<String, u32>,
    tree: RetainedTree<(String, u32)>,
    topics: BTreeMap<String, u32>,
}

impl Broker {
    fn new() -> Self {
        Self {
            trie: Trie::with_hasher(TopicHasher::with_seed(1)),
            exact: ExactMap::with_hasher(TopicHasher::with_seed(1)),
            filters: BTreeMap::new(),
            tree: RetainedTree::new(),
            topics: BTreeMap::new(),
        }
    }

    fn add(&mut self, filter: TopicFilter<'_>, value: u32) {
        let old = self.filters.insert(filter.as_str().to_owned(), value);
        assert_eq!(self.trie.insert(filter, value), old);
        assert_eq!(self.exact.insert(filter.as_str(), value), old);
        assert_eq!(self.trie.get(filter), Some(&value));
        assert_eq!(self.trie.len(), self.filters.len());
    }

    fn remove(&mut self, filter: TopicFilter<'_>) {
        let old = self.filters.remove(filter.as_str());
        assert_eq!(self.trie.remove(filter), old);
        assert_eq!(self.exact.remove(filter.as_str()), old);
        assert_eq!(self.trie.len(), self.filters.len());
    }

    fn retain(&mut self, topic: TopicName<'_>, value: u32) {
        let text = topic.as_str();
        let old = self.tree.insert((text.to_owned(), value));
        let expected = self.topics.insert(text.to_owned(), value);
        assert_eq!(old, expected.map(|value| (text.to_owned(), value)));
    }

    fn clear(&mut self, topic: TopicName<'_>) {
        let old = self.tree.remove(topic).map(|(_, value)| value);
        assert_eq!(old, self.topics.remove(topic.as_str()));
    }

    fn ask(&self, topic: TopicName<'_>) {
        let mut found = Vec::new();
        self.trie.for_each_match(topic, |value| found.push(*value));
        found.sort_unstable();
        let mut expected = Vec::new();
        for (text, value) in &self.filters {
            let matches = oracle::matches(text, topic.as_str());
            assert_eq!(
                TopicFilter::trusted(text).matches(topic),
                matches,
                "{text:?} {topic:?}"
            );
            if matches && !is_forgotten(text, topic) {
                expected.push(*value);
            }
        }
        expected.sort_unstable();
        assert_eq!(found, expected, "{topic:?}");
        assert_eq!(
            self.exact.get(topic.as_str()),
            self.filters.get(topic.as_str())
        );
    }

    fn walk(&self, filter: TopicFilter<'_>, budget: usize) {
        let mut found = Vec::new();
        let mut cursor = None;
        for slice in 0.. {
            assert!(slice <= self.topics.len() * 2 + 2, "a walk ends");
            cursor = self
                .tree
                .walk(filter, cursor.as_ref(), &mut { budget }, |pair| {
                    found.push(pair.clone());
                });
            if cursor.is_none() {
                break;
            }
        }
        let matching = |topic: &&String| oracle::matches(filter.as_str(), topic);
        let expected = self
            .topics
            .keys()
            .filter(matching)
            .map(|topic| (topic.clone(), self.topics[topic]));
        assert!(expected.eq(found), "{filter:?}");
    }

    fn tear_down(mut self) {
        for (text, value) in std::mem::take(&mut self.filters) {
            assert_eq!(self.trie.remove(TopicFilter::trusted(&text)), Some(value));
            assert_eq!(self.exact.remove(&text), Some(value));
        }
        assert_eq!(
            (self.trie.len(), self.trie.node_count(), self.exact.len()),
            (0, 0, 0)
        );
        for (text, value) in self.topics {
            let removed = self.tree.remove(TopicName::trusted(&text));
            assert_eq!(removed, Some((text, value)));
        }
        assert!(self.tree.is_empty());
    }
}

/// The planted bug: somebody forgot that `a/#` includes `a` itself.
fn is_forgotten(filter: &str, topic: TopicName<'_>) -> bool {
    cfg!(planted_bug) && filter.strip_suffix("/#") == Some(topic.as_str())
}
