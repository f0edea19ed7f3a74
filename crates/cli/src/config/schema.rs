//! All keys there are, found by printing settings in which everything is set.

use std::path::PathBuf;
use std::sync::LazyLock;

use martlet_broker::config::{Config, ListenerMqtt, User};

use super::settings::{CertAndKey, Listener, ListenerTls, Program, Settings};

/// The top-level keys of [`Program`]; all others belong to the broker.
pub(crate) const PROGRAM_KEYS: [&str; 7] = [
    "pid_file",
    "shutdown_grace",
    "worker_threads",
    "log",
    "storage",
    "acme",
    "listeners",
];

/// Settings as one TOML table, in the order of their definition.
pub(crate) fn to_table(settings: &Settings) -> Result<toml::Table, toml::ser::Error> {
    let mut table = toml::Table::try_from(&settings.program)?;
    table.extend(toml::Table::try_from(&settings.broker)?);
    Ok(table)
}

/// Settings with one element in each array of tables and every optional value present.
fn complete() -> Settings {
    let mut broker = Config {
        users: vec![User::default()],
        ..Config::default()
    };
    broker.anonymous.allow = Some(true);
    let program = Program {
        pid_file: PathBuf::from("martlet.pid"),
        listeners: vec![Listener {
            allow_anonymous: Some(true),
            mqtt: ListenerMqtt {
                maximum_qos: Some(2),
                retain_available: Some(true),
                keep_alive_max_secs: Some(0),
                receive_maximum: Some(1),
                maximum_packet_size: Some(1),
                topic_alias_maximum: Some(0),
                session_expiry_max_secs: Some(0),
            },
            tls: ListenerTls {
                sni: vec![CertAndKey::default()],
                ..ListenerTls::default()
            },
            ..Listener::default()
        }],
        ..Program::default()
    };
    Settings { program, broker }
}

/// Every key, elements of arrays as `users[].name`, sorted.
pub fn known_keys() -> &'static [String] {
    static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut keys = Vec::new();
        if let Ok(table) = to_table(&complete()) {
            collect("", &table, &mut keys);
        }
        keys.sort();
        keys
    });
    &KEYS
}

/// Recursion ends at the depth of our own types.
fn collect(prefix: &str, table: &toml::Table, keys: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(table) => collect(&path, table, keys),
            toml::Value::Array(items) => match items.first() {
                Some(toml::Value::Table(table)) => collect(&format!("{path}[]"), table, keys),
                _ => keys.push(path),
            },
            _ => keys.push(path),
        }
    }
}

/// The tables that have a key of this name, in the way a file writes their heading. Where there are several, those that are
/// for the whole broker: what a listener has of its own is seldom meant.
pub(crate) fn tables_with(key: &str) -> Vec<String> {
    let tables = || {
        let split = known_keys().iter().filter_map(|path| path.rsplit_once('.'));
        split.filter_map(|(table, last)| (last == key).then_some(table))
    };
    let depth = |table: &str| table.split('.').count();
    let least = tables().map(depth).min();
    tables()
        .filter(|table| Some(depth(table)) == least)
        .map(|table| match table.strip_suffix("[]") {
            Some(array) => format!("[[{array}]]"),
            None => format!("[{}]", table.replace("[]", "")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_complete() {
        let keys = known_keys();
        for key in [
            "pid_file",
            "log.level",
            "listeners[].url",
            "anonymous.allow",
            "users[].rights.deny_subscribe",
        ] {
            assert!(
                keys.iter().any(|known| known == key),
                "{key} is not among {keys:?}"
            );
        }
        assert_eq!(tables_with("receive_maximum"), ["[mqtt]"]);
        assert_eq!(tables_with("url"), ["[[listeners]]"]);
    }

    #[test]
    fn the_program_has_the_keys_that_are_said_to_be_its_own() {
        let table = toml::Table::try_from(Program::default()).expect("plain values");
        assert_eq!(
            table.keys().map(String::as_str).collect::<Vec<_>>(),
            PROGRAM_KEYS
        );
    }
}
