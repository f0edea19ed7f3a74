//! A connection that is held up in a foreign call for longer than the broker has patience: another one takes the session
//! over by force, and what the first one still does when it comes to itself does not reach it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use martlet_broker::{
    Broker,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Hooks, Identity, Refusal},
};
use martlet_client::RawConnection;
use martlet_codec::{Connect, Packet, Property, Props, PropsBuf, QoS, ReasonCode, Version, Will};
use martlet_storage::Message;

use crate::ground::{builder, connect_packet, open, send, send_subscribe};

/// Holds up whoever subscribes to `slow`, and wills, until it is opened.
#[derive(Default)]
struct Gate {
    has_caught: AtomicBool,
    is_open: AtomicBool,
    is_disconnected: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.has_caught.store(true, Ordering::Release);
        // A test that fails ends all the same.
        for _ in 0..20_000 {
            if self.is_open.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// After five seconds the broker takes the session away from whoever does not let go.
async fn outlast_patience() {
    tokio::time::sleep(Duration::from_millis(5_100)).await;
}

impl Hooks for Gate {
    fn will(&self, _client_id: &str, _will: &Message) -> bool {
        self.pass();
        true
    }

    fn disconnected(&self, _who: &Identity, _reason: ReasonCode) {
        self.is_disconnected.store(true, Ordering::Release);
    }
}

impl Authenticator for Gate {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Gate {
    fn publish(&self, _who: &Identity, _topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        Decision::Ready(true)
    }

    fn subscribe(&self, _who: &Identity, filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        if filter == "slow" {
            self.pass();
        }
        Decision::Ready(Some(qos))
    }

    fn judges_deliveries(&self, _who: &Identity) -> bool {
        false
    }

    fn deliver(&self, _who: &Identity, _topic: &str) -> bool {
        true
    }
}

fn start() -> (Broker, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let broker = builder()
        .access(gate.clone(), gate.clone())
        .hooks(gate.clone())
        .start()
        .expect("sound settings");
    (broker, gate)
}

const WILL: Will<'_> = Will {
    qos: QoS::AtMostOnce,
    retain: false,
    props: Props::EMPTY,
    topic: "wills",
    payload: b"gone",
};

/// CONNECT with a session that lasts.
async fn send_connect(client: &mut RawConnection, will: Option<Will<'_>>) {
    let props = PropsBuf::new().with(Property::SessionExpiry(3_600));
    let connect = Connect {
        props: props.as_props(),
        will,
        ..connect_packet("client", Version::V5, false)
    };
    send(client, Packet::Connect(connect)).await;
}

async fn expect_connack(client: &mut RawConnection) {
    let connack = client.receive().await.expect("CONNACK");
    assert!(
        matches!(connack.packet(), Packet::ConnAck(_)),
        "{connack:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_comes_after_a_takeover_by_force_is_not_sent_to_the_new_connection() {
    let (broker, gate) = start();
    let mut first = open(&broker, Version::V5);
    send_connect(&mut first, None).await;
    expect_connack(&mut first).await;
    send_subscribe(&mut first, 1, "slow", QoS::AtLeastOnce).await;
    until(&gate.has_caught).await;

    let mut second = open(&broker, Version::V5);
    send_connect(&mut second, None).await;
    outlast_patience().await;
    expect_connack(&mut second).await;
    gate.is_open.store(true, Ordering::Release);
    until(&gate.is_disconnected).await;
    send(&mut second, Packet::PingReq).await;
    let answer = second.receive().await.expect("an answer");
    assert!(matches!(answer.packet(), Packet::PingResp), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_lets_go_slowly_does_not_take_the_session_from_the_next_connection() {
    let (broker, gate) = start();
    let mut first = open(&broker, Version::V5);
    send_connect(&mut first, Some(WILL)).await;
    expect_connack(&mut first).await;
    drop(first);
    until(&gate.has_caught).await;

    let mut second = open(&broker, Version::V5);
    send_connect(&mut second, None).await;
    outlast_patience().await;
    gate.is_open.store(true, Ordering::Release);
    until(&gate.is_disconnected).await;
    expect_connack(&mut second).await;

    let mut third = open(&broker, Version::V5);
    send_connect(&mut third, None).await;
    expect_connack(&mut third).await;
    let farewell = second.receive().await.expect("DISCONNECT");
    let Packet::Disconnect(farewell) = farewell.packet() else {
        panic!("expected DISCONNECT, got {farewell:?}")
    };
    assert_eq!(farewell.reason, ReasonCode::SessionTakenOver);
}
