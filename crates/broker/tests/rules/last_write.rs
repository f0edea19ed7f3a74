//! The n-th write fails, for every n of a QoS 2 exchange: the broker is restarted on what the store holds then, both clients
//! go on where they were, and every message arrives exactly once, in order.
//!
//! A write can fail before it is in the store, after it (nobody was told), or at the sync that follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use martlet_broker::Broker;
use martlet_client::RawConnection;
use martlet_codec::{AckKind, Packet, PacketBuf, Publish, QoS, ReasonCode, Version};
use martlet_storage::{CommitOptions, MemoryStorage, Storage, StorageError, Table, Write};

use crate::ground::{ack, connect_packet, connected, open, publish, quiet, send, subscribed};

/// When the last write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    Before,
    After,
    Sync,
}

/// A store that dies at its n-th write.
struct Dying {
    inner: MemoryStorage,
    how: Fails,
    left: Arc<AtomicUsize>,
}

impl Dying {
    /// Whether this call is beyond the end.
    fn is_over(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_err()
    }

    fn dead() -> Result<(), StorageError> {
        Err(StorageError::Io("the disk is gone".to_owned()))
    }
}

impl Storage for Dying {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        match self.how {
            Fails::Sync if self.left.load(Ordering::SeqCst) == 0 => Self::dead(),
            Fails::Sync => self.inner.apply(writes),
            Fails::Before if self.is_over() => Self::dead(),
            Fails::After if self.left.load(Ordering::SeqCst) == 0 => Self::dead(),
            Fails::After => {
                self.inner.apply(writes)?;
                self.left.fetch_sub(1, Ordering::SeqCst);
                if self.left.load(Ordering::SeqCst) == 0 {
                    return Self::dead();
                }
                Ok(())
            }
            Fails::Before => self.inner.apply(writes),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        if self.how == Fails::Sync && self.is_over() {
            return Self::dead();
        }
        self.inner.sync()
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.inner.scan(table, prefix, visit)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        self.inner.get(table, key, read)
    }
}

fn start(storage: impl Storage) -> Broker {
    let options = CommitOptions {
        // Only what clients cause is counted.
        heartbeat: Duration::from_hours(1),
        ..CommitOptions::default()
    };
    Broker::builder()
        .config(quiet())
        .seed(7)
        .store(storage, options)
        .expect("the store can be read")
        .start()
        .expect("sound settings")
}

/// Where the publisher is with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    New,
    Sent,
    Received,
    Done,
}

const MESSAGES: [&str; 3] = ["one", "two", "three"];

/// What the clients keep across connections.
struct Clients {
    steps: [Step; MESSAGES.len()],
    /// Identifiers received and not released.
    open: Vec<u16>,
    delivered: Vec<String>,
    /// Publisher and subscriber have got their CONNACK on this broker.
    resumed: [bool; 2],
}

impl Clients {
    fn is_done(&self) -> bool {
        self.resumed == [true; 2]
            && self.steps == [Step::Done; MESSAGES.len()]
            && self.delivered.len() >= MESSAGES.len()
            && self.open.is_empty()
    }

    async fn publisher(&mut self, link: &mut RawConnection, packet: &PacketBuf) {
        match packet.packet() {
            // The store has failed: nobody is admitted any more.
            Packet::ConnAck(connack) if connack.reason != ReasonCode::Success => {}
            Packet::ConnAck(connack) => {
                assert!(connack.session_present, "the session of the publisher");
                self.resumed[0] = true;
                for (step, (text, id)) in self.steps.iter_mut().zip(MESSAGES.iter().zip(1..)) {
                    match step {
                        Step::New | Step::Sent => {
                            let Packet::Publish(message) = publish("t", text, QoS::ExactlyOnce, id)
                            else {
                                unreachable!()
                            };
                            let dup = *step == Step::Sent;
                            *step = Step::Sent;
                            let message = Packet::Publish(Publish { dup, ..message });
                            // A broker that has just died does not read.
                            let _ = link.send(&message).await;
                        }
                        Step::Received => {
                            let _ = link.send(&ack(AckKind::PubRel, id)).await;
                        }
                        Step::Done => {}
                    }
                }
            }
            Packet::Ack(found) => {
                let id = found.id.get();
                let step = &mut self.steps[usize::from(id) - 1];
                match found.kind {
                    AckKind::PubRec => {
                        assert_ne!(*step, Step::Done, "PUBREC after PUBCOMP");
                        *step = Step::Received;
                        let _ = link.send(&ack(AckKind::PubRel, id)).await;
                    }
                    AckKind::PubComp => *step = Step::Done,
                    other => panic!("{other:?} to a publisher"),
                }
            }
            other => panic!("{other:?} to a publisher"),
        }
    }

    async fn subscriber(&mut self, link: &mut RawConnection, packet: &PacketBuf) {
        match packet.packet() {
            // The store has failed: nobody is admitted any more.
            Packet::ConnAck(connack) if connack.reason != ReasonCode::Success => {}
            Packet::ConnAck(connack) => {
                assert!(connack.session_present, "the session of the subscriber");
                self.resumed[1] = true;
            }
            Packet::Publish(message) => {
                let id = message.id.expect("QoS 2").get();
                if !self.open.contains(&id) {
                    self.open.push(id);
                    let text = String::from_utf8_lossy(message.payload).into_owned();
                    self.delivered.push(text);
                }
                let _ = link.send(&ack(AckKind::PubRec, id)).await;
            }
            Packet::Ack(found) if found.kind == AckKind::PubRel => {
                let id = found.id.get();
                self.open.retain(|open| *open != id);
                let _ = link.send(&ack(AckKind::PubComp, id)).await;
            }
            other => panic!("{other:?} to a subscriber"),
        }
    }

    /// Connects both and goes on until everything is done, or the store has failed and the broker has said its last.
    async fn go_on(&mut self, broker: &Broker) {
        let mut publisher = open(broker, Version::V311);
        let mut subscriber = open(broker, Version::V311);
        for (link, client_id) in [(&mut publisher, "p"), (&mut subscriber, "s")] {
            let connect = connect_packet(client_id, Version::V311, false);
            let _ = link.send(&Packet::Connect(connect)).await;
        }
        self.resumed = [false; 2];
        let (mut publishing, mut subscribing, mut alive) = (true, true, true);
        while !self.is_done() && (publishing || subscribing) {
            tokio::select! {
                packet = publisher.receive(), if publishing => match packet {
                    Ok(packet) => self.publisher(&mut publisher, &packet).await,
                    Err(_) => publishing = false,
                },
                packet = subscriber.receive(), if subscribing => match packet {
                    Ok(packet) => self.subscriber(&mut subscriber, &packet).await,
                    Err(_) => subscribing = false,
                },
                () = broker.until_store_fails(), if alive => {
                    alive = false;
                    broker.shutdown(Duration::ZERO).await;
                }
            }
        }
        if alive {
            assert!(self.is_done(), "both wait: {:?}", self.steps);
            // What else there is comes before the answer to this: a PUBREL whose PUBCOMP was not heard, but no message.
            send(&mut subscriber, Packet::PingReq).await;
            loop {
                let packet = subscriber.receive().await.expect("a packet");
                if packet.packet() == Packet::PingResp {
                    break;
                }
                self.subscriber(&mut subscriber, &packet).await;
            }
        }
    }
}

/// Sessions and a subscription, safely stored.
async fn prepared() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let broker = start(storage.clone());
    drop(connected(&broker, "p", false).await);
    let mut subscriber = connected(&broker, "s", false).await;
    subscribed(&mut subscriber, "t", QoS::ExactlyOnce).await;
    drop(subscriber);
    while broker.clients_connected() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A new session is committed after everything before it.
    drop(connected(&broker, "probe", false).await);
    broker.shutdown(Duration::ZERO).await;
    storage
}

/// Runs the exchange with a store that dies at write `n`, then goes on with what it holds. Returns whether it died.
async fn check(how: Fails, n: usize) -> bool {
    let storage = prepared().await;
    let left = Arc::new(AtomicUsize::new(n));
    let dying = Dying {
        inner: storage.clone(),
        how,
        left: Arc::clone(&left),
    };
    let mut clients = Clients {
        steps: [Step::New; MESSAGES.len()],
        open: Vec::new(),
        delivered: Vec::new(),
        resumed: [false; 2],
    };
    let broker = start(dying);
    clients.go_on(&broker).await;
    broker.shutdown(Duration::ZERO).await;
    drop(broker);
    let died = left.load(Ordering::SeqCst) == 0;

    let broker = start(storage);
    clients.go_on(&broker).await;
    assert_eq!(clients.delivered, MESSAGES, "{how:?}, write {n}");
    broker.shutdown(Duration::ZERO).await;
    died
}

#[tokio::test]
async fn whichever_write_is_the_last_every_message_arrives_exactly_once() {
    for how in [Fails::Before, Fails::After, Fails::Sync] {
        // As many as one packet after the other needs, at most; batches may hold several.
        for n in 1..64 {
            if !check(how, n).await {
                assert!(n > 4, "{how:?}: the exchange has more than {n} writes");
                break;
            }
        }
    }
}
