//! What `pub` and `rr` publish: one payload, or the lines of standard input.

use std::io::{self, BufRead, Read as _};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::args::PayloadArgs;
use super::failure::Failure;

/// Largest payload that fits into a packet.
const PAYLOAD_BYTES_MAX: usize = 268_435_455;

/// Lines read ahead.
const LINES_AHEAD: usize = 256;

/// The payload that the flags name.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn read(args: &PayloadArgs) -> Result<Bytes, Failure> {
    if let Some(message) = &args.message {
        return Ok(Bytes::from(message.clone()));
    }
    if args.null_message {
        return Ok(Bytes::new());
    }
    let (name, read) = match &args.file {
        Some(path) => (
            path.display().to_string(),
            std::fs::File::open(path).and_then(read_all),
        ),
        None if args.stdin_file => ("standard input".to_owned(), read_all(io::stdin().lock())),
        None => {
            return Err(Failure::Usage(
                "nothing to publish: give a payload with -m, -f or -s, or none with -n".to_owned(),
            ));
        }
    };
    match read {
        Ok(bytes) if bytes.len() > PAYLOAD_BYTES_MAX => Err(Failure::Other(format!(
            "{name}: more than the {PAYLOAD_BYTES_MAX} bytes that MQTT can carry"
        ))),
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Failure::Other(format!("{name}: {error}"))),
    }
}

fn read_all(input: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input
        .take(PAYLOAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of standard input without their ends, read by a thread of their own: nothing else can be interrupted.
pub(crate) fn lines() -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next_line(&mut stdin).transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<Bytes>> {
    let mut line = Vec::new();
    let count = input
        .take(PAYLOAD_BYTES_MAX as u64 + 2)
        .read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > PAYLOAD_BYTES_MAX {
        return Err(io::Error::other(format!(
            "a line of more than {PAYLOAD_BYTES_MAX} bytes"
        )));
    }
    Ok(Some(line.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_only() {
        let mut input: &[u8] = b"a b\n\n\xff\r\nlast";
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).expect("read") {
            lines.push(line);
        }
        assert_eq!(lines, [&b"a b"[..], b"", b"\xff\r", b"last"]);
    }
}
