//! `cargo xtask interop`: other people's tests and clients against a freshly built broker.
//!
//! Without flags it runs the Eclipse Paho interoperability suite, test by test; with `--clients` it runs real clients.
//! Deliberately absent: tests of our own, which are `interop/tests`, and any code that only a test would use in the
//! broker: what the suite needs beyond the defaults stands in `interop/paho.toml`, as ordinary settings.

pub(crate) mod broker;
mod clients;
mod paho;
pub(crate) mod process;
mod results;
mod suite;

use crate::{Error, Outcome, workspace};
use broker::BrokerCommand;
use clap::Args;
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask interop`.
#[derive(Args)]
pub(crate) struct Options {
    /// Checkout of eclipse/paho.mqtt.testing; without it, a clone of the pinned commit below `target/`
    #[arg(long, value_name = "DIR", env = "MARTLET_PAHO_SUITE")]
    suite: Option<PathBuf>,
    /// How often to run every test
    #[arg(long, default_value_t = 10)]
    runs: u32,
    /// Tests at one time, each with a broker of its own; they mostly wait
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Seed of the order of the tests; without it, from the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Keep the table in this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Build the broker with optimisations
    #[arg(long)]
    release: bool,
    /// Test another broker: a command in which {port} stands for the port to listen on
    /// (with --clients also {ws_port}, {tls_port} with {wss_port}, and {quic_port}), for example "mosquitto -p {port}"
    #[arg(long, value_name = "COMMAND")]
    broker_command: Option<String>,
    /// Run real clients instead of the suite
    #[arg(long)]
    clients: bool,
}

/// Runs what the flags ask for.
pub(crate) fn run(options: &Options) -> Result<Outcome, Error> {
    if options.clients {
        return clients::run(options);
    }
    if process::output_of("python3", &["--version"]).is_none() {
        return Ok(skip(
            "python3 cannot be started; on Debian: apt-get install python3",
        ));
    }
    let suite = match suite::find(options.suite.as_deref())? {
        suite::Suite::Found(suite) => suite,
        suite::Suite::Missing(reason) => return Ok(skip(&reason)),
    };
    let profile = workspace::root().join("interop/paho.toml");
    let command = broker_command(
        options,
        &[
            "serve",
            "--storage",
            "memory",
            "--listen",
            "tcp://127.0.0.1:{port}",
        ],
        Some(&profile),
    )?;
    paho::run(options, &suite, &command)
}

/// Says why the suite does not run here, in the form that CI repeats in its closing lines.
fn skip(reason: &str) -> Outcome {
    println!("interop: SKIPPED ({reason})");
    println!("0 passed, 0 failed, 1 skipped");
    Outcome::Skipped
}

/// The broker to start: the one named by the flags, else `martlet` built from this checkout with these arguments.
fn broker_command(
    options: &Options,
    arguments: &[&str],
    config: Option<&Path>,
) -> Result<BrokerCommand, Error> {
    match &options.broker_command {
        Some(command) => Ok(BrokerCommand::parse(command)),
        None => BrokerCommand::build(options.release, arguments, config),
    }
}
