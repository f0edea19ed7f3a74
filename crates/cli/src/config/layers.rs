//! The layers that become settings: the file, the environment, `--set` and the other flags, as trees with origins.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::tree::{DEPTH_MAX, Entry, KeyPath, Node, Origin, Step, Value};

/// What every variable of ours begins with.
const ENV_PREFIX: &str = "MARTLET_";

/// Variables that begin like ours but are read elsewhere: by `--config`, and by the developers' tools.
const ENV_OTHERS: [&str; 5] = [
    "MARTLET_BROKER_ADDRESS",
    "MARTLET_BROKER_WEBSOCKET",
    "MARTLET_CONFIG",
    "MARTLET_MUTANT",
    "MARTLET_PAHO_SUITE",
];

/// Most problems of one layer that are told.
pub(crate) const PROBLEMS_MAX: usize = 20;

/// Reads a TOML document.
pub(crate) fn file(text: &str) -> Result<Node, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |error: toml::de::Error| {
            let origin = error.span().map_or(Origin::Default, Origin::File);
            Problem::new(origin, format!("not TOML: {}", error.message()))
        };
        return Err(errors.into_iter().take(PROBLEMS_MAX).map(problem).collect());
    }
    let mut problems = Vec::new();
    let span = table.span();
    let node = from_table(
        table.into_inner(),
        Origin::File(span),
        0,
        &mut problems,
        &Origin::File,
    );
    if problems.is_empty() {
        Ok(node)
    } else {
        Err(problems)
    }
}

/// Turns a span into an origin: the span itself for files, the whole flag or variable for the others.
type Place<'a> = &'a dyn Fn(std::ops::Range<usize>) -> Origin;

fn from_table(
    table: DeTable<'_>,
    origin: Origin,
    depth: usize,
    problems: &mut Vec<Problem>,
    place: Place<'_>,
) -> Node {
    let mut entries = BTreeMap::new();
    for (key, value) in table {
        let entry = Entry {
            key: place(key.span()),
            node: from_value(value, depth + 1, problems, place),
        };
        entries.insert(key.into_inner().into_owned(), entry);
    }
    Node {
        value: Value::Table(entries),
        origin,
    }
}

/// Copies a parsed value; what is nested too deep becomes a problem, which bounds every later recursion.
fn from_value(
    value: Spanned<DeValue<'_>>,
    depth: usize,
    problems: &mut Vec<Problem>,
    place: Place<'_>,
) -> Node {
    let origin = place(value.span());
    if depth > DEPTH_MAX {
        if problems.is_empty() {
            problems.push(Problem::new(
                origin.clone(),
                format!("nested deeper than {DEPTH_MAX} levels"),
            ));
        }
        return Node {
            value: Value::Bool(false),
            origin,
        };
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                problems.push(Problem::new(
                    origin.clone(),
                    "a number too large for any setting",
                ));
                Value::Integer(0)
            }
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| from_value(item, depth + 1, problems, place))
                .collect(),
        ),
        DeValue::Table(table) => return from_table(table, origin, depth, problems, place),
    };
    Node { value, origin }
}

/// A value from a variable or flag: TOML if it begins like a string, array or table, else bare text.
pub(crate) fn text(text: &str, origin: &Origin) -> Result<Node, Problem> {
    if !text.trim_start().starts_with(['"', '\'', '[', '{']) {
        return Ok(Node {
            value: Value::Text(text.to_owned()),
            origin: origin.clone(),
        });
    }
    let mut problems = Vec::new();
    let parsed = DeValue::parse(text.trim()).map_err(|error| {
        Problem::new(
            origin.clone(),
            format!("not a TOML value: {}", error.message()),
        )
    })?;
    let node = from_value(parsed, 0, &mut problems, &|_| origin.clone());
    match problems.pop() {
        Some(problem) => Err(problem),
        None => Ok(node),
    }
}

/// Lays the variables that are ours over `tree`.
pub(crate) fn environment(
    tree: &mut Node,
    variables: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) {
    let mut ours: Vec<(String, String)> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .filter(|(name, _)| !ENV_OTHERS.contains(&name.as_str()) && !is_service_link(name))
        .collect();
    // Elements of arrays are appended in order.
    ours.sort();
    for (name, value) in ours {
        let path = env_path(&name);
        let origin = Origin::Env(name);
        put(tree, &path, &value, &origin, problems);
    }
}

/// `MARTLET_USERS__0__NAME` is `users[0].name`.
fn env_path(name: &str) -> KeyPath {
    let steps = name[ENV_PREFIX.len()..]
        .split("__")
        .map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Key(step.to_ascii_lowercase()),
        });
    KeyPath(steps.collect())
}

/// The variable that sets `path`.
pub(crate) fn env_name(path: &KeyPath) -> String {
    let steps: Vec<String> = path
        .0
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.to_ascii_uppercase(),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    format!("{ENV_PREFIX}{}", steps.join("__"))
}

/// Whether Kubernetes or Docker made this variable because a service is named like us
/// (`MARTLET_SERVICE_HOST`, `MARTLET_PORT_1883_TCP`, `MARTLET_WS_PORT`).
fn is_service_link(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split("_PORT_").skip(1).any(numbered)
}

/// One `--set section.key=value`.
pub(crate) fn set(tree: &mut Node, assignment: &str, problems: &mut Vec<Problem>) {
    let origin = Origin::Flag(format!("--set {assignment}"));
    let Some((key, value)) = assignment.split_once('=') else {
        let problem = Problem::new(origin, "no `=` in it").help("write --set section.key=value");
        problems.push(problem);
        return;
    };
    put(
        tree,
        &KeyPath::parse(key.trim()),
        value.trim(),
        &origin,
        problems,
    );
}

/// Puts bare text or a TOML value at `path`.
pub(crate) fn put(
    tree: &mut Node,
    path: &KeyPath,
    value: &str,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) {
    if path.0.len() > DEPTH_MAX || !matches!(path.0.first(), Some(Step::Key(_))) {
        problems.push(Problem::new(origin.clone(), "does not name a key"));
        return;
    }
    let placed = text(value, origin).and_then(|node| {
        tree.set(path, node).map_err(|obstacle| {
            let message = format!("`{}` is not {}", obstacle.path, obstacle.wanted);
            match (&obstacle.origin, origin) {
                (Origin::File(_), Origin::Env(who) | Origin::Flag(who)) => {
                    Problem::new(obstacle.origin, message).help(format!("{who} sets `{path}`"))
                }
                _ => Problem::new(origin.clone(), message),
            }
        })
    });
    if let Err(problem) = placed {
        problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_keys() {
        let check = |name: &str, path: &str| {
            assert_eq!(env_path(name).to_string(), path);
            assert_eq!(env_name(&env_path(name)), name);
        };
        check("MARTLET_LIMITS__CONNECTIONS_MAX", "limits.connections_max");
        check("MARTLET_PID_FILE", "pid_file");
        check("MARTLET_USERS__0__NAME", "users[0].name");
    }

    #[test]
    fn variables_of_service_links_are_not_ours() {
        for name in [
            "MARTLET_SERVICE_HOST",
            "MARTLET_SERVICE_PORT_MQTT",
            "MARTLET_PORT",
            "MARTLET_PORT_1883_TCP_ADDR",
            "MARTLET_WS_PORT_8083_TCP",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in [
            "MARTLET_LOG__LEVEL",
            "MARTLET_PID_FILE",
            "MARTLET_LISTENERS__0__REUSE_PORT",
        ] {
            assert!(!is_service_link(name), "{name}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("a = {}{}", "[".repeat(60), "]".repeat(60));
        let problems = file(&deep).expect_err("too deep");
        assert_eq!(problems[0].message, "nested deeper than 16 levels");
        assert!(file(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(file(&format!("{}b = 1", "a.".repeat(100_000))).is_err());
    }
}
