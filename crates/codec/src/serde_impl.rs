//! `Serialize` for the types that hold validated bytes: lists serialise as lists of what they yield.
//!
//! There is no `Deserialize` for packets: their wire format is MQTT. Small values (QoS, versions,
//! reason codes, packet identifiers, subscription options) have both.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::connect::Connect;
use crate::props::Props;
use crate::suback::ReasonCodes;
use crate::subscribe::{SubscribeFilters, UnsubscribeFilters};

/// Field by field, but for the password: a secret serialises as whether it is there.
impl Serialize for Connect<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Connect", 9)?;
        fields.serialize_field("version", &self.version)?;
        fields.serialize_field("bridge", &self.bridge)?;
        fields.serialize_field("clean_start", &self.clean_start)?;
        fields.serialize_field("keep_alive_secs", &self.keep_alive_secs)?;
        fields.serialize_field("props", &self.props)?;
        fields.serialize_field("client_id", self.client_id)?;
        fields.serialize_field("will", &self.will)?;
        fields.serialize_field("username", &self.username)?;
        fields.serialize_field("password", &self.password.is_some())?;
        fields.end()
    }
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
