//! Rules between and about values that types cannot express.

use std::collections::BTreeMap;
use std::time::Duration;

use martlet_broker::auth::StaticAuth;
use martlet_broker::config::{Config, Rights, User};
use martlet_topic::TopicFilter;

use super::acme;
use super::listener_checks;
use super::problem::Problem;
use super::settings::{Identity, Settings};
use super::storage;
use super::suggest::nearest;
use super::tree::{KeyPath, Node};

/// Longest duration that is accepted: long enough for every use, short enough to be added to any clock.
const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// Largest packet that MQTT can express: one byte, four of length, 268,435,455 of content.
pub(super) const PACKET_BYTES_MAX: u64 = 268_435_460;

/// Longest string that MQTT can express, in bytes.
const STRING_BYTES_MAX: usize = 65_535;

pub(super) struct Checker<'a> {
    tree: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn add(&mut self, key: &str, message: impl AsRef<str>) -> &mut Problem {
        let origin = self.tree.origin_of(&KeyPath::parse(key), false);
        self.problems.push(Problem::new(
            origin,
            format!("`{key}` {}", message.as_ref()),
        ));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    pub(super) fn range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: &T,
        min: &T,
        max: &T,
    ) {
        if value < min || value > max {
            self.add(key, format!("is {value}, but must be from {min} to {max}"));
        }
    }

    pub(super) fn at_least<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: &T,
        min: &T,
    ) {
        if value < min {
            self.add(key, format!("is {value}, but must be at least {min}"));
        }
    }

    pub(super) fn duration(&mut self, key: &str, value: Duration, zero_allowed: bool) {
        if value > DURATION_MAX {
            self.add(key, "is longer than 3650d");
        } else if value.is_zero() && !zero_allowed {
            self.add(key, "must be longer than 0");
        }
    }
}

/// Adds what is wrong to `problems`; returns what is merely odd.
pub(crate) fn check(settings: &Settings, tree: &Node, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut checker = Checker { tree, problems };
    program(settings, &mut checker);
    mqtt(&settings.broker, &mut checker);
    limits(&settings.broker, &mut checker);
    rights(
        "anonymous.rights",
        &settings.broker.anonymous.rights,
        &mut checker,
    );
    users(&settings.broker, &mut checker);
    // What the broker itself refuses is refused here as well, whatever the checks above know.
    if checker.problems.is_empty()
        && let Err(error) = settings.broker.check()
    {
        checker.add(&error.key, error.problem);
    }
    warnings(settings)
}

/// More threads than any machine has cores; a larger number is a mistake.
const WORKER_THREADS_MAX: usize = 1024;

fn program(settings: &Settings, checker: &mut Checker<'_>) {
    let program = &settings.program;
    checker.duration("shutdown_grace", program.shutdown_grace, true);
    checker.range(
        "worker_threads",
        &program.worker_threads,
        &0,
        &WORKER_THREADS_MAX,
    );
    storage::check(&program.storage, checker);
    acme::check(&program.acme, checker);
    if let Some((message, help)) = log_level_problem(&program.log.level) {
        checker.add("log.level", message).help = help;
    }
    listener_checks::listeners(settings, checker);
}

/// What is wrong with a log level, and what was probably meant.
pub(crate) fn log_level_problem(level: &str) -> Option<(String, Option<String>)> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const PARTS_MAX: usize = 32;
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    if parts.len() > PARTS_MAX {
        return Some((format!("has more than {PARTS_MAX} parts"), None));
    }
    for part in parts {
        let (target, word) = match part.split_once('=') {
            Some((target, word)) => (Some(target.trim()), word.trim()),
            None => (None, part),
        };
        if !LEVELS.contains(&word) {
            let help = nearest(word, LEVELS).map(|near| format!("did you mean \"{near}\"?"));
            return Some((
                format!("has \"{word}\", which is none of {}", LEVELS.join(", ")),
                help,
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        if target.is_some_and(|target| target.is_empty() || !target.chars().all(plain)) {
            return Some((
                format!("has the part \"{part}\", whose target is no module path"),
                None,
            ));
        }
    }
    None
}

fn mqtt(config: &Config, checker: &mut Checker<'_>) {
    let mqtt = &config.mqtt;
    checker.range(
        "mqtt.minimum_protocol_level",
        &mqtt.minimum_protocol_level,
        &3,
        &5,
    );
    checker.at_least("mqtt.receive_maximum", &mqtt.receive_maximum, &1);
    // Two bytes are the smallest packet, but a broker that takes no SUBSCRIBE is of no use.
    checker.range(
        "mqtt.maximum_packet_size",
        &mqtt.maximum_packet_size,
        &64,
        &PACKET_BYTES_MAX,
    );
    let response = &mqtt.response_information;
    if response.len() > STRING_BYTES_MAX / 2 {
        checker.add("mqtt.response_information", "is longer than 32767 bytes");
    } else if response.contains(['+', '#', '\0']) {
        checker.add(
            "mqtt.response_information",
            "must begin topic names, so it contains no `+`, `#` or U+0000",
        );
    }
}

fn limits(config: &Config, checker: &mut Checker<'_>) {
    let limits = &config.limits;
    checker.at_least("limits.connections_max", &limits.connections_max, &1);
    checker.at_least("limits.sessions_max", &limits.sessions_max, &1);
    checker.duration("limits.connect_timeout", limits.connect_timeout, false);
    checker.range(
        "limits.connect_packet_size_max",
        &limits.connect_packet_size_max,
        &64,
        &PACKET_BYTES_MAX,
    );
    // [MQTT-3.1.3-5]: 23 bytes must be possible.
    checker.range(
        "limits.client_id_bytes_max",
        &limits.client_id_bytes_max,
        &23,
        &STRING_BYTES_MAX,
    );
    checker.range(
        "limits.topic_levels_max",
        &limits.topic_levels_max,
        &1,
        &STRING_BYTES_MAX,
    );
    checker.range(
        "limits.topic_bytes_max",
        &limits.topic_bytes_max,
        &1,
        &STRING_BYTES_MAX,
    );
    checker.at_least(
        "limits.subscriptions_per_client_max",
        &limits.subscriptions_per_client_max,
        &1,
    );
    checker.at_least("limits.inflight_max", &limits.inflight_max, &1);
    checker.duration("limits.inflight_expiry", limits.inflight_expiry, true);
    checker.at_least(
        "limits.pending_bytes_max",
        &limits.pending_bytes_max,
        &1_024,
    );
    checker.duration(
        "limits.slow_consumer_timeout",
        limits.slow_consumer_timeout,
        false,
    );
    checker.duration("flapping.window", config.flapping.window, false);
    checker.duration("flapping.ban", config.flapping.ban, false);
    let sys = &config.sys;
    beats("sys.interval", sys.interval, "publish none", checker);
    beats("sys.save_interval", sys.save_interval, "save none", checker);
}

/// A duration of `[sys]`: at least as long as the broker's own beat.
fn beats(key: &str, interval: Duration, none: &str, checker: &mut Checker<'_>) {
    checker.duration(key, interval, true);
    if !interval.is_zero() && interval < Duration::from_secs(1) {
        checker.add(key, format!("is shorter than 1s; write \"0s\" to {none}"));
    }
}

fn rights(prefix: &str, rights: &Rights, checker: &mut Checker<'_>) {
    let lists = [
        ("publish", &rights.publish),
        ("subscribe", &rights.subscribe),
        ("deny_publish", &rights.deny_publish),
        ("deny_subscribe", &rights.deny_subscribe),
    ];
    for (name, filters) in lists {
        for (index, filter) in filters.iter().enumerate() {
            let key = format!("{prefix}.{name}[{index}]");
            if let Err(error) = TopicFilter::new(filter) {
                let quoted: String = filter.chars().take(60).collect();
                checker.add(
                    &key,
                    format!("is \"{quoted}\", which is no topic filter: {error}"),
                );
            } else if filter.starts_with("$share/") {
                checker.add(&key, "is a shared subscription").help = Some(
                    "rights are about the filter behind the share name: leave out `$share/NAME/`"
                        .to_owned(),
                );
            }
        }
    }
}

fn users(config: &Config, checker: &mut Checker<'_>) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, user) in config.users.iter().enumerate() {
        let key = |name: &str| format!("users[{index}].{name}");
        if user.name.is_empty() {
            checker.add(&format!("users[{index}]"), "has no name");
        } else if user.name.len() > STRING_BYTES_MAX || user.name.contains('\0') {
            checker.add(
                &key("name"),
                "can be sent by no client: it is too long or contains U+0000",
            );
        } else if let Some(first) = names.insert(&user.name, index) {
            checker.add(
                &key("name"),
                format!("is the name of users[{first}] as well"),
            );
        }
        if user.client_id.len() > STRING_BYTES_MAX || user.client_id.contains('\0') {
            checker.add(
                &key("client_id"),
                "can be sent by no client: it is too long or contains U+0000",
            );
        }
        if let Some(message) = hash_problem(&user.password_hash) {
            let place = if user.password_hash.is_empty() {
                format!("users[{index}]")
            } else {
                key("password_hash")
            };
            checker.add(&place, message).help =
                Some("`martlet passwd NAME` prints the line to put here".to_owned());
        }
        rights(&key("rights"), &user.rights, checker);
    }
}

/// What is wrong with a password hash. The hash itself is never repeated: it may be a password by mistake.
fn hash_problem(hash: &str) -> Option<String> {
    if hash.is_empty() {
        return Some("has no password_hash".to_owned());
    }
    if !hash.starts_with("$argon2id$") {
        return Some("is not an argon2id hash (those begin with `$argon2id$`)".to_owned());
    }
    // The broker is the judge; its words about a hash do not repeat it.
    let user = User {
        name: "x".to_owned(),
        password_hash: hash.to_owned(),
        ..User::default()
    };
    let config = Config {
        users: vec![user],
        ..Config::default()
    };
    let problem = StaticAuth::new(&config).err()?.problem;
    Some(
        problem
            .strip_prefix("the hash of user \"x\" ")
            .unwrap_or(&problem)
            .to_owned(),
    )
}

fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let broker = &settings.broker;
    let refuses_all = settings.program.listeners.iter().all(|listener| {
        let allow = listener.allow_anonymous.or(broker.anonymous.allow);
        allow == Some(false) && listener.identity == Identity::None
    });
    if broker.users.is_empty() && refuses_all {
        warnings.push(
            "nobody can connect: there are no [[users]], and anonymous.allow is false; add a user with \
             `martlet passwd NAME >> martlet.toml`"
                .to_owned(),
        );
    }
    if !broker.users.is_empty() && broker.anonymous.allow == Some(true) {
        warnings.push(
            "clients without a user name connect as well, because anonymous.allow is true"
                .to_owned(),
        );
    }
    if !broker.sys.save_interval.is_zero() && settings.program.storage.backend == "memory" {
        warnings.push("sys.save_interval saves nothing: storage.backend is \"memory\"".to_owned());
    }
    warnings
}
