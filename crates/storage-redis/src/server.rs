//! Connections to the server, made again when they are lost, and what its errors mean. Deliberately absent: rows.

use std::fs;
use std::time::Duration;

use martlet_storage::StorageError;
use redis::cluster::ClusterClient;
use redis::{
    Client, Cmd, ConnectionLike, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    TlsCertificates,
};

use crate::error::OpenError;
use crate::options::RedisOptions;

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take. A batch that took longer is sent again, and found to be applied.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a command follows a slot that has moved, before its connection counts as lost.
const CLUSTER_RETRIES: u32 = 3;

/// Makes connections.
pub(crate) enum Server {
    Single(Client),
    Cluster(ClusterClient),
}

/// One connection, or none yet.
#[derive(Default)]
pub(crate) struct Link(Option<Box<dyn ConnectionLike + Send>>);

impl Server {
    /// Reads the files that the options name. Connects to nothing.
    pub(crate) fn new(options: &RedisOptions) -> Result<Self, OpenError> {
        let tls = certificates(options)?;
        let wrong = |error: RedisError| OpenError::Server {
            address: options.to_string(),
            error: meaning(&error),
        };
        if options.cluster {
            let mut builder = ClusterClient::builder(options.nodes.clone())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(ANSWER_TIMEOUT)
                .retries(CLUSTER_RETRIES);
            if let Some(tls) = tls {
                builder = builder.certs(tls);
            }
            return Ok(Self::Cluster(builder.build().map_err(wrong)?));
        }
        let node = options
            .nodes
            .first()
            .ok_or_else(|| OpenError::Address("the address is empty".to_owned()))?
            .clone();
        let client = match tls {
            Some(tls) => Client::build_with_tls(node, tls),
            None => Client::open(node),
        };
        Ok(Self::Single(client.map_err(wrong)?))
    }

    fn connect(&self) -> Result<Box<dyn ConnectionLike + Send>, RedisError> {
        Ok(match self {
            Self::Single(client) => {
                let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
                connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                Box::new(connection)
            }
            Self::Cluster(client) => Box::new(client.get_connection()?),
        })
    }
}

impl Link {
    /// Asks the server; a connection is made where there is none, and given up where it failed.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when it is not known whether the command was carried out.
    pub(crate) fn ask<T: FromRedisValue>(
        &mut self,
        server: &Server,
        command: &Cmd,
    ) -> Result<T, StorageError> {
        let mut connection = match self.0.take() {
            Some(connection) => connection,
            None => server.connect().map_err(|error| meaning(&error))?,
        };
        let answer = command.query(&mut *connection);
        let answer = answer.map_err(|error| meaning(&error));
        // After a lost answer the next one could be taken for it.
        if !matches!(answer, Err(StorageError::Unavailable(_))) {
            self.0 = Some(connection);
        }
        answer
    }
}

fn certificates(options: &RedisOptions) -> Result<Option<TlsCertificates>, OpenError> {
    let Some(path) = &options.ca else {
        return Ok(None);
    };
    // Where a provider is installed already, it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pem = fs::read(path).map_err(|error| OpenError::File {
        path: path.clone(),
        why: error.to_string(),
    })?;
    Ok(Some(TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    }))
}

/// What an error says about the command that had it.
fn meaning(error: &RedisError) -> StorageError {
    let text = error.to_string();
    // Refused before anything of a script was done; see `script`.
    if matches!(error.code(), Some("OOM" | "MISCONF")) {
        return StorageError::NoSpace(text);
    }
    let again = match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => true,
        // A password that is being changed.
        ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
        ),
        _ => matches!(error.code(), Some("BUSY" | "NOREPLICAS" | "NOAUTH")),
    };
    if again {
        StorageError::Unavailable(text)
    } else {
        StorageError::Io(text)
    }
}
