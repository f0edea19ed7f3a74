//! Messages on their way out and in.

use bytes::Bytes;
use martlet_codec::{PropsBuf, QoS, ReasonCode};

/// A message to publish.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// A topic name: no wildcards.
    pub topic: String,
    /// Anything, also nothing.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the server keeps it for those who subscribe later.
    pub retain: bool,
    /// Properties (MQTT 5).
    pub props: PropsBuf,
}

impl PublishRequest {
    /// A message with QoS 0, not retained, without properties.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            props: PropsBuf::new(),
        }
    }

    /// Sets the quality of service.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets the retain flag.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets the properties.
    pub fn props(mut self, props: PropsBuf) -> Self {
        self.props = props;
        self
    }
}

/// What the server said to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOutcome {
    /// `Success`, `NoMatchingSubscribers`, or the error with which the server refused the
    /// message. Always `Success` at QoS 0 and before MQTT 5.
    pub reason: ReasonCode,
    /// The server's words, if it sent any.
    pub reason_string: Option<String>,
}

impl PublishOutcome {
    pub(crate) const SUCCESS: Self = Self {
        reason: ReasonCode::Success,
        reason_string: None,
    };
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The topic name; an alias is resolved.
    pub topic: String,
    /// The payload; it shares memory with the read buffer.
    pub payload: Bytes,
    /// Quality of service of the delivery.
    pub qos: QoS,
    /// Whether the server sent it because it was retained (or with retain-as-published: whether
    /// it was published so).
    pub retain: bool,
    /// Whether it may have been delivered before. QoS 2 messages come once only within a
    /// connection.
    pub dup: bool,
    /// Its properties (MQTT 5), subscription identifiers included.
    pub props: PropsBuf,
}
