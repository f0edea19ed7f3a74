//! The command line: what can be typed, and what it says about itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::client::args::{PubArgs, RrArgs, SubArgs};
use crate::config::{DEFAULT_FILES, Format, Inputs, LogFormat, without_password};
use crate::store::args::StoreArgs;

const EXAMPLES: &str = "\
Examples:
  martlet                                        serve on tcp://127.0.0.1:1883 and ws://127.0.0.1:8083
  martlet --listen tcp://0.0.0.0:1883            listen for other machines as well
  martlet check --print --origins                show every setting and where it comes from
  martlet passwd ada >> martlet.toml             add a user
  martlet init --tls >> martlet.toml             add a TLS listener with certificates to try it with
  martlet sub -t 'a/#' -v                        print what is published below a/
  martlet pub -t a/b -m hi -q 1                  publish a message

A configuration file is looked for as ./martlet.toml and /etc/martlet/martlet.toml. Every key can also be set by
MARTLET_SECTION__KEY in the environment and by --set section.key=value; flags win over the environment, the
environment over the file.";

/// The `martlet` program.
#[derive(Debug, Parser)]
#[command(
    name = "martlet",
    version,
    about = "An MQTT 3.1, 3.1.1 and 5.0 broker. Without a command it serves.",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Option<Command>,
    /// Flags of `serve`, which is what `martlet` alone does.
    #[command(flatten)]
    serve: ServeArgs,
}

/// What `martlet` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker
    Serve(Box<ServeArgs>),
    /// Check the configuration and print it
    Check(Box<CheckArgs>),
    /// Make the password hash and the lines of a user
    Passwd(PasswdArgs),
    /// Make certificates to try TLS with
    Init(InitArgs),
    /// Publish messages
    Pub(Box<PubArgs>),
    /// Subscribe and print what arrives
    Sub(Box<SubArgs>),
    /// Publish a request and print the response
    Rr(Box<RrArgs>),
    /// Put load on a broker, check every message, and measure
    Bench(Box<BenchArgs>),
    /// Look at a store, copy it, or carry it elsewhere, while no broker runs on it
    Store(Box<StoreArgs>),
}

/// Where settings come from besides the environment.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Configuration file; must exist
    #[arg(
        long,
        value_name = "FILE",
        env = "MARTLET_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Listen here instead: tcp://ADDRESS:PORT, tls://, ws://, wss://, quic:// or unix:///PATH (repeatable; port 0 takes a free one)
    #[arg(long, value_name = "URL")]
    pub listen: Vec<String>,
    /// Certificate (PEM) of the tls://, wss:// and quic:// addresses of --listen
    #[arg(long, value_name = "FILE", requires_all = ["listen", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Where sessions and messages are kept: `embedded` (in a directory), `memory`, or redis://HOST:PORT
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Directory of the embedded store; default martlet-data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Set a key, as in --set limits.connections_max=500 (repeatable)
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Log from this level on: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log lines for people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
    /// Write the process id to this file while running
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

impl ConfigArgs {
    /// These flags, the environment and the places where a file is looked for.
    pub fn inputs(&self) -> Inputs {
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let format = self.log_format.map(|format| match format {
            LogFormat::Human => "human".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(path.to_string_lossy().into_owned())
        };
        let pid_file = path(&self.pid_file);
        let flags = [
            ("storage.backend", "--storage", self.storage.clone()),
            ("storage.path", "--data", path(&self.data)),
            ("log.level", "--log-level", self.log_level.clone()),
            ("log.format", "--log-format", format),
            ("pid_file", "--pid-file", pid_file),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, flag, value): (_, _, Option<String>)| {
                let value = value?;
                let shown = without_password(&value);
                Some((key.to_owned(), value, format!("{flag} {shown}")))
            });
        Inputs {
            file: self.config.clone(),
            candidates: DEFAULT_FILES.iter().map(PathBuf::from).collect(),
            environment: std::env::vars_os()
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
            sets: self.set.clone(),
            flags: flags.collect(),
            listen: self.listen.clone(),
            tls_cert: path(&self.tls_cert),
            tls_key: path(&self.tls_key),
        }
    }
}

/// Flags of `martlet serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Settings.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Start although the store lost what was acknowledged; the damaged files are kept
    #[arg(long)]
    pub accept_loss: bool,
}

/// Flags of `martlet check`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when the configuration can be used, 1 when it cannot, 2 when the command line is wrong."
)]
pub struct CheckArgs {
    /// Settings.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the effective configuration
    #[arg(long)]
    pub print: bool,
    /// With --print: tell where each value comes from
    #[arg(long, requires = "print")]
    pub origins: bool,
    /// With --print: toml or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "toml",
        requires = "print",
        hide_possible_values = true
    )]
    pub format: Format,
    /// With --print: print password hashes instead of hiding them
    #[arg(long, requires = "print")]
    pub secrets: bool,
}

/// Flags of `martlet passwd`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The lines go to standard output, everything else to standard error, so that\n  \
    martlet passwd ada >> martlet.toml\nadds a user. A broker that runs takes it over on SIGHUP."
)]
pub struct PasswdArgs {
    /// User name; without one only the hash is printed
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The password; others on this machine can see it in the list of processes
    #[arg(
        short = 'b',
        long = "password",
        value_name = "PASSWORD",
        conflicts_with = "stdin"
    )]
    pub password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub stdin: bool,
}

/// Flags of `martlet init`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The lines for the configuration go to standard output, everything else to standard error. The authority \
    is for\ndevelopment: keep ca.key to yourself, and use certificates of an authority that your clients know for \
    everything else."
)]
pub struct InitArgs {
    /// Make a development authority, a certificate for the broker and one for a client
    #[arg(long, required = true)]
    pub tls: bool,
    /// Directory for the files
    #[arg(long = "dir", value_name = "DIRECTORY", default_value = "certs")]
    pub directory: PathBuf,
    /// Name or address of the broker (repeatable); without it localhost and this machine's name
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Common name of the client's certificate
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub client: String,
}

/// Reads the command line. What should end the program at once, such as `--help`, is printed here.
///
/// # Errors
/// The exit code to end with.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    // The clients end with 1 for any mistake, as those whose flags they take do.
    let is_client = args
        .get(1)
        .is_some_and(|word| word == "pub" || word == "sub" || word == "rr");
    let parsed = Cli::command()
        .try_get_matches_from(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Ok(cli
            .command
            .unwrap_or_else(|| Command::Serve(Box::new(cli.serve)))),
        Err(error) => {
            // Where neither stream takes text there is nobody to tell.
            let _ = error.print();
            let failed = error.use_stderr();
            Err(ExitCode::from(match (failed, is_client) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) => 2,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
