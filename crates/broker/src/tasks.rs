//! The broker's own tasks: deadlines, commits, and the ticker that publishes `$SYS` and watches memory.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use martlet_codec::QoS;

use crate::{
    core::Core,
    memory::Change,
    sys_topics::{self, Facts},
    work::{Work, with_work},
};

/// Deadlines handled before other tasks get their turn.
const DUE_AT_ONCE: usize = 256;

/// How often memory is looked at, rates are averaged and expired retained messages are swept.
const TICK: Duration = Duration::from_secs(1);

pub(crate) fn start(core: &Arc<Core>) {
    core.spawner.spawn(Box::pin(until_stopped(
        Arc::clone(core),
        deadlines(Arc::clone(core)),
    )));
    core.spawner.spawn(Box::pin(until_stopped(
        Arc::clone(core),
        tick(Arc::clone(core)),
    )));
    if core.durable {
        core.spawner.spawn(Box::pin(until_stopped(
            Arc::clone(core),
            commits(Arc::clone(core)),
        )));
    }
}

async fn until_stopped(core: Arc<Core>, task: impl Future<Output = ()> + Send) {
    tokio::select! {
        // In a fixed order, so that a run in a simulator repeats itself.
        biased;
        () = task => {}
        () = core.stop.notified() => {}
    }
}

async fn deadlines(core: Arc<Core>) {
    let mut due = Vec::new();
    loop {
        let now = core.clock.now();
        let next = core.timers.take(now, DUE_AT_ONCE, &mut due);
        if due.is_empty() {
            core.timers.wait(now, next).await;
            continue;
        }
        for entry in due.drain(..) {
            core.on_due(&entry);
        }
        tokio::task::yield_now().await;
    }
}

async fn commits(core: Arc<Core>) {
    loop {
        core.commits.moved.notified().await;
        let watermark = core.committer.watermark();
        with_work(|work| {
            let Work { fan_out, sink, .. } = work;
            core.deliver_deferred(watermark, fan_out, sink, core.clock.now());
            sink.counts.flush(&core.counters);
        });
        core.commits.wake();
    }
}

async fn tick(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut published_at = None;
    let mut last: HashMap<Cow<'static, str>, String> = HashMap::new();
    let mut ticked = core.clock.now();
    let mut saved_at = ticked;
    loop {
        ticks.tick().await;
        let now = core.clock.now();
        match core.memory.poll() {
            Change::Above => tracing::warn!(
                event = "memory_high_water",
                "memory is above limits.memory_high_water: CONNECT is refused"
            ),
            Change::Below => tracing::info!(
                event = "memory_high_water",
                "memory is below limits.memory_high_water again"
            ),
            Change::None => {}
        }
        core.sweep_retained(now);
        let sys = core.config.load().sys.clone();
        if now.millis_since(saved_at) >= millis(sys.save_interval) {
            saved_at = now;
            core.save_counters(false);
        }
        let interval = millis(sys.interval);
        if interval == 0 {
            continue;
        }
        let elapsed = Duration::from_millis(now.millis_since(ticked));
        core.loads.lock().tick(&core.snapshot(), elapsed);
        ticked = now;
        if published_at.is_none_or(|at| now.millis_since(at) >= interval) {
            published_at = Some(now);
            publish_sys(&core, &mut last).await;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Publishes what has changed; the rest stays retained.
async fn publish_sys(core: &Core, last: &mut HashMap<Cow<'static, str>, String>) {
    let snapshot = core.full_snapshot_in_turns().await;
    let topics = {
        let loads = core.loads.lock();
        sys_topics::render(&Facts {
            version: &core.version,
            started: core.started,
            now: core.clock.now(),
            snapshot: &snapshot,
            loads: &loads,
            memory: core.memory.usage(),
        })
    };
    for (topic, payload) in topics {
        if last.get(&topic) == Some(&payload) {
            continue;
        }
        let message = core.own_message(&topic, payload.as_bytes(), QoS::AtMostOnce, true);
        core.publish_message(&message, 0, Vec::new());
        last.insert(topic, payload);
    }
}
