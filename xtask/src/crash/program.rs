//! The broker under test as a process: started on a directory that outlives it, and killed.

use crate::interop::process::Running;
use crate::{Error, workspace};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// How the broker is started; `{port}` and `{dir}` in an argument are filled in.
pub(super) struct Program {
    file: PathBuf,
    arguments: Vec<String>,
    /// What the log calls it.
    pub(super) label: String,
}

/// A broker that runs.
pub(super) struct Broker {
    process: Running,
    pub(super) port: u16,
    /// From the start of the process until it accepted.
    pub(super) ready: Duration,
}

impl Program {
    /// Takes a command line apart at white space.
    pub(super) fn parse(line: &str) -> Result<Self, Error> {
        if !line.contains("{port}") {
            return Err(format!("{line}: the command must say where {{port}} goes").into());
        }
        let mut words = line.split_whitespace().map(ToString::to_string);
        Ok(Self {
            file: PathBuf::from(words.next().unwrap_or_default()),
            arguments: words.collect(),
            label: line.to_string(),
        })
    }

    /// The program that users get, built from this checkout unless `built` names it.
    pub(super) fn martlet(
        built: Option<&Path>,
        storage: &str,
        fsync: &str,
        torn: bool,
    ) -> Result<Self, Error> {
        let program = match built {
            Some(program) => program.to_owned(),
            None => {
                let mut cargo = workspace::cargo();
                cargo.args(["build", "--release", "--package", "martlet-broker-bin"]);
                if storage == "rocksdb" {
                    cargo.args(["--features", "rocksdb"]);
                }
                if !cargo.status()?.success() {
                    return Err("the broker does not build".into());
                }
                workspace::metadata()?
                    .target_directory
                    .join("release/martlet")
            }
        };
        let mut words = vec!["serve", "--listen", "tcp://127.0.0.1:{port}"];
        words.extend(["--storage", storage, "--data", "{dir}/store"]);
        let fsync_key = format!("storage.fsync={fsync}");
        words.extend(["--set", &fsync_key]);
        // Nothing may be dropped for want of room: who is away for three cycles has much to come.
        words.extend(["--set", "limits.queued_messages_max=1000000"]);
        words.extend(["--set", "limits.queued_bytes_max=1GiB"]);
        // A client that waits for a store that is away is no slow client.
        words.extend(["--set", "limits.connect_timeout=1m"]);
        let torn = if torn { ", torn writes" } else { "" };
        Ok(Self {
            file: program,
            arguments: words.iter().map(ToString::to_string).collect(),
            label: format!("martlet, {storage}, fsync {fsync}{torn}"),
        })
    }

    fn spawn(&self, folder: &Path, log: &Path, port: u16) -> Result<Running, Error> {
        let fill = |text: &String| {
            text.replace("{port}", &port.to_string())
                .replace("{dir}", &folder.display().to_string())
        };
        let output = File::create(log)?;
        let child = Command::new(&self.file)
            .args(self.arguments.iter().map(fill))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.label))?;
        Ok(Running::new(child))
    }

    /// Starts the broker and waits until it accepts.
    pub(super) fn start(&self, folder: &Path, log: &Path) -> Result<Broker, Error> {
        let port = free_port()?;
        let begin = Instant::now();
        let mut process = self.spawn(folder, log, port)?;
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if let Some(status) = process.ended()? {
                return Err(format!("the broker did not start ({status}): {}", tail(log)).into());
            }
            if begin.elapsed() > READY_TIMEOUT {
                return Err(format!("the broker did not accept in time: {}", tail(log)).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Broker {
            process,
            port,
            ready: begin.elapsed(),
        })
    }

    /// Starts the broker and kills it after a moment, wherever it is by then.
    pub(super) fn false_start(
        &self,
        folder: &Path,
        log: &Path,
        after: Duration,
    ) -> Result<(), Error> {
        let process = self.spawn(folder, log, free_port()?)?;
        std::thread::sleep(after);
        drop(process);
        Ok(())
    }

    /// Whether the broker refuses to start. Returns its last words.
    pub(super) fn refuses(&self, folder: &Path, log: &Path) -> Result<Option<String>, Error> {
        let port = free_port()?;
        let mut process = self.spawn(folder, log, port)?;
        let begin = Instant::now();
        while begin.elapsed() < READY_TIMEOUT {
            if let Some(status) = process.ended()? {
                return Ok((!status.success()).then(|| tail(log)));
            }
            if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }
}

impl Broker {
    /// Whether it is gone although nobody killed it.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.process.ended(), Ok(None))
    }

    /// SIGKILL.
    pub(super) fn kill(self) {
        drop(self.process);
    }
}

fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}
