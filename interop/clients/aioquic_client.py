#!/usr/bin/env python3
"""aioquic against a broker: a QUIC that shares no code with the broker's. MQTT 3.1.1 and 5.0, one stream and several.

The packets are made here: what is tested is the mapping to streams, and aioquic knows no MQTT.
"""

import asyncio
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted

from harness import LARGE, PATIENCE, arguments, check, expect, unique

LEVELS = {"3.1.1": 4, "5.0": 5}
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)


class Protocol(QuicConnectionProtocol):
    """Remembers how the handshake went."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.handshake = None
        self.ended = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        if isinstance(event, ConnectionTerminated):
            self.ended.set()
        super().quic_event_received(event)


def text(value):
    value = value.encode()
    return len(value).to_bytes(2, "big") + value


def packet(kind, flags, body):
    length, left = bytearray(), len(body)
    while True:
        left, seven = divmod(left, 128)
        length.append(seven | (0x80 if left else 0))
        if not left:
            return bytes([kind << 4 | flags]) + bytes(length) + body


class Stream:
    """One stream, read packet by packet."""

    def __init__(self, reader, writer, level):
        self.reader, self.writer, self.level = reader, writer, level
        self.messages = []

    def properties(self):
        return b"\0" if self.level == 5 else b""

    def send(self, kind, flags=0, body=b""):
        self.writer.write(packet(kind, flags, body))

    async def receive(self):
        """The type of the next packet and its body."""

        async def read():
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return first, await self.reader.readexactly(length)

        first, body = await asyncio.wait_for(read(), PATIENCE)
        return first >> 4, first & 0x0F, body

    async def expect(self, kind, packet_id=None):
        """The next packet but messages, which may come at any time and are kept."""
        got, flags, body = await self.receive()
        while got == PUBLISH:
            self.messages.append((flags, body))
            got, flags, body = await self.receive()
        expect(got, kind)
        if packet_id is not None:
            expect(int.from_bytes(body[:2], "big"), packet_id)
        return body

    async def subscribe(self, topic, qos, packet_id=1):
        self.send(SUBSCRIBE, 2, packet_id.to_bytes(2, "big") + self.properties() + text(topic) + bytes([qos]))
        body = await self.expect(SUBACK, packet_id)
        expect(body[-1], qos)

    def publish(self, topic, payload, qos=0, packet_id=0):
        identifier = packet_id.to_bytes(2, "big") if qos else b""
        self.send(PUBLISH, qos << 1, text(topic) + identifier + self.properties() + payload)

    async def message(self):
        """Topic, payload, QoS and packet identifier of the next packet."""
        if self.messages:
            flags, body = self.messages.pop(0)
        else:
            kind, flags, body = await self.receive()
            expect(kind, PUBLISH)
        qos, length = flags >> 1 & 3, int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + length].decode(), 2 + length
        packet_id = int.from_bytes(body[at : at + 2], "big") if qos else 0
        at += 2 if qos else 0
        if self.level == 5:
            at += 1 + body[at]
        return topic, body[at:], qos, packet_id

    async def acknowledged(self, qos, packet_id):
        """The broker's half of an exchange that this side began."""
        if qos == 1:
            await self.expect(PUBACK, packet_id)
        elif qos == 2:
            await self.expect(PUBREC, packet_id)
            self.send(PUBREL, 2, packet_id.to_bytes(2, "big"))
            await self.expect(PUBCOMP, packet_id)

    async def acknowledge(self, qos, packet_id):
        """This side's half of an exchange that the broker began."""
        identifier = packet_id.to_bytes(2, "big")
        if qos == 1:
            self.send(PUBACK, 0, identifier)
        elif qos == 2:
            self.send(PUBREC, 0, identifier)
            await self.expect(PUBREL, packet_id)
            self.send(PUBCOMP, 0, identifier)


class Session:
    """A connected client: its control stream, and more on demand."""

    def __init__(self, address, version, ticket=None, tickets=None):
        host, port, ca = address
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["mqtt"], server_name="localhost")
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(ca)
        configuration.session_ticket = ticket
        self.level = LEVELS[version]
        handler = tickets.append if tickets is not None else None
        self.context = connect(
            host, port, configuration=configuration, create_protocol=Protocol, session_ticket_handler=handler
        )

    async def __aenter__(self):
        self.quic = await self.context.__aenter__()
        self.control = await self.open()
        level = self.level
        name = text("MQTT") + bytes([level, 2]) + (60).to_bytes(2, "big") + self.control.properties()
        self.control.send(CONNECT, 0, name + text(unique("qc")))
        body = await self.control.expect(CONNACK)
        expect(body[1], 0)
        return self

    async def __aexit__(self, *error):
        await self.context.__aexit__(*error)

    async def open(self):
        return Stream(*await self.quic.create_stream(), self.level)


async def qos(address, version, level):
    topic = unique("qos/")
    async with Session(address, version) as session:
        stream = session.control
        await stream.subscribe(topic, level)
        for number in range(1, 11):
            stream.publish(topic, f"m{number}".encode(), level, number)
            await stream.acknowledged(level, number)
        for number in range(1, 11):
            _, payload, got, identifier = await stream.message()
            expect((payload, got), (f"m{number}".encode(), level))
            await stream.acknowledge(level, identifier)


async def several(address, version):
    """Each topic on a stream of its own, with its acknowledgements."""
    topics = [unique("streams/") for _ in range(4)]
    async with Session(address, version) as session, Session(address, version) as other:
        streams, outgoing = [], []
        for topic in topics:
            # aioquic counts a stream from its first byte on.
            streams.append(await session.open() if streams else session.control)
            await streams[-1].subscribe(topic, 2)
        for round_ in range(5):
            for number, topic in enumerate(topics):
                if round_ == 0:
                    outgoing.append(await other.open())
                stream = outgoing[number]
                level, identifier = (round_ + number) % 3, 1 + round_ * 10 + number
                stream.publish(topic, f"{round_}".encode(), level, identifier)
                await stream.acknowledged(level, identifier)
        for number, (topic, stream) in enumerate(zip(topics, streams)):
            for round_ in range(5):
                got, payload, level, identifier = await stream.message()
                expect((got, payload, level), (topic, f"{round_}".encode(), (round_ + number) % 3))
                await stream.acknowledge(level, identifier)


async def large(address, version):
    topic = unique("large/")
    async with Session(address, version) as session:
        stream = await session.open()
        await stream.subscribe(topic, 0)
        stream.publish(topic, LARGE)
        expect((await stream.message())[1], LARGE)


async def finished(address, version):
    """A subscription outlives its stream: its messages come on the control stream."""
    topic = unique("finished/")
    async with Session(address, version) as session:
        stream = await session.open()
        await stream.subscribe(topic, 0)
        stream.writer.write_eof()
        expect(await asyncio.wait_for(stream.reader.read(), PATIENCE), b"")
        session.control.publish(topic, b"here")
        expect((await session.control.message())[1], b"here")


async def trespass(address, version):
    """A PINGREQ belongs on the control stream."""
    async with Session(address, version) as session:
        stream = await session.open()
        stream.send(PINGREQ)
        if version == "5.0":
            body = await session.control.expect(DISCONNECT)
            expect(body[0], 0x82)
        expect(await asyncio.wait_for(session.control.reader.read(), PATIENCE), b"")


async def moved(address, version):
    """The client's address changes, as when a phone leaves the house."""
    topic = unique("moved/")
    loop = asyncio.get_running_loop()
    async with Session(address, version) as session:
        stream = await session.open()
        await stream.subscribe(topic, 0)
        old = session.quic._transport
        session.quic._transport, _ = await loop.create_datagram_endpoint(
            lambda: session.quic, local_addr=("::", 0) if old.get_extra_info("sockname")[0] != "0.0.0.0" else ("0.0.0.0", 0)
        )
        before = old.get_extra_info("sockname")[1]
        if session.quic._transport.get_extra_info("sockname")[1] == before:
            raise AssertionError("the port did not change")
        for number in range(3):
            stream.publish(topic, f"{number}".encode())
            expect((await stream.message())[1], f"{number}".encode())
        old.close()


async def resumed(address, version):
    """A TLS session is resumed, and what could be replayed (0-RTT) is not agreed to."""
    tickets = []
    async with Session(address, version, tickets=tickets) as session:
        session.control.send(PINGREQ)
        await session.control.expect(PINGRESP)
    if not tickets:
        raise AssertionError("no ticket")
    async with Session(address, version, ticket=tickets[-1]) as session:
        expect(session.quic.handshake.session_resumed, True)
        expect(session.quic.handshake.early_data_accepted, False)
        session.control.send(PINGREQ)
        await session.control.expect(PINGRESP)


CHECKS = {
    "a topic for each stream": several,
    "1 MiB on a data stream": large,
    "a stream that ends": finished,
    "PINGREQ on a data stream": trespass,
    "another address": moved,
    "resumed, no 0-RTT": resumed,
}


def main():
    options = arguments(__doc__)
    if options.quic_port is None:
        print("RESULT\tall\tskipped\tthe broker has no QUIC", flush=True)
        return
    address = ("127.0.0.1", options.quic_port, options.ca)
    for version in LEVELS:
        for level in range(3):
            check(f"{version} QoS {level}", asyncio.run, qos(address, version, level))
        for name, function in CHECKS.items():
            check(f"{version} {name}", asyncio.run, function(address, version))


sys.exit(main())
