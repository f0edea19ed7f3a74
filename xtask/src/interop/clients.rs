//! Real clients against one broker: the programs in `interop/clients`, with their libraries installed below `target/`.
//!
//! Every program prints one line for each check, `RESULT<tab>name<tab>ok|failed|skipped<tab>note`; this module only sets
//! them up, runs them and counts. A client that cannot be installed here is one skipped row, with the reason.

use super::broker::{BrokerCommand, RunningBroker};
use super::process::Running;
use super::results::{self, Row};
use super::{Options, broker_command};
use crate::{Error, Outcome, workspace};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// All checks of the slowest client take about a minute.
const CLIENT_TIMEOUT: Duration = Duration::from_mins(10);

/// The client that is built from this repository: that it cannot run is a failure, not the machine's.
const OURS: &str = "rumqttc";

/// Installed from PyPI.
const PYTHON_PACKAGES: &[&str] = &["paho-mqtt==2.2.0", "aiomqtt==2.5.1", "aioquic==1.7.2"];

/// Installed from npm.
const NPM_PACKAGE: &str = "mqtt@5.16.0";

/// Debian packages of the Mosquitto programs.
const MOSQUITTO_PACKAGES: &[&str] = &["mosquitto", "mosquitto-clients"];

/// Where the parts are on this machine.
struct Places {
    /// The programs of this repository.
    programs: PathBuf,
    /// Libraries and logs.
    work: PathBuf,
    /// Whether the broker has doors with TLS.
    tls: bool,
    /// Whether it has one with QUIC.
    quic: bool,
}

/// Prepares the command of one client, or says why it cannot run here.
type Prepare = fn(&Places, &RunningBroker) -> Result<Command, Error>;

const CLIENTS: &[(&str, Prepare)] = &[
    ("paho-mqtt", |places, broker| {
        python(places, "paho_client.py", broker)
    }),
    ("aiomqtt", |places, broker| {
        python(places, "aiomqtt_client.py", broker)
    }),
    ("aioquic", |places, broker| {
        python(places, "aioquic_client.py", broker)
    }),
    ("MQTT.js", |places, broker| {
        javascript(places, "mqttjs_client.js", broker)
    }),
    ("MQTT.js in Chromium", browser),
    (OURS, |_, broker| rust(broker)),
    ("mosquitto tools", mosquitto),
];

/// Runs every client and prints the table.
pub(super) fn run(options: &Options) -> Result<Outcome, Error> {
    let command = command(options)?;
    let work = workspace::metadata()?
        .target_directory
        .join("interop/clients");
    fs::create_dir_all(&work)?;
    let places = Places {
        programs: workspace::root().join("interop/clients"),
        work,
        tls: command.has_tls(),
        quic: command.has_quic(),
    };
    if places.tls {
        make_certificates(&command, &places.work)?;
    }
    let broker = command.start(&places.work.join("broker.log"))?;
    println!(
        "real clients against {} on port {}",
        command.label, broker.port
    );
    let mut rows = Vec::new();
    for &(name, prepare) in CLIENTS {
        if options
            .filter
            .as_ref()
            .is_some_and(|text| !name.contains(text.as_str()))
        {
            continue;
        }
        println!("{name}");
        match prepare(&places, &broker) {
            Ok(client) => rows.extend(run_client(name, client, &places.work)?),
            Err(reason) => rows.push(Row {
                runs: u32::from(name == OURS),
                ..skipped(name, "all", reason.to_string())
            }),
        }
    }
    broker.stop()?;
    let outcome = results::print(&rows);
    if let Some(path) = &options.write {
        let facts = [
            ("broker", command.label.clone()),
            ("commit", results::commit()),
            (
                "clients",
                format!(
                    "{}, {NPM_PACKAGE}, rumqttc 0.25, the Mosquitto programs of Debian",
                    PYTHON_PACKAGES.join(", ")
                ),
            ),
            ("repeat with", "`cargo xtask interop --clients`".into()),
        ];
        results::write(path, "Real clients", &facts, &rows)?;
    }
    Ok(outcome)
}

fn command(options: &Options) -> Result<BrokerCommand, Error> {
    let listeners = [
        "--listen",
        "tcp://127.0.0.1:{port}",
        "--listen",
        "ws://127.0.0.1:{ws_port}",
        "--listen",
        "tls://127.0.0.1:{tls_port}",
        "--listen",
        "wss://127.0.0.1:{wss_port}",
        "--listen",
        "quic://127.0.0.1:{quic_port}",
        "--tls-cert",
        "certs/server.pem",
        "--tls-key",
        "certs/server.key",
    ];
    let mut arguments = vec!["serve", "--storage", "memory"];
    arguments.extend(listeners);
    broker_command(options, &arguments, None)
}

fn skipped(group: &str, name: &str, note: String) -> Row {
    Row {
        group: group.into(),
        name: name.into(),
        passed: 0,
        runs: 0,
        seconds: None,
        note,
    }
}

/// Runs a client to its end and reads its results. A client without a result has failed.
fn run_client(name: &str, mut command: Command, work: &Path) -> Result<Vec<Row>, Error> {
    let log = work.join(format!("{}.log", name.replace(' ', "-")));
    let output = File::create(&log)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let child = command
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let status = Running::new(child).wait(CLIENT_TIMEOUT)?;
    let text = fs::read(&log)?;
    let mut rows: Vec<Row> = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| parse(name, line))
        .collect();
    if !status.is_some_and(|status| status.success()) || rows.is_empty() {
        let note = format!("did not come to its end; see {}", log.display());
        rows.push(Row {
            runs: 1,
            ..skipped(name, "all", note)
        });
    }
    for row in &rows {
        println!(
            "  {}: {}",
            row.name,
            if row.passed == row.runs {
                "ok"
            } else {
                &row.note
            }
        );
    }
    Ok(rows)
}

fn parse(group: &str, line: &str) -> Option<Row> {
    let mut fields = line.split('\t');
    if fields.next()? != "RESULT" {
        return None;
    }
    let name = fields.next()?.to_string();
    let verdict = fields.next()?;
    let note = fields.next().unwrap_or_default().to_string();
    let row = skipped(group, &name, note);
    match verdict {
        "ok" => Some(Row {
            passed: 1,
            runs: 1,
            ..row
        }),
        "skipped" => Some(row),
        _ => Some(Row { runs: 1, ..row }),
    }
}

/// An authority and certificates that it signed, as a user would make them; made once.
fn make_certificates(broker: &BrokerCommand, work: &Path) -> Result<(), Error> {
    if authority(work).is_file() {
        return Ok(());
    }
    set_up(broker.program().args(["init", "--tls"]).current_dir(work))
}

fn authority(work: &Path) -> PathBuf {
    work.join("certs/ca.pem")
}

/// Adds the flags that all programs but the Rust one take.
fn with_ports(mut command: Command, places: &Places, broker: &RunningBroker) -> Command {
    command.args([
        "--port",
        &broker.port.to_string(),
        "--ws-port",
        &broker.ws_port.to_string(),
    ]);
    if places.tls {
        command.args(["--tls-port", &broker.tls_port.to_string()]);
        command.args(["--wss-port", &broker.wss_port.to_string()]);
        command.arg("--ca").arg(authority(&places.work));
    }
    if places.quic {
        command.args(["--quic-port", &broker.quic_port.to_string()]);
    }
    command
}

/// Runs a step of the set-up; the error is its last line and the line to try by hand.
fn set_up(command: &mut Command) -> Result<(), Error> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("failed");
    Err(format!("{shown}: {}", last.trim()).into())
}

fn python(places: &Places, program: &str, broker: &RunningBroker) -> Result<Command, Error> {
    let environment = places.work.join("venv");
    let interpreter = environment.join("bin/python");
    let marker = environment.join(PYTHON_PACKAGES.join("+"));
    if !marker.is_file() {
        set_up(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        set_up(Command::new(&interpreter).args(pip).args(PYTHON_PACKAGES))?;
        fs::write(marker, "")?;
    }
    let mut command = Command::new(interpreter);
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(places.programs.join(program));
    Ok(with_ports(command, places, broker))
}

fn javascript(places: &Places, program: &str, broker: &RunningBroker) -> Result<Command, Error> {
    let folder = places.work.join("npm");
    let marker = folder.join(format!("{NPM_PACKAGE}.installed"));
    if !marker.is_file() {
        fs::create_dir_all(&folder)?;
        let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
        set_up(
            Command::new("npm")
                .args(install)
                .arg(&folder)
                .arg(NPM_PACKAGE),
        )?;
        fs::write(marker, "")?;
    }
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", folder.join("node_modules"))
        .arg(places.programs.join(program));
    Ok(with_ports(command, places, broker))
}

fn browser(places: &Places, broker: &RunningBroker) -> Result<Command, Error> {
    // Not installed on the way: it is larger than everything else together.
    set_up(Command::new("chromium").arg("--version"))
        .map_err(|error| format!("{error} (Debian package chromium)"))?;
    javascript(places, "browser_client.js", broker)
}

fn rust(broker: &RunningBroker) -> Result<Command, Error> {
    let program = workspace::build_example("rumqttc_client")?
        .ok_or("interop/clients/rumqttc.rs does not build")?;
    let mut command = Command::new(program);
    command.arg(broker.port.to_string());
    Ok(command)
}

fn mosquitto(places: &Places, broker: &RunningBroker) -> Result<Command, Error> {
    if set_up(Command::new("mosquitto_pub").arg("--version"))
        .is_err_and(|error| error.to_string().contains("os error"))
    {
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install
            .args(["install", "--quiet", "--yes", "--no-install-recommends"])
            .args(MOSQUITTO_PACKAGES);
        set_up(&mut install)?;
    }
    let mut command = Command::new("python3");
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(places.programs.join("mosquitto_tools.py"));
    Ok(with_ports(command, places, broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_become_rows() {
        let table = [
            ("RESULT\t5.0 QoS 1\tok\t", Some((1, 1))),
            ("RESULT\t5.0 QoS 1\tfailed\tno message", Some((0, 1))),
            ("RESULT\tbridge\tskipped\tno mosquitto", Some((0, 0))),
            ("RESULT\tcut short", None),
            ("any other line", None),
        ];
        for (line, expected) in table {
            let counts = parse("client", line).map(|row| (row.passed, row.runs));
            assert_eq!(counts, expected, "{line:?}");
        }
    }
}
