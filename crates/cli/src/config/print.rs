//! The effective configuration as TOML or JSON, with the origin of each value if wanted. What is printed parses,
//! passwords and their hashes excepted: they are hidden unless asked for.

use std::fmt::Write as _;

use serde_json::json;
use toml::{Table, Value};

use super::Loaded;
use super::schema::to_table;
use super::settings::Settings;
use super::storage::without_password;
use super::tree::{KeyPath, Step};

/// The language to print in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// As a configuration file.
    #[default]
    Toml,
    /// As one JSON object.
    Json,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrintOptions {
    /// The language.
    pub format: Format,
    /// Whether each value tells where it came from.
    pub origins: bool,
    /// Whether password hashes are printed.
    pub secrets: bool,
}

/// The keys whose values are hidden.
const SECRETS: [&str; 2] = ["password_hash", "password"];

pub(crate) fn print(loaded: &Loaded, options: PrintOptions) -> String {
    // Every setting has a TOML form; should one ever lack it, say so rather than print half.
    let table = match to_table(&loaded.settings) {
        Ok(table) => table,
        Err(error) => return format!("# cannot be printed: {error}\n"),
    };
    match options.format {
        Format::Toml => {
            let mut out = String::new();
            toml_table(loaded, options, &KeyPath::default(), &table, &mut out);
            out
        }
        Format::Json => {
            let json = json_value(loaded, options, &KeyPath::default(), &Value::Table(table));
            format!("{json:#}\n")
        }
    }
}

fn hidden(path: &KeyPath, value: &Value, options: PrintOptions) -> bool {
    let text = value.as_str().unwrap_or_default();
    let secret = path.last_key().is_some_and(|key| SECRETS.contains(&key));
    !options.secrets && ((secret && !text.is_empty()) || without_password(text) != text)
}

/// Recursion ends at the depth of our own types.
fn toml_table(
    loaded: &Loaded,
    options: PrintOptions,
    path: &KeyPath,
    table: &Table,
    out: &mut String,
) {
    let is_tables = |value: &Value| {
        value.is_table()
            || value
                .as_array()
                .is_some_and(|items| items.first().is_some_and(Value::is_table))
    };
    for (key, value) in table.iter().filter(|(_, value)| !is_tables(value)) {
        let path = path.join(Step::Key(key.clone()));
        let line = if hidden(&path, value, options) {
            format!("{key} = \"(hidden)\"")
        } else {
            format!("{key} = {value}")
        };
        out.push_str(&line);
        if options.origins {
            let width = 44_usize.saturating_sub(line.chars().count()).max(2);
            let _ = write!(out, "{:width$}# {}", "", loaded.origin(&path));
        }
        out.push('\n');
    }
    for (key, value) in table.iter().filter(|(_, value)| is_tables(value)) {
        let path = path.join(Step::Key(key.clone()));
        // Headings name the tables on the way without the numbers of their elements.
        let heading: Vec<&str> = path
            .0
            .iter()
            .filter_map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        let heading = heading.join(".");
        match value {
            Value::Table(table) => {
                let _ = write!(out, "\n[{heading}]\n");
                toml_table(loaded, options, &path, table, out);
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let _ = write!(out, "\n[[{heading}]]\n");
                    if let Value::Table(table) = item {
                        toml_table(loaded, options, &path.join(Step::Index(index)), table, out);
                    }
                }
            }
            _ => {}
        }
    }
}

fn json_value(
    loaded: &Loaded,
    options: PrintOptions,
    path: &KeyPath,
    value: &Value,
) -> serde_json::Value {
    let plain = match value {
        Value::Table(table) => {
            let members = table.iter().map(|(key, value)| {
                (
                    key.clone(),
                    json_value(loaded, options, &path.join(Step::Key(key.clone())), value),
                )
            });
            return serde_json::Value::Object(members.collect());
        }
        Value::Array(items) if items.first().is_some_and(Value::is_table) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                json_value(loaded, options, &path.join(Step::Index(index)), item)
            });
            return items.collect();
        }
        _ if hidden(path, value, options) => json!("(hidden)"),
        value => json!(value),
    };
    if options.origins {
        json!({ "value": plain, "origin": loaded.origin(path) })
    } else {
        plain
    }
}

/// The keys in which two settings differ; elements of arrays by the name of their array.
pub(crate) fn changed_keys(old: &Settings, new: &Settings) -> Vec<String> {
    let (Ok(old), Ok(new)) = (to_table(old), to_table(new)) else {
        return Vec::new();
    };
    let mut changed = Vec::new();
    compare("", &old, &new, &mut changed);
    changed.sort();
    changed
}

fn compare(prefix: &str, old: &Table, new: &Table, changed: &mut Vec<String>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&path, old, new, changed),
            (old, new) if old != new => changed.push(path),
            _ => {}
        }
    }
}
