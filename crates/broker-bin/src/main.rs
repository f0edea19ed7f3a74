//! The `martlet` program: puts commands, configuration, storage and broker together.
//!
//! Deliberately absent: decisions. Commands and settings live in `martlet-cli`, everything MQTT in `martlet-broker`.

use std::process::ExitCode;

use martlet_cli::args::{self, Command, ServeArgs};
use martlet_cli::{bench, check, client, init, output, passwd};

#[cfg(feature = "acme")]
mod certificate;
mod serve;
mod store;

/// Gives memory back when clients have left, which the allocators of C libraries hardly do (`docs/performance.md`).
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(code) => return code,
    };
    match command {
        Command::Serve(args) => run_serve(&args),
        Command::Check(args) => check::run(&args),
        Command::Passwd(args) => passwd::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Pub(args) => client::publish(&args),
        Command::Sub(args) => client::subscribe(&args),
        Command::Rr(args) => client::request(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Store(args) => martlet_cli::store::run(&args),
    }
}

fn run_serve(args: &ServeArgs) -> ExitCode {
    match serve::run(args) {
        Ok(code) => code,
        Err(error) => {
            output::stderr_line(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
