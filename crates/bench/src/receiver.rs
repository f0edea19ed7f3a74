//! The receiving half of a client: every message is judged by stream, order, topic, QoS, flags and content.

use martlet_codec::{Publish, QoS};

use crate::payload;
use crate::shared::Shared;
use crate::verdict::Breach;

/// What order a receiver may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// It gets every message of its streams, in order.
    Every,
    /// It gets some messages of its streams, in order: a member of a shared subscription.
    Increasing,
    /// It gets messages in any order: retained ones.
    Any,
}

/// What a receiver expects.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverPlan {
    /// Its first stream.
    pub(crate) stream: u32,
    /// How many streams it receives.
    pub(crate) streams: u32,
    /// How far one of its streams is from the next.
    pub(crate) stride: u32,
    /// In which order.
    pub(crate) order: Order,
    /// At which QoS.
    pub(crate) qos: QoS,
    /// With which RETAIN flag.
    pub(crate) retained: bool,
}

/// The receiving half of a client.
pub(crate) struct Receiver {
    plan: ReceiverPlan,
    /// The connection, for words.
    index: u32,
    /// By stream: the sequence number that is due.
    due: Vec<u32>,
}

impl Receiver {
    pub(crate) fn new(plan: ReceiverPlan, index: u32) -> Self {
        Self {
            due: vec![0; plan.streams as usize],
            index,
            plan,
        }
    }

    /// Judges one message.
    #[inline]
    pub(crate) fn receive(&mut self, publish: &Publish<'_>, shared: &mut Shared) {
        let index = self.index;
        let Some(header) = payload::read(publish.payload, shared.payload) else {
            shared.verdict.add(Breach::Corrupted, 1, || {
                let len = publish.payload.len();
                format!("receiver {index}: {len} bytes on {}", publish.topic)
            });
            return;
        };
        let offset = header.stream.wrapping_sub(self.plan.stream);
        let (place, between) = match self.plan.stride {
            0 | 1 => (offset, 0),
            stride => (offset / stride, offset % stride),
        };
        let own = self.due.get_mut(place as usize).filter(|_| between == 0);
        let Some(due) = own else {
            shared.verdict.add(Breach::Misdirected, 1, || {
                format!("receiver {index}: stream {} is not its own", header.stream)
            });
            return;
        };
        let topic = &shared.streams[header.stream as usize].topic;
        if !topic.is(publish.topic, header.number)
            || publish.qos != self.plan.qos
            || publish.retain != self.plan.retained
            || publish.dup
        {
            shared.verdict.add(Breach::Misdirected, 1, || {
                let Publish {
                    topic,
                    qos,
                    retain,
                    dup,
                    ..
                } = publish;
                format!("receiver {index}: {topic} with QoS {qos:?}, retain {retain}, dup {dup}")
            });
        }
        match self.plan.order {
            Order::Every if header.sequence == *due => *due += 1,
            Order::Every if header.sequence > *due => {
                let from = *due;
                *due = header.sequence.saturating_add(1);
                shared
                    .verdict
                    .skipped(index, header.stream, from, header.sequence);
            }
            Order::Increasing if header.sequence >= *due => *due = header.sequence + 1,
            Order::Any => {}
            Order::Every => {
                let due = *due;
                let verdict = &mut shared.verdict;
                if !verdict.earlier(index, header.stream, header.sequence, due) {
                    return;
                }
            }
            Order::Increasing => {
                let due = *due;
                shared.verdict.add(Breach::Reordered, 1, || {
                    format!("receiver {index}: {header:?} after {}", due - 1)
                });
            }
        }
        shared.arrived(index, &header);
    }

    /// When all is over: notes what never came.
    pub(crate) fn settle(&self, shared: &mut Shared) {
        if self.plan.order != Order::Every {
            return;
        }
        for (offset, &due) in self.due.iter().enumerate() {
            let stream = self.plan.stream + offset as u32 * self.plan.stride.max(1);
            let sent = shared.streams[stream as usize].sent;
            if due < sent {
                let index = self.index;
                shared.verdict.add(Breach::Lost, u64::from(sent - due), || {
                    format!("receiver {index}, stream {stream}: nothing after {due} of {sent}")
                });
            }
        }
    }
}
