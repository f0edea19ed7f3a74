//! The listeners of a serving process: opened together or not at all, and changed while running.

use std::collections::BTreeMap;
use std::io;

use martlet_broker::Broker;
use martlet_transport::{BindError, ListenAddress};

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

/// The listeners that are open, by id, with the settings they were opened with.
#[derive(Debug, Default)]
pub struct Listeners {
    open: BTreeMap<String, (Listener, Listening)>,
    /// Ids in the order of the configuration.
    order: Vec<String>,
}

impl Listeners {
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
        Ok(())
    }

    async fn open(
        &mut self,
        broker: &Broker,
        id: &str,
        listener: &Listener,
    ) -> Result<(), ListenError> {
        let address: ListenAddress = listener.url.parse()?;
        let opened = broker
            .listen_with(id, &address, &listener.options(), listener.policy())
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

    /// Opens what is new and closes what is gone; connections of closed listeners go on. New ones are opened first,
    /// so that a failure leaves everything as it was.
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
        for (id, listener) in &wanted {
            match self.open.get(id) {
                Some((before, _)) if before == listener => {}
                // Its port is taken by its former self, and closing that first could leave nothing.
                Some(_) => change.needs_restart.push(id.clone()),
                None => match new.open(broker, id, listener).await {
                    Ok(()) => change.opened.push(id.clone()),
                    Err(error) => {
                        for id in new.open.keys() {
                            broker.close_listener(id);
                        }
                        return Err(error);
                    }
                },
            }
        }
        let gone: Vec<String> = self
            .open
            .keys()
            .filter(|id| !wanted.iter().any(|(wanted, _)| wanted == *id))
            .cloned()
            .collect();
        for id in gone {
            broker.close_listener(&id);
            self.open.remove(&id);
            change.closed.push(id);
        }
        self.open.append(&mut new.open);
        self.order = wanted.into_iter().map(|(id, _)| id).collect();
        Ok(change)
    }
}

/// What changed, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Opened.
    pub opened: Vec<String>,
    /// Closed.
    pub closed: Vec<String>,
    /// Left as they are until the next start.
    pub needs_restart: Vec<String>,
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
