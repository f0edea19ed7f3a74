//! The workloads of the comparison, and what Martlet is to reach in each.

/// One run of `martlet bench`, which gives one or more lines of the table.
pub(super) struct Row {
    /// For `--workload`.
    pub(super) name: &'static str,
    /// Of `martlet bench`, without what all runs have.
    pub(super) arguments: &'static [&'static str],
    /// Whether the null relay can do it.
    pub(super) null: bool,
    pub(super) lines: &'static [Line],
}

/// One line of the table.
pub(super) struct Line {
    pub(super) title: &'static str,
    /// Where the figure stands in a report: a key of `figures`, or of the percentiles behind a point.
    pub(super) figure: &'static str,
    pub(super) unit: &'static str,
    pub(super) target: Target,
}

/// What Martlet is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// At most so many times Mosquitto's figure of the same run.
    Mosquitto(f64),
    /// At most this.
    AtMost(f64),
    /// Not worse than the best of the peers.
    Best,
    /// Shown only.
    None,
}

const CPU: &str = "broker_cpu_micros_per_delivery";

const fn cpu(title: &'static str, target: Target) -> Line {
    Line {
        title,
        figure: CPU,
        unit: "µs",
        target,
    }
}

/// Everything that is compared, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "pairs-qos0",
        arguments: &["pairs", "--publishers", "10"],
        null: true,
        lines: &[cpu("10 pairs, QoS 0", Target::Mosquitto(0.09))],
    },
    Row {
        name: "pairs-qos1",
        arguments: &["pairs", "--publishers", "10", "--qos", "1"],
        null: true,
        lines: &[cpu("10 pairs, QoS 1", Target::Mosquitto(0.06))],
    },
    Row {
        name: "pairs-qos2",
        arguments: &["pairs", "--publishers", "10", "--qos", "2"],
        null: true,
        lines: &[cpu("10 pairs, QoS 2", Target::Mosquitto(0.11))],
    },
    Row {
        name: "pairs-500",
        arguments: &["pairs", "--publishers", "500"],
        null: true,
        lines: &[cpu("500 pairs, QoS 0", Target::Mosquitto(0.08))],
    },
    Row {
        name: "pairs-one",
        arguments: &["pairs", "--publishers", "100", "--window", "1"],
        null: true,
        lines: &[cpu(
            "100 pairs, one message at a time",
            Target::Mosquitto(0.9),
        )],
    },
    Row {
        name: "pairs-4k",
        arguments: &["pairs", "--publishers", "10", "--size", "4096"],
        null: true,
        lines: &[cpu("10 pairs, 4 KiB, QoS 0", Target::Mosquitto(0.28))],
    },
    Row {
        name: "fan-out-qos0",
        arguments: &["fan-out", "--subscribers", "1000"],
        null: true,
        lines: &[cpu("1 to 1,000, QoS 0", Target::Mosquitto(0.09))],
    },
    Row {
        name: "fan-out-qos1",
        arguments: &["fan-out", "--subscribers", "1000", "--qos", "1"],
        null: true,
        lines: &[cpu("1 to 1,000, QoS 1", Target::Mosquitto(0.12))],
    },
    Row {
        name: "fan-in-qos0",
        arguments: &["fan-in", "--publishers", "1000"],
        null: true,
        lines: &[cpu("1,000 to 1, QoS 0", Target::Mosquitto(0.5))],
    },
    Row {
        name: "fan-in-qos1",
        arguments: &["fan-in", "--publishers", "1000", "--qos", "1"],
        null: true,
        lines: &[cpu("1,000 to 1, QoS 1", Target::Mosquitto(0.45))],
    },
    Row {
        name: "shared",
        arguments: &[
            "shared",
            "--publishers",
            "4",
            "--subscribers",
            "8",
            "--qos",
            "1",
        ],
        null: true,
        lines: &[cpu("shared, 4 to 8, QoS 1", Target::Mosquitto(0.13))],
    },
    Row {
        name: "rate-5000-qos0",
        arguments: &["pairs", "--publishers", "10", "--rate", "5000"],
        null: true,
        lines: &[
            cpu("5,000 msg/s, QoS 0", Target::Mosquitto(0.9)),
            Line {
                title: "5,000 msg/s, QoS 0: latency p50",
                figure: "latency_micros.p50",
                unit: "µs",
                target: Target::Best,
            },
            Line {
                title: "5,000 msg/s, QoS 0: latency p99",
                figure: "latency_micros.p99",
                unit: "µs",
                target: Target::Best,
            },
        ],
    },
    Row {
        name: "rate-5000-qos1",
        arguments: &[
            "pairs",
            "--publishers",
            "10",
            "--rate",
            "5000",
            "--qos",
            "1",
        ],
        null: true,
        lines: &[cpu("5,000 msg/s, QoS 1", Target::Mosquitto(0.9))],
    },
    Row {
        name: "rate-20000-qos0",
        arguments: &["pairs", "--publishers", "10", "--rate", "20000"],
        null: true,
        lines: &[
            Line {
                title: "20,000 msg/s, QoS 0: latency p50",
                figure: "latency_micros.p50",
                unit: "µs",
                target: Target::Best,
            },
            Line {
                title: "20,000 msg/s, QoS 0: latency p99",
                figure: "latency_micros.p99",
                unit: "µs",
                target: Target::Best,
            },
        ],
    },
];
