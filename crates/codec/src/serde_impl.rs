//! `Serialize` for the types that hold validated bytes: lists serialise as lists of what they yield.
//!
//! There is no `Deserialize` for packets: their wire format is MQTT. Small values (QoS, versions,
//! reason codes, packet identifiers, subscription options) have both.

use serde::{Serialize, Serializer};

use crate::props::Props;
use crate::suback::ReasonCodes;
use crate::subscribe::{SubscribeFilters, UnsubscribeFilters};

/// A secret serialises as whether it is there.
#[expect(
    clippy::ref_option,
    reason = "the signature is that of serde's serialize_with"
)]
pub(crate) fn secret<S: Serializer>(
    secret: &Option<&[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(secret.is_some())
}

impl Serialize for Props<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for SubscribeFilters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for UnsubscribeFilters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for ReasonCodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
