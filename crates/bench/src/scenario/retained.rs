//! Retained messages, each on a topic of its own: storing them, fetching them all with one subscription of each of the
//! subscribers, one after the other, removing them.

use martlet_codec::QoS;

use crate::engine::{Engine, Until};
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::{publisher, receiver};
use crate::progress::Progress;
use crate::publisher::Numbers;
use crate::receiver::{Order, ReceiverPlan};
use crate::report::Report;
use crate::run::report;
use crate::shared::{Flow, Stream, Topic};

use super::{add, cost, read};

/// Messages of each publisher where none are given: 100,000 of ten.
const EACH: u32 = 10_000;

/// Removals between two waits.
const REMOVED_AT_A_TIME: u32 = 1_000;

pub(crate) fn retained(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    let publishers = options.publishers();
    let each = options.count.unwrap_or(EACH);
    let total = f64::from(publishers) * f64::from(each);
    let topic = |index: u32| Topic {
        prefix: format!("{}/r/{index:05}/", options.prefix),
        digits: 10,
        suffix: String::new(),
    };
    let mut clients = Vec::new();
    for index in 0..publishers {
        engine.shared.flows.push(Flow {
            window: if options.qos > QoS::AtMostOnce {
                options.window()
            } else {
                u32::MAX
            },
            ..Flow::default()
        });
        engine
            .shared
            .streams
            .push(Stream::new(index, 0, topic(index)).accounted());
        let mut client = publisher(options, index, topic(index));
        if let Some(publisher) = &mut client.publisher {
            publisher.numbers = Numbers::Ascending;
            publisher.retain = true;
            publisher.count = Some(each);
        }
        clients.push(client);
    }
    engine.open(clients)?;
    let mut figures = Vec::new();

    engine.phase("storing");
    let before = read(options, &engine);
    engine.start(None)?;
    engine.traffic(Until::Done)?;
    engine.drain()?;
    engine.flush()?;
    let span = read(options, &engine).since(&before);
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_retained_store",
            "generator_cpu_micros_per_retained_store",
            "retained_stores_per_second",
        ],
        [
            "broker CPU per message stored",
            "generator CPU per message",
            "stored",
        ],
        &span,
        total,
    );
    add(
        &mut figures,
        "bytes_per_retained_message",
        "memory per retained message",
        span.grown.map(|bytes| bytes / total),
        "B",
    );

    engine.phase("fetching");
    let before = read(options, &engine);
    let filter = format!("{}/r/+/+", options.prefix);
    let mut span = before.since(&before);
    for index in 0..options.subscribers() {
        engine.shared.forget_arrivals();
        let expected = ReceiverPlan {
            stream: 0,
            streams: publishers,
            stride: 1,
            order: Order::Any,
            qos: options.qos,
            retained: true,
        };
        let filters = vec![filter.clone()];
        engine.open(vec![receiver(options, index, filters, expected)])?;
        let each_time = u64::from(publishers) * u64::from(each);
        engine.await_deliveries(each_time * (u64::from(index) + 1))?;
        span = read(options, &engine).since(&before);
        engine.flush()?;
        engine.judge()?;
        // Nobody is to get what is removed.
        if let Some(mut subscriber) = engine.connections.pop() {
            subscriber.leave()?;
            subscriber.write(&mut engine.shared)?;
        }
    }
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_retained_fetch",
            "generator_cpu_micros_per_retained_fetch",
            "retained_fetches_per_second",
        ],
        [
            "broker CPU per message fetched",
            "generator CPU per message",
            "fetched",
        ],
        &span,
        total * f64::from(options.subscribers()),
    );

    engine.phase("removing");
    for from in (0..each).step_by(REMOVED_AT_A_TIME as usize) {
        for index in 0..publishers {
            let topic = topic(index);
            let connection = &mut engine.connections[index as usize];
            for number in from..each.min(from + REMOVED_AT_A_TIME) {
                connection.remove_retained(&topic.name(number))?;
            }
        }
        engine.flush()?;
    }
    let report = report(options, &engine, figures);
    engine.close()?;
    Ok(report)
}
