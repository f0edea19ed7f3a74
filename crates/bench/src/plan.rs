//! From a workload to clients: who publishes what, and who is to receive it.

use crate::connection::{ClientPlan, ResponderPlan};
use crate::options::{Options, Workload};
use crate::publisher::{Numbers, PublisherPlan};
use crate::receiver::{Order, ReceiverPlan};
use crate::shared::{Flow, PENDING_MAX, Shared, Stream, Topic};

/// Clients in the order in which they connect: receivers first, so that nothing is published into the void.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) receivers: Vec<ClientPlan>,
    pub(crate) publishers: Vec<ClientPlan>,
}

/// Makes the clients of pairs, fan-out, fan-in and shared, and notes their flows and streams.
pub(crate) fn traffic(options: &Options, shared: &mut Shared) -> Plan {
    let publishers = options.publishers();
    let subscribers = options.subscribers();
    let prefix = &options.prefix;
    let recipients = match options.workload {
        Workload::FanOut => subscribers,
        _ => 1,
    };
    let mut plan = Plan::default();
    for index in 0..publishers {
        let topic = Topic::plain(format!("{prefix}/t/{index:05}"));
        let stream = Stream::new(index, recipients, topic.clone());
        shared.streams.push(match options.workload {
            Workload::Shared => stream.accounted(),
            _ => stream,
        });
        let mut window = options.window();
        if recipients > 1 {
            window = window.min(PENDING_MAX as u32);
        }
        shared.flows.push(Flow {
            window,
            ..Flow::default()
        });
        plan.publishers.push(publisher(options, index, topic));
    }
    for index in 0..subscribers {
        let (filter, stream, streams, order) = match options.workload {
            Workload::FanOut if publishers == 1 => {
                (format!("{prefix}/t/00000"), 0, 1, Order::Every)
            }
            Workload::FanOut | Workload::FanIn => {
                (format!("{prefix}/t/+"), 0, publishers, Order::Every)
            }
            Workload::Shared => {
                let filter = format!("$share/bench/{prefix}/t/+");
                (filter, 0, publishers, Order::Increasing)
            }
            _ => (format!("{prefix}/t/{index:05}"), index, 1, Order::Every),
        };
        let expected = ReceiverPlan {
            stream,
            streams,
            stride: 1,
            order,
            qos: options.qos,
            retained: false,
        };
        let mut client = receiver(options, index, vec![filter], expected);
        client.clean = !options.persistent;
        plan.receivers.push(client);
    }
    plan
}

/// Requesters and responders. What a requester gets back is its own message, on a topic that no other message has.
pub(crate) fn requests(options: &Options, shared: &mut Shared) -> Plan {
    let prefix = &options.prefix;
    let mut plan = Plan::default();
    for index in 0..options.publishers() {
        let request = Topic::plain(format!("{prefix}/q/{index:05}"));
        let response = Topic {
            prefix: format!("{prefix}/a/{index:05}/"),
            digits: 10,
            suffix: String::new(),
        };
        shared.streams.push(Stream::new(index, 1, response.clone()));
        shared.flows.push(Flow {
            window: options.window(),
            ..Flow::default()
        });
        let mut client = publisher(options, index, request.clone());
        if let Some(publisher) = &mut client.publisher {
            publisher.numbers = Numbers::Ascending;
            publisher.response = Some(response.clone());
        }
        client.filters = vec![format!("{prefix}/a/{index:05}/+")];
        client.receiver = Some(ReceiverPlan {
            stream: index,
            streams: 1,
            stride: 1,
            order: Order::Every,
            qos: options.qos,
            retained: false,
        });
        plan.publishers.push(client);
        plan.receivers.push(ClientPlan {
            filters: vec![request.name(0)],
            qos: options.qos,
            responder: Some(ResponderPlan {
                topic: response,
                qos: options.qos,
                window: options.window().saturating_mul(2),
            }),
            ..ClientPlan::idle(format!("{}-s{index}", client_prefix(options)))
        });
    }
    plan
}

/// A publishing client with one stream.
pub(crate) fn publisher(options: &Options, index: u32, topic: Topic) -> ClientPlan {
    ClientPlan {
        qos: options.qos,
        publisher: Some(PublisherPlan {
            flow: index,
            stream: index,
            topic,
            numbers: Numbers::None,
            response: None,
            qos: options.qos,
            retain: false,
            count: options.count,
            turn: (index, options.publishers()),
        }),
        ..ClientPlan::idle(format!("{}-p{index}", client_prefix(options)))
    }
}

/// A subscribing client.
pub(crate) fn receiver(
    options: &Options,
    index: u32,
    filters: Vec<String>,
    plan: ReceiverPlan,
) -> ClientPlan {
    ClientPlan {
        filters,
        qos: plan.qos,
        receiver: Some(plan),
        ..ClientPlan::idle(format!("{}-s{index}", client_prefix(options)))
    }
}

/// Clients that end the sessions of `count` receivers by coming once more, with a clean start.
pub(crate) fn forget_sessions(options: &Options, count: u32) -> Vec<ClientPlan> {
    (0..count)
        .map(|index| ClientPlan::idle(format!("{}-s{index}", client_prefix(options))))
        .collect()
}

/// What client identifiers begin with: letters, digits and hyphens, which every broker takes.
pub(crate) fn client_prefix(options: &Options) -> String {
    options
        .prefix
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect()
}
