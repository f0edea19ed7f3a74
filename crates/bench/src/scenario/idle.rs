//! Clients that are there and do nothing: memory for each, memory of a subscription, CPU while nothing happens, and
//! what is left when they are gone. Every client pings once a minute while it idles.

use std::time::{Duration, Instant};

use crate::connection::ClientPlan;
use crate::engine::{Engine, Until};
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::client_prefix;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::report;

use super::{add, cost, read};

/// How often a client that does nothing says that it is there.
const KEEP_ALIVE_SECS: f64 = 60.0;

/// Pings are sent so often.
const SLICE: Duration = Duration::from_millis(10);

/// Clients that come and go before, so that what a broker allocates once is not counted.
const WARM_UP: u32 = 200;

pub(crate) fn idle(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    let prefix = client_prefix(options);
    let plans = |from: u32, to: u32| {
        (from..to)
            .map(|index| ClientPlan::idle(format!("{prefix}-i{index}")))
            .collect()
    };
    let count = options.subscribers();
    let each = f64::from(count);
    let mut figures = Vec::new();

    engine.open(plans(count, count + WARM_UP))?;
    engine.close()?;

    engine.phase("connecting");
    let before = read(options, &engine);
    engine.open(plans(0, count))?;
    let connected = read(options, &engine);
    let span = connected.since(&before);
    add(
        &mut figures,
        "bytes_per_connection",
        "memory per idle connection",
        span.grown.map(|bytes| bytes / each),
        "B",
    );
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_connection",
            "generator_cpu_micros_per_connection",
            "connections_per_second",
        ],
        [
            "broker CPU per connection",
            "generator CPU per connection",
            "connections",
        ],
        &span,
        each,
    );

    engine.phase("subscribing");
    for (index, connection) in engine.connections.iter_mut().enumerate() {
        connection.subscribe(&[format!("{}/i/{index:07}/state", options.prefix)])?;
    }
    engine.write_all(0)?;
    engine.wait_until_ready(0)?;
    let subscribed = read(options, &engine);
    let span = subscribed.since(&connected);
    add(
        &mut figures,
        "bytes_per_exact_subscription",
        "memory per subscription without wildcard",
        span.grown.map(|bytes| bytes / each),
        "B",
    );

    engine.phase("idling");
    keep_alive(options, &mut engine)?;
    let span = read(options, &engine).since(&subscribed);
    add(
        &mut figures,
        "idle_core_percent",
        "CPU while they keep alive",
        span.broker.map(|cpu| cpu / span.seconds * 100.0),
        "% of a core",
    );

    engine.phase("leaving");
    engine.close()?;
    engine.traffic(Until::Elapsed(options.warm_up))?;
    let span = read(options, &engine).since(&before);
    let at_first = span.resident.zip(span.grown);
    let left = at_first.map(|(now, grown)| grown / (now as f64 - grown) * 100.0);
    add(
        &mut figures,
        "memory_left_percent",
        "memory left when all are gone, of what was there before",
        left,
        "%",
    );
    Ok(report(options, &engine, figures))
}

/// Time goes by in which every client sends a PINGREQ once a minute.
fn keep_alive(options: &Options, engine: &mut Engine<'_>) -> Result<(), Failure> {
    let clients = engine.connections.len();
    let begin = Instant::now();
    let mut pinged = 0;
    while begin.elapsed() < options.duration {
        let share = begin.elapsed().as_secs_f64() / KEEP_ALIVE_SECS;
        let due = (clients as f64 * share) as usize;
        while pinged < due {
            let connection = &mut engine.connections[pinged % clients];
            connection.ping()?;
            connection.write(&mut engine.shared)?;
            pinged += 1;
        }
        engine.traffic(Until::Elapsed(SLICE))?;
    }
    Ok(())
}
