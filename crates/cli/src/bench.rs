//! `martlet bench`: flags, progress on a terminal, and the report of a load that `martlet-bench` generates.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use martlet_bench::{Failure, Options, Progress, Report, Workload, Wrapping};
use martlet_codec::{QoS, Version};

use crate::output;

/// Flags of `martlet bench`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Every message is checked. A run in which one was lost, doubled, out of order, corrupted or \
    misdirected has no figures and ends with exit code 1.\n\n\
    Examples:\n  \
    martlet bench pairs --qos 1 --pid $(pidof mosquitto)\n  \
    martlet bench fan-out --subscribers 1000 --duration 10\n  \
    martlet bench pairs --publishers 100 --window 1        one message at a time\n  \
    martlet bench pairs --rate 5000                        latency at a fixed rate\n  \
    martlet bench pairs -q 1 --persistent --disk DIR       what durability costs, against the disk itself"
)]
pub struct BenchArgs {
    /// What to run: pairs, fan-out, fan-in, shared, wildcard, request, connect, takeover, idle, retained or offline
    #[arg(
        value_name = "WORKLOAD",
        value_parser = workload,
        required_unless_present_any = ["selftest", "null_relay", "disk"]
    )]
    pub workload: Option<Workload>,
    /// Prove that the checks work: relays that drop, double, swap, flip and misdirect must be caught
    #[arg(long, exclusive = true)]
    pub selftest: bool,
    /// Be a relay that passes bytes on with the least work there is: the floor to compare brokers with
    #[arg(long, value_name = "ADDRESS:PORT", exclusive = true)]
    pub null_relay: Option<SocketAddr>,
    /// The broker: tcp://, tls://, ws://, wss:// or quic://HOST:PORT
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:1883")]
    pub url: String,
    /// Whom to trust over TLS, as PEM; without it any certificate is taken
    #[arg(long, value_name = "FILE")]
    pub cafile: Option<PathBuf>,
    /// A whole TLS handshake for each connection; else those after the first resume its session
    #[arg(long)]
    pub full_handshakes: bool,
    /// Process id of the broker on this machine, for CPU time per message and memory
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// A directory on the broker's disk: how often that disk takes an append and syncs it, before and after the run.
    /// Without a workload, that alone
    #[arg(long, value_name = "DIRECTORY")]
    pub disk: Option<PathBuf>,
    /// Publishing clients
    #[arg(long, value_name = "N")]
    pub publishers: Option<u32>,
    /// Subscribing clients
    #[arg(long, value_name = "N")]
    pub subscribers: Option<u32>,
    /// QoS of publications and subscriptions
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// MQTT version: 31, 311 or 5
    #[arg(short = 'V', long = "mqtt-version", value_name = "VERSION", default_value = "311", value_parser = version)]
    pub version: Version,
    /// Bytes of each payload
    #[arg(short, long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Messages a publisher may be ahead of its receivers; 0 for no bound (default: what fits the workload)
    #[arg(short, long, value_name = "N")]
    pub window: Option<u32>,
    /// Messages a second of all publishers together, at even intervals (default: as many as possible)
    #[arg(short, long, value_name = "N")]
    pub rate: Option<f64>,
    /// Seconds to measure
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of traffic before measuring
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warm_up: f64,
    /// Messages of each publisher, all of them measured, instead of a time
    #[arg(short, long, value_name = "N")]
    pub count: Option<u32>,
    /// Give the run up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    pub timeout: f64,
    /// Filters of all subscribers together (wildcard)
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub filters: u32,
    /// Different topics to draw from (wildcard; default: as many as filters)
    #[arg(long, value_name = "N")]
    pub topics: Option<u32>,
    /// Receivers have sessions that outlive their connection, so that a broker with a store stores (pairs)
    #[arg(long)]
    pub persistent: bool,
    /// Clients beside those of the workload, which do nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub idle: u32,
    /// Subscriptions beside those of the workload, which match nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub unrelated: u32,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password
    #[arg(short = 'P', long, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Draw the run: deliveries over time, latency by percentile
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::from_name(name).ok_or_else(|| {
        let names = Workload::ALL.map(Workload::as_str).join(", ");
        format!("the workloads are {names}")
    })
}

fn version(name: &str) -> Result<Version, String> {
    match name {
        "31" | "3.1" | "mqttv31" => Ok(Version::V31),
        "311" | "3.1.1" | "mqttv311" => Ok(Version::V311),
        "5" | "5.0" | "mqttv5" => Ok(Version::V5),
        _ => Err("the versions are 31, 311 and 5".to_owned()),
    }
}

/// Address and wrapping of a URL: tcp, mqtt, tls, mqtts, ws, wss and quic.
fn target(url: &str, authorities: Option<&Path>) -> Result<(SocketAddr, Wrapping), Failure> {
    let refuse = |words: String| Failure::Options(words);
    let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let default_port = match scheme {
        "tcp" | "mqtt" => 1883,
        "tls" | "mqtts" => 8883,
        "ws" => 8083,
        "wss" => 8084,
        "quic" => 14567,
        _ => {
            return Err(refuse(format!(
                "{url}: tcp://, tls://, ws://, wss:// and quic:// are spoken"
            )));
        }
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, port),
            // The colons of an address without port, as in [::1].
            Err(_) => (authority, default_port),
        },
        None => (authority, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = (host, port)
        .to_socket_addrs()
        .map_err(|error| refuse(format!("{url}: {error}")))?
        .next()
        .ok_or_else(|| refuse(format!("{url}: has no address")))?;
    let wrapping = match scheme {
        "tls" | "mqtts" | "wss" => martlet_bench::tls(host, authorities)?,
        "quic" => martlet_bench::tls(host, authorities)?.over_quic(),
        _ => Wrapping::default(),
    };
    let wrapping = match (scheme, path) {
        ("ws" | "wss", "" | "/") => wrapping.with_websocket("/mqtt"),
        ("ws" | "wss", path) => wrapping.with_websocket(path),
        _ => wrapping,
    };
    Ok((address, wrapping))
}

fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Failure::Options(format!("--{name}: {value} is no number of seconds")))
}

fn options(args: &BenchArgs) -> Result<Options, Failure> {
    let workload = args
        .workload
        .ok_or_else(|| Failure::Options("name a workload".to_owned()))?;
    let (address, mut wrapping) = target(&args.url, args.cafile.as_deref())?;
    if args.full_handshakes {
        wrapping = wrapping.with_full_handshakes();
    }
    Ok(Options {
        wrapping,
        version: args.version,
        qos: QoS::from_bits(args.qos).unwrap_or_default(),
        publishers: args.publishers,
        subscribers: args.subscribers,
        payload: args.size,
        window: args.window,
        rate: args.rate,
        warm_up: seconds("warm-up", args.warm_up)?,
        duration: seconds("duration", args.duration)?,
        count: args.count,
        filters: args.filters,
        topics: args.topics,
        persistent: args.persistent,
        idle: args.idle,
        unrelated: args.unrelated,
        pid: args.pid,
        disk: args.disk.clone(),
        timeout: seconds("timeout", args.timeout)?,
        username: args.username.clone(),
        password: args.password.clone().map(String::into_bytes),
        ..Options::new(address, workload)
    })
}

/// Runs the workload. Exit code 0 with a report; 1 when the run has no figures; 2 when it makes no sense.
pub fn run(args: &BenchArgs) -> ExitCode {
    if args.selftest {
        return selftest();
    }
    if let Some(address) = args.null_relay {
        let listening = |address| output::stderr_line(&format!("relaying on tcp://{address}"));
        return match martlet_bench::serve_relay(address, listening) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(&failure),
        };
    }
    if let (None, Some(directory)) = (args.workload, &args.disk) {
        return disk(directory, args.json);
    }
    // Thousands of clients need as many descriptors; without them, connecting says so.
    let _ = martlet_broker::files::raise_limit();
    let terminal = io::stderr().is_terminal();
    let mut shown = false;
    let result = options(args).and_then(|options| {
        martlet_bench::run(&options, &mut |progress| {
            if terminal {
                show(progress);
                shown = true;
            }
        })
    });
    if shown {
        clear();
    }
    if let (Ok(report), Some(path)) = (&result, &args.svg)
        && let Err(error) = std::fs::write(path, report.svg())
    {
        output::stderr_line(&format!("error: {}: {error}", path.display()));
        return ExitCode::FAILURE;
    }
    match result {
        Ok(report) if args.json => print_json(&report),
        Ok(report) => output::stdout(report.table().as_bytes()),
        Err(failure) => {
            if args.json {
                print_json(&serde_json::json!({ "failed": failure.to_string() }));
            }
            fail(&failure)
        }
    }
}

fn fail(failure: &Failure) -> ExitCode {
    output::stderr_line(&format!("error: {failure}"));
    ExitCode::from(match failure {
        Failure::Options(_) => 2,
        _ => 1,
    })
}

/// What the disk alone can do.
fn disk(directory: &Path, json: bool) -> ExitCode {
    let figures = match martlet_bench::disk(directory) {
        Ok(figures) => figures,
        Err(failure) => return fail(&failure),
    };
    let report = Report {
        workload: "disk",
        parameters: vec![("directory", directory.display().to_string())],
        figures,
        ..Report::default()
    };
    if json {
        print_json(&report)
    } else {
        output::stdout(report.table().as_bytes())
    }
}

fn selftest() -> ExitCode {
    let trials = match martlet_bench::selftest() {
        Ok(trials) => trials,
        Err(failure) => return fail(&failure),
    };
    let mut text = String::new();
    for trial in &trials {
        let verdict = if trial.passed { "ok" } else { "FAILED" };
        let qos = trial.qos as u8;
        let _ = writeln!(
            text,
            "{verdict:<6} QoS {qos}, a relay that {}: {}",
            trial.deed, trial.said
        );
    }
    let failed = trials.iter().filter(|trial| !trial.passed).count();
    let _ = writeln!(text, "{} passed, {failed} failed", trials.len() - failed);
    let printed = output::stdout(text.as_bytes());
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        printed
    }
}

fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => output::stdout(format!("{text}\n").as_bytes()),
        Err(error) => {
            output::stderr_line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line that the next one overwrites.
fn show(progress: &Progress) {
    let Progress {
        phase,
        clients,
        delivered,
        per_second,
        breaches,
    } = progress;
    let broken = if *breaches { ", promises broken" } else { "" };
    let line = format!(
        "\r\x1b[K{phase}: {clients} clients, {delivered} delivered, {per_second:.0}/s{broken}"
    );
    let _ = io::Write::write_all(&mut io::stderr().lock(), line.as_bytes());
}

fn clear() {
    let _ = io::Write::write_all(&mut io::stderr().lock(), b"\r\x1b[K");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, wanted: Option<(&str, &str)>) {
        let got = target(url, None).ok();
        let got = got.map(|(address, wrapping)| (address.to_string(), format!("{wrapping:?}")));
        let got = got
            .as_ref()
            .map(|(address, wrapping)| (address.as_str(), wrapping.as_str()));
        assert_eq!(got, wanted, "{url}");
    }

    #[test]
    fn urls() {
        check("tcp://127.0.0.1:1884", Some(("127.0.0.1:1884", "tcp")));
        check("mqtt://127.0.0.1/", Some(("127.0.0.1:1883", "tcp")));
        check("127.0.0.1", Some(("127.0.0.1:1883", "tcp")));
        check("[::1]:1885", Some(("[::1]:1885", "tcp")));
        check("[::1]", Some(("[::1]:1883", "tcp")));
        check("tls://127.0.0.1", Some(("127.0.0.1:8883", "tls")));
        check("ws://127.0.0.1:8084/x", Some(("127.0.0.1:8084", "ws")));
        check("wss://127.0.0.1", Some(("127.0.0.1:8084", "wss")));
        check("quic://127.0.0.1", Some(("127.0.0.1:14567", "quic")));
        check("udp://127.0.0.1:1884", None);
        check("tcp://127.0.0.1:x", None);
    }
}
