//! PUBLISH from a client: the rules, the decision, the retained message, the route, the acknowledgement.

use martlet_codec::{
    AckKind, Frame, Packet, PacketBuf, PacketId, Property, Props, PropsBuf, Publish, QoS,
    ReasonCode, Version,
};
use martlet_session::{AliasError, Arrival, FanOut, Publication};
use martlet_storage::{Lsn, MessageHead, MessageId, Timestamp};
use martlet_transport::ByteStream;

use super::{Connection, End, Violation, driver::Flow, parked::Parked};
use crate::{
    config::Config,
    core::Core,
    counters::{Event, Limit},
    hooks::Decision,
    publish::{Received, Routed, With},
    work::{Sink, Work},
};

/// The topic of the last publication and what was decided about it, so that a stream of messages on one topic is
/// checked once.
#[derive(Default)]
pub(super) struct TopicMemo {
    topic: String,
    qos: QoS,
    retain: bool,
    /// The access generation of the decision; 0 for none.
    generation: u64,
    allowed: bool,
}

impl TopicMemo {
    fn recall(&self, topic: &str, qos: QoS, retain: bool, generation: u64) -> Option<bool> {
        let same = self.generation == generation
            && self.qos == qos
            && self.retain == retain
            && self.topic == topic;
        same.then_some(self.allowed)
    }

    fn remember(&mut self, topic: &str, qos: QoS, retain: bool, generation: u64, allowed: bool) {
        self.topic.clear();
        self.topic.push_str(topic);
        self.qos = qos;
        self.retain = retain;
        self.generation = generation;
        self.allowed = allowed;
    }
}

impl<S: ByteStream> Connection<S> {
    pub(super) fn on_publish(
        &mut self,
        frame: Frame<'_>,
        work: &mut Work,
        now: Timestamp,
    ) -> Result<Flow, End> {
        let publish = Publish::decode(frame, self.version)?;
        work.sink
            .counts
            .publish_received(publish.qos, publish.payload.len());
        self.check_publish(&publish)?;
        let mut aliases = std::mem::take(&mut self.lane.aliases);
        let flow = match aliases.resolve(publish.topic, publish.props.topic_alias()) {
            Ok(topic) if self.extras.is_some() => {
                self.accept_special(&Publish { topic, ..publish }, work, now)
            }
            Ok(topic) => self.accept_publish(&Publish { topic, ..publish }, work, now),
            Err(AliasError::Invalid) => {
                self.core.counters.limit(Limit::TopicAliasMaximum);
                Err(Violation::new(
                    ReasonCode::TopicAliasInvalid,
                    format!(
                        "topic alias above mqtt.topic_alias_maximum ({})",
                        self.config.mqtt.topic_alias_maximum
                    ),
                )
                .into())
            }
            Err(AliasError::Unknown) => Err(Violation::new(
                ReasonCode::ProtocolError,
                "topic alias that was never set",
            )
            .into()),
        };
        self.lane.aliases = aliases;
        flow
    }

    /// What ends the connection [3.3].
    #[inline]
    fn check_publish(&self, publish: &Publish<'_>) -> Result<(), Violation> {
        let mqtt = &self.config.mqtt;
        if publish.qos > mqtt.maximum_qos {
            self.core.counters.limit(Limit::MaximumQos);
            return Err(Violation::new(
                ReasonCode::QosNotSupported,
                "QoS above mqtt.maximum_qos",
            ));
        }
        if publish.retain && !mqtt.retain_available {
            self.core.counters.limit(Limit::RetainAvailable);
            return Err(Violation::new(
                ReasonCode::RetainNotSupported,
                "mqtt.retain_available is false",
            ));
        }
        if publish.props.is_empty() {
            return Ok(());
        }
        if publish.props.subscription_ids().next().is_some() {
            return Err(Violation::new(
                ReasonCode::ProtocolError,
                "PUBLISH to a server with a Subscription Identifier [MQTT-3.3.4-6]",
            ));
        }
        check_user_properties(&self.core, &self.config, publish.props)
    }

    pub(super) fn accept_publish(
        &mut self,
        publish: &Publish<'_>,
        work: &mut Work,
        now: Timestamp,
    ) -> Result<Flow, End> {
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.id)
            && self.session.state.lock().inbound.contains(id)
        {
            // Sent again: the identifier is answered, the message is not delivered twice [MQTT-4.3.3-10].
            self.owe_ack(AckKind::PubRec, id, ReasonCode::Success, Lsn::ZERO, false);
            return Ok(Flow::Continue);
        }
        if publish.qos > QoS::AtMostOnce && !self.quota.take() && self.version.is_v5() {
            let text = format!(
                "more than mqtt.receive_maximum ({}) unacknowledged messages",
                self.config.mqtt.receive_maximum
            );
            self.core.counters.limit(Limit::ReceiveMaximum);
            return Err(Violation::new(ReasonCode::ReceiveMaximumExceeded, text).into());
        }
        let generation = self
            .core
            .access_generation
            .load(std::sync::atomic::Ordering::Acquire);
        let allowed =
            match self
                .topic_memo
                .recall(publish.topic, publish.qos, publish.retain, generation)
            {
                Some(allowed) => allowed,
                None => {
                    if let Some(refusal) = refuses_topic(&self.core, &self.config, publish.topic) {
                        self.refuse_publish(publish, &refusal);
                        return Ok(Flow::Continue);
                    }
                    let access = self.core.access.load();
                    match access.authorizer.publish(
                        &self.identity,
                        publish.topic,
                        publish.qos,
                        publish.retain,
                    ) {
                        Decision::Ready(allowed) => {
                            self.topic_memo.remember(
                                publish.topic,
                                publish.qos,
                                publish.retain,
                                generation,
                                allowed,
                            );
                            allowed
                        }
                        Decision::Later(decision) => {
                            let packet = kept(publish, self.version)?;
                            return Ok(Flow::Park(Parked::Publish(packet, decision)));
                        }
                    }
                }
            };
        if allowed && self.waits_for_room(publish) {
            return Ok(Flow::Park(self.until_roomy(publish)?));
        }
        self.decided_publish(publish, allowed, work, now);
        Ok(Flow::Continue)
    }

    /// Whether the store is too short of room to take this message.
    pub(super) fn waits_for_room(&mut self, publish: &Publish<'_>) -> bool {
        self.core.commits.is_low() && self.core.would_store(publish, &mut self.memo)
    }

    /// A refused message: acknowledged with the reason in version 5, acknowledged plainly in version 3 [MQTT-3.3.5-2].
    fn refuse_publish(&mut self, publish: &Publish<'_>, refusal: &Violation) {
        if let Some(not_logged) = self.complaints.line(self.core.clock.now()) {
            let (client, topic) = (&*self.session.client_id, publish.topic);
            let reason = &*refusal.text;
            tracing::warn!(
                event = "publish_refused",
                client,
                user = self.identity.username.as_deref().unwrap_or_default(),
                peer = &*self.identity.origin.peer,
                topic,
                reason,
                not_logged,
                "Client {client} cannot publish to {topic}: {reason}"
            );
        }
        let Some(id) = publish.id else { return };
        let kind = if publish.qos == QoS::AtLeastOnce {
            AckKind::PubAck
        } else {
            AckKind::PubRec
        };
        let reason = match refusal.reason {
            ReasonCode::NotAuthorized if self.config.compat.obscure_not_authorized => {
                ReasonCode::UnspecifiedError
            }
            reason => reason,
        };
        if self.version.is_v5() {
            self.owe_refusal(kind, id, reason, &refusal.text, Lsn::ZERO);
        } else {
            if kind == AckKind::PubRec {
                self.session.state.lock().inbound.publish(id);
            }
            self.owe_ack(
                kind,
                id,
                ReasonCode::Success,
                Lsn::ZERO,
                kind == AckKind::PubAck,
            );
        }
    }

    /// A PUBLISH whose decision is there.
    pub(super) fn decided_publish(
        &mut self,
        publish: &Publish<'_>,
        allowed: bool,
        work: &mut Work,
        now: Timestamp,
    ) {
        if !allowed {
            self.core.counters.event(Event::PublishDenied);
            self.refuse_publish(
                publish,
                &Violation::new(
                    ReasonCode::NotAuthorized,
                    "not authorized to publish to this topic",
                ),
            );
            return;
        }
        let Work {
            fan_out,
            props,
            sink,
            ..
        } = work;
        let forwarded = forwardable(publish.props, props);
        let head = self.head(publish, now);
        self.publish_now(publish, head, forwarded, fan_out, sink, now);
    }

    fn head(&self, publish: &Publish<'_>, now: Timestamp) -> MessageHead {
        let max = self.config.mqtt.message_expiry_max_secs;
        let asked = if publish.props.is_empty() {
            None
        } else {
            publish.props.message_expiry_secs()
        };
        let secs = match asked {
            Some(secs) => Some(secs.min(max)),
            None => (max != u32::MAX).then_some(max),
        };
        MessageHead {
            id: MessageId::NONE,
            qos: publish.qos,
            retain: publish.retain,
            publisher: self.session.id,
            received: now,
            expires: secs.map(|secs| now.plus_secs(secs)),
        }
    }

    fn publish_now(
        &mut self,
        publish: &Publish<'_>,
        head: MessageHead,
        props: &[u8],
        fan_out: &mut FanOut,
        sink: &mut Sink,
        now: Timestamp,
    ) {
        let mut publication =
            Publication::new(head, publish.topic, props, publish.payload, fan_out);
        let routed = match self.keep_and_route(&mut publication, publish.id, sink, now) {
            Ok(routed) => routed,
            Err(limit) => {
                let text = format!(
                    "the broker keeps no more retained messages: {}",
                    limit.name()
                );
                self.refuse_publish(publish, &Violation::new(ReasonCode::QuotaExceeded, text));
                return;
            }
        };
        let reason = if routed.matched || !self.version.is_v5() {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        };
        match (publish.qos, publish.id) {
            (QoS::AtLeastOnce, Some(id)) => {
                self.owe_ack(AckKind::PubAck, id, reason, routed.lsn, true);
            }
            (QoS::ExactlyOnce, Some(id)) => {
                self.owe_ack(AckKind::PubRec, id, reason, routed.lsn, false);
            }
            _ => {}
        }
    }

    /// Retains the message if it asks for that, remembers the identifier of a QoS 2 message, and routes. Nothing of
    /// this happens if a limit keeps the message from being retained.
    fn keep_and_route(
        &mut self,
        publication: &mut Publication<'_>,
        id: Option<PacketId>,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Result<Routed, Limit> {
        let core = &self.core;
        let is_retained = publication.head.retain;
        // Held to the last offer, so that all see the messages of a retained topic in one order; retained before
        // live delivery, so that a subscriber who comes in between misses nothing (rule 11).
        let _turn = is_retained.then(|| core.retained.turn(publication.topic));
        let ops = if is_retained {
            Vec::from_iter(core.retain(publication, now)?)
        } else {
            Vec::new()
        };
        let mut received = None;
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publication.head.qos, id) {
            let arrival = self.session.state.lock().inbound.publish(packet_id);
            debug_assert_eq!(arrival, Arrival::New);
            if self.session.durable {
                received = Some(Received {
                    session: self.session.id,
                    packet_id,
                });
            }
        }
        let with = With {
            origin_hash: self.session.client_hash,
            received,
            ops,
        };
        Ok(core.route(publication, &mut self.memo, with, sink, now))
    }
}

/// A packet of its own, to be kept under its resolved topic.
pub(super) fn kept(publish: &Publish<'_>, version: Version) -> Result<PacketBuf, Violation> {
    PacketBuf::from_packet(&Packet::Publish(*publish), version)
        .map_err(|error| Violation::new(ReasonCode::UnspecifiedError, error.to_string()))
}

/// The properties that subscribers get: all but Topic Alias and Message Expiry Interval. Mostly the block as it came.
fn forwardable<'b>(props: Props<'b>, scratch: &'b mut PropsBuf) -> &'b [u8] {
    if props.is_empty() {
        return &[];
    }
    let own = |property: &Property<'_>| {
        matches!(
            property,
            Property::TopicAlias(_) | Property::MessageExpiry(_)
        )
    };
    if !props.iter().any(|property| own(&property)) {
        return props.as_bytes();
    }
    scratch.clear();
    for property in props.iter().filter(|property| !own(property)) {
        scratch.push(property);
    }
    scratch.as_props().as_bytes()
}

/// Refuses a packet with more user properties than `limits.user_properties_max`.
pub(super) fn check_user_properties(
    core: &Core,
    config: &Config,
    props: Props<'_>,
) -> Result<(), Violation> {
    let max = config.limits.user_properties_max;
    if props.user_properties().nth(max).is_none() {
        return Ok(());
    }
    core.counters.limit(Limit::UserPropertiesMax);
    let text = format!("more user properties than limits.user_properties_max ({max})");
    Err(Violation::new(ReasonCode::QuotaExceeded, text))
}

/// Why no client may publish to `topic`, whatever its rights.
pub(super) fn refuses_topic(core: &Core, config: &Config, topic: &str) -> Option<Violation> {
    let limits = &config.limits;
    if topic.len() > limits.topic_bytes_max {
        core.counters.limit(Limit::TopicBytesMax);
        return Some(Violation::new(
            ReasonCode::TopicNameInvalid,
            format!(
                "topic longer than limits.topic_bytes_max ({})",
                limits.topic_bytes_max
            ),
        ));
    }
    let levels = topic.bytes().filter(|byte| *byte == b'/').count() + 1;
    if levels > limits.topic_levels_max {
        core.counters.limit(Limit::TopicLevelsMax);
        return Some(Violation::new(
            ReasonCode::TopicNameInvalid,
            format!(
                "more topic levels than limits.topic_levels_max ({})",
                limits.topic_levels_max
            ),
        ));
    }
    let reserved = |prefix: &str| {
        topic
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mounts = core.mounts.load();
    let is_hidden = mounts.iter().any(|mount| {
        let local = topic.strip_prefix(&**mount);
        local.is_some_and(|local| local.starts_with('$'))
    });
    if is_hidden {
        return Some(Violation::new(
            ReasonCode::NotAuthorized,
            "topics that begin with $ cannot be published to below a mount point",
        ));
    }
    if reserved("$SYS") || reserved("$share") {
        return Some(Violation::new(
            ReasonCode::NotAuthorized,
            "this topic belongs to the broker",
        ));
    }
    None
}
