//! The receiving half of a session: QoS 2 identifiers, topic aliases, the receive quota.
//!
//! Deliberately absent: routing, acknowledgement order and durability, which belong to the broker.

use martlet_codec::PacketId;

/// QoS 2 identifiers received and not yet released; belongs to the session and survives reconnects.
///
/// ```text
///   receiver (this side)                                   sender (the client)
///
///                        PUBLISH id, QoS 2
///     unknown  <-------------------------------------------  Published
///        | New: deliver, remember id                            |
///        v               PUBREC id                              |
///      known   -------------------------------------------->    |
///        |  ^            PUBLISH id again (DUP)                 |
///        |  `- Duplicate: PUBREC only, nothing delivered        v
///        |               PUBREL id                           Released
///        | <-------------------------------------------------   |
///        | forget id     PUBCOMP id                             v
///      unknown ---------------------------------------------> done
/// ```
///
/// A PUBREL for an unknown identifier is answered as well: 0x92 in MQTT 5 [MQTT-4.3.3-13].
///
/// With a durable session each arrow to the right waits until the change above it is committed. A
/// duplicate that arrives before its first PUBLISH is committed waits for that commit too: gate its
/// PUBREC on the last batch the session submitted.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Sorted. Clients count identifiers up and release the oldest first, so both ends are quick. In a box: most
    /// sessions never have one, and there may be millions of sessions.
    #[expect(clippy::box_collection, reason = "eight bytes where there is none")]
    known: Option<Box<Vec<PacketId>>>,
}

/// What a QoS 2 PUBLISH is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// First time: deliver and PUBREC.
    New,
    /// Resent: PUBREC only.
    Duplicate,
}

impl Inbound {
    /// Takes the identifier of a QoS 2 PUBLISH [MQTT-4.3.3-10].
    pub fn publish(&mut self, id: PacketId) -> Arrival {
        let known = self.known.get_or_insert_default();
        if known.last().is_none_or(|last| *last < id) {
            known.push(id);
            return Arrival::New;
        }
        match known.binary_search(&id) {
            Ok(_) => Arrival::Duplicate,
            Err(at) => {
                known.insert(at, id);
                Arrival::New
            }
        }
    }

    /// PUBREL, or a PUBREC with an error that we sent: whether the identifier was known
    /// (else PUBCOMP says 0x92 in version 5) [MQTT-4.3.3-11].
    pub fn release(&mut self, id: PacketId) -> bool {
        let Some(known) = &mut self.known else {
            return false;
        };
        match known.binary_search(&id) {
            Ok(at) => {
                known.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the identifier was received and not released.
    pub fn contains(&self, id: PacketId) -> bool {
        self.known().binary_search(&id).is_ok()
    }

    /// Identifiers received and not released; at most 65,535.
    pub fn len(&self) -> usize {
        self.known().len()
    }

    /// Whether no exchange is open.
    pub fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// The open identifiers, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.known().iter().copied()
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        match &mut self.known {
            Some(known) if !known.is_empty() => known.shrink_to_fit(),
            _ => self.known = None,
        }
    }

    fn known(&self) -> &[PacketId] {
        self.known.as_deref().map_or(&[], |known| known)
    }
}

impl FromIterator<PacketId> for Inbound {
    fn from_iter<I: IntoIterator<Item = PacketId>>(ids: I) -> Self {
        let mut known: Vec<PacketId> = ids.into_iter().collect();
        known.sort_unstable();
        known.dedup();
        Self {
            known: (!known.is_empty()).then(|| Box::new(known)),
        }
    }
}

/// Topic aliases the client set on this connection.
#[derive(Debug, Default)]
pub struct InboundAliases {
    maximum: u16,
    /// Topic of alias `index + 1`; empty where none was set. Grows to the highest alias in use.
    topics: Vec<String>,
}

/// Why an alias cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasError {
    /// 0 or above the announced maximum: 0x94 [MQTT-3.3.2-8] [MQTT-3.3.2-9].
    Invalid,
    /// Never set: 0x82 [MQTT-3.3.4-6 and section 3.3.2.3.4].
    Unknown,
}

impl InboundAliases {
    /// `maximum` is the Topic Alias Maximum that CONNACK announced; 0 refuses every alias.
    pub fn new(maximum: u16) -> Self {
        Self {
            maximum,
            topics: Vec::new(),
        }
    }

    /// The topic that `topic` and `alias` mean together; remembers a new mapping [MQTT-3.3.2-12].
    ///
    /// # Errors
    /// See [`AliasError`]. An empty `topic` without an alias is [`AliasError::Unknown`].
    pub fn resolve<'a>(
        &'a mut self,
        topic: &'a str,
        alias: Option<u16>,
    ) -> Result<&'a str, AliasError> {
        let Some(alias) = alias else {
            return if topic.is_empty() {
                Err(AliasError::Unknown)
            } else {
                Ok(topic)
            };
        };
        if alias == 0 || alias > self.maximum {
            return Err(AliasError::Invalid);
        }
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            return match self.topics.get(at) {
                Some(known) if !known.is_empty() => Ok(known),
                _ => Err(AliasError::Unknown),
            };
        }
        if self.topics.len() <= at {
            self.topics.resize_with(at + 1, String::new);
        }
        let known = &mut self.topics[at];
        known.clear();
        known.push_str(topic);
        Ok(topic)
    }
}

/// Unacknowledged QoS 1 and 2 messages that the client may have open towards us [MQTT-3.3.4-7] to [MQTT-3.3.4-9].
///
/// MQTT 3 has no Receive Maximum; the broker bounds such clients with the same counter by pausing its
/// reading while [`ReceiveQuota::is_exhausted`].
#[derive(Clone, Copy, Debug)]
pub struct ReceiveQuota {
    maximum: u16,
    used: u16,
}

impl ReceiveQuota {
    /// A quota of `maximum` messages.
    pub fn new(maximum: u16) -> Self {
        Self { maximum, used: 0 }
    }

    /// Takes a slot; `false` when the client sent more than Receive Maximum.
    #[must_use]
    pub fn take(&mut self) -> bool {
        if self.used >= self.maximum {
            return false;
        }
        self.used += 1;
        true
    }

    /// Returns a slot: PUBACK, PUBCOMP or a PUBREC with an error was sent. Surplus returns, as after a
    /// PUBREL from an earlier connection, are ignored.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// Whether the next QoS 1 or 2 PUBLISH would be one too many.
    pub fn is_exhausted(&self) -> bool {
        self.used >= self.maximum
    }

    /// Slots taken now.
    pub fn used(&self) -> u16 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).expect("not zero")
    }

    #[test]
    fn an_identifier_is_new_once_until_released() {
        let mut inbound = Inbound::default();
        for n in [5, 7, 1, u16::MAX] {
            assert_eq!(inbound.publish(id(n)), Arrival::New);
        }
        assert_eq!(inbound.publish(id(5)), Arrival::Duplicate);
        assert_eq!(inbound.publish(id(u16::MAX)), Arrival::Duplicate);
        assert!(inbound.contains(id(7)) && !inbound.contains(id(6)));
        assert!(inbound.release(id(5)));
        assert!(
            !inbound.release(id(5)),
            "a second PUBREL is for an unknown identifier"
        );
        assert_eq!(inbound.publish(id(5)), Arrival::New);
        assert_eq!(
            inbound.iter().map(PacketId::get).collect::<Vec<_>>(),
            [1, 5, 7, u16::MAX]
        );
        assert_eq!(inbound.len(), 4);
    }

    #[test]
    fn identifiers_are_restored_in_any_order() {
        let mut inbound: Inbound = [id(9), id(3), id(9)].into_iter().collect();
        assert_eq!(inbound.len(), 2);
        assert_eq!(inbound.publish(id(3)), Arrival::Duplicate);
        assert_eq!(inbound.publish(id(4)), Arrival::New);
    }

    #[test]
    fn aliases_follow_the_table() {
        fn check(
            aliases: &mut InboundAliases,
            topic: &str,
            alias: Option<u16>,
            expect: Result<&str, AliasError>,
        ) {
            assert_eq!(
                aliases.resolve(topic, alias),
                expect,
                "{topic:?} with {alias:?}"
            );
        }
        let mut aliases = InboundAliases::new(3);
        check(&mut aliases, "a", None, Ok("a"));
        check(&mut aliases, "", None, Err(AliasError::Unknown));
        check(&mut aliases, "", Some(1), Err(AliasError::Unknown));
        check(&mut aliases, "", Some(3), Err(AliasError::Unknown));
        check(&mut aliases, "a", Some(0), Err(AliasError::Invalid));
        check(&mut aliases, "a", Some(4), Err(AliasError::Invalid));
        check(&mut aliases, "a", Some(3), Ok("a"));
        check(&mut aliases, "", Some(3), Ok("a"));
        check(&mut aliases, "", Some(2), Err(AliasError::Unknown));
        check(&mut aliases, "longer/topic", Some(3), Ok("longer/topic"));
        check(&mut aliases, "", Some(3), Ok("longer/topic"));
        check(
            &mut InboundAliases::new(0),
            "a",
            Some(1),
            Err(AliasError::Invalid),
        );
    }

    #[test]
    fn the_quota_counts_open_messages() {
        let mut quota = ReceiveQuota::new(2);
        assert!(quota.take() && !quota.is_exhausted() && quota.take());
        assert!(quota.is_exhausted() && !quota.take());
        quota.give_back();
        assert!(quota.take());
        for _ in 0..5 {
            quota.give_back();
        }
        assert_eq!(quota.used(), 0);
    }
}
