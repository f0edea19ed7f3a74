//! How much may pass in a second, how many connections a user has, and who comes back too often. Nothing of it is bounded
//! by default, and what is not bounded is not counted.

use std::time::Duration;

#[cfg(feature = "serde")]
use super::units;

/// What may pass in a second, after as much at once; 0 (default) for no bound. In is from clients, out is to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Rate {
    /// PUBLISH packets from clients.
    pub messages_in: u32,
    /// Bytes of packets of all kinds from clients.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub bytes_in: u64,
    /// PUBLISH packets to clients.
    pub messages_out: u32,
    /// Bytes of packets of all kinds to clients.
    #[cfg_attr(feature = "serde", serde(with = "units::size"))]
    pub bytes_out: u64,
}

impl Rate {
    /// Whether nothing is bounded.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    /// These bounds, and those of `others` where there are none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        fn or<T: Default + PartialEq>(own: T, other: T) -> T {
            if own == T::default() { other } else { own }
        }
        Self {
            messages_in: or(self.messages_in, others.messages_in),
            bytes_in: or(self.bytes_in, others.bytes_in),
            messages_out: or(self.messages_out, others.messages_out),
            bytes_out: or(self.bytes_out, others.bytes_out),
        }
    }
}

/// Rates wherever a client connects; a listener has its own besides.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Rates {
    /// What becomes of a client that sends faster. Default: its socket is read more slowly.
    pub exceeded: RateExceeded,
    /// Each client.
    pub client: Rate,
    /// All clients of one user name together; clients without a user name are not concerned.
    pub user: Rate,
}

/// What becomes of a client that sends faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum RateExceeded {
    /// It is read more slowly: what it sends waits on its side.
    #[default]
    Wait,
    /// Its connection ends with 0x96 (Message rate too high).
    Disconnect,
}

/// Clients that connect again and again.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Flapping {
    /// Connections of one client id and user name within `window`; at a further one the client is banned, 0x8A. 0
    /// (default) never.
    pub connects_max: u32,
    /// The time in which they are counted. Default 1 minute.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub window: Duration,
    /// How long the ban lasts. Default 5 minutes.
    #[cfg_attr(feature = "serde", serde(with = "units::duration"))]
    pub ban: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            connects_max: 0,
            window: Duration::from_mins(1),
            ban: Duration::from_mins(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_bounded_is_bounded_by_the_others() {
        let own = Rate {
            messages_in: 5,
            ..Rate::default()
        };
        let others = Rate {
            messages_in: 7,
            bytes_out: 9,
            ..Rate::default()
        };
        let both = own.or(others);
        assert_eq!((both.messages_in, both.bytes_out), (5, 9));
        assert!(!both.is_unbounded() && Rate::default().is_unbounded());
    }
}
