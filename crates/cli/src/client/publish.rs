//! `martlet pub`: publishes one message, the same one several times, or a message for each line of standard input.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use martlet_client::{Error, Event, PublishOutcome, PublishRequest};
use martlet_codec::ReasonCode;
use tokio::sync::mpsc;

use super::args::PubArgs;
use super::connect::{Setup, check_name};
use super::failure::Failure;
use super::progress::Progress;
use super::{payload, run_to_end};
use crate::output;

/// Refused messages that are told one by one.
const REFUSALS_TOLD: u64 = 5;

/// Runs the command.
pub fn run(args: &PubArgs) -> ExitCode {
    run_to_end(&args.common, publish(args))
}

async fn publish(args: &PubArgs) -> Result<(), Failure> {
    let setup = Setup::new(&args.common, "pub")?;
    let Some(topic) = args.topic.clone().or_else(|| setup.topic.clone()) else {
        return Err(Failure::Usage("a topic is needed (-t)".to_owned()));
    };
    check_name(&topic)?;
    let mut source = if args.stdin_line {
        Source::Lines(payload::lines())
    } else {
        Source::Repeat {
            payload: payload::read(&args.payload)?,
            left: args.repeat,
            delay: Duration::ZERO,
        }
    };
    let request = |payload: Bytes| {
        PublishRequest::new(topic.clone(), payload)
            .qos(args.common.qos)
            .retain(args.retain)
            .props(setup.properties.publish.clone())
    };
    let connected = setup.connect().await;
    let (client, mut events) =
        connected.map_err(|error| Failure::connect(&error, &setup.options))?;

    let long = (args.stdin_line && !io::stdin().is_terminal()) || args.repeat > 1;
    let total = (!args.stdin_line).then_some(args.repeat);
    let mut progress = Progress::new(long && !args.common.quiet && !args.common.debug, total);
    let mut refusals = Refusals::default();
    // Futures are polled for the first time right after they were pushed, so messages leave in order.
    let mut under_way: FuturesUnordered<_> = FuturesUnordered::new();
    let mut more = true;
    let result = loop {
        tokio::select! {
            biased;
            Some(outcome) = under_way.next() => {
                progress.advance();
                let outcome: Result<PublishOutcome, Error> = outcome;
                match outcome {
                    Ok(outcome) => {
                        setup.debug(|| format!("message {}: {}", progress.done(), outcome.reason));
                        refusals.note(progress.done(), &outcome, args.common.quiet);
                    }
                    Err(error) => break Err(failed(error)),
                }
            }
            payload = source.next(), if more && under_way.len() < usize::from(args.max_inflight) => match payload {
                Ok(Some(payload)) => {
                    under_way.push(client.publish(request(payload)));
                    if let Source::Repeat { delay, .. } = &mut source {
                        *delay = args.repeat_delay;
                    }
                }
                Ok(None) => more = false,
                Err(error) => break Err(Failure::Other(format!("standard input: {error}"))),
            },
            // Messages of a kept session are not ours to print.
            Some(event) = events.next() => if let Event::Disconnected(cause) = event {
                break Err(cause.into());
            },
        }
        if !more && under_way.is_empty() {
            break Ok(());
        }
    };
    progress.finish();
    result?;
    let goodbye = client
        .disconnect_with(ReasonCode::Success, setup.properties.disconnect.clone())
        .await;
    goodbye.map_err(failed)?;
    refusals.result()
}

/// An MQTT 3 server has no other answer to a message it does not want than to hang up.
fn failed(error: Error) -> Failure {
    match error {
        Error::Disconnected(martlet_client::Disconnected::Closed) => Failure::Other(
            "the server closed the connection; before MQTT 5 that is how a message is refused (-V 5 tells why)".to_owned(),
        ),
        error => error.into(),
    }
}

/// Where payloads come from.
enum Source {
    Repeat {
        payload: Bytes,
        left: u64,
        delay: Duration,
    },
    Lines(mpsc::Receiver<io::Result<Bytes>>),
}

impl Source {
    /// The next payload. Cancel safe.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Repeat {
                payload,
                left,
                delay,
            } => {
                if *left == 0 {
                    return Ok(None);
                }
                if !delay.is_zero() {
                    tokio::time::sleep(*delay).await;
                }
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines) => lines.recv().await.transpose(),
        }
    }
}

/// Messages that the broker refused.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
}

impl Refusals {
    fn note(&mut self, number: u64, outcome: &PublishOutcome, quiet: bool) {
        if !outcome.reason.is_error() {
            return;
        }
        self.count += 1;
        if self.count <= REFUSALS_TOLD && !quiet {
            let words = outcome
                .reason_string
                .as_ref()
                .map(|words| format!(": {words}"))
                .unwrap_or_default();
            output::stderr_line(&format!(
                "message {number} was refused: {}{words}",
                outcome.reason
            ));
        }
    }

    fn result(&self) -> Result<(), Failure> {
        match self.count {
            0 => Ok(()),
            1 => Err(Failure::Other("the message was refused".to_owned())),
            count => Err(Failure::Other(format!("{count} messages were refused"))),
        }
    }
}
