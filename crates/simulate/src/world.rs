//! One run: a broker, its clients, the network between them and the disk below, and what happens to them, step by step,
//! as the dice say. Deliberately absent: what is right; see [`Model`].

use std::{rc::Rc, sync::Arc};

use martlet_broker::{Broker, config::Config};
use martlet_codec::{QoS, Version};
use martlet_storage::{CommitOptions, Storage, Table, transfer};
use martlet_sync::{Planted, simulated};

use crate::{
    client::{Client, Traits},
    dice::Dice,
    disk::{Disk, Faults, Rows},
    executor::{self, Executor},
    model::{Model, Violation},
    network::{self, Wire},
    time::{Time, timers},
    trace,
};

/// Steps without progress of any client after which a run that should come to rest is given up.
const SETTLE_STEPS: u64 = 2_000_000;

/// Virtual milliseconds within which everybody has got everything, once nothing goes wrong any more.
const SETTLE_MILLIS: u64 = 4_000;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    pub(crate) switches: u64,
    /// A sum over everything that happened: two runs of a seed have the same.
    pub(crate) trace: u64,
}

/// A run that broke a promise.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) event: u64,
    pub(crate) violation: Violation,
}

/// How often things go wrong.
#[derive(Debug)]
struct Weather {
    cut_once_in: usize,
    crash_once_in: usize,
    power_fails: bool,
    takeover_once_in: usize,
    leave_once_in: usize,
    half_close_once_in: usize,
    long_pause_once_in: usize,
    /// Bytes that arrive at once, at most.
    piece: usize,
    faults: Faults,
}

impl Weather {
    fn new(dice: &Dice) -> Self {
        Self {
            cut_once_in: dice.pick(&[100, 300, 1_000, 5_000]),
            crash_once_in: dice.pick(&[500, 1_500, 1_500, 4_000, 100_000]),
            power_fails: dice.roll(4) > 0,
            takeover_once_in: dice.pick(&[50, 200, 1_000]),
            leave_once_in: dice.pick(&[50, 200, 1_000]),
            half_close_once_in: dice.pick(&[300, 1_000]),
            long_pause_once_in: dice.pick(&[300, 3_000, 100_000]),
            piece: dice.pick(&[3, 20, 200, 20_000]),
            faults: Faults {
                full_once_in: dice.pick(&[0, 0, 30, 300]),
                fails_once_in: dice.pick(&[0, 0, 0, 400]),
                sync_turns: dice.pick(&[0, 3, 20, 60, 200]),
            },
        }
    }
}

fn traits(dice: &Dice, who: usize) -> Traits {
    let v5 = dice.once_in(2);
    // The first two always have something to lose.
    let durable = who < 2 || dice.roll(4) > 0;
    Traits {
        version: if v5 { Version::V5 } else { Version::V311 },
        expiry_secs: match (durable, v5) {
            (false, _) => 0,
            (true, true) => dice.pick(&[u32::MAX, u32::MAX, 300]),
            (true, false) => u32::MAX,
        },
        keep_alive_secs: dice.pick(&[0, 0, 60]),
        receive_maximum: dice.pick(&[None, Some(1), Some(3), Some(10)]),
        clean_start_once_in: if who < 2 { 0 } else { dice.pick(&[0, 0, 4]) },
        wills: dice.once_in(2),
        will_delay_secs: if v5 { dice.pick(&[0, 0, 5]) } else { 0 },
        in_share_group: dice.once_in(2),
        retained_qos: dice.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
    }
}

/// The broker of the moment.
struct Life {
    broker: Broker,
    executor: Rc<Executor>,
    disk: Disk,
}

struct World<'a> {
    dice: Rc<Dice>,
    time: Arc<Time>,
    timers: &'a tokio::runtime::Runtime,
    weather: Weather,
    clients: Vec<Client>,
    model: Model,
    life: Life,
    /// Connections that their clients gave up and whose bytes are still under way.
    strays: Vec<Wire>,
    report: Report,
}

/// Runs `seed` for `events` events and to its end, on a thread of its own: what a thread of the broker keeps for itself
/// would make a run depend on those before it.
pub(crate) fn run(
    seed: u64,
    events: u64,
    planted: Option<Planted>,
    traced: bool,
) -> Result<Report, Failure> {
    let run = move || {
        trace::switch(traced);
        let result = run_here(seed, events, planted);
        executor::release_fibers();
        result
    };
    std::thread::spawn(run).join().unwrap_or_else(|_| {
        Err(Failure {
            event: 0,
            violation: "the simulator panicked".to_owned(),
        })
    })
}

fn run_here(seed: u64, events: u64, planted: Option<Planted>) -> Result<Report, Failure> {
    Planted::plant(planted);
    let failed = |violation: Violation| Failure {
        event: 0,
        violation,
    };
    let timers = timers().map_err(|error| failed(error.to_string()))?;
    let _entered = timers.enter();
    let dice = Rc::new(Dice::new(seed));
    let time = Arc::new(Time::default());
    let weather = Weather::new(&dice);
    let count = 3 + dice.roll(4);
    let life = start(&dice, &time, Rows::default(), weather.faults).map_err(failed)?;
    let clients: Vec<_> = (0..count)
        .map(|who| Client::new(who, traits(&dice, who), Rc::clone(&dice)))
        .collect();
    // One more, who looks at what is retained at the end.
    let model = Model::new(count + 1);
    let mut world = World {
        dice,
        time,
        timers: &timers,
        weather,
        clients,
        model,
        life,
        strays: Vec::new(),
        report: Report::default(),
    };
    let result = world.live(events).and_then(|()| world.conclude());
    if result.is_err() {
        world.show_store();
    }
    let event = world.model.now;
    let mut report = world.report;
    report.events = event;
    report.messages = world.model.messages.len() as u64;
    report.deliveries = world.model.deliveries;
    report.switches += world.life.executor.points.get();
    report.trace = world.dice.next() ^ report.deliveries ^ report.switches << 20;
    world.end();
    simulated::install(None);
    match result {
        Ok(()) => Ok(report),
        Err(violation) => Err(Failure { event, violation }),
    }
}

fn start(dice: &Rc<Dice>, time: &Arc<Time>, rows: Rows, faults: Faults) -> Result<Life, Violation> {
    let executor = Executor::new(Rc::clone(dice), Arc::clone(time));
    simulated::install(Some(executor.clone()));
    let disk = Disk::new(rows, dice.next(), faults).map_err(|error| error.to_string())?;
    let found = transfer::check(disk.contents(), &mut |_| {}).map_err(|error| error.to_string())?;
    if let Some(problem) = found.problems.first() {
        return Err(format!("the store after a crash: {problem}"));
    }
    let mut config = Config::default();
    config.sys.interval = std::time::Duration::ZERO;
    let broker = Broker::builder()
        .config(config)
        .seed(dice.next())
        .clock(time.clone())
        .spawner(executor.spawner())
        .store(disk.clone(), CommitOptions::default())
        .map_err(|error| error.to_string())?
        .start()
        .map_err(|error| error.to_string())?;
    Ok(Life {
        broker,
        executor,
        disk,
    })
}

impl World<'_> {
    /// Lets things happen.
    fn live(&mut self, events: u64) -> Result<(), Violation> {
        while self.model.now < events {
            self.event()?;
        }
        Ok(())
    }

    fn event(&mut self) -> Result<(), Violation> {
        self.model.now += 1;
        match self.dice.roll(100) {
            0..55 => {
                if !self.life.executor.step() {
                    self.carry();
                }
                look_for_panics()?;
            }
            55..78 => {
                self.carry();
            }
            78..97 => self.act()?,
            97 => {
                let millis = if self.dice.once_in(self.weather.long_pause_once_in) {
                    400_000
                } else {
                    self.dice.pick(&[1, 1, 5, 50, 300, 1_500])
                };
                trace::line(self.model.now, || format!("-- {millis} ms pass"));
                self.time.advance(millis, self.timers);
            }
            _ => self.trouble()?,
        }
        if self.life.broker.store_failed() {
            // As its supervisor would: the process has ended itself.
            self.crash(false)?;
        }
        Ok(())
    }

    /// Lets some bytes arrive somewhere, if any are under way.
    fn carry(&mut self) -> bool {
        let all = self.clients.len() + self.strays.len();
        let first = self.dice.roll(all);
        for at in (first..all).chain(0..first) {
            let wire = match self.clients.get(at) {
                Some(client) => client.wire.clone(),
                None => self.strays.get(at - self.clients.len()).cloned(),
            };
            let Some(wire) = wire else { continue };
            let (up, down) = wire.has_news();
            if !up && !down {
                continue;
            }
            let up = up && (!down || self.dice.once_in(2));
            let bytes = 1 + self.dice.roll(self.weather.piece);
            wire.carry(up, bytes);
            return true;
        }
        false
    }

    /// A client does something.
    fn act(&mut self) -> Result<(), Violation> {
        let count = self.clients.len();
        let who = self.dice.roll(count);
        let millis = self.time.millis();
        self.clients[who].receive(&mut self.model, millis)?;
        if self.clients[who].is_away() {
            if self.dice.once_in(6) {
                self.connect(who, true)?;
            }
            return Ok(());
        }
        let client = &mut self.clients[who];
        match self.dice.roll(20) {
            0..8 => client.reply(1 + self.dice.roll(4)),
            8..15 => client.publish(&mut self.model),
            15..17 => client.change_subscriptions(&mut self.model, count),
            17 => client.ping(),
            _ => Ok(()),
        }
    }

    fn connect(&mut self, who: usize, may_start_over: bool) -> Result<(), Violation> {
        let millis = self.time.millis();
        let client = &mut self.clients[who];
        let Some(clean_start) = client.plans_connection(millis, may_start_over) else {
            return Ok(());
        };
        let window = self.dice.pick(&[64, 1_000, 100_000]);
        let (wire, end) = network::connection(window);
        self.life.broker.attach(end, "simulated");
        if let Some(old) = client.wire.clone() {
            if self.dice.once_in(2) {
                old.cut();
            } else {
                self.strays.push(old);
                if self.strays.len() > 8 {
                    self.strays.remove(0).cut();
                }
            }
        }
        client.connect(wire, &mut self.model, millis, clean_start)
    }

    /// Something goes wrong.
    fn trouble(&mut self) -> Result<(), Violation> {
        let who = self.dice.roll(self.clients.len());
        let dice = Rc::clone(&self.dice);
        let once_in = |of: usize| dice.once_in((of / 30).max(1));
        if once_in(self.weather.crash_once_in) {
            let power_fails = self.weather.power_fails && self.dice.roll(4) > 0;
            return self.crash(power_fails);
        }
        if self.clients[who].wire.is_none() {
            return Ok(());
        }
        if once_in(self.weather.cut_once_in) {
            self.report.cuts += 1;
            self.clients[who].vanish(&mut self.model, false);
        } else if once_in(self.weather.takeover_once_in) {
            self.connect(who, true)?;
        } else if once_in(self.weather.leave_once_in) {
            self.clients[who].leave()?;
        } else if once_in(self.weather.half_close_once_in) {
            self.clients[who].vanish(&mut self.model, true);
        }
        Ok(())
    }

    /// The broker dies at this instant, with the machine if `power_fails`, and another one starts on what is left.
    fn crash(&mut self, power_fails: bool) -> Result<(), Violation> {
        self.report.crashes += 1;
        trace::line(self.model.now, || {
            format!(
                "-- the broker dies{}",
                if power_fails { ", the power fails" } else { "" }
            )
        });
        self.report.switches += self.life.executor.points.get();
        let dice = Rc::clone(&self.dice);
        let rows = self.life.disk.crash(|unsynced| {
            if power_fails {
                dice.roll(unsynced + 1)
            } else {
                unsynced
            }
        });
        for stray in self.strays.drain(..) {
            stray.cut();
        }
        for client in &mut self.clients {
            if let Some(wire) = &client.wire {
                wire.cut();
            }
            client.broker_died(&mut self.model);
        }
        let next = start(&self.dice, &self.time, rows, self.weather.faults);
        // The old one goes only now, on its own threads.
        let next = next?;
        let old = std::mem::replace(&mut self.life, next);
        finish(old);
        simulated::install(Some(self.life.executor.clone()));
        let _ = executor::take_panic();
        Ok(())
    }

    /// The rows of sessions and their messages, for whoever looks into a failure.
    fn show_store(&self) {
        for table in [
            Table::Session,
            Table::Outbound,
            Table::Queue,
            Table::Inbound,
        ] {
            // What cannot be read is missing in the list, which is all that it is for.
            let _ = self
                .life
                .disk
                .contents()
                .scan(table, &[], &mut |key, value| {
                    trace::line(self.model.now, || {
                        let row = transfer::describe(table, key, value);
                        format!("-- {}: {}", table.name(), row.unwrap_or_default())
                    });
                    true
                });
        }
    }

    fn end(self) {
        finish(self.life);
        let _ = executor::take_panic();
    }

    // ---------------------------------------------------------------- the end

    /// Nothing goes wrong any more: everybody comes back, gets everything, and every promise is looked at.
    fn conclude(&mut self) -> Result<(), Violation> {
        trace::line(self.model.now, || {
            "-- nothing goes wrong any more".to_owned()
        });
        self.weather.faults = Faults {
            sync_turns: self.weather.faults.sync_turns.min(10),
            ..Faults::default()
        };
        self.weather.piece = self.weather.piece.max(2_000);
        self.life.disk.heal();
        self.settle()?;
        self.model.judge_end()?;
        self.look_at_store()?;
        // The same again from the disk.
        self.crash(true)?;
        let who = self.clients.len();
        let mut looker = traits(&self.dice, who);
        looker.expiry_secs = 0;
        looker.keep_alive_secs = 0;
        looker.wills = false;
        let mut looker = Client::new(who, looker, Rc::clone(&self.dice));
        let (wire, end) = network::connection(100_000);
        self.life.broker.attach(end, "simulated");
        looker.connect(wire, &mut self.model, self.time.millis(), true)?;
        self.clients.push(looker);
        self.settle()?;
        self.clients[who].look_at_retained(&mut self.model)?;
        self.settle()?;
        self.model.judge_end()?;
        self.look_at_store()
    }

    /// Everybody connects and waits until there is nothing more to wait for.
    fn settle(&mut self) -> Result<(), Violation> {
        let mut quiet_since = self.time.millis();
        // Whether anything reached a client or came from one since then.
        let mut moved = false;
        for _ in 0..SETTLE_STEPS {
            self.model.now += 1;
            let ran = self.life.executor.step();
            look_for_panics()?;
            if self.life.broker.store_failed() {
                self.crash(false)?;
            }
            if ran && self.dice.roll(3) > 0 {
                continue;
            }
            let mut busy = self.carry();
            moved |= busy;
            busy |= ran;
            let millis = self.time.millis();
            for who in 0..self.clients.len() {
                self.clients[who].receive(&mut self.model, millis)?;
                if self.clients[who].is_away() && self.clients[who].is_durable() {
                    self.connect(who, false)?;
                }
                let client = &mut self.clients[who];
                client.reply(usize::MAX)?;
                let (up, down) = client.wire.as_ref().map_or((false, false), Wire::has_news);
                busy |= up || down || client.owes();
            }
            busy |= self.strays.iter().any(|stray| {
                let (up, _) = stray.has_news();
                up
            });
            if busy {
                continue;
            }
            if std::mem::take(&mut moved) {
                quiet_since = self.time.millis();
            }
            // Nobody can go on by himself: only time may bring something.
            let settled = self.clients.iter().all(Client::is_settled);
            let waited = self.time.millis() - quiet_since;
            if settled && waited >= SETTLE_MILLIS {
                if let Some(secs) = self.longest_will() {
                    self.time.advance(secs * 1_000, self.timers);
                    quiet_since = self.time.millis();
                    continue;
                }
                return Ok(());
            }
            if !settled && waited >= SETTLE_MILLIS {
                let waiting = self.clients.iter().find(|client| !client.is_settled());
                return Err(format!(
                    "nothing more happens, but {} ({}; {} batches not synced)",
                    waiting.map(Client::describe).unwrap_or_default(),
                    self.life.executor.describe(),
                    self.life.disk.unsynced()
                ));
            }
            self.time.advance(200, self.timers);
        }
        Err("the run does not come to rest".to_owned())
    }

    /// Seconds until the last delayed will is due, once.
    fn longest_will(&mut self) -> Option<u64> {
        let mut longest = None;
        for client in &mut self.clients {
            if client.is_away() && std::mem::take(&mut client.traits.wills) {
                longest = longest.max(Some(u64::from(client.traits.will_delay_secs) + 1));
            }
        }
        longest
    }

    /// Nothing is left of what everybody has got.
    fn look_at_store(&mut self) -> Result<(), Violation> {
        let storage = self.life.disk.contents();
        let found = transfer::check(storage, &mut |_| {}).map_err(|error| error.to_string())?;
        if let Some(problem) = found.problems.first() {
            return Err(format!("the store: {problem}"));
        }
        for table in [
            Table::Queue,
            Table::Outbound,
            Table::Inbound,
            Table::Message,
        ] {
            let mut rows = 0;
            storage
                .scan_keys(table, &[], &mut |_| {
                    rows += 1;
                    true
                })
                .map_err(|error| error.to_string())?;
            if rows > 0 {
                return Err(format!(
                    "everything was delivered, but the store keeps {rows} rows of table {}",
                    table.name()
                ));
            }
        }
        let sessions = storage.len(Table::Session);
        if sessions > self.clients.len() {
            return Err(format!(
                "{} clients have {sessions} sessions in the store",
                self.clients.len()
            ));
        }
        Ok(())
    }
}

fn look_for_panics() -> Result<(), Violation> {
    match executor::take_panic() {
        Some(text) => Err(format!("the broker panicked: {text}")),
        None => Ok(()),
    }
}

/// Takes a broker down whose disk is gone.
fn finish(life: Life) {
    simulated::install(Some(life.executor.clone()));
    let _ = life.disk.crash(|_| 0);
    life.executor.finish(move || drop(life.broker));
}
