//! MQTT topic names and filters, their matching rules, and the data structures a broker routes with.
//!
//! No IO, no async, no locks: everything here is a plain value. Nothing recurses on input.

use core::fmt;

/// Why a text is not a topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// [MQTT-4.7.3-1] Names and filters have at least one character.
    Empty,
}
impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("topic") }
}
impl core::error::Error for TopicError {}

/// A validated topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);
impl<'a> TopicName<'a> {
    /// Validates `text`.
    pub fn new(text: &'a str) -> Result<Self, TopicError> { if text.is_empty() { Err(TopicError::Empty) } else { Ok(Self(text)) } }
    /// The text.
    pub fn as_str(self) -> &'a str { self.0 }
}
/// A validated topic filter without share prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);
impl<'a> TopicFilter<'a> {
    /// Validates `text`.
    pub fn new(text: &'a str) -> Result<Self, TopicError> { if text.is_empty() { Err(TopicError::Empty) } else { Ok(Self(text)) } }
    /// The text.
    pub fn as_str(self) -> &'a str { self.0 }
    /// Whether a level is `+` or `#`.
    pub fn has_wildcards(self) -> bool { self.0.contains(['+', '#']) }
    /// Whether `topic` matches.
    pub fn matches(self, _topic: TopicName<'_>) -> bool { unimplemented!() }
}
/// `$share/<name>/<filter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilter<'a> {
    /// Share name.
    pub group: &'a str,
    /// The filter behind the share name.
    pub filter: TopicFilter<'a>,
}
/// What a SUBSCRIBE may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter<'a> {
    /// An ordinary filter.
    Plain(TopicFilter<'a>),
    /// A shared subscription.
    Shared(SharedFilter<'a>),
}
impl<'a> Filter<'a> {
    /// Parses a filter, `$share/<name>/<filter>` included.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> { TopicFilter::new(text).map(Filter::Plain) }
    /// The filter that topics are matched with.
    pub fn topic_filter(self) -> TopicFilter<'a> { match self { Self::Plain(f) => f, Self::Shared(s) => s.filter } }
}
