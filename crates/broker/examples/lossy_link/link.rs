//! The link: what carries datagrams and loses some, and what carries a TCP connection and stalls as if it had lost some.
//!
//! Both delay everything by half a round trip in each direction. The kernel of a test machine has no emulation of lossy
//! networks, so that TCP is modelled: see [`Wire`]. Deliberately absent: a limit of the rate, and loss in bursts.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

/// What the link is like.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Chance of a packet to be lost, in each direction.
    pub(crate) loss: f64,
    pub(crate) round_trip: Duration,
    pub(crate) seed: u64,
}

impl Link {
    /// The first retransmission time-out.
    fn rto(self) -> Duration {
        RTO_MIN.max(self.round_trip * 2)
    }
}

/// Chance of a datagram to take longer than those behind it, and by how much at most.
const LATE: f64 = 0.02;
const LATE_MAX: Duration = Duration::from_millis(10);
/// The payload of a TCP segment on an Ethernet.
const SEGMENT_BYTES: usize = 1_448;
/// The least time after which Linux sends a segment again that nothing was heard of.
const RTO_MIN: Duration = Duration::from_millis(200);
/// Segments behind a lost one that make the sender send it again at once.
const FAST_RETRANSMIT: usize = 3;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// What may be under way; senders wait beyond it.
const UNDER_WAY: usize = 10_000;

/// Forwards datagrams to `to`, each client address from a socket of its own; returns where to send them.
pub(crate) async fn udp(link: Link, to: SocketAddr) -> io::Result<SocketAddr> {
    let door = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    let address = door.local_addr()?;
    tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(link.seed);
        let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buf = vec![0; DATAGRAM_BYTES];
        loop {
            let (bytes, from) = door.recv_from(&mut buf).await?;
            let way = match ways.get(&from) {
                Some(way) => Arc::clone(way),
                None => {
                    let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
                    way.connect(to).await?;
                    ways.insert(from, Arc::clone(&way));
                    let seed = link.seed + ways.len() as u64;
                    tokio::spawn(back(link, seed, Arc::clone(&door), Arc::clone(&way), from));
                    way
                }
            };
            let datagram = buf[..bytes].to_vec();
            carry(link, &mut random, async move { way.send(&datagram).await });
        }
        #[expect(unreachable_code, reason = "the type of the errors above")]
        io::Result::Ok(())
    });
    Ok(address)
}

/// The other direction of one client address.
async fn back(
    link: Link,
    seed: u64,
    door: Arc<UdpSocket>,
    way: Arc<UdpSocket>,
    client: SocketAddr,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut buf = vec![0; DATAGRAM_BYTES];
    while let Ok(bytes) = way.recv(&mut buf).await {
        let (datagram, door) = (buf[..bytes].to_vec(), Arc::clone(&door));
        carry(link, &mut random, async move {
            door.send_to(&datagram, client).await
        });
    }
}

/// Lets `send` happen after the delay, unless the datagram is lost.
fn carry(
    link: Link,
    random: &mut StdRng,
    send: impl Future<Output = io::Result<usize>> + Send + 'static,
) {
    if random.random_bool(link.loss) {
        return;
    }
    let late = if random.random_bool(LATE) {
        LATE_MAX.mul_f64(random.random())
    } else {
        Duration::ZERO
    };
    let delay = link.round_trip / 2 + late;
    tokio::spawn(async move {
        sleep(delay).await;
        // A socket that is gone loses it like the link.
        let _ = send.await;
    });
}

/// Relays TCP connections to `to`; returns where to connect.
pub(crate) async fn tcp(link: Link, to: SocketAddr) -> io::Result<SocketAddr> {
    let door = TcpListener::bind("127.0.0.1:0").await?;
    let address = door.local_addr()?;
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((client, _)) = door.accept().await {
            connections += 1;
            let seed = link.seed + connections * 1_000;
            tokio::spawn(relay(Link { seed, ..link }, client, to));
        }
    });
    Ok(address)
}

async fn relay(link: Link, client: TcpStream, to: SocketAddr) -> io::Result<()> {
    // SYN and its answer; a lost one is sent again after a second, as Linux does.
    let mut random = StdRng::seed_from_u64(link.seed);
    let mut connecting = link.round_trip;
    while random.random_bool(link.loss) {
        connecting += Duration::from_secs(1);
    }
    sleep(connecting).await;
    let server = TcpStream::connect(to).await?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
    }
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::spawn(Wire::new(link, 1).run(client_in, server_out));
    Wire::new(link, 2).run(server_in, client_out).await
}

/// One direction of a TCP connection.
///
/// Each read makes segments of at most 1,448 bytes. One that is lost arrives a round trip and a half after the third
/// segment behind it was sent (fast retransmit), or after the retransmission time-out, whichever comes first: 200 ms or two
/// round trips, doubled each time the segment is lost again, as is one of a fast retransmit. What is behind it arrives no
/// earlier.
struct Wire {
    link: Link,
    random: StdRng,
    under_way: VecDeque<Segment>,
}

struct Segment {
    bytes: Vec<u8>,
    arrives: Instant,
    /// Segments that were sent behind it, as long as it is lost.
    behind: Option<usize>,
}

impl Wire {
    fn new(link: Link, direction: u64) -> Self {
        Self {
            link,
            random: StdRng::seed_from_u64(link.seed * 4 + direction),
            under_way: VecDeque::new(),
        }
    }

    async fn run(
        mut self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) -> io::Result<()> {
        let (sender, mut receiver) = mpsc::channel(UNDER_WAY);
        let reader = tokio::spawn(async move {
            let mut buf = vec![0; SEGMENT_BYTES];
            loop {
                let read = from.read(&mut buf).await.unwrap_or(0);
                let sent = sender.send(buf[..read].to_vec()).await;
                if read == 0 || sent.is_err() {
                    return;
                }
            }
        });
        let mut over = false;
        while !over || !self.under_way.is_empty() {
            let next = self.under_way.front().map(|segment| segment.arrives);
            tokio::select! {
                bytes = receiver.recv(), if !over && self.under_way.len() < UNDER_WAY => match bytes {
                    Some(bytes) if !bytes.is_empty() => self.send(bytes),
                    _ => over = true,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Some(segment) = self.under_way.pop_front() {
                        copy(&mut segment.bytes.as_slice(), &mut to).await?;
                    }
                }
            }
        }
        reader.abort();
        to.shutdown().await
    }

    fn send(&mut self, bytes: Vec<u8>) {
        let now = Instant::now();
        for lost in &mut self.under_way {
            if let Some(behind) = &mut lost.behind {
                *behind += 1;
                if *behind == FAST_RETRANSMIT {
                    let mut again = self.link.round_trip * 3 / 2;
                    // Nothing tells the sender that it was lost once more.
                    let mut rto = self.link.rto();
                    while self.random.random_bool(self.link.loss) {
                        again += rto;
                        rto *= 2;
                    }
                    lost.arrives = lost.arrives.min(now + again);
                    lost.behind = None;
                }
            }
        }
        let mut delay = self.link.round_trip / 2;
        let mut rto = self.link.rto();
        let mut lost = false;
        while self.random.random_bool(self.link.loss) {
            lost = true;
            delay += rto;
            rto *= 2;
        }
        self.under_way.push_back(Segment {
            bytes,
            arrives: now + delay,
            behind: lost.then_some(0),
        });
    }
}
