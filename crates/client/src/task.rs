//! The background task of a connection: sockets, queues and time around [`State`].

use crate::error::Disconnected;
use crate::frames::{Frames, as_frame};
use crate::keep_alive::{Due, KeepAlive};
use crate::message::ReceivedMessage;
use crate::requests::{Command, goodbye};
use crate::state::State;
use bytes::BytesMut;
use martlet_codec::{Packet, ReasonCode, Version};
use martlet_transport::{ByteStream, close_gracefully};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

/// No more requests are taken while so many bytes wait to be written.
const OUT_BYTES_PAUSE: usize = 256 * 1024;
/// Nothing more is read either while so many wait: a server that reads no acknowledgements.
const OUT_BYTES_STOP: usize = OUT_BYTES_PAUSE + 1024 * 1024;
/// Requests taken in a row before the socket gets its turn.
const REQUESTS_PER_TURN: usize = 256;
/// How long the last bytes may take to leave.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Reads for what the server said before it closed.
const LAST_READS_MAX: usize = 64;
/// How long the server gets to close after our goodbye.
const LINGER: Duration = Duration::from_secs(2);

/// What the handles and the task of a connection have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Places for QoS 1 and 2 messages under way.
    pub(crate) window: Arc<Semaphore>,
    /// Places for SUBSCRIBE and UNSUBSCRIBE under way.
    pub(crate) requests: Arc<Semaphore>,
    /// Set once, when the connection is over.
    cause: OnceLock<Disconnected>,
}

impl Shared {
    pub(crate) fn new(window: usize, requests: usize) -> Self {
        Self {
            window: Arc::new(Semaphore::new(window)),
            requests: Arc::new(Semaphore::new(requests)),
            cause: OnceLock::new(),
        }
    }

    /// Why the connection is over. For those who know that it is.
    pub(crate) fn cause(&self) -> Disconnected {
        // Without a cause the task was torn down together with its runtime.
        self.cause.get().cloned().unwrap_or(Disconnected::Local)
    }
}

/// One connection, after CONNACK.
pub(crate) struct Task<S> {
    pub(crate) reader: ReadHalf<S>,
    pub(crate) writer: WriteHalf<S>,
    pub(crate) frames: Frames,
    pub(crate) state: State,
    pub(crate) version: Version,
    /// Zero for none.
    pub(crate) keep_alive: Duration,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) messages: mpsc::Sender<ReceivedMessage>,
    pub(crate) shared: Arc<Shared>,
}

/// How a connection ends.
enum End {
    /// The bytes still to be written go out, then we close.
    Polite(Disconnected),
    /// Nothing can or shall be written.
    Hard(Disconnected),
    /// As asked by a handle, which waits until it is done.
    Asked(tokio::sync::oneshot::Sender<()>),
}

impl<S: ByteStream> Task<S> {
    pub(crate) async fn run(mut self) {
        let mut out = BytesMut::new();
        let end = self.serve(&mut out).await;
        let (cause, reply) = match end {
            End::Hard(cause) => (cause, None),
            End::Polite(cause) => {
                self.close(&out).await;
                (cause, None)
            }
            End::Asked(reply) => {
                self.close(&out).await;
                (Disconnected::Local, Some(reply))
            }
        };
        // First the cause, then everything that makes others look for it.
        let _ = self.shared.cause.set(cause);
        self.shared.window.close();
        self.shared.requests.close();
        if let Some(reply) = reply {
            // Who asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Writes `out`, closes the write side and waits a little for the server to do the same.
    async fn close(&mut self, out: &[u8]) {
        let flush = async {
            self.writer.write_all(out).await?;
            self.writer.flush().await
        };
        if let Ok(Ok(())) = timeout(FLUSH_LIMIT, flush).await {
            let stream = tokio::io::join(&mut self.reader, &mut self.writer);
            close_gracefully(stream, LINGER).await;
        }
    }

    async fn serve(&mut self, out: &mut BytesMut) -> End {
        // A message for which the queue has no room.
        let mut waiting = None;
        let mut handles_left = true;
        let mut clock = KeepAlive::new(self.keep_alive, Instant::now());
        // One timer that runs out early rather than one that is set for every packet.
        let timer = sleep_until(clock.deadline(true));
        tokio::pin!(timer);
        loop {
            if waiting.is_none() {
                match self.take_packets(out) {
                    Ok(message) => waiting = message,
                    Err(end) => return end,
                }
            }
            let reading = waiting.is_none() && out.len() < OUT_BYTES_STOP;
            tokio::select! {
                () = deliver(&self.messages, &mut waiting), if waiting.is_some() => {
                    clock.reading_again(Instant::now());
                }
                read = self.frames.read(&mut self.reader), if reading => match read {
                    Ok(0) => return End::Hard(Disconnected::Closed),
                    Ok(_) => clock.received(),
                    Err(error) => return End::Hard(error.into()),
                },
                written = self.writer.write_buf(out), if !out.is_empty() => match written {
                    Ok(_) => clock.sent(Instant::now()),
                    Err(error) => return End::Hard(self.last_words(error).await),
                },
                command = self.commands.recv(), if handles_left && out.len() < OUT_BYTES_PAUSE => {
                    match command {
                        None => handles_left = false,
                        Some(command) => if let Some(end) = self.commands(command, out) {
                            return end;
                        },
                    }
                }
                () = self.messages.closed(), if !handles_left => {
                    goodbye(self.version, ReasonCode::Success, out);
                    return End::Polite(Disconnected::Local);
                }
                () = &mut timer, if clock.is_running() => {
                    match clock.act(Instant::now(), reading) {
                        Due::Later => {}
                        Due::Ping => {
                            let written = Packet::PingReq.encode(self.version, out);
                            debug_assert!(written.is_ok(), "PINGREQ: {written:?}");
                        }
                        Due::GiveUp => {
                            self.state.tell(ReasonCode::KeepAliveTimeout, out);
                            return End::Polite(Disconnected::KeepAlive(self.keep_alive.as_secs()));
                        }
                    }
                    timer.as_mut().reset(clock.deadline(reading));
                }
            }
        }
    }

    /// Handles the packets that are here, until one is a message for which there is no room.
    fn take_packets(&mut self, out: &mut BytesMut) -> Result<Option<ReceivedMessage>, End> {
        while out.len() < OUT_BYTES_STOP {
            let decoded = match self.frames.next() {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => as_frame(&bytes)
                    .and_then(|frame| Packet::decode(frame, self.version))
                    .map(|packet| self.state.receive(&packet, &bytes, out)),
                Err(error) => Err(error),
            };
            match decoded {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(message))) => match self.messages.try_send(message) {
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                    Err(mpsc::error::TrySendError::Full(message)) => return Ok(Some(message)),
                },
                Ok(Err(cause @ Disconnected::Server { .. })) => return Err(End::Hard(cause)),
                Ok(Err(cause)) => return Err(End::Polite(cause)),
                Err(error) => {
                    self.state.tell(error.reason_code(), out);
                    return Err(End::Polite(Disconnected::Decode(error)));
                }
            }
        }
        Ok(None)
    }

    /// Takes `first` and the requests that wait behind it.
    fn commands(&mut self, first: Command, out: &mut BytesMut) -> Option<End> {
        let mut command = first;
        for _ in 0..REQUESTS_PER_TURN {
            match self.state.request(command, out) {
                None => {}
                Some(Command::Send(bytes)) => out.extend_from_slice(&bytes),
                Some(Command::Disconnect { packet, reply }) => {
                    out.extend_from_slice(&packet);
                    return Some(End::Asked(reply));
                }
                Some(_) => return Some(End::Hard(Disconnected::Local)),
            }
            if out.len() >= OUT_BYTES_PAUSE {
                break;
            }
            command = self.commands.try_recv().ok()?;
        }
        None
    }

    /// Writing failed, because the server closed; before that it may have said why.
    async fn last_words(&mut self, error: io::Error) -> Disconnected {
        let mut out = BytesMut::new();
        let read = async {
            for _ in 0..LAST_READS_MAX {
                match self.take_packets(&mut out) {
                    Err(End::Hard(cause)) => return Some(cause),
                    Ok(None) => {}
                    _ => return None,
                }
                if !matches!(self.frames.read(&mut self.reader).await, Ok(1..)) {
                    return None;
                }
            }
            None
        };
        match timeout(LINGER, read).await {
            Ok(Some(cause)) => cause,
            _ => error.into(),
        }
    }
}

/// Waits for room in the queue and puts the message there. When nobody listens any more, the
/// message is dropped. Cancel safe.
async fn deliver(messages: &mpsc::Sender<ReceivedMessage>, waiting: &mut Option<ReceivedMessage>) {
    let permit = messages.reserve().await;
    if let (Some(message), Ok(permit)) = (waiting.take(), permit) {
        permit.send(message);
    }
}
