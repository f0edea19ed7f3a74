//! Descriptors run out: those who are connected stay, newcomers are closed at once, and it passes.
//!
//! Alone in its process, whose limit on open files it lowers.

#![cfg(target_os = "linux")]

use std::{net::SocketAddr, os::fd::AsRawFd, time::Duration};

use martlet_broker::{Broker, ListenerOptions, counters::Event, files::OpenFiles};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// CONNECT of version 3.1.1 without a client id.
const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
const PATIENCE: Duration = Duration::from_secs(20);
/// Descriptors left for connections.
const LEFT: u64 = 6;

/// Connects; `None` when the broker closed the connection instead of answering.
async fn connect(socket: TcpSocket, address: SocketAddr) -> Option<TcpStream> {
    let answer = async {
        let mut stream = socket.connect(address).await.ok()?;
        stream.write_all(CONNECT).await.ok()?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.ok()?;
        assert_eq!(connack, [0x20, 2, 0, 0]);
        Some(stream)
    };
    timeout(PATIENCE, answer)
        .await
        .expect("an answer or an end")
}

/// Whether the broker still answers on `stream`.
async fn answers(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 2];
    let ping = async {
        stream.write_all(b"\xc0\x00").await?;
        stream.read_exact(&mut answer).await
    };
    matches!(timeout(PATIENCE, ping).await, Ok(Ok(_))) && answer == [0xD0, 0]
}

#[tokio::test]
async fn newcomers_are_closed_and_the_others_stay() {
    // Sockets of clients are made before the limit falls: they count as well.
    let sockets = |count| -> Vec<TcpSocket> {
        (0..count)
            .map(|_| TcpSocket::new_v4().expect("socket"))
            .collect()
    };
    let (first, later) = (sockets(3 * LEFT), sockets(2));
    let broker = Broker::builder().start().expect("defaults");
    let address = "tcp://127.0.0.1:0".parse().expect("address");
    let listener = broker
        .listen("tcp", &address, &ListenerOptions::default())
        .await
        .expect("bound");
    let address = listener.local_addr;
    // The listener's task takes its reserve when it first runs.
    let mut stays = connect(TcpSocket::new_v4().expect("socket"), address)
        .await
        .expect("accepted");

    let next = std::fs::File::open("/dev/null")
        .expect("descriptor")
        .as_raw_fd();
    let lowered = u64::try_from(next).expect("not negative") + LEFT;
    let before = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(lowered),
            ..before
        },
    )
    .expect("lowered");
    assert_eq!(
        OpenFiles::current().and_then(|files| files.now),
        Some(lowered)
    );

    let mut accepted = Vec::new();
    let mut refused = 0;
    for socket in first {
        match connect(socket, address).await {
            Some(stream) => accepted.push(stream),
            None => refused += 1,
        }
    }
    assert!(
        !accepted.is_empty() && refused > 0,
        "{} accepted, {refused} refused",
        accepted.len()
    );
    assert_eq!(broker.counters().event(Event::SocketRefused), refused);
    assert!(answers(&mut stays).await);
    for stream in &mut accepted {
        assert!(answers(stream).await);
    }

    // Room again: newcomers are let in.
    drop(accepted);
    let emptied = async {
        while broker.connections() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("connections end");
    for socket in later {
        assert!(connect(socket, address).await.is_some());
    }
    assert!(answers(&mut stays).await);
    setrlimit(Resource::Nofile, before).expect("raised");
}
