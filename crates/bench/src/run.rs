//! A run from its first connection to its report.

use martlet_codec::{QoS, Version};

use crate::engine::{Engine, Until};
use crate::failure::Failure;
use crate::meter::{Reading, Span};
use crate::options::Options;
use crate::plan;
use crate::progress::Progress;
use crate::report::{Figure, Percentiles, Report};

/// Runs a workload against a broker.
///
/// # Errors
/// Whatever keeps the run from an honest figure, above all a broken promise of delivery.
pub fn run(options: &Options, progress: &mut dyn FnMut(&Progress)) -> Result<Report, Failure> {
    options.check()?;
    if let Some(pid) = options.pid
        && crate::process::CpuTime::of(pid).is_none()
    {
        return Err(Failure::Options(format!(
            "there is no process {pid} to be watched"
        )));
    }
    let mut engine = Engine::new(options, progress)?;
    let plan = plan::traffic(options, &mut engine.shared);
    engine.open(plan.receivers)?;
    engine.open(plan.publishers)?;
    let span = measure(options, &mut engine)?;
    engine.phase("closing");
    engine.judge()?;
    let report = traffic_report(options, &engine, &span);
    engine.close()?;
    Ok(report)
}

/// Traffic with a warm-up, or the whole of a bounded number of messages; everything has arrived at the end.
fn measure(options: &Options, engine: &mut Engine<'_>) -> Result<Span, Failure> {
    let read = |engine: &Engine<'_>| Reading::take(options.pid, engine.shared.counters);
    let span = if options.count.is_some() {
        engine.phase("measuring");
        engine.shared.measured_from = 0;
        let before = read(engine);
        engine.start(options.rate)?;
        engine.traffic(Until::Done)?;
        read(engine).since(&before)
    } else {
        engine.phase("warming up");
        engine.start(options.rate)?;
        engine.traffic(Until::Elapsed(options.warm_up))?;
        engine.phase("measuring");
        engine.shared.measured_from = engine.shared.tick();
        let before = read(engine);
        engine.traffic(Until::Elapsed(options.duration))?;
        read(engine).since(&before)
    };
    engine.phase("draining");
    engine.drain()?;
    Ok(span)
}

/// What was run, in the words of a report.
pub(crate) fn parameters(options: &Options) -> Vec<(&'static str, String)> {
    let version = match options.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    let window = match options.window() {
        u32::MAX => "none".to_owned(),
        window => window.to_string(),
    };
    let mut parameters = vec![
        ("publishers", options.publishers().to_string()),
        ("subscribers", options.subscribers().to_string()),
        ("qos", (options.qos as u8).to_string()),
        ("version", version.to_owned()),
        ("payload", options.payload.to_string()),
        ("window", window),
    ];
    if let Some(rate) = options.rate {
        parameters.push(("rate", rate.to_string()));
    }
    if let Some(count) = options.count {
        parameters.push(("count", count.to_string()));
    }
    parameters
}

fn traffic_report(options: &Options, engine: &Engine<'_>, span: &Span) -> Report {
    let mut figures = Vec::new();
    let mut add = |key, label, value: Option<f64>, unit| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            figures.push(Figure {
                key,
                label,
                value,
                unit,
            });
        }
    };
    let delivered = span.delivered as f64;
    let per_delivery = |seconds: Option<f64>| {
        seconds
            .filter(|_| span.delivered > 0)
            .map(|seconds| seconds * 1e6 / delivered)
    };
    add(
        "broker_cpu_micros_per_delivery",
        "broker CPU per delivered message",
        per_delivery(span.broker),
        "µs",
    );
    add(
        "generator_cpu_micros_per_delivery",
        "generator CPU per delivered message",
        per_delivery(span.own),
        "µs",
    );
    add(
        "delivered_per_second",
        "delivered",
        Some(delivered / span.seconds),
        "/s",
    );
    add(
        "sent_per_second",
        "sent",
        Some(span.sent as f64 / span.seconds),
        "/s",
    );
    if options.qos > QoS::AtMostOnce {
        add(
            "acknowledged_per_second",
            "acknowledged",
            Some(span.acknowledged as f64 / span.seconds),
            "/s",
        );
    }
    add("delivered", "delivered while measured", Some(delivered), "");
    add("seconds", "measured for", Some(span.seconds), "s");
    add("broker_cpu_seconds", "broker CPU", span.broker, "s");
    add(
        "broker_cores",
        "broker cores in use",
        span.broker.map(|cpu| cpu / span.seconds),
        "",
    );
    add(
        "broker_resident_mib",
        "broker memory",
        span.resident.map(|bytes| bytes as f64 / 1_048_576.0),
        "MiB",
    );
    Report {
        workload: options.workload.as_str(),
        parameters: parameters(options),
        figures,
        latency_micros: Percentiles::of(&engine.shared.latency),
        acknowledgement_micros: Percentiles::of(&engine.shared.acknowledgement),
    }
}
