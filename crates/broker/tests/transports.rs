//! The broker through every door at once: whatever a client comes in by, it gets the same, and meets the others.

#[path = "../../transport/tests/common/certs.rs"]
#[expect(dead_code, unreachable_pub, reason = "its other users need the rest")]
mod certs;

use std::{fmt::Debug, time::Duration};

use certs::Certs;
use martlet_broker::{
    Broker, ListenerOptions,
    auth::hash_password,
    config::{Config, IdentityUse, ListenerPolicy, User},
};
use martlet_client::{
    Client, ConnectAddress, ConnectError, ConnectOptions, Disconnected, Event, Events,
    PublishRequest, RawConnection,
};
use martlet_codec::{Connect, Packet, Props, QoS, ReasonCode, SubscribeOptions, Version};
use martlet_transport::{ClientAuth, IdentitySource, TlsClientOptions, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longest wait for anything. Never a measure: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// A broker that listens everywhere.
struct Ground {
    broker: Broker,
    certs: Certs,
    doors: Vec<ConnectAddress>,
}

impl Ground {
    async fn new(config: Config) -> Self {
        let broker = Broker::builder().config(config).start().expect("settings");
        let mut ground = Self {
            broker,
            certs: Certs::new(),
            doors: Vec::new(),
        };
        let unix = format!("unix://{}", ground.certs.path("socket").display());
        for url in [
            "tcp://127.0.0.1:0",
            "ws://127.0.0.1:0/mqtt",
            "tls://127.0.0.1:0",
            "wss://127.0.0.1:0/mqtt",
            "quic://127.0.0.1:0",
            &unix,
        ] {
            let options = ground.certs.listener_options();
            let door = ground.open(url, &options, ListenerPolicy::default()).await;
            ground.doors.push(door);
        }
        ground
    }

    /// Listens and says where.
    async fn open(
        &self,
        url: &str,
        options: &ListenerOptions,
        policy: ListenerPolicy,
    ) -> ConnectAddress {
        let address = url.parse().expect(url);
        let id = format!("listener-{}", self.broker.listeners().len());
        let opened = self
            .broker
            .listen_with(&id, &address, options, policy)
            .await;
        let port = opened.unwrap_or_else(|error| panic!("{error}")).local_addr;
        let url = url.replace(":0", &format!(":{}", port.port()));
        url.parse().expect("an address")
    }

    fn options(&self, door: &ConnectAddress, id: &str) -> ConnectOptions {
        ConnectOptions::new(door.clone())
            .tls(self.certs.client_tls())
            .client_id(id)
            .connect_timeout(DEADLINE)
    }

    async fn client(&self, door: &ConnectAddress, id: &str) -> (Client, Events) {
        let connected = Client::connect(self.options(door, id)).await;
        connected.unwrap_or_else(|error| panic!("{door}: {error}"))
    }
}

async fn within<T>(what: impl Debug, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("{what:?} takes for ever"))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_qos_pass_from_each_door_to_each_other() {
    const LARGE: usize = 1 << 20;
    let ground = Ground::new(Config::default()).await;
    for to in &ground.doors {
        let (subscriber, mut events) = ground.client(to, "to").await;
        let options = SubscribeOptions {
            qos: QoS::ExactlyOnce,
            ..SubscribeOptions::default()
        };
        subscriber
            .subscribe([("a", options)])
            .await
            .expect("granted");
        for from in &ground.doors {
            let (publisher, _) = ground.client(from, "from").await;
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let len = if qos == QoS::AtLeastOnce { LARGE } else { 10 };
                let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                let request = PublishRequest::new("a", payload.clone()).qos(qos);
                publisher.publish(request).await.expect("accepted");
                let event = within((from, to, qos), events.next()).await;
                let Some(Event::Message(message)) = event else {
                    panic!("{from} {to} {qos:?}: {event:?}");
                };
                assert_eq!(message.qos, qos);
                assert!(message.payload == payload, "{from} {to} {qos:?}");
            }
            let goodbye = publisher.disconnect(ReasonCode::Success).await;
            goodbye.expect("connected until then");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_in_by_another_door_takes_over() {
    let ground = Ground::new(Config::default()).await;
    let mut before: Option<(&ConnectAddress, Events, Client)> = None;
    for door in ground.doors.iter().chain(&ground.doors) {
        let (client, events) = ground.client(door, "same").await;
        if let Some((old, mut events, _client)) = before.replace((door, events, client)) {
            match within((old, door), events.next()).await {
                Some(Event::Disconnected(Disconnected::Server { reason, .. })) => {
                    assert_eq!(reason, ReasonCode::SessionTakenOver, "{old} by {door}");
                }
                other => panic!("{old} by {door}: {other:?}"),
            }
        }
    }
    assert_eq!(ground.broker.clients_connected(), 1);
}

fn hello(client_id: &str) -> Packet<'_> {
    Packet::Connect(Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_may_come_byte_by_byte() {
    let ground = Ground::new(Config::default()).await;
    for door in &ground.doors {
        let options = martlet_transport::ConnectOptions {
            tls: ground.certs.client_tls(),
            ..Default::default()
        };
        let mut stream = connect(door, &options).await.expect("reachable");
        let mut bytes = Vec::new();
        hello("drip")
            .encode(Version::V5, &mut bytes)
            .expect("proper");
        bytes.extend(b"\xC0\0");
        for byte in bytes {
            stream.write_all(&[byte]).await.expect("taken");
            stream.flush().await.expect("taken");
        }
        let mut connection = RawConnection::over(stream)
            .version(Version::V5)
            .limit(DEADLINE);
        let answer = connection.receive().await.expect("CONNACK");
        assert!(matches!(answer.packet(), Packet::ConnAck(_)), "{door}");
        let answer = connection.receive().await.expect("PINGRESP");
        assert!(matches!(answer.packet(), Packet::PingResp), "{door}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_or_nonsense_is_gone_in_time() {
    let mut config = Config::default();
    config.limits.connect_timeout = Duration::from_millis(200);
    let ground = Ground::new(config).await;
    for door in &ground.doors {
        // Silent from the first byte, then after TLS, the upgrade or the first byte of a stream.
        if let Some(at) = door
            .host_port()
            .filter(|_| !door.to_string().starts_with("quic"))
        {
            let mut socket = tokio::net::TcpStream::connect((at.host.as_str(), at.port))
                .await
                .expect("reachable");
            let mut rest = Vec::new();
            // An end or a reset, both will do.
            let _ = within(door, socket.read_to_end(&mut rest)).await;
        }
        let options = martlet_transport::ConnectOptions {
            tls: ground.certs.client_tls(),
            ..Default::default()
        };
        for bytes in [&b"\x10"[..], b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"] {
            let mut stream = connect(door, &options).await.expect("reachable");
            stream.write_all(bytes).await.expect("taken");
            stream.flush().await.expect("taken");
            let mut rest = Vec::new();
            let _ = within(door, stream.read_to_end(&mut rest)).await;
            assert_eq!(rest, b"", "{door}");
        }
    }
    within("connections", async {
        while ground.broker.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A listener that asks for certificates, and what `name` shows there.
async fn mutual(
    ground: &Ground,
    identity_as: IdentityUse,
    name: &str,
) -> (ConnectAddress, TlsClientOptions) {
    ground.certs.issue(name, &[], |_| {});
    let mut options = ground.certs.listener_options();
    options.identity = Some(IdentitySource::CommonName);
    options.tls.client_auth = ClientAuth::Required;
    options.tls.client_ca = Some(ground.certs.path("ca.pem"));
    let policy = ListenerPolicy {
        identity_as,
        ..ListenerPolicy::default()
    };
    let door = ground.open("tls://127.0.0.1:0", &options, policy).await;
    let tls = TlsClientOptions {
        certificate: Some(ground.certs.path(&format!("{name}.pem"))),
        key: Some(ground.certs.path(&format!("{name}.key"))),
        ..ground.certs.client_tls()
    };
    (door, tls)
}

fn refusal(result: Result<(Client, Events), ConnectError>) -> Option<ReasonCode> {
    match result {
        Ok(_) => None,
        Err(ConnectError::Refused { reason, .. }) => Some(reason),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_for_user_name_and_password() {
    let user = |name: &str| User {
        name: name.into(),
        password_hash: hash_password(b"secret").expect("a hash"),
        ..User::default()
    };
    for (users, name, expected) in [
        (vec![], "ada", None),
        (vec!["ada"], "ada", None),
        (vec!["ada"], "bob", Some(ReasonCode::BadUserNameOrPassword)),
    ] {
        let config = Config {
            users: users.iter().map(|name| user(name)).collect(),
            ..Config::default()
        };
        let ground = Ground::new(config).await;
        let (door, tls) = mutual(&ground, IdentityUse::UserName, name).await;
        // What CONNECT says instead is of no importance.
        let options = ground.options(&door, "x").tls(tls).username("root");
        let result = Client::connect(options).await;
        assert_eq!(refusal(result), expected, "{users:?} {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_for_the_client_id() {
    let ground = Ground::new(Config::default()).await;
    let (door, tls) = mutual(&ground, IdentityUse::ClientId, "ada").await;
    for (id, expected) in [
        ("ada", None),
        ("", None),
        ("bob", Some(ReasonCode::ClientIdentifierNotValid)),
    ] {
        let options = ground.options(&door, id).tls(tls.clone());
        let result = Client::connect(options).await;
        if let Ok((client, _)) = &result
            && id.is_empty()
        {
            assert_eq!(client.server().client_id(), "ada");
        }
        assert_eq!(refusal(result), expected, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stalls_makes_room_for_whoever_does_not() {
    let ground = Ground::new(Config::default()).await;
    let policy = ListenerPolicy {
        half_open_max: 5,
        ..ListenerPolicy::default()
    };
    let options = ground.certs.listener_options();
    for url in ["tcp://127.0.0.1:0", "tls://127.0.0.1:0"] {
        let door = ground.open(url, &options, policy.clone()).await;
        let at = door.host_port().expect("a port");
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let socket = tokio::net::TcpStream::connect((at.host.as_str(), at.port)).await;
            stalled.push(socket.expect("reachable"));
        }
        let (client, _) = ground.client(&door, "honest").await;
        for socket in &mut stalled[..15] {
            let mut rest = Vec::new();
            let _ = within(url, socket.read_to_end(&mut rest)).await;
        }
        let request = PublishRequest::new("a", "x").qos(QoS::AtLeastOnce);
        client.publish(request).await.expect("still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_judged_before_a_word() {
    let ground = Ground::new(Config::default()).await;
    let open = async |policy: ListenerPolicy| {
        let options = ListenerOptions::default();
        ground.open("tcp://127.0.0.1:0", &options, policy).await
    };
    let denied = ListenerPolicy {
        deny: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ListenerPolicy::default()
    };
    let door = open(denied).await;
    let result = Client::connect(ground.options(&door, "x")).await;
    assert!(matches!(result, Err(ConnectError::Closed)), "denied");

    let one = ListenerPolicy {
        connections_per_address_max: 1,
        ..ListenerPolicy::default()
    };
    let door = open(one).await;
    let (first, mut events) = ground.client(&door, "first").await;
    let result = Client::connect(ground.options(&door, "second")).await;
    assert!(matches!(result, Err(ConnectError::Closed)), "one is enough");
    first
        .disconnect(ReasonCode::Success)
        .await
        .expect("goodbye");
    within("the end", events.next()).await;
    within("a place", async {
        while Client::connect(ground.options(&door, "third"))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_passes_on_is_not_local() {
    let ground = Ground::new(Config::default()).await;
    let options = ListenerOptions {
        proxy_protocol: true,
        trusted_proxies: vec!["127.0.0.1".parse().expect("a network")],
        ..ListenerOptions::default()
    };
    let policy = ListenerPolicy {
        deny: vec!["192.0.2.66".parse().expect("a network")],
        ..ListenerPolicy::default()
    };
    let door = ground.open("tcp://127.0.0.1:0", &options, policy).await;
    for (source, expected) in [
        // Without users anonymous clients come in locally only.
        ("192.0.2.1", Some(ReasonCode::NotAuthorized)),
        ("192.0.2.66", None),
    ] {
        let mut stream = connect(&door, &martlet_transport::ConnectOptions::default())
            .await
            .expect("reachable");
        let header = format!("PROXY TCP4 {source} 192.0.2.2 1 2\r\n");
        stream.write_all(header.as_bytes()).await.expect("taken");
        let mut connection = RawConnection::over(stream).limit(DEADLINE);
        connection.send(&hello("x")).await.expect("taken");
        let answer = connection.receive().await.ok();
        let reason = answer.and_then(|packet| match packet.packet() {
            Packet::ConnAck(connack) => Some(connack.reason),
            _ => None,
        });
        assert_eq!(reason, expected, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_can_be_looked_after() {
    let ground = Ground::new(Config::default()).await;
    let infos = ground.broker.listeners();
    for info in &infos {
        let is_secure = ["tls", "wss", "quic"]
            .iter()
            .any(|scheme| info.url.starts_with(scheme));
        let days = info.certificate_days_left;
        assert_eq!(days.is_some_and(|days| days > 300), is_secure, "{info:?}");
    }
    let all = ground.broker.reload_certificates();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|(_, result)| result.is_ok()), "{all:?}");
    std::fs::write(ground.certs.path("server.key"), "broken").expect("written");
    for (id, result) in ground.broker.reload_certificates() {
        let error = result.expect_err(&id).to_string();
        assert!(error.contains("server.key"), "{error}");
    }
    for door in &ground.doors {
        ground.client(door, "still").await;
    }
}
