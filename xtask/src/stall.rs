//! `cargo xtask stall`: thousands of connections that never get as far as a client, while a pair of clients goes on and new
//! ones get in.
//!
//! The stalled connections say nothing at all, or a byte at a time of a CONNECT, a TLS hello or a WebSocket request, and
//! come again when they are closed. What is asked for: no honest client is refused, and the pair loses nothing. Latencies
//! are told, not judged. Deliberately absent: floods of well-formed clients, which rates and connection limits are for.

use crate::interop::{broker::free_ports, process::Running};
use crate::{Error, Outcome, workspace};
use clap::Args;
use martlet_codec::{
    Connect, Packet, PacketId, Props, Publish, QoS, Split, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, Version, split,
};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Flags of `cargo xtask stall`.
#[derive(Args)]
pub(crate) struct Options {
    /// Stalled connections at one time
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// How long it goes on
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    seconds: u64,
    /// Take this program instead of building it
    #[arg(long, value_name = "FILE")]
    martlet: Option<PathBuf>,
}

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two bytes of a stalled connection, and two looks whether it is still there.
const DRIP: Duration = Duration::from_millis(100);
/// Between two messages of the pair.
const PACE: Duration = Duration::from_millis(5);
/// How long the pair is measured alone.
const ALONE: Duration = Duration::from_secs(5);

/// The doors, by the scheme that the program's clients know them by.
const DOORS: [&str; 4] = ["tcp", "tls", "ws", "wss"];

/// What a stalled connection says, a byte at a time; the last byte again and again.
const WORDS: [&[u8]; 4] = [
    // CONNECT with a body of 100 bytes.
    b"\x10\x64\x00\x04MQTT\x05\x00",
    // A record of TLS with a ClientHello of 500 bytes.
    b"\x16\x03\x01\x01\xf8\x01\x00\x01\xf4\x03\x03\x00",
    b"GET /mqtt HTTP/1.1\r\nHost: a\r\nX: a",
    b"\x16\x03\x01\x01\xf8\x01\x00\x01\xf4\x03\x03\x00",
];

pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    let program = match &options.martlet {
        Some(program) => fs::canonicalize(program)?,
        None => {
            let mut cargo = workspace::cargo();
            cargo.args(["build", "--release", "--package", "martlet-broker-bin"]);
            if !cargo.status()?.success() {
                return Err("the broker does not build".into());
            }
            workspace::metadata()?
                .target_directory
                .join("release/martlet")
        }
    };
    let folder = std::env::temp_dir().join(format!("martlet-stall-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = measure(options, &program, &folder);
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    if !matches!(result, Ok(Outcome::Passed)) {
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        eprintln!("the broker's last words:\n{}", last.join("\n"));
    }
    println!("lines logged: {}", log.lines().count());
    fs::remove_dir_all(&folder)?;
    result
}

fn measure(options: &Options, program: &Path, folder: &Path) -> Result<Outcome, Error> {
    let made = Command::new(program)
        .args(["init", "--tls"])
        .current_dir(folder)
        .output()?;
    if !made.status.success() {
        return Err(format!("no certificates: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let ports = free_ports()?;
    let _broker = start(program, folder, ports)?;
    let mut pair = Pair::connect(ports[0])?;
    let alone = pair.measure(|| false, ALONE)?;
    println!("the pair alone: {alone}");

    let over = AtomicBool::new(false);
    let stalled = AtomicUsize::new(0);
    let (crowd, with, honest) = std::thread::scope(|scope| -> Result<_, Error> {
        let crowd = scope.spawn(|| Crowd::run(ports, options.connections, &stalled, &over));
        let begin = Instant::now();
        while stalled.load(Relaxed) < options.connections && begin.elapsed() < PATIENCE {
            std::thread::sleep(DRIP);
        }
        let clients = scope.spawn(|| honest(program, folder, ports, &over));
        let with = pair.measure(|| over.load(Relaxed), Duration::from_secs(options.seconds));
        over.store(true, Relaxed);
        let crowd = crowd.join().map_err(|_| "the crowd panicked")?;
        let honest = clients.join().map_err(|_| "the clients panicked")??;
        Ok((crowd, with?, honest))
    })?;
    println!("the pair among {} stalled connections: {with}", crowd.held);
    println!(
        "they were closed {} times and came again; {} could not connect",
        crowd.closed, crowd.refused
    );
    let mut failed = crowd.held < options.connections * 9 / 10;
    if failed {
        println!("FAILED: fewer stalled connections than asked for");
    }
    for (door, took) in DOORS.iter().zip(honest) {
        let refused = took.refused;
        println!("new clients over {door}: {took}, {refused} refused");
        failed |= refused > 0 || took.millis.is_empty();
    }
    Ok(if failed {
        Outcome::Failed
    } else {
        Outcome::Passed
    })
}

fn start(program: &Path, folder: &Path, ports: [u16; 4]) -> Result<Running, Error> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program);
    command.arg("serve").args(["--storage", "memory"]);
    for (door, port) in DOORS.iter().zip(ports) {
        command.args(["--listen", &format!("{door}://127.0.0.1:{port}")]);
    }
    command
        .args([
            "--tls-cert",
            "certs/server.pem",
            "--tls-key",
            "certs/server.key",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let broker = Running::new(command.spawn()?);
    let begin = Instant::now();
    while ports
        .iter()
        .any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err())
    {
        if begin.elapsed() > PATIENCE {
            return Err("the broker does not accept".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(broker)
}

/// Times in milliseconds.
#[derive(Default)]
struct Times {
    millis: Vec<f64>,
    refused: usize,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
            sorted.get(index).copied().unwrap_or(f64::NAN)
        };
        write!(
            f,
            "{} times, p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            sorted.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

/// A publisher and its subscriber.
struct Pair {
    publisher: TcpStream,
    subscriber: TcpStream,
    input: Vec<u8>,
    number: u64,
}

impl Pair {
    fn connect(port: u16) -> Result<Self, Error> {
        let open = |client_id: &str| -> Result<TcpStream, Error> {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            send(
                &stream,
                &Packet::Connect(Connect {
                    version: Version::V5,
                    bridge: false,
                    clean_start: true,
                    keep_alive_secs: 0,
                    props: Props::EMPTY,
                    client_id,
                    will: None,
                    username: None,
                    password: None,
                }),
            )?;
            Ok(stream)
        };
        let mut pair = Self {
            publisher: open("stall-publisher")?,
            subscriber: open("stall-subscriber")?,
            input: Vec::new(),
            number: 0,
        };
        let mut filters = SubscribeFiltersBuf::new();
        filters.push("stall", SubscribeOptions::qos(QoS::AtMostOnce))?;
        let id = PacketId::new(1).ok_or("no packet id")?;
        let subscribe = Subscribe {
            id,
            props: Props::EMPTY,
            filters: filters.as_filters(),
        };
        send(&pair.subscriber, &Packet::Subscribe(subscribe))?;
        // CONNACK and SUBACK.
        pair.next(|_| ())?;
        pair.next(|_| ())?;
        Ok(pair)
    }

    /// The next packet for the subscriber.
    fn next<T>(&mut self, show: impl FnOnce(&Packet<'_>) -> T) -> Result<T, Error> {
        loop {
            if let Split::Frame(frame) = split(&self.input, 1 << 20)? {
                let len = frame.len;
                let shown = show(&Packet::decode(frame, Version::V5)?);
                self.input.drain(..len);
                return Ok(shown);
            }
            let mut buffer = [0; 4096];
            match self.subscriber.read(&mut buffer)? {
                0 => return Err("the broker closed the subscriber's connection".into()),
                read => self.input.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// One message at a time, until `over` or as long as that.
    fn measure(&mut self, over: impl Fn() -> bool, length: Duration) -> Result<Times, Error> {
        let begin = Instant::now();
        let mut times = Times::default();
        while begin.elapsed() < length && !over() {
            self.number += 1;
            let number = self.number.to_be_bytes();
            let sent = Instant::now();
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "stall",
                id: None,
                props: Props::EMPTY,
                payload: &number,
            };
            send(&self.publisher, &Packet::Publish(publish))?;
            let came =
                self.next(|packet| matches!(packet, Packet::Publish(p) if p.payload == number))?;
            if !came {
                return Err(format!("message {} did not come", self.number).into());
            }
            times.millis.push(sent.elapsed().as_secs_f64() * 1_000.0);
            std::thread::sleep(PACE);
        }
        Ok(times)
    }
}

fn send(mut stream: &TcpStream, packet: &Packet<'_>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes)?;
    Ok(stream.write_all(&bytes)?)
}

/// New clients by every door in turn, as the program's own: each publishes a message and is acknowledged.
fn honest(
    program: &Path,
    folder: &Path,
    ports: [u16; 4],
    over: &AtomicBool,
) -> Result<[Times; 4], Error> {
    let mut times = <[Times; 4]>::default();
    while !over.load(Relaxed) {
        for ((door, port), times) in DOORS.iter().zip(ports).zip(&mut times) {
            let begin = Instant::now();
            let url = format!("{door}://127.0.0.1:{port}");
            let mut command = Command::new(program);
            command.args(["pub", "-L", &url, "-t", "honest", "-m", "x", "-q", "1"]);
            if matches!(*door, "tls" | "wss") {
                command.args(["--cafile", "certs/ca.pem"]);
            }
            let output = command.current_dir(folder).output()?;
            if output.status.success() {
                times.millis.push(begin.elapsed().as_secs_f64() * 1_000.0);
            } else {
                eprintln!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
                times.refused += 1;
            }
        }
    }
    Ok(times)
}

/// The connections that stall.
struct Crowd {
    /// At the end.
    held: usize,
    closed: usize,
    refused: usize,
}

/// One of them.
struct Stalled {
    stream: TcpStream,
    /// How much of its words it has said; `None` for one that says nothing.
    said: Option<usize>,
}

impl Crowd {
    fn run(ports: [u16; 4], connections: usize, stalled: &AtomicUsize, over: &AtomicBool) -> Self {
        let mut all: Vec<Option<Stalled>> = (0..connections).map(|_| None).collect();
        let mut crowd = Self {
            held: 0,
            closed: 0,
            refused: 0,
        };
        while !over.load(Relaxed) {
            let round = Instant::now();
            for (number, place) in all.iter_mut().enumerate() {
                let door = number % DOORS.len();
                if let Some(one) = place
                    && !one.goes_on(WORDS[door])
                {
                    crowd.closed += 1;
                    *place = None;
                }
                if place.is_none() {
                    let talks = (number / DOORS.len()).is_multiple_of(2);
                    *place = Stalled::connect(ports[door], talks);
                    crowd.refused += usize::from(place.is_none());
                }
            }
            crowd.held = all.iter().flatten().count();
            stalled.store(crowd.held, Relaxed);
            std::thread::sleep(DRIP.saturating_sub(round.elapsed()));
        }
        crowd
    }
}

impl Stalled {
    fn connect(port: u16, talks: bool) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            said: talks.then_some(0),
        })
    }

    /// Says its next byte; whether it is still there.
    fn goes_on(&mut self, words: &[u8]) -> bool {
        let mut answer = [0; 64];
        match self.stream.read(&mut answer) {
            // Words of goodbye come before the end.
            Ok(read) => {
                if read == 0 {
                    return false;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        let Some(said) = &mut self.said else {
            return true;
        };
        let byte = words.get(*said).or(words.last()).copied().unwrap_or(0);
        *said += 1;
        match self.stream.write_all(&[byte]) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
