//! The brokers that Martlet is compared with: how each is found, started and, where unavoidable, configured.
//!
//! Everybody runs with defaults. What is set besides the address is what a broker needs to take the load at all, and is
//! printed below every table.

use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A broker that can be started.
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) version: String,
    /// What it was told beyond its defaults, and why.
    pub(super) settings: &'static str,
    program: PathBuf,
    /// `{port}`, `{dir}` and `{config}` are filled in.
    arguments: Vec<String>,
    /// The text of a configuration file, with the same places to fill in.
    config: Option<(&'static str, String)>,
    /// What stands before `://` in its URL.
    pub(super) scheme: &'static str,
    /// The program that makes its certificates, `certs/server.pem` and `.key`, for those that need some.
    certificates: Option<PathBuf>,
}

/// What a search came to.
pub(super) enum Found {
    Peer(Peer),
    Missing(String),
}

/// Martlet as it is where nothing has to outlive the process: what the targets were set against.
pub(super) const MEMORY: &str = "martlet-memory";

type Look = fn(&Path) -> Found;

/// All brokers known here; the first is the one that the others are compared with, and `null` is the floor.
pub(super) const KNOWN: &[(&str, Look)] = &[
    ("martlet", martlet),
    (MEMORY, martlet_in_memory),
    ("mosquitto", mosquitto),
    ("flashmq", flashmq),
    ("rumqttd", rumqttd),
    ("rmqttd", rmqttd),
    ("nats", nats),
    ("aedes", aedes),
    ("null", null),
];

/// The ways into a broker that are compared with `--doors`.
pub(super) const DOORS: &[(&str, Look)] = &[
    ("martlet", martlet),
    ("martlet-tls", |program| door(program, "martlet-tls", "tls")),
    ("martlet-ws", |program| door(program, "martlet-ws", "ws")),
    ("martlet-wss", |program| door(program, "martlet-wss", "wss")),
    ("martlet-quic", |program| {
        door(program, "martlet-quic", "quic")
    }),
    ("mosquitto", mosquitto),
    ("mosquitto-tls", mosquitto_tls),
];

impl Peer {
    fn new(name: &str, program: PathBuf, version: String, arguments: &[&str]) -> Self {
        Self {
            name: name.to_string(),
            version,
            settings: "defaults",
            program,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            config: None,
            scheme: "tcp",
            certificates: None,
        }
    }

    /// The same behind TLS, WebSocket or QUIC; `program` is the `martlet` that makes certificates.
    fn over(mut self, scheme: &'static str, program: &Path) -> Self {
        self.scheme = scheme;
        self.certificates = (scheme != "ws").then(|| program.to_path_buf());
        self
    }

    /// `NAME=COMMAND`.
    pub(super) fn from_command(text: &str) -> Result<Self, Error> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("--broker-command {text}: write NAME=COMMAND"))?;
        let mut words = command.split_whitespace();
        let program = words
            .next()
            .ok_or_else(|| format!("{name}: the command is empty"))?;
        let arguments: Vec<&str> = words.collect();
        if !command.contains("{port}") {
            return Err(format!("{name}: the command must say where {{port}} goes").into());
        }
        let mut peer = Self::new(
            name,
            PathBuf::from(program),
            command.to_string(),
            &arguments,
        );
        peer.settings = "as the command says";
        Ok(peer)
    }

    /// Whether this is the floor and no broker.
    pub(super) fn is_null(&self) -> bool {
        self.name == "null"
    }

    /// Whether this is Martlet without a store, which differs in some rows only.
    pub(super) fn is_in_memory(&self) -> bool {
        self.name == MEMORY
    }

    /// The command that starts it, with its configuration written and its certificates made.
    pub(super) fn command(&self, port: u16, folder: &Path) -> Result<Command, Error> {
        let folder_text = folder.display().to_string();
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{dir}", &folder_text)
        };
        if let Some(martlet) = &self.certificates {
            let mut init = Command::new(martlet);
            let made = init.args(["init", "--tls"]).current_dir(folder).output()?;
            if !made.status.success() {
                let words = String::from_utf8_lossy(&made.stderr);
                return Err(format!("martlet init --tls: {words}").into());
            }
        }
        let mut config_path = String::new();
        if let Some((name, text)) = &self.config {
            let path = folder.join(name);
            fs::write(&path, fill(text))?;
            config_path = path.display().to_string();
        }
        let mut command = Command::new(&self.program);
        // What is set for another Martlet on this machine is no default.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("MARTLET_") {
                command.env_remove(variable);
            }
        }
        for argument in &self.arguments {
            command.arg(fill(argument).replace("{config}", &config_path));
        }
        Ok(command)
    }
}

fn martlet(program: &Path) -> Found {
    Found::Peer(Peer::new(
        "martlet",
        program.to_path_buf(),
        version(program, &["--version"]),
        &["serve", "--listen", "tcp://127.0.0.1:{port}"],
    ))
}

fn martlet_in_memory(program: &Path) -> Found {
    let listen = "tcp://127.0.0.1:{port}";
    let arguments = ["serve", "--storage", "memory", "--listen", listen];
    let mut peer = Peer::new(
        MEMORY,
        program.to_path_buf(),
        version(program, &["--version"]),
        &arguments,
    );
    peer.settings = "nothing outlives the process, as with Mosquitto's defaults";
    Found::Peer(peer)
}

/// Martlet by another way than plain TCP.
fn door(program: &Path, name: &str, scheme: &'static str) -> Found {
    let listen = format!("{scheme}://127.0.0.1:{{port}}");
    let mut arguments = vec!["serve", "--listen", &listen];
    if scheme == "quic" {
        // Where it is seen that the broker is there: the same port of TCP.
        arguments.extend(["--listen", "tcp://127.0.0.1:{port}"]);
    }
    if scheme != "ws" {
        let files = [
            "--tls-cert",
            "certs/server.pem",
            "--tls-key",
            "certs/server.key",
        ];
        arguments.extend(files);
    }
    let told = version(program, &["--version"]);
    let peer = Peer::new(name, program.to_path_buf(), told, &arguments);
    Found::Peer(peer.over(scheme, program))
}

fn null(program: &Path) -> Found {
    let mut peer = Peer::new(
        "null",
        program.to_path_buf(),
        "the null relay of martlet bench".to_string(),
        &["bench", "--null-relay", "127.0.0.1:{port}"],
    );
    peer.settings = "no broker: passes bytes on with the least work there is";
    Found::Peer(peer)
}

fn mosquitto(_: &Path) -> Found {
    let Some(program) = find("mosquitto") else {
        return Found::Missing("not installed; on Debian: apt-get install mosquitto".to_string());
    };
    // `-h` is its way to say the version; it ends with a code of its own.
    let help = version(&program, &["-h"]);
    let mut peer = Peer::new("mosquitto", program, help, &["-c", "{config}"]);
    peer.settings = "anonymous clients; no limit of queued and in-flight messages, because 2.0.11 with its defaults does \
        not complete 1,000 to 1 at QoS 1, nor QoS 2 with 100 messages of a publisher in flight (20 complete)";
    peer.config = Some((
        "mosquitto.conf",
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
            .to_string(),
    ));
    Found::Peer(peer)
}

fn mosquitto_tls(program: &Path) -> Found {
    let Found::Peer(mut peer) = mosquitto(program) else {
        return mosquitto(program);
    };
    peer.name = "mosquitto-tls".to_string();
    peer.settings =
        "as mosquitto; user root, because only its owner may read the key that martlet init makes";
    if let Some((_, text)) = &mut peer.config {
        text.push_str(
            "user root\ncertfile {dir}/certs/server.pem\nkeyfile {dir}/certs/server.key\n",
        );
    }
    Found::Peer(peer.over("tls", program))
}

fn flashmq(_: &Path) -> Found {
    let Some(program) = find("flashmq") else {
        return Found::Missing("not installed; see www.flashmq.org".to_string());
    };
    let told = version(&program, &["--version"]);
    let mut peer = Peer::new("flashmq", program, told, &["--config-file", "{config}"]);
    peer.settings = "anonymous clients; storage in the temporary folder";
    peer.config = Some((
        "flashmq.conf",
        "allow_anonymous true\nlog_file {dir}/flashmq.log\nstorage_dir {dir}\n\
         listen {\n  protocol mqtt\n  inet_protocol ip4\n  inet4_bind_address 127.0.0.1\n  port {port}\n}\n"
            .to_string(),
    ));
    Found::Peer(peer)
}

fn rumqttd(_: &Path) -> Found {
    let Some(program) = find("rumqttd") else {
        return Found::Missing("not installed; try: cargo install rumqttd".to_string());
    };
    let told = version(&program, &["--version"]);
    let mut peer = Peer::new("rumqttd", program, told, &["-c", "{config}"]);
    peer.settings = "the router of its example configuration, with seats for all clients; MQTT 3.1.1 and 5 on one port each";
    peer.config = Some((
        "rumqttd.toml",
        "id = 0\n[router]\nid = 0\nmax_connections = 20010\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\
         [v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 1000\n\
         dynamic_filters = true\n"
            .to_string(),
    ));
    Found::Peer(peer)
}

fn rmqttd(_: &Path) -> Found {
    let Some(program) = find("rmqttd") else {
        return Found::Missing("not installed; try: cargo install rmqttd".to_string());
    };
    let told = version(&program, &["--version"]);
    let mut peer = Peer::new("rmqttd", program, told, &["-f", "{config}"]);
    peer.settings = "anonymous clients; log to a file of the temporary folder";
    peer.config = Some((
        "rmqtt.toml",
        "[log]\nto = \"file\"\nlevel = \"error\"\ndir = \"{dir}\"\nfile = \"rmqtt.log\"\n\
         [listener.tcp.external]\naddr = \"127.0.0.1:{port}\"\nallow_anonymous = true\n"
            .to_string(),
    ));
    Found::Peer(peer)
}

fn nats(_: &Path) -> Found {
    let Some(program) = find("nats-server") else {
        return Found::Missing("not installed; on Debian: apt-get install nats-server".to_string());
    };
    let told = version(&program, &["--version"]);
    let mut peer = Peer::new("nats", program, told, &["-c", "{config}"]);
    peer.settings = "JetStream, which its MQTT needs, in the temporary folder; speaks MQTT 3.1.1 up to QoS 1 (2 since 2.10)";
    peer.config = Some((
        "nats.conf",
        "server_name: bench\nhost: 127.0.0.1\nport: -1\njetstream { store_dir: \"{dir}/jetstream\" }\n\
         mqtt { host: 127.0.0.1, port: {port} }\n"
            .to_string(),
    ));
    Found::Peer(peer)
}

fn aedes(_: &Path) -> Found {
    let Some(node) = find("node") else {
        return Found::Missing("Node.js is not installed".to_string());
    };
    // Where npm puts what is installed for everybody, or a folder that was named.
    let named = std::env::var_os("BENCH_AEDES").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| {
        let root = version(Path::new("npm"), &["root", "-g"]);
        PathBuf::from(root).join("aedes")
    });
    let Ok(manifest) = fs::read_to_string(folder.join("package.json")) else {
        return Found::Missing(
            "not installed; try: npm install -g aedes, or name its folder in BENCH_AEDES"
                .to_string(),
        );
    };
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    let told = manifest["version"].as_str().unwrap_or("of unknown version");
    let main = manifest["main"].as_str().unwrap_or("aedes.js");
    let mut peer = Peer::new("aedes", node, format!("aedes {told}"), &["{config}"]);
    peer.settings = "its memory persistence, in a script of a few lines";
    let path = folder.join(main);
    peer.config = Some((
        "aedes.mjs",
        format!(
            "import * as module from '{}';\nimport net from 'node:net';\n\
             const Aedes = module.Aedes ?? module.default?.Aedes ?? module.default;\n\
             const broker = Aedes.createBroker ? await Aedes.createBroker() : new Aedes();\n\
             net.createServer(broker.handle).listen({{port}}, '127.0.0.1');\n",
            path.display()
        ),
    ));
    Found::Peer(peer)
}

/// The first line that a program says about itself.
fn version(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// A program on the path, or where Debian keeps servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_template_is_taken_apart() {
        let peer = Peer::from_command("mine=mybroker -p {port} -d {dir}").expect("it is right");
        let command = peer
            .command(1234, Path::new("/tmp/x"))
            .expect("there is no file to write");
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(
            (peer.name.as_str(), words),
            (
                "mine",
                vec![
                    "-p".as_ref(),
                    "1234".as_ref(),
                    "-d".as_ref(),
                    "/tmp/x".as_ref()
                ]
            )
        );
        for wrong in ["", "=x {port}", "mine=", "mine=mybroker"] {
            assert!(Peer::from_command(wrong).is_err(), "{wrong}");
        }
    }
}
