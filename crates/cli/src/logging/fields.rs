//! The fields of an event as text. Text that needs no escaping, which is nearly all, is written as it is: a client that
//! connects costs two lines of log, and character by character these were a quarter of what it costs.
//!
//! Deliberately absent: time and level, and the end of the line.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// `message key="text" key=number`. What would move the cursor of a terminal or begin a line is escaped everywhere.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = Text {
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut text);
        text.result
    }
}

struct Text<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Text<'_> {
    /// Writes the name, then what `value` writes.
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            let is_first = std::mem::replace(&mut self.is_first, false);
            self.result =
                name(&mut self.writer, field, is_first).and_then(|()| value(&mut self.writer));
        }
    }
}

fn is_message(field: &Field) -> bool {
    field.name() == "message"
}

fn name(writer: &mut Writer<'_>, field: &Field, is_first: bool) -> fmt::Result {
    if !is_first {
        writer.write_char(' ')?;
    }
    if is_message(field) {
        return Ok(());
    }
    if writer.has_ansi_escapes() {
        return write!(writer, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", field.name());
    }
    writer.write_str(field.name())?;
    writer.write_char('=')
}

/// Whether text can stand between quotes as it is.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

impl Visit for Text<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_message(field) {
            self.field(field, |writer| Unmoving(writer).write_str(value));
        } else if is_plain(value) {
            self.field(field, |writer| {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            });
        } else {
            self.field(field, |writer| write!(writer, "{value:?}"));
        }
    }

    /// With quotes where a space would let the value end too early.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if is_message(field) {
            return self.field(field, |writer| write!(Unmoving(writer), "{value:?}"));
        }
        let text = format!("{value:?}");
        if text.contains(' ') {
            return self.record_str(field, &text);
        }
        self.field(field, |writer| Unmoving(writer).write_str(&text));
    }
}

/// Escapes control characters: a client id in a message must not write elsewhere on the screen.
struct Unmoving<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Unmoving<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        for char in text.chars() {
            if char.is_control() {
                write!(self.0, "{}", char.escape_debug())?;
            } else {
                self.0.write_char(char)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unbroken").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `event` writes, from its level on.
    fn check(event: impl FnOnce(), wanted: &str) {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_target(false)
            .with_ansi(false)
            .without_time()
            .fmt_fields(Fields);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, event);
        let written = lines.0.lock().expect("unbroken").clone();
        assert_eq!(String::from_utf8_lossy(&written), wanted);
    }

    #[test]
    fn fields_are_written_as_text() {
        check(
            || {
                tracing::info!(
                    event = "client_connected",
                    client = "c-1",
                    keep_alive = 60,
                    "Client c-1 connected."
                );
            },
            " INFO Client c-1 connected. event=\"client_connected\" client=\"c-1\" keep_alive=60\n",
        );
        check(
            || tracing::warn!(user = "", ok = true),
            " WARN user=\"\" ok=true\n",
        );
        check(
            || tracing::info!(client = "é \"x\" \\"),
            " INFO client=\"é \\\"x\\\" \\\\\"\n",
        );
        let error = io::Error::other("disk\nfull");
        check(
            || tracing::error!(%error, "no"),
            "ERROR no error=disk\\nfull\n",
        );
        let error = io::Error::other("disk full");
        check(
            || tracing::error!(%error, kind = ?error.kind(), "no"),
            "ERROR no error=\"disk full\" kind=Other\n",
        );
    }

    #[test]
    fn nothing_moves_the_cursor_or_begins_a_line() {
        let client = "x\x1b[2J\r\nINFO y\u{9b}z";
        check(
            || tracing::info!(client, "Client {client} connected."),
            " INFO Client x\\u{1b}[2J\\r\\nINFO y\\u{9b}z connected. client=\"x\\u{1b}[2J\\r\\nINFO y\\u{9b}z\"\n",
        );
        check(
            || tracing::info!(%client),
            " INFO client=\"x\\u{1b}[2J\\r\\nINFO y\\u{9b}z\"\n",
        );
    }
}
