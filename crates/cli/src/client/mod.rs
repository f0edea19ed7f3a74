//! `martlet pub`, `sub` and `rr`: MQTT from the command line, with the flags of the Mosquitto clients.

pub mod args;
mod connect;
mod failure;
mod format;
mod payload;
mod printer;
mod progress;
mod properties;
mod publish;
mod request;
mod subscribe;

use std::process::ExitCode;

pub use publish::run as publish;
pub use request::run as request;
pub use subscribe::run as subscribe;

use crate::output;
use args::Common;
use failure::Failure;

/// Runs a client on a runtime of one thread, prints its failure, and turns it into an exit code.
fn run_to_end(common: &Common, client: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(client),
        Err(error) => Err(Failure::Other(error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !common.quiet {
                output::stderr_line(&failure.to_string());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
