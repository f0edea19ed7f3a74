//! SUBSCRIBE and UNSUBSCRIBE: each filter judged on its own, inserted, then its retained messages.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};

use martlet_codec::{
    Frame, Packet, PacketBuf, Property, Props, PropsBuf, QoS, ReasonCode, ReasonCodes,
    RetainHandling, SubAck, Subscribe, SubscribeFiltersBuf, SubscribeOptions, UnsubAck,
    Unsubscribe,
};
use martlet_session::{MAIN_LANE, Mount};
use martlet_storage::{Lsn, StoreOp};
use martlet_topic::{Filter, TopicFilter};
use martlet_transport::ByteStream;

use super::{Connection, End, Violation, driver::Flow, parked::Parked, replay::Replay};
use crate::{
    config::Config,
    core::Core,
    counters::{Event, Limit},
    hooks::Decision,
    router::Subscription,
    session::Session,
};

/// The decision about one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The granted QoS, or why not.
    result: Result<QoS, ReasonCode>,
    text: &'static str,
}

impl Grant {
    fn refused(reason: ReasonCode, text: &'static str) -> Self {
        Self {
            result: Err(reason),
            text,
        }
    }
}

/// A filter as the broker's settings allow it to be read.
fn parse(text: &str, queue: bool) -> Result<Filter<'_>, martlet_topic::TopicError> {
    if queue {
        Filter::parse_with_queue(text)
    } else {
        Filter::parse(text)
    }
}

/// What one subscription of a SUBSCRIBE was granted.
#[derive(Clone, Copy)]
struct Subscribed {
    options: SubscribeOptions,
    subscription_id: Option<u32>,
}

impl<S: ByteStream> Connection<S> {
    pub(super) fn on_subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        _frame: Frame<'_>,
    ) -> Result<Flow, End> {
        let filters = match self.mount() {
            Some(mount) => Some(mounted(mount, subscribe, &self.config)?),
            None => None,
        };
        let subscribe = &Subscribe {
            filters: filters
                .as_ref()
                .map_or(subscribe.filters, SubscribeFiltersBuf::as_filters),
            ..*subscribe
        };
        if subscribe.props.subscription_ids().next().is_some()
            && !self.config.mqtt.subscription_identifier_available
        {
            self.core
                .counters
                .limit(Limit::SubscriptionIdentifierAvailable);
            return Err(Violation::new(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "mqtt.subscription_identifier_available is false",
            )
            .into());
        }
        let generation = self.core.access_generation.load(Ordering::Acquire);
        let mut decisions = Vec::with_capacity(subscribe.filters.len());
        for (text, options) in &subscribe.filters {
            decisions.push(self.judge(text, options)?);
        }
        if decisions
            .iter()
            .all(|decision| matches!(decision, Decision::Ready(_)))
        {
            let ready = |decision| match decision {
                Decision::Ready(grant) => Some(grant),
                Decision::Later(_) => None,
            };
            let grants: Vec<Grant> = decisions.into_iter().filter_map(ready).collect();
            self.granted_subscribe(subscribe, &grants, generation)?;
            return Ok(Flow::Continue);
        }
        let packet = PacketBuf::from_packet(&Packet::Subscribe(*subscribe), self.version)
            .map_err(|error| Violation::new(ReasonCode::UnspecifiedError, error.to_string()))?;
        let all = async move {
            let mut grants = Vec::with_capacity(decisions.len());
            for decision in decisions {
                grants.push(match decision {
                    Decision::Ready(grant) => grant,
                    Decision::Later(grant) => grant.await,
                });
            }
            grants
        };
        Ok(Flow::Park(Parked::Subscribe(
            packet,
            Box::pin(all),
            generation,
        )))
    }

    /// Judges one filter: its form, what the broker offers, the limits, the client's rights.
    fn judge(&self, text: &str, options: SubscribeOptions) -> Result<Decision<Grant>, Violation> {
        let mqtt = &self.config.mqtt;
        let limits = &self.config.limits;
        let refused = |reason, text| Ok(Decision::Ready(Grant::refused(reason, text)));
        let Ok(filter) = parse(text, mqtt.queue_subscriptions) else {
            return refused(ReasonCode::TopicFilterInvalid, "not a valid topic filter");
        };
        if text.len() > limits.topic_bytes_max {
            self.core.counters.limit(Limit::TopicBytesMax);
            return refused(
                ReasonCode::TopicFilterInvalid,
                "filter longer than limits.topic_bytes_max",
            );
        }
        let topic_filter = filter.topic_filter();
        if self.mount().is_some() && is_foreign(topic_filter.as_str()) {
            self.core.counters.event(Event::SubscribeDenied);
            return refused(
                ReasonCode::NotAuthorized,
                "below a mount point there are no topics that begin with $, but $SYS",
            );
        }
        if topic_filter
            .as_str()
            .bytes()
            .filter(|byte| *byte == b'/')
            .count()
            >= limits.topic_levels_max
        {
            self.core.counters.limit(Limit::TopicLevelsMax);
            return refused(
                ReasonCode::TopicFilterInvalid,
                "more levels than limits.topic_levels_max",
            );
        }
        if let Filter::Shared(_) = filter {
            if options.no_local {
                return Err(Violation::new(
                    ReasonCode::ProtocolError,
                    "No Local on a shared subscription [MQTT-3.8.3-4]",
                ));
            }
            if !mqtt.shared_subscription_available {
                self.core.counters.limit(Limit::SharedSubscriptionAvailable);
                return refused(
                    ReasonCode::SharedSubscriptionsNotSupported,
                    "mqtt.shared_subscription_available is false",
                );
            }
        }
        if topic_filter.has_wildcards() && !mqtt.wildcard_subscription_available {
            self.core
                .counters
                .limit(Limit::WildcardSubscriptionAvailable);
            return refused(
                ReasonCode::WildcardSubscriptionsNotSupported,
                "mqtt.wildcard_subscription_available is false",
            );
        }
        let access = self.core.access.load();
        let not_authorized = if self.config.compat.obscure_not_authorized {
            ReasonCode::UnspecifiedError
        } else {
            ReasonCode::NotAuthorized
        };
        let grant = move |granted: Option<QoS>| match granted {
            Some(qos) => Grant {
                result: Ok(qos),
                text: "",
            },
            None => Grant::refused(not_authorized, "not authorized to subscribe to this filter"),
        };
        Ok(
            match access
                .authorizer
                .subscribe(&self.identity, topic_filter.as_str(), options.qos)
            {
                Decision::Ready(granted) => Decision::Ready(grant(granted)),
                Decision::Later(decision) => {
                    Decision::Later(Box::pin(async move { grant(decision.await) }))
                }
            },
        )
    }

    /// Inserts what was granted by the rights of `generation` and answers.
    pub(super) fn granted_subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        grants: &[Grant],
        generation: u64,
    ) -> Result<(), End> {
        let subscription_id = subscribe.props.subscription_ids().next();
        let mut codes = Vec::with_capacity(grants.len());
        let mut ops = Vec::new();
        let mut words = None;
        let mut granted = Vec::with_capacity(grants.len());
        for ((text, mut options), grant) in subscribe.filters.iter().zip(grants) {
            let mut result = grant.result;
            let mut reason_text = grant.text;
            if result.is_ok() && !self.has_room_for(text) {
                self.core.counters.limit(Limit::SubscriptionsPerClientMax);
                result = Err(ReasonCode::QuotaExceeded);
                reason_text = "more subscriptions than limits.subscriptions_per_client_max";
            }
            match result {
                Ok(qos) => {
                    options.qos = qos.min(options.qos);
                    if self.bridge {
                        // A bridge wants RETAIN as it was published, and not its own messages back.
                        options.retain_as_published = true;
                        options.no_local = !text.starts_with('$');
                    }
                    codes.push(options.qos as u8);
                    let subscribed = Subscribed {
                        options,
                        subscription_id,
                    };
                    self.remember(text, subscribed, &mut ops);
                    granted.push((text, subscribed));
                }
                Err(reason) => {
                    if matches!(
                        reason,
                        ReasonCode::NotAuthorized | ReasonCode::UnspecifiedError
                    ) {
                        self.core.counters.event(Event::SubscribeDenied);
                    }
                    if let Some(not_logged) = self.complaints.line(self.core.clock.now()) {
                        let client = &*self.session.client_id;
                        tracing::warn!(
                            event = "subscribe_refused",
                            client,
                            user = self.identity.username.as_deref().unwrap_or_default(),
                            peer = &*self.identity.origin.peer,
                            filter = text,
                            reason = reason_text,
                            not_logged,
                            "Client {client} cannot subscribe to {text}: {reason_text}"
                        );
                    }
                    words.get_or_insert(reason_text);
                    // MQTT 3 knows one failure code [MQTT-3.9.3-2].
                    codes.push(if self.version.is_v5() {
                        reason as u8
                    } else {
                        0x80
                    });
                }
            }
        }
        if self.core.access_generation.load(Ordering::Acquire) != generation {
            // A reload in between did not see the new subscriptions.
            self.core.judge_anew(&self.session);
        }
        let lsn = if self.session.durable {
            self.core.submit(ops)
        } else {
            Lsn::ZERO
        };
        let props = self.words(words);
        let codes = ReasonCodes::new(&codes).ok_or_else(|| {
            Violation::new(ReasonCode::UnspecifiedError, "SUBACK code out of range")
        })?;
        let mut suback = SubAck {
            id: subscribe.id,
            props: props.as_props(),
            codes,
        };
        if self.is_too_large(&Packet::SubAck(suback)) {
            suback.props = Props::EMPTY;
        }
        self.owe(&Packet::SubAck(suback), lsn, false);
        // SUBACK takes its place in the output before the first message can; nothing is written before this
        // task is back at its output, when the subscriptions are in force.
        self.put_local_first();
        for (text, subscribed) in granted {
            let replay = self.insert(text, subscribed);
            self.lane.replays.extend(replay);
        }
        Ok(())
    }

    /// Notes a subscription in the session and for the store.
    fn remember(&self, text: &str, subscribed: Subscribed, ops: &mut Vec<StoreOp>) {
        self.session.state.lock().subscriptions.insert(text);
        if self.session.durable {
            ops.push(StoreOp::PutSubscription {
                session: self.session.id,
                filter: text.into(),
                options: subscribed.options,
                subscription_id: subscribed.subscription_id,
            });
        }
    }

    /// Whether `text` replaces a subscription or there is room for one more.
    fn has_room_for(&self, text: &str) -> bool {
        let state = self.session.state.lock();
        state.subscriptions.len() < self.config.limits.subscriptions_per_client_max
            || state.subscriptions.contains(text)
    }

    /// Puts a subscription in force; the retained messages that belong to it come back as a replay.
    fn insert(&mut self, text: &str, subscribed: Subscribed) -> Option<Replay> {
        let filter = parse(text, self.config.mqtt.queue_subscriptions).ok()?;
        let Subscribed {
            options,
            subscription_id,
        } = subscribed;
        self.goes_out_on(filter.topic_filter(), self.lane.number);
        let id = subscription_id.and_then(NonZeroU32::new);
        let subscription = Subscription::new(Arc::clone(&self.session), options, id);
        let outcome = self.core.router.subscribe(filter, subscription);
        if outcome.first_local {
            let topic_filter = filter.topic_filter();
            self.core.cluster.interest(topic_filter.as_str(), true);
        }
        let Filter::Plain(topic_filter) = filter else {
            // Shared subscriptions get no retained messages (4.8.2).
            return None;
        };
        let wanted = match options.retain_handling {
            RetainHandling::SendAlways => true,
            RetainHandling::SendIfNew => !outcome.replaced,
            RetainHandling::DoNotSend => false,
        };
        if wanted && outcome.replaced {
            // One that is under way begins again: there are no more replays than subscriptions.
            let replays = &mut self.lane.replays;
            replays.retain(|replay| replay.filter() != topic_filter.as_str());
        }
        wanted.then(|| Replay::new(topic_filter, options, subscription_id))
    }

    pub(super) fn on_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        let mut codes = Vec::new();
        let mut ops = Vec::new();
        for text in &unsubscribe.filters {
            let full = self
                .mount()
                .map(|mount| mount.full_filter(text, self.config.mqtt.queue_subscriptions));
            let text = full.as_deref().unwrap_or(text);
            let removed = self.session.state.lock().subscriptions.remove(text);
            if removed {
                if let Ok(filter) = parse(text, self.config.mqtt.queue_subscriptions) {
                    self.goes_out_on(filter.topic_filter(), MAIN_LANE);
                }
                self.core.drop_subscription(&self.session, text);
                self.lane.replays.retain(|replay| replay.filter() != text);
                if self.session.durable {
                    ops.push(StoreOp::DeleteSubscription {
                        session: self.session.id,
                        filter: text.into(),
                    });
                }
            }
            codes.push(if removed {
                ReasonCode::Success as u8
            } else if parse(text, self.config.mqtt.queue_subscriptions).is_err() {
                ReasonCode::TopicFilterInvalid as u8
            } else {
                ReasonCode::NoSubscriptionExisted as u8
            });
        }
        let lsn = if self.session.durable {
            self.core.submit(ops)
        } else {
            Lsn::ZERO
        };
        let codes = ReasonCodes::new(&codes).ok_or_else(|| {
            Violation::new(ReasonCode::UnspecifiedError, "UNSUBACK code out of range")
        })?;
        self.owe(
            &Packet::UnsubAck(UnsubAck {
                id: unsubscribe.id,
                props: Props::EMPTY,
                codes,
            }),
            lsn,
            false,
        );
        Ok(())
    }

    /// Messages that `filter` matches go out on the stream of `lane`, where there are several.
    fn goes_out_on(&self, filter: TopicFilter<'_>, lane: u8) {
        if lane != self.lane.number || lane != MAIN_LANE || self.streams.is_some() {
            let epoch = self.epoch;
            self.session.with_outbox(|outbox| {
                if let Some(own) = outbox.owned_by(epoch) {
                    own.out.bind(filter, lane);
                }
            });
        }
    }

    /// Properties with a reason string, where there is something to say and the client wants to hear it.
    fn words(&self, words: Option<&str>) -> PropsBuf {
        let mut props = PropsBuf::new();
        if let (Some(words), true, true) = (words, self.version.is_v5(), self.problem_information) {
            props.push(Property::ReasonString(words));
        }
        props
    }

    fn is_too_large(&self, packet: &Packet<'_>) -> bool {
        packet
            .encoded_len(self.version)
            .is_ok_and(|len| len > self.packet_bytes_max as usize)
    }
}

/// The filters as they are called in the broker.
fn mounted(
    mount: &Mount,
    subscribe: &Subscribe<'_>,
    config: &Config,
) -> Result<SubscribeFiltersBuf, Violation> {
    let mut filters = SubscribeFiltersBuf::new();
    for (text, options) in &subscribe.filters {
        let full = mount.full_filter(text, config.mqtt.queue_subscriptions);
        filters
            .push(&full, options)
            .map_err(|error| Violation::new(ReasonCode::TopicFilterInvalid, error.to_string()))?;
    }
    Ok(filters)
}

/// Whether the topics of this filter belong to nobody with a mount point, nor to the broker.
fn is_foreign(filter: &str) -> bool {
    filter.starts_with('$') && filter != "$SYS" && !filter.starts_with("$SYS/")
}

impl Core {
    /// Takes a subscription out of the router; messages of a share group that were never sent go to another member.
    pub(crate) fn drop_subscription(&self, session: &Arc<Session>, text: &str) {
        // The text was accepted when it was subscribed to; `$queue/` may have been switched off since.
        let Ok(filter) = Filter::parse_with_queue(text) else {
            return;
        };
        let as_plain = || TopicFilter::new(text).ok().map(Filter::Plain);
        let mut gone = self.router.unsubscribe(filter, session.id.get());
        if !gone.existed
            && let Some(plain) = as_plain()
        {
            gone = self.router.unsubscribe(plain, session.id.get());
        }
        if gone.last_local {
            self.cluster.interest(filter.topic_filter().as_str(), false);
        }
        if let Some(group) = gone.remaining {
            self.redistribute(session, &group);
        }
    }
}
