//! Finds or starts the broker under test.
//!
//! One broker with the suite's settings is shared by all tests of a process; a test that needs other settings starts its own.
//! `MARTLET_BROKER_ADDRESS` (`host:port`) names an external broker instead; tests that need their own are then left out.
//! With `MARTLET_MUTANT` a rule-breaking proxy stands between the tests and the broker (see [`crate::proxy`]).

use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::runtime::Runtime;

/// Environment variable that names an external broker.
pub const ADDRESS_VARIABLE: &str = "MARTLET_BROKER_ADDRESS";
/// Environment variable that names an external broker's WebSocket listener.
pub const WEBSOCKET_VARIABLE: &str = "MARTLET_BROKER_WEBSOCKET";

/// A broker to talk to.
#[derive(Clone)]
pub struct Broker {
    address: SocketAddr,
    websocket: Option<SocketAddr>,
    #[cfg(feature = "embedded")]
    embedded: Option<martlet_broker::Broker>,
}

/// The runtime on which brokers and proxies live; tests come and go with theirs.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built")
    })
}

fn external() -> Option<Broker> {
    let address = std::env::var(ADDRESS_VARIABLE).ok()?;
    let parse = |text: &str| {
        text.parse()
            .unwrap_or_else(|_| panic!("{text:?} is not an address and port"))
    };
    Some(Broker {
        address: parse(&address),
        websocket: std::env::var(WEBSOCKET_VARIABLE)
            .ok()
            .map(|text| parse(&text)),
        #[cfg(feature = "embedded")]
        embedded: None,
    })
}

impl Broker {
    /// The broker all tests share.
    pub async fn shared() -> &'static Self {
        static SHARED: tokio::sync::OnceCell<Broker> = tokio::sync::OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let broker = match external() {
                    Some(broker) => broker,
                    None => Self::start_shared().await,
                };
                broker.behind_mutant().await
            })
            .await
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where WebSocket clients connect, if the broker has such a listener.
    pub fn websocket(&self) -> Option<SocketAddr> {
        self.websocket
    }

    async fn behind_mutant(mut self) -> Self {
        if let Some(mutant) = crate::mutants::chosen() {
            self.address = crate::proxy::start(self.address, mutant).await;
            if let Some(websocket) = self.websocket {
                self.websocket = Some(crate::proxy::start_raw(websocket, mutant).await);
            }
        }
        self
    }

    #[cfg(not(feature = "embedded"))]
    async fn start_shared() -> Self {
        std::future::ready(()).await;
        panic!("without the feature `embedded`, {ADDRESS_VARIABLE} has to name a broker");
    }
}

#[cfg(feature = "embedded")]
mod embedded {
    use super::{Broker, external, runtime};
    use martlet_broker::config::Config;
    use martlet_transport::ListenerOptions;

    /// Settings of the shared broker.
    fn shared_settings(config: &mut Config) {
        config.anonymous.allow = Some(true);
        config.anonymous.rights.deny_publish = vec!["denied/#".into()];
        config.anonymous.rights.deny_subscribe = vec!["denied/#".into()];
    }

    impl Broker {
        pub(super) async fn start_shared() -> Self {
            Self::start(|_| {}).await
        }

        /// Starts a broker with settings of its own; `None` when an external broker is tested.
        pub async fn with(change: impl FnOnce(&mut Config)) -> Option<Self> {
            if external().is_some() {
                return None;
            }
            Some(Self::start(change).await.behind_mutant().await)
        }

        async fn start(change: impl FnOnce(&mut Config)) -> Self {
            let mut config = Config::default();
            shared_settings(&mut config);
            change(&mut config);
            let started = runtime().spawn(async move {
                let broker = martlet_broker::Broker::builder()
                    .config(config)
                    .start()
                    .expect("the settings are valid");
                let options = ListenerOptions::default();
                let tcp = "tcp://127.0.0.1:0".parse().expect("an address");
                let tcp = broker
                    .listen("tcp", &tcp, &options)
                    .await
                    .expect("a free port");
                let websocket = "ws://127.0.0.1:0".parse().expect("an address");
                let websocket = broker
                    .listen("ws", &websocket, &options)
                    .await
                    .expect("a free port");
                Self {
                    address: tcp.local_addr,
                    websocket: Some(websocket.local_addr),
                    embedded: Some(broker),
                }
            });
            started.await.expect("the broker starts")
        }

        /// Shuts the broker down, as its administrator would.
        pub async fn shut_down(&self) {
            let Some(broker) = self.embedded.clone() else {
                return;
            };
            let down = runtime()
                .spawn(async move { broker.shutdown(std::time::Duration::from_secs(2)).await });
            down.await.expect("the broker shuts down");
        }
    }
}
