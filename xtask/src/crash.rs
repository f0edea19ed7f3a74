//! `cargo xtask crash`: the real broker, killed with SIGKILL at random moments and restarted on the same data.
//!
//! Publishers, persistent subscribers, clients with wills and clients whose subscriptions change keep their half of every
//! session across the kills, as correct clients do; every few cycles nobody publishes any more, everything is drained, and
//! what came is compared with what was acknowledged. Deliberately absent: machines that lose power (`--torn` and
//! `--fsync never` do to the files what that would), and a schedule that can be repeated exactly: that is a simulator's.

mod changer;
mod damage;
mod link;
mod program;
mod publisher;
mod random;
mod redis;
mod retained;
mod scene;
mod streams;
mod subscriber;
mod totals;
mod wills;

use crate::{Error, Outcome, workspace};
use changer::Changer;
use clap::Args;
use damage::End;
use program::{Broker, Program};
use publisher::Publisher;
use random::Random;
use redis::Redis;
use scene::{Kind, Ledger, Scene};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use streams::Stream;
use subscriber::{Subscriber, lock};
use totals::Totals;
use wills::Testator;

/// How long a cycle may take until it has acknowledged what it must.
const WARM_UP: Duration = Duration::from_secs(30);

/// Flags of `cargo xtask crash`.
#[derive(Args)]
pub(crate) struct Options {
    /// How many cycles of start, load and SIGKILL, together with those of a resumed run
    #[arg(long, default_value_t = 20)]
    cycles: u64,
    /// Seed of what is sent and when the broker is killed; without it, from the clock
    #[arg(long)]
    seed: Option<u64>,
    /// How long the load goes on after the least number of messages, at most; the moment of the kill is random
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds_per_cycle: f64,
    /// Fewest messages acknowledged in a cycle; a cycle with fewer fails
    #[arg(long, default_value_t = 500)]
    least: u64,
    /// Cycles between two comparisons
    #[arg(long, default_value_t = 5)]
    drain_every: u64,
    /// Damage the end of the log after each kill, where nothing acknowledged is
    #[arg(long)]
    torn: bool,
    /// Storage of the broker: embedded, memory, rocksdb, or redis (a private redis-server, which is killed at times too)
    #[arg(long, default_value = "embedded")]
    storage: String,
    /// When the broker syncs: always, interval or never. Unless it is always, what was not synced is lost at each kill,
    /// as it would be without power
    #[arg(long, default_value = "always")]
    fsync: String,
    /// The run must find losses: shows that it can see them
    #[arg(long)]
    expect_loss: bool,
    /// Test another broker: a command in which {port} stands for the port and {dir} for a folder that stays
    #[arg(long, value_name = "COMMAND")]
    broker_command: Option<String>,
    /// Take this program instead of building it
    #[arg(long, value_name = "FILE", conflicts_with = "broker_command")]
    martlet: Option<PathBuf>,
    /// Go on with the totals of an earlier run with the same seed and settings
    #[arg(long)]
    resume: bool,
    /// Append the totals to this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Runs what the flags ask for.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    let folder = std::env::temp_dir().join(format!("martlet-crash-{}", std::process::id()));
    // Left from an earlier process with the same id.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let martlet = options.broker_command.is_none();
    if martlet && options.storage == "rocksdb" && (options.torn || options.fsync != "always") {
        // The format of its files is not ours: `lose` and `tear` know where the embedded store's log ends.
        return Err("with rocksdb, only --fsync always and no --torn".into());
    }
    let redis = if martlet && options.storage == "redis" {
        if options.torn || options.fsync != "always" {
            return Err(
                "with redis, only --fsync always and no --torn: the files are the server's".into(),
            );
        }
        Some(Redis::start(&folder)?)
    } else {
        None
    };
    let program = match &options.broker_command {
        Some(command) => Program::parse(command)?,
        None => {
            let url = redis.as_ref().map(Redis::url);
            let storage = url.as_deref().unwrap_or(&options.storage);
            let mut program = Program::martlet(
                options.martlet.as_deref(),
                storage,
                &options.fsync,
                options.torn,
            )?;
            if redis.is_some() {
                "martlet, redis, appendfsync always".clone_into(&mut program.label);
            }
            program
        }
    };
    let seed = options.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(1, |now| now.as_secs())
    });
    let kept = totals::path(&program.label, seed)?;
    let totals = match totals::load(&kept)? {
        Some(totals) if options.resume => totals,
        _ => Totals::default(),
    };
    println!(
        "crash: {}, seed {seed}, from cycle {}",
        program.label,
        totals.cycles + 1
    );
    let mut run = Run::new(options, program, folder, seed, totals);
    run.redis = redis;
    let result = run.all(&kept);
    let totals = &run.totals;
    println!("crash: {}", totals.text());
    if let Err(error) = &result {
        println!("crash: {error}");
    }
    if result.is_ok() && (options.expect_loss || totals.all_findings() == 0) {
        fs::remove_dir_all(&run.folder)?;
    } else {
        println!(
            "crash: the data of the broker are left in {}",
            run.folder.display()
        );
    }
    if let Some(log) = &options.write {
        totals::append(
            &workspace::root().join(log),
            totals,
            &run.program.label,
            seed,
        )?;
    }
    Ok(judge(options, totals, result.is_ok()))
}

/// Says how it ended, in the form that CI counts.
fn judge(options: &Options, totals: &Totals, ran: bool) -> Outcome {
    let failed = if !ran {
        1
    } else if options.expect_loss {
        let seen = totals.finding(Kind::Lost) > 0;
        println!(
            "crash: losses were to be found, and were {}",
            if seen { "found" } else { "NOT found" }
        );
        u64::from(!seen)
    } else {
        totals.findings.iter().filter(|count| **count > 0).count() as u64
    };
    println!("{} passed, {failed} failed, 0 skipped", totals.cycles);
    if failed == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    }
}

/// Everything that outlives a cycle.
struct Run<'a> {
    options: &'a Options,
    program: Program,
    folder: PathBuf,
    seed: u64,
    random: Random,
    totals: Totals,
    /// Findings of an earlier run that this one resumes.
    found_before: [u64; Kind::ALL.len()],
    ledger: Arc<Ledger>,
    streams: Vec<Stream>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    testators: Vec<Testator>,
    changers: Vec<Changer>,
    redis: Option<Redis>,
}

impl<'a> Run<'a> {
    fn new(
        options: &'a Options,
        program: Program,
        folder: PathBuf,
        seed: u64,
        totals: Totals,
    ) -> Self {
        let streams = streams::all();
        Self {
            options,
            program,
            folder,
            seed,
            random: Random::new(seed ^ totals.cycles << 32),
            found_before: totals.findings,
            totals,
            ledger: Arc::default(),
            publishers: (0..streams::PUBLISHERS)
                .map(|index| Publisher::new(index, &streams))
                .collect(),
            subscribers: subscriber::all(streams.len()),
            testators: (0..wills::CLIENTS as u8).map(Testator::new).collect(),
            changers: (0..changer::CLIENTS).map(Changer::new).collect(),
            streams,
            redis: None,
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn scene(&self, port: u16, drain: bool) -> Scene {
        let cycle = self.totals.cycles + 1;
        Scene::new(port, cycle, self.seed, drain, Arc::clone(&self.ledger))
    }

    fn all(&mut self, kept: &Path) -> Result<(), Error> {
        let begin = Instant::now();
        let before = self.totals.seconds;
        self.prepare()?;
        while self.totals.cycles < self.options.cycles {
            self.cycle()?;
            let done = self.totals.cycles;
            let last = done >= self.options.cycles;
            if last || done.is_multiple_of(self.options.drain_every.max(1)) {
                self.drain()?;
                self.totals.seconds = before + begin.elapsed().as_secs();
                totals::save(kept, &self.totals)?;
            }
            for words in self.ledger.words() {
                println!("  {words}");
            }
            if self.ledger.sum() > 0 && !self.options.expect_loss {
                self.totals.seconds = before + begin.elapsed().as_secs();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts the broker, sometimes not at the first attempt.
    fn start(&mut self) -> Result<Broker, Error> {
        let log = self.log();
        if self.totals.kills > 0 && self.random.once_in(4) {
            let after = Duration::from_millis(self.random.below(80));
            self.program.false_start(&self.folder, &log, after)?;
            self.totals.kills += 1;
        }
        if let Some(redis) = &mut self.redis
            && self.random.once_in(4)
        {
            redis.kill(&mut self.random)?;
            self.totals.kills += 1;
        }
        let mut said = true;
        let mut what = String::new();
        let store = self.folder.join("store");
        if self.options.broker_command.is_none()
            && self.options.storage == "embedded"
            && store.exists()
        {
            if self.options.torn {
                let must_say;
                (what, must_say) = End::read(&store)?.tear(&mut self.random)?;
                self.totals.torn += 1;
                said = !must_say;
                if self.random.once_in(10) {
                    self.harm(&store)?;
                }
            } else if self.options.fsync != "always" && self.totals.kills > 0 {
                what = End::read(&store)?.lose(&mut self.random)?;
            }
        }
        let broker = self
            .program
            .start(&self.folder, &log)
            .map_err(|error| format!("{error} (before: {what})"))?;
        if !said {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if !text.contains("store_repaired") && !text.contains("whole batch") {
                let what = format!("{what}: the broker said nothing about it");
                self.ledger.find(Kind::Repair, what);
            }
        }
        let ready = broker.ready.as_millis() as u64;
        self.totals.slowest_start = self.totals.slowest_start.max(ready);
        Ok(broker)
    }

    /// Damages what is acknowledged in a copy of the store; the broker must refuse it.
    fn harm(&mut self, store: &Path) -> Result<(), Error> {
        let folder = self.folder.join("harmed");
        fs::create_dir_all(&folder)?;
        let copy = folder.join("store");
        damage::copy(store, &copy)?;
        if let Some(what) = End::read(&copy)?.harm(&mut self.random)? {
            match self.program.refuses(&folder, &folder.join("log"))? {
                Some(words) if words.contains("were acknowledged") => self.totals.refused += 1,
                Some(words) => {
                    let what = format!("{what}: refused, but not as a loss: {words}");
                    self.ledger.find(Kind::Repair, what);
                }
                None => {
                    let what = format!("{what}: the store was opened all the same");
                    self.ledger.find(Kind::Repair, what);
                }
            }
        }
        Ok(fs::remove_dir_all(&folder)?)
    }

    /// Makes the sessions and subscriptions before anything is published.
    fn prepare(&mut self) -> Result<(), Error> {
        let broker = self.start()?;
        let scene = self.scene(broker.port, false);
        let prepared = self
            .subscribers
            .iter_mut()
            .all(|subscriber| subscriber.prepare(&scene).is_ok());
        // Acknowledged: from here on it must hold.
        broker.kill();
        self.totals.kills += 1;
        if prepared {
            Ok(())
        } else {
            Err(format!("cannot subscribe: {:?}", self.ledger.words()).into())
        }
    }

    /// One cycle: start, load, SIGKILL.
    fn cycle(&mut self) -> Result<(), Error> {
        let mut broker = self.start()?;
        let ready = broker.ready;
        let scene = self.scene(broker.port, false);
        let tail = Duration::from_secs_f64(self.options.seconds_per_cycle.max(0.0));
        let tail = Duration::from_micros(self.random.below(tail.as_micros() as u64 + 1));
        let begin = Instant::now();
        let mut alive = true;
        let least = self.acknowledged();
        let mut retained_right = 0;
        let mut server_killed = Ok(());
        // The broker lives on without its server for a moment.
        let redis = match &mut self.redis {
            Some(redis) if self.random.once_in(3) => Some((redis, &mut self.random)),
            _ => None,
        };
        self.totals.kills += u64::from(redis.is_some());
        std::thread::scope(|threads| {
            let (scene, streams) = (&scene, &self.streams);
            for publisher in &mut self.publishers {
                threads.spawn(|| publisher.run(scene, streams));
            }
            for subscriber in &mut self.subscribers {
                threads.spawn(|| subscriber.run(scene, streams));
            }
            for testator in &mut self.testators {
                threads.spawn(|| testator.run(scene));
            }
            for changer in &mut self.changers {
                threads.spawn(|| changer.run(scene));
            }
            let newcomer = threads.spawn(|| retained::check(scene, streams, &least));
            if let Some((redis, random)) = redis {
                std::thread::sleep(Duration::from_millis(random.below(400)));
                server_killed = redis.kill(random);
            }
            let wait = Duration::from_millis(1);
            while alive
                && scene.acknowledged.load(Relaxed) < self.options.least
                && begin.elapsed() < WARM_UP
            {
                std::thread::sleep(wait);
                alive = !broker.is_gone();
            }
            std::thread::sleep(tail);
            alive = !broker.is_gone();
            scene.kill();
            broker.kill();
            retained_right = newcomer.join().unwrap_or(0);
        });
        server_killed?;
        self.totals.kills += 1;
        self.totals.cycles += 1;
        self.totals.retained += retained_right;
        for testator in &mut self.testators {
            let mut told = |wills: &mut wills::Wills| testator.tell(wills);
            for subscriber in &self.subscribers {
                subscriber.with_wills(&mut told);
            }
        }
        let acknowledged = scene.acknowledged.load(Relaxed);
        let delivered = scene.delivered.load(Relaxed);
        let out: usize = self.publishers.iter().map(Publisher::in_flight).sum();
        let back: usize = self.subscribers.iter().map(Subscriber::unreleased).sum();
        println!(
            "[{}/{}] {acknowledged} acknowledged, {delivered} delivered, {} in flight ({out} to the broker, {back} QoS 2 \
             from it); ready after {} ms, killed after {} ms",
            self.totals.cycles,
            self.options.cycles,
            out + back,
            ready.as_millis(),
            begin.elapsed().as_millis()
        );
        self.totals.acknowledged += acknowledged;
        self.totals.delivered += delivered;
        self.totals.in_flight += (out + back) as u64;
        let fewest = self.totals.fewest.unwrap_or(u64::MAX).min(acknowledged);
        self.totals.fewest = Some(fewest);
        if !alive {
            let words = program::tail(&self.log());
            let what = format!("the broker ended by itself: {words}");
            self.ledger.find(Kind::Protocol, what);
        } else if acknowledged < self.options.least {
            let what = format!("only {acknowledged} messages were acknowledged");
            self.ledger.find(Kind::Stalled, what);
        }
        self.book();
        Ok(())
    }

    /// For each stream the last number that was acknowledged.
    fn acknowledged(&self) -> Vec<u64> {
        let mut sums = vec![0; self.streams.len()];
        for publisher in &self.publishers {
            for (sum, own) in sums.iter_mut().zip(&publisher.acknowledged) {
                *sum += own;
            }
        }
        sums
    }

    /// Takes the findings over into the totals.
    fn book(&mut self) {
        let now = self.ledger.counts();
        for ((total, before), now) in self
            .totals
            .findings
            .iter_mut()
            .zip(self.found_before)
            .zip(now)
        {
            *total = before + now;
        }
    }

    /// Finishes everything that was begun, and compares.
    fn drain(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let broker = self.start()?;
        let scene = self.scene(broker.port, true);
        std::thread::scope(|threads| {
            let (scene, streams) = (&scene, &self.streams);
            for subscriber in &mut self.subscribers {
                threads.spawn(|| subscriber.run(scene, streams));
            }
            for changer in &mut self.changers {
                threads.spawn(|| changer.run(scene));
            }
            let publishing: Vec<_> = self
                .publishers
                .iter_mut()
                .map(|publisher| {
                    threads.spawn(|| {
                        publisher.run(scene, streams);
                        publisher.acknowledged.clone()
                    })
                })
                .collect();
            let mut expected = vec![0; streams.len()];
            for publisher in publishing {
                let acknowledged = publisher.join().unwrap_or_default();
                for (sum, own) in expected.iter_mut().zip(acknowledged) {
                    *sum += own;
                }
            }
            let _ = scene.expected.set(expected);
        });
        let expected = self.acknowledged();
        for subscriber in &self.subscribers {
            lock(&subscriber.book).settle(&scene, &self.streams, &expected);
        }
        self.totals.retained += retained::check(&scene, &self.streams, &expected);
        scene.kill();
        broker.kill();
        self.totals.kills += 1;
        self.totals.acknowledged += scene.acknowledged.load(Relaxed);
        self.totals.delivered += scene.delivered.load(Relaxed);
        for changer in &mut self.changers {
            self.totals.subscriptions += std::mem::take(&mut changer.right);
        }
        for subscriber in &self.subscribers {
            let wills = &mut self.totals.wills;
            subscriber.with_wills(|book| *wills += std::mem::take(&mut book.right));
        }
        self.book();
        println!(
            "[{}/{}] drained in {} ms: {} delivered, {} findings so far",
            self.totals.cycles,
            self.options.cycles,
            begin.elapsed().as_millis(),
            scene.delivered.load(Relaxed),
            self.ledger.sum()
        );
        Ok(())
    }
}
