//! QUIC against TCP with TLS over a link that loses packets: how late messages are, and how long a client that changes its
//! address is away.
//!
//! ```sh
//! cargo run --release -p martlet-broker --example lossy_link -- --seconds 60
//! ```
//!
//! A client publishes QoS 0 messages on four topics in turn over the link, to a broker in this process; a subscriber beside
//! the broker tells how long each took. The same over TCP with TLS 1.3, over QUIC with one stream, and over QUIC with a
//! stream for each topic. Then a client over the link changes its address: over QUIC it goes on, over TCP it connects again,
//! and what is told is the time from the change to the acknowledgement of its next message.
#![expect(clippy::print_stdout, reason = "the figures are the purpose")]

#[path = "../../../transport/tests/common/certs.rs"]
#[expect(dead_code, unreachable_pub, reason = "its other users need the rest")]
mod certs;
mod link;

use std::{error::Error, time::Duration};

use certs::Certs;
use link::Link;
use martlet_broker::{Broker, config::ListenerPolicy};
use martlet_client::RawConnection;
use martlet_codec::{
    Connect, Packet, PacketId, Props, Publish, QoS, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, Version,
};
use martlet_transport::{ConnectAddress, QuicHandle, Stream, connect};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

type Failure = Box<dyn Error + Send + Sync>;

const TOPICS: [&str; 4] = ["link/0", "link/1", "link/2", "link/3"];
const PAYLOAD_BYTES: usize = 200;
const LOSSES: [f64; 3] = [0.0, 0.01, 0.05];
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a client gets over the link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Tls,
    Quic,
    /// A stream for each topic.
    QuicStreams,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tls, Self::Quic, Self::QuicStreams];

    fn name(self) -> &'static str {
        match self {
            Self::Tls => "TCP with TLS",
            Self::Quic => "QUIC, one stream",
            Self::QuicStreams => "QUIC, a stream for each topic",
        }
    }
}

/// What is asked for on the command line.
struct Options {
    seconds: u64,
    rate: u64,
    moves: u32,
    seed: u64,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        let mut options = Self {
            seconds: 30,
            rate: 100,
            moves: 100,
            seed: 1,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or("a flag without its value")?.parse()?;
            match word.as_str() {
                "--seconds" => options.seconds = value,
                "--rate" => options.rate = value,
                "--moves" => options.moves = u32::try_from(value)?,
                "--seed" => options.seed = value,
                _ => return Err(format!("{word}: --seconds, --rate, --moves or --seed").into()),
            }
        }
        Ok(options)
    }
}

/// A broker with both doors, and certificates for it.
struct Ground {
    broker: Broker,
    certs: Certs,
    tls: std::net::SocketAddr,
    quic: std::net::SocketAddr,
}

impl Ground {
    async fn new() -> Result<Self, Failure> {
        let broker = Broker::builder().start()?;
        let certs = Certs::new();
        let options = certs.listener_options();
        let open = async |url: &str| -> Result<_, Failure> {
            let (address, policy) = (url.parse()?, ListenerPolicy::default());
            let listener = broker.listen_with(url, &address, &options, policy);
            Ok(listener.await?.local_addr)
        };
        let tls = open("tls://127.0.0.1:0").await?;
        let quic = open("quic://127.0.0.1:0").await?;
        Ok(Self {
            broker,
            certs,
            tls,
            quic,
        })
    }

    /// Where a client goes to meet the broker over `link`.
    async fn door(&self, way: Way, link: Link) -> Result<ConnectAddress, Failure> {
        Ok(match way {
            Way::Tls => format!("tls://{}", link::tcp(link, self.tls).await?),
            _ => format!("quic://{}", link::udp(link, self.quic).await?),
        }
        .parse()?)
    }

    async fn client(&self, address: &ConnectAddress, id: &str) -> Result<Client, Failure> {
        let options = self.certs.connect_options();
        let stream = timeout(PATIENCE, connect(address, &options)).await??;
        let handle = match &stream {
            Stream::Quic(quic) => Some(quic.handle()),
            _ => None,
        };
        let mut control = RawConnection::over(stream).limit(PATIENCE);
        say_hello(&mut control, id).await?;
        Ok(Client { control, handle })
    }
}

struct Client {
    control: RawConnection,
    handle: Option<QuicHandle>,
}

async fn say_hello(connection: &mut RawConnection, client_id: &str) -> Result<(), Failure> {
    let hello = Packet::Connect(Connect {
        version: Version::V311,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    });
    connection.send(&hello).await?;
    connection.receive().await?;
    Ok(())
}

fn message<'a>(topic: &'a str, payload: &'a [u8], id: Option<PacketId>) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: if id.is_some() {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        retain: false,
        topic,
        id,
        props: Props::EMPTY,
        payload,
    })
}

/// How late messages are.
async fn late(
    ground: &Ground,
    options: &Options,
    way: Way,
    loss: f64,
) -> Result<Vec<Duration>, Failure> {
    let link = Link {
        loss,
        round_trip: ROUND_TRIP,
        seed: options.seed,
    };
    let name = format!("{} {loss}", way.name());
    let topics = TOPICS.map(|topic| format!("{name}/{topic}"));
    let near = tokio::io::duplex(1 << 20);
    ground.broker.attach(near.1, "beside");
    let mut subscriber = RawConnection::over(near.0).limit(PATIENCE);
    say_hello(&mut subscriber, &format!("to {name}")).await?;
    let mut filters = SubscribeFiltersBuf::new();
    filters.push(&format!("{name}/#"), SubscribeOptions::qos(QoS::AtMostOnce))?;
    let subscribe = Packet::Subscribe(Subscribe {
        id: PacketId::new(1).ok_or("not zero")?,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    subscriber.send(&subscribe).await?;
    subscriber.receive().await?;

    let door = ground.door(way, link).await?;
    let Client { control, handle } = ground.client(&door, &format!("from {name}")).await?;
    let mut streams = vec![control];
    if let (Way::QuicStreams, Some(handle)) = (way, handle) {
        for _ in TOPICS {
            let stream = timeout(PATIENCE, handle.open()).await??;
            streams.push(RawConnection::over(stream));
        }
        // The control stream is the last, and stays open.
        streams.rotate_left(1);
    }
    let begin = Instant::now();
    let total = options.seconds * options.rate;
    let rate = options.rate;
    let publisher = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate)?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut payload = [0; PAYLOAD_BYTES];
        let used = if streams.len() > 1 { TOPICS.len() } else { 1 };
        for number in 0..total {
            ticks.tick().await;
            let at = usize::try_from(number)? % topics.len();
            payload[..8].copy_from_slice(&u64::try_from(begin.elapsed().as_nanos())?.to_be_bytes());
            let packet = message(&topics[at], &payload, None);
            streams[at % used].send(&packet).await?;
        }
        // Kept until everything has arrived.
        Ok::<_, Failure>(streams)
    });
    let mut took = Vec::new();
    while (took.len() as u64) < total {
        let packet = subscriber.receive().await?;
        if let Packet::Publish(publish) = packet.packet() {
            let sent = publish.payload.first_chunk().ok_or("a foreign message")?;
            let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
            took.push(begin.elapsed().saturating_sub(sent));
        }
    }
    drop(publisher.await??);
    Ok(took)
}

/// How long a client is away that changes its address.
async fn away(
    ground: &Ground,
    options: &Options,
    way: Way,
    loss: f64,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    let link = Link {
        loss,
        round_trip: ROUND_TRIP,
        seed: options.seed + 7,
    };
    let door = ground.door(way, link).await?;
    let id = format!("moves {} {loss}", way.name());
    let mut client = ground.client(&door, &id).await?;
    for number in 0..options.moves {
        let packet_id = PacketId::new(number as u16 + 1);
        let begin = Instant::now();
        match &client.handle {
            Some(handle) => handle.rebind("127.0.0.1:0".parse()?)?,
            // The system tells at once that the old address is gone.
            None => client = ground.client(&door, &id).await?,
        }
        let packet = message("moved", b"here", packet_id);
        client.control.send(&packet).await?;
        client.control.receive().await?;
        took.push(begin.elapsed());
    }
    Ok(took)
}

/// The value below which `share` of the sorted `values` are, in milliseconds.
fn quantile(values: &[Duration], share: f64) -> f64 {
    let at = (values.len() as f64 * share) as usize;
    let value = values.get(at.min(values.len().saturating_sub(1)));
    value.map_or(f64::NAN, |value| value.as_secs_f64() * 1_000.0)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = &Options::parse()?;
    let ground = &Ground::new().await?;
    println!(
        "{} ms round trip, {} messages of {PAYLOAD_BYTES} bytes a second for {} s, seed {}\n",
        ROUND_TRIP.as_millis(),
        options.rate,
        options.seconds,
        options.seed
    );
    println!("| lost | by | p50 ms | p90 ms | p95 ms | p99 ms | p99.9 ms | longest ms |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for loss in LOSSES {
        for way in Way::ALL {
            let mut took = late(ground, options, way, loss).await?;
            took.sort_unstable();
            println!(
                "| {} % | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
                loss * 100.0,
                way.name(),
                quantile(&took, 0.5),
                quantile(&took, 0.9),
                quantile(&took, 0.95),
                quantile(&took, 0.99),
                quantile(&took, 0.999),
                quantile(&took, 1.0)
            );
        }
    }
    println!("\n| lost | after a change of address, by | p50 ms | p99 ms | longest ms |");
    println!("| --- | --- | --- | --- | --- |");
    for loss in LOSSES {
        for way in [Way::Tls, Way::Quic] {
            let mut took = away(ground, options, way, loss).await?;
            took.sort_unstable();
            println!(
                "| {} % | {} | {:.1} | {:.1} | {:.1} |",
                loss * 100.0,
                way.name(),
                quantile(&took, 0.5),
                quantile(&took, 0.99),
                quantile(&took, 1.0)
            );
        }
    }
    Ok(())
}
