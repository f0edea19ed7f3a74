//! The address of a store: a URL, and what its query says. Deliberately absent: connections.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::RedisStorage;
use crate::error::OpenError;

/// Longest prefix of keys.
const PREFIX_CHARS_MAX: usize = 100;

/// Where a store is and how it is opened.
///
/// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS, with a query of `prefix=NAME` (default
/// `martlet`), `ca=FILE` (the authority of the server's certificate, PEM; without it those of the system),
/// `cluster=true`, and `node=HOST:PORT` for further nodes of the cluster, in case the first one is away.
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) nodes: Vec<ConnectionInfo>,
    pub(crate) prefix: String,
    pub(crate) ca: Option<String>,
    pub(crate) cluster: bool,
    pub(crate) create: bool,
    shown: String,
}

impl RedisOptions {
    /// Reads an address.
    ///
    /// # Errors
    /// [`OpenError::Address`].
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = base
            .split_once("://")
            .filter(|(scheme, _)| ["redis", "rediss"].contains(scheme))
            .ok_or_else(|| OpenError::Address("is no redis:// or rediss:// address".to_owned()))?;
        let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let mut options = Self {
            nodes: vec![info(base)?],
            prefix: "martlet".to_owned(),
            ca: None,
            cluster: false,
            create: true,
            shown: String::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, value) {
                ("prefix", prefix) => {
                    let known = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
                    if prefix.is_empty()
                        || prefix.len() > PREFIX_CHARS_MAX
                        || !prefix.chars().all(known)
                    {
                        return Err(OpenError::Address(format!(
                            "the prefix is not 1 to {PREFIX_CHARS_MAX} letters, digits, `.`, `_`, `:` and `-`"
                        )));
                    }
                    prefix.clone_into(&mut options.prefix);
                }
                ("ca", file) if scheme == "rediss" && !file.is_empty() => {
                    options.ca = Some(file.to_owned());
                }
                ("cluster", "true") => options.cluster = true,
                ("node", node) if !node.is_empty() => {
                    let user = if user.is_empty() {
                        String::new()
                    } else {
                        format!("{user}@")
                    };
                    options
                        .nodes
                        .push(info(&format!("{scheme}://{user}{node}"))?);
                    options.cluster = true;
                }
                _ => {
                    return Err(OpenError::Address(format!(
                        "`{name}` is not understood; the query knows prefix=NAME, cluster=true, node=HOST:PORT, and with \
                         rediss:// ca=FILE"
                    )));
                }
            }
        }
        if options.cluster
            && options
                .nodes
                .iter()
                .any(|node| node.redis_settings().db() != 0)
        {
            return Err(OpenError::Address(
                "a cluster has database 0 only".to_owned(),
            ));
        }
        let name = user.split_once(':').map_or(user, |(name, _)| name);
        let at = if name.is_empty() { "" } else { "@" };
        options.shown = format!("{scheme}://{name}{at}{host}");
        Ok(options)
    }

    /// The password, where it should not be in the address.
    pub fn password(mut self, password: &str) -> Self {
        for node in &mut self.nodes {
            let settings = node.redis_settings().clone().set_password(password);
            *node = node.clone().set_redis_settings(settings);
        }
        self
    }

    /// Whether a store is made where there is none. Default yes.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Connects and takes the store for this process.
    ///
    /// Where its last owner is of another machine and did not say that it was done, this waits until it is certain
    /// whether it lives, at most 11 seconds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self) -> Result<RedisStorage, OpenError> {
        RedisStorage::open(self)
    }
}

/// The address without its password.
impl fmt::Display for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (prefix {})", self.shown, self.prefix)
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisOptions({self})")
    }
}

fn info(url: &str) -> Result<ConnectionInfo, OpenError> {
    // The library's words may repeat the address, and with it a password.
    url.into_connection_info()
        .map_err(|_| OpenError::Address("the address cannot be understood".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        let check = |url: &str, expect: &str| {
            let options = RedisOptions::parse(url).expect(url);
            assert_eq!(options.to_string(), expect, "{url}");
        };
        check("redis://localhost", "redis://localhost (prefix martlet)");
        check(
            "redis://:secret@h:7000/3?prefix=a.b",
            "redis://h:7000/3 (prefix a.b)",
        );
        check(
            "rediss://ada:se%40cret@h?ca=ca.pem&cluster=true",
            "rediss://ada@h (prefix martlet)",
        );
        check(
            "redis://h:1?node=i:2&node=j:3",
            "redis://h:1 (prefix martlet)",
        );
        let cluster = RedisOptions::parse("redis://u:p@h:1?node=i:2").expect("is an address");
        assert!(cluster.cluster);
        assert!(
            cluster
                .nodes
                .iter()
                .all(|node| node.redis_settings().password() == Some("p"))
        );
        assert!(!format!("{cluster:?}").contains(":p"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        let check = |url: &str, words: &str| {
            let error = RedisOptions::parse(url).expect_err(url).to_string();
            assert!(error.contains(words), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        };
        check("localhost:6379", "no redis://");
        check("http://:secret@h", "no redis://");
        check("redis://:secret@", "cannot be understood");
        check("redis://:secret@h/x", "cannot be understood");
        check("redis://h?prefix=", "the prefix is not");
        check("redis://h?prefix=a{b}", "the prefix is not");
        check("redis://h?prefx=a", "`prefx` is not understood");
        check("redis://h?ca=file", "`ca` is not understood");
        check("redis://h/2?cluster=true", "database 0 only");
    }
}
