//! What a server bounds beyond the specification: length and depth of topics.

use crate::{Filter, MAX_BYTES, TopicError, TopicName};

/// Bounds on names and filters.
///
/// The default is the wire's own bound on length and 128 levels, which is deeper than any naming
/// scheme in use and keeps one hostile SUBSCRIBE from building a long chain of trie nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest name or filter in bytes, share prefix included.
    pub max_bytes: usize,
    /// Most levels of a name or filter, share prefix excluded.
    pub max_levels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: MAX_BYTES,
            max_levels: 128,
        }
    }
}

impl Limits {
    /// Checks a topic name.
    ///
    /// # Errors
    /// [`TopicError::TooLong`] or [`TopicError::TooManyLevels`].
    pub fn check_name(&self, name: TopicName<'_>) -> Result<(), TopicError> {
        self.check(name.as_str().len(), name.levels())
    }

    /// Checks a filter. The levels of a shared subscription are those of the filter behind the share
    /// name; its length is counted as `$share/<name>/<filter>`.
    ///
    /// # Errors
    /// [`TopicError::TooLong`] or [`TopicError::TooManyLevels`].
    pub fn check_filter(&self, filter: Filter<'_>) -> Result<(), TopicError> {
        let inner = filter.topic_filter();
        let share = filter
            .group()
            .map_or(0, |group| "$share//".len() + group.len());
        self.check(share + inner.as_str().len(), inner.levels())
    }

    fn check(&self, bytes: usize, levels: usize) -> Result<(), TopicError> {
        if bytes > self.max_bytes {
            return Err(TopicError::TooLong);
        }
        if levels > self.max_levels {
            return Err(TopicError::TooManyLevels);
        }
        Ok(())
    }
}
