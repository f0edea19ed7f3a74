//! A broker on real sockets and blocking clients that allocate nothing while the broker is measured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use martlet_broker::{Broker, ListenerOptions, config::Config};
use martlet_codec::{
    Connect, Packet, PacketId, Props, QoS, RetainHandling, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, Version,
};
use tokio::runtime::Runtime;

/// A broker on two threads, and where it listens. It ends with the runtime.
pub(crate) fn broker(mut config: Config) -> (Runtime, Broker, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    // `$SYS` is published on a schedule of its own.
    config.sys.interval = Duration::ZERO;
    let (broker, address) = runtime.block_on(async {
        let broker = Broker::builder()
            .config(config)
            .start()
            .expect("the test's settings make sense");
        let address = "tcp://127.0.0.1:0".parse().expect("an address");
        let listener = broker
            .listen("test", &address, &ListenerOptions::default())
            .await
            .expect("a free port");
        (broker, listener.local_addr)
    });
    (runtime, broker, address)
}

pub(crate) fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet
        .encode(version, &mut bytes)
        .expect("the test's packets encode");
    bytes
}

pub(crate) fn connect(
    address: SocketAddr,
    version: Version,
    client_id: &str,
    clean_start: bool,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream
        .set_nodelay(true)
        .expect("an option every TCP socket has");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time-out above zero");
    let connect = Connect {
        version,
        bridge: false,
        clean_start,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    };
    stream
        .write_all(&encoded(&Packet::Connect(connect), version))
        .expect("the broker reads");
    read_packet(&mut stream);
    stream
}

/// Reads one packet of less than 128 bytes of body and throws it away.
pub(crate) fn read_packet(stream: &mut TcpStream) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("the broker answers");
    assert!(head[1] < 128, "a short packet");
    let mut body = [0; 128];
    stream
        .read_exact(&mut body[..usize::from(head[1])])
        .expect("the broker answers in whole packets");
}

pub(crate) fn subscribe(stream: &mut TcpStream, version: Version, topic: &str, qos: QoS) {
    let mut filters = SubscribeFiltersBuf::new();
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAlways,
    };
    filters.push(topic, options).expect("a short filter");
    let id = PacketId::new(1).expect("not zero");
    let packet = Packet::Subscribe(Subscribe {
        id,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    stream
        .write_all(&encoded(&packet, version))
        .expect("the broker reads");
    read_packet(stream);
}
