//! Writing to the standard streams without panicking where nobody reads them.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// Writes a line to the standard error stream.
pub fn stderr_line(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(format!("{text}\n").as_bytes());
}

/// Writes everything to standard output; a reader that has gone away is no failure, a full disk is.
pub fn stdout(bytes: &[u8]) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            stderr_line(&format!("error: standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}
