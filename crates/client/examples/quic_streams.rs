//! MQTT over QUIC by hand, on quinn and the codec: one connection, a control stream that carries CONNECT, a data stream to
//! publish on and one to subscribe on. `docs/quic.md` says what may travel where.
//!
//! ```sh
//! martlet init --tls
//! martlet serve --listen quic://127.0.0.1:14567 --tls-cert certs/server.pem --tls-key certs/server.key
//! cargo run -p martlet-client --example quic_streams -- 127.0.0.1:14567 localhost certs/ca.pem
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use martlet_codec::{
    AckKind, Connect, Packet, PacketBuf, PacketId, Props, Publish, QoS, Split, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, Version, split,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The largest packet that is taken from the broker.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// One stream of the connection: whole packets in and out.
struct Stream {
    send: SendStream,
    recv: RecvStream,
    unread: Vec<u8>,
}

impl Stream {
    /// A new stream. The broker hears of it with its first packet.
    async fn open(connection: &Connection) -> Result<Self, Box<dyn Error>> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self {
            send,
            recv,
            unread: Vec::new(),
        })
    }

    async fn send(&mut self, packet: &Packet<'_>) -> Result<(), Box<dyn Error>> {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes)?;
        Ok(self.send.write_all(&bytes).await?)
    }

    async fn receive(&mut self) -> Result<PacketBuf, Box<dyn Error>> {
        loop {
            if let Split::Frame(frame) = split(&self.unread, PACKET_BYTES_MAX)? {
                let bytes: Vec<u8> = self.unread.drain(..frame.len).collect();
                return Ok(PacketBuf::decode(bytes.into(), Version::V5)?);
            }
            match self.recv.read_chunk(64 << 10, true).await? {
                Some(chunk) => self.unread.extend_from_slice(&chunk.bytes),
                None => return Err("the broker ended the stream".into()),
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(name), Some(ca)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: quic_streams ADDRESS:PORT NAME CA.pem".into());
    };

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"mqtt".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));

    let endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    let connecting = endpoint.connect_with(config, address.parse()?, &name)?;
    let connection = connecting.await?;

    // The first stream is the control stream. Data streams are allowed from CONNACK on.
    let mut control = Stream::open(&connection).await?;
    control
        .send(&Packet::Connect(Connect {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 60,
            props: Props::EMPTY,
            client_id: "quic-streams",
            will: None,
            username: None,
            password: None,
        }))
        .await?;
    println!("control stream: {:?}", control.receive().await?.packet());

    // Messages of a subscription come on the stream that made it.
    let mut subscriptions = Stream::open(&connection).await?;
    let mut filters = SubscribeFiltersBuf::new();
    filters.push("car/+", SubscribeOptions::qos(QoS::AtLeastOnce))?;
    let first = PacketId::new(1).ok_or("not zero")?;
    subscriptions
        .send(&Packet::Subscribe(Subscribe {
            id: first,
            props: Props::EMPTY,
            filters: filters.as_filters(),
        }))
        .await?;
    let answer = subscriptions.receive().await?;
    println!("data stream 1:  {:?}", answer.packet());

    // Acknowledgements come on the stream of the message.
    let mut publications = Stream::open(&connection).await?;
    publications
        .send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "car/speed",
            id: Some(first),
            props: Props::EMPTY,
            payload: b"88",
        }))
        .await?;
    let answer = publications.receive().await?;
    println!("data stream 2:  {:?}", answer.packet());

    let message = subscriptions.receive().await?;
    println!("data stream 1:  {:?}", message.packet());
    if let Packet::Publish(Publish { id: Some(id), .. }) = message.packet() {
        let acknowledgement = martlet_codec::Ack {
            kind: AckKind::PubAck,
            id,
            reason: martlet_codec::ReasonCode::Success,
            props: Props::EMPTY,
        };
        subscriptions.send(&Packet::Ack(acknowledgement)).await?;
    }

    control
        .send(&Packet::Disconnect(martlet_codec::Disconnect {
            reason: martlet_codec::ReasonCode::Success,
            props: Props::EMPTY,
        }))
        .await?;
    control.send.finish()?;
    // The broker closes the connection when it has read that.
    connection.closed().await;
    Ok(())
}
