//! From the first byte to CONNACK: nothing of a session is touched before authentication has succeeded, and one
//! deadline covers it all, whatever bytes arrive.

use std::sync::Arc;

use martlet_codec::{
    ConnAck, Connect, ErrorKind, Frame, Packet, Property, PropsBuf, QoS, ReasonCode, Split,
    Version, Will as ConnectWill, split,
};
use martlet_session::{Link, Mount};
use martlet_transport::{ByteStream, close_gracefully};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Arrival, Violation,
    driver::{Connection, Start},
    metered::{Extras, name_of},
    publish::{check_user_properties, refuses_topic},
    visit::{VISIT_MILLIS, visit_time},
};
use crate::{
    config::Config,
    core::Core,
    counters::{Event, Limit},
    hooks::{ConnectRequest, Decision, Identity},
    lifecycle::{Attach, Attached},
    session::Will,
};

/// Read at once while CONNECT is incomplete.
const READ_BYTES: usize = 2_048;

/// Why there will be no connected client.
enum Refused {
    /// Close without a word: not MQTT, or a protocol that has no word for it.
    Silently(String),
    /// CONNACK in the form of `version`, then close.
    Told(Version, Violation),
}

/// Runs the handshake; `None` when the connection was refused or lost.
pub(crate) async fn run<S: ByteStream>(
    core: Arc<Core>,
    mut stream: S,
    arrival: Arrival,
) -> Option<Connection<S>> {
    let config = arrival.terms.config(core.config.load_full());
    let deadline = arrival.started + config.limits.connect_timeout;
    let mut bytes = Vec::new();
    let handshake = async {
        let len = read_connect(&core, &mut stream, &mut bytes, &config).await?;
        let Split::Frame(frame) =
            split(&bytes, u32::MAX).map_err(|error| Refused::Silently(error.to_string()))?
        else {
            return Err(Refused::Silently("incomplete CONNECT".into()));
        };
        let connect = decode(frame)?;
        // Whoever has said CONNECT is answered, also when the time is over.
        let accepted = accept(&core, &config, &connect, &arrival);
        let accepted = tokio::time::timeout_at(deadline, accepted)
            .await
            .unwrap_or_else(|_| Err(late(&core, "nobody decided about this client")))
            .map_err(|violation| Refused::Told(connect.version, violation))?;
        Ok((
            len,
            accepted,
            connect.version,
            connect.bridge,
            connect.clean_start,
            connect.keep_alive_secs,
        ))
    };
    let refused = match tokio::time::timeout_at(deadline, handshake).await {
        Ok(Ok((len, accepted, version, bridge, ..))) => {
            return enter(
                core,
                stream,
                config,
                accepted,
                version,
                bridge,
                bytes.split_off(len),
            );
        }
        Ok(Err(refused)) => refused,
        Err(_) => {
            core.counters.limit(Limit::ConnectTimeout);
            Refused::Silently("no complete CONNECT within limits.connect_timeout".into())
        }
    };
    refuse(&core, stream, &arrival, refused, &bytes).await;
    None
}

/// The client did its part in time, and the broker did not.
fn late(core: &Core, what: &str) -> Violation {
    core.counters.limit(Limit::ConnectTimeout);
    let text = format!("{what} within limits.connect_timeout");
    Violation::new(ReasonCode::ServerUnavailable, text)
}

/// Reads until CONNECT is complete; returns its length.
async fn read_connect<S: ByteStream>(
    core: &Core,
    stream: &mut S,
    bytes: &mut Vec<u8>,
    config: &Config,
) -> Result<usize, Refused> {
    let max = u32::try_from(config.limits.connect_packet_size_max).unwrap_or(u32::MAX);
    loop {
        bytes.reserve(READ_BYTES);
        let mut limited = (&mut *stream).take(READ_BYTES as u64);
        match limited.read_buf(bytes).await {
            Ok(0) => return Err(Refused::Silently("closed before CONNECT".into())),
            Ok(read) => core.counters.bytes_received(read),
            Err(error) => return Err(Refused::Silently(error.to_string())),
        }
        if let Some(what) = no_connect(bytes) {
            return Err(Refused::Silently(what.into()));
        }
        match split(bytes, max) {
            Ok(Split::Frame(frame)) => {
                core.counters.packet_received(frame.first >> 4);
                return Ok(frame.len);
            }
            Ok(Split::Partial { .. }) => {}
            Err(error) if error.reason_code() == ReasonCode::PacketTooLarge => {
                core.counters.limit(Limit::ConnectPacketSizeMax);
                let text =
                    format!("CONNECT larger than limits.connect_packet_size_max ({max} bytes)");
                return Err(if speaks_v5(bytes) {
                    Refused::Told(
                        Version::V5,
                        Violation::new(ReasonCode::PacketTooLarge, text),
                    )
                } else {
                    Refused::Silently(text)
                });
            }
            Err(error) => return Err(Refused::Silently(error.to_string())),
        }
    }
}

/// What the first bytes are, where they are no CONNECT.
fn no_connect(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x16, 3, ..] => Some("it speaks TLS, which needs a tls:// listener"),
        [b'G', b'E', b'T', b' ', ..] => Some("it speaks HTTP, which needs a ws:// listener"),
        [first, ..] if first >> 4 != 1 => Some("the first packet is not CONNECT [MQTT-3.1.0-1]"),
        _ => None,
    }
}

/// Whether the beginning of a CONNECT names version 5, so that its sender understands more than a close.
fn speaks_v5(bytes: &[u8]) -> bool {
    // The remaining length ends with the first byte below 0x80 behind the packet type.
    let length_end = bytes.iter().skip(1).position(|byte| byte & 0x80 == 0);
    let body = length_end.and_then(|at| bytes.get(at + 2..));
    body.is_some_and(|body| body.starts_with(b"\x00\x04MQTT\x05"))
}

fn decode(frame: Frame<'_>) -> Result<Connect<'_>, Refused> {
    Connect::decode(frame).map_err(|error| match error.kind {
        // Whoever speaks a later version reads the form of version 5; older ones read return code 1.
        ErrorKind::UnsupportedProtocolVersion(level) => {
            let version = if level & 0x7F > 5 {
                Version::V5
            } else {
                Version::V311
            };
            Refused::Told(version, error.into())
        }
        ErrorKind::UnsupportedProtocolName => Refused::Silently(error.to_string()),
        // A malformed CONNECT of version 3 is closed without CONNACK [MQTT-3.1.4-1 of 3.1.1].
        _ if frame.body.get(..7) == Some(b"\x00\x04MQTT\x05") => {
            Refused::Told(Version::V5, error.into())
        }
        _ => Refused::Silently(error.to_string()),
    })
}

/// What an accepted CONNECT comes to.
struct Accepted {
    attached: Attached,
    identity: Arc<Identity>,
    link: Link,
    connack: PropsBuf,
    problem_information: bool,
    expiry_secs: u32,
    keep_alive_secs: u16,
    clean_start: bool,
    extras: Option<Box<Extras>>,
}

async fn accept(
    core: &Arc<Core>,
    config: &Config,
    connect: &Connect<'_>,
    arrival: &Arrival,
) -> Result<Accepted, Violation> {
    let Arrival {
        origin,
        terms,
        presented,
        ..
    } = arrival;
    let refused = |reason, text: &str| Err(Violation::new(reason, text));
    if core.is_stopping() {
        return refused(
            ReasonCode::ServerShuttingDown,
            "the broker is shutting down",
        );
    }
    if core.store_failed() {
        return refused(ReasonCode::ServerUnavailable, "the store has failed");
    }
    if (connect.version as u8) < config.mqtt.minimum_protocol_level {
        core.counters.limit(Limit::MinimumProtocolLevel);
        return refused(
            ReasonCode::UnsupportedProtocolVersion,
            "below mqtt.minimum_protocol_level",
        );
    }
    if !terms.serves(connect.version) {
        return refused(
            ReasonCode::UnsupportedProtocolVersion,
            "this listener does not accept this version: listeners.versions",
        );
    }
    if core.memory.is_above() {
        core.counters.limit(Limit::MemoryHighWater);
        return refused(
            ReasonCode::QuotaExceeded,
            "the broker uses more memory than limits.memory_high_water",
        );
    }
    let client_id = match &presented.client_id {
        // What the transport has verified binds the client.
        Some(own) if connect.client_id.is_empty() || connect.client_id == &**own => Arc::clone(own),
        Some(_) => {
            return refused(
                ReasonCode::ClientIdentifierNotValid,
                "the client id must be the one of the certificate",
            );
        }
        None => client_id(core, config, connect)?,
    };
    let mount = terms.mount.as_ref();
    let session_name = session_name(core, mount, &client_id)?;
    let username: Option<Arc<str>> = match &presented.username {
        Some(verified) => Some(Arc::clone(verified)),
        None => connect.username.map(Arc::from),
    };
    if connect.props.authentication_method().is_some() {
        return refused(
            ReasonCode::BadAuthenticationMethod,
            "no authentication method is configured",
        );
    }
    let banned = || {
        Violation::new(
            ReasonCode::Banned,
            "this client connected too often and has to wait: flapping.connects_max",
        )
    };
    let (flapping, name) = (&config.flapping, name_of(username.as_ref()));
    if core
        .flapping
        .is_banned(&session_name, &name, flapping, core.clock.now())
    {
        return Err(banned());
    }
    check_user_properties(core, config, connect.props)?;
    let mounted_will = mount
        .zip(connect.will)
        .map(|(mount, will)| (mount.full(will.topic), mount.full_props(will.props)));
    let mut connect = *connect;
    if let (Some(will), Some((topic, props))) = (&mut connect.will, &mounted_will) {
        will.topic = topic;
        will.props = props.as_props();
    }
    let connect = &connect;
    if let Some(will) = &connect.will {
        check_user_properties(core, config, will.props)?;
        check_will(core, config, will)?;
    }
    let request = ConnectRequest {
        origin: origin.clone(),
        client_id: Arc::clone(&client_id),
        version: connect.version,
        username: username.as_deref().map(Into::into),
        password: connect.password.map(Into::into),
        presented: presented.clone(),
    };
    let access = core.access.load_full();
    let decision = match access.authenticator.authenticate(request) {
        Decision::Ready(decision) => decision,
        Decision::Later(decision) => decision.await,
    };
    let rights = decision.map_err(|refusal| {
        core.counters.event(Event::AuthFailure);
        Violation::new(refusal.reason, refusal.text)
    })?;
    if !terms.admits(username.as_deref()) {
        core.counters.event(Event::AuthFailure);
        return refused(
            ReasonCode::NotAuthorized,
            "this listener does not admit this user: listeners.users or listeners.allow_anonymous",
        );
    }
    let identity = Identity {
        client_id: session_name,
        username: username.filter(|name| !name.is_empty()),
        origin: origin.clone(),
        rights,
    };
    if let Some(will) = &connect.will {
        let allowed = match access
            .authorizer
            .publish(&identity, will.topic, will.qos, will.retain)
        {
            Decision::Ready(allowed) => allowed,
            Decision::Later(allowed) => allowed.await,
        };
        if !allowed {
            return refused(
                ReasonCode::NotAuthorized,
                "not authorized to publish the will",
            );
        }
    }
    if core
        .flapping
        .connects(&identity.client_id, &name, flapping, core.clock.now())
    {
        core.counters.limit(Limit::FlappingConnectsMax);
        return Err(banned());
    }
    let user = match &identity.username {
        Some(name) => {
            let session = core.directory.find(&identity.client_id);
            let replaces = session.is_some_and(|session| {
                let same = session.state.lock().username.as_ref() == Some(name);
                same && session.is_connected()
            });
            core.user_place(config, name, replaces).map_err(|limit| {
                let text = format!("this user has enough connections: {}", limit.name());
                Violation::new(ReasonCode::QuotaExceeded, text)
            })?
        }
        None => None,
    };
    let extras = Extras::new(config, terms, user);
    attach(core, config, connect, Arc::new(identity), arrival, extras).await
}

async fn attach(
    core: &Arc<Core>,
    config: &Config,
    connect: &Connect<'_>,
    identity: Arc<Identity>,
    arrival: &Arrival,
    extras: Option<Box<Extras>>,
) -> Result<Accepted, Violation> {
    let terms = &arrival.terms;
    let mqtt = &config.mqtt;
    let props = &connect.props;
    let max_keep_alive = mqtt.keep_alive_max_secs;
    let keep_alive_secs = match connect.keep_alive_secs {
        asked if max_keep_alive > 0 && (asked == 0 || asked > max_keep_alive) => max_keep_alive,
        asked => asked,
    };
    let asked_expiry = match connect.version {
        Version::V5 => props.session_expiry_secs().unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => mqtt.session_expiry_v3_secs,
    };
    let expiry_secs = asked_expiry.min(mqtt.session_expiry_max_secs);
    let link = Link {
        version: connect.version,
        receive_maximum: props.receive_maximum().unwrap_or(u16::MAX),
        packet_bytes_max: props.maximum_packet_size().unwrap_or(u32::MAX),
        topic_alias_maximum: props
            .topic_alias_maximum()
            .unwrap_or(0)
            .min(mqtt.topic_alias_outgoing_maximum),
    };
    let mut connack = PropsBuf::new();
    if connect.version.is_v5() {
        let mount = terms.mount.as_ref();
        let client_id = mount.map_or(&*identity.client_id, |mount| {
            mount.local(&identity.client_id)
        });
        announce(config, connect, client_id, &mut connack);
        if expiry_secs != asked_expiry {
            connack.push(Property::SessionExpiry(expiry_secs));
        }
        if keep_alive_secs != connect.keep_alive_secs {
            connack.push(Property::ServerKeepAlive(keep_alive_secs));
        }
    }
    let will = connect.will.as_ref().map(|will| stored_will(config, will));
    let attached = core
        .attach(Attach {
            identity: Arc::clone(&identity),
            clean_start: connect.clean_start,
            expiry_secs,
            will,
            silence_max_millis: u32::from(keep_alive_secs) * 1_500,
            mount: terms.mount.clone(),
        })
        .await
        .map_err(|reason| {
            core.counters.limit(Limit::SessionsMax);
            Violation::new(reason, "more sessions than limits.sessions_max")
        })?;
    let deadline = arrival.started + config.limits.connect_timeout;
    tokio::time::timeout_at(deadline, core.committed(attached.lsn))
        .await
        .map_err(|_| late(core, "the store did not take the session"))?;
    Ok(Accepted {
        attached,
        identity,
        link,
        connack,
        problem_information: props.request_problem_information().unwrap_or(true),
        expiry_secs,
        keep_alive_secs,
        clean_start: connect.clean_start,
        extras,
    })
}

fn client_id(core: &Core, config: &Config, connect: &Connect<'_>) -> Result<Arc<str>, Violation> {
    let id = connect.client_id;
    if id.len() > config.limits.client_id_bytes_max {
        core.counters.limit(Limit::ClientIdBytesMax);
        let text = format!(
            "client id longer than limits.client_id_bytes_max ({} bytes)",
            config.limits.client_id_bytes_max
        );
        return Err(Violation::new(ReasonCode::ClientIdentifierNotValid, text));
    }
    if !id.is_empty() {
        return Ok(Arc::from(id));
    }
    if connect.version == Version::V31 {
        return Err(Violation::new(
            ReasonCode::ClientIdentifierNotValid,
            "MQTT 3.1 needs a client id",
        ));
    }
    if connect.version == Version::V311 && !connect.clean_start {
        let text = "an empty client id needs Clean Session 1 [MQTT-3.1.3-8]";
        return Err(Violation::new(ReasonCode::ClientIdentifierNotValid, text));
    }
    loop {
        let assigned = format!("auto-{:016X}{:016X}", core.random_u64(), core.random_u64());
        if core.directory.find(&assigned).is_none() {
            return Ok(Arc::from(assigned));
        }
    }
}

/// What the session is called in the broker. Clients with a mount point have names of their own: what a client elsewhere is
/// called is no matter of theirs, and theirs none of its.
fn session_name(
    core: &Core,
    mount: Option<&Mount>,
    client_id: &Arc<str>,
) -> Result<Arc<str>, Violation> {
    let own = mount.map_or("", Mount::as_str);
    let name = match mount {
        Some(mount) => mount.full(client_id).into(),
        None => Arc::clone(client_id),
    };
    let of_others = |other: &Arc<str>| other.len() > own.len() && name.starts_with(&**other);
    if core.mounts.load().iter().any(of_others) {
        return Err(Violation::new(
            ReasonCode::ClientIdentifierNotValid,
            "the client id begins with a mount point: it belongs to the clients of another listener",
        ));
    }
    Ok(name)
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]
fn check_will(core: &Core, config: &Config, will: &ConnectWill<'_>) -> Result<(), Violation> {
    if will.qos > config.mqtt.maximum_qos {
        core.counters.limit(Limit::MaximumQos);
        return Err(Violation::new(
            ReasonCode::QosNotSupported,
            "will QoS above mqtt.maximum_qos",
        ));
    }
    if will.retain && !config.mqtt.retain_available {
        core.counters.limit(Limit::RetainAvailable);
        return Err(Violation::new(
            ReasonCode::RetainNotSupported,
            "mqtt.retain_available is false",
        ));
    }
    if let Some(violation) = refuses_topic(core, config, will.topic) {
        return Err(violation);
    }
    Ok(())
}

fn stored_will(config: &Config, will: &ConnectWill<'_>) -> Will {
    let own = |property: &Property<'_>| {
        matches!(
            property,
            Property::WillDelay(_) | Property::MessageExpiry(_)
        )
    };
    let mut props = PropsBuf::new();
    for property in will.props.iter().filter(|property| !own(property)) {
        props.push(property);
    }
    Will {
        topic: will.topic.into(),
        props: props.as_props().as_bytes().into(),
        payload: will.payload.into(),
        qos: will.qos,
        retain: will.retain,
        expiry_secs: will.props.message_expiry_secs(),
        delay_secs: will
            .props
            .will_delay_secs()
            .unwrap_or(0)
            .min(config.mqtt.will_delay_max_secs),
    }
}

/// What CONNACK says about the broker, where it is not what the protocol assumes anyway.
fn announce(config: &Config, connect: &Connect<'_>, client_id: &str, connack: &mut PropsBuf) {
    let mqtt = &config.mqtt;
    if connect.client_id.is_empty() {
        connack.push(Property::AssignedClientId(client_id));
    }
    if mqtt.receive_maximum != u16::MAX {
        connack.push(Property::ReceiveMaximum(mqtt.receive_maximum));
    }
    if mqtt.maximum_qos != QoS::ExactlyOnce {
        connack.push(Property::MaximumQos(mqtt.maximum_qos));
    }
    if let Ok(size) = u32::try_from(mqtt.maximum_packet_size) {
        connack.push(Property::MaximumPacketSize(size));
    }
    if mqtt.topic_alias_maximum > 0 {
        connack.push(Property::TopicAliasMaximum(mqtt.topic_alias_maximum));
    }
    if !mqtt.retain_available {
        connack.push(Property::RetainAvailable(false));
    }
    if !mqtt.wildcard_subscription_available {
        connack.push(Property::WildcardSubscriptionAvailable(false));
    }
    if !mqtt.subscription_identifier_available {
        connack.push(Property::SubscriptionIdsAvailable(false));
    }
    if !mqtt.shared_subscription_available {
        connack.push(Property::SharedSubscriptionAvailable(false));
    }
    let asked = connect
        .props
        .request_response_information()
        .unwrap_or(false);
    if (asked || config.compat.always_return_response_info) && !mqtt.response_information.is_empty()
    {
        let information = format!("{}{client_id}", mqtt.response_information);
        connack.push(Property::ResponseInformation(&information));
    }
}

/// CONNACK 0x00, what was in flight, and the connected client.
fn enter<S: ByteStream>(
    core: Arc<Core>,
    stream: S,
    config: Arc<Config>,
    accepted: Accepted,
    version: Version,
    bridge: bool,
    unread: Vec<u8>,
) -> Option<Connection<S>> {
    let Accepted {
        attached,
        identity,
        link,
        connack,
        problem_information,
        expiry_secs,
        keep_alive_secs,
        clean_start,
        extras,
    } = accepted;
    let (present, generation) = (attached.present, attached.generation);
    let (session, epoch) = attached.into_parts()?;
    let packet = Packet::ConnAck(ConnAck {
        session_present: present,
        reason: ReasonCode::Success,
        props: connack.as_props(),
    });
    let mut bytes = Vec::new();
    // CONNACK consists of what was checked above; it always encodes.
    let _ = packet.encode(version, &mut bytes);
    let origin = &identity.origin;
    session.saw_client(core.clock.now());
    tracing::info!(
        event = "client_connected",
        client = &*identity.client_id,
        user = identity.username.as_deref().unwrap_or_default(),
        peer = &*origin.peer,
        listener = &*origin.listener,
        version = ?version,
        clean = clean_start,
        keep_alive = keep_alive_secs,
        session_present = present,
        "New client connected from {} as {} (p{}, c{}, k{}, u'{}').",
        origin.peer,
        identity.client_id,
        version as u8,
        u8::from(clean_start),
        keep_alive_secs,
        identity.username.as_deref().unwrap_or_default(),
    );
    core.counters.client_connected();
    core.counters.packets_sent(&bytes);
    core.hooks.connected(&identity, present);
    core.go_online(&session, epoch, link, &bytes);
    let first_visit = u64::from(keep_alive_secs) * 1_500;
    let first_visit = if first_visit == 0 {
        VISIT_MILLIS
    } else {
        first_visit.min(VISIT_MILLIS)
    };
    core.timers.visit_at(
        visit_time(core.clock.now(), first_visit),
        &session,
        epoch,
        generation,
    );
    Some(Connection::new(Start {
        core,
        stream,
        session,
        identity,
        config,
        epoch,
        version,
        bridge,
        problem_information,
        packet_bytes_max: link.packet_bytes_max,
        connect_expiry_secs: expiry_secs,
        unread,
        extras,
    }))
}

/// Tells the client why, where its protocol version has a word for it, and closes so that it can be read.
async fn refuse<S: ByteStream>(
    core: &Core,
    mut stream: S,
    arrival: &Arrival,
    refused: Refused,
    bytes: &[u8],
) {
    let text = match &refused {
        Refused::Silently(text) => text.as_str(),
        Refused::Told(_, violation) => violation.text.as_str(),
    };
    // Whoever did not even say CONNECT may come back as often as it likes, and must not fill the disk by it.
    let not_logged = match &refused {
        Refused::Silently(_) => core.strangers.lock().line(core.clock.now()),
        Refused::Told(..) => Some(0),
    };
    if let Some(not_logged) = not_logged {
        let (peer, listener) = (&*arrival.origin.peer, &*arrival.origin.listener);
        let connect = connect_of(bytes);
        let client = connect.map_or("<unknown>", |connect| connect.client_id);
        let user = (arrival.presented.username.as_deref())
            .or(connect.and_then(|connect| connect.username))
            .unwrap_or_default();
        let named = if client.is_empty() {
            "<unnamed>"
        } else {
            client
        };
        let by = if user.is_empty() {
            String::new()
        } else {
            format!(" (u'{user}')")
        };
        tracing::warn!(
            event = "connect_refused",
            client,
            user,
            peer,
            listener,
            reason = text,
            not_logged,
            "Client {named} from {peer}{by} refused: {text}",
        );
    }
    core.counters.connect_refused(match &refused {
        Refused::Silently(_) => ReasonCode::MalformedPacket,
        Refused::Told(_, violation) => violation.reason,
    });
    if let Refused::Told(version, violation) = &refused {
        let words = PropsBuf::new().with(Property::ReasonString(&violation.text));
        let max = max_packet_of(bytes);
        let mut packet = ConnAck {
            session_present: false,
            reason: violation.reason,
            props: words.as_props(),
        };
        if Packet::ConnAck(packet)
            .encoded_len(*version)
            .is_ok_and(|len| len > max)
        {
            packet.props = martlet_codec::Props::EMPTY;
        }
        let mut connack = Vec::new();
        if Packet::ConnAck(packet)
            .encode(*version, &mut connack)
            .is_ok()
        {
            // The client may be gone already; then there is nobody to tell.
            if stream.write_all(&connack).await.is_ok() && stream.flush().await.is_ok() {
                core.counters.packets_sent(&connack);
                core.counters.bytes_sent(connack.len());
            }
        }
    }
    close_gracefully(
        stream,
        core.config.load().limits.connect_timeout.min(LINGER),
    )
    .await;
}

/// How long a refused client is given to read why.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

fn connect_of(bytes: &[u8]) -> Option<Connect<'_>> {
    match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => Connect::decode(frame).ok(),
        _ => None,
    }
}

fn max_packet_of(bytes: &[u8]) -> usize {
    connect_of(bytes)
        .and_then(|connect| connect.props.maximum_packet_size())
        .map_or(usize::MAX, |max| max as usize)
}
