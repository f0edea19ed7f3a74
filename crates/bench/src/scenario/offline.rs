//! Messages for sessions whose clients are away: queueing, and draining when they come back.

use martlet_codec::QoS;

use crate::connection::ClientPlan;
use crate::engine::{Engine, Until};
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::{forget_sessions, publisher, receiver};
use crate::progress::Progress;
use crate::publisher::Numbers;
use crate::receiver::{Order, ReceiverPlan};
use crate::report::Report;
use crate::run::report;
use crate::shared::{Flow, Stream, Topic};

use super::{add, cost, read};

/// Messages for each session where no number is given: half of the 1,000 that brokers queue with their defaults.
const EACH: u32 = 500;

pub(crate) fn offline(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    // A QoS 0 message need not be queued for anybody.
    let options = &Options {
        qos: options.qos.max(QoS::AtLeastOnce),
        ..options.clone()
    };
    let mut engine = Engine::new(options, progress)?;
    let publishers = options.publishers();
    let sessions = options.subscribers();
    let of_publisher = sessions / publishers;
    let each = options.count.unwrap_or(EACH);
    let total = f64::from(sessions) * f64::from(each);
    let topic = |index: u32| Topic {
        prefix: format!("{}/o/{index:05}/", options.prefix),
        digits: 7,
        suffix: String::new(),
    };
    let mut senders = Vec::new();
    for index in 0..publishers {
        engine.shared.flows.push(Flow {
            window: options.window(),
            ..Flow::default()
        });
        for _ in 0..of_publisher {
            engine
                .shared
                .streams
                .push(Stream::new(index, 0, topic(index)));
        }
        let mut client = publisher(options, index, topic(index));
        if let Some(publisher) = &mut client.publisher {
            publisher.stream = index * of_publisher;
            publisher.numbers = Numbers::Turns {
                count: of_publisher,
            };
            publisher.count = each.checked_mul(of_publisher);
        }
        senders.push(client);
    }
    let receivers = |filters: bool| -> Vec<ClientPlan> {
        (0..sessions)
            .map(|index| {
                let name = topic(index / of_publisher).name(index % of_publisher);
                let expected = ReceiverPlan {
                    stream: index,
                    streams: 1,
                    stride: 1,
                    order: Order::Every,
                    qos: options.qos,
                    retained: false,
                };
                let filters = if filters { vec![name] } else { Vec::new() };
                let mut client = receiver(options, index, filters, expected);
                client.clean = false;
                client
            })
            .collect()
    };
    let mut figures = Vec::new();
    engine.phase("subscribing");
    engine.open(receivers(true))?;
    engine.close()?;

    engine.open(senders)?;
    engine.phase("queueing");
    let before = read(options, &engine);
    engine.start(None)?;
    engine.traffic(Until::Done)?;
    engine.drain()?;
    engine.flush()?;
    let span = read(options, &engine).since(&before);
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_queued_message",
            "generator_cpu_micros_per_queued_message",
            "queued_per_second",
        ],
        [
            "broker CPU per message queued",
            "generator CPU per message",
            "queued",
        ],
        &span,
        total,
    );
    add(
        &mut figures,
        "bytes_per_queued_message",
        "memory per queued message",
        span.grown.map(|bytes| bytes / total),
        "B",
    );

    engine.phase("draining");
    let before = read(options, &engine);
    engine.open(receivers(false))?;
    engine.await_deliveries(u64::from(sessions) * u64::from(each))?;
    engine.flush()?;
    let span = read(options, &engine).since(&before);
    engine.judge()?;
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_drained_message",
            "generator_cpu_micros_per_drained_message",
            "drained_per_second",
        ],
        [
            "broker CPU per message drained",
            "generator CPU per message",
            "drained",
        ],
        &span,
        total,
    );
    let report = report(options, &engine, figures);
    engine.phase("forgetting");
    engine.close()?;
    engine.open(forget_sessions(options, sessions))?;
    engine.close()?;
    Ok(report)
}
