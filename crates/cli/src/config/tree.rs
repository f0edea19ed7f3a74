//! A settings tree in which every value and every key knows where it came from.
//!
//! The file makes the tree; variables and flags then replace or add single values.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Deepest nesting of a settings tree. The settings themselves are four levels deep.
pub(crate) const DEPTH_MAX: usize = 16;

/// Where a value or key came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    #[default]
    Default,
    /// Bytes of the configuration file.
    File(Range<usize>),
    /// An environment variable, by name.
    Env(String),
    /// A flag as it was typed.
    Flag(String),
}

/// One step into a settings tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// The way from the top of a settings tree to a value, printed as `users[0].rights.publish`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// Reads `users[0].name` or `users.0.name`. Keys are not checked.
    pub fn parse(text: &str) -> Self {
        let steps = text
            .split(['.', '['])
            .map(|step| step.strip_suffix(']').unwrap_or(step))
            .filter(|step| !step.is_empty())
            .map(|step| {
                step.parse()
                    .map_or_else(|_| Step::Key(step.to_owned()), Step::Index)
            });
        Self(steps.collect())
    }

    /// This path with one more step.
    pub(crate) fn join(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The path without its last step.
    pub(crate) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The last key on the way, as it is spelt in its table.
    pub(crate) fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A value of a settings tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Key to value; the key's own place is in [`Entry`].
    Table(BTreeMap<String, Entry>),
    Array(Vec<Node>),
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date or time, which no setting is.
    Datetime(String),
    /// Text from the environment or a flag: its type is the one that is asked for.
    Text(String),
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A value in a table, and where its key stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Origin,
    pub(crate) node: Node,
}

/// A value that stands where a table or array is wanted.
#[derive(Debug)]
pub(crate) struct Obstacle {
    /// Where in the tree.
    pub(crate) path: KeyPath,
    /// Origin of what stands there.
    pub(crate) origin: Origin,
    /// What was wanted.
    pub(crate) wanted: &'static str,
}

impl Node {
    /// A table without keys.
    pub(crate) fn table() -> Self {
        Self {
            value: Value::Table(BTreeMap::new()),
            origin: Origin::Default,
        }
    }

    /// The value at `path`.
    pub(crate) fn get(&self, path: &KeyPath) -> Option<&Self> {
        path.0
            .iter()
            .try_fold(self, |node, step| match (step, &node.value) {
                (Step::Key(key), Value::Table(table)) => table.get(key).map(|entry| &entry.node),
                (Step::Index(index), Value::Array(items)) => items.get(*index),
                _ => None,
            })
    }

    /// Where the value at `path` came from, or the key if `key` is wanted; what is missing comes from its parent.
    pub(crate) fn origin_of(&self, path: &KeyPath, key: bool) -> Origin {
        let mut node = self;
        let mut origin = &self.origin;
        for (position, step) in path.0.iter().enumerate() {
            let next = match (step, &node.value) {
                (Step::Key(name), Value::Table(table)) => {
                    table.get(name).map(|entry| (&entry.key, &entry.node))
                }
                (Step::Index(index), Value::Array(items)) => {
                    items.get(*index).map(|item| (&item.origin, item))
                }
                _ => None,
            };
            let Some((key_origin, next)) = next else {
                break;
            };
            origin = if key && position + 1 == path.0.len() {
                key_origin
            } else {
                &next.origin
            };
            node = next;
        }
        origin.clone()
    }

    /// Puts `node` at `path`, building tables and array elements on the way.
    ///
    /// # Errors
    /// When something other than a table or array is in the way, or an element before the next free one is missing.
    pub(crate) fn set(&mut self, path: &KeyPath, node: Self) -> Result<(), Obstacle> {
        let origin = node.origin.clone();
        let mut here = self;
        for (position, step) in path.0.iter().enumerate() {
            let obstacle = |origin: &Origin, wanted| Obstacle {
                path: KeyPath(path.0[..position].to_vec()),
                origin: origin.clone(),
                wanted,
            };
            let next_is_index = matches!(path.0.get(position + 1), Some(Step::Index(_)));
            let blank = || Self {
                value: if next_is_index {
                    Value::Array(Vec::new())
                } else {
                    Value::Table(BTreeMap::new())
                },
                origin: origin.clone(),
            };
            let here_origin = here.origin.clone();
            here = match (step, &mut here.value) {
                (Step::Key(key), Value::Table(table)) => {
                    &mut table
                        .entry(key.clone())
                        .or_insert_with(|| Entry {
                            key: origin.clone(),
                            node: blank(),
                        })
                        .node
                }
                (Step::Index(index), Value::Array(items)) => {
                    if *index == items.len() {
                        items.push(blank());
                    }
                    match items.get_mut(*index) {
                        Some(item) => item,
                        None => return Err(obstacle(&here_origin, "as many elements before it")),
                    }
                }
                (Step::Key(_), _) => return Err(obstacle(&here_origin, "a table")),
                (Step::Index(_), _) => return Err(obstacle(&here_origin, "an array")),
            };
        }
        *here = node;
        Ok(())
    }

    /// Takes the value at `path` out of its table. Elements of arrays stay, so that no index shifts.
    pub(crate) fn remove(&mut self, path: &KeyPath) -> bool {
        let mut here = self;
        let Some((last, way)) = path.0.split_last() else {
            return false;
        };
        for step in way {
            let next = match (step, &mut here.value) {
                (Step::Key(key), Value::Table(table)) => {
                    table.get_mut(key).map(|entry| &mut entry.node)
                }
                (Step::Index(index), Value::Array(items)) => items.get_mut(*index),
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => return false,
            }
        }
        match (last, &mut here.value) {
            (Step::Key(key), Value::Table(table)) => table.remove(key).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(value: i64, origin: Origin) -> Node {
        Node {
            value: Value::Integer(value),
            origin,
        }
    }

    #[test]
    fn paths_are_read_and_printed() {
        for text in [
            "limits.connections_max",
            "users[0].rights.publish[2]",
            "pid_file",
        ] {
            assert_eq!(KeyPath::parse(text).to_string(), text);
        }
        assert_eq!(KeyPath::parse("users.0.name").to_string(), "users[0].name");
    }

    #[test]
    fn later_values_win_and_keep_their_origin() {
        let path = KeyPath::parse("users[0].name");
        let mut tree = Node::table();
        tree.set(&path, integer(1, Origin::File(0..1)))
            .expect("free");
        tree.set(
            &KeyPath::parse("users[0].client_id"),
            integer(2, Origin::File(2..3)),
        )
        .expect("free");
        let env = Origin::Env("MARTLET_USERS__0__NAME".to_owned());
        tree.set(&path, integer(3, env.clone()))
            .expect("replaceable");
        assert_eq!(tree.get(&path), Some(&integer(3, env.clone())));
        assert_eq!(tree.origin_of(&path, false), env);
        assert_eq!(
            tree.origin_of(&KeyPath::parse("users[0].client_id"), false),
            Origin::File(2..3)
        );
    }

    #[test]
    fn a_value_in_the_way_is_reported() {
        let mut tree = Node::table();
        tree.set(&KeyPath::parse("limits"), integer(1, Origin::Default))
            .expect("free");
        let obstacle = tree
            .set(&KeyPath::parse("limits.x"), integer(2, Origin::Default))
            .expect_err("taken");
        assert_eq!(
            (obstacle.path.to_string().as_str(), obstacle.wanted),
            ("limits", "a table")
        );
        let mut tree = Node::table();
        assert!(
            tree.set(&KeyPath::parse("users.1.name"), integer(2, Origin::Default))
                .is_err()
        );
        assert!(
            tree.set(&KeyPath::parse("users.0.name"), integer(2, Origin::Default))
                .is_ok()
        );
    }
}
