//! The broker's settings as plain values with defaults, one key per limit.
//!
//! Files, environment variables and flags are the business of the `cli` crate; with the `serde` feature
//! these types can be read from any format, durations as `"30s"` and sizes as `"1MiB"` (module `units`).

mod listener;
mod rates;
#[cfg(feature = "serde")]
pub mod units;

pub use listener::{IdentityUse, ListenerMqtt, ListenerPolicy, ListenerRates, ProtocolVersion};
pub use rates::{Flapping, Rate, RateExceeded, Rates};

use std::time::Duration;

use martlet_codec::QoS;

/// Everything that can be set about a broker.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Config {
    /// What the protocol offers and how it behaves.
    pub mqtt: MqttConfig,
    /// Bounds on space, time and numbers.
    pub limits: Limits,
    /// How much may pass in a second.
    pub rates: Rates,
    /// Clients that connect again and again.
    pub flapping: Flapping,
    /// Shared subscriptions.
    pub shared: SharedConfig,
    /// `$SYS` topics.
    pub sys: SysConfig,
    /// Rights of clients that give no user name.
    pub anonymous: Anonymous,
    /// Users, their password hashes and rights.
    pub users: Vec<User>,
    /// Switches for clients that expect something else than the specification's advice.
    pub compat: Compat,
}

/// What the protocol offers and how it behaves.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MqttConfig {
    /// Oldest protocol level accepted: 3 (MQTT 3.1), 4 (3.1.1) or 5. Default 3.
    pub minimum_protocol_level: u8,
    /// Highest QoS a client may publish with; announced as Maximum QoS. Default 2.
    #[cfg_attr(feature = "serde", serde(with = "units::qos"))]
    pub maximum_qos: QoS,
    /// Whether retained messages are accepted; announced as Retain Available. Default true.
    pub retain_available: bool,
    /// Whether filters may contain wildcards; announced. Default true.
    pub wildcard_subscription_available: bool,
    /// Whether Subscription Identifiers are accepted; announced. Default true.
    pub subscription_identifier_available: bool,
    /// Whether `$share/` filters are accepted; announced. Default true.
    pub shared_subscription_available: bool,
    /// Whether `$queue/<filter>` means a shared subscription, as some older brokers have it. Default false.
    pub queue_subscriptions: bool,
    /// Longest keep alive, in seconds; a client that asks for more, or for none, is given this one and told so
    /// (Server Keep Alive, version 5). 0 leaves the choice to the client. Default 0.
    pub keep_alive_max_secs: u16,
    /// Unacknowledged QoS 1 and 2 messages a client may have open towards the broker; announced as Receive Maximum. 1 to 65,535, default 1,000.
    pub receive_maximum: u16,
    /// Largest packet accepted after CONNECT, in bytes; announced as Maximum Packet Size. Default 16 MiB.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub maximum_packet_size: u64,
    /// Topic aliases a client may set; announced as Topic Alias Maximum. Default 64.
    pub topic_alias_maximum: u16,
    /// Topic aliases the broker uses towards a client that allows them, at most. Default 0 (none).
    pub topic_alias_outgoing_maximum: u16,
    /// Longest Session Expiry Interval granted; `"never"` for no bound (the default).
    #[cfg_attr(feature = "serde", serde(with = "units::expiry"))]
    pub session_expiry_max_secs: u32,
    /// How long the session of an MQTT 3 client with Clean Session 0 is kept after it left. Default 30 days.
    #[cfg_attr(feature = "serde", serde(with = "units::expiry"))]
    pub session_expiry_v3_secs: u32,
    /// Longest life of a queued or retained message; `"never"` for no bound (the default).
    #[cfg_attr(feature = "serde", serde(with = "units::expiry"))]
    pub message_expiry_max_secs: u32,
    /// Longest Will Delay Interval granted. Default 1 day.
    #[cfg_attr(feature = "serde", serde(with = "units::expiry"))]
    pub will_delay_max_secs: u32,
    /// What a client with several matching subscriptions gets. Default one copy.
    pub delivery_mode: DeliveryMode,
    /// Whether QoS 0 messages wait for a session that is away. Default false.
    pub queue_qos0: bool,
    /// Prefix of the Response Information given to a client that asks; its client id is appended. Empty gives none (the default).
    pub response_information: String,
}

/// What a client with several subscriptions that match one message gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum DeliveryMode {
    /// One copy, at the highest granted QoS, with all subscription identifiers.
    #[default]
    Once,
    /// One copy per subscription.
    Each,
}

/// Bounds on space, time and numbers. Each has a consequence that the client and the log are told.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Limits {
    /// Connections at one time; further ones are closed at once, without a word. Default 100,000.
    pub connections_max: usize,
    /// Connected clients of one user name; further ones are refused with 0x97. 0 (default) for no bound.
    pub connections_per_user_max: usize,
    /// Sessions kept, connected or not; further new ones are refused with 0x97. Default 1,000,000.
    pub sessions_max: usize,
    /// Time from accept to the end of CONNECT, whatever bytes arrive. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub connect_timeout: Duration,
    /// Largest CONNECT packet; 0x95. Default 64 KiB.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub connect_packet_size_max: u64,
    /// Longest client id, in bytes; 0x85. Default 1,024.
    pub client_id_bytes_max: usize,
    /// Most levels of a topic name or filter; 0x90 or 0x8F. Default 128.
    pub topic_levels_max: usize,
    /// Longest topic name or filter, in bytes; 0x90 or 0x8F. Default 4,096.
    pub topic_bytes_max: usize,
    /// Most user properties in a packet; 0x97. Default 256.
    pub user_properties_max: usize,
    /// Streams that a client over QUIC may have open at one time besides the one it connected with, at most 31; more
    /// have to wait. 0 for none. Default 16.
    pub data_streams_max: u8,
    /// Most subscriptions of a client; 0x97 per filter. Default 10,000.
    pub subscriptions_per_client_max: usize,
    /// Messages waiting in a session besides those in flight. While a client keeps up, one more for each connection may
    /// wait: publishers are slowed down before they would cost it a message. Default 1,000.
    pub queued_messages_max: usize,
    /// Bytes of the same. Default 64 MiB.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub queued_bytes_max: u64,
    /// What happens when a session's queue is full. Default: the oldest waiting message is dropped.
    pub queue_overflow: QueueOverflow,
    /// Unacknowledged messages towards a client that announces no smaller Receive Maximum. 1 to 65,535, default 1,000.
    pub inflight_max: u16,
    /// In-flight messages older than this may be dropped to make room in a full queue; 0 never. Default 0.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub inflight_expiry: Duration,
    /// Bytes waiting for a client's socket, above which QoS 0 to it is dropped. Default 4 MiB.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub pending_bytes_max: u64,
    /// A client whose socket takes nothing for this long while bytes wait is disconnected. Default 60 s.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub slow_consumer_timeout: Duration,
    /// Retained messages; further topics are refused with 0x97. Default 1,000,000.
    pub retained_messages_max: usize,
    /// Bytes of retained messages; 0x97. Default 1 GiB.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub retained_bytes_max: u64,
    /// Resident memory of the process above which CONNECT is refused with 0x97 and publishers are slowed; 0 for none. Default 0.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub memory_high_water: u64,
}

/// What happens when a session's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum QueueOverflow {
    /// The oldest waiting message makes room.
    #[default]
    DropOldest,
    /// The message that does not fit is dropped.
    DropNewest,
    /// The connection ends with 0x97.
    Disconnect,
}

/// Shared subscriptions.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SharedConfig {
    /// How a member is chosen. Default round robin.
    pub strategy: SharedStrategy,
}

/// How the member of a shared subscription is chosen that gets a message. Members that are offline or full are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum SharedStrategy {
    /// Uniformly at random.
    Random,
    /// In turn.
    #[default]
    RoundRobin,
    /// The same member as long as it can take messages.
    Sticky,
    /// By hash of the publisher's client id.
    HashClient,
    /// By hash of the topic name.
    HashTopic,
    /// Members on this node first, in turn.
    Local,
}

/// `$SYS` topics.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SysConfig {
    /// How often `$SYS` topics are published; 0 never. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub interval: Duration,
    /// How often the totals of [`crate::counters`] are written to the store, and at an orderly end, so that the next
    /// broker on it goes on counting from there; 0 never. Default 0.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub save_interval: Duration,
}

/// Topics that may be published to and subscribed to, as filters. A denied filter beats an allowed one.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Rights {
    /// Topics that may be published to. Default `["#"]`, everything but topics that begin with `$`.
    pub publish: Vec<String>,
    /// Filters that may be subscribed to: those that match nothing beyond the listed ones. Default `["#", "$SYS/#"]`.
    pub subscribe: Vec<String>,
    /// Topics that may not be published to. Default none.
    pub deny_publish: Vec<String>,
    /// Filters that may not be subscribed to; messages they match are not delivered through wider filters either. Default none.
    pub deny_subscribe: Vec<String>,
}

/// Rights of clients that give no user name.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Anonymous {
    /// Whether they may connect. Not set: through listeners bound to a loopback address only, and only while there are no users.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub allow: Option<bool>,
    /// What they may do.
    pub rights: Rights,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct User {
    /// The user name, unique.
    pub name: String,
    /// The argon2id hash of the password as `martlet passwd` prints it (`$argon2id$…`).
    pub password_hash: String,
    /// The only client id this user may use; empty for any.
    pub client_id: String,
    /// What the user may do.
    pub rights: Rights,
}

/// Switches for clients that expect something else than the specification's advice.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Compat {
    /// SUBACK and PUBACK say Unspecified error (0x80) where they would say Not authorized (0x87). Default false.
    pub obscure_not_authorized: bool,
    /// After a DISCONNECT from the broker the client is given `limits.connect_timeout` to close first. Default false.
    pub passive_client_disconnect: bool,
    /// Response Information is sent without being asked for. Default false.
    pub always_return_response_info: bool,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            minimum_protocol_level: 3,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
            queue_subscriptions: false,
            keep_alive_max_secs: 0,
            // MQTT.js sends bursts of 500 QoS 2 messages at once.
            receive_maximum: 1_000,
            // Camera snapshots of several MiB are ordinary in homes.
            maximum_packet_size: 16 << 20,
            topic_alias_maximum: 64,
            topic_alias_outgoing_maximum: 0,
            session_expiry_max_secs: u32::MAX,
            session_expiry_v3_secs: 30 * 86_400,
            message_expiry_max_secs: u32::MAX,
            will_delay_max_secs: 86_400,
            delivery_mode: DeliveryMode::Once,
            queue_qos0: false,
            response_information: String::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_user_max: 0,
            sessions_max: 1_000_000,
            connect_timeout: Duration::from_secs(10),
            connect_packet_size_max: 64 << 10,
            client_id_bytes_max: 1_024,
            topic_levels_max: 128,
            topic_bytes_max: 4_096,
            user_properties_max: 256,
            data_streams_max: 16,
            subscriptions_per_client_max: 10_000,
            queued_messages_max: 1_000,
            queued_bytes_max: 64 << 20,
            queue_overflow: QueueOverflow::DropOldest,
            inflight_max: 1_000,
            inflight_expiry: Duration::ZERO,
            pending_bytes_max: 4 << 20,
            slow_consumer_timeout: Duration::from_mins(1),
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            memory_high_water: 0,
        }
    }
}

impl Default for SysConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            save_interval: Duration::ZERO,
        }
    }
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            publish: vec!["#".into()],
            subscribe: vec!["#".into(), "$SYS/#".into()],
            deny_publish: Vec::new(),
            deny_subscribe: Vec::new(),
        }
    }
}
