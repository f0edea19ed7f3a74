//! rumqttc against a broker: MQTT 3.1.1 and 5.0 over TCP.
//!
//! Started by `cargo xtask interop --clients` as `cargo run --package martlet-interop --example rumqttc_client -- PORT`.
//! Prints lines as `harness.py` describes them. rumqttc has a client type for each version; `Client` gives both one
//! shape, so that the checks are written once.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the lines are the result of this program"
)]

use rumqttc::v5;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A check ends with a failure after this long without the expected packet.
const PATIENCE: Duration = Duration::from_secs(20);

/// Payload of the large check, in bytes.
const LARGE: usize = 1 << 20;

/// Larger than any packet of the checks, in bytes.
const PACKET_MAX: u32 = 4 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the broker sent, alike for both versions.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connected {
        session_present: bool,
    },
    Subscribed,
    Acknowledged,
    Message {
        payload: Vec<u8>,
        qos: u8,
        retain: bool,
    },
}

#[derive(Clone, Copy)]
enum Version {
    V311,
    V5,
}

/// How to connect.
struct Request {
    version: Version,
    port: u16,
    client_id: String,
    clean: bool,
    /// Topic of a will.
    will: Option<String>,
}

enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

fn qos_v311(level: u8) -> rumqttc::QoS {
    match level {
        0 => rumqttc::QoS::AtMostOnce,
        1 => rumqttc::QoS::AtLeastOnce,
        _ => rumqttc::QoS::ExactlyOnce,
    }
}

fn qos_v5(level: u8) -> v5::mqttbytes::QoS {
    match level {
        0 => v5::mqttbytes::QoS::AtMostOnce,
        1 => v5::mqttbytes::QoS::AtLeastOnce,
        _ => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

/// Polls until the connection ends; this client would reconnect on the poll after that.
async fn drive_v311(mut events: rumqttc::EventLoop, seen: UnboundedSender<Seen>) {
    use rumqttc::{Event, Packet};
    while let Ok(event) = events.poll().await {
        let seen_now = match event {
            Event::Incoming(Packet::ConnAck(connack)) => Seen::Connected {
                session_present: connack.session_present,
            },
            Event::Incoming(Packet::SubAck(_)) => Seen::Subscribed,
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Seen::Acknowledged,
            Event::Incoming(Packet::Publish(publish)) => Seen::Message {
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
            },
            _ => continue,
        };
        if seen.send(seen_now).is_err() {
            return;
        }
    }
}

/// As [`drive_v311`], for version 5.
async fn drive_v5(mut events: v5::EventLoop, seen: UnboundedSender<Seen>) {
    use v5::Event;
    use v5::mqttbytes::v5::Packet;
    while let Ok(event) = events.poll().await {
        let seen_now = match event {
            Event::Incoming(Packet::ConnAck(connack)) => Seen::Connected {
                session_present: connack.session_present,
            },
            Event::Incoming(Packet::SubAck(_)) => Seen::Subscribed,
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Seen::Acknowledged,
            Event::Incoming(Packet::Publish(publish)) => Seen::Message {
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
            },
            _ => continue,
        };
        if seen.send(seen_now).is_err() {
            return;
        }
    }
}

fn start_v311(request: &Request, seen: UnboundedSender<Seen>) -> (Client, JoinHandle<()>) {
    let mut options = rumqttc::MqttOptions::new(&request.client_id, "127.0.0.1", request.port);
    options.set_clean_session(request.clean);
    options.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize);
    if let Some(topic) = &request.will {
        let will = rumqttc::LastWill::new(topic, "gone", rumqttc::QoS::AtLeastOnce, false);
        options.set_last_will(will);
    }
    let (client, events) = rumqttc::AsyncClient::new(options, 16);
    (Client::V311(client), tokio::spawn(drive_v311(events, seen)))
}

fn start_v5(request: &Request, seen: UnboundedSender<Seen>) -> (Client, JoinHandle<()>) {
    let mut options = v5::MqttOptions::new(&request.client_id, "127.0.0.1", request.port);
    options.set_clean_start(request.clean);
    options.set_max_packet_size(Some(PACKET_MAX));
    options.set_session_expiry_interval(Some(if request.clean { 0 } else { 300 }));
    if let Some(topic) = &request.will {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        let will = v5::mqttbytes::v5::LastWill::new(topic, "gone", qos, false, None);
        options.set_last_will(will);
    }
    let (client, events) = v5::AsyncClient::new(options, 16);
    (Client::V5(client), tokio::spawn(drive_v5(events, seen)))
}

/// A connected client.
struct Session {
    client: Client,
    driver: JoinHandle<()>,
    seen: UnboundedReceiver<Seen>,
    /// Messages that came while something else was awaited.
    early: Vec<Seen>,
    /// The Session Present flag of CONNACK.
    resumed: bool,
}

impl Session {
    async fn open(request: &Request) -> Result<Self, Failure> {
        let (sender, seen) = mpsc::unbounded_channel();
        let (client, driver) = match request.version {
            Version::V311 => start_v311(request, sender),
            Version::V5 => start_v5(request, sender),
        };
        let mut session = Self {
            client,
            driver,
            seen,
            early: Vec::new(),
            resumed: false,
        };
        match session.next().await? {
            Seen::Connected { session_present } => session.resumed = session_present,
            other => return Err(format!("{other:?} instead of CONNACK").into()),
        }
        Ok(session)
    }

    async fn next(&mut self) -> Result<Seen, Failure> {
        let next = timeout(PATIENCE, self.seen.recv()).await?;
        next.ok_or_else(|| "the connection ended".into())
    }

    /// Waits for an acknowledgement; messages that come first are kept.
    async fn acknowledged(&mut self, expected: &Seen) -> Result<(), Failure> {
        loop {
            let seen = self.next().await?;
            if seen == *expected {
                return Ok(());
            }
            self.early.push(seen);
        }
    }

    async fn subscribe(&mut self, topic: &str, qos: u8) -> Result<(), Failure> {
        match &self.client {
            Client::V311(client) => client.subscribe(topic, qos_v311(qos)).await?,
            Client::V5(client) => client.subscribe(topic, qos_v5(qos)).await?,
        }
        self.acknowledged(&Seen::Subscribed).await
    }

    async fn publish(
        &mut self,
        topic: &str,
        qos: u8,
        retain: bool,
        payload: Vec<u8>,
    ) -> Result<(), Failure> {
        match &self.client {
            Client::V311(client) => {
                client
                    .publish(topic, qos_v311(qos), retain, payload)
                    .await?;
            }
            Client::V5(client) => client.publish(topic, qos_v5(qos), retain, payload).await?,
        }
        if qos > 0 {
            self.acknowledged(&Seen::Acknowledged).await?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(Vec<u8>, u8, bool), Failure> {
        loop {
            let seen = if self.early.is_empty() {
                self.next().await?
            } else {
                self.early.remove(0)
            };
            if let Seen::Message {
                payload,
                qos,
                retain,
            } = seen
            {
                return Ok((payload, qos, retain));
            }
        }
    }

    /// Ends the connection without DISCONNECT.
    fn drop_connection(self) {
        self.driver.abort();
    }

    async fn close(self) -> Result<(), Failure> {
        match &self.client {
            Client::V311(client) => client.disconnect().await?,
            Client::V5(client) => client.disconnect().await?,
        }
        timeout(PATIENCE, self.driver).await??;
        Ok(())
    }
}

/// Where and how a check runs, and names that no other check uses.
#[derive(Clone, Copy)]
struct Place {
    version: Version,
    port: u16,
}

impl Place {
    fn name(self, what: &str) -> String {
        let version = match self.version {
            Version::V311 => "v311",
            Version::V5 => "v5",
        };
        format!("rumqttc/{}/{version}/{what}", std::process::id())
    }

    fn request(self, client_id: &str) -> Request {
        Request {
            version: self.version,
            port: self.port,
            client_id: self.name(client_id),
            clean: true,
            will: None,
        }
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(actual: &T, expected: &T) -> Result<(), Failure> {
    if actual == expected {
        return Ok(());
    }
    let text = format!("{actual:?} instead of {expected:?}");
    Err(text.chars().take(200).collect::<String>().into())
}

async fn connect(place: Place) -> Result<(), Failure> {
    Session::open(&place.request("connect"))
        .await?
        .close()
        .await
}

async fn qos(place: Place, level: u8) -> Result<(), Failure> {
    let topic = place.name(&format!("qos/{level}"));
    let mut session = Session::open(&place.request("qos")).await?;
    session.subscribe(&topic, level).await?;
    for number in 0..10_u8 {
        session.publish(&topic, level, false, vec![number]).await?;
    }
    for number in 0..10_u8 {
        expect(&session.receive().await?, &(vec![number], level, false))?;
    }
    session.close().await
}

async fn retain(place: Place) -> Result<(), Failure> {
    let topic = place.name("retain");
    let mut session = Session::open(&place.request("retain")).await?;
    session.publish(&topic, 1, true, b"kept".to_vec()).await?;
    session.subscribe(&topic, 1).await?;
    expect(&session.receive().await?, &(b"kept".to_vec(), 1, true))?;
    session.publish(&topic, 1, true, Vec::new()).await?;
    session.close().await
}

async fn will(place: Place) -> Result<(), Failure> {
    let topic = place.name("will");
    let mut watcher = Session::open(&place.request("watcher")).await?;
    watcher.subscribe(&topic, 1).await?;
    let request = Request {
        will: Some(topic),
        ..place.request("dying")
    };
    Session::open(&request).await?.drop_connection();
    expect(&watcher.receive().await?.0, &b"gone".to_vec())?;
    watcher.close().await
}

async fn resume(place: Place) -> Result<(), Failure> {
    let topic = place.name("resume");
    let request = Request {
        clean: false,
        ..place.request("resume")
    };
    let mut first = Session::open(&request).await?;
    expect(&first.resumed, &false)?;
    first.subscribe(&topic, 2).await?;
    first.close().await?;
    let mut other = Session::open(&place.request("other")).await?;
    other.publish(&topic, 1, false, b"one".to_vec()).await?;
    other.publish(&topic, 2, false, b"two".to_vec()).await?;
    other.close().await?;
    let mut second = Session::open(&request).await?;
    expect(&second.resumed, &true)?;
    expect(&second.receive().await?.0, &b"one".to_vec())?;
    expect(&second.receive().await?.0, &b"two".to_vec())?;
    second.close().await?;
    let clean = Request {
        clean: true,
        ..request
    };
    Session::open(&clean).await?.close().await
}

async fn large(place: Place) -> Result<(), Failure> {
    let topic = place.name("large");
    let payload: Vec<u8> = (0..LARGE).map(|index| (index % 251) as u8).collect();
    let mut session = Session::open(&place.request("large")).await?;
    session.subscribe(&topic, 2).await?;
    session.publish(&topic, 2, false, payload.clone()).await?;
    if session.receive().await?.0 != payload {
        return Err("the payload differs".into());
    }
    session.close().await
}

fn report(version: &str, name: &str, result: Result<(), Failure>) {
    match result {
        Ok(()) => println!("RESULT\t{version} {name}\tok\t"),
        Err(error) => {
            let note = error.to_string().replace(['\t', '\n'], " ");
            println!("RESULT\t{version} {name}\tfailed\t{note}");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(port) = std::env::args()
        .nth(1)
        .and_then(|text| text.parse::<u16>().ok())
    else {
        eprintln!("usage: rumqttc_client PORT");
        return ExitCode::FAILURE;
    };
    for (name, version) in [("3.1.1", Version::V311), ("5.0", Version::V5)] {
        let place = Place { version, port };
        report(name, "connect", connect(place).await);
        for level in 0..=2 {
            report(name, &format!("QoS {level}"), qos(place, level).await);
        }
        report(name, "retain", retain(place).await);
        report(name, "will", will(place).await);
        report(name, "resume", resume(place).await);
        report(name, "1 MiB", large(place).await);
    }
    ExitCode::SUCCESS
}
