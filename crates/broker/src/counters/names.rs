//! What is counted, and under which name. A name never changes its meaning.

use martlet_session::DropReason;

/// An enum whose variants have names, and the list of them.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name, as metrics and `$SYS` show it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

named! {
    /// What happens now and then.
    Event {
        /// A socket was accepted, or a stream was handed in.
        SocketAccepted = "sockets_accepted",
        /// A socket was closed before CONNECT: a hook said so, or nobody could be told that a limit was reached.
        SocketRefused = "sockets_refused",
        /// A CONNECT was accepted.
        Connected = "connections",
        /// A session began.
        SessionCreated = "sessions_created",
        /// A client came back to its session.
        SessionResumed = "sessions_resumed",
        /// A client connected under a client id in use, and the older connection ended.
        SessionTakenOver = "sessions_taken_over",
        /// A session ended because its Session Expiry Interval passed.
        SessionExpired = "sessions_expired",
        /// A session ended, for whatever reason.
        SessionEnded = "sessions_ended",
        /// A CONNECT was refused for who sent it.
        AuthFailure = "auth_failures",
        /// A PUBLISH or a will was refused for want of rights.
        PublishDenied = "publish_denied",
        /// A filter of a SUBSCRIBE was refused for want of rights.
        SubscribeDenied = "subscribe_denied",
        /// A client broke a rule of the protocol.
        ProtocolError = "protocol_errors",
        /// A retained message reached its expiry.
        RetainedExpired = "retained_expired",
        /// A will was published.
        WillPublished = "wills_published",
        /// A task of one connection panicked: a defect of the broker.
        Panic = "panics",
    }
}

named! {
    /// What there is now.
    Gauge {
        /// Sockets open, from accept on.
        Sockets = "sockets",
        /// Sessions, connected or not.
        Sessions = "sessions",
        /// Subscriptions, shared ones included.
        Subscriptions = "subscriptions",
        /// Shared subscriptions.
        SharedSubscriptions = "shared_subscriptions",
        /// Retained messages.
        RetainedMessages = "retained_messages",
        /// Bytes of retained messages: topic, properties and payload.
        RetainedBytes = "retained_bytes",
        /// Messages that wait in sessions, not yet in flight.
        QueuedMessages = "queued_messages",
        /// Bytes of the same: topic, properties and payload.
        QueuedBytes = "queued_bytes",
        /// QoS 1 and 2 messages sent and not yet acknowledged.
        Inflight = "inflight_messages",
        /// Wills of connected clients, and wills that wait for their delay.
        Wills = "wills",
    }
}

named! {
    /// A limit that was exceeded and had its consequence; the name is the key of the setting. What is granted less
    /// than was asked for (keep alive, expiries, delays) is no violation and not counted.
    Limit {
        /// More connections than allowed.
        ConnectionsMax = "limits.connections_max",
        /// More connected clients of one user name than allowed; 0x97.
        ConnectionsPerUserMax = "limits.connections_per_user_max",
        /// More sessions than allowed; 0x97.
        SessionsMax = "limits.sessions_max",
        /// No CONNECT in time.
        ConnectTimeout = "limits.connect_timeout",
        /// CONNECT too large; 0x95.
        ConnectPacketSizeMax = "limits.connect_packet_size_max",
        /// Client id too long; 0x85.
        ClientIdBytesMax = "limits.client_id_bytes_max",
        /// Topic or filter too deep; 0x90 or 0x8F.
        TopicLevelsMax = "limits.topic_levels_max",
        /// Topic or filter too long; 0x90 or 0x8F.
        TopicBytesMax = "limits.topic_bytes_max",
        /// Too many user properties in a packet; 0x97.
        UserPropertiesMax = "limits.user_properties_max",
        /// Too many subscriptions of a client; 0x97 per filter.
        SubscriptionsPerClientMax = "limits.subscriptions_per_client_max",
        /// A session's queue had no room for one message more.
        QueuedMessagesMax = "limits.queued_messages_max",
        /// A session's queue had no room for the bytes of a message.
        QueuedBytesMax = "limits.queued_bytes_max",
        /// A message in flight was given up to make room.
        InflightExpiry = "limits.inflight_expiry",
        /// QoS 0 did not fit into what waits for a socket.
        PendingBytesMax = "limits.pending_bytes_max",
        /// A client that reads nothing was disconnected.
        SlowConsumerTimeout = "limits.slow_consumer_timeout",
        /// Too many retained messages; 0x97.
        RetainedMessagesMax = "limits.retained_messages_max",
        /// Too many bytes of retained messages; 0x97.
        RetainedBytesMax = "limits.retained_bytes_max",
        /// CONNECT refused because the process is above its memory mark; 0x97.
        MemoryHighWater = "limits.memory_high_water",
        /// An older protocol than allowed; 0x84.
        MinimumProtocolLevel = "mqtt.minimum_protocol_level",
        /// A QoS above the highest; 0x9B.
        MaximumQos = "mqtt.maximum_qos",
        /// RETAIN where it is not available; 0x9A.
        RetainAvailable = "mqtt.retain_available",
        /// A wildcard where it is not available; 0xA2.
        WildcardSubscriptionAvailable = "mqtt.wildcard_subscription_available",
        /// A Subscription Identifier where it is not available; 0xA1.
        SubscriptionIdentifierAvailable = "mqtt.subscription_identifier_available",
        /// A shared subscription where it is not available; 0x9E.
        SharedSubscriptionAvailable = "mqtt.shared_subscription_available",
        /// More unacknowledged messages from a client than announced; 0x93.
        ReceiveMaximum = "mqtt.receive_maximum",
        /// A packet larger than announced; 0x95.
        MaximumPacketSize = "mqtt.maximum_packet_size",
        /// A topic alias above the announced maximum; 0x94.
        TopicAliasMaximum = "mqtt.topic_alias_maximum",
        /// A client sent faster than it may and was read more slowly, or disconnected with 0x96; or what is for it waits.
        RateClient = "rates.client",
        /// The same for all clients of its user name together.
        RateUser = "rates.user",
        /// The same for all clients of its listener together.
        RateListener = "listeners.rates.all",
        /// A client connected too often and is banned for a while; 0x8A.
        FlappingConnectsMax = "flapping.connects_max",
    }
}

impl Limit {
    /// The name without its section; keys are unique over both.
    pub fn key(self) -> &'static str {
        self.name()
            .split_once('.')
            .map_or(self.name(), |(_, key)| key)
    }

    /// The limit that drops of this kind are the consequence of; `None` where the client or the publisher set it.
    pub const fn of_drop(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::QueueFull => Some(Self::QueuedMessagesMax),
            DropReason::QueueBytesFull => Some(Self::QueuedBytesMax),
            DropReason::InflightExpired => Some(Self::InflightExpiry),
            DropReason::PendingBytesFull => Some(Self::PendingBytesMax),
            _ => None,
        }
    }
}

/// All drop reasons, in the order of their places.
pub const DROP_REASONS: [DropReason; 8] = [
    DropReason::QueueFull,
    DropReason::QueueBytesFull,
    DropReason::Expired,
    DropReason::InflightExpired,
    DropReason::PacketTooLarge,
    DropReason::PendingBytesFull,
    DropReason::Offline,
    DropReason::BodyLost,
];

/// The name of a drop reason.
pub const fn drop_name(reason: DropReason) -> &'static str {
    match reason {
        DropReason::QueueFull => "queue_full",
        DropReason::QueueBytesFull => "queue_bytes_full",
        DropReason::Expired => "expired",
        DropReason::InflightExpired => "inflight_expired",
        DropReason::PacketTooLarge => "packet_too_large",
        DropReason::PendingBytesFull => "pending_bytes_full",
        DropReason::Offline => "offline",
        DropReason::BodyLost => "body_lost",
        _ => "other",
    }
}

/// The name of a packet type, by its number on the wire [MQTT-2.1.2].
pub const fn packet_name(kind: u8) -> &'static str {
    match kind {
        1 => "CONNECT",
        2 => "CONNACK",
        3 => "PUBLISH",
        4 => "PUBACK",
        5 => "PUBREC",
        6 => "PUBREL",
        7 => "PUBCOMP",
        8 => "SUBSCRIBE",
        9 => "SUBACK",
        10 => "UNSUBSCRIBE",
        11 => "UNSUBACK",
        12 => "PINGREQ",
        13 => "PINGRESP",
        14 => "DISCONNECT",
        15 => "AUTH",
        _ => "RESERVED",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_numbers_are_places() {
        fn check<T: Copy>(
            all: &[T],
            name: impl Fn(T) -> &'static str,
            number: impl Fn(T) -> usize,
        ) {
            let names: HashSet<_> = all.iter().map(|item| name(*item)).collect();
            assert_eq!(names.len(), all.len());
            assert!(
                all.iter()
                    .enumerate()
                    .all(|(place, item)| number(*item) == place)
            );
        }
        check(Event::ALL, Event::name, |event| event as usize);
        check(Gauge::ALL, Gauge::name, |gauge| gauge as usize);
        check(Limit::ALL, Limit::name, |limit| limit as usize);
        check(Limit::ALL, Limit::key, |limit| limit as usize);
    }
}
