//! What the broker does with the connections of one listener, besides what the transport does with their bytes.

use martlet_codec::{QoS, Version};
use martlet_transport::Network;

#[cfg(feature = "serde")]
use super::units;
use super::{Config, Rate};

/// Settings of one listener. Behind a proxy, addresses are those that the proxy tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerPolicy {
    /// What the identity that the transport has verified (of a client certificate, for one) stands for.
    pub identity_as: IdentityUse,
    /// Networks that may connect; empty (default) for all. Others are closed at once, without a word.
    pub allow: Vec<Network>,
    /// Networks that may not, whatever `allow` says. Default none.
    pub deny: Vec<Network>,
    /// Connections at one time; further ones are closed at once. Default 0: as many as the broker takes.
    pub connections_max: usize,
    /// The same for one address (IPv6: one /64 network). Default 0: no bound.
    pub connections_per_address_max: usize,
    /// Connections that have not got as far as an accepted CONNECT. A further one makes the oldest of them go, so that
    /// whoever stalls makes room for whoever does not. Default 0: no bound but time.
    pub half_open_max: usize,
    /// The same for one address; a further one is closed at once. Default 0: no bound.
    pub half_open_per_address_max: usize,
    /// Connections taken in per second; others wait with the kernel (see the backlog). Default 0: no bound.
    pub connection_rate: u32,
    /// Connections per second of one address, after as many at once; further ones are closed at once. Default 0: no
    /// bound.
    pub connection_rate_per_address: u32,
    /// Protocol versions accepted; empty (default) for all that the broker accepts.
    pub versions: Vec<ProtocolVersion>,
    /// Whether clients without a user name may connect; `None` (default) as `anonymous.allow` says.
    pub allow_anonymous: Option<bool>,
    /// The only users who may log in; empty (default) for all.
    pub users: Vec<String>,
    /// What all topics of its clients begin with, in the broker and unknown to them; empty (default) for none. See
    /// [`ListenerPolicy::mount_point_problem`] for what it may be.
    pub mount_point: String,
    /// What the protocol offers here, where it differs.
    pub mqtt: ListenerMqtt,
    /// How much may pass in a second.
    pub rates: ListenerRates,
}

impl ListenerPolicy {
    /// What is wrong with the mount point: it has to begin topic names, and to belong to nobody else.
    pub fn mount_point_problem(&self) -> Option<&'static str> {
        const BYTES_MAX: usize = 1_024;
        let text = &self.mount_point;
        if text.contains(['+', '#', '\0']) {
            Some("must begin topic names, so it contains no `+`, `#` or U+0000")
        } else if text.starts_with('$') {
            Some("must not begin with `$`: such topics belong to the broker")
        } else if !text.is_empty() && !text.ends_with('/') {
            Some("must end with `/`")
        } else if text.len() > BYTES_MAX {
            Some("is longer than 1,024 bytes")
        } else {
            None
        }
    }
}

/// A version of the protocol, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ProtocolVersion {
    /// MQTT 3.1.
    #[cfg_attr(feature = "serde", serde(rename = "3.1"))]
    V31,
    /// MQTT 3.1.1.
    #[cfg_attr(feature = "serde", serde(rename = "3.1.1"))]
    V311,
    /// MQTT 5.0.
    #[cfg_attr(feature = "serde", serde(rename = "5.0"))]
    V5,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V31 => Self::V31,
            Version::V311 => Self::V311,
            Version::V5 => Self::V5,
        }
    }
}

/// What the protocol offers at one listener; `None` (default) as in [`MqttConfig`](super::MqttConfig), where each is
/// described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ListenerMqtt {
    /// Highest QoS a client may publish with, 0 to 2.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub maximum_qos: Option<u8>,
    /// Whether retained messages are accepted.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub retain_available: Option<bool>,
    /// Longest keep alive, in seconds; 0 leaves the choice to the client.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub keep_alive_max_secs: Option<u16>,
    /// Unacknowledged QoS 1 and 2 messages a client may have open, 1 to 65,535.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub receive_maximum: Option<u16>,
    /// Largest packet accepted after CONNECT, in bytes.
    #[cfg_attr(
        feature = "serde",
        serde(with = "units::optional_size", skip_serializing_if = "Option::is_none")
    )]
    pub maximum_packet_size: Option<u64>,
    /// Topic aliases a client may set.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub topic_alias_maximum: Option<u16>,
    /// Longest Session Expiry Interval granted, in seconds.
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "units::optional_expiry",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub session_expiry_max_secs: Option<u32>,
}

impl ListenerMqtt {
    /// Puts what is set here into `config`.
    pub fn apply(&self, config: &mut Config) {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        let mqtt = &mut config.mqtt;
        let qos = self.maximum_qos.and_then(|qos| QoS::try_from(qos).ok());
        set(&mut mqtt.maximum_qos, qos);
        set(&mut mqtt.retain_available, self.retain_available);
        set(&mut mqtt.keep_alive_max_secs, self.keep_alive_max_secs);
        set(&mut mqtt.receive_maximum, self.receive_maximum);
        set(&mut mqtt.maximum_packet_size, self.maximum_packet_size);
        set(&mut mqtt.topic_alias_maximum, self.topic_alias_maximum);
        set(
            &mut mqtt.session_expiry_max_secs,
            self.session_expiry_max_secs,
        );
    }
}

/// How much may pass through a listener in a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ListenerRates {
    /// All its clients together.
    pub all: Rate,
    /// Each client, instead of [`Rates::client`](super::Rates::client) where it is set.
    pub client: Rate,
}

/// What a verified identity stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum IdentityUse {
    /// The user name; whatever CONNECT says instead is not looked at, nor is its password.
    #[default]
    UserName,
    /// The client id: CONNECT must name the same one, or none.
    ClientId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_that_make_no_sense_are_named() {
        let check = |mount_point: &str, fits: bool| {
            let policy = ListenerPolicy {
                mount_point: mount_point.into(),
                ..ListenerPolicy::default()
            };
            assert_eq!(
                policy.mount_point_problem().is_none(),
                fits,
                "{mount_point}"
            );
        };
        for fits in ["", "a/", "a/b/", "/", "ä /"] {
            check(fits, true);
        }
        for wrong in ["a", "+/", "a/#", "$SYS/", "a\0/"] {
            check(wrong, false);
        }
        check(&format!("{}/", "a".repeat(1_024)), false);
    }
}
