//! What a broker that does everything right and nothing fast would have done: the naive reference. It is told what the
//! clients sent and what they received, and says which promise a delivery breaks, or which one is still open at the end.
//!
//! Deliberately absent: how anything is done. It knows messages, subscriptions as far as clients can be sure of them, and
//! sessions; every answer that is still under way makes it unsure, and what it is unsure of it does not judge.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use martlet_codec::{Publish, QoS};

/// A broken promise, in words.
pub(crate) type Violation = String;

/// Which client.
pub(crate) type Who = usize;

/// Which message: its place in [`Model::messages`].
pub(crate) type Which = usize;

/// What a topic is for, which decides what is promised about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Topic {
    /// Anybody publishes.
    Plain(usize),
    /// One client publishes, retained.
    Retained(Who),
    /// For the share group.
    Shared,
    /// Wills of one client.
    Will(Who),
}

impl Topic {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Plain(number) => format!("t/{number}"),
            Self::Retained(who) => format!("r/{who}"),
            Self::Shared => "s/0".to_owned(),
            Self::Will(who) => format!("w/{who}"),
        }
    }
}

/// What clients subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Filter {
    Exactly(Topic),
    AllPlain,
    AllRetained,
    AllWills,
    Share,
}

impl Filter {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Exactly(topic) => topic.name(),
            Self::AllPlain => "t/#".to_owned(),
            Self::AllRetained => "r/+".to_owned(),
            Self::AllWills => "w/#".to_owned(),
            Self::Share => "$share/g/s/#".to_owned(),
        }
    }

    pub(crate) fn matches(self, topic: Topic) -> bool {
        match (self, topic) {
            (Self::Exactly(exactly), topic) => exactly == topic,
            (Self::AllPlain, Topic::Plain(_))
            | (Self::AllRetained, Topic::Retained(_))
            | (Self::AllWills, Topic::Will(_))
            | (Self::Share, Topic::Shared) => true,
            _ => false,
        }
    }
}

/// A message that some client published, or left as its will.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) publisher: Who,
    pub(crate) topic: Topic,
    pub(crate) qos: QoS,
    /// When it was first sent, in events.
    pub(crate) sent: u64,
    /// How often the publisher sent it.
    pub(crate) sends: u32,
    /// Whether the broker took responsibility for it.
    pub(crate) acknowledged: bool,
    /// Without payload: it clears the retained message of its topic.
    pub(crate) clears: bool,
    pub(crate) will: Option<WillFate>,
}

/// What must have become of a will at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WillFate {
    /// Nobody can tell.
    Open,
    /// The connection that began at this event ended without DISCONNECT: published, nobody can tell when.
    Due(u64),
    /// DISCONNECT was read: never.
    Discarded,
}

/// What is known about one subscription.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    state: Known,
    /// The event since when.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    No,
    Yes(QoS),
    Unsure,
}

/// What one client has received.
#[derive(Default)]
struct Seen {
    /// Whether each message came at QoS 2, and in which connection it came last as a new one.
    deliveries: HashMap<Which, (bool, u64)>,
    /// The last message that came for the first time, by publisher, topic, QoS published and QoS delivered.
    order: BTreeMap<(Who, Topic, u8, u8), Which>,
    /// The newest retained message seen in this connection, by topic and QoS.
    newest: BTreeMap<(Topic, u8), Which>,
    newest_connection: u64,
}

/// What a client is known to have.
#[derive(Default)]
struct Subscriber {
    /// The session of its connection ends only when it says so.
    lasts: bool,
    subscriptions: BTreeMap<Filter, Subscription>,
    /// This session may have been a member of the share group, and hold messages of it.
    was_member: bool,
    /// Messages that must come.
    owed: BTreeSet<Which>,
    seen: Seen,
    /// Retained topics that a new subscription must show, with the message that is the oldest acceptable.
    replays: BTreeMap<Topic, Which>,
    /// What was acknowledged of each retained topic when this session's first SUBSCRIBE to a filter was sent.
    floors: BTreeMap<Filter, BTreeMap<Topic, Which>>,
}

/// A message as it came.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) which: Which,
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    /// Not the repetition of a QoS 2 message that is known by its identifier.
    pub(crate) new: bool,
    /// The connection it came on.
    pub(crate) connection: u64,
}

/// The reference.
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) messages: Vec<Message>,
    subscribers: Vec<Subscriber>,
    /// Messages that some member of the share group must get.
    owed_to_group: BTreeSet<Which>,
    /// When a member's session last ended, perhaps with messages that nobody else gets.
    group_disturbed: u64,
    /// What some member got.
    group_got: HashSet<Which>,
    /// Who of the group got a QoS 2 message.
    group: HashMap<Which, HashSet<Who>>,
    /// The last acknowledged message of each retained topic.
    retained: BTreeMap<Topic, Which>,
    pub(crate) deliveries: u64,
}

impl Model {
    /// For so many clients.
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            now: 0,
            messages: Vec::new(),
            subscribers: std::iter::repeat_with(Subscriber::default)
                .take(clients)
                .collect(),
            owed_to_group: BTreeSet::new(),
            group_disturbed: 0,
            group_got: HashSet::new(),
            group: HashMap::new(),
            retained: BTreeMap::new(),
            deliveries: 0,
        }
    }

    // ---------------------------------------------------------------- what publishers do

    /// A new message is sent for the first time.
    pub(crate) fn published(
        &mut self,
        publisher: Who,
        topic: Topic,
        qos: QoS,
        clears: bool,
    ) -> Which {
        self.messages.push(Message {
            publisher,
            topic,
            qos,
            sent: self.now,
            sends: 1,
            acknowledged: false,
            clears,
            will: None,
        });
        self.messages.len() - 1
    }

    /// PUBACK or PUBREC: the broker has it.
    pub(crate) fn acknowledged(&mut self, which: Which, matched: bool) -> Result<(), Violation> {
        let message = &mut self.messages[which];
        if std::mem::replace(&mut message.acknowledged, true) {
            return Ok(());
        }
        let (topic, qos, sent) = (message.topic, message.qos, message.sent);
        if let Topic::Retained(_) = topic {
            let last = self.retained.entry(topic).or_insert(which);
            *last = (*last).max(which);
        }
        for (who, subscriber) in self.subscribers.iter_mut().enumerate() {
            let Some(best) = subscriber.surely(topic, sent) else {
                continue;
            };
            if !matched && subscriber.lasts {
                return Err(format!(
                    "message {which} on {topic:?}: no matching subscribers, but client {who} is one"
                ));
            }
            if best.min(qos) == QoS::AtMostOnce || self.messages[which].clears {
                continue;
            }
            if topic == Topic::Shared {
                if sent > self.group_disturbed && !self.group_got.contains(&which) {
                    self.owed_to_group.insert(which);
                }
            } else if !subscriber.seen.deliveries.contains_key(&which) {
                subscriber.owed.insert(which);
            }
        }
        Ok(())
    }

    /// Whether a PUBLISH is the message its payload names, to the last byte.
    pub(crate) fn is_intact(&self, which: Which, publish: &Publish<'_>) -> bool {
        self.messages.get(which).is_some_and(|message| {
            message.topic.name() == publish.topic
                && crate::client::payload(which, publish.payload.len()) == publish.payload
        })
    }

    // ---------------------------------------------------------------- what subscribers do

    /// SUBSCRIBE or UNSUBSCRIBE is under way.
    pub(crate) fn asks(&mut self, who: Who, filter: Filter) {
        let now = self.now;
        let floors = self.retained.clone();
        let subscriber = &mut self.subscribers[who];
        subscriber.was_member |= filter == Filter::Share;
        // Of what the first SUBSCRIBE brought some may still be queued when the second one is answered.
        subscriber.floors.entry(filter).or_insert(floors);
        let subscription = subscriber
            .subscriptions
            .entry(filter)
            .or_insert(Subscription {
                state: Known::No,
                since: 0,
            });
        *subscription = Subscription {
            state: Known::Unsure,
            since: now,
        };
    }

    /// SUBACK or UNSUBACK.
    pub(crate) fn answered(&mut self, who: Who, filter: Filter, granted: Option<QoS>) {
        let now = self.now;
        let subscriber = &mut self.subscribers[who];
        let state = granted.map_or(Known::No, Known::Yes);
        subscriber
            .subscriptions
            .insert(filter, Subscription { state, since: now });
        if granted.is_none() {
            subscriber
                .replays
                .retain(|topic, _| !filter.matches(*topic));
        } else {
            let floors = subscriber.floors.get(&filter).cloned();
            for (topic, floor) in floors.unwrap_or_default() {
                if filter.matches(topic) && !self.messages[floor].clears {
                    subscriber.replays.insert(topic, floor);
                }
            }
        }
    }

    /// `who` opens a connection; whether its session then `lasts` until `who` starts over.
    pub(crate) fn connects(&mut self, who: Who, lasts: bool) {
        self.subscribers[who].lasts = lasts;
    }

    /// The connection of `who` has ended: what was being sent because of new subscriptions is not sent again.
    pub(crate) fn disconnected(&mut self, who: Who) {
        self.subscribers[who].replays.clear();
    }

    /// `who` now has a session without anything in it.
    pub(crate) fn session_is_new(&mut self, who: Who) {
        self.session_may_differ(who, Known::No);
    }

    /// The session of `who` may have ended, or not.
    pub(crate) fn session_is_unsure(&mut self, who: Who) {
        self.session_may_differ(who, Known::Unsure);
    }

    /// Nothing is owed to `who` any more, and of what it had subscribed to `known` is left.
    fn session_may_differ(&mut self, who: Who, known: Known) {
        let now = self.now;
        let subscriber = &mut self.subscribers[who];
        if subscriber.was_member {
            // A message that was on its way to a member may have gone with it, also to one that has unsubscribed since.
            self.owed_to_group.clear();
            self.group_disturbed = now;
            subscriber.was_member = known != Known::No;
        }
        for subscription in subscriber.subscriptions.values_mut() {
            if subscription.state != Known::No {
                *subscription = Subscription {
                    state: known,
                    since: now,
                };
            }
        }
        subscriber.owed.clear();
        subscriber.replays.clear();
        subscriber.floors.clear();
    }

    /// A message came.
    pub(crate) fn delivered(&mut self, who: Who, arrival: Arrival) -> Result<(), Violation> {
        let Arrival {
            which, qos, new, ..
        } = arrival;
        let Some(message) = self.messages.get(which) else {
            return Err(format!(
                "client {who} got message {which}, which nobody sent"
            ));
        };
        self.deliveries += 1;
        let (topic, sent) = (message.topic, message.sent);
        let describe = format!(
            "message {which} of client {} on {topic:?} at QoS {}, delivered at QoS {}",
            message.publisher, message.qos as u8, qos as u8
        );
        if qos > message.qos {
            return Err(format!("client {who}: {describe}: more than was published"));
        }
        if message.will == Some(WillFate::Discarded) {
            return Err(format!(
                "client {who}: {describe}: a will that DISCONNECT discarded"
            ));
        }
        let (sends, published, author) = (message.sends, message.qos, message.publisher);
        let subscriber = &mut self.subscribers[who];
        if !arrival.retain && new && !subscriber.may_have(topic, sent) {
            return Err(format!("client {who}: {describe}: without a subscription"));
        }
        subscriber.owed.remove(&which);
        if subscriber
            .replays
            .get(&topic)
            .is_some_and(|floor| which >= *floor)
        {
            subscriber.replays.remove(&topic);
        }
        if let Topic::Retained(_) = topic {
            return self.judge_retained(who, arrival, &describe);
        }
        if !new {
            return Ok(());
        }
        let before = subscriber.seen.deliveries.get(&which).copied();
        let entry = subscriber
            .seen
            .deliveries
            .entry(which)
            .or_insert((false, 0));
        *entry = (entry.0 || qos == QoS::ExactlyOnce, arrival.connection);
        if let Some((at_qos_2, connection)) = before {
            let once = published == QoS::ExactlyOnce && qos == QoS::ExactlyOnce;
            // What came at QoS 1 by way of a share group and was not acknowledged may have gone to another member when this
            // one left the group, and come back from there at QoS 2.
            if once && (at_qos_2 || topic != Topic::Shared) {
                return Err(format!("client {who}: {describe}: twice"));
            }
            if connection == arrival.connection && sends == 1 {
                return Err(format!(
                    "client {who}: {describe}: twice in one connection, but sent once"
                ));
            }
        }
        if topic == Topic::Shared {
            self.owed_to_group.remove(&which);
            self.group_got.insert(which);
            let members = self.group.entry(which).or_default();
            // At QoS 1 it may go on to another when its member has ended unacknowledged.
            if qos < QoS::ExactlyOnce {
                return Ok(());
            }
            members.insert(who);
            if members.len() > 1 {
                return Err(format!(
                    "clients {members:?} of one share group: {describe}: each got it"
                ));
            }
            return Ok(());
        }
        if before.is_none() && message_is_ordered(topic) {
            let key = (author, topic, published as u8, qos as u8);
            // What was sent again may have found a subscription, or a higher QoS of one, that was not there the first time.
            let counts =
                sends == 1 || qos > QoS::AtMostOnce && subscriber.surely(topic, sent) >= Some(qos);
            if let Some(last) = subscriber.seen.order.insert(key, which)
                && last > which
                && counts
            {
                return Err(format!("client {who}: {describe}: after message {last}"));
            }
        }
        Ok(())
    }

    /// Live or because of a subscription: what came must not be older than what was acknowledged before SUBSCRIBE, nor
    /// than what came before on this connection.
    fn judge_retained(
        &mut self,
        who: Who,
        arrival: Arrival,
        describe: &str,
    ) -> Result<(), Violation> {
        let Arrival {
            which,
            qos,
            retain,
            dup,
            connection,
            new,
        } = arrival;
        let topic = self.messages[which].topic;
        let published = self.messages[which].qos;
        let subscriber = &mut self.subscribers[who];
        let seen = &mut subscriber.seen;
        seen.deliveries.entry(which).or_insert((false, connection));
        if seen.newest_connection != connection {
            seen.newest_connection = connection;
            seen.newest.clear();
        }
        if retain
            && !dup
            && new
            && let Some(floor) = subscriber
                .floors
                .iter()
                .filter(|(filter, _)| filter.matches(topic))
                .map(|(_, floors)| floors.get(&topic).copied().unwrap_or_default())
                .min()
            && which < floor
        {
            return Err(format!(
                "client {who}: {describe}: retained, but message {floor} was acknowledged before SUBSCRIBE"
            ));
        }
        // A QoS 2 message is retained before its delivery is due, so that a new subscription can show it early.
        // One that is sent again becomes the retained one again.
        let sent_once = self.messages[which].sends == 1;
        if !dup && sent_once && published < QoS::ExactlyOnce {
            let newest = seen.newest.entry((topic, qos as u8)).or_insert(which);
            if *newest > which {
                return Err(format!(
                    "client {who}: {describe}: after message {newest} of the same topic"
                ));
            }
            *newest = which;
        }
        Ok(())
    }

    // ---------------------------------------------------------------- the end

    /// Everything has been delivered that could be. `connected` tells who has a session.
    pub(crate) fn judge_end(&self) -> Result<(), Violation> {
        for (who, subscriber) in self.subscribers.iter().enumerate() {
            if let Some(which) = subscriber.owed.first() {
                let message = &self.messages[*which];
                return Err(format!(
                    "client {who}: message {which} of client {} on {:?} at QoS {} was acknowledged and never came ({} such)",
                    message.publisher,
                    message.topic,
                    message.qos as u8,
                    subscriber.owed.len()
                ));
            }
            let cleared = |topic: Topic, floor: Which| {
                let later = self.messages.iter().skip(floor + 1);
                later
                    .into_iter()
                    .any(|message| message.topic == topic && message.clears)
            };
            if let Some((topic, floor)) = subscriber
                .replays
                .iter()
                .find(|(topic, floor)| !cleared(**topic, **floor))
            {
                return Err(format!(
                    "client {who}: subscribed to {topic:?} when message {floor} was retained, and got nothing"
                ));
            }
            for (which, message) in self.messages.iter().enumerate() {
                if let Some(WillFate::Due(since)) = message.will
                    && subscriber
                        .surely(message.topic, since)
                        .is_some_and(|qos| qos.min(message.qos) > QoS::AtMostOnce)
                    && !subscriber.seen.deliveries.contains_key(&which)
                {
                    return Err(format!(
                        "client {who}: the will {which} of client {} never came; its connection, since event {since}, broke",
                        message.publisher
                    ));
                }
            }
        }
        if let Some(which) = self.owed_to_group.first() {
            return Err(format!(
                "message {which} was acknowledged and came to no member of the share group"
            ));
        }
        Ok(())
    }
}

/// Order is promised per publisher, topic, QoS and subscription that is not shared.
fn message_is_ordered(topic: Topic) -> bool {
    matches!(topic, Topic::Plain(_))
}

impl Subscriber {
    /// The highest QoS it was surely subscribed with from before event `from` until now.
    fn surely(&self, topic: Topic, from: u64) -> Option<QoS> {
        self.subscriptions
            .iter()
            .filter(|(filter, subscription)| filter.matches(topic) && subscription.since < from)
            .filter_map(|(_, subscription)| match subscription.state {
                Known::Yes(qos) => Some(qos),
                Known::No | Known::Unsure => None,
            })
            .max()
    }

    /// Whether it may have had a subscription at any time since event `from`.
    fn may_have(&self, topic: Topic, from: u64) -> bool {
        self.subscriptions.iter().any(|(filter, subscription)| {
            filter.matches(topic) && (subscription.state != Known::No || subscription.since >= from)
        })
    }
}
