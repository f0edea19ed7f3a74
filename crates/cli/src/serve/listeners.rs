//! The listeners of a serving process: opened together or not at all, and changed while running.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use martlet_broker::Broker;
use martlet_transport::{BindError, Inherited, ListenAddress, TlsError};

use super::banner::Listening;
use crate::config::Listener;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The URL is not understood; the configuration was not checked.
    #[error("{0}")]
    Address(#[from] martlet_transport::AddressError),
    /// The operating system refused.
    #[error("listener {id}: {source}{}", advice(*.port, .source))]
    Bind {
        /// The listener's id.
        id: String,
        /// The port, 0 where there is none.
        port: u16,
        /// Why.
        source: BindError,
    },
    /// A certificate or key of changed settings cannot be used.
    #[error("{source}")]
    Change {
        /// Which file, and why.
        source: TlsError,
    },
}

/// Who to ask about a port.
fn advice(port: u16, error: &BindError) -> String {
    match error.io().map(io::Error::kind) {
        Some(io::ErrorKind::AddrInUse) if port != 0 => format!(
            "\n  help: `ss -ltnp 'sport = :{port}'` shows which program listens there; stop it or choose another port \
             with --listen"
        ),
        Some(io::ErrorKind::PermissionDenied) if port != 0 => {
            "\n  help: choose a port from 1024 on".to_owned()
        }
        _ => String::new(),
    }
}

impl ListenError {
    /// For the log, whose entries have one line.
    pub fn in_a_line(&self) -> String {
        self.to_string().replace("\n ", ";")
    }

    fn is_in_use(&self) -> bool {
        matches!(self, Self::Bind { source, .. }
            if source.io().map(io::Error::kind) == Some(io::ErrorKind::AddrInUse))
    }
}

/// A listener that was closed gives its port back within moments: how often, and how far apart, that is tried.
const PORT_ATTEMPTS_MAX: usize = 100;
const PORT_ATTEMPT_EVERY: Duration = Duration::from_millis(10);

/// The listeners that are open, by id, with the settings they were opened with.
#[derive(Debug, Default)]
pub struct Listeners {
    open: BTreeMap<String, (Listener, Listening)>,
    /// Ids in the order of the configuration.
    order: Vec<String>,
    /// Sockets that are bound already.
    inherited: Inherited,
}

impl Listeners {
    /// None yet; those whose addresses have `inherited` sockets will take these.
    pub fn new(inherited: Inherited) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    /// Opens listeners; where one cannot be opened, none stays open.
    ///
    /// # Errors
    /// The first listener that could not be opened.
    pub async fn open_all(
        &mut self,
        broker: &Broker,
        listeners: &[Listener],
    ) -> Result<(), ListenError> {
        for (id, listener) in with_ids(listeners) {
            if let Err(error) = self.open(broker, &id, &listener).await {
                for id in self.open.keys() {
                    broker.close_listener(id);
                }
                self.open.clear();
                self.order.clear();
                return Err(error);
            }
        }
        for url in self.inherited.left() {
            tracing::warn!(
                event = "socket_left",
                url,
                "the service manager handed over a socket for {url}, which is none of the listeners"
            );
        }
        Ok(())
    }

    async fn open(
        &mut self,
        broker: &Broker,
        id: &str,
        listener: &Listener,
    ) -> Result<(), ListenError> {
        let address: ListenAddress = listener.url.parse()?;
        let mut options = listener.options();
        options.inherited = self.inherited.clone();
        let opened = broker
            .listen_with(id, &address, &options, listener.policy())
            .await;
        let info = opened.map_err(|source| ListenError::Bind {
            id: id.to_owned(),
            port: address.host_port().map_or(0, |at| at.port),
            source,
        })?;
        let listening = Listening {
            id: id.to_owned(),
            address,
            bound: info.local_addr,
            allow_anonymous: listener.allow_anonymous,
        };
        self.open
            .insert(id.to_owned(), (listener.clone(), listening));
        self.order.push(id.to_owned());
        Ok(())
    }

    /// The listeners in the order of the configuration.
    pub fn listening(&self) -> Vec<Listening> {
        self.order
            .iter()
            .filter_map(|id| self.open.get(id))
            .map(|(_, listening)| listening.clone())
            .collect()
    }

    /// Opens what is new, closes what is gone, and changes what stays; connections go on. New ones are opened first, so
    /// that a failure there leaves everything as it was; only a listener whose port one of them needs goes before. A
    /// listener that cannot be changed stays as it was.
    ///
    /// # Errors
    /// The first new listener that could not be opened.
    pub async fn change(
        &mut self,
        broker: &Broker,
        listeners: &[Listener],
    ) -> Result<Change, ListenError> {
        let wanted = with_ids(listeners);
        let mut change = Change::default();
        let mut new = Self::default();
        let mut displaced = Vec::new();
        for (id, listener) in &wanted {
            if self.open.contains_key(id) {
                continue;
            }
            let mut result = new.open(broker, id, listener).await;
            if let Some(former) = self.in_the_way(id, listener, &wanted, &result) {
                displaced.extend(self.close(broker, &former));
                result = new.open_soon(broker, id, listener).await;
            }
            match result {
                Ok(()) => change.opened.push(id.clone()),
                Err(error) => {
                    for id in new.open.keys() {
                        broker.close_listener(id);
                    }
                    for (id, listener) in displaced {
                        self.come_back(broker, &id, &listener).await;
                    }
                    return Err(error);
                }
            }
        }
        change.closed = displaced.into_iter().map(|(id, _)| id).collect();
        let gone: Vec<String> = self
            .open
            .keys()
            .filter(|id| !wanted.iter().any(|(wanted, _)| wanted == *id))
            .cloned()
            .collect();
        for id in gone {
            self.close(broker, &id);
            change.closed.push(id);
        }
        for (id, listener) in &wanted {
            match self.open.get(id) {
                Some((before, _)) if before != listener => {}
                _ => continue,
            }
            match self.change_one(broker, id, listener, &wanted).await {
                Ok(true) => change.changed.push(id.clone()),
                Ok(false) => change.needs_restart.push(id.clone()),
                Err(error) => change.failed.push((id.clone(), error)),
            }
        }
        self.open.append(&mut new.open);
        self.order = wanted.into_iter().map(|(id, _)| id).collect();
        Ok(change)
    }

    /// Changes the listener `id`; false where that takes a restart.
    async fn change_one(
        &mut self,
        broker: &Broker,
        id: &str,
        listener: &Listener,
        wanted: &[(String, Listener)],
    ) -> Result<bool, ListenError> {
        let Some((before, _)) = self.open.get_mut(id) else {
            return Ok(false);
        };
        let address: ListenAddress = listener.url.parse()?;
        if before.binds_alike(listener) {
            let (broker, id, to) = (broker.clone(), id.to_owned(), listener.clone());
            let at = address.clone();
            // It may read certificates.
            let changed = tokio::task::spawn_blocking(move || {
                broker.change_listener(&id, &at, &to.options(), to.policy())
            });
            return match changed.await {
                Ok(Some(Ok(()))) => {
                    *before = listener.clone();
                    Ok(true)
                }
                Ok(Some(Err(source))) => Err(ListenError::Change { source }),
                Ok(None) | Err(_) => Ok(false),
            };
        }
        let elsewhere = before
            .url
            .parse()
            .is_ok_and(|before: ListenAddress| place_of(&before) != place_of(&address));
        if !elsewhere {
            // Its place is taken by its former self, and closing that first could leave nothing.
            return Ok(false);
        }
        self.order.retain(|other| other != id);
        let mut result = self.open(broker, id, listener).await;
        if let Some(former) = self.in_the_way(id, listener, wanted, &result)
            && let Some((former, before)) = self.close(broker, &former)
        {
            result = self.open_soon(broker, id, listener).await;
            if result.is_err() {
                self.come_back(broker, &former, &before).await;
            }
        }
        result.map(|()| true)
    }

    fn close(&mut self, broker: &Broker, id: &str) -> Option<(String, Listener)> {
        broker.close_listener(id);
        let (listener, _) = self.open.remove(id)?;
        Some((id.to_owned(), listener))
    }

    /// The listener that keeps this one from its port, if that is its own former self, or one that is to go.
    fn in_the_way(
        &self,
        id: &str,
        listener: &Listener,
        wanted: &[(String, Listener)],
        result: &Result<(), ListenError>,
    ) -> Option<String> {
        let is_in_use = result.as_ref().is_err_and(ListenError::is_in_use);
        let port = tcp_port(listener).filter(|_| is_in_use)?;
        let mut ours = self.open.iter();
        ours.find(|(other, (_, former))| {
            let goes = *other == id || !wanted.iter().any(|(wanted, _)| wanted == *other);
            goes && former.address.scheme() != "quic" && former.bound.port() == port
        })
        .map(|(other, _)| other.clone())
    }

    /// Opens a listener where another has just been closed.
    async fn open_soon(
        &mut self,
        broker: &Broker,
        id: &str,
        listener: &Listener,
    ) -> Result<(), ListenError> {
        for _ in 1..PORT_ATTEMPTS_MAX {
            match self.open(broker, id, listener).await {
                Err(error) if error.is_in_use() => tokio::time::sleep(PORT_ATTEMPT_EVERY).await,
                result => return result,
            }
        }
        self.open(broker, id, listener).await
    }

    /// Opens again what had to go for nothing.
    async fn come_back(&mut self, broker: &Broker, id: &str, listener: &Listener) {
        if let Err(error) = self.open_soon(broker, id, listener).await {
            tracing::error!(
                listener = id,
                "listener {id} is closed: {}",
                error.in_a_line()
            );
        }
    }
}

/// The TCP port of a listener. Not of QUIC, whose connections keep its socket.
fn tcp_port(listener: &Listener) -> Option<u16> {
    let address: ListenAddress = listener.url.parse().ok()?;
    let at = address.host_port()?;
    (at.port != 0 && address.scheme() != "quic").then_some(at.port)
}

/// What a socket occupies.
fn place_of(address: &ListenAddress) -> String {
    match address.host_port() {
        Some(at) => at.to_string(),
        None => address.to_string(),
    }
}

/// What changed, by id.
#[derive(Debug, Default)]
pub struct Change {
    /// Opened.
    pub opened: Vec<String>,
    /// Closed.
    pub closed: Vec<String>,
    /// Changed, for new connections.
    pub changed: Vec<String>,
    /// Left as they are until the next start.
    pub needs_restart: Vec<String>,
    /// Left as they are because the change is impossible.
    pub failed: Vec<(String, ListenError)>,
}

/// Each listener with its id; derived ids that are alike are numbered.
fn with_ids(listeners: &[Listener]) -> Vec<(String, Listener)> {
    let mut with_ids: Vec<(String, Listener)> = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let id = listener.id_or_derived();
        let taken = |id: &str| with_ids.iter().any(|(other, _)| other == id);
        let unique = if taken(&id) {
            // At most as many numbers as listeners are taken.
            (2..=listeners.len() + 1)
                .map(|number| format!("{id}-{number}"))
                .find(|id| !taken(id))
                .unwrap_or(id)
        } else {
            id
        };
        with_ids.push((unique, listener.clone()));
    }
    with_ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_derived_and_unique() {
        let listener = |url: &str| Listener {
            url: url.to_owned(),
            ..Listener::default()
        };
        let listeners = [
            listener("tcp://127.0.0.1:1883"),
            listener("tcp://127.0.0.1:0"),
            listener("tcp://127.0.0.2:0"),
            listener("ws://127.0.0.1:8083/mqtt"),
        ];
        let ids: Vec<String> = with_ids(&listeners).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["tcp-1883", "tcp-0", "tcp-0-2", "ws-8083"]);
    }
}
