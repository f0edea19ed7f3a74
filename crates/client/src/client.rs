//! The two ends that users hold: [`Client`] to act, [`Events`] to hear.

use crate::error::{ConnectError, Disconnected, Error};
use crate::frames::Frames;
use crate::handshake::{ServerInfo, handshake};
use crate::message::{PublishOutcome, PublishRequest, ReceivedMessage};
use crate::options::ConnectOptions;
use crate::requests::{self, Command};
use crate::state::State;
use crate::task::{Shared, Task};
use martlet_codec::{PropsBuf, QoS, ReasonCode, SubscribeOptions};
use martlet_transport::ByteStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Requests on their way to the background task.
const COMMANDS_MAX: usize = 64;
/// SUBSCRIBE and UNSUBSCRIBE packets under way at once.
const REQUESTS_MAX: usize = 256;

/// A handle to a connection; clones share it.
///
/// When all handles and [`Events`] are dropped, the connection says goodbye and ends. As long as
/// one of them lives, it goes on.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: ServerInfo,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl Client {
    /// Connects to `options.address` and waits for the server's consent. Must be called within a
    /// Tokio runtime, in which the connection's task runs.
    ///
    /// # Errors
    /// [`ConnectError`], in words for users.
    pub async fn connect(options: ConnectOptions) -> Result<(Self, Events), ConnectError> {
        let limit = options.connect_timeout;
        let connect = async {
            let settings = martlet_transport::ConnectOptions {
                tls: options.tls.clone(),
                ..martlet_transport::ConnectOptions::default()
            };
            let stream = martlet_transport::connect(&options.address, &settings)
                .await
                .map_err(|source| ConnectError::Unreachable {
                    address: options.address.clone(),
                    source,
                })?;
            Self::start(stream, &options).await
        };
        match timeout(limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    /// The same over a stream that leads to the server already; `options.address` is not used.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect_over<S: ByteStream>(
        stream: S,
        options: ConnectOptions,
    ) -> Result<(Self, Events), ConnectError> {
        let limit = options.connect_timeout;
        match timeout(limit, Self::start(stream, &options)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    async fn start<S: ByteStream>(
        mut stream: S,
        options: &ConnectOptions,
    ) -> Result<(Self, Events), ConnectError> {
        // What was announced in the properties counts.
        let announced = options.connect_props();
        let announced = announced.as_props();
        let mut frames = Frames::new(
            announced
                .maximum_packet_size()
                .unwrap_or(options.max_packet_bytes),
        );
        let server = handshake(&mut stream, &mut frames, options).await?;
        let version = options.version;
        let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
        let (messages_tx, messages) = mpsc::channel(options.event_queue_max.max(1));
        let shared = Arc::new(Shared::new(
            usize::from(server.inflight_max()),
            REQUESTS_MAX,
        ));
        let (reader, writer) = tokio::io::split(stream);
        let task = Task {
            reader,
            writer,
            frames,
            state: State::new(
                version,
                announced.receive_maximum().unwrap_or(u16::MAX),
                announced.topic_alias_maximum().unwrap_or(0),
            ),
            version,
            keep_alive: Duration::from_secs(server.keep_alive_secs().into()),
            commands: commands_rx,
            messages: messages_tx,
            shared: Arc::clone(&shared),
        };
        tokio::spawn(task.run());
        let events = Events {
            messages,
            shared: Arc::clone(&shared),
            over: false,
        };
        let inner = Inner {
            server,
            commands,
            shared,
        };
        let client = Self {
            inner: Arc::new(inner),
        };
        Ok((client, events))
    }

    /// What the server said when it accepted the connection.
    pub fn server(&self) -> &ServerInfo {
        &self.inner.server
    }

    /// Publishes a message.
    ///
    /// At QoS 0 this returns when the message is queued for sending. At QoS 1 and 2 it first waits
    /// for a place in the server's Receive Maximum ([MQTT-4.9.0-2]), then until the exchange is
    /// over; to have several under way, run several at once. A future that is dropped meanwhile
    /// does not take the message back.
    ///
    /// # Errors
    /// [`Error`] if it could not be sent or the connection ended before the answer. A refusal by
    /// the server is the reason code of the outcome.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishOutcome, Error> {
        let server = &self.inner.server;
        requests::check_publish(&request, server)?;
        if request.qos == QoS::AtMostOnce {
            let bytes = requests::publish_qos0(&request, server)?;
            self.send(Command::Send(bytes)).await?;
            return Ok(PublishOutcome::SUCCESS);
        }
        let packet = requests::publish(&request, server)?;
        let permit = self.place(&self.inner.shared.window).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Publish {
            packet,
            qos: request.qos,
            permit,
            reply,
        })
        .await?;
        self.answer(answer).await
    }

    /// Subscribes; one reason code per filter, in order: the granted QoS or an error.
    ///
    /// # Errors
    /// [`Error`] if it could not be sent or the connection ended before the answer.
    pub async fn subscribe<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = (F, SubscribeOptions)>,
    ) -> Result<Vec<ReasonCode>, Error> {
        let request = requests::subscribe(filters, &PropsBuf::new(), &self.inner.server);
        self.filters(request).await
    }

    /// The same with properties (MQTT 5), such as a subscription identifier.
    ///
    /// # Errors
    /// As for [`Self::subscribe`].
    pub async fn subscribe_with<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = (F, SubscribeOptions)>,
        props: PropsBuf,
    ) -> Result<Vec<ReasonCode>, Error> {
        let request = requests::subscribe(filters, &props, &self.inner.server);
        self.filters(request).await
    }

    /// Unsubscribes; one reason code per filter, in order (before MQTT 5: always `Success`).
    ///
    /// # Errors
    /// As for [`Self::subscribe`].
    pub async fn unsubscribe<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = F>,
    ) -> Result<Vec<ReasonCode>, Error> {
        let request = requests::unsubscribe(filters, &PropsBuf::new(), &self.inner.server);
        self.filters(request).await
    }

    /// The same with properties (MQTT 5).
    ///
    /// # Errors
    /// As for [`Self::subscribe`].
    pub async fn unsubscribe_with<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = F>,
        props: PropsBuf,
    ) -> Result<Vec<ReasonCode>, Error> {
        let request = requests::unsubscribe(filters, &props, &self.inner.server);
        self.filters(request).await
    }

    async fn filters(
        &self,
        request: Result<(requests::Numbered, usize), Error>,
    ) -> Result<Vec<ReasonCode>, Error> {
        let (packet, count) = request?;
        let permit = self.place(&self.inner.shared.requests).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Filters {
            packet,
            count,
            permit,
            reply,
        })
        .await?;
        self.answer(answer).await
    }

    /// Says goodbye after everything that was queued before, and waits until it is said. Messages
    /// above QoS 0 that are under way stay without an answer.
    ///
    /// `ReasonCode::Success` is the normal goodbye. Before MQTT 5 there is no other: any other
    /// reason hangs up without one, which makes the server publish the will.
    ///
    /// # Errors
    /// [`Error`] if the connection was over before.
    pub async fn disconnect(&self, reason: ReasonCode) -> Result<(), Error> {
        self.disconnect_with(reason, PropsBuf::new()).await
    }

    /// The same with properties (MQTT 5), such as another session expiry.
    ///
    /// # Errors
    /// As for [`Self::disconnect`], and for properties that DISCONNECT cannot have.
    pub async fn disconnect_with(&self, reason: ReasonCode, props: PropsBuf) -> Result<(), Error> {
        let packet = requests::disconnect(reason, &props, &self.inner.server)?;
        let (reply, done) = oneshot::channel();
        self.send(Command::Disconnect { packet, reply }).await?;
        self.answer(done).await
    }

    /// Hangs up at once, without a goodbye: the server publishes the will.
    pub async fn abort(&self) {
        // If it is over already, all the better.
        drop(self.send(Command::Abort).await);
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        let sent = self.inner.commands.send(command).await;
        sent.map_err(|_| self.over())
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Error> {
        if let Ok(answer) = answer.await {
            return Ok(answer);
        }
        // The cause is there at the latest when the task is gone.
        self.inner.commands.closed().await;
        Err(self.over())
    }

    async fn place(
        &self,
        places: &Arc<Semaphore>,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, Error> {
        let place = Arc::clone(places).acquire_owned().await;
        place.map_err(|_| self.over())
    }

    fn over(&self) -> Error {
        self.inner.shared.cause().into()
    }
}

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrived. It has been acknowledged.
    Message(ReceivedMessage),
    /// The connection is over; the last event.
    Disconnected(Disconnected),
}

/// What happens on a connection, in order.
///
/// The queue is bounded: while nobody takes events, nothing more is read from the server.
/// Dropping `Events` makes arriving messages be acknowledged and thrown away.
#[derive(Debug)]
pub struct Events {
    messages: mpsc::Receiver<ReceivedMessage>,
    shared: Arc<Shared>,
    over: bool,
}

impl Events {
    /// Waits for the next event; `None` after [`Event::Disconnected`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(message) = self.messages.recv().await {
            return Some(Event::Message(message));
        }
        if self.over {
            return None;
        }
        self.over = true;
        Some(Event::Disconnected(self.shared.cause()))
    }
}
