//! Many filters with wildcards: what a subscription costs, what a delivery costs among all of them, and leaving them.

use crate::engine::Engine;
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::{Plan, publisher, receiver};
use crate::progress::Progress;
use crate::publisher::Numbers;
use crate::receiver::{Order, ReceiverPlan};
use crate::report::Report;
use crate::run::{extras, measure, report, traffic_figures};
use crate::shared::{Flow, Shared, Stream, Topic};

use super::{add, cost, read};

pub(crate) fn wildcard(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    let plan = plan(options, &mut engine.shared);
    let mut figures = Vec::new();
    engine.open(plan.receivers)?;
    let receivers = engine.connections.len();

    engine.phase("subscribing");
    let filters = |index: usize| -> Vec<String> {
        numbers_of(options, index as u32)
            .map(|number| format!("{}/w/{number:07}/+", options.prefix))
            .collect()
    };
    let before = read(options, &engine);
    for index in 0..receivers {
        let filters = filters(index);
        engine.connections[index].subscribe(&filters)?;
        engine.write_all(index)?;
        engine.wait_until_ready(index)?;
    }
    let span = read(options, &engine).since(&before);
    let count = f64::from(options.filters);
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_subscribe",
            "generator_cpu_micros_per_subscribe",
            "subscribes_per_second",
        ],
        [
            "broker CPU per filter subscribed",
            "generator CPU per filter",
            "filters subscribed",
        ],
        &span,
        count,
    );
    add(
        &mut figures,
        "bytes_per_wildcard_subscription",
        "memory per subscription",
        span.grown.map(|bytes| bytes / count),
        "B",
    );

    extras(options, &mut engine)?;
    let first = engine.connections.len();
    engine.open(plan.publishers)?;
    let span = measure(options, &mut engine)?;
    engine.judge()?;
    traffic_figures(options, &span, &mut figures);

    engine.phase("unsubscribing");
    let before = read(options, &engine);
    for index in 0..receivers.min(first) {
        let filters = filters(index);
        engine.connections[index].unsubscribe(&filters)?;
        engine.connections[index].write(&mut engine.shared)?;
        engine.wait_until_ready(0)?;
    }
    let span = read(options, &engine).since(&before);
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_unsubscribe",
            "generator_cpu_micros_per_unsubscribe",
            "unsubscribes_per_second",
        ],
        [
            "broker CPU per filter unsubscribed",
            "generator CPU per filter",
            "filters unsubscribed",
        ],
        &span,
        count,
    );
    let report = report(options, &engine, figures);
    engine.close()?;
    Ok(report)
}

/// Filters of each subscriber; the last one has those that are left over.
fn per_subscriber(options: &Options) -> u32 {
    options.filters.div_ceil(options.subscribers())
}

/// The numbers in the filters of one subscriber.
fn numbers_of(options: &Options, index: u32) -> std::ops::Range<u32> {
    let each = per_subscriber(options);
    let end = index.saturating_add(1).saturating_mul(each);
    (index * each).min(options.filters)..end.min(options.filters)
}

/// Each publisher has a stream to each subscriber, and draws topics from those of all.
fn plan(options: &Options, shared: &mut Shared) -> Plan {
    let publishers = options.publishers();
    let subscribers = options.subscribers();
    let topic = Topic {
        prefix: format!("{}/w/", options.prefix),
        digits: 7,
        suffix: "/v".to_owned(),
    };
    let mut plan = Plan::default();
    for index in 0..publishers {
        shared.flows.push(Flow {
            window: options.window(),
            ..Flow::default()
        });
        for _ in 0..subscribers {
            shared.streams.push(Stream::new(index, 1, topic.clone()));
        }
        let mut client = publisher(options, index, topic.clone());
        if let Some(publisher) = &mut client.publisher {
            publisher.stream = index * subscribers;
            publisher.numbers = Numbers::Drawn {
                count: options.topics.unwrap_or(options.filters),
                per_stream: per_subscriber(options),
            };
        }
        plan.publishers.push(client);
    }
    for index in 0..subscribers {
        let expected = ReceiverPlan {
            stream: index,
            streams: publishers,
            stride: subscribers,
            order: Order::Every,
            qos: options.qos,
            retained: false,
        };
        plan.receivers
            .push(receiver(options, index, Vec::new(), expected));
    }
    plan
}
