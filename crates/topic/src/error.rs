//! Why a text is not a topic name or filter: one variant per rule, each citing its statement.

use core::fmt;

/// The rule a topic name or filter broke.
///
/// In a SUBSCRIBE a server answers the filter errors with reason code 0x8F (Topic Filter invalid), in
/// a PUBLISH the name errors with 0x90 (Topic Name invalid); [`TopicError::NulCharacter`] makes the
/// packet itself malformed (0x81).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicError {
    /// [MQTT-4.7.3-1] Names and filters have at least one character.
    Empty,
    /// [MQTT-4.7.1-1] `#` stands alone in its level.
    MultiLevelNotAlone,
    /// [MQTT-4.7.1-1] `#` is the last level.
    MultiLevelNotLast,
    /// [MQTT-4.7.3-2] Names and filters contain no U+0000.
    NulCharacter,
    /// [MQTT-4.8.2-2] A share name contains no `+` and no `#`.
    ShareNameCharacter,
    /// [MQTT-4.8.2-1] A share name has at least one character.
    ShareNameEmpty,
    /// [MQTT-4.8.2-2] A share name is followed by `/` and a filter.
    ShareWithoutFilter,
    /// [MQTT-4.7.1-2] `+` stands alone in its level.
    SingleLevelNotAlone,
    /// [MQTT-4.7.3-3] Names and filters are at most 65,535 bytes of UTF-8, or fewer where the server
    /// sets a lower limit.
    TooLong,
    /// More levels than the server allows; the specification sets no limit of its own.
    TooManyLevels,
    /// [MQTT-4.7.0-1] `+` and `#` never stand in a topic name.
    WildcardInName,
}

impl TopicError {
    /// The statement of MQTT 5.0 that was broken; empty for a limit of the server.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::MultiLevelNotAlone | Self::MultiLevelNotLast => "MQTT-4.7.1-1",
            Self::NulCharacter => "MQTT-4.7.3-2",
            Self::ShareNameCharacter | Self::ShareWithoutFilter => "MQTT-4.8.2-2",
            Self::ShareNameEmpty => "MQTT-4.8.2-1",
            Self::SingleLevelNotAlone => "MQTT-4.7.1-2",
            Self::TooLong => "MQTT-4.7.3-3",
            Self::TooManyLevels => "",
            Self::WildcardInName => "MQTT-4.7.0-1",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a topic has at least one character",
            Self::MultiLevelNotAlone => "'#' must fill a whole level",
            Self::MultiLevelNotLast => "'#' must be the last level",
            Self::NulCharacter => "a topic contains no U+0000",
            Self::ShareNameCharacter => "a share name contains no '+' and no '#'",
            Self::ShareNameEmpty => "the share name is empty",
            Self::ShareWithoutFilter => "the share name is not followed by a topic filter",
            Self::SingleLevelNotAlone => "'+' must fill a whole level",
            Self::TooLong => "the topic is too long",
            Self::TooManyLevels => "the topic has too many levels",
            Self::WildcardInName => "a topic name contains no wildcards",
        })?;
        match self.statement() {
            "" => Ok(()),
            statement => write!(f, " [{statement}]"),
        }
    }
}

impl core::error::Error for TopicError {}
