//! Matching, by a table and against the oracle.

mod oracle;

use martlet_topic::{TopicFilter, TopicName};
use proptest::prelude::*;

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::new(filter)
        .unwrap()
        .matches(TopicName::new(topic).unwrap())
}

#[test]
fn table() {
    let table = "
        a                 | a                 | yes
        a                 | b                 | no
        a                 | A                 | no
        a                 | ab                | no
        ab                | a                 | no
        a                 | a/                | no
        a/                | a                 | no
        a/                | a/                | yes
        a                 | /a                | no
        /a                | /a                | yes
        /                 | /                 | yes
        //                | //                | yes
        //                | /                 | no
        a//b              | a//b              | yes
        a//b              | a/b               | no
        a/b               | a/b/c             | no
        a/b/c             | a/b               | no
        +                 | a                 | yes
        +                 | a/b               | no
        +                 | /a                | no
        +                 | a/                | no
        +/+               | /a                | yes
        +/+               | a/b               | yes
        +/+               | /                 | yes
        /+                | /a                | yes
        /+                | /                 | yes
        /+                | a                 | no
        a/+               | a                 | no
        a/+               | a/                | yes
        a/+               | a/b               | yes
        a/+               | a/b/c             | no
        a/+/c             | a/b/c             | yes
        a/+/c             | a//c              | yes
        a/+/c             | a/b/d             | no
        a/+/c             | a/c               | no
        +/b               | a/b               | yes
        +/b               | b                 | no
        #                 | a                 | yes
        #                 | a/b/c             | yes
        #                 | /                 | yes
        a/#               | a                 | yes
        a/#               | a/                | yes
        a/#               | a/b               | yes
        a/#               | a/b/c             | yes
        a/#               | ab                | no
        a/#               | a-b               | no
        a/#               | b/a               | no
        a/b/#             | a                 | no
        +/#               | a                 | yes
        +/#               | a/b               | yes
        +/+/#             | a                 | no
        +/+/#             | a/b               | yes
        a/+/#             | a                 | no
        a/+/#             | a/b               | yes
        /#                | /                 | yes
        /#                | /a                | yes
        /#                | a                 | no
        #                 | $SYS              | no
        #                 | $SYS/broker       | no
        +                 | $SYS              | no
        +/broker          | $SYS/broker       | no
        +/#               | $SYS/broker       | no
        $SYS/#            | $SYS              | yes
        $SYS/#            | $SYS/broker       | yes
        $SYS/+            | $SYS/broker       | yes
        $SYS/broker       | $SYS/broker       | yes
        $SYS/broker/+     | $SYS/broker/load  | yes
        a/+               | a/$b              | yes
        a/#               | a/$b              | yes
        /#                | /$SYS             | yes
        sport/tennis/+    | sport/tennis/p1   | yes
        Accounts payable  | Accounts payable  | yes
        \u{e9}/+          | \u{e9}/x          | yes
        e\u{301}          | \u{e9}            | no
    ";
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = line
            .replace("\\u{e9}", "\u{e9}")
            .replace("\\u{301}", "\u{301}");
        let [filter, topic, answer] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        assert_eq!(matches(filter, topic), answer == "yes", "{line}");
        assert_eq!(
            oracle::matches(filter, topic),
            answer == "yes",
            "the oracle: {line}"
        );
    }
}

/// Few characters, so that levels meet; some sort before `/` and some after.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{0,2}",
        1 => "[$!\\-0]{1,2}",
        1 => Just("\u{e9}".to_owned()),
    ]
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => level(), 1 => Just("+".to_owned())];
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(filter in filter(), topic in topic()) {
        prop_assert_eq!(matches(&filter, &topic), oracle::matches(&filter, &topic));
    }

    #[test]
    fn covers_is_sound(wide in filter(), narrow in filter(), topic in topic()) {
        let covers = TopicFilter::new(&wide).unwrap().covers(TopicFilter::new(&narrow).unwrap());
        if covers && matches(&narrow, &topic) {
            prop_assert!(matches(&wide, &topic), "{} covers {}, but not {}", wide, narrow, topic);
        }
    }
}

/// Every topic over `letters` of up to `depth` levels, by counting.
fn all(letters: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for level in 0..depth {
        last = last
            .iter()
            .flat_map(|head| letters.iter().map(move |letter| (head.clone(), letter)))
            .map(|(head, letter)| {
                if level == 0 {
                    (*letter).to_owned()
                } else {
                    format!("{head}/{letter}")
                }
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|text| !text.is_empty());
    all
}

/// `covers` against its definition, on every pair of small filters and every small topic.
#[test]
fn covers_is_inclusion() {
    // One letter more and one level more than the filters have, so that each difference shows.
    let topics = all(&["a", "b", "", "$x"], 4);
    let filters: Vec<_> = all(&["a", "", "$x", "+", "#"], 3)
        .into_iter()
        .filter(|text| TopicFilter::new(text).is_ok())
        .collect();
    let matched: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| {
            topics
                .iter()
                .map(|topic| oracle::matches(filter, topic))
                .collect()
        })
        .collect();
    for (wide, wide_set) in filters.iter().zip(&matched) {
        for (narrow, narrow_set) in filters.iter().zip(&matched) {
            let included = narrow_set
                .iter()
                .zip(wide_set)
                .all(|(&narrow, &wide)| wide || !narrow);
            let covers = TopicFilter::new(wide)
                .unwrap()
                .covers(TopicFilter::new(narrow).unwrap());
            assert_eq!(covers, included, "{wide} covers {narrow}");
        }
    }
}

/// A hostile depth: as many levels as 65,535 bytes hold.
#[test]
fn deep_topics_use_no_stack() {
    let topic = "/".repeat(65_535);
    let filter = format!("{}#", "+/".repeat(32_000));
    assert!(matches(&filter, &topic));
    assert!(!matches(&filter, "a/b"));
    assert!(matches(&topic, &topic));
    assert!(
        TopicFilter::new(&filter)
            .unwrap()
            .covers(TopicFilter::new(&topic).unwrap())
    );
}
