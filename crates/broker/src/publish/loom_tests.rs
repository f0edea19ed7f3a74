//! The race of architecture rule 2, every interleaving of it: a publisher hands in a batch and offers, the
//! subscriber's connection takes what it finds and acknowledges. Whatever the session stores about a message stands
//! behind the batch that brought the message.
//!
//! Run with `RUSTFLAGS="--cfg martlet_loom" cargo test -p martlet-broker --lib loom_`.

use std::sync::Arc;

use loom::thread;
use martlet_codec::{AckKind, PacketId, ReasonCode, RetainHandling, SubscribeOptions, Version};
use martlet_session::{Effects, FanOut, Link};
use martlet_storage::{CommitListener, Committer, MessageHead};
use martlet_topic::Filter;

use super::*;
use crate::{
    attachment::Attachment,
    auth::StaticAuth,
    clock::{Clock, Spawner, Task},
    config::Config,
    core::{Access, Parts},
    hooks::{NoHooks, Standalone},
    sync::Mutex,
};

const NOW: Timestamp = Timestamp::from_millis(1);

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Spawner for Stopped {
    fn spawn(&self, _task: Task) {}
}

/// What a session stores about a message, in the order of the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Enqueued(MessageId),
    Dequeued(MessageId),
}

/// Keeps the order of batches, and is done with each at once.
#[derive(Default)]
struct Log(Mutex<(u64, Vec<Row>)>);

impl Committer for Log {
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn {
        let mut log = self.0.lock();
        log.0 += 1;
        for op in batch {
            match op {
                StoreOp::Enqueue { message, .. } => log.1.push(Row::Enqueued(message)),
                StoreOp::Dequeue { message, .. } => log.1.push(Row::Dequeued(message)),
                _ => {}
            }
        }
        Lsn::new(log.0)
    }

    fn watermark(&self) -> Lsn {
        Lsn::new(self.0.lock().0)
    }

    fn set_listener(&self, _listener: Arc<dyn CommitListener>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn flush(&self) {}
}

fn core(log: Arc<Log>) -> Core {
    let config = Config::default();
    let users = match StaticAuth::new(&config) {
        Ok(users) => Arc::new(users),
        Err(error) => panic!("{error}"),
    };
    Core::new(Parts {
        config,
        access: Access {
            authenticator: users.clone(),
            authorizer: users,
        },
        hooks: Arc::new(NoHooks),
        cluster: Arc::new(Standalone),
        clock: Arc::new(Stopped),
        spawner: Arc::new(Stopped),
        committer: log,
        durable: true,
        seed: 1,
        opened: martlet_storage::Opened::default(),
        version: String::new(),
    })
}

/// A durable session, subscribed to `t` and online.
fn subscriber(core: &Core) -> Arc<Session> {
    let id = SessionId::new(1);
    let half = martlet_session::Outbound::new(id, core.outbound_limits(), true);
    let session = Arc::new(Session::new(id, "subscriber".into(), 1, true, half, 100));
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAlways,
    };
    let subscription = Subscription::new(Arc::clone(&session), options, None);
    let Ok(filter) = Filter::parse("t") else {
        panic!("t is a filter")
    };
    core.router.subscribe(filter, subscription);
    let link = Link {
        version: Version::V5,
        receive_maximum: 10,
        packet_bytes_max: u32::MAX,
        topic_alias_maximum: 0,
    };
    session.with_outbox(|outbox| outbox.attached = Some(Box::new(Attachment::new(0))));
    core.go_online(&session, 0, link, &[]);
    session
}

fn publish(core: &Core) {
    let head = MessageHead {
        id: MessageId::NONE,
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: SessionId::new(2),
        received: NOW,
        expires: None,
    };
    let mut fan_out = FanOut::default();
    let mut publication = Publication::new(head, "t", &[], b"payload", &mut fan_out);
    let (mut memo, mut sink) = (RouteMemo::default(), Sink::default());
    core.route(&mut publication, &mut memo, With::default(), &mut sink, NOW);
}

/// Takes what waits to be written, and acknowledges the first message if it was among it.
fn acknowledge(core: &Core, session: &Arc<Session>) {
    let mut effects = Effects::default();
    session.with_outbox(|outbox| {
        let Outbox { half, attached, .. } = outbox;
        let out = attached.as_mut().map(|attached| &mut attached.out);
        if let (Some(out), Some(first)) = (out.filter(|out| !out.is_empty()), PacketId::new(1)) {
            out.reset();
            let acked = half.acknowledge(
                NOW,
                AckKind::PubAck,
                first,
                ReasonCode::Success,
                out,
                &mut effects,
            );
            assert!(acked.is_ok(), "{acked:?}");
            core.settle(session, outbox, &mut effects, NOW);
        }
    });
}

/// Runs `f` beside the caller, on a stack that a whole broker fits on.
fn beside(f: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    match thread::Builder::new().stack_size(1 << 16).spawn(f) {
        Ok(thread) => thread,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn loom_nothing_is_stored_about_a_message_before_the_message() {
    let check = || {
        let log = Arc::new(Log::default());
        let core = Arc::new(core(Arc::clone(&log)));
        let session = subscriber(&core);
        let publisher = {
            let core = Arc::clone(&core);
            beside(move || publish(&core))
        };
        acknowledge(&core, &session);
        assert!(publisher.join().is_ok());
        acknowledge(&core, &session);
        let rows = log.0.lock().1.clone();
        let first = MessageId::new(1);
        assert_eq!(rows, [Row::Enqueued(first), Row::Dequeued(first)]);
    };
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || assert!(beside(check).join().is_ok()));
}
