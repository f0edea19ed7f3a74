//! Rights that shrink while a SUBSCRIBE is being decided, or put in force: no order of the two lets anything through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use martlet_broker::{
    Broker,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Refusal},
};
use martlet_codec::{AckKind, QoS};
use tokio::sync::Semaphore;

use crate::ground::{
    builder, connected, expect_ack, expect_silence, expect_suback, publish, quiet, send,
    send_subscribe,
};

/// Grants every subscription, each when it is told to, until it permits nothing any more.
struct Fading {
    grants: Arc<Semaphore>,
    is_over: AtomicBool,
    /// The next question whether deliveries are judged waits.
    holds_up: AtomicBool,
    has_caught: AtomicBool,
    goes_on: AtomicBool,
}

impl Authenticator for Fading {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Fading {
    fn publish(&self, _who: &Identity, _topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        Decision::Ready(true)
    }

    fn subscribe(&self, _who: &Identity, _filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        let granted = (!self.is_over.load(Ordering::Acquire)).then_some(qos);
        let grants = Arc::clone(&self.grants);
        Decision::Later(Box::pin(async move {
            grants.acquire().await.ok()?.forget();
            granted
        }))
    }

    fn judges_deliveries(&self, _who: &Identity) -> bool {
        if self.holds_up.swap(false, Ordering::AcqRel) {
            self.has_caught.store(true, Ordering::Release);
            // A test that fails ends all the same.
            for _ in 0..20_000 {
                if self.goes_on.load(Ordering::Acquire) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        false
    }

    fn deliver(&self, _who: &Identity, _topic: &str) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    fn keeps_subscription(&self, _who: &Identity, _filter: &str) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }
}

fn fading() -> (Broker, Arc<Fading>) {
    let fading = Arc::new(Fading {
        grants: Arc::new(Semaphore::new(0)),
        is_over: AtomicBool::new(false),
        holds_up: AtomicBool::new(false),
        has_caught: AtomicBool::new(false),
        goes_on: AtomicBool::new(false),
    });
    let broker = builder()
        .access(fading.clone(), fading.clone())
        .start()
        .expect("sound settings");
    (broker, fading)
}

#[tokio::test]
async fn rights_that_end_while_a_subscription_is_decided_let_nothing_through() {
    let (broker, fading) = fading();
    let mut reader = connected(&broker, "reader", true).await;
    send_subscribe(&mut reader, 1, "t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    while broker.counters().packets_received_by_type()[8] == 0 {
        tokio::task::yield_now().await;
    }
    fading.is_over.store(true, Ordering::Release);
    broker.reload(quiet()).expect("sound settings");
    fading.grants.add_permits(1);
    expect_suback(&mut reader, 1, QoS::AtLeastOnce).await;
    send(&mut publisher, publish("t", "secret", QoS::AtLeastOnce, 1)).await;
    expect_ack(&mut publisher, AckKind::PubAck, 1).await;
    expect_silence(&mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_begins_while_its_session_is_judged_is_judged_as_well() {
    let (broker, fading) = fading();
    let mut publisher = connected(&broker, "publisher", true).await;
    send(&mut publisher, publish("other", "", QoS::AtLeastOnce, 1)).await;
    expect_ack(&mut publisher, AckKind::PubAck, 1).await;
    let mut reader = connected(&broker, "reader", true).await;
    send_subscribe(&mut reader, 1, "t", QoS::AtLeastOnce).await;
    drop(publisher);
    while broker.counters().packets_received_by_type()[8] == 0 || broker.clients_connected() > 1 {
        tokio::task::yield_now().await;
    }
    fading.is_over.store(true, Ordering::Release);
    fading.holds_up.store(true, Ordering::Release);
    let reload = {
        let broker = broker.clone();
        tokio::task::spawn_blocking(move || broker.reload(quiet()))
    };
    while !fading.has_caught.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    // The reload has seen a session without subscriptions.
    fading.grants.add_permits(1);
    expect_suback(&mut reader, 1, QoS::AtLeastOnce).await;
    expect_silence(&mut reader).await;
    fading.goes_on.store(true, Ordering::Release);
    reload.await.expect("no panic").expect("sound settings");
    let mut publisher = connected(&broker, "publisher", true).await;
    send(&mut publisher, publish("t", "secret", QoS::AtLeastOnce, 1)).await;
    expect_ack(&mut publisher, AckKind::PubAck, 1).await;
    expect_silence(&mut reader).await;
}
