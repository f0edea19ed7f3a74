#!/usr/bin/env python3
"""paho-mqtt against a broker: MQTT 3.1, 3.1.1 and 5.0 over TCP, TLS, WebSocket and WebSocket over TLS."""

import queue
import socket
import ssl
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import LARGE, PATIENCE, arguments, check, expect, unique

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class Session:
    """A connected client whose deliveries are taken from a queue."""

    def __init__(self, address, version, client_id=None, clean=True, will=None, transport="tcp", ca=None):
        protocol = VERSIONS[version]
        five = protocol == mqtt.MQTTv5
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id or unique("pc"),
            protocol=protocol,
            clean_session=None if five else clean,
            transport=transport,
            reconnect_on_failure=False,
        )
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        if ca:
            self.client.tls_set(ca_certs=ca)
        if will:
            topic, payload = will
            self.client.will_set(topic, payload, qos=1)
        self.messages = queue.Queue()
        self.acknowledged = queue.Queue()
        self.connected = threading.Event()
        self.client.on_connect = self.on_connect
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_subscribe = lambda client, data, mid, codes, properties: self.acknowledged.put(codes)
        options = {}
        if five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean else 300
            options = {"clean_start": clean, "properties": properties}
        self.client.connect(*address, keepalive=60, **options)
        self.client.loop_start()
        if not self.connected.wait(PATIENCE):
            raise TimeoutError("no CONNACK")
        if self.code.is_failure:
            raise ConnectionError(str(self.code))

    def on_connect(self, client, data, flags, code, properties):
        self.code = code
        self.session_present = flags.session_present
        self.connected.set()

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        codes = self.acknowledged.get(timeout=PATIENCE)
        expect([code.value for code in codes], [qos])

    def publish(self, topic, payload, qos, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(PATIENCE)
        if not info.is_published():
            raise TimeoutError("no acknowledgement of the publish")

    def receive(self):
        return self.messages.get(timeout=PATIENCE)

    def drop(self):
        """Ends the connection without DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def qos(address, version, level, transport="tcp", ca=None):
    session = Session(address, version, transport=transport, ca=ca)
    topic = unique("qos/")
    session.subscribe(topic, level)
    for number in range(10):
        session.publish(topic, f"m{number}", level)
    received = [session.receive() for _ in range(10)]
    expect([(m.payload.decode(), m.qos) for m in received], [(f"m{number}", level) for number in range(10)])
    session.close()


def retain(address, version):
    session = Session(address, version)
    topic = unique("retain/")
    session.publish(topic, b"kept", 1, retain=True)
    session.subscribe(topic, 1)
    message = session.receive()
    expect((message.payload, message.retain), (b"kept", True))
    session.publish(topic, b"", 1, retain=True)
    session.close()


def will(address, version):
    topic = unique("will/")
    watcher = Session(address, version)
    watcher.subscribe(topic, 1)
    Session(address, version, will=(topic, b"gone")).drop()
    expect(watcher.receive().payload, b"gone")
    watcher.close()


def resume(address, version):
    client_id, topic = unique("pr"), unique("resume/")
    first = Session(address, version, client_id, clean=False)
    expect(bool(first.session_present), False)
    first.subscribe(topic, 2)
    first.close()
    other = Session(address, version)
    other.publish(topic, b"one", 1)
    other.publish(topic, b"two", 2)
    other.close()
    second = Session(address, version, client_id, clean=False)
    if version != "3.1":
        # The flag does not exist in version 3.1.
        expect(bool(second.session_present), True)
    expect([second.receive().payload for _ in range(2)], [b"one", b"two"])
    second.close()
    Session(address, version, client_id, clean=True).close()


def large(address, version, transport="tcp", ca=None):
    session = Session(address, version, transport=transport, ca=ca)
    topic = unique("large/")
    session.subscribe(topic, 2)
    session.publish(topic, LARGE, 2)
    expect(session.receive().payload, LARGE)
    session.close()


def stranger(address, version):
    """A client that does not know the authority does not connect."""
    try:
        # The authorities of the system.
        Session(address, version, ca=ssl.get_default_verify_paths().openssl_cafile)
    except (ssl.SSLCertVerificationError, FileNotFoundError):
        return
    raise AssertionError("connected")


def main():
    given = arguments(__doc__)
    tcp = (given.host, given.port)
    for version in VERSIONS:
        check(f"{version} connect", lambda: Session(tcp, version).close())
        for level in (0, 1, 2):
            check(f"{version} QoS {level}", qos, tcp, version, level)
        check(f"{version} retain", retain, tcp, version)
        check(f"{version} will", will, tcp, version)
        check(f"{version} resume", resume, tcp, version)
        check(f"{version} 1 MiB", large, tcp, version)
    if given.ws_port:
        websocket = (given.host, given.ws_port)
        for version in ("3.1.1", "5.0"):
            check(f"{version} WebSocket QoS 2", qos, websocket, version, 2, "websockets")
            check(f"{version} WebSocket 1 MiB", large, websocket, version, "websockets")
    for name, port, transport in (("TLS", given.tls_port, "tcp"), ("WSS", given.wss_port, "websockets")):
        if port:
            secure = (given.host, port)
            for version in VERSIONS:
                for level in (0, 1, 2):
                    check(f"{version} {name} QoS {level}", qos, secure, version, level, transport, given.ca)
                check(f"{version} {name} 1 MiB", large, secure, version, transport, given.ca)
    if given.tls_port:
        check("TLS of an unknown authority", stranger, (given.host, given.tls_port), "5.0")


main()
