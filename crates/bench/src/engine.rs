//! The loop: one thread, one poll, all clients of a run, and the phases that every workload is made of.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{ClientPlan, Connection, Login, State};
use crate::failure::Failure;
use crate::options::Options;
use crate::pacer::Pacer;
use crate::progress::Progress;
use crate::quic::Gateway;
use crate::report::Sample;
use crate::shared::{Gate, Shared};
use crate::socket::{Socket, Wrapping};

/// Room for what has come on one socket; a whole packet of the run fits beside it.
const SCRATCH_BYTES: usize = 256 << 10;

/// Topic, header and properties of a packet beside its payload.
const PACKET_OVERHEAD: usize = 128 << 10;

/// Clients that connect at one time: less than any broker's listen queue.
const CONNECTING_MAX: usize = 64;

/// How often the clock is looked at while nothing happens, and how often progress is told.
pub(crate) const TURN: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Samples that are kept: those of an hour.
const SAMPLES_MAX: usize = 15_000;

const PACER: Token = Token(usize::MAX - 1);

/// What ends a phase of traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// A time.
    Elapsed(Duration),
    /// All publishers have sent, and receivers got, everything.
    Done,
}

/// A run in progress.
pub(crate) struct Engine<'a> {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    address: SocketAddr,
    wrapping: Wrapping,
    /// Where `address` is that of the thread that speaks QUIC.
    gateway: Option<Gateway>,
    login: Login,
    deadline: Instant,
    timeout: Duration,
    stall: Duration,
    pacer: Option<Pacer>,
    /// The message of a paced run that is due next, counted over all publishers.
    paced: u64,
    /// Connections that publish, in the order of their turns.
    publishing: Vec<u32>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) shared: Shared,
    progress: &'a mut dyn FnMut(&Progress),
    phase: &'static str,
    told: Instant,
    begun: Instant,
    /// What progress was told.
    pub(crate) samples: Vec<Sample>,
    /// Deliveries when progress was told last.
    told_delivered: u64,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        options: &Options,
        progress: &'a mut dyn FnMut(&Progress),
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let (mut address, mut wrapping) = (options.address, options.wrapping.clone());
        let mut gateway = None;
        if let (true, Some((config, name))) = (wrapping.quic, &wrapping.tls) {
            let started = Gateway::start(address, config, name)?;
            address = started.address();
            gateway = Some(started);
            wrapping = Wrapping::default();
        }
        Ok(Self {
            poll: Poll::new().map_err(Failure::system("cannot wait for sockets"))?,
            events: Events::with_capacity(1_024),
            scratch: vec![0; SCRATCH_BYTES + PACKET_OVERHEAD + options.payload],
            address,
            wrapping,
            gateway,
            login: Login {
                version: options.version,
                username: options.username.clone(),
                password: options.password.clone(),
                keep_alive_secs: 600,
            },
            deadline: now + options.timeout,
            timeout: options.timeout,
            stall: options.stall,
            pacer: None,
            paced: 0,
            publishing: Vec::new(),
            connections: Vec::new(),
            shared: Shared::new(options.payload)?,
            progress,
            phase: "connecting",
            told: now,
            begun: now,
            samples: Vec::new(),
            told_delivered: 0,
        })
    }

    /// Names what is going on, for progress.
    pub(crate) fn phase(&mut self, phase: &'static str) {
        self.phase = phase;
    }

    /// Connects clients and waits until all of them are ready.
    pub(crate) fn open(&mut self, plans: Vec<ClientPlan>) -> Result<(), Failure> {
        let first = self.connections.len();
        for plan in plans {
            self.connect(plan)?;
            // Clients get ready nearly in order, so that the last ones tell enough.
            let last = self.connections.len().saturating_sub(4 * CONNECTING_MAX);
            while self.unready(last.max(first)) >= CONNECTING_MAX {
                self.turn(TURN)?;
            }
        }
        self.wait_until_ready(first)
    }

    /// Waits until all clients from `first` on are where traffic begins, or begins again.
    pub(crate) fn wait_until_ready(&mut self, first: usize) -> Result<(), Failure> {
        let mut seen = u64::MAX;
        let mut moved = Instant::now();
        while self.unready(first) > 0 {
            self.turn(TURN)?;
            // Answers that are owed, so that a client with many requests is seen to move.
            let owed = self.connections[first..]
                .iter()
                .map(|connection| match connection.state {
                    State::Subscribing(left) => u64::from(left) + 1,
                    State::Connecting => 1,
                    _ => 0,
                })
                .sum();
            if owed != seen {
                (seen, moved) = (owed, Instant::now());
            } else if moved.elapsed() > self.stall {
                let left = self.unready(first);
                let words = format!("{left} clients wait for an answer of the broker");
                return Err(Failure::Time(words));
            }
        }
        Ok(())
    }

    /// Clients from `first` on that have not got as far as traffic.
    fn unready(&self, first: usize) -> usize {
        self.connections[first..]
            .iter()
            .filter(|connection| {
                matches!(connection.state, State::Connecting | State::Subscribing(_))
            })
            .count()
    }

    /// Connects one client, without waiting for the broker's word.
    pub(crate) fn connect(&mut self, plan: ClientPlan) -> Result<(), Failure> {
        let index = self.connections.len();
        let connection = self.dial(plan, index as u32)?;
        if connection.plan.publisher.is_some() {
            self.publishing.push(index as u32);
        }
        self.connections.push(connection);
        self.connections[index].write(&mut self.shared)
    }

    fn dial(&self, plan: ClientPlan, index: u32) -> Result<Connection, Failure> {
        let mut socket = Socket::connect(self.address, &self.wrapping)?;
        socket
            .register(self.poll.registry(), Token(index as usize))
            .map_err(Failure::system("cannot watch a socket"))?;
        Connection::new(socket, index, plan, &self.login)
    }

    /// Lets publishers publish, at most `rate` messages a second of all together.
    pub(crate) fn start(&mut self, rate: Option<f64>) -> Result<(), Failure> {
        let now = self.shared.tick();
        self.shared.gate = match rate {
            None => Gate::Open,
            Some(rate) => {
                let interval = 1e9 / rate;
                self.pacer = Some(Pacer::start(self.poll.registry(), PACER, interval)?);
                Gate::Paced {
                    interval,
                    begin: now,
                }
            }
        };
        self.wake_publishers();
        Ok(())
    }

    fn wake_publishers(&mut self) {
        for &index in &self.publishing {
            if let Some(publisher) = &self.connections[index as usize].publisher {
                let flow = &mut self.shared.flows[publisher.flow() as usize];
                if !flow.woken {
                    flow.woken = true;
                    self.shared.wake.push(index);
                }
            }
        }
    }

    /// Lets traffic go on.
    pub(crate) fn traffic(&mut self, until: Until) -> Result<(), Failure> {
        let end = match until {
            Until::Elapsed(time) => Some(Instant::now() + time),
            Until::Done => None,
        };
        let mut seen = self.shared.counters.delivered + self.shared.counters.acknowledged;
        let mut moved = Instant::now();
        loop {
            let now = Instant::now();
            let done = match end {
                Some(end) => now >= end,
                None => self.all_sent() && self.shared.outstanding() == 0,
            };
            if done {
                return Ok(());
            }
            let count = self.shared.counters.delivered + self.shared.counters.acknowledged;
            if count != seen {
                (seen, moved) = (count, now);
            } else if now - moved > self.stall && self.shared.outstanding() > 0 {
                return self.stalled();
            }
            let left = end.map_or(TURN, |end| end - now);
            self.turn(left.min(TURN))?;
        }
    }

    fn all_sent(&self) -> bool {
        let sent = |&index: &u32| {
            let publisher = self.connections[index as usize].publisher.as_ref();
            publisher.is_none_or(|publisher| publisher.is_done() && publisher.unwritten.is_empty())
        };
        self.shared.gate == Gate::Shut || self.publishing.iter().all(sent)
    }

    /// Stops publishing and waits for what is on its way.
    pub(crate) fn drain(&mut self) -> Result<(), Failure> {
        self.shared.gate = Gate::Shut;
        self.pacer = None;
        let mut seen = self.shared.outstanding();
        let mut moved = Instant::now();
        while self.shared.outstanding() > 0 || self.unwritten() {
            self.turn(TURN)?;
            let left = self.shared.outstanding();
            if left != seen {
                (seen, moved) = (left, Instant::now());
            } else if moved.elapsed() > self.stall {
                return self.stalled();
            }
        }
        Ok(())
    }

    fn unwritten(&self) -> bool {
        self.publishing.iter().any(|&index| {
            let publisher = self.connections[index as usize].publisher.as_ref();
            publisher.is_some_and(|publisher| !publisher.unwritten.is_empty())
        })
    }

    /// Nothing moves any more: say what is missing.
    fn stalled(&mut self) -> Result<(), Failure> {
        self.settle();
        if !self.shared.verdict.is_clean() {
            return Err(Failure::Broken(Box::new(std::mem::take(
                &mut self.shared.verdict,
            ))));
        }
        Err(Failure::Time(format!(
            "nothing arrived for {} s, with {} messages on their way",
            self.stall.as_secs_f32(),
            self.shared.outstanding()
        )))
    }

    /// Waits until the broker has handled everything that was sent to it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        for connection in &mut self.connections {
            if connection.state == State::Ready {
                connection.ping()?;
                connection.write(&mut self.shared)?;
            }
        }
        let since = Instant::now();
        while self
            .connections
            .iter()
            .any(|connection| connection.state == State::Pinging)
        {
            self.turn(TURN)?;
            if since.elapsed() > self.stall {
                return Err(Failure::Time("a ping is not answered".into()));
            }
        }
        Ok(())
    }

    /// All clients say goodbye.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        for connection in &mut self.connections {
            if connection.state != State::Closed {
                connection.leave()?;
                connection.write(&mut self.shared)?;
            }
        }
        let since = Instant::now();
        let left = |connection: &Connection| connection.state != State::Closed;
        while self.connections.iter().any(left) && since.elapsed() < self.stall {
            self.turn(TURN)?;
        }
        self.connections.clear();
        self.publishing.clear();
        Ok(())
    }

    /// Puts a new client into a seat whose client has left.
    pub(crate) fn reconnect(&mut self, seat: usize, plan: ClientPlan) -> Result<(), Failure> {
        self.connections[seat] = self.dial(plan, seat as u32)?;
        self.connections[seat].write(&mut self.shared)
    }

    /// Writes what was said to the clients from `first` on.
    pub(crate) fn write_all(&mut self, first: usize) -> Result<(), Failure> {
        for connection in &mut self.connections[first..] {
            connection.write(&mut self.shared)?;
        }
        Ok(())
    }

    /// Waits until so many messages have arrived.
    pub(crate) fn await_deliveries(&mut self, wanted: u64) -> Result<(), Failure> {
        let mut seen = self.shared.counters.delivered;
        let mut moved = Instant::now();
        while self.shared.counters.delivered < wanted {
            self.turn(TURN)?;
            let count = self.shared.counters.delivered;
            if count != seen {
                (seen, moved) = (count, Instant::now());
            } else if moved.elapsed() > self.stall {
                return self.stalled();
            }
        }
        Ok(())
    }

    /// Notes in the verdict what was sent and never came.
    pub(crate) fn settle(&mut self) {
        for connection in &self.connections {
            if let Some(receiver) = &connection.receiver {
                receiver.settle(&mut self.shared);
            }
        }
        self.shared.settle();
    }

    /// The verdict, when all is over.
    pub(crate) fn judge(&mut self) -> Result<(), Failure> {
        self.settle();
        if self.shared.verdict.is_clean() {
            return Ok(());
        }
        Err(Failure::Broken(Box::new(std::mem::take(
            &mut self.shared.verdict,
        ))))
    }

    /// One round: wait, read, publish.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        self.try_turn(wait).map_err(|error| {
            let cause = self.gateway.as_ref().and_then(Gateway::failure);
            cause.map_or(error, |cause| Failure::Broker(cause.to_owned()))
        })
    }

    fn try_turn(&mut self, wait: Duration) -> Result<(), Failure> {
        let wait = if self.shared.wake.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::system("cannot wait for sockets")(error));
            }
            _ => {}
        }
        self.shared.tick();
        let mut paced = false;
        for event in &self.events {
            if event.token() == PACER {
                paced = true;
                continue;
            }
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                continue;
            };
            if event.is_writable() {
                connection.unblock()?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                connection.read(&mut self.scratch, &mut self.shared)?;
            }
            connection.write_answers(&mut self.shared)?;
        }
        if paced {
            self.pace()?;
        }
        let wake = std::mem::take(&mut self.shared.wake);
        for &index in &wake {
            let connection = &mut self.connections[index as usize];
            if let Some(publisher) = &connection.publisher {
                self.shared.flows[publisher.flow() as usize].woken = false;
            }
            connection.write(&mut self.shared)?;
        }
        // The list keeps its memory unless something was added to the new one meanwhile.
        if self.shared.wake.is_empty() {
            self.shared.wake = wake;
            self.shared.wake.clear();
        }
        self.watch()
    }

    /// Publishers whose turn has come, publish.
    fn pace(&mut self) -> Result<(), Failure> {
        if let Some(pacer) = &mut self.pacer {
            pacer.acknowledge()?;
        }
        let Gate::Paced { interval, begin } = self.shared.gate else {
            return Ok(());
        };
        if self.publishing.is_empty() {
            return Ok(());
        }
        let due = ((self.shared.now - begin) as f64 / interval) as u64 + 1;
        let publishers = self.publishing.len() as u64;
        let from = self.paced.max(due.saturating_sub(publishers));
        for turn in from..due {
            let index = self.publishing[(turn % publishers) as usize];
            self.connections[index as usize].write(&mut self.shared)?;
        }
        self.paced = due;
        Ok(())
    }

    /// Tells progress, and ends a run whose time is over.
    fn watch(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Failure::Time(format!(
                "stopped after {} s, the time that a run may take, while {}",
                self.timeout.as_secs(),
                self.phase
            )));
        }
        let since = now - self.told;
        if since >= PROGRESS_EVERY {
            let delivered = self.shared.counters.delivered;
            let per_second = (delivered - self.told_delivered) as f64 / since.as_secs_f64();
            (self.progress)(&Progress {
                phase: self.phase,
                clients: self.connections.len(),
                delivered,
                per_second,
                breaches: !self.shared.verdict.is_clean(),
            });
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push(Sample {
                    seconds: (now - self.begun).as_secs_f64(),
                    delivered_per_second: per_second,
                });
            }
            self.told = now;
            self.told_delivered = delivered;
        }
        Ok(())
    }
}
