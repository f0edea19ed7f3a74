//! The workloads of the comparison, and what Martlet is to reach in each.

/// One run of `martlet bench`, which gives one or more lines of the table.
pub(super) struct Row {
    /// For `--workload`.
    pub(super) name: &'static str,
    /// Of `martlet bench`, without what all runs have.
    pub(super) arguments: &'static [&'static str],
    /// Of another `martlet bench` that runs beside it, again and again as long as it lasts.
    pub(super) beside: &'static [&'static str],
    /// Whether the null relay can do it.
    pub(super) null: bool,
    /// Whether something has to be stored, so that Martlet without a store differs.
    pub(super) stored: bool,
    /// Whether this compares TCP, TLS, WebSocket and QUIC (`--doors`), not brokers.
    pub(super) doors: bool,
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
    /// At most so many times our own figure of the same kind in another row.
    Row(&'static str, f64),
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

const fn subscribe(title: &'static str, target: Target) -> Line {
    Line {
        title,
        figure: "broker_cpu_micros_per_subscribe",
        unit: "µs",
        target,
    }
}

const fn unsubscribe(title: &'static str, target: Target) -> Line {
    Line {
        title,
        figure: "broker_cpu_micros_per_unsubscribe",
        unit: "µs",
        target,
    }
}

/// Two clients that have nothing to do with what goes on beside them.
const UNRELATED_PAIR: &[&str] = &["pairs", "--publishers", "1", "--rate", "1000"];

/// Everything that is compared, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "pairs-qos0",
        arguments: &["pairs", "--publishers", "10"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("10 pairs, QoS 0", Target::Mosquitto(0.09))],
    },
    Row {
        name: "pairs-qos1",
        arguments: &["pairs", "--publishers", "10", "--qos", "1"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("10 pairs, QoS 1", Target::Mosquitto(0.06))],
    },
    Row {
        name: "pairs-qos2",
        arguments: &["pairs", "--publishers", "10", "--qos", "2"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("10 pairs, QoS 2", Target::Mosquitto(0.11))],
    },
    Row {
        name: "pairs-500",
        arguments: &["pairs", "--publishers", "500"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("500 pairs, QoS 0", Target::Mosquitto(0.08))],
    },
    Row {
        name: "pairs-one",
        arguments: &["pairs", "--publishers", "100", "--window", "1"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu(
            "100 pairs, one message at a time",
            Target::Mosquitto(0.9),
        )],
    },
    Row {
        name: "pairs-4k",
        arguments: &["pairs", "--publishers", "10", "--size", "4096"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("10 pairs, 4 KiB, QoS 0", Target::Mosquitto(0.28))],
    },
    Row {
        name: "fan-out-qos0",
        arguments: &["fan-out", "--subscribers", "1000"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("1 to 1,000, QoS 0", Target::Mosquitto(0.09))],
    },
    Row {
        name: "fan-out-qos1",
        arguments: &["fan-out", "--subscribers", "1000", "--qos", "1"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("1 to 1,000, QoS 1", Target::Mosquitto(0.12))],
    },
    Row {
        name: "fan-in-qos0",
        arguments: &["fan-in", "--publishers", "1000"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("1,000 to 1, QoS 0", Target::Mosquitto(0.5))],
    },
    Row {
        name: "fan-in-qos1",
        arguments: &["fan-in", "--publishers", "1000", "--qos", "1"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
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
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("shared, 4 to 8, QoS 1", Target::Mosquitto(0.13))],
    },
    Row {
        name: "rate-5000-qos0",
        arguments: &["pairs", "--publishers", "10", "--rate", "5000"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
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
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[cpu("5,000 msg/s, QoS 1", Target::Mosquitto(0.9))],
    },
    Row {
        name: "rate-20000-qos0",
        arguments: &["pairs", "--publishers", "10", "--rate", "20000"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
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
    Row {
        name: "wildcard",
        arguments: &["wildcard", "--filters", "100000"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[
            cpu(
                "100 k filters with wildcards, deliver",
                Target::Mosquitto(0.15),
            ),
            subscribe("the same, subscribe (per filter)", Target::Mosquitto(0.7)),
            unsubscribe("the same, unsubscribe (per filter)", Target::None),
            Line {
                title: "memory per wildcard subscription",
                figure: "bytes_per_wildcard_subscription",
                unit: "B",
                target: Target::AtMost(250.0),
            },
        ],
    },
    Row {
        name: "wildcard-repeated",
        arguments: &["wildcard", "--filters", "100000", "--topics", "100"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[cpu("100 k filters, 100 topics, deliver", Target::None)],
    },
    Row {
        name: "wildcard-1k",
        arguments: &["wildcard", "--filters", "1000"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[
            subscribe("1,000 filters, subscribe (per filter)", Target::None),
            unsubscribe("the same, unsubscribe (per filter)", Target::None),
        ],
    },
    Row {
        name: "wildcard-1m",
        arguments: &["wildcard", "--filters", "1000000"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[
            cpu("1 M filters with wildcards, deliver", Target::None),
            subscribe(
                "the same, subscribe (per filter)",
                Target::Row("wildcard-1k", 3.0),
            ),
            unsubscribe(
                "the same, unsubscribe (per filter)",
                Target::Row("wildcard-1k", 3.0),
            ),
        ],
    },
    Row {
        name: "request",
        arguments: &["request", "--publishers", "10", "--mqtt-version", "5"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[cpu(
            "request and response, no response topic twice",
            Target::None,
        )],
    },
    Row {
        name: "connect",
        arguments: &["connect", "--count", "10000"],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "connect (per connection)",
            figure: "broker_cpu_micros_per_connection",
            unit: "µs",
            target: Target::Mosquitto(1.0),
        }],
    },
    Row {
        name: "retained",
        arguments: &["retained"],
        beside: &[],
        null: false,
        stored: true,
        doors: false,
        lines: &[
            Line {
                title: "retained store",
                figure: "broker_cpu_micros_per_retained_store",
                unit: "µs",
                target: Target::Mosquitto(0.23),
            },
            Line {
                title: "retained fetch",
                figure: "broker_cpu_micros_per_retained_fetch",
                unit: "µs",
                target: Target::Mosquitto(0.23),
            },
            Line {
                title: "memory per retained message (topic and 64 B in)",
                figure: "bytes_per_retained_message",
                unit: "B",
                target: Target::AtMost(300.0),
            },
        ],
    },
    Row {
        name: "offline",
        arguments: &["offline"],
        beside: &[],
        null: false,
        stored: true,
        doors: false,
        lines: &[
            Line {
                title: "offline queue",
                figure: "broker_cpu_micros_per_queued_message",
                unit: "µs",
                target: Target::Mosquitto(0.18),
            },
            Line {
                title: "offline drain",
                figure: "broker_cpu_micros_per_drained_message",
                unit: "µs",
                target: Target::Mosquitto(0.11),
            },
            Line {
                title: "memory per queued message",
                figure: "bytes_per_queued_message",
                unit: "B",
                target: Target::AtMost(200.0),
            },
        ],
    },
    Row {
        name: "durable",
        arguments: &["pairs", "--publishers", "10", "--qos", "1", "--persistent"],
        beside: &[],
        null: false,
        stored: true,
        doors: false,
        lines: &[
            cpu("10 pairs with persistent sessions, QoS 1", Target::None),
            Line {
                title: "the same, acknowledged after, p99",
                figure: "acknowledgement_micros.p99",
                unit: "µs",
                target: Target::None,
            },
        ],
    },
    Row {
        name: "idle",
        arguments: &[
            "idle",
            "--subscribers",
            "10000",
            "--duration",
            "10",
            "--warm-up",
            "12",
        ],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[
            Line {
                title: "memory per idle connection",
                figure: "bytes_per_connection",
                unit: "B",
                target: Target::AtMost(2048.0),
            },
            Line {
                title: "CPU of 10,000 clients that ping once a minute",
                figure: "idle_core_percent",
                unit: "% of a core",
                target: Target::AtMost(0.5),
            },
            Line {
                title: "memory left 12 s after they are gone",
                figure: "memory_left_percent",
                unit: "%",
                target: Target::AtMost(10.0),
            },
        ],
    },
    Row {
        name: "pairs-beside-idle",
        arguments: &["pairs", "--publishers", "10", "--idle", "10000"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[cpu(
            "10 pairs beside 10,000 idle connections",
            Target::Row("pairs-qos0", 1.2),
        )],
    },
    Row {
        name: "pairs-beside-subscriptions",
        arguments: &["pairs", "--publishers", "10", "--unrelated", "1000000"],
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[cpu(
            "10 pairs beside 1,000,000 subscriptions",
            Target::Row("pairs-qos0", 1.2),
        )],
    },
    Row {
        name: "million",
        arguments: &[
            "pairs",
            "--publishers",
            "100",
            "--count",
            "10000",
            "--window",
            "0",
        ],
        beside: &[],
        null: true,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "one million messages, 100 clients, no flow control",
            figure: "broker_cpu_seconds",
            unit: "s",
            target: Target::AtMost(1.0),
        }],
    },
    Row {
        name: "storm-none",
        arguments: UNRELATED_PAIR,
        beside: &[],
        null: false,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "a pair at 1,000 msg/s, alone: latency p99",
            figure: "latency_micros.p99",
            unit: "µs",
            target: Target::AtMost(20_000.0),
        }],
    },
    Row {
        name: "storm-subscribe",
        arguments: UNRELATED_PAIR,
        beside: &[
            "wildcard",
            "--filters",
            "100000",
            "--duration",
            "0.1",
            "--warm-up",
            "0",
        ],
        null: false,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "the same beside 100 k subscriptions that come and go",
            figure: "latency_micros.p99",
            unit: "µs",
            target: Target::AtMost(20_000.0),
        }],
    },
    Row {
        name: "storm-replay",
        arguments: UNRELATED_PAIR,
        beside: &["retained", "--subscribers", "100"],
        null: false,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "the same beside replays of 100 k retained messages",
            figure: "latency_micros.p99",
            unit: "µs",
            target: Target::AtMost(20_000.0),
        }],
    },
    Row {
        name: "storm-retained",
        arguments: UNRELATED_PAIR,
        beside: &["retained"],
        null: false,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "the same beside 100 k retained messages stored, fetched and removed",
            figure: "latency_micros.p99",
            unit: "µs",
            target: Target::None,
        }],
    },
    Row {
        name: "storm-takeover",
        arguments: UNRELATED_PAIR,
        beside: &["takeover"],
        null: false,
        stored: false,
        doors: false,
        lines: &[Line {
            title: "the same beside takeovers",
            figure: "latency_micros.p99",
            unit: "µs",
            target: Target::AtMost(20_000.0),
        }],
    },
    Row {
        name: "door-qos0",
        arguments: &["pairs", "--publishers", "10"],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[cpu("10 pairs, QoS 0", Target::None)],
    },
    Row {
        name: "door-qos1",
        arguments: &["pairs", "--publishers", "10", "--qos", "1"],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[cpu("10 pairs, QoS 1", Target::None)],
    },
    Row {
        name: "door-large",
        arguments: &[
            "fan-out",
            "--subscribers",
            "100",
            "--size",
            "16384",
            "--window",
            "100",
        ],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[cpu("1 to 100, 16 KiB, QoS 0", Target::None)],
    },
    Row {
        name: "door-idle",
        arguments: &["idle", "--subscribers", "2000"],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[Line {
            title: "memory per idle connection",
            figure: "bytes_per_connection",
            unit: "B",
            target: Target::None,
        }],
    },
    Row {
        name: "door-connect-full",
        arguments: &["connect", "--count", "2000", "--full-handshakes"],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[
            Line {
                title: "connect, full handshake (per connection)",
                figure: "broker_cpu_micros_per_connection",
                unit: "µs",
                target: Target::None,
            },
            Line {
                title: "the same: connections a second",
                figure: "connections_per_second",
                unit: "1/s",
                target: Target::None,
            },
        ],
    },
    Row {
        name: "door-connect-resumed",
        arguments: &["connect", "--count", "2000"],
        beside: &[],
        null: false,
        stored: false,
        doors: true,
        lines: &[
            Line {
                title: "connect, resumed (per connection)",
                figure: "broker_cpu_micros_per_connection",
                unit: "µs",
                target: Target::None,
            },
            Line {
                title: "the same: connections a second",
                figure: "connections_per_second",
                unit: "1/s",
                target: Target::None,
            },
        ],
    },
];
