//! `martlet rr`: publishes a request and prints the response.

use std::process::ExitCode;

use martlet_client::{Client, Event, Events, PublishRequest};
use martlet_codec::{Property, ReasonCode, SubscribeOptions};

use super::args::RrArgs;
use super::connect::{Setup, check_name};
use super::failure::Failure;
use super::printer::Printer;
use super::subscribe::expired;
use super::{payload, run_to_end};

/// Runs the command.
pub fn run(args: &RrArgs) -> ExitCode {
    run_to_end(&args.common, async {
        tokio::select! {
            result = request(args) => result,
            () = expired(args.wait) => Err(Failure::Timeout),
        }
    })
}

async fn request(args: &RrArgs) -> Result<(), Failure> {
    let setup = Setup::new(&args.common, "rr")?;
    let Some(topic) = args.topic.clone().or_else(|| setup.topic.clone()) else {
        return Err(Failure::Usage("a topic is needed (-t)".to_owned()));
    };
    check_name(&topic)?;
    // A response topic has no wildcards [MQTT-3.3.2-14].
    check_name(&args.response_topic)?;
    let payload = payload::read(&args.payload)?;
    let mut printer = Printer::new(&args.print, args.common.quiet)?;
    let mut properties = setup.properties.publish.clone();
    if setup.options.version.is_v5() && properties.as_props().response_topic().is_none() {
        properties.push(Property::ResponseTopic(&args.response_topic));
    }
    let connected = setup.connect().await;
    let (client, mut events) =
        connected.map_err(|error| Failure::connect(&error, &setup.options))?;

    // The subscription stands before the request leaves: no response can come too early.
    let filter = [(
        args.response_topic.as_str(),
        SubscribeOptions::qos(args.common.qos),
    )];
    let codes = client
        .subscribe_with(filter, setup.properties.subscribe.clone())
        .await?;
    if let Some(code) = codes.iter().find(|code| code.is_error()) {
        return Err(Failure::Other(format!(
            "the subscription to {} was refused: {code}",
            args.response_topic
        )));
    }
    let request = PublishRequest::new(topic, payload)
        .qos(args.common.qos)
        .props(properties);
    let outcome = client.publish(request).await?;
    if outcome.reason.is_error() {
        return Err(Failure::Other(format!(
            "the request was refused: {}",
            outcome.reason
        )));
    }
    if outcome.reason == ReasonCode::NoMatchingSubscribers {
        setup.debug(|| "nobody subscribes to the request's topic".to_owned());
    }
    let response = response(args, &mut events).await?;
    printer.print(&response)?;
    printer.flush()?;
    goodbye(&setup, &client).await
}

async fn response(
    args: &RrArgs,
    events: &mut Events,
) -> Result<martlet_client::ReceivedMessage, Failure> {
    loop {
        match events.next().await {
            Some(Event::Message(message)) if args.no_retained && message.retain => {}
            // A kept session may hold messages of other subscriptions.
            Some(Event::Message(message)) if message.topic != args.response_topic => {}
            Some(Event::Message(message)) => return Ok(message),
            Some(Event::Disconnected(cause)) => return Err(cause.into()),
            None => return Err(Failure::Other("the connection ended".to_owned())),
        }
    }
}

async fn goodbye(setup: &Setup, client: &Client) -> Result<(), Failure> {
    let properties = setup.properties.disconnect.clone();
    Ok(client
        .disconnect_with(ReasonCode::Success, properties)
        .await?)
}
