//! Taking over: clients that come with the identifier of one who is there, whom the broker must then send away
//! [MQTT-3.1.4-3]. Some are on their way at a time.

use crate::connection::{ClientPlan, State};
use crate::engine::{Engine, TURN};
use crate::failure::Failure;
use crate::options::Options;
use crate::plan::client_prefix;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::report;

use super::{cost, read};

/// Identifiers that are fought for at a time.
const AT_A_TIME: u32 = 32;

/// Takeovers before the measurement.
const WARM_UP: u32 = 200;

pub(crate) fn takeover(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    let plan = |index: usize| ClientPlan::idle(format!("{}-t{index}", client_prefix(options)));
    engine.open((0..AT_A_TIME as usize).map(plan).collect())?;
    let mut seats: Vec<Seats> = (0..AT_A_TIME as usize)
        .map(|holder| Seats {
            holder,
            challenger: holder + AT_A_TIME as usize,
            contested: false,
        })
        .collect();
    engine.phase("warming up");
    contest(&mut engine, &mut seats, WARM_UP, &plan)?;
    engine.phase("measuring");
    let count = options.count.unwrap_or(options.subscribers());
    let before = read(options, &engine);
    contest(&mut engine, &mut seats, count, &plan)?;
    let span = read(options, &engine).since(&before);
    let mut figures = Vec::new();
    cost(
        &mut figures,
        [
            "broker_cpu_micros_per_takeover",
            "generator_cpu_micros_per_takeover",
            "takeovers_per_second",
        ],
        [
            "broker CPU per takeover",
            "generator CPU per takeover",
            "takeovers",
        ],
        &span,
        f64::from(count),
    );
    engine.close()?;
    Ok(report(options, &engine, figures))
}

/// The two connections that may have one identifier.
struct Seats {
    holder: usize,
    challenger: usize,
    contested: bool,
}

/// `count` times a client takes over from another.
fn contest(
    engine: &mut Engine<'_>,
    seats: &mut [Seats],
    count: u32,
    plan: &dyn Fn(usize) -> ClientPlan,
) -> Result<(), Failure> {
    let (mut begun, mut over) = (0, 0);
    while over < count {
        for (index, seats) in seats.iter_mut().enumerate() {
            if !seats.contested && begun < count {
                engine.connections[seats.holder].expect_the_end();
                if seats.challenger < engine.connections.len() {
                    engine.reconnect(seats.challenger, plan(index))?;
                } else {
                    engine.connect(plan(index))?;
                }
                seats.contested = true;
                begun += 1;
            } else if seats.contested
                && engine.connections[seats.challenger].state == State::Ready
                && engine.connections[seats.holder].state == State::Closed
            {
                std::mem::swap(&mut seats.holder, &mut seats.challenger);
                seats.contested = false;
                over += 1;
            }
        }
        if over < count {
            engine.turn(TURN)?;
        }
    }
    Ok(())
}
