//! Building property blocks.

use alloc::vec::Vec;

use super::{Property, Props};
use crate::error::EncodeError;

/// Builds a property block. Neither order nor repetition is checked; a receiver does that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropsBuf {
    raw: Vec<u8>,
}

impl PropsBuf {
    /// An empty block.
    pub const fn new() -> Self {
        Self { raw: Vec::new() }
    }

    /// An empty block with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            raw: Vec::with_capacity(bytes),
        }
    }

    /// Appends a property. One that the wire cannot carry (a text above 65,535 bytes, see
    /// [`Property::check`]) is left out; use [`PropsBuf::try_push`] for values from elsewhere.
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        property.encode(&mut self.raw);
        self
    }

    /// Appends a property.
    ///
    /// # Errors
    /// [`EncodeError::StringTooLong`] or [`EncodeError::ValueOutOfRange`]; nothing is appended then.
    pub fn try_push(&mut self, property: Property<'_>) -> Result<&mut Self, EncodeError> {
        property.check()?;
        Ok(self.push(property))
    }

    /// Appends a property, as [`PropsBuf::push`], for a chain that begins with a value.
    pub fn with(mut self, property: Property<'_>) -> Self {
        self.push(property);
        self
    }

    /// Appends those properties of `props` whose identifier `keep` accepts, byte for byte and in
    /// order: what a server passes on ([MQTT-3.3.2-17], [MQTT-3.3.2-18]).
    pub fn extend(&mut self, props: Props<'_>, keep: impl Fn(u8) -> bool) -> &mut Self {
        for (id, bytes) in props.segments() {
            if keep(id) {
                self.raw.extend_from_slice(bytes);
            }
        }
        self
    }

    /// The block as a packet holds it.
    pub fn as_props(&self) -> Props<'_> {
        Props::from_trusted(&self.raw)
    }

    /// Bytes of the block without its length.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are no properties.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Removes all properties and keeps the memory.
    pub fn clear(&mut self) {
        self.raw.clear();
    }
}
