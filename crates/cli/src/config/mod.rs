//! Configuration: defaults, then the file, then the environment, then `--set`, then the other flags.
//!
//! Every value knows where it came from, so that each complaint names file, line and column (or the variable, or
//! the flag), and so that the effective configuration can be printed with origins. All problems are told at once.
//! A configuration is either right as a whole or refused; nothing here starts or changes anything.

mod acme;
mod checks;
mod de;
mod explain;
mod layers;
mod listener_checks;
mod print;
mod problem;
mod schema;
mod settings;
mod storage;
mod suggest;
mod tree;

pub use acme::{Acme, AcmeChallenge};
pub(crate) use listener_checks::is_loopback;
pub use print::{Format, PrintOptions};
pub use problem::{Place, Problem, Problems, Source};
pub use schema::known_keys;
pub use settings::{
    CertAndKey, ClientCert, Identity, Listener, ListenerLimits, ListenerTls, ListenerUnix,
    ListenerWebSocket, Log, LogFormat, MinVersion, Program, Settings, Storage,
};
pub use storage::{FsyncPolicy, without_password};
pub use tree::{KeyPath, Origin, Step};

use std::io::Read as _;
use std::path::{Path, PathBuf};

use martlet_broker::config::Config;
use martlet_transport::ListenAddress;
use serde::de::DeserializeOwned;

use de::NodeDeserializer;
use layers::PROBLEMS_MAX;
use tree::{Node, Value};

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where a configuration file is looked for when none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["martlet.toml", "/etc/martlet/martlet.toml"];

/// What a configuration is made of, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file named by `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// Files to look for when none is named; those that do not exist are passed over.
    pub candidates: Vec<PathBuf>,
    /// Environment variables; those that do not begin with `MARTLET_` are passed over.
    pub environment: Vec<(String, String)>,
    /// Arguments of `--set`, in order.
    pub sets: Vec<String>,
    /// Flags that stand for one key: key, value, the flag as it was typed.
    pub flags: Vec<(String, String, String)>,
    /// URLs of `--listen`; if there are any they replace the listeners.
    pub listen: Vec<String>,
    /// Files of `--tls-cert` and `--tls-key`, for those of them that need some.
    pub tls_cert: Option<String>,
    /// See `tls_cert`.
    pub tls_key: Option<String>,
}

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file they were read from.
    pub file: Option<PathBuf>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    source: Option<Source>,
    tree: Node,
}

impl Loaded {
    /// Where the value of a key came from, in words: `default`, `martlet.toml:7`, a variable, a flag.
    pub fn origin(&self, path: &KeyPath) -> String {
        match self.tree.origin_of(path, false) {
            // An array that was not given has the origin of the whole tree.
            _ if self.tree.get(path).is_none() => "default".to_owned(),
            Origin::Default => "default".to_owned(),
            Origin::Env(name) => format!("env {name}"),
            Origin::Flag(flag) => format!("flag {flag}"),
            Origin::File(span) => match &self.source {
                Some(source) => format!("{}:{}", source.name, source.place(span.start).line),
                None => "file".to_owned(),
            },
        }
    }

    /// A complaint of the broker about `key`, placed like those of this module.
    pub fn problem(&self, key: &str, message: &str) -> Problems {
        let origin = self.tree.origin_of(&KeyPath::parse(key), false);
        Problems {
            source: self.source.clone(),
            list: vec![Problem::new(origin, format!("`{key}`: {message}"))],
        }
    }

    /// The keys whose values differ from those of `other`, sorted.
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        print::changed_keys(&self.settings, &other.settings)
    }

    /// The effective configuration as text.
    pub fn print(&self, options: PrintOptions) -> String {
        print::print(self, options)
    }
}

/// Reads, merges and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it; nothing is used of a configuration with a mistake.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let (file, source) = match find_file(inputs) {
        Ok(Some((path, source))) => (Some(path), Some(source)),
        Ok(None) => (None, None),
        Err(problem) => {
            return Err(Problems {
                source: None,
                list: vec![problem],
            });
        }
    };
    let mut tree = match &source {
        Some(source) => match layers::file(&source.text) {
            Ok(tree) => tree,
            Err(list) => {
                return Err(Problems {
                    source: Some(source.clone()),
                    list,
                });
            }
        },
        None => Node::table(),
    };
    let mut problems = Vec::new();
    layers::environment(&mut tree, inputs.environment.iter().cloned(), &mut problems);
    for assignment in &inputs.sets {
        layers::set(&mut tree, assignment, &mut problems);
    }
    for (key, value, flag) in &inputs.flags {
        layers::put(
            &mut tree,
            &KeyPath::parse(key),
            value,
            &Origin::Flag(flag.clone()),
            &mut problems,
        );
    }
    replace_listeners(&mut tree, inputs);

    finish(tree, file, source, problems)
}

/// Reads a configuration from text alone, as a file called `name` would be.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, Problems> {
    let source = Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    match layers::file(text) {
        Ok(tree) => finish(tree, None, Some(source), Vec::new()),
        Err(list) => Err(Problems {
            source: Some(source),
            list,
        }),
    }
}

/// Reads the settings out of a complete tree and checks them.
fn finish(
    mut tree: Node,
    file: Option<PathBuf>,
    source: Option<Source>,
    mut problems: Vec<Problem>,
) -> Result<Loaded, Problems> {
    let settings = read(&mut tree, &mut problems);
    let warnings = checks::check(&settings, &tree, &mut problems);
    if problems.is_empty() {
        return Ok(Loaded {
            settings,
            file,
            warnings,
            source,
            tree,
        });
    }
    problems.sort_by_key(|problem| match &problem.origin {
        Origin::File(span) => span.start,
        _ => usize::MAX,
    });
    problems.truncate(PROBLEMS_MAX);
    Err(Problems {
        source,
        list: problems,
    })
}

fn find_file(inputs: &Inputs) -> Result<Option<(PathBuf, Source)>, Problem> {
    if let Some(path) = &inputs.file {
        return match read_file(path) {
            Ok(source) => Ok(Some((path.clone(), source))),
            Err(problem) => Err(problem),
        };
    }
    for path in &inputs.candidates {
        // What exists but cannot be read is an error: passing over it would start with other settings than meant.
        if !matches!(path.try_exists(), Ok(false)) {
            return read_file(path).map(|source| Some((path.clone(), source)));
        }
    }
    Ok(None)
}

fn read_file(path: &Path) -> Result<Source, Problem> {
    let name = path.display().to_string();
    let fail = |what: String| Problem::new(Origin::Default, format!("{name}: {what}"));
    let file =
        std::fs::File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(format!(
            "larger than {} MiB, which is no configuration",
            FILE_BYTES_MAX >> 20
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let valid =
                String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
                    .into_owned();
            let place = Source {
                name: name.clone(),
                text: valid,
            }
            .place(usize::MAX);
            Err(Problem::new(
                Origin::Default,
                format!("{name}:{}:{}: not UTF-8", place.line, place.column),
            ))
        }
    }
}

/// `--listen` replaces whatever listeners there are.
fn replace_listeners(tree: &mut Node, inputs: &Inputs) {
    if inputs.listen.is_empty() {
        return;
    }
    let listeners = inputs.listen.iter().map(|url| {
        let origin = Origin::Flag(format!("--listen {url}"));
        let mut node = Node {
            origin: origin.clone(),
            ..Node::table()
        };
        let mut put = |key: &str, value: &str, origin: &Origin| {
            let text = Node {
                value: Value::String(value.to_owned()),
                origin: origin.clone(),
            };
            // An empty table takes any key.
            let _ = node.set(&KeyPath::parse(key), text);
        };
        put("url", url, &origin);
        if url.parse::<ListenAddress>().is_ok_and(|at| at.is_tls()) {
            if let Some(file) = &inputs.tls_cert {
                put(
                    "tls.cert",
                    file,
                    &Origin::Flag(format!("--tls-cert {file}")),
                );
            }
            if let Some(file) = &inputs.tls_key {
                put("tls.key", file, &Origin::Flag(format!("--tls-key {file}")));
            }
        }
        node
    });
    let node = Node {
        value: Value::Array(listeners.collect()),
        origin: Origin::Flag("--listen".to_owned()),
    };
    tree.remove(&KeyPath::parse("listeners"));
    // The top of the tree is always a table.
    let _ = tree.set(&KeyPath::parse("listeners"), node);
}

/// Reads settings; what cannot be read is told and left at its default, so that the rest can be read as well.
fn read(tree: &mut Node, problems: &mut Vec<Problem>) -> Settings {
    let (mut program, mut broker) = (Node::table(), Node::table());
    if let Value::Table(table) = &tree.value {
        for (key, entry) in table {
            let part = if schema::PROGRAM_KEYS.contains(&key.as_str()) {
                &mut program
            } else {
                &mut broker
            };
            if let Value::Table(part) = &mut part.value {
                part.insert(key.clone(), entry.clone());
            }
        }
    }
    Settings {
        program: read_part::<Program>(program, tree, problems),
        broker: read_part::<Config>(broker, tree, problems),
    }
}

fn read_part<T: DeserializeOwned + Default>(
    mut part: Node,
    tree: &mut Node,
    problems: &mut Vec<Problem>,
) -> T {
    for _ in 0..PROBLEMS_MAX {
        let error = match T::deserialize(NodeDeserializer(&part)) {
            Ok(settings) => return settings,
            Err(error) => error,
        };
        problems.push(explain::explain(&error, tree));
        // An array with a bad element goes as a whole: taking out one would change the others' numbers.
        let mut path = error.path();
        while matches!(path.0.last(), Some(Step::Index(_))) {
            path = path.parent();
        }
        tree.remove(&path);
        if !part.remove(&path) {
            break;
        }
    }
    T::default()
}

#[cfg(test)]
mod tests;
