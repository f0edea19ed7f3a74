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
