//! `martlet check`: says whether the configuration can be used, and prints it.

use std::process::ExitCode;

use crate::args::CheckArgs;
use crate::config::{PrintOptions, load};
use crate::output;

/// Runs the command.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match load(&args.config.inputs()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::stderr_line(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        output::stderr_line(&format!("warning: {warning}"));
    }
    // What the configuration says is right; what the files it names say is looked at here.
    let mut unusable = false;
    for listener in &loaded.settings.program.listeners {
        let tls = listener
            .url
            .parse::<martlet_transport::ListenAddress>()
            .is_ok_and(|address| address.is_tls());
        if tls && let Err(error) = listener.tls.options().check() {
            unusable = true;
            let id = listener.id_or_derived();
            output::stderr_line(&format!("error: listener {id}: {error}"));
        }
    }
    if unusable {
        return ExitCode::FAILURE;
    }
    if args.print {
        let options = PrintOptions {
            format: args.format,
            origins: args.origins,
            secrets: args.secrets,
        };
        return output::stdout(loaded.print(options).as_bytes());
    }
    let what = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no configuration file; the defaults".to_owned(),
    };
    output::stderr_line(&format!("{what}: can be used"));
    ExitCode::SUCCESS
}
