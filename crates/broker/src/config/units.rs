//! Durations, sizes, expiries and QoS as people write them in a settings file.
//!
//! Each submodule is meant for serde's `with` attribute. What is printed parses to the same value. Numbers
//! without a unit are taken only where the unit is plain: bytes for sizes, seconds for expiries, and 0.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Units of a duration and their nanoseconds, longest first.
const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Binary units of a size, largest first; the ones sizes are printed in.
const BINARY_UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Decimal units of a size, understood but never printed.
const DECIMAL_UNITS: [(&str, u64); 4] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// Splits `text` into a run of digits, the rest of a word, and what follows.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
    Some((number, &rest[..word], rest[word..].trim_start()))
}

/// Reads `"1m30s"`, `"500ms"` or `"0"`.
///
/// # Errors
/// What is wrong with `text`, as a sentence without a full stop.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{}` is not a duration; write it like \"30s\", \"1m30s\" or \"500ms\"",
            shorten(text)
        )
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    // Units go from long to short, each at most once, so this ends after `TIME_UNITS.len()` rounds.
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() {
        let (number, word, after) = number_and_unit(rest).ok_or_else(bad)?;
        if word.is_empty() {
            return Err(format!(
                "`{}` has no unit; write \"{number}s\" or \"{number}ms\"",
                shorten(text)
            ));
        }
        let (_, nanos) = units.find(|(unit, _)| *unit == word).ok_or_else(bad)?;
        let part = number
            .checked_mul(nanos / 1_000_000_000)
            .map(Duration::from_secs);
        let part = if *nanos >= 1_000_000_000 {
            part
        } else {
            number.checked_mul(*nanos).map(Duration::from_nanos)
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
        rest = after;
    }
    Ok(total)
}

/// Writes a duration so that [`parse_duration`] reads the same one.
pub fn format_duration(duration: Duration) -> String {
    let mut out = String::new();
    let mut secs = duration.as_secs();
    let mut nanos = u64::from(duration.subsec_nanos());
    for (unit, length) in TIME_UNITS {
        let count = if length >= 1_000_000_000 {
            let length = length / 1_000_000_000;
            let count = secs / length;
            secs %= length;
            count
        } else {
            let count = nanos / length;
            nanos %= length;
            count
        };
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "{count}{unit}");
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Reads `"1MiB"`, `"64 KiB"`, `"10MB"` (decimal), `"512B"` or a plain number of bytes.
///
/// # Errors
/// What is wrong with `text`, as a sentence without a full stop.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "`{}` is not a size; write it like \"64KiB\", \"1MiB\" or a number of bytes",
            shorten(text)
        )
    };
    let (number, word, after) = number_and_unit(text.trim()).ok_or_else(bad)?;
    if !after.is_empty() {
        return Err(bad());
    }
    if word.is_empty() || word == "B" {
        return Ok(number);
    }
    let unit = BINARY_UNITS
        .iter()
        .chain(&DECIMAL_UNITS)
        .find(|(unit, _)| unit.eq_ignore_ascii_case(word));
    let Some((_, bytes)) = unit else {
        let first = word.chars().next().unwrap_or('M').to_ascii_uppercase();
        return match BINARY_UNITS
            .iter()
            .find(|(unit, _)| unit.starts_with(first))
        {
            Some((unit, _)) => Err(format!(
                "`{}` has an unknown unit; write \"{number}{unit}\"",
                shorten(text)
            )),
            None => Err(bad()),
        };
    };
    number
        .checked_mul(*bytes)
        .ok_or_else(|| format!("`{}` is more bytes than can be counted", shorten(text)))
}

/// Writes a size in the largest binary unit that divides it, so that [`parse_size`] reads the same one.
pub fn format_size(bytes: u64) -> String {
    match BINARY_UNITS
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// Reads a number of seconds, a duration of whole seconds such as `"30d"`, or `"never"` (4,294,967,295).
///
/// # Errors
/// What is wrong with `text`, as a sentence without a full stop.
pub fn parse_expiry(text: &str) -> Result<u32, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(u32::MAX);
    }
    let secs = match text.parse::<u64>() {
        Ok(secs) => secs,
        Err(_) => {
            let duration = parse_duration(text).map_err(|_| {
                format!(
                    "`{}` is not an expiry; write seconds, a duration like \"30d\", or \"never\"",
                    shorten(text)
                )
            })?;
            if duration.subsec_nanos() > 0 {
                return Err(format!(
                    "`{}` is not a whole number of seconds",
                    shorten(text)
                ));
            }
            duration.as_secs()
        }
    };
    u32::try_from(secs).map_err(|_| {
        format!(
            "`{}` is above 4294967295 seconds; write \"never\"",
            shorten(text)
        )
    })
}

/// What a message quotes of a value: enough to find it, never a screenful.
fn shorten(text: &str) -> String {
    const QUOTED_CHARS_MAX: usize = 40;
    let mut quoted: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

/// Takes text or a number and turns either into `T`.
struct Text<T> {
    expecting: &'static str,
    parse: fn(&str) -> Result<T, String>,
    number: fn(u64) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

/// A [`Duration`] as `"30s"`, `"1m30s"` or `"500ms"`.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, Text, format_duration, parse_duration};

    /// Prints `"1m30s"`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*value))
    }

    /// Reads `"1m30s"`, or the number 0.
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Text {
            expecting: "a duration such as \"30s\" or \"500ms\"",
            parse: parse_duration,
            number: |number| match number {
                0 => Ok(Duration::ZERO),
                _ => Err(format!(
                    "{number} has no unit; write \"{number}s\" or \"{number}ms\""
                )),
            },
        })
    }
}

/// A number of bytes as `"1MiB"` or a plain number.
pub mod size {
    use super::{Deserializer, Serializer, Text, format_size, parse_size};

    /// Prints `"1MiB"` or `"1000B"`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_size(*value))
    }

    /// Reads `"1MiB"` or a number of bytes.
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Text {
            expecting: "a size such as \"1MiB\", or a number of bytes",
            parse: parse_size,
            number: Ok,
        })
    }
}

/// Seconds, where 4,294,967,295 is printed as `"never"`.
pub mod expiry {
    use super::{Deserializer, Serializer, Text, parse_expiry};

    /// Prints the number of seconds, or `"never"`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        match *value {
            u32::MAX => serializer.serialize_str("never"),
            secs => serializer.serialize_u32(secs),
        }
    }

    /// Reads seconds, `"30d"` or `"never"`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(Text {
            expecting: "seconds, a duration such as \"30d\", or \"never\"",
            parse: parse_expiry,
            number: |secs| {
                u32::try_from(secs)
                    .map_err(|_| format!("{secs} is above 4294967295 seconds; write \"never\""))
            },
        })
    }
}

/// A [`size`] that may be left out.
pub mod optional_size {
    use super::{Deserializer, Serializer, size};

    /// As [`size::serialize`].
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => size::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// As [`size::deserialize`].
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        size::deserialize(deserializer).map(Some)
    }
}

/// An [`expiry`] that may be left out.
pub mod optional_expiry {
    use super::{Deserializer, Serializer, expiry};

    /// As [`expiry::serialize`].
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => expiry::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// As [`expiry::deserialize`].
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        expiry::deserialize(deserializer).map(Some)
    }
}

/// A QoS as the number 0, 1 or 2.
pub mod qos {
    use martlet_codec::QoS;

    use super::{Deserializer, Serializer, Text};

    /// Prints 0, 1 or 2.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &QoS, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*value as u8)
    }

    /// Reads 0, 1 or 2.
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QoS, D::Error> {
        fn number(qos: u64) -> Result<QoS, String> {
            match qos {
                0 => Ok(QoS::AtMostOnce),
                1 => Ok(QoS::AtLeastOnce),
                2 => Ok(QoS::ExactlyOnce),
                _ => Err(format!("{qos} is not a QoS; write 0, 1 or 2")),
            }
        }
        deserializer.deserialize_any(Text {
            expecting: "a QoS: 0, 1 or 2",
            parse: |text| match text.trim().parse() {
                Ok(qos) => number(qos),
                Err(_) => Err(format!(
                    "`{}` is not a QoS; write 0, 1 or 2",
                    super::shorten(text)
                )),
            },
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(
                parse_duration(text).ok(),
                millis.map(Duration::from_millis),
                "{text}"
            );
        };
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("1m 30s", Some(90_000));
        check("500ms", Some(500));
        check("1d", Some(86_400_000));
        check("2h", Some(7_200_000));
        check("0", Some(0));
        check("0s", Some(0));
        check("", None);
        check("30", None);
        check("s", None);
        check("-1s", None);
        check("1.5s", None);
        check("30s1m", None);
        check("1s1s", None);
        check("1 fortnight", None);
        check("99999999999999999999s", None);
        check("18446744073709551615d", None);
        check("1ß", None);
    }

    #[test]
    fn sizes_are_read() {
        let check =
            |text: &str, bytes: Option<u64>| assert_eq!(parse_size(text).ok(), bytes, "{text}");
        check("1MiB", Some(1 << 20));
        check("64 KiB", Some(64 << 10));
        check("10mb", Some(10_000_000));
        check("512", Some(512));
        check("512B", Some(512));
        check("0", Some(0));
        check("1M", None);
        check("1MiB 2KiB", None);
        check("MiB", None);
        check("-1", None);
        check("99999999TiB", None);
        assert_eq!(
            parse_size("5M"),
            Err("`5M` has an unknown unit; write \"5MiB\"".to_owned())
        );
    }

    #[test]
    fn expiries_are_read() {
        let check =
            |text: &str, secs: Option<u32>| assert_eq!(parse_expiry(text).ok(), secs, "{text}");
        check("never", Some(u32::MAX));
        check("30d", Some(30 * 86_400));
        check("60", Some(60));
        check("1500ms", None);
        check("4294967296", None);
        check("soon", None);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for nanos in [
            0,
            1,
            999,
            1_500,
            1_000_000,
            1_500_000_000,
            90_000_000_000,
            93_784_005_006_007,
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(
            parse_duration(&format_duration(Duration::MAX)),
            Ok(Duration::MAX)
        );
        for bytes in [0, 1, 1_000, 1_024, 1_536, 16 << 20, 1 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        assert_eq!(format_size(16 << 20), "16MiB");
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
    }
}
