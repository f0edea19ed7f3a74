//! Messages on standard output.

use std::io::{self, BufWriter, Stdout, Write as _};

use jiff::Zoned;
use martlet_client::ReceivedMessage;

use super::args::PrintArgs;
use super::failure::Failure;
use super::format::Template;
use crate::output;

/// Whether anybody still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Yes, or so it seems.
    Listens,
    /// Standard output is closed, as by `| head`.
    Gone,
}

/// Prints messages as the flags say.
#[derive(Debug)]
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    template: Option<Template>,
    verbose: bool,
    line_end: bool,
    quiet: bool,
}

impl Printer {
    /// # Errors
    /// A format that cannot be understood.
    pub(crate) fn new(args: &PrintArgs, quiet: bool) -> Result<Self, Failure> {
        let template = args
            .format
            .as_ref()
            .map(|format| Template::parse(format, args.pretty))
            .transpose();
        let template = template.map_err(|error| Failure::Usage(format!("-F: {error}")))?;
        Ok(Self {
            out: BufWriter::new(io::stdout()),
            template,
            verbose: args.verbose,
            line_end: !args.no_line_end,
            quiet,
        })
    }

    /// Prints a message; it may stay in a buffer until [`Self::flush`].
    pub(crate) fn print(&mut self, message: &ReceivedMessage) -> Result<Reader, Failure> {
        let mut line = Vec::new();
        if let Some(template) = &self.template {
            if let Err(error) = template.print(message, &Zoned::now(), &mut line) {
                // One message that has no such form is no reason to miss the others.
                if !self.quiet {
                    output::stderr_line(&format!("error: {error}"));
                }
                return Ok(Reader::Listens);
            }
        } else {
            plain(self.verbose, message, &mut line);
            if line.is_empty() {
                return Ok(Reader::Listens);
            }
        }
        if self.line_end {
            line.push(b'\n');
        }
        let written = self.out.write_all(&line);
        reader(written)
    }

    /// Shows everything printed so far.
    pub(crate) fn flush(&mut self) -> Result<Reader, Failure> {
        reader(self.out.flush())
    }
}

/// As `mosquitto_sub` has it: an empty message shows with its topic only.
fn plain(verbose: bool, message: &ReceivedMessage, line: &mut Vec<u8>) {
    if verbose {
        line.extend_from_slice(message.topic.as_bytes());
        line.push(b' ');
        if message.payload.is_empty() {
            line.extend_from_slice(b"(null)");
        }
    }
    line.extend_from_slice(&message.payload);
}

fn reader(written: io::Result<()>) -> Result<Reader, Failure> {
    match written {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::Other(format!("standard output: {error}"))),
    }
}
