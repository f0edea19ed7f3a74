//! What is wrong with a configuration, said with file, line, column and the line itself.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;

use super::tree::Origin;

/// Longest piece of a line that is quoted.
const QUOTED_CHARS_MAX: usize = 160;

/// A configuration file's name and text.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As it is named in messages.
    pub name: String,
    /// The text that spans refer to.
    pub text: String,
}

/// A place in a [`Source`]; both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Source {
    /// Line and column of a byte offset. An offset beyond the text is its end.
    pub fn place(&self, offset: usize) -> Place {
        let before = self.before(offset);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn before(&self, offset: usize) -> &str {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[..end]
    }

    /// The line of `span` with carets under it.
    fn excerpt(&self, span: &Range<usize>, out: &mut String) {
        let before = self.before(span.start);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let number = self.place(span.start).line.to_string();
        let margin = " ".repeat(number.len());
        let marked_end = self
            .before(span.end.max(span.start))
            .len()
            .min(start + line.len());
        let marked = self
            .text
            .get(before.len()..marked_end)
            .unwrap_or_default()
            .chars()
            .count()
            .max(1);
        let mut lead = &before[start..];
        let mut carets = marked;
        let shown = hide_secret(line);
        if let Cow::Owned(hidden) = &shown {
            let visible = hidden.len() - HIDDEN.len();
            if lead.len() >= visible {
                lead = &hidden[..visible];
                carets = HIDDEN.len();
            }
        }
        let quoted: String = shown
            .chars()
            .take(QUOTED_CHARS_MAX)
            .map(printable)
            .collect();
        // Tabs stay tabs below the line, so that the carets stand right whatever their width.
        let indent: String = lead
            .chars()
            .take(QUOTED_CHARS_MAX)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(
            carets.min(
                QUOTED_CHARS_MAX
                    .saturating_sub(indent.chars().count())
                    .max(1),
            ),
        );
        let _ = write!(
            out,
            "\n{margin} |\n{number} | {quoted}\n{margin} | {indent}{carets}"
        );
    }
}

/// What stands for a password or hash in a message.
const HIDDEN: &str = "(hidden)";

/// Cuts off what follows `password... =`: messages are pasted into tickets and forums.
fn hide_secret(line: &str) -> Cow<'_, str> {
    let lower = line.to_ascii_lowercase();
    // An address may have one in it.
    let address = lower.find("redis").filter(|_| line.contains('@'));
    let Some(word) = lower.find("password").or(address.map(|_| 0)) else {
        return Cow::Borrowed(line);
    };
    let Some(equals) = lower[word..].find('=') else {
        return Cow::Borrowed(line);
    };
    let value = word + equals + 1;
    let spaces = line[value..].len() - line[value..].trim_start().len();
    Cow::Owned(format!("{}{HIDDEN}", &line[..value + spaces]))
}

/// Hides what would move the cursor of a terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// What is wrong, naming the key.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without advice.
    pub fn new(origin: Origin, message: impl Into<String>) -> Self {
        Self {
            origin,
            message: message.into(),
            help: None,
        }
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The problem as several lines; the first one is `file:line:column: message`.
    pub fn render(&self, source: Option<&Source>) -> String {
        let message: String = self.message.chars().map(printable).collect();
        let mut out = match (&self.origin, source) {
            (Origin::File(span), Some(source)) => {
                let Place { line, column } = source.place(span.start);
                let mut out = format!("{}:{line}:{column}: {message}", source.name);
                source.excerpt(span, &mut out);
                out
            }
            (Origin::Env(name), _) => format!("environment variable {name}: {message}"),
            (Origin::Flag(flag), _) => format!("{}: {message}", hide_secret(flag)),
            (Origin::Default | Origin::File(_), _) => message,
        };
        if let Some(help) = &self.help {
            let _ = write!(
                out,
                "\n  help: {}",
                help.chars().map(printable).collect::<String>()
            );
        }
        out
    }
}

impl Problems {
    /// Each problem on one line, without the excerpts, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|problem| {
            let rendered = Problem {
                help: None,
                ..problem.clone()
            }
            .render(self.source.as_ref());
            let first = rendered.lines().next().unwrap_or_default();
            match &problem.help {
                Some(help) => format!("{first} (help: {help})"),
                None => first.to_owned(),
            }
        })
    }
}

/// Everything wrong with a configuration, at least one problem.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    /// The file that spans refer to, if one was read.
    pub source: Option<Source>,
    /// In the order of their places.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.list.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "error: {}", problem.render(self.source.as_ref()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_span() {
        let source = Source {
            name: "m.toml".to_owned(),
            text: "[limits]\n\tß = 1 # x\n".to_owned(),
        };
        let start = source.text.find('1').expect("there");
        let problem =
            Problem::new(Origin::File(start..start + 1), "`limits.ß` is odd").help("do not");
        assert_eq!(
            problem.render(Some(&source)),
            "m.toml:2:6: `limits.ß` is odd\n  |\n2 | \tß = 1 # x\n  | \t    ^\n  help: do not"
        );
    }

    #[test]
    fn spans_outside_the_text_and_control_characters_are_harmless() {
        let source = Source {
            name: "m".to_owned(),
            text: "a\u{1b}[2Jß".to_owned(),
        };
        for start in 0..12 {
            for end in 0..12 {
                let problem = Problem::new(Origin::File(start..end), "odd");
                assert!(!problem.render(Some(&source)).contains('\u{1b}'));
            }
        }
    }
}
