//! A small asynchronous MQTT client for 3.1, 3.1.1 and 5.0 on the Martlet codec.
//!
//! [`Client::connect`] gives a [`Client`], a handle that publishes and subscribes and is cheap to
//! clone, and [`Events`], where messages arrive. One background task per connection keeps it
//! alive, acknowledges, runs the QoS 2 exchanges and resolves topic aliases. All queues are
//! bounded: who does not read [`Events`] stops the server from sending more.
//!
//! [`RawConnection`] is the layer below: packets or bytes in and out, nothing automatic. Tests of
//! brokers use it to say things that no decent client says.
//!
//! Deliberately absent: reconnecting (a [`Client`] lives as long as its connection), storage, and
//! enhanced authentication.
//!
//! ```no_run
//! use martlet_client::{Client, ConnectOptions, Event, PublishRequest};
//! use martlet_client::codec::{QoS, SubscribeOptions, Version};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::new("mqtt://localhost:1883".parse()?)
//!     .version(Version::V5)
//!     .client_id("thermometer");
//! let (client, mut events) = Client::connect(options).await?;
//! client.subscribe([("home/#", SubscribeOptions::qos(QoS::ExactlyOnce))]).await?;
//! client.publish(PublishRequest::new("home/kitchen", "21.5").qos(QoS::ExactlyOnce)).await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Message(message) => println!("{}: {:?}", message.topic, message.payload),
//!         Event::Disconnected(cause) => println!("{cause}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod frames;
mod handshake;
mod keep_alive;
mod message;
mod options;
mod raw;
mod requests;
mod state;
mod task;

pub use client::{Client, Event, Events};
pub use error::{ConnectError, Disconnected, Error, RawError};
pub use handshake::ServerInfo;
/// The packet types that this interface speaks of.
pub use martlet_codec as codec;
pub use martlet_transport::{AddressError, ConnectAddress};
pub use message::{PublishOutcome, PublishRequest, ReceivedMessage};
pub use options::{ConnectOptions, WillMessage};
pub use raw::RawConnection;
