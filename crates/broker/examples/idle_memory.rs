//! User memory per idle TCP connection: `cargo run --release -p martlet-broker --example idle_memory -- 8000`.
//!
//! A child process runs the broker, so that only the broker's memory is counted. Each client subscribes to a topic
//! of its own, unless a second argument `bare` is given, then stays silent. What the kernel keeps per socket is not user memory and not counted.

#![expect(
    clippy::print_stdout,
    reason = "the figures are the point of this program"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use martlet_broker::{Broker, ListenerOptions, config::Config, files};
use martlet_codec::{
    Connect, Packet, PacketId, Props, QoS, RetainHandling, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, Version,
};

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    files::raise_limit()?;
    match std::env::args().nth(1).as_deref() {
        Some("broker") => broker(),
        Some(count) => measure(
            count.parse()?,
            std::env::args().nth(2).as_deref() == Some("bare"),
        ),
        None => measure(8_000, false),
    }
}

fn broker() -> Result<(), Anything> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut config = Config::default();
        config.sys.interval = Duration::ZERO;
        let broker = Broker::builder().config(config).start()?;
        let listener = broker
            .listen(
                "idle",
                &"tcp://127.0.0.1:0".parse()?,
                &ListenerOptions::default(),
            )
            .await?;
        println!("{}", listener.local_addr);
        // Ends with the parent, which holds the other end of standard input.
        let mut line = String::new();
        tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
        Ok(())
    })
}

fn measure(count: usize, bare: bool) -> Result<(), Anything> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("broker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("a pipe")?).read_line(&mut address)?;
    let address: SocketAddr = address.trim().parse()?;
    let process = child.id();
    let warm: Vec<TcpStream> = (0..64)
        .map(|n| connect(address, &format!("warm-{n}"), bare))
        .collect::<Result<_, _>>()?;
    drop(warm);
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_bytes(process)?;
    let clients: Vec<TcpStream> = (0..count)
        .map(|n| connect(address, &format!("idle-client-{n:06}"), bare))
        .collect::<Result<_, _>>()?;
    std::thread::sleep(Duration::from_secs(1));
    let after = resident_bytes(process)?;
    let each = after.saturating_sub(before) as f64 / count as f64;
    println!(
        "{count} idle connections: {before} -> {after} bytes resident, {each:.0} bytes per connection"
    );
    drop(clients);
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

fn connect(address: SocketAddr, client_id: &str, bare: bool) -> Result<TcpStream, Anything> {
    let mut stream = TcpStream::connect(address)?;
    let connect = Connect {
        version: Version::V311,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    };
    let mut bytes = Vec::new();
    Packet::Connect(connect).encode(Version::V311, &mut bytes)?;
    if bare {
        stream.write_all(&bytes)?;
        // CONNACK.
        stream.read_exact(&mut [0; 4])?;
        return Ok(stream);
    }
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAlways,
    };
    let mut filters = SubscribeFiltersBuf::new();
    filters.push(&format!("devices/{client_id}/commands"), options)?;
    let id = PacketId::new(1).ok_or("not zero")?;
    let subscribe = Subscribe {
        id,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    };
    Packet::Subscribe(subscribe).encode(Version::V311, &mut bytes)?;
    stream.write_all(&bytes)?;
    // CONNACK and SUBACK.
    stream.read_exact(&mut [0; 4 + 5])?;
    Ok(stream)
}

fn resident_bytes(process: u32) -> Result<u64, Anything> {
    let status = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u64 = status
        .split_whitespace()
        .nth(1)
        .ok_or("the second field is resident pages")?
        .parse()?;
    Ok(pages * u64::try_from(rustix::param::page_size())?)
}
