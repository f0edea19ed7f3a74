//! What a connection is asked for with.

use bytes::Bytes;
use martlet_codec::{Connect, Property, PropsBuf, QoS, Version, Will};
use martlet_transport::{ConnectAddress, TlsClientOptions};
use std::time::Duration;

/// The largest packet that MQTT can express.
pub(crate) const PACKET_BYTES_MAX: u32 = 5 + martlet_codec::MAX_REMAINING_LENGTH;
/// Packet identifiers that publishing may use at once, so that some are left for subscribing.
pub(crate) const INFLIGHT_MAX: u16 = 65_000;

/// How to connect. Set fields, or chain the methods of the same names.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Where to connect to. Default `tcp://127.0.0.1:1883`.
    pub address: ConnectAddress,
    /// Certificates and the like, for `tls://` and `wss://` addresses.
    pub tls: TlsClientOptions,
    /// Empty (default) lets the server choose one, which MQTT 3.1 does not allow, and 3.1.1 only
    /// together with `clean_start` [MQTT-3.1.3-7].
    pub client_id: String,
    /// The protocol version. Default MQTT 5.
    pub version: Version,
    /// Starts without what the server remembers of this client (before MQTT 5: and forgets
    /// afterwards). Default true.
    pub clean_start: bool,
    /// Seconds of silence after which client and server look for each other; 0 for never.
    /// Default 60. An MQTT 5 server may overrule it [MQTT-3.1.2-21].
    pub keep_alive_secs: u16,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
    /// Published by the server when the connection ends without a goodbye.
    pub will: Option<WillMessage>,
    /// Further properties of CONNECT (MQTT 5). One that is set here takes precedence over the
    /// fields below.
    pub props: PropsBuf,
    /// QoS 2 messages that the server may have under way to us at once, 1 to 65,535 (MQTT 5;
    /// [MQTT-3.3.4-9]). Default 65,535.
    pub receive_maximum: u16,
    /// Topic aliases that the server may use (MQTT 5). Default 16.
    pub topic_alias_maximum: u16,
    /// The largest packet to accept, in bytes, announced to an MQTT 5 server. Default: as large
    /// as MQTT allows. Memory grows with what arrives, not with what is announced.
    pub max_packet_bytes: u32,
    /// QoS 1 and 2 messages to have under way to the server at once, 1 to 65,000; the server's
    /// Receive Maximum lowers it. Default 1,024.
    pub inflight_max: u16,
    /// Messages waiting in [`Events`](crate::Events) before reading pauses. Default 256.
    pub event_queue_max: usize,
    /// Time for everything until CONNACK is here. Default 10 seconds.
    pub connect_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            address: ConnectAddress::default(),
            tls: TlsClientOptions::default(),
            client_id: String::new(),
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: 60,
            username: None,
            password: None,
            will: None,
            props: PropsBuf::new(),
            receive_maximum: u16::MAX,
            topic_alias_maximum: 16,
            max_packet_bytes: PACKET_BYTES_MAX,
            inflight_max: 1024,
            event_queue_max: 256,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// One chained setter per line: `name: type => field value`.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($value:ident: $kind:ty) => $set:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $value: $kind) -> Self {
            self.$name = $set;
            self
        })*
    };
}

impl ConnectOptions {
    /// The defaults, for `address`.
    pub fn new(address: ConnectAddress) -> Self {
        Self {
            address,
            ..Self::default()
        }
    }

    setters! {
        /// Sets what is needed for TLS.
        tls(value: TlsClientOptions) => value;
        /// Sets the client identifier.
        client_id(value: impl Into<String>) => value.into();
        /// Sets the protocol version.
        version(value: Version) => value;
        /// Sets Clean Start.
        clean_start(value: bool) => value;
        /// Sets the keep alive, in seconds.
        keep_alive_secs(value: u16) => value;
        /// Sets the user name.
        username(value: impl Into<String>) => Some(value.into());
        /// Sets the password.
        password(value: impl Into<Bytes>) => Some(value.into());
        /// Sets the will.
        will(value: WillMessage) => Some(value);
        /// Sets further properties.
        props(value: PropsBuf) => value;
        /// Sets the Receive Maximum.
        receive_maximum(value: u16) => value;
        /// Sets the Topic Alias Maximum.
        topic_alias_maximum(value: u16) => value;
        /// Sets the largest packet to accept, in bytes.
        max_packet_bytes(value: u32) => value;
        /// Sets how many messages may be under way to the server.
        inflight_max(value: u16) => value;
        /// Sets how many messages may wait in the event queue.
        event_queue_max(value: usize) => value;
        /// Sets the time for connecting.
        connect_timeout(value: Duration) => value;
    }

    /// The whole property block of CONNECT.
    pub(crate) fn connect_props(&self) -> PropsBuf {
        let mut props = self.props.clone();
        if !self.version.is_v5() {
            return props;
        }
        let given = self.props.as_props();
        if given.receive_maximum().is_none() && self.receive_maximum != u16::MAX {
            props.push(Property::ReceiveMaximum(self.receive_maximum));
        }
        if given.topic_alias_maximum().is_none() && self.topic_alias_maximum != 0 {
            props.push(Property::TopicAliasMaximum(self.topic_alias_maximum));
        }
        if given.maximum_packet_size().is_none() && self.max_packet_bytes < PACKET_BYTES_MAX {
            props.push(Property::MaximumPacketSize(self.max_packet_bytes));
        }
        props
    }

    /// The CONNECT packet; `props` comes from [`Self::connect_props`].
    pub(crate) fn connect_packet<'a>(&'a self, props: &'a PropsBuf) -> Connect<'a> {
        Connect {
            version: self.version,
            bridge: false,
            clean_start: self.clean_start,
            keep_alive_secs: self.keep_alive_secs,
            props: props.as_props(),
            client_id: &self.client_id,
            will: self.will.as_ref().map(WillMessage::as_will),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
        }
    }
}

/// A will: what the server publishes when the connection ends without a goodbye.
#[derive(Clone, Debug)]
pub struct WillMessage {
    /// Where it is published.
    pub topic: String,
    /// At most 65,535 bytes.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Whether it is published as retained message.
    pub retain: bool,
    /// Will properties (MQTT 5), such as the will delay.
    pub props: PropsBuf,
}

impl WillMessage {
    /// A will with QoS 0, not retained, without properties.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            props: PropsBuf::new(),
        }
    }

    setters! {
        /// Sets the quality of service.
        qos(value: QoS) => value;
        /// Sets the retain flag.
        retain(value: bool) => value;
        /// Sets the properties.
        props(value: PropsBuf) => value;
    }

    fn as_will(&self) -> Will<'_> {
        Will {
            qos: self.qos,
            retain: self.retain,
            props: self.props.as_props(),
            topic: &self.topic,
            payload: &self.payload,
        }
    }
}
