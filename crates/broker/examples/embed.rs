//! A broker in a program of your own: `cargo run -p martlet-broker --example embed -- tcp://127.0.0.1:1883`.

use martlet_broker::{Broker, ListenAddress, ListenerOptions};

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
    #[expect(clippy::print_stdout, reason = "an example talks to its user")]
    {
        println!("listening on {}", listener.url);
    }
    tokio::signal::ctrl_c().await?;
    broker.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
