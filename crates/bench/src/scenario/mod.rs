//! Workloads that are more than traffic: each measures several things in turn.
//!
//! They are made of the phases of [`Engine`]: connect, subscribe, publish, wait, leave, with a [`Reading`] between.

mod connect;
mod idle;
mod offline;
mod retained;
mod takeover;
mod wildcard;

pub(crate) use connect::connect;
pub(crate) use idle::idle;
pub(crate) use offline::offline;
pub(crate) use retained::retained;
pub(crate) use takeover::takeover;
pub(crate) use wildcard::wildcard;

use crate::engine::Engine;
use crate::meter::{Reading, Span};
use crate::options::Options;
use crate::report::Figure;

/// Reads the meters now.
pub(crate) fn read(options: &Options, engine: &Engine<'_>) -> Reading {
    Reading::take(options.pid, engine.shared.counters)
}

/// Figures of one phase in which `count` things were done: CPU of both sides for each, and how many a second.
pub(crate) fn cost(
    figures: &mut Vec<Figure>,
    keys: [&'static str; 3],
    labels: [&'static str; 3],
    span: &Span,
    count: f64,
) {
    let micros = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e6 / count);
    add(figures, keys[0], labels[0], micros(span.broker), "µs");
    add(figures, keys[1], labels[1], micros(span.own), "µs");
    add(
        figures,
        keys[2],
        labels[2],
        Some(count / span.seconds),
        "/s",
    );
}

/// Appends a figure, if there is a value for it.
pub(crate) fn add(
    figures: &mut Vec<Figure>,
    key: &'static str,
    label: &'static str,
    value: Option<f64>,
    unit: &'static str,
) {
    if let Some(value) = value.filter(|value| value.is_finite()) {
        figures.push(Figure {
            key,
            label,
            value,
            unit,
        });
    }
}
