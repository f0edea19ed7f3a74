//! Topic filters: what a client subscribes to, alone or as a member of a shared subscription.

use crate::name::{check_text, count_levels, has_wildcards};
use crate::{MAX_BYTES, TopicError, TopicName};
use core::fmt;

/// Share name that the older `$queue/<filter>` form stands for.
pub const QUEUE_GROUP: &str = "$queue";

const SHARE_PREFIX: &str = "$share/";
const QUEUE_PREFIX: &str = "$queue/";

/// A validated topic filter without share prefix.
///
/// Between 1 and [`MAX_BYTES`] bytes, without U+0000; `+` and `#` fill whole levels and `#` is last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Validates `text`. A leading `$share/` has no meaning here; see [`Filter::parse`].
    ///
    /// # Errors
    /// [`TopicError::Empty`], [`TopicError::TooLong`], [`TopicError::NulCharacter`],
    /// [`TopicError::MultiLevelNotAlone`], [`TopicError::MultiLevelNotLast`] or
    /// [`TopicError::SingleLevelNotAlone`].
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        let bytes = text.as_bytes();
        if !has_wildcards(text) {
            return Ok(Self(text));
        }
        for (at, &byte) in bytes.iter().enumerate() {
            if !matches!(byte, b'+' | b'#') {
                continue;
            }
            let opens = at == 0 || bytes[at - 1] == b'/';
            let closes = at + 1 == bytes.len() || bytes[at + 1] == b'/';
            match (byte, opens && closes) {
                (b'+', true) => {}
                (b'+', false) => return Err(TopicError::SingleLevelNotAlone),
                (_, false) => return Err(TopicError::MultiLevelNotAlone),
                (_, true) if at + 1 == bytes.len() => {}
                (_, true) => return Err(TopicError::MultiLevelNotLast),
            }
        }
        Ok(Self(text))
    }

    /// Wraps a text that was validated before, for example on its way into a store.
    ///
    /// Checked in debug builds only. A text that breaks the rules does no damage here: it matches
    /// like any other text, which may not be what the caller meant.
    pub fn trusted(text: &'a str) -> Self {
        debug_assert!(
            Self::new(text).is_ok(),
            "not a valid topic filter: {:?}",
            Self::new(text)
        );
        Self(text)
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Number of levels, at least 1; an empty level and a wildcard each count.
    pub fn levels(self) -> usize {
        count_levels(self.0)
    }

    /// The levels in order, empty ones included.
    pub fn split(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// Whether a level is `+` or `#`.
    pub fn has_wildcards(self) -> bool {
        has_wildcards(self.0)
    }

    /// Whether the filter begins with `$` and so can match topics that do.
    pub fn is_dollar(self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether the first level is a wildcard, which never matches a topic that begins with `$`
    /// [MQTT-4.7.2-1].
    pub fn starts_with_wildcard(self) -> bool {
        self.0.starts_with(['+', '#'])
    }

    /// Whether `topic` matches, by section 4.7 of the specification.
    ///
    /// Compares byte by byte, without normalisation [MQTT-4.7.3-4]; linear in the shorter text.
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        if topic.is_dollar() && self.starts_with_wildcard() {
            return false;
        }
        let (filter, topic) = (self.0.as_bytes(), topic.as_str().as_bytes());
        let (mut f, mut t) = (0, 0);
        // Invariant: everything before the two positions matched. A wildcard fills its level, so both
        // positions are at the start of a level when one is met.
        loop {
            match (filter.get(f), topic.get(t)) {
                (Some(b'#'), _) | (None, None) => return true,
                (Some(b'+'), _) => {
                    f += 1;
                    t += level_len(&topic[t..]);
                }
                (Some(have), Some(want)) if have == want => {
                    f += 1;
                    t += 1;
                }
                // `a/#` includes `a` itself.
                (Some(_), None) => return &filter[f..] == b"/#",
                _ => return false,
            }
        }
    }

    /// Whether every topic that matches `other` matches `self` too.
    ///
    /// This is what an access list asks: may a client that is allowed `self` subscribe to `other`?
    ///
    /// ```
    /// use martlet_topic::TopicFilter;
    ///
    /// let allowed = TopicFilter::new("home/+/#")?;
    /// assert!(allowed.covers(TopicFilter::new("home/kitchen/+")?));
    /// assert!(!allowed.covers(TopicFilter::new("home/#")?)); // that includes `home` itself
    /// # Ok::<(), martlet_topic::TopicError>(())
    /// ```
    pub fn covers(self, other: TopicFilter<'_>) -> bool {
        if other.is_dollar() && self.starts_with_wildcard() {
            return false;
        }
        // No topic is empty, so these two need at least one more level than they seem to.
        let other = match other.0 {
            "#" => "+/#",
            "/#" => "/+/#",
            text => text,
        };
        let mut others = other.split('/');
        for level in self.0.split('/') {
            if level == "#" {
                return true;
            }
            match others.next() {
                None | Some("#") => return false,
                Some(other) if level == "+" || level == other => {}
                Some(_) => return false,
            }
        }
        others.next().is_none()
    }
}

/// Bytes before the next `/` or the end.
fn level_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(bytes.len())
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl AsRef<str> for TopicFilter<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl<'a> TryFrom<&'a str> for TopicFilter<'a> {
    type Error = TopicError;

    fn try_from(text: &'a str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl<'a> From<TopicName<'a>> for TopicFilter<'a> {
    /// The filter that matches this name and no other.
    fn from(name: TopicName<'a>) -> Self {
        Self(name.as_str())
    }
}

/// `$share/<name>/<filter>`: one of the clients that share a name gets each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilter<'a> {
    /// The share name: not empty, without `/`, `+` and `#` [MQTT-4.8.2-1] [MQTT-4.8.2-2];
    /// [`QUEUE_GROUP`] for the `$queue/` form.
    pub group: &'a str,
    /// The filter behind the share name.
    pub filter: TopicFilter<'a>,
}

impl fmt::Display for SharedFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHARE_PREFIX}{}/{}", self.group, self.filter)
    }
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
    /// Parses a filter, `$share/<name>/<filter>` included. `$share` without a `/` is an ordinary
    /// filter, as the specification has it.
    ///
    /// # Errors
    /// [`TopicError::ShareNameEmpty`], [`TopicError::ShareNameCharacter`],
    /// [`TopicError::ShareWithoutFilter`], and those of [`TopicFilter::new`].
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
            return TopicFilter::new(text).map(Self::Plain);
        };
        if text.len() > MAX_BYTES {
            return Err(TopicError::TooLong);
        }
        let (group, filter) = match rest.split_once('/') {
            Some((group, filter)) => (group, Some(filter)),
            None => (rest, None),
        };
        if group.is_empty() {
            return Err(TopicError::ShareNameEmpty);
        }
        if group.contains('\0') {
            return Err(TopicError::NulCharacter);
        }
        if group.contains(['+', '#']) {
            return Err(TopicError::ShareNameCharacter);
        }
        Self::shared(group, filter)
    }

    /// Like [`Filter::parse`], and `$queue/<filter>` is a shared subscription too: the form that
    /// older brokers offered before MQTT 5, equal to `$share/$queue/<filter>`.
    ///
    /// # Errors
    /// Those of [`Filter::parse`].
    pub fn parse_with_queue(text: &'a str) -> Result<Self, TopicError> {
        match text.strip_prefix(QUEUE_PREFIX) {
            Some(_) if text.len() > MAX_BYTES => Err(TopicError::TooLong),
            Some(filter) => Self::shared(QUEUE_GROUP, Some(filter)),
            None => Self::parse(text),
        }
    }

    fn shared(group: &'a str, filter: Option<&'a str>) -> Result<Self, TopicError> {
        match filter {
            None | Some("") => Err(TopicError::ShareWithoutFilter),
            Some(filter) => {
                let filter = TopicFilter::new(filter)?;
                Ok(Self::Shared(SharedFilter { group, filter }))
            }
        }
    }

    /// The filter that topics are matched with.
    pub const fn topic_filter(self) -> TopicFilter<'a> {
        match self {
            Self::Plain(filter) => filter,
            Self::Shared(shared) => shared.filter,
        }
    }

    /// The share name, if this is a shared subscription.
    pub const fn group(self) -> Option<&'a str> {
        match self {
            Self::Plain(_) => None,
            Self::Shared(shared) => Some(shared.group),
        }
    }

    /// Whether this is a shared subscription.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(filter) => filter.fmt(f),
            Self::Shared(shared) => shared.fmt(f),
        }
    }
}

impl<'a> TryFrom<&'a str> for Filter<'a> {
    type Error = TopicError;

    fn try_from(text: &'a str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}
