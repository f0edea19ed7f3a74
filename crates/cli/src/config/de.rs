//! Reads settings out of a tree with serde, and knows at which key it failed.
//!
//! Text from the environment and from flags has no type of its own: it becomes what the setting wants.

use std::fmt;

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use super::tree::{Entry, KeyPath, Node, Step, Value};

/// What is wrong with a value or key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A key that its table does not have, and those it has.
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    /// A word that is none of those possible.
    UnknownWord {
        word: String,
        known: &'static [&'static str],
    },
    /// A value of the wrong type or outside its range.
    Unfit { found: String, wanted: String },
    /// A sentence.
    Said(String),
}

/// Why settings could not be read, and at which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeError {
    /// Steps from the innermost outwards while the error travels up.
    steps: Vec<Step>,
    pub(crate) fault: Fault,
}

impl DeError {
    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The key or value that is at fault.
    pub(crate) fn path(&self) -> KeyPath {
        KeyPath(self.steps.iter().rev().cloned().collect())
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.fault)
    }
}

impl std::error::Error for DeError {}

impl From<Fault> for DeError {
    fn from(fault: Fault) -> Self {
        Self {
            steps: Vec::new(),
            fault,
        }
    }
}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::Said(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Fault::Unfit {
            found: in_words(found),
            wanted: kind_in_words(&wanted.to_string()),
        }
        .into()
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownWord {
            word: word.to_owned(),
            known,
        }
        .into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownKey {
            key: key.to_owned(),
            known,
        }
        .into()
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => {
            let quoted: String = text.chars().take(40).collect();
            let more = if quoted.len() < text.len() { "…" } else { "" };
            format!("the text \"{quoted}{more}\"")
        }
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Serde's names of Rust types in words for people.
fn kind_in_words(wanted: &str) -> String {
    match wanted {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "an array".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// A [`Deserializer`] over one node.
pub(crate) struct NodeDeserializer<'a>(pub(crate) &'a Node);

/// Text that becomes a number or truth value where one is wanted.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

impl<'a> NodeDeserializer<'a> {
    fn unexpected(&self) -> Unexpected<'a> {
        match &self.0.value {
            Value::Table(_) => Unexpected::Map,
            Value::Array(_) => Unexpected::Seq,
            Value::String(text) | Value::Text(text) => Unexpected::Str(text),
            Value::Integer(number) => Unexpected::Signed(*number),
            Value::Float(number) => Unexpected::Float(*number),
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Datetime(_) => Unexpected::Other("a date or time"),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Text(text) => match (text.trim().parse::<u64>(), text.trim().parse::<i64>()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
            },
            Value::Integer(number) => visitor.visit_i64(*number),
            // Serde's number types take floats of integral value; a setting written `1.0` is a mistake.
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn array<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            // An array of words can be written without brackets in a variable or flag.
            Value::Text(text) => {
                let words = text
                    .split(',')
                    .map(str::trim)
                    .filter(|word| !word.is_empty());
                let items: Vec<Node> = words
                    .map(|word| Node {
                        value: Value::Text(word.to_owned()),
                        origin: self.0.origin.clone(),
                    })
                    .collect();
                visitor.visit_seq(Items {
                    items: &items,
                    next: 0,
                })
            }
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn table<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Table(table) => visitor.visit_map(Keys {
                entries: table.iter(),
                value: None,
            }),
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Table(_) => self.table(visitor),
            Value::Array(_) => self.array(visitor),
            Value::String(text) | Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Datetime(_) => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Text(text) => match truth(text) {
                Some(value) => visitor.visit_bool(value),
                None => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.number(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.array(visitor)
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeError> {
        self.array(visitor)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.array(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.table(visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.table(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::String(word) | Value::Text(word) => {
                let word: StrDeserializer<'_, DeError> = word.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(Fault::Unfit {
                found: in_words(self.unexpected()),
                wanted: "a word in quotes".to_owned(),
            }
            .into()),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct identifier ignored_any
    }
}

/// The elements of an array.
struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(NodeDeserializer(item))
            .map(Some)
            .map_err(|error| error.within(Step::Index(index)))
    }
}

/// The keys and values of a table.
struct Keys<'a> {
    entries: std::collections::btree_map::Iter<'a, String, Entry>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Keys<'_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some((key, entry)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, &entry.node));
        let name: StrDeserializer<'_, DeError> = key.as_str().into_deserializer();
        seed.deserialize(name)
            .map(Some)
            .map_err(|error| error.within(Step::Key(key.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(NodeDeserializer(node))
            .map_err(|error| error.within(Step::Key(key.to_owned())))
    }
}
