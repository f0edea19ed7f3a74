//! rumqttc against a broker: MQTT 3.1.1 and 5.0 over TCP, as `cargo run --package martlet-interop --example rumqttc_client`.
//!
//! Prints lines as `harness.py` describes them. The two protocol versions are two client types in rumqttc; a macro gives
//! them one shape, so that the checks are written once.

#![expect(
    clippy::print_stdout,
    reason = "the lines are the result of this program"
)]

use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A check ends with a failure after this long without the expected packet.
const PATIENCE: Duration = Duration::from_secs(20);

/// Size of the payload of the large check, in bytes.
const LARGE: usize = 1 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the broker sent, alike for both versions.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connected { session_present: bool },
    Subscribed,
    Acknowledged,
    Message { payload: Vec<u8>, qos: u8, retain: bool },
}

/// How to connect.
struct Request {
    port: u16,
    client_id: String,
    clean: bool,
    will: Option<String>,
}

macro_rules! session {
    ($module:ident, $root:path, $clean:ident, $options:ident => $settings:block, $will:expr) => {
        mod $module {
            use super::{Failure, PATIENCE, Request, Seen};
            use tokio::sync::mpsc;
            use tokio::task::JoinHandle;
            use tokio::time::timeout;
            use $root as library;
            use library::mqttbytes::QoS;
            use library::{AsyncClient, Event, EventLoop, MqttOptions};

            /// Makes rumqttc's names for packets available alike.
            use super::packets::$module::{Packet, will};

            pub(super) struct Session {
                client: AsyncClient,
                seen: mpsc::UnboundedReceiver<Seen>,
                driver: JoinHandle<()>,
                pub(super) session_present: bool,
            }

            async fn drive(mut events: EventLoop, seen: mpsc::UnboundedSender<Seen>) {
                // An error of this client is the end of the connection; it would reconnect on the next poll.
                while let Ok(event) = events.poll().await {
                    let Event::Incoming(packet) = event else { continue };
                    let seen_now = match packet {
                        Packet::ConnAck(connack) => Seen::Connected { session_present: connack.session_present },
                        Packet::SubAck(_) => Seen::Subscribed,
                        Packet::PubAck(_) | Packet::PubComp(_) => Seen::Acknowledged,
                        Packet::Publish(publish) => Seen::Message {
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

            impl Session {
                pub(super) async fn open(request: &Request) -> Result<Self, Failure> {
                    let mut $options = MqttOptions::new(&request.client_id, "127.0.0.1", request.port);
                    $options.$clean(request.clean);
                    let keep = !request.clean;
                    let _ = keep;
                    super::settings::$module(&mut $options, keep);
                    if let Some(topic) = &request.will {
                        $options.set_last_will(will(topic));
                    }
                    let (client, events) = AsyncClient::new($options, 16);
                    let (sender, seen) = mpsc::unbounded_channel();
                    let driver = tokio::spawn(drive(events, sender));
                    let mut session = Self { client, seen, driver, session_present: false };
                    match session.next().await? {
                        Seen::Connected { session_present } => session.session_present = session_present,
                        other => return Err(format!("{other:?} instead of CONNACK").into()),
                    }
                    Ok(session)
                }
            }
        }
    };
}
