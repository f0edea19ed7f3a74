//! A run from its first connection to its report.

use martlet_codec::{QoS, Version};

use crate::connection::ClientPlan;
use crate::disk::DiskRates;
use crate::engine::{Engine, Until};
use crate::failure::Failure;
use crate::meter::Span;
use crate::options::{Options, Workload};
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::report::{Figure, Percentiles, Report, curve};
use crate::scenario::{self, add, cost, read};
use crate::shared::Shared;

/// Subscriptions of each client that has unrelated ones.
const UNRELATED_EACH: u32 = 10_000;

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
    let disk = || options.disk.as_deref().map(DiskRates::measure).transpose();
    let before = disk()?;
    let mut report = workload(options, progress)?;
    if let (Some(before), Some(after)) = (before, disk()?) {
        let acknowledged = report.figure("acknowledged_per_second");
        before.and(after).figures(acknowledged, &mut report.figures);
    }
    Ok(report)
}

fn workload(options: &Options, progress: &mut dyn FnMut(&Progress)) -> Result<Report, Failure> {
    match options.workload {
        Workload::Pairs | Workload::FanOut | Workload::FanIn | Workload::Shared => {
            traffic(options, progress, plan::traffic)
        }
        Workload::Request => traffic(options, progress, plan::requests),
        Workload::Wildcard => scenario::wildcard(options, progress),
        Workload::Connect => scenario::connect(options, progress),
        Workload::Takeover => scenario::takeover(options, progress),
        Workload::Idle => scenario::idle(options, progress),
        Workload::Retained => scenario::retained(options, progress),
        Workload::Offline => scenario::offline(options, progress),
    }
}

fn traffic(
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
    plan: fn(&Options, &mut Shared) -> Plan,
) -> Result<Report, Failure> {
    let mut engine = Engine::new(options, progress)?;
    let plan = plan(options, &mut engine.shared);
    engine.open(plan.receivers)?;
    extras(options, &mut engine)?;
    engine.open(plan.publishers)?;
    let span = measure(options, &mut engine)?;
    engine.phase("closing");
    engine.judge()?;
    let mut figures = Vec::new();
    traffic_figures(options, &span, &mut figures);
    let report = report(options, &engine, figures);
    engine.close()?;
    if options.persistent {
        engine.open(plan::forget_sessions(options, options.subscribers()))?;
        engine.close()?;
    }
    Ok(report)
}

/// Clients and subscriptions beside those of the workload.
pub(crate) fn extras(options: &Options, engine: &mut Engine<'_>) -> Result<(), Failure> {
    let prefix = plan::client_prefix(options);
    let idle = (0..options.idle).map(|index| ClientPlan::idle(format!("{prefix}-i{index}")));
    engine.open(idle.collect())?;
    let clients = options.unrelated.div_ceil(UNRELATED_EACH);
    let unrelated = (0..clients).map(|client| {
        let first = client * UNRELATED_EACH;
        let numbers = first..options.unrelated.min(first + UNRELATED_EACH);
        let filter = |number| format!("{}/u/{number:07}/+", options.prefix);
        ClientPlan {
            filters: numbers.map(filter).collect(),
            ..ClientPlan::idle(format!("{prefix}-u{client}"))
        }
    });
    engine.open(unrelated.collect())
}

/// Traffic with a warm-up, or the whole of a bounded number of messages; everything has arrived at the end.
pub(crate) fn measure(options: &Options, engine: &mut Engine<'_>) -> Result<Span, Failure> {
    let span = if options.count.is_some() {
        engine.phase("measuring");
        engine.shared.measured_from = 0;
        let before = read(options, engine);
        engine.start(options.rate)?;
        engine.traffic(Until::Done)?;
        read(options, engine).since(&before)
    } else {
        engine.phase("warming up");
        engine.start(options.rate)?;
        engine.traffic(Until::Elapsed(options.warm_up))?;
        engine.phase("measuring");
        engine.shared.measured_from = engine.shared.tick();
        let before = read(options, engine);
        engine.traffic(Until::Elapsed(options.duration))?;
        read(options, engine).since(&before)
    };
    engine.phase("draining");
    engine.drain()?;
    Ok(span)
}

/// What was run, in the words of a report.
fn parameters(options: &Options) -> Vec<(&'static str, String)> {
    let version = match options.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    let plain = |value: u32| value.to_string();
    let window = match options.window() {
        u32::MAX => "none".to_owned(),
        window => window.to_string(),
    };
    let mut parameters = Vec::new();
    if !matches!(
        options.workload,
        Workload::Connect | Workload::Takeover | Workload::Idle
    ) {
        parameters.push(("publishers", plain(options.publishers())));
    }
    parameters.extend([
        ("subscribers", plain(options.subscribers())),
        ("qos", (options.qos as u8).to_string()),
        ("version", version.to_owned()),
        ("payload", options.payload.to_string()),
        ("window", window),
    ]);
    if options.workload == Workload::Wildcard {
        parameters.push(("filters", plain(options.filters)));
        parameters.push(("topics", plain(options.topics.unwrap_or(options.filters))));
    }
    for (name, count) in [("idle", options.idle), ("unrelated", options.unrelated)] {
        if count > 0 {
            parameters.push((name, plain(count)));
        }
    }
    if options.wrapping.scheme() != "tcp" {
        parameters.push(("over", options.wrapping.scheme().to_owned()));
    }
    if options.persistent {
        parameters.push(("sessions", "persistent".to_owned()));
    }
    if let Some(rate) = options.rate {
        parameters.push(("rate", rate.to_string()));
    }
    if let Some(count) = options.count {
        parameters.push(("count", count.to_string()));
    }
    parameters
}

/// Figures of traffic.
pub(crate) fn traffic_figures(options: &Options, span: &Span, figures: &mut Vec<Figure>) {
    let delivered = span.delivered as f64;
    let per_second = |count: u64| Some(count as f64 / span.seconds);
    cost(
        figures,
        [
            "broker_cpu_micros_per_delivery",
            "generator_cpu_micros_per_delivery",
            "delivered_per_second",
        ],
        [
            "broker CPU per delivered message",
            "generator CPU per delivered message",
            "delivered",
        ],
        span,
        delivered,
    );
    add(
        figures,
        "sent_per_second",
        "sent",
        per_second(span.sent),
        "/s",
    );
    if options.qos > QoS::AtMostOnce {
        let acknowledged = per_second(span.acknowledged);
        add(
            figures,
            "acknowledged_per_second",
            "acknowledged",
            acknowledged,
            "/s",
        );
    }
    add(
        figures,
        "delivered",
        "delivered while measured",
        Some(delivered),
        "",
    );
    add(figures, "seconds", "measured for", Some(span.seconds), "s");
    add(
        figures,
        "broker_cpu_seconds",
        "broker CPU",
        span.broker,
        "s",
    );
    let written = span.written.map(|bytes| bytes / delivered);
    add(
        figures,
        "broker_disk_bytes_per_delivery",
        "broker's writes to disk per delivery",
        written.filter(|bytes| *bytes > 0.0),
        "B",
    );
    let cores = span.broker.map(|cpu| cpu / span.seconds);
    add(figures, "broker_cores", "broker cores in use", cores, "");
    let memory = span.resident.map(|bytes| bytes as f64 / 1_048_576.0);
    add(
        figures,
        "broker_resident_mib",
        "broker memory",
        memory,
        "MiB",
    );
}

/// The report of a run that kept every promise.
pub(crate) fn report(options: &Options, engine: &Engine<'_>, figures: Vec<Figure>) -> Report {
    Report {
        workload: options.workload.as_str(),
        parameters: parameters(options),
        figures,
        latency_micros: Percentiles::of(&engine.shared.latency),
        acknowledgement_micros: Percentiles::of(&engine.shared.acknowledgement),
        samples: engine.samples.clone(),
        latency_curve: curve(&engine.shared.latency),
    }
}
