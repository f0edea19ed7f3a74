//! Connecting: TCP, CONNECT, CONNACK, DISCONNECT, and the broker closes. Some clients are on their way at a time.

use crate::connection::{ClientPlan, State};
use crate::engine::{Engine, TURN};
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::client_prefix;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::report;

use super::{cost, read};

/// Clients on their way at a time.
const AT_A_TIME: u32 = 32;

/// Connections before the measurement.
const WARM_UP: u32 = 500;

pub(crate) fn connect(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    engine.phase("warming up");
    cycle(options, &mut engine, 0, WARM_UP)?;
    engine.phase("measuring");
    let count = options.count.unwrap_or(options.subscribers());
    let before = read(options, &engine);
    cycle(options, &mut engine, WARM_UP, count)?;
    let span = read(options, &engine).since(&before);
    let mut figures = Vec::new();
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
        f64::from(count),
    );
    Ok(report(options, &engine, figures))
}

/// `count` clients come and go.
fn cycle(
    options: &Options,
    engine: &mut Engine<'_>,
    first: u32,
    count: u32,
) -> Result<(), Failure> {
    let plan =
        |index: u32| ClientPlan::idle(format!("{}-c{}", client_prefix(options), first + index));
    let mut begun = 0;
    let mut over = 0;
    while over < count {
        for seat in 0..AT_A_TIME as usize {
            let state = engine
                .connections
                .get(seat)
                .map(|connection| connection.state);
            match state {
                None if begun < count => {
                    engine.connect(plan(begun))?;
                    begun += 1;
                }
                Some(State::Ready) => {
                    engine.connections[seat].leave()?;
                    engine.connections[seat].write(&mut engine.shared)?;
                }
                Some(State::Closed) if !engine.connections[seat].counted => {
                    engine.connections[seat].counted = true;
                    over += 1;
                    if begun < count {
                        engine.reconnect(seat, plan(begun))?;
                        begun += 1;
                    }
                }
                _ => {}
            }
        }
        if over < count {
            engine.turn(TURN)?;
        }
    }
    engine.connections.clear();
    Ok(())
}
