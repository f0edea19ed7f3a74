//! A broker that is killed while messages at QoS 2 are in flight in both directions, carried as JSON lines through every
//! backend there is, and started again on each: every exchange goes on where it was.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::support::{Server, directory, martlet, run};

const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const PUBLISH_QOS_2: u8 = 0x34;
const DUP: u8 = 0x08;

/// A client that answers nothing by itself. Its packets are short: one byte of Remaining Length.
struct Client(TcpStream);

impl Client {
    /// Comes with a session that outlives the connection; whether there was one.
    fn connect(port: u16, id: &str) -> (Self, bool) {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).expect("is set");
        let mut client = Self(stream);
        let mut body = b"\0\x04MQTT\x04\0\0\0\0".to_vec();
        body.push(id.len() as u8);
        body.extend(id.as_bytes());
        client.send(0x10, &body);
        let (first, body) = client.receive();
        assert_eq!((first, body[1]), (0x20, 0), "accepted");
        (client, body[0] == 1)
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first, body.len() as u8];
        packet.extend(body);
        self.0.write_all(&packet).expect("the broker reads");
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("the broker answers");
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body).expect("a whole packet");
        (head[0], body)
    }

    /// Says something about a packet identifier.
    fn say(&mut self, first: u8, id: u8) {
        self.send(first, &[0, id]);
    }

    /// The next packet is this, about this identifier.
    fn hear(&mut self, first: u8, id: u8) {
        assert_eq!(self.receive(), (first, vec![0, id]));
    }

    fn publish(&mut self, flags: u8, id: u8, payload: &str) {
        let mut body = vec![0, 1, b't', 0, id];
        body.extend(payload.as_bytes());
        self.send(PUBLISH_QOS_2 | flags, &body);
        self.hear(PUBREC, id);
    }

    /// The next packet is this message at QoS 2; its identifier.
    fn message(&mut self, flags: u8, payload: &str) -> u8 {
        let (first, body) = self.receive();
        assert_eq!(first, PUBLISH_QOS_2 | flags, "{body:?}");
        assert_eq!(&body[5..], payload.as_bytes());
        body[4]
    }

    /// Nothing came before the answer to this.
    fn silence(&mut self) {
        self.send(0xC0, &[]);
        assert_eq!(self.receive(), (0xD0, Vec::new()));
    }
}

/// What was in flight: identifiers of what was released, and of the two that were sent.
struct InFlight {
    released: u8,
    sent: [u8; 2],
}

/// Leaves exchanges in the middle, in the store in `martlet-data`, whose broker was killed.
fn interrupted(root: tempfile::TempDir) -> (tempfile::TempDir, InFlight) {
    let mut server = Server::start_in(root, &[]);
    let (mut subscriber, _) = Client::connect(server.tcp, "subscriber");
    subscriber.send(0x82, b"\0\x01\0\x01t\x02");
    assert_eq!(subscriber.receive(), (0x90, vec![0, 1, 2]));
    let (mut publisher, _) = Client::connect(server.tcp, "publisher");
    for (id, payload) in [(1, "released"), (2, "sent")] {
        publisher.publish(0, id, payload);
        publisher.say(PUBREL, id);
        publisher.hear(PUBCOMP, id);
    }
    publisher.publish(0, 3, "held");
    let released = subscriber.message(0, "released");
    let sent = ["sent", "held"].map(|payload| subscriber.message(0, payload));
    subscriber.say(PUBREC, released);
    subscriber.hear(PUBREL, released);
    server.running.signal("KILL");
    server.running.end();
    let kept = directory();
    let data = server.directory.path().join("martlet-data");
    std::fs::rename(data, kept.path().join("martlet-data")).expect("is moved");
    (kept, InFlight { released, sent })
}

/// Every exchange goes on where it was, and nothing comes twice.
fn goes_on(root: tempfile::TempDir, arguments: &[&str], state: &InFlight) {
    let server = Server::start_in(root, arguments);
    let (mut subscriber, present) = Client::connect(server.tcp, "subscriber");
    assert!(present, "{arguments:?}");
    subscriber.hear(PUBREL, state.released);
    for (id, payload) in state.sent.iter().zip(["sent", "held"]) {
        assert_eq!(subscriber.message(DUP, payload), *id, "{arguments:?}");
    }
    let (mut publisher, present) = Client::connect(server.tcp, "publisher");
    assert!(present, "{arguments:?}");
    // It is known: no second delivery.
    publisher.publish(DUP, 3, "held");
    publisher.say(PUBREL, 3);
    publisher.hear(PUBCOMP, 3);
    subscriber.silence();
    subscriber.say(PUBCOMP, state.released);
    for id in state.sent {
        subscriber.say(PUBREC, id);
        subscriber.hear(PUBREL, id);
        subscriber.say(PUBCOMP, id);
    }
    subscriber.silence();
}

fn store(root: &Path, words: &[&str]) -> String {
    let ended = run(martlet(root).arg("store").args(words));
    assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    ended.out
}

#[test]
fn exchanges_in_flight_go_on_behind_every_backend() {
    let (root, state) = interrupted(directory());
    #[cfg(feature = "redis")]
    let redis = crate::redis::Redis::start();
    let mut chain = vec!["martlet-data".to_owned()];
    #[cfg(feature = "rocksdb")]
    chain.push("rocksdb:rocks".to_owned());
    #[cfg(feature = "redis")]
    chain.extend(redis.as_ref().map(crate::redis::Redis::url));
    chain.push("back".to_owned());
    let exported = store(root.path(), &["export", "--data", &chain[0]]);
    for pair in chain.windows(2) {
        let (from, to) = (&*pair[0], &*pair[1]);
        store(root.path(), &["export", "--data", from, "lines"]);
        store(root.path(), &["import", "--data", to, "lines"]);
        std::fs::remove_file(root.path().join("lines")).expect("removes");
        store(root.path(), &["check", "--data", to]);
        assert_eq!(store(root.path(), &["export", "--data", to]), exported);
    }
    for place in &chain[1..] {
        // Each broker has the directory to itself, and takes it along when it ends.
        let its_own = directory();
        let arguments: Vec<&str> = match place.split_once(':') {
            Some(("rocksdb", path)) => {
                let from = root.path().join(path);
                std::fs::rename(from, its_own.path().join("data")).expect("is moved");
                vec!["--storage", "rocksdb", "--data", "data"]
            }
            Some(_) => vec!["--storage", place],
            None => {
                let from = root.path().join(place);
                std::fs::rename(from, its_own.path().join("data")).expect("is moved");
                vec!["--data", "data"]
            }
        };
        goes_on(its_own, &arguments, &state);
    }
}
