//! A broker process on free ports of this machine, stopped when dropped.

use super::process::Running;
use crate::{Error, workspace};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take until it accepts. Generous: many of them start at once on a small machine.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Ports that another process takes between our look and the broker's bind are rare; more attempts mean another defect.
const START_ATTEMPTS: usize = 3;

/// How to start the broker under test; `{port}`, `{ws_port}`, `{tls_port}`, `{wss_port}` and `{quic_port}` in an argument
/// stand for the ports.
#[derive(Clone, Debug)]
pub(super) struct BrokerCommand {
    program: PathBuf,
    arguments: Vec<String>,
    /// What the table says was tested.
    pub(super) label: String,
}

impl BrokerCommand {
    /// Whether it opens doors with TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.mentions("{tls_port}")
    }

    /// Whether it opens one with QUIC.
    pub(super) fn has_quic(&self) -> bool {
        self.mentions("{quic_port}")
    }

    fn mentions(&self, port: &str) -> bool {
        self.arguments
            .iter()
            .any(|argument| argument.contains(port))
    }

    /// The program, to run something else of it.
    pub(super) fn program(&self) -> Command {
        Command::new(&self.program)
    }

    /// Takes a command line apart at white space.
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().map(ToString::to_string);
        let program = PathBuf::from(words.next().unwrap_or_default());
        Self {
            program,
            arguments: words.collect(),
            label: line.to_string(),
        }
    }

    /// Builds `martlet` from this checkout.
    pub(super) fn build(
        release: bool,
        arguments: &[&str],
        config: Option<&Path>,
    ) -> Result<Self, Error> {
        let mut cargo = workspace::cargo();
        cargo.args(["build", "--package", "martlet-broker-bin"]);
        if release {
            cargo.arg("--release");
        }
        if !cargo.status()?.success() {
            return Err("the broker does not build".into());
        }
        let profile = if release { "release" } else { "debug" };
        let program = workspace::metadata()?
            .target_directory
            .join(profile)
            .join("martlet");
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if let Some(config) = config {
            arguments.extend(["--config".to_string(), config.display().to_string()]);
        }
        Ok(Self {
            program,
            arguments,
            label: format!("martlet, {profile} build"),
        })
    }

    /// Starts the broker and waits until it accepts. Its output goes to `log`.
    pub(super) fn start(&self, log: &Path) -> Result<RunningBroker, Error> {
        let mut reason = String::new();
        for _ in 0..START_ATTEMPTS {
            match self.try_start(log) {
                Ok(broker) => return Ok(broker),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(format!("{reason}; its output is in {}", log.display()).into())
    }

    fn try_start(&self, log: &Path) -> Result<RunningBroker, Error> {
        let ports: [u16; 5] = free_ports()?;
        let fill = |text: &str| {
            let names = [
                "{port}",
                "{ws_port}",
                "{tls_port}",
                "{wss_port}",
                "{quic_port}",
            ];
            let pairs = names.iter().zip(ports);
            pairs.fold(text.to_owned(), |text, (name, port)| {
                text.replace(name, &port.to_string())
            })
        };
        let output = File::create(log)?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|argument| fill(argument)));
        command.current_dir(log.parent().unwrap_or(log));
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let mut broker = RunningBroker {
            process: Running::new(child),
            port: ports[0],
            ws_port: ports[1],
            tls_port: ports[2],
            wss_port: ports[3],
            quic_port: ports[4],
        };
        let begin = Instant::now();
        loop {
            if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], broker.port))).is_ok() {
                return Ok(broker);
            }
            if let Some(status) = broker.process.ended()? {
                return Err(format!("the broker ended at once ({status})").into());
            }
            if begin.elapsed() > READY_TIMEOUT {
                return Err("the broker did not accept in time".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A broker that accepts on loopback.
pub(super) struct RunningBroker {
    process: Running,
    pub(super) port: u16,
    pub(super) ws_port: u16,
    pub(super) tls_port: u16,
    pub(super) wss_port: u16,
    pub(super) quic_port: u16,
}

impl RunningBroker {
    /// Asks the broker to end and waits for it.
    pub(super) fn stop(self) -> Result<(), Error> {
        self.process.stop()
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_taken_apart() {
        let command = BrokerCommand::parse("mosquitto -p {port}  -v");
        assert_eq!(command.program, Path::new("mosquitto"));
        assert_eq!(command.arguments, ["-p", "{port}", "-v"]);
        assert_eq!(command.label, "mosquitto -p {port}  -v");
    }
}
