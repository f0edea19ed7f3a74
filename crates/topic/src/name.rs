//! Topic names: what a message is published to. No wildcards.

use crate::{MAX_BYTES, TopicError};
use core::fmt;

/// A validated topic name.
///
/// Between 1 and [`MAX_BYTES`] bytes, without U+0000 and without wildcards. Levels are separated by
/// `/` and may be empty. Names are compared byte by byte, without normalisation [MQTT-4.7.3-4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Validates `text`.
    ///
    /// # Errors
    /// [`TopicError::Empty`], [`TopicError::TooLong`], [`TopicError::NulCharacter`] or
    /// [`TopicError::WildcardInName`].
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        // One pass settles what is nearly always true; only a refused text is looked at again.
        let forbidden = contains(text, |byte| matches!(byte, 0 | b'+' | b'#'));
        if forbidden || text.is_empty() || text.len() > MAX_BYTES {
            check_text(text)?;
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }

    /// Wraps a text that was validated before, by a packet decoder or on its way into a store.
    ///
    /// Checked in debug builds only. A text that breaks the rules does no damage here: it matches
    /// like any other text, which may not be what the caller meant.
    pub fn trusted(text: &'a str) -> Self {
        debug_assert!(
            Self::new(text).is_ok(),
            "not a valid topic name: {:?}",
            Self::new(text)
        );
        Self(text)
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Number of levels, at least 1; an empty level counts.
    pub fn levels(self) -> usize {
        count_levels(self.0)
    }

    /// The levels in order, empty ones included.
    pub fn split(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// Whether the name begins with `$`: hidden from leading wildcards [MQTT-4.7.2-1], and by custom
    /// the server's own.
    pub fn is_dollar(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl AsRef<str> for TopicName<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl<'a> TryFrom<&'a str> for TopicName<'a> {
    type Error = TopicError;

    fn try_from(text: &'a str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

/// What holds for names and filters alike.
pub(crate) fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong);
    }
    if contains(text, |byte| byte == 0) {
        return Err(TopicError::NulCharacter);
    }
    Ok(())
}

pub(crate) fn count_levels(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'/').count() + 1
}

/// Whether a byte of `text` is `+` or `#`; in valid filters these are wildcards.
pub(crate) fn has_wildcards(text: &str) -> bool {
    contains(text, |byte| matches!(byte, b'+' | b'#'))
}

/// Looks at every byte, found or not: without an early exit the compiler looks at sixteen at a time, and
/// valid text, the common case, has to be looked through anyway.
fn contains(text: &str, wanted: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |found, byte| found | wanted(byte))
}
