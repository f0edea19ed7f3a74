//! Validation: which texts are names, filters and shared filters, and which rule the others break.

use martlet_topic::{Filter, Limits, QUEUE_GROUP, TopicError, TopicFilter, TopicName};

#[track_caller]
fn check_name(text: &str, expected: Result<(), TopicError>) {
    assert_eq!(TopicName::new(text).map(|_| ()), expected, "{text:?}");
}

#[track_caller]
fn check_filter(text: &str, expected: Result<(), TopicError>) {
    assert_eq!(TopicFilter::new(text).map(|_| ()), expected, "{text:?}");
}

#[test]
fn names() {
    for good in [
        "a",
        "/",
        "//",
        "a/b",
        " ",
        "$SYS/x",
        "\u{e9}\u{10ffff}",
        "a b",
        "\u{1}",
        "\u{feff}",
    ] {
        check_name(good, Ok(()));
        check_filter(good, Ok(()));
    }
    check_name("", Err(TopicError::Empty));
    check_name("a\0", Err(TopicError::NulCharacter));
    for wild in ["+", "#", "a/+", "a+", "a/#/b", "#a"] {
        check_name(wild, Err(TopicError::WildcardInName));
    }
}

#[test]
fn length_is_counted_in_bytes() {
    check_name(&"a".repeat(65_535), Ok(()));
    check_name(&"a".repeat(65_536), Err(TopicError::TooLong));
    check_filter(&"\u{e9}".repeat(32_767), Ok(()));
    check_filter(&"\u{e9}".repeat(32_768), Err(TopicError::TooLong));
    // The share prefix is part of the text on the wire.
    let shared = |len: usize| format!("$share/g/{}", "a".repeat(len));
    assert!(Filter::parse(&shared(65_526)).is_ok());
    assert_eq!(Filter::parse(&shared(65_527)), Err(TopicError::TooLong));
    let queue = |len: usize| format!("$queue/{}", "a".repeat(len));
    assert!(Filter::parse_with_queue(&queue(65_528)).is_ok());
    assert_eq!(
        Filter::parse_with_queue(&queue(65_529)),
        Err(TopicError::TooLong)
    );
}

#[test]
fn filters() {
    for good in [
        "+",
        "#",
        "+/+",
        "+/#",
        "a/+/b",
        "/+",
        "+/",
        "/#",
        "a/#",
        "a/+/",
        "$SYS/#",
        "$share",
        "$share/+/+",
    ] {
        check_filter(good, Ok(()));
    }
    check_filter("", Err(TopicError::Empty));
    check_filter("a\0b", Err(TopicError::NulCharacter));
    for text in ["a+", "+a", "a/b+", "a/+b/c", "++", "+\u{e9}"] {
        check_filter(text, Err(TopicError::SingleLevelNotAlone));
    }
    for text in ["a#", "#a", "a/b#", "##", "a/#b", "\u{e9}#"] {
        check_filter(text, Err(TopicError::MultiLevelNotAlone));
    }
    for text in ["#/", "#/a", "a/#/b", "#/#", "#/+"] {
        check_filter(text, Err(TopicError::MultiLevelNotLast));
    }
}

#[track_caller]
fn check_shared(text: &str, expected: Result<(Option<&str>, &str), TopicError>) {
    let parsed = Filter::parse(text).map(|filter| (filter.group(), filter.topic_filter().as_str()));
    assert_eq!(parsed, expected, "{text:?}");
    if parsed.is_ok() {
        assert_eq!(Filter::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn shared_filters() {
    check_shared("a/b", Ok((None, "a/b")));
    check_shared("$share/g/a", Ok((Some("g"), "a")));
    check_shared("$share/g/#", Ok((Some("g"), "#")));
    check_shared("$share/g//a", Ok((Some("g"), "/a")));
    check_shared("$share/g//", Ok((Some("g"), "/")));
    check_shared("$share/$g/$SYS/#", Ok((Some("$g"), "$SYS/#")));
    check_shared("$share/g/$share/h/a", Ok((Some("g"), "$share/h/a")));
    // Without the slash it is an ordinary topic, and the prefix is case sensitive.
    check_shared("$share", Ok((None, "$share")));
    check_shared("$shared/g", Ok((None, "$shared/g")));
    check_shared("$SHARE/g/a", Ok((None, "$SHARE/g/a")));
    check_shared("$queue/a", Ok((None, "$queue/a")));

    check_shared("$share/", Err(TopicError::ShareNameEmpty));
    check_shared("$share//a", Err(TopicError::ShareNameEmpty));
    check_shared("$share/g", Err(TopicError::ShareWithoutFilter));
    check_shared("$share/g/", Err(TopicError::ShareWithoutFilter));
    check_shared("$share/+/a", Err(TopicError::ShareNameCharacter));
    check_shared("$share/g#/a", Err(TopicError::ShareNameCharacter));
    check_shared("$share/#", Err(TopicError::ShareNameCharacter));
    check_shared("$share/g\0/a", Err(TopicError::NulCharacter));
    check_shared("$share/g/a\0", Err(TopicError::NulCharacter));
    check_shared("$share/g/a#", Err(TopicError::MultiLevelNotAlone));
    check_shared("$share/g/a+", Err(TopicError::SingleLevelNotAlone));
    check_shared("", Err(TopicError::Empty));
}

#[test]
fn the_queue_form() {
    let parsed = Filter::parse_with_queue("$queue/a/+").unwrap();
    assert_eq!(parsed.group(), Some(QUEUE_GROUP));
    assert_eq!(parsed.topic_filter().as_str(), "a/+");
    assert_eq!(parsed, Filter::parse("$share/$queue/a/+").unwrap());
    assert_eq!(
        Filter::parse_with_queue("$queue/"),
        Err(TopicError::ShareWithoutFilter)
    );
    assert_eq!(
        Filter::parse_with_queue("$queue/a#"),
        Err(TopicError::MultiLevelNotAlone)
    );
    for same in ["$queue", "a", "$share/g/a", "$share/g"] {
        assert_eq!(Filter::parse_with_queue(same), Filter::parse(same));
    }
}

#[test]
fn limits_at_n_and_one_more() {
    let limits = Limits {
        max_bytes: 12,
        max_levels: 3,
    };
    let name = |text| limits.check_name(TopicName::new(text).unwrap());
    assert_eq!(name("a/b/c"), Ok(()));
    assert_eq!(name("a/b/c/d"), Err(TopicError::TooManyLevels));
    assert_eq!(name("abcdefghijkl"), Ok(()));
    assert_eq!(name("abcdefghijklm"), Err(TopicError::TooLong));

    let filter = |text| limits.check_filter(Filter::parse(text).unwrap());
    assert_eq!(filter("a/+/#"), Ok(()));
    assert_eq!(filter("a/+/b/#"), Err(TopicError::TooManyLevels));
    assert_eq!(filter("$share/g/a/b"), Ok(()));
    assert_eq!(filter("$share/g/a/bc"), Err(TopicError::TooLong));

    assert_eq!(
        Limits::default().check_name(TopicName::new(&"/".repeat(127)).unwrap()),
        Ok(())
    );
    assert_eq!(
        Limits::default().check_name(TopicName::new(&"/".repeat(128)).unwrap()),
        Err(TopicError::TooManyLevels)
    );
}

#[test]
fn levels_are_counted_with_empty_ones() {
    for (text, levels) in [("a", 1), ("/", 2), ("a/", 2), ("/a/", 3), ("a/b/c", 3)] {
        let name = TopicName::new(text).unwrap();
        assert_eq!(name.levels(), levels, "{text}");
        assert_eq!(name.split().count(), levels, "{text}");
        assert_eq!(TopicFilter::from(name).levels(), levels, "{text}");
    }
}

#[test]
fn errors_cite_their_statement() {
    assert_eq!(
        TopicError::Empty.to_string(),
        "a topic has at least one character [MQTT-4.7.3-1]"
    );
    assert_eq!(
        TopicError::TooManyLevels.to_string(),
        "the topic has too many levels"
    );
    assert_eq!(TopicError::ShareNameEmpty.statement(), "MQTT-4.8.2-1");
}
