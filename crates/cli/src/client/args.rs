//! Flags of `martlet pub`, `sub` and `rr`: the letters people know from the Mosquitto clients.

use std::path::PathBuf;

use clap::Args;
use martlet_codec::{QoS, Version};
use martlet_transport::TlsVersion;

/// Examples of `martlet pub`.
const PUB_EXAMPLES: &str = "\
Examples:
  martlet pub -t home/lamp -m on -q 1 -r
  echo '{\"t\":21.5}' | martlet pub -t home/temp -s
  seq 1 100000 | martlet pub -t numbers -l -q 1
  martlet pub -L mqtt://ada:secret@127.0.0.1/home/lamp -m off
  martlet pub -h broker.example --cafile ca.pem -t home/lamp -m on
  martlet pub -t a -m x -D publish user-property unit lux -D publish message-expiry-interval 60

Exit code: 0 when everything was accepted, 1 when it was not, otherwise the code with which the broker refused.";

/// Examples of `martlet sub`.
const SUB_EXAMPLES: &str = "\
Examples:
  martlet sub -t 'home/#' -v
  martlet sub -t 'home/+/temp' -F '%I %t %p'
  martlet sub -t '#' -C 1 -W 5                 one message, or exit code 27 after 5 seconds
  martlet sub -t '#' --retained-only --remove-retained -v   clear all retained messages

Formats of -F (as -F '%t: %p'):
  %t topic   %p payload   %x %X payload in hexadecimal   %l payload length   %q QoS   %r retain flag
  %I time, ISO 8601   %U Unix time   @Y @H... time by strftime   %j JSON   %J JSON, payload embedded as JSON
  %C content type   %D correlation data   %E expiry   %F payload format   %P user properties   %R response topic
  %S subscription identifiers   %% @@ \\n \\t \\0 ...   %20t %-20t %.5p width and precision

Exit code: 0 at the end, 27 when -W ran out, 1 for errors, otherwise the code with which the broker refused.";

/// Examples of `martlet rr`.
const RR_EXAMPLES: &str = "\
Examples:
  martlet rr -t ask/time -e answer/me -m now -W 5

The response topic goes along as a property (MQTT 5). Exit code: 0 with a response, 27 when -W ran out, 1 for errors.";

/// Flags that all clients have.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub struct Common {
    /// Host of the broker
    #[arg(
        short = 'h',
        long,
        default_value = "127.0.0.1",
        help_heading = "Connection"
    )]
    pub host: String,
    /// Port of the broker; 1883 unless given, 8883 with TLS
    #[arg(short, long, help_heading = "Connection")]
    pub port: Option<u16>,
    /// Path of the Unix socket of the broker
    #[arg(long = "unix", value_name = "FILE", conflicts_with_all = ["host", "port", "url"], help_heading = "Connection")]
    pub unix: Option<PathBuf>,
    /// Everything in one: mqtt://USER:PASSWORD@HOST:PORT/TOPIC, or ws://USER:PASSWORD@HOST:PORT/PATH, or mqtts and wss; all but HOST may be left out
    #[arg(short = 'L', long, conflicts_with_all = ["host", "port"], help_heading = "Connection")]
    pub url: Option<String>,
    /// Client id; without one the broker chooses
    #[arg(short, long, allow_hyphen_values = true, help_heading = "Connection")]
    pub id: Option<String>,
    /// Client id made of this and the process id
    #[arg(short = 'I', long, conflicts_with = "id", help_heading = "Connection")]
    pub id_prefix: Option<String>,
    /// User name
    #[arg(short, long, allow_hyphen_values = true, help_heading = "Connection")]
    pub username: Option<String>,
    /// Password
    #[arg(
        short = 'P',
        long = "pw",
        value_name = "PASSWORD",
        allow_hyphen_values = true,
        help_heading = "Connection"
    )]
    pub password: Option<String>,
    /// Keep alive in seconds, 0 for none
    #[arg(short, long, default_value_t = 60, help_heading = "Connection")]
    pub keepalive: u16,
    /// Keep the session when this client leaves (needs -i)
    #[arg(
        short = 'c',
        long = "disable-clean-session",
        help_heading = "Connection"
    )]
    pub keep_session: bool,
    /// Seconds for which the session is kept (MQTT 5); -1 for ever
    #[arg(short = 'x', long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = session_expiry, help_heading = "Connection")]
    pub session_expiry_interval: Option<u32>,
    /// Protocol version: 5, 311 or 31 (also mqttv5, mqttv311, mqttv31, 3.1.1, 3.1)
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5", value_parser = version, help_heading = "Connection")]
    pub protocol_version: Version,
    /// QoS: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    pub qos: QoS,
    /// Property of a packet (MQTT 5): PACKET is connect, publish, subscribe, unsubscribe, disconnect or will; user-property takes two values (repeatable)
    #[arg(short = 'D', long = "property", num_args = 3..=4, value_names = ["PACKET", "NAME", "VALUE"], help_heading = "MQTT 5")]
    pub properties: Vec<String>,
    /// TLS, trusting the authorities in this file (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub cafile: Option<PathBuf>,
    /// TLS, trusting the authorities that this system trusts
    #[arg(
        long,
        alias = "tls-use-os-certs",
        conflicts_with = "cafile",
        help_heading = "TLS"
    )]
    pub tls: bool,
    /// Certificate of this client (PEM)
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    pub key: Option<PathBuf>,
    /// Accept a certificate made for another name; its authority is checked all the same
    #[arg(long, help_heading = "TLS")]
    pub insecure: bool,
    /// Oldest TLS version: tlsv1.2 (also 1.2) or tlsv1.3
    #[arg(long, value_name = "VERSION", value_parser = tls_version, help_heading = "TLS")]
    pub tls_version: Option<TlsVersion>,
    /// Protocol to propose (ALPN), such as mqtt
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub tls_alpn: Option<String>,
    /// Topic of the will
    #[arg(long, help_heading = "Will")]
    pub will_topic: Option<String>,
    /// Payload of the will
    #[arg(
        long,
        requires = "will_topic",
        allow_hyphen_values = true,
        help_heading = "Will"
    )]
    pub will_payload: Option<String>,
    /// QoS of the will
    #[arg(long, requires = "will_topic", default_value = "0", value_parser = qos, help_heading = "Will")]
    pub will_qos: QoS,
    /// Whether the will is retained
    #[arg(long, requires = "will_topic", help_heading = "Will")]
    pub will_retain: bool,
    /// Say what happens, on standard error
    #[arg(short, long)]
    pub debug: bool,
    /// Print no errors
    #[arg(long)]
    pub quiet: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

/// Where a message's payload comes from.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct PayloadArgs {
    /// The payload
    #[arg(short, long, value_name = "PAYLOAD", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// The content of a file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Nothing; with -r this removes a retained message
    #[arg(short, long)]
    pub null_message: bool,
    /// All of standard input
    #[arg(short = 's', long)]
    pub stdin_file: bool,
}

/// Flags of `martlet pub`.
#[derive(Args, Clone, Debug)]
#[command(after_help = PUB_EXAMPLES, disable_help_flag = true)]
pub struct PubArgs {
    /// Topic
    #[arg(short, long)]
    pub topic: Option<String>,
    /// What to publish.
    #[command(flatten)]
    pub payload: PayloadArgs,
    /// A message for each line of standard input
    #[arg(short = 'l', long, conflicts_with_all = ["message", "file", "null_message", "stdin_file", "repeat"])]
    pub stdin_line: bool,
    /// The broker keeps the message for later subscribers
    #[arg(short, long)]
    pub retain: bool,
    /// Publish it this many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Seconds between two of them
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub repeat_delay: std::time::Duration,
    /// Messages of QoS 1 and 2 under way at once
    #[arg(short = 'M', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub max_inflight: u16,
    /// What all clients have.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `martlet sub`.
#[derive(Args, Clone, Debug)]
#[command(after_help = SUB_EXAMPLES, disable_help_flag = true)]
pub struct SubArgs {
    /// Topic filter (repeatable)
    #[arg(short, long)]
    pub topic: Vec<String>,
    /// Unsubscribe from this filter, as the session still has it (repeatable)
    #[arg(short = 'U', long, value_name = "FILTER")]
    pub unsubscribe: Vec<String>,
    /// Print no messages whose topic matches this filter (repeatable)
    #[arg(short = 'T', long, value_name = "FILTER")]
    pub filter_out: Vec<String>,
    /// What all clients have.
    #[command(flatten)]
    pub common: Common,
    /// How messages are printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// End after this many messages
    #[arg(short = 'C', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<std::time::Duration>,
    /// End as soon as the subscriptions are acknowledged
    #[arg(short = 'E')]
    pub exit_after_subscribe: bool,
    /// Print no retained messages
    #[arg(short = 'R', conflicts_with = "retained_only")]
    pub no_retained: bool,
    /// Print retained messages only, end at the first other one
    #[arg(long)]
    pub retained_only: bool,
    /// Remove each retained message that arrives and is not filtered out
    #[arg(long)]
    pub remove_retained: bool,
    /// Get no messages that this client published itself (MQTT 5)
    #[arg(long)]
    pub no_local: bool,
    /// Keep the retain flag as it was published (MQTT 5)
    #[arg(long)]
    pub retain_as_published: bool,
    /// Retained messages: always, new (for a new subscription) or never (MQTT 5)
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "always",
        hide_possible_values = true
    )]
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RetainHandling {
    /// At each subscription.
    Always,
    /// At a new subscription.
    New,
    /// Never.
    Never,
}

/// Flags of `martlet rr`.
#[derive(Args, Clone, Debug)]
#[command(after_help = RR_EXAMPLES, disable_help_flag = true)]
pub struct RrArgs {
    /// Topic of the request
    #[arg(short, long)]
    pub topic: Option<String>,
    /// Topic of the response
    #[arg(short = 'e', long)]
    pub response_topic: String,
    /// The request.
    #[command(flatten)]
    pub payload: PayloadArgs,
    /// How the response is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// End after this many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<std::time::Duration>,
    /// Take no retained message for the response
    #[arg(short = 'R')]
    pub no_retained: bool,
    /// What all clients have.
    #[command(flatten)]
    pub common: Common,
}

/// How messages are printed.
#[derive(Args, Clone, Debug)]
pub struct PrintArgs {
    /// Print the topic before the payload
    #[arg(short, long)]
    pub verbose: bool,
    /// Print no line end after the payload
    #[arg(short = 'N')]
    pub no_line_end: bool,
    /// Format, see below
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,
    /// Print %j and %J on several lines
    #[arg(long)]
    pub pretty: bool,
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "5" | "5.0" | "mqttv5" | "v5" => Ok(Version::V5),
        "311" | "3.1.1" | "4" | "mqttv311" | "v311" => Ok(Version::V311),
        "31" | "3.1" | "3" | "mqttv31" | "v31" => Ok(Version::V31),
        _ => Err("write 5, 311 or 31".to_owned()),
    }
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "tlsv1.2" | "1.2" => Ok(TlsVersion::V1_2),
        "tlsv1.3" | "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("write tlsv1.2 or tlsv1.3; older ones are not safe".to_owned()),
    }
}

fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("write 0, 1 or 2".to_owned()),
    }
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    /// A year, so that no clock overflows.
    const SECONDS_MAX: f64 = 31_536_000.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(std::time::Duration::from_secs_f64(seconds))
        }
        _ => Err("write seconds, such as 5 or 0.5, at most a year".to_owned()),
    }
}

fn session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" | "never" => Ok(u32::MAX),
        _ => text
            .parse()
            .map_err(|_| "write seconds from 0 to 4294967295, or -1 for ever".to_owned()),
    }
}
