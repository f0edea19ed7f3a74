//! A broker in memory under virtual time, clients on pipes, and the log of what the broker says.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use martlet_broker::{Broker, Builder, config::Config, counters::Snapshot};
use martlet_client::{RawConnection, RawError};
use martlet_codec::{
    Ack, AckKind, Connect, Packet, PacketId, Props, PropsBuf, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, Version,
};
use parking_lot::Mutex;
use tracing::{Event, Level, Metadata, Subscriber, field::Field, span};

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// CONNACK.
    ConnAck(ReasonCode),
    /// PUBACK or PUBREC.
    Acked(ReasonCode),
    /// SUBACK for one filter.
    SubAck(ReasonCode),
    /// DISCONNECT.
    Disconnect(ReasonCode),
    /// Messages with these payloads.
    Messages(Vec<String>),
    /// The connection ended without a word.
    Closed,
    /// Nothing.
    Nothing,
    /// Something else.
    Other(String),
}

/// A running broker and what it logs.
pub(crate) struct Ground {
    pub(crate) broker: Broker,
    log: Log,
    /// Clients that must stay connected.
    pub(crate) kept: Vec<Client>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Ground {
    /// Starts a broker without `$SYS`, so that it retains nothing of its own.
    pub(crate) fn new(set: impl FnOnce(&mut Config)) -> Self {
        Self::with(set, |builder| builder)
    }

    /// The same, with something more than settings.
    pub(crate) fn with(
        set: impl FnOnce(&mut Config),
        build: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let log = Log::default();
        let guard = tracing::subscriber::set_default(log.clone());
        let mut config = Config::default();
        config.sys.interval = Duration::ZERO;
        set(&mut config);
        let broker = build(Broker::builder().config(config).seed(1))
            .start()
            .expect("settings make sense");
        Self {
            broker,
            log,
            kept: Vec::new(),
            _guard: guard,
        }
    }

    /// Changes settings while the broker runs.
    pub(crate) fn reload(&self, set: impl FnOnce(&mut Config)) {
        let mut config = (*self.broker.config()).clone();
        set(&mut config);
        self.broker.reload(config).expect("settings make sense");
    }

    pub(crate) fn counters(&self) -> Snapshot {
        self.broker.counters()
    }

    /// Lines at level INFO or above that contain `text`.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        self.log
            .lines
            .lock()
            .iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// A stream to the broker on which nothing was said.
    pub(crate) fn stream(&self) -> Client {
        self.narrow_stream(256 << 10)
    }

    /// The same, with room for `bytes` in each direction.
    pub(crate) fn narrow_stream(&self, bytes: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(bytes);
        self.broker.attach(theirs, "test");
        Client {
            wire: RawConnection::over(ours).version(Version::V5),
            next_id: 0,
        }
    }

    /// A stream as through the listener `id`.
    pub(crate) fn stream_at(&self, id: &str) -> Client {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        assert!(self.broker.attach_to(id, theirs, "test"), "{id}");
        Client {
            wire: RawConnection::over(ours).version(Version::V5),
            next_id: 0,
        }
    }

    /// A connected client of version 5 whose session outlives its connection.
    pub(crate) async fn client(&self, client_id: &str) -> Client {
        let props = PropsBuf::new().with(martlet_codec::Property::SessionExpiry(1_000));
        let mut client = self.stream();
        let connect = Connect {
            client_id,
            clean_start: false,
            props: props.as_props(),
            ..connect()
        };
        assert_eq!(
            client.connect(&connect).await,
            Told::ConnAck(ReasonCode::Success),
            "{client_id}"
        );
        client
    }

    /// Connects and tells what came of it; the client stays connected.
    pub(crate) async fn try_client(&mut self, connect: &Connect<'_>) -> Told {
        let mut client = self.stream();
        let told = client.connect(connect).await;
        self.kept.push(client);
        told
    }
}

/// An ordinary CONNECT of version 5.
pub(crate) fn connect<'a>() -> Connect<'a> {
    Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id: "c",
        will: None,
        username: None,
        password: None,
    }
}

/// A PUBLISH without properties.
pub(crate) fn publish<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        id: None,
        props: Props::EMPTY,
        payload,
    }
}

/// A raw client that answers nothing by itself.
pub(crate) struct Client {
    wire: RawConnection,
    next_id: u16,
}

impl Client {
    fn id(&mut self) -> Option<PacketId> {
        self.next_id += 1;
        PacketId::new(self.next_id)
    }

    /// Sends; the broker may have closed already.
    pub(crate) async fn send(&mut self, packet: &Packet<'_>) {
        match self.wire.send(packet).await {
            Ok(()) | Err(RawError::Io(_)) => {}
            Err(error) => panic!("{packet:?}: {error}"),
        }
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The broker may have closed already.
        let _ = self.wire.send_bytes(bytes).await;
    }

    pub(crate) async fn connect(&mut self, connect: &Connect<'_>) -> Told {
        self.send(&Packet::Connect(*connect)).await;
        self.told().await
    }

    /// Publishes and tells what came back; at QoS 0 whatever came next.
    pub(crate) async fn publish(&mut self, packet: &Publish<'_>) -> Told {
        self.post(packet).await;
        self.told().await
    }

    /// Publishes without waiting.
    pub(crate) async fn post(&mut self, packet: &Publish<'_>) {
        let id = if packet.qos == QoS::AtMostOnce {
            None
        } else {
            self.id()
        };
        self.send(&Packet::Publish(Publish { id, ..*packet })).await;
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> Told {
        self.subscribe_with(filter, Props::EMPTY).await
    }

    pub(crate) async fn subscribe_with(&mut self, filter: &str, props: Props<'_>) -> Told {
        let mut filters = SubscribeFiltersBuf::new();
        filters
            .push(filter, SubscribeOptions::qos(QoS::AtLeastOnce))
            .expect("short");
        let id = self.id().expect("not zero");
        self.send(&Packet::Subscribe(Subscribe {
            id,
            props,
            filters: filters.as_filters(),
        }))
        .await;
        self.told().await
    }

    pub(crate) async fn acknowledge(&mut self, id: PacketId) {
        let ack = Ack {
            kind: AckKind::PubAck,
            id,
            reason: ReasonCode::Success,
            props: Props::EMPTY,
        };
        self.send(&Packet::Ack(ack)).await;
    }

    /// What comes next.
    pub(crate) async fn told(&mut self) -> Told {
        let packet = match self.wire.receive().await {
            Ok(packet) => packet,
            Err(RawError::Eof | RawError::Io(_)) => return Told::Closed,
            Err(RawError::Timeout(_)) => return Told::Nothing,
            Err(error) => return Told::Other(error.to_string()),
        };
        match packet.packet() {
            Packet::ConnAck(connack) => Told::ConnAck(connack.reason),
            Packet::Ack(ack) => Told::Acked(ack.reason),
            Packet::SubAck(suback) => match suback.codes.iter().next() {
                Some(code) => Told::SubAck(code),
                None => Told::Other("empty SUBACK".into()),
            },
            Packet::Disconnect(disconnect) => Told::Disconnect(disconnect.reason),
            Packet::Publish(publish) => {
                Told::Messages(vec![String::from_utf8_lossy(publish.payload).into_owned()])
            }
            other => Told::Other(format!("{other:?}")),
        }
    }

    /// The messages that come without one being acknowledged, until nothing more comes.
    pub(crate) async fn messages(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match self.told().await {
                Told::Messages(payloads) => all.extend(payloads),
                Told::Nothing | Told::Closed => return all,
                other => panic!("{other:?} among messages"),
            }
        }
    }

    /// The next `count` messages, which nothing else may come between.
    pub(crate) async fn first_messages(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.told().await {
                Told::Messages(payloads) => all.extend(payloads),
                other => panic!("{other:?} after {} messages", all.len()),
            }
        }
        all
    }

    /// The next packet, whole.
    pub(crate) async fn packet(&mut self) -> martlet_codec::PacketBuf {
        self.wire.receive().await.expect("a packet")
    }

    /// Reads whatever comes until the connection ends or `limit` has passed; whether it ended.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        let end = async {
            loop {
                match self.wire.receive_bytes().await {
                    Ok(bytes) if bytes.is_empty() => return,
                    Ok(_) | Err(RawError::Timeout(_)) => {}
                    Err(_) => return,
                }
            }
        };
        tokio::time::timeout(limit, end).await.is_ok()
    }

    /// Sends DISCONNECT and waits for the end of the stream.
    pub(crate) async fn leave(mut self) {
        self.send(&Packet::Disconnect(martlet_codec::Disconnect::new(
            ReasonCode::Success,
        )))
        .await;
        assert!(
            self.ends_within(Duration::from_mins(1)).await,
            "the broker closes after DISCONNECT"
        );
    }
}

/// Keeps the broker's log lines.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("martlet")
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let _ = write!(line, " {field}={value:?}");
        });
        self.lines.lock().push(line);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}
