//! `martlet check`: says whether the configuration can be used, and prints it.

use std::process::ExitCode;

use crate::args::CheckArgs;
use crate::config::{PrintOptions, Program, load};
use crate::output;
use crate::serve::banner::planned_notes;

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
    let errors = unusable_files(&loaded.settings.program);
    for error in &errors {
        output::stderr_line(&format!("error: {error}"));
    }
    if !errors.is_empty() {
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
    for note in planned_notes(&loaded.settings) {
        output::stderr_line(&format!("note: {note}"));
    }
    let what = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no configuration file; the defaults".to_owned(),
    };
    output::stderr_line(&format!("{what}: can be used"));
    ExitCode::SUCCESS
}

/// What is wrong with the files that listeners need: certificates, keys and revocation lists; or with the wish to obtain them.
pub fn unusable_files(program: &Program) -> Vec<String> {
    let mut errors = Vec::new();
    if program.acme.is_wanted() && !cfg!(feature = "acme") {
        errors.push("`acme.domains`: this build obtains no certificates (feature acme)".to_owned());
    }
    for listener in &program.listeners {
        let tls = listener
            .url
            .parse::<martlet_transport::ListenAddress>()
            .is_ok_and(|address| address.is_tls());
        if program.acme.will_make(&listener.tls.cert) {
            continue;
        }
        if tls && let Err(error) = listener.tls.options().check() {
            errors.push(format!("listener {}: {error}", listener.id_or_derived()));
        }
    }
    errors
}
