//! `martlet sub`: subscribes and prints what arrives, through outages of the broker.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt as _;
use martlet_client::{
    Client, ConnectError, Disconnected, Error, Event, Events, PublishRequest, ReceivedMessage,
};
use martlet_codec::{ReasonCode, RetainHandling as Handling, SubscribeOptions};
use martlet_topic::{TopicFilter, TopicName};

use super::args::{RetainHandling, SubArgs};
use super::connect::{Setup, check_filter, check_plain_filter};
use super::failure::Failure;
use super::printer::{Printer, Reader};
use super::run_to_end;
use crate::output;
use crate::serve::signals::Signals;

/// First and longest pause between attempts to connect again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the command.
pub fn run(args: &SubArgs) -> ExitCode {
    run_to_end(&args.common, subscribe(args))
}

/// Ends with success at SIGINT and SIGTERM.
async fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::Other(error.to_string()))?;
    let mut subscriber = Subscriber::new(args)?;
    let result = tokio::select! {
        result = subscriber.run() => result,
        _ = signals.next() => Ok(()),
        () = expired(args.wait) => Err(Failure::Timeout),
    };
    subscriber.goodbye().await;
    result
}

/// Waits that long, or for ever.
pub(crate) async fn expired(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

struct Subscriber<'a> {
    args: &'a SubArgs,
    setup: Setup,
    filters: Vec<(String, SubscribeOptions)>,
    printer: Printer,
    /// Messages to print until the end, with `-C`.
    left: Option<u64>,
    client: Option<Client>,
}

/// What a message or a connection leads to.
enum Next {
    GoOn,
    /// Everything that was asked for is done.
    End,
    /// The connection is gone.
    Lost(Disconnected),
}

impl<'a> Subscriber<'a> {
    fn new(args: &'a SubArgs) -> Result<Self, Failure> {
        let setup = Setup::new(&args.common, "sub")?;
        let topics: Vec<&String> = args.topic.iter().chain(&setup.topic).collect();
        if topics.is_empty() && args.unsubscribe.is_empty() {
            return Err(Failure::Usage("a topic filter is needed (-t)".to_owned()));
        }
        topics
            .iter()
            .copied()
            .chain(&args.unsubscribe)
            .try_for_each(|filter| check_filter(filter))?;
        args.filter_out
            .iter()
            .try_for_each(|filter| check_plain_filter(filter))?;
        let options = SubscribeOptions {
            qos: args.common.qos,
            no_local: args.no_local,
            retain_as_published: args.retain_as_published,
            retain_handling: match args.retain_handling {
                RetainHandling::Always => Handling::SendAlways,
                RetainHandling::New => Handling::SendIfNew,
                RetainHandling::Never => Handling::DoNotSend,
            },
        };
        let plain = SubscribeOptions {
            qos: options.qos,
            ..SubscribeOptions::qos(options.qos)
        };
        if options != plain && !setup.options.version.is_v5() {
            return Err(Failure::Usage(
                "--no-local, --retain-as-published and --retain-handling need MQTT 5 (-V 5)"
                    .to_owned(),
            ));
        }
        let filters = topics
            .into_iter()
            .map(|topic| (topic.clone(), options))
            .collect();
        let printer = Printer::new(&args.print, args.common.quiet)?;
        Ok(Self {
            args,
            setup,
            filters,
            printer,
            left: args.count,
            client: None,
        })
    }

    /// Runs until everything is done or an outage will not end by itself.
    async fn run(&mut self) -> Result<(), Failure> {
        let connected = self.setup.connect().await;
        let (mut client, mut events) =
            connected.map_err(|error| Failure::connect(&error, &self.setup.options))?;
        loop {
            self.client = Some(client.clone());
            let cause = match self.connected(&client, &mut events).await? {
                Next::Lost(cause) => cause,
                Next::GoOn | Next::End => return Ok(()),
            };
            if !is_outage(&cause) {
                return Err(cause.into());
            }
            self.tell(&format!("{cause}; connecting again"));
            (client, events) = self.reconnect().await?;
            self.tell("connected again");
        }
    }

    /// Subscribes and prints what arrives.
    async fn connected(&mut self, client: &Client, events: &mut Events) -> Result<Next, Failure> {
        let mut subscribing = std::pin::pin!(ask(
            client.clone(),
            self.filters.clone(),
            self.args.unsubscribe.clone(),
            self.setup.properties.clone(),
        ));
        let mut subscribed = false;
        loop {
            // Flushes when there is nothing more at this moment.
            let at_once = events.next().now_or_never();
            if at_once.is_none() && self.printer.flush()? == Reader::Gone {
                return Ok(Next::End);
            }
            let event = match at_once {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    answer = &mut subscribing, if !subscribed => {
                        subscribed = true;
                        match answer {
                            Ok(codes) => self.granted(&codes)?,
                            Err(Error::Disconnected(cause)) => return Ok(Next::Lost(cause)),
                            Err(error) => return Err(error.into()),
                        }
                        if self.args.exit_after_subscribe {
                            return Ok(Next::End);
                        }
                        continue;
                    }
                    event = events.next() => event,
                },
            };
            let next = match event {
                Some(Event::Message(message)) => self.message(&message, client).await?,
                Some(Event::Disconnected(cause)) => Next::Lost(cause),
                None => Next::Lost(Disconnected::Closed),
            };
            match next {
                Next::GoOn => {}
                Next::End => {
                    self.printer.flush()?;
                    return Ok(Next::End);
                }
                Next::Lost(cause) => {
                    self.printer.flush()?;
                    return Ok(Next::Lost(cause));
                }
            }
        }
    }

    /// Tells about refused filters; fails if none was granted.
    fn granted(&self, codes: &[ReasonCode]) -> Result<(), Failure> {
        for ((filter, _), code) in self.filters.iter().zip(codes) {
            if code.is_error() {
                self.tell(&format!("the subscription to {filter} was refused: {code}"));
            } else {
                self.setup
                    .debug(|| format!("subscribed to {filter}: {code}"));
            }
        }
        if !codes.is_empty() && codes.iter().all(|code| code.is_error()) {
            return Err(Failure::Other("all subscriptions were refused".to_owned()));
        }
        Ok(())
    }

    async fn message(
        &mut self,
        message: &ReceivedMessage,
        client: &Client,
    ) -> Result<Next, Failure> {
        let args = self.args;
        if args.retained_only && !message.retain {
            return Ok(Next::End);
        }
        let topic = TopicName::new(&message.topic);
        let is_out = |filter: &String| match (TopicFilter::new(filter), topic) {
            (Ok(filter), Ok(topic)) => filter.matches(topic),
            _ => false,
        };
        if args.filter_out.iter().any(is_out) {
            return Ok(Next::GoOn);
        }
        if args.remove_retained && message.retain {
            match client
                .publish(
                    PublishRequest::new(message.topic.clone(), "")
                        .qos(args.common.qos)
                        .retain(true),
                )
                .await
            {
                Ok(outcome) if outcome.reason.is_error() => {
                    self.tell(&format!(
                        "{} was not removed: {}",
                        message.topic, outcome.reason
                    ));
                }
                Ok(_) => {}
                Err(Error::Disconnected(cause)) => return Ok(Next::Lost(cause)),
                Err(error) => return Err(error.into()),
            }
        }
        if args.no_retained && message.retain {
            return Ok(Next::GoOn);
        }
        // The empty messages that remove the retained ones come back to us as well.
        if args.remove_retained && !message.retain && message.payload.is_empty() {
            return Ok(Next::GoOn);
        }
        if self.printer.print(message)? == Reader::Gone {
            return Ok(Next::End);
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                return Ok(Next::End);
            }
        }
        Ok(Next::GoOn)
    }

    /// Tries until it works; a refusal ends it.
    async fn reconnect(&self) -> Result<(Client, Events), Failure> {
        let mut pause = RETRY_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            match self.setup.connect().await {
                Ok(connected) => return Ok(connected),
                Err(error @ ConnectError::Refused { reason, .. }) if !is_passing(reason) => {
                    return Err(Failure::connect(&error, &self.setup.options));
                }
                Err(error) => self.setup.debug(|| error.to_string()),
            }
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    /// Leaves so that the broker publishes no will.
    async fn goodbye(&mut self) {
        // Nothing depends on whether these last words arrive or are read.
        let _ = self.printer.flush();
        if let Some(client) = self.client.take() {
            let properties = self.setup.properties.disconnect.clone();
            let _ = tokio::time::timeout(
                GOODBYE,
                client.disconnect_with(ReasonCode::Success, properties),
            )
            .await;
        }
    }

    fn tell(&self, text: &str) {
        if !self.args.common.quiet {
            output::stderr_line(text);
        }
    }
}

/// Unsubscribes and subscribes; the codes are those of the subscriptions.
async fn ask(
    client: Client,
    filters: Vec<(String, SubscribeOptions)>,
    unsubscribe: Vec<String>,
    properties: super::properties::Properties,
) -> Result<Vec<ReasonCode>, Error> {
    if !unsubscribe.is_empty() {
        client
            .unsubscribe_with(unsubscribe, properties.unsubscribe)
            .await?;
    }
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    client.subscribe_with(filters, properties.subscribe).await
}

/// Whether trying again is of use.
fn is_outage(cause: &Disconnected) -> bool {
    match cause {
        Disconnected::Server { reason, .. } => is_passing(*reason),
        Disconnected::Closed | Disconnected::KeepAlive(_) | Disconnected::Io(_) => true,
        _ => false,
    }
}

/// Whether the reason is one that passes.
fn is_passing(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
            | ReasonCode::AdministrativeAction
    )
}
