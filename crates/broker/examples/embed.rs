//! A broker in a program of your own, and a client in the same process:
//! `cargo run -p martlet-broker --example embed -- tcp://127.0.0.1:1883`.

use std::time::Duration;

use martlet_broker::codec::{QoS, SubscribeOptions};
use martlet_broker::{Broker, ListenAddress, ListenerOptions};
use martlet_client::{Client, ConnectOptions, Event};

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "tcp://127.0.0.1:0".into());
    let address: ListenAddress = address.parse()?;
    let broker = Broker::builder().start()?;
    let listener = broker
        .listen("tcp", &address, &ListenerOptions::default())
        .await?;
    println!("listening on {}", listener.url);

    // Any stream of bytes is a connection, so subscribing in process takes no socket.
    let (near, far) = tokio::io::duplex(64 * 1024);
    broker.attach(far, "this process");
    let (client, mut events) = Client::connect_over(near, ConnectOptions::default()).await?;
    let everything = ("#", SubscribeOptions::qos(QoS::AtLeastOnce));
    client.subscribe([everything]).await?;
    broker.publish("embed/hello", b"hi", QoS::AtLeastOnce, false)?;

    loop {
        tokio::select! {
            Some(Event::Message(message)) = events.next() => {
                println!("{}: {} bytes", message.topic, message.payload.len());
            }
            end = tokio::signal::ctrl_c() => break end?,
        }
    }
    broker.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
