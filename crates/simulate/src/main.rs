//! A deterministic simulator of Martlet's core: the real broker, sessions and committer over a simulated network, disk
//! and clock, with clients that speak the real codec, checked against a naive reference. Everything follows from a seed.
//!
//! It is built with `--cfg martlet_simulate`, best by `cargo xtask simulate`; without, there is only a hint.
//! `docs/simulation.md` says what is simulated and what is not.

#[cfg(martlet_simulate)]
mod client;
#[cfg(martlet_simulate)]
mod command;
#[cfg(martlet_simulate)]
mod dice;
#[cfg(martlet_simulate)]
mod disk;
#[cfg(martlet_simulate)]
mod executor;
#[cfg(martlet_simulate)]
mod model;
#[cfg(martlet_simulate)]
mod network;
#[cfg(martlet_simulate)]
mod time;
#[cfg(martlet_simulate)]
mod trace;
#[cfg(martlet_simulate)]
mod world;

#[cfg(martlet_simulate)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(martlet_simulate))]
#[expect(
    clippy::print_stderr,
    reason = "a program talks to the person who started it"
)]
fn main() -> std::process::ExitCode {
    eprintln!("the simulator needs a build of its own: cargo xtask simulate");
    std::process::ExitCode::from(2)
}
