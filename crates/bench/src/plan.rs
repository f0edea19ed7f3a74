//! From a workload to clients: who publishes what, and who is to receive it.

use martlet_codec::QoS;

use crate::connection::ClientPlan;
use crate::options::{Options, Workload};
use crate::publisher::{Numbers, PublisherPlan};
use crate::receiver::{Order, ReceiverPlan};
use crate::shared::{Flow, PENDING_MAX, Shared, Stream, Topic};

/// Clients in the order in which they connect: receivers first, so that nothing is published into the void.
pub(crate) struct Plan {
    pub(crate) receivers: Vec<ClientPlan>,
    pub(crate) publishers: Vec<ClientPlan>,
}

/// Makes the clients of a traffic workload, and notes their flows and streams.
pub(crate) fn traffic(options: &Options, shared: &mut Shared) -> Plan {
    let publishers = options.publishers();
    let subscribers = options.subscribers();
    let prefix = &options.prefix;
    let recipients = match options.workload {
        Workload::FanOut => subscribers,
        Workload::Pairs | Workload::FanIn | Workload::Shared => 1,
    };
    let mut plan = Plan {
        receivers: Vec::new(),
        publishers: Vec::new(),
    };
    for index in 0..publishers {
        let topic = Topic::plain(format!("{prefix}/t/{index:05}"));
        let stream = Stream::new(index, recipients, topic.clone());
        shared.streams.push(match options.workload {
            Workload::Shared => stream.accounted(),
            Workload::Pairs | Workload::FanOut | Workload::FanIn => stream,
        });
        let mut window = options.window();
        if recipients > 1 {
            window = window.min(PENDING_MAX as u32);
        }
        shared.flows.push(Flow {
            window,
            ..Flow::default()
        });
        plan.publishers.push(ClientPlan {
            publisher: Some(PublisherPlan {
                flow: index,
                stream: index,
                topic,
                numbers: Numbers::None,
                response: None,
                qos: options.qos,
                retain: false,
                count: options.count,
                turn: (index, publishers),
            }),
            ..ClientPlan::idle(format!("{}-p{index}", client_prefix(options)))
        });
    }
    for index in 0..subscribers {
        let (filter, stream, streams, order) = match options.workload {
            Workload::Pairs => (format!("{prefix}/t/{index:05}"), index, 1, Order::Every),
            Workload::FanOut => (format!("{prefix}/t/00000"), 0, publishers, Order::Every),
            Workload::FanIn => (format!("{prefix}/t/+"), 0, publishers, Order::Every),
            Workload::Shared => {
                let filter = format!("$share/bench/{prefix}/t/+");
                (filter, 0, publishers, Order::Increasing)
            }
        };
        plan.receivers.push(receiver(
            options,
            index,
            vec![filter],
            ReceiverPlan {
                stream,
                streams,
                order,
                qos: options.qos,
                retained: false,
            },
        ));
    }
    plan
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
        qos: plan.qos.max(QoS::AtMostOnce),
        receiver: Some(plan),
        ..ClientPlan::idle(format!("{}-s{index}", client_prefix(options)))
    }
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
