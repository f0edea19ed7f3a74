//! `cargo xtask bench`: Martlet and the brokers installed here, side by side under the same load.
//!
//! Each workload is run against each broker in turn, A B C A B C, in a fresh process on a free port with a temporary
//! folder, so that a busy machine is busy for all of them. What is compared is CPU time per delivered message; `martlet
//! bench` generates the load, checks every message, and a broker that breaks a promise has FAIL in its cell.
//! Deliberately absent: settings that make a broker look better than what its users get. The exceptions, each needed to
//! keep a promise, stand in `peers` and are printed below the table.

mod page;
mod peers;
mod results;
mod rows;

use crate::interop::process::Running;
use crate::{Error, Outcome, workspace};
use clap::Args;
use peers::{Found, Peer};
use results::{Cell, Results};
use rows::{ROWS, Row};
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take until it accepts.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// What the generator may need beyond the time it was given, to say that it is over.
const GRACE: Duration = Duration::from_secs(15);

/// Flags of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// How often everything is repeated; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only workloads whose name contains this (repeatable)
    #[arg(long, value_name = "TEXT")]
    workload: Vec<String>,
    /// Only brokers with this name (repeatable): martlet, martlet-memory, null, mosquitto, rumqttd, rmqttd, aedes, nats, flashmq;
    /// with --doors: martlet, mosquitto, martlet-tls, martlet-ws, martlet-wss, martlet-quic, mosquitto-tls
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// Compare TCP, TLS, WebSocket and QUIC instead of brokers
    #[arg(long)]
    doors: bool,
    /// Another broker: NAME=COMMAND, in which {port} stands for the port and {dir} for a temporary folder (repeatable)
    #[arg(long, value_name = "NAME=COMMAND")]
    broker_command: Vec<String>,
    /// Seconds that each workload is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    duration: f64,
    /// Seconds after which a run is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Folder for results.md, results.html and results.json
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    write: PathBuf,
    /// Take this `martlet` instead of building one in release
    #[arg(long, value_name = "FILE")]
    martlet: Option<PathBuf>,
    /// List the workloads and the brokers found, and run nothing
    #[arg(long)]
    list: bool,
}

/// Runs what the flags ask for.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    let martlet = match &options.martlet {
        Some(path) => path.canonicalize()?,
        None => build()?,
    };
    let (peers, missing) = choose(options, &martlet)?;
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| {
            let named = |text: &String| row.name.contains(text.as_str());
            let wanted = options.workload.is_empty() || options.workload.iter().any(named);
            wanted && row.doors == options.doors
        })
        .collect();
    for (name, reason) in &missing {
        println!("{name}: SKIPPED ({reason})");
    }
    if options.list {
        for peer in &peers {
            println!("{}: {}", peer.name, peer.version);
        }
        for row in &rows {
            println!("{}: martlet bench {}", row.name, row.arguments.join(" "));
        }
        return Ok(Outcome::Passed);
    }
    if rows.is_empty() || peers.is_empty() {
        return Err("nothing to run: no workload or no broker has that name".into());
    }
    let mut results = Results::new(&peers, &missing, &rows, options);
    let total = options.rounds * rows.len() * peers.len();
    let mut done = 0;
    let begin = Instant::now();
    for round in 0..options.rounds {
        for row in &rows {
            for peer in &peers {
                done += 1;
                if peer.is_null() && !row.null || peer.is_in_memory() && !row.stored {
                    continue;
                }
                let cell = measure(options, &martlet, peer, row);
                println!(
                    "[{done}/{total}, {} s] round {}, {}, {}: {}",
                    begin.elapsed().as_secs(),
                    round + 1,
                    row.name,
                    peer.name,
                    results::summary(row, &cell)
                );
                results.add(row, peer, cell);
            }
        }
        // What there is, should the next round be interrupted.
        write(options, &results)?;
    }
    print!("{}", results.markdown());
    println!("written to {}", options.write.display());
    let failed = results.failures("martlet");
    println!(
        "{} passed, {failed} failed, {} skipped",
        results.runs("martlet") - failed,
        missing.len()
    );
    Ok(if failed == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

fn write(options: &Options, results: &Results) -> Result<(), Error> {
    let folder = workspace::root().join(&options.write);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("results.md"), results.markdown())?;
    fs::write(folder.join("results.html"), page::html(results))?;
    fs::write(folder.join("results.json"), results.json()?)?;
    Ok(())
}

/// Builds the program that users get.
fn build() -> Result<PathBuf, Error> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "martlet-broker-bin"]);
    if !cargo.status()?.success() {
        return Err("the broker does not build".into());
    }
    Ok(workspace::metadata()?
        .target_directory
        .join("release/martlet"))
}

/// The brokers to compare, and those that are not here.
#[expect(
    clippy::type_complexity,
    reason = "two lists that belong to one search"
)]
fn choose(options: &Options, martlet: &Path) -> Result<(Vec<Peer>, Vec<(String, String)>), Error> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let wanted =
        |name: &str| options.peer.is_empty() || options.peer.iter().any(|peer| peer == name);
    let known = if options.doors {
        peers::DOORS
    } else {
        peers::KNOWN
    };
    for (name, look) in known {
        if !wanted(name) {
            continue;
        }
        match look(martlet) {
            Found::Peer(peer) => found.push(peer),
            Found::Missing(reason) => missing.push(((*name).to_string(), reason)),
        }
    }
    for command in &options.broker_command {
        found.push(Peer::from_command(command)?);
    }
    Ok((found, missing))
}

/// A folder of one run that is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self, Error> {
        let unique = format!("martlet-bench-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        // Left from an earlier process with the same id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's temporary folder, which is emptied by others.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One broker, one workload, one time.
fn measure(options: &Options, martlet: &Path, peer: &Peer, row: &Row) -> Cell {
    match try_measure(options, martlet, peer, row) {
        Ok(cell) => cell,
        Err(error) => Cell::Failed(error.to_string()),
    }
}

fn try_measure(options: &Options, martlet: &Path, peer: &Peer, row: &Row) -> Result<Cell, Error> {
    let folder = Folder::new(&peer.name)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let (mut broker, pid) = start(peer, port, &folder.0)?;
    // A file and no pipe, which nobody would empty while it runs.
    let report_path = folder.0.join("report.json");
    let generator = |arguments: &[&str]| {
        let mut generator = Command::new(martlet);
        generator
            .arg("bench")
            .args(arguments)
            .args(["--url", &format!("{}://127.0.0.1:{port}", peer.scheme)])
            .args(["--timeout", &options.timeout.to_string()])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        generator
    };
    let mut storm = match row.beside {
        [] => None,
        arguments => Some(Storm::begin(generator(arguments))?),
    };
    let mut command = generator(row.arguments);
    command.args(["--json", "--pid", &pid.to_string()]);
    if !row.arguments.contains(&"--duration") {
        command.args(["--duration", &options.duration.to_string()]);
    }
    let child = command.stdout(File::create(&report_path)?).spawn()?;
    let mut measured = Running::new(child);
    let limit = Duration::from_secs(options.timeout) + GRACE;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = measured.ended()? {
            break status;
        }
        if begin.elapsed() > limit {
            return Ok(Cell::Failed(format!("stopped after {} s", limit.as_secs())));
        }
        if let Some(Err(error)) = storm.as_mut().map(Storm::go_on) {
            return Ok(Cell::Failed(format!("beside it: {error}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(storm);
    let text = fs::read_to_string(&report_path)?;
    if let Some(status) = broker.ended()? {
        return Ok(Cell::Failed(format!("the broker ended ({status})")));
    }
    broker.stop()?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|_| format!("the generator ended without a report ({status})"))?;
    if let Some(reason) = report.get("failed").and_then(Value::as_str) {
        return Ok(Cell::Failed(reason.to_string()));
    }
    Ok(Cell::Report(report))
}

/// A load that begins anew whenever it is over.
struct Storm {
    command: Command,
    running: Running,
}

impl Storm {
    fn begin(mut command: Command) -> Result<Self, Error> {
        let running = Running::new(command.spawn()?);
        Ok(Self { command, running })
    }

    fn go_on(&mut self) -> Result<(), Error> {
        match self.running.ended()? {
            None => {}
            Some(status) if status.success() => {
                self.running = Running::new(self.command.spawn()?);
            }
            Some(status) => return Err(format!("it failed ({status})").into()),
        }
        Ok(())
    }
}

/// Starts a broker and waits until it accepts.
fn start(peer: &Peer, port: u16, folder: &Path) -> Result<(Running, u32), Error> {
    let mut command = peer.command(port, folder)?;
    let log = File::create(folder.join("log"))?;
    let child = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", peer.name))?;
    let pid = child.id();
    let mut broker = Running::new(child);
    let begin = Instant::now();
    while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
        if let Some(status) = broker.ended()? {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            return Err(format!("the broker ended at once ({status}): {last}").into());
        }
        if begin.elapsed() > READY_TIMEOUT {
            return Err("the broker did not accept in time".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((broker, pid))
}
