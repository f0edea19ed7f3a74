//! How `martlet sub` and `rr` print a message: plainly, with the topic, or by a format such as `%t %p`.
//!
//! The formats are those of `mosquitto_sub -F`, except `%A` and `%m`: topic aliases and packet identifiers are
//! details of one connection and gone when a message is here.

use jiff::Zoned;
use martlet_client::ReceivedMessage;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

/// Widest field, and longest precision.
const WIDTH_MAX: usize = 9_999;

/// A parsed format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    pretty: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    /// A letter of strftime.
    Time(char),
    Field(Field),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    letter: char,
    left: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

const FIELDS: &str = "CDEFIJPRSUXjlpqrtx";
const TIMES: &str = "aAbBcCdDeFgGhHIjklmMnNpPqrRsStTuUVwWxXyYzZ";

impl Template {
    /// Reads a format.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(format: &str, pretty: bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' if chars.next_if_eq(&'%').is_some() => {
                    literal.push(b'%');
                    continue;
                }
                '@' if chars.next_if_eq(&'@').is_some() => {
                    literal.push(b'@');
                    continue;
                }
                '%' => Piece::Field(field(&mut chars)?),
                '@' => match chars.next() {
                    Some(letter) if TIMES.contains(letter) => Piece::Time(letter),
                    Some(letter) => return Err(format!("`@{letter}` is not a part of a time")),
                    None => {
                        return Err(
                            "`@` at the end of the format; write @@ for the sign itself".to_owned()
                        );
                    }
                },
                '\\' => {
                    literal.push(match chars.next() {
                        Some('0') => 0,
                        Some('a') => 7,
                        Some('e') => 27,
                        Some('n') => b'\n',
                        Some('r') => b'\r',
                        Some('t') => b'\t',
                        Some('v') => 11,
                        Some('\\') => b'\\',
                        Some(other) => return Err(format!("`\\{other}` is not known in a format")),
                        None => {
                            return Err(
                                "`\\` at the end of the format; write \\\\ for the sign itself"
                                    .to_owned(),
                            );
                        }
                    });
                    continue;
                }
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces, pretty })
    }

    /// Appends `message`, which arrived at `now`.
    pub(crate) fn print(
        &self,
        message: &ReceivedMessage,
        now: &Zoned,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Time(letter) => {
                    let letter = letter.encode_utf8(&mut [0; 4]).to_owned();
                    out.extend_from_slice(
                        now.strftime(&format!("%{letter}")).to_string().as_bytes(),
                    );
                }
                Piece::Field(field) => {
                    field.pad(&value(field.letter, message, now, self.pretty)?, out);
                }
            }
        }
        Ok(())
    }
}

fn field(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Field, String> {
    let mut field = Field {
        letter: ' ',
        left: false,
        zero: false,
        width: 0,
        precision: None,
    };
    loop {
        if chars.next_if_eq(&'-').is_some() {
            field.left = true;
        } else if chars.next_if_eq(&'0').is_some() {
            field.zero = true;
        } else {
            break;
        }
    }
    field.width = number(chars)?.unwrap_or(0);
    if chars.next_if_eq(&'.').is_some() {
        field.precision = Some(number(chars)?.unwrap_or(0));
    }
    field.letter = match chars.next() {
        Some(letter) if FIELDS.contains(letter) => letter,
        Some(letter @ ('A' | 'm')) => {
            return Err(format!("`%{letter}` is not kept with a message"));
        }
        Some(letter) => return Err(format!("`%{letter}` is not known in a format; see --help")),
        None => return Err("`%` at the end of the format; write %% for the sign itself".to_owned()),
    };
    Ok(field)
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let next = number.unwrap_or(0) * 10 + digit as usize;
        if next > WIDTH_MAX {
            return Err(format!("a width above {WIDTH_MAX}"));
        }
        number = Some(next);
    }
    Ok(number)
}

impl Field {
    /// Cuts `value` to the precision and fills it up to the width, both in bytes.
    fn pad(&self, value: &[u8], out: &mut Vec<u8>) {
        let numeric = "lqrEFS".contains(self.letter);
        let value = match self.precision {
            Some(precision) if !numeric => &value[..precision.min(value.len())],
            _ => value,
        };
        let gap = self.width.saturating_sub(value.len());
        let fill = if self.zero && !self.left && numeric {
            b'0'
        } else {
            b' '
        };
        if !self.left {
            out.extend(std::iter::repeat_n(fill, gap));
        }
        out.extend_from_slice(value);
        if self.left {
            out.extend(std::iter::repeat_n(b' ', gap));
        }
    }
}

fn value(
    letter: char,
    message: &ReceivedMessage,
    now: &Zoned,
    pretty: bool,
) -> Result<Vec<u8>, String> {
    let props = message.props.as_props();
    let text = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
    let number = |number: Option<u32>| {
        number
            .map(|number| number.to_string())
            .unwrap_or_default()
            .into_bytes()
    };
    Ok(match letter {
        't' => message.topic.clone().into_bytes(),
        'p' => message.payload.to_vec(),
        'x' => hex(&message.payload, b"0123456789abcdef"),
        'X' => hex(&message.payload, b"0123456789ABCDEF"),
        'l' => message.payload.len().to_string().into_bytes(),
        'q' => vec![b'0' + message.qos as u8],
        'r' => vec![b'0' + u8::from(message.retain)],
        'C' => text(props.content_type()),
        'D' => props.correlation_data().unwrap_or_default().to_vec(),
        'E' => number(props.message_expiry_secs()),
        'F' => number(props.payload_format_indicator().map(u32::from)),
        'P' => join(
            props
                .user_properties()
                .map(|(name, value)| format!("{name}:{value}")),
        ),
        'R' => text(props.response_topic()),
        'S' => join(props.subscription_ids().map(|id| id.to_string())),
        'I' => now.strftime("%Y-%m-%dT%H:%M:%S%z").to_string().into_bytes(),
        'U' => {
            let nanos = now.timestamp().as_nanosecond();
            format!(
                "{}.{:09}",
                nanos.div_euclid(1_000_000_000),
                nanos.rem_euclid(1_000_000_000)
            )
            .into_bytes()
        }
        'j' => json(message, now, pretty, None)?,
        'J' => {
            let embedded = if message.payload.is_empty() {
                serde_json::Value::Null
            } else {
                serde_json::from_slice(&message.payload).map_err(|error| {
                    format!("the payload on {} is not JSON: {error}", message.topic)
                })?
            };
            json(message, now, pretty, Some(embedded))?
        }
        // Letters were checked when the format was read.
        _ => Vec::new(),
    })
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| {
            [
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]
        })
        .collect()
}

fn join(parts: impl Iterator<Item = String>) -> Vec<u8> {
    parts.collect::<Vec<_>>().join(" ").into_bytes()
}

#[derive(Serialize)]
struct Json<'a> {
    tst: String,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
    payload: serde_json::Value,
    /// Only where the payload is not text, and `payload` therefore not exact.
    #[serde(rename = "payload-hex", skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Properties<'a> {
    #[serde(
        rename = "user-properties",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "user_properties"
    )]
    user: Vec<(&'a str, &'a str)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscription_identifiers: Vec<u32>,
}

/// A name that comes once has a text, one that comes several times a list.
fn user_properties<S: Serializer>(
    properties: &[(&str, &str)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (position, (name, value)) in properties.iter().enumerate() {
        if properties[..position]
            .iter()
            .any(|(earlier, _)| earlier == name)
        {
            continue;
        }
        let all: Vec<&str> = properties
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| *value)
            .collect();
        if all.len() == 1 {
            map.serialize_entry(name, value)?;
        } else {
            map.serialize_entry(name, &all)?;
        }
    }
    map.end()
}

fn json(
    message: &ReceivedMessage,
    now: &Zoned,
    pretty: bool,
    embedded: Option<serde_json::Value>,
) -> Result<Vec<u8>, String> {
    let props = message.props.as_props();
    let properties = Properties {
        user: props.user_properties().collect(),
        content_type: props.content_type(),
        correlation_data: props
            .correlation_data()
            .map(|data| String::from_utf8_lossy(data).into_owned()),
        response_topic: props.response_topic(),
        payload_format_indicator: props.payload_format_indicator(),
        message_expiry_interval: props.message_expiry_secs(),
        subscription_identifiers: props.subscription_ids().collect(),
    };
    let text = std::str::from_utf8(&message.payload);
    let payload = match (embedded, text) {
        (Some(embedded), _) => embedded,
        (None, _) if message.payload.is_empty() => serde_json::Value::Null,
        (None, _) => String::from_utf8_lossy(&message.payload)
            .into_owned()
            .into(),
    };
    let hexadecimal =
        || String::from_utf8_lossy(&hex(&message.payload, b"0123456789abcdef")).into_owned();
    let json = Json {
        tst: now.strftime("%Y-%m-%dT%H:%M:%S.%6f%z").to_string(),
        topic: &message.topic,
        qos: message.qos as u8,
        retain: u8::from(message.retain),
        payloadlen: message.payload.len(),
        properties: (!props.is_empty()).then_some(properties),
        payload,
        payload_hex: text.is_err().then(hexadecimal),
    };
    let printed = if pretty {
        serde_json::to_vec_pretty(&json)
    } else {
        serde_json::to_vec(&json)
    };
    printed.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use martlet_codec::{Property, PropsBuf, QoS};

    use super::*;

    fn message(payload: &'static [u8], props: PropsBuf) -> ReceivedMessage {
        ReceivedMessage {
            topic: "a/b".to_owned(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            dup: false,
            props,
        }
    }

    fn print(format: &str, message: &ReceivedMessage) -> String {
        let now = "2026-11-21T12:27:08.398493001+01:00[+01:00]"
            .parse()
            .expect("a time");
        let template =
            Template::parse(format, false).unwrap_or_else(|error| panic!("{format}: {error}"));
        let mut out = Vec::new();
        template
            .print(message, &now, &mut out)
            .unwrap_or_else(|error| panic!("{format}: {error}"));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn fields_are_printed_as_mosquitto_sub_does() {
        let message_a = message(b"hello", PropsBuf::new());
        let check =
            |format: &str, text: &str| assert_eq!(print(format, &message_a), text, "{format}");
        check("%t|%p|%x|%X", "a/b|hello|68656c6c6f|68656C6C6F");
        check("%l %q %r", "5 1 1");
        check("%%|@@|\\t\\\\|ß", "%|@|\t\\|ß");
        check(
            "%10t|%-10t|%.2t|%10p",
            "       a/b|a/b       |a/|     hello",
        );
        check("%5l|%05l|%-5lx|%4r", "    5|00005|5    x|   1");
        check("@Y-@m-@dT@H:@M:@S@z", "2026-11-21T12:27:08+0100");
        check("%I %U", "2026-11-21T12:27:08+0100 1795260428.398493001");
        check("[%C%D%E%F%P%R%S]", "[]");
        check(
            "%j",
            r#"{"tst":"2026-11-21T12:27:08.398493+0100","topic":"a/b","qos":1,"retain":1,"payloadlen":5,"payload":"hello"}"#,
        );
    }

    #[test]
    fn properties_are_printed() {
        let mut props = PropsBuf::new();
        props
            .push(Property::UserProperty("k", "v"))
            .push(Property::UserProperty("l", "1"))
            .push(Property::UserProperty("l", "2"))
            .push(Property::ContentType("text"))
            .push(Property::CorrelationData(b"cd"))
            .push(Property::ResponseTopic("r/t"))
            .push(Property::MessageExpiry(60))
            .push(Property::PayloadFormatIndicator(1))
            .push(Property::SubscriptionId(7));
        let message = message(br#"{"a":1}"#, props);
        assert_eq!(
            print("%C|%D|%E|%F|%P|%R|%S", &message),
            "text|cd|60|1|k:v l:1 l:2|r/t|7"
        );
        assert_eq!(
            print("%J", &message),
            concat!(
                r#"{"tst":"2026-11-21T12:27:08.398493+0100","topic":"a/b","qos":1,"retain":1,"payloadlen":7,"#,
                r#""properties":{"user-properties":{"k":"v","l":["1","2"]},"content-type":"text","#,
                r#""correlation-data":"cd","response-topic":"r/t","payload-format-indicator":1,"#,
                r#""message-expiry-interval":60,"subscription-identifiers":[7]},"payload":{"a":1}}"#
            )
        );
    }

    #[test]
    fn json_stays_json_whatever_the_payload_is() {
        let binary = print("%j", &message(b"a\xff\"\n", PropsBuf::new()));
        let json: serde_json::Value = serde_json::from_str(&binary).expect("JSON");
        assert_eq!(json["payload-hex"], "61ff220a");
        let template = Template::parse("%J", false).expect("known");
        let refused = template.print(
            &message(b"{", PropsBuf::new()),
            &Zoned::default(),
            &mut Vec::new(),
        );
        assert!(refused.is_err());
    }

    #[test]
    fn bad_formats_are_refused() {
        for format in ["%y", "%", "@", "\\", "\\q", "%99999t", "@!", "%m"] {
            assert!(Template::parse(format, false).is_err(), "{format}");
        }
    }
}
