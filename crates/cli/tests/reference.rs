//! The configuration reference is complete and true: every key with its default, and every example is accepted.

use std::collections::BTreeMap;

use martlet_cli::config::{Format, PrintOptions, known_keys, parse};
use serde_json::Value;

const REFERENCE: &str = include_str!("../configuration.md");

/// Key to the line below its heading.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let mut keys = BTreeMap::new();
    let mut lines = REFERENCE.lines();
    while let Some(line) = lines.next() {
        let Some(key) = line
            .strip_prefix("### `")
            .and_then(|rest| rest.strip_suffix('`'))
        else {
            continue;
        };
        let facts = lines.find(|line| !line.is_empty()).unwrap_or_default();
        assert!(
            keys.insert(key, facts).is_none(),
            "{key} is documented twice"
        );
    }
    keys
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let documented: Vec<&str> = documented().into_keys().collect();
    assert_eq!(
        documented,
        known_keys().iter().map(String::as_str).collect::<Vec<_>>()
    );
}

#[test]
fn defaults_are_true_and_reload_is_told() {
    let text = "[[listeners]]\nurl = 'tcp://127.0.0.1:1'\n\
        [[users]]\nname = 'a'\npassword_hash = '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$5Ht+zCJjrLmHQlYSTwBmPFUM1aX5yRWqNsGOgX6mSKM'\n";
    let loaded = parse("m", text).unwrap_or_else(|problems| panic!("{problems}"));
    let printed = loaded.print(PrintOptions {
        format: Format::Json,
        ..PrintOptions::default()
    });
    let effective: Value = serde_json::from_str(&printed).expect("JSON");
    for (key, facts) in documented() {
        let told = |name: &str| {
            facts
                .split(". ")
                .find_map(|fact| fact.strip_prefix(name))
                .map(|fact| fact.trim_matches('.'))
        };
        assert!(told("Type: ").is_some(), "{key}: no type in {facts}");
        let reload = told("Reload: ");
        assert!(
            matches!(reload, Some("at once" | "new connections" | "next start")),
            "{key}: when does a change take effect? {facts}"
        );
        let default = told("Default: ").unwrap_or_else(|| panic!("{key}: no default in {facts}"));
        let value = key
            .replace("[]", ".0")
            .split('.')
            .try_fold(&effective, |value, step| match step.parse::<usize>() {
                Ok(index) => value.get(index),
                Err(_) => value.get(step),
            })
            .cloned();
        let required = ["listeners[].url", "users[].name", "users[].password_hash"];
        match value {
            _ if required.contains(&key) => {}
            None => assert_eq!(default, "not set", "{key}"),
            Some(value) => {
                let told: Value = serde_json::from_str(default.trim_matches('`'))
                    .unwrap_or_else(|_| panic!("{key}: {default}"));
                assert_eq!(told, value, "{key}");
            }
        }
    }
}

#[test]
fn every_example_is_accepted() {
    let mut examples = 0;
    for block in REFERENCE.split("```toml\n").skip(1) {
        let example = block.split("```").next().unwrap_or_default();
        let loaded =
            parse("example", example).unwrap_or_else(|problems| panic!("{problems}\n{example}"));
        // What is printed of it is the same configuration.
        let options = PrintOptions {
            secrets: true,
            origins: true,
            format: Format::Toml,
        };
        let again = parse("printed", &loaded.print(options))
            .unwrap_or_else(|problems| panic!("{problems}\n{example}"));
        assert_eq!(again.settings, loaded.settings, "{example}");
        examples += 1;
    }
    assert!(examples > 50, "{examples} examples");
}

#[test]
fn every_key_has_an_example() {
    for key in known_keys() {
        let name = key.rsplit('.').next().unwrap_or(key);
        let shown = REFERENCE
            .split("```toml\n")
            .skip(1)
            .filter_map(|block| block.split("```").next())
            .any(|example| example.contains(&format!("{name} = ")));
        assert!(shown, "{key} has no example");
    }
}
