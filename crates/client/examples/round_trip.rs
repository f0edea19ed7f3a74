//! Connects to a broker, sends itself messages at every quality of service, and says goodbye.
//!
//! `cargo run -p martlet-client --example round_trip -- mqtt://localhost:1883`
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use martlet_client::codec::{QoS, ReasonCode, SubscribeOptions, Version};
use martlet_client::{Client, ConnectOptions, Event, PublishRequest};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("mqtt://localhost:1883");
    for version in [Version::V31, Version::V311, Version::V5] {
        let options = ConnectOptions::new(address.parse()?)
            .version(version)
            .client_id("round-trip");
        let (client, mut events) = Client::connect(options).await?;
        let granted = client
            .subscribe([("round/trip/#", SubscribeOptions::qos(QoS::ExactlyOnce))])
            .await?;
        println!("MQTT {version}: subscribed, {granted:?}");
        for (qos, payload) in [
            (QoS::AtMostOnce, "hello".to_owned()),
            (QoS::AtLeastOnce, String::new()),
            (QoS::ExactlyOnce, "x".repeat(1024 * 1024)),
        ] {
            let request = PublishRequest::new("round/trip/1", payload.clone()).qos(qos);
            let outcome = client.publish(request).await?;
            match events.next().await {
                Some(Event::Message(message)) if message.payload == payload => {
                    println!("  {qos:?}: {} bytes, {}", payload.len(), outcome.reason);
                }
                other => return Err(format!("{qos:?}: not what was sent: {other:?}").into()),
            }
        }
        client.unsubscribe(["round/trip/#"]).await?;
        client.disconnect(ReasonCode::Success).await?;
    }
    Ok(())
}
