#!/usr/bin/env python3
"""aiomqtt against a broker: MQTT 3.1.1 and 5.0 over TCP."""

import asyncio
import socket

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import LARGE, PATIENCE, arguments, check, expect, unique

VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5.0": aiomqtt.ProtocolVersion.V5}


def client(address, version, client_id=None, clean=True, will=None):
    protocol = VERSIONS[version]
    options = {}
    if protocol == aiomqtt.ProtocolVersion.V5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 300
        options = {"clean_start": clean, "properties": properties}
    else:
        options = {"clean_session": clean}
    host, port = address
    return aiomqtt.Client(
        host, port, identifier=client_id or unique("ac"), protocol=protocol, will=will, timeout=PATIENCE, **options
    )


async def receive(session, count=1):
    async def take():
        received = []
        async for message in session.messages:
            received.append(message)
            if len(received) == count:
                return received

    return await asyncio.wait_for(take(), PATIENCE)


async def connect(address, version):
    async with client(address, version):
        pass


async def qos(address, version, level):
    topic = unique("qos/")
    async with client(address, version) as session:
        await session.subscribe(topic, level)
        for number in range(10):
            await session.publish(topic, f"m{number}", level)
        received = await receive(session, 10)
        expect([(m.payload.decode(), m.qos) for m in received], [(f"m{number}", level) for number in range(10)])


async def retain(address, version):
    topic = unique("retain/")
    async with client(address, version) as session:
        await session.publish(topic, b"kept", 1, retain=True)
        await session.subscribe(topic, 1)
        message = (await receive(session))[0]
        expect((message.payload, message.retain), (b"kept", True))
        await session.publish(topic, b"", 1, retain=True)


async def will(address, version):
    topic = unique("will/")
    async with client(address, version) as watcher:
        await watcher.subscribe(topic, 1)
        try:
            async with client(address, version, will=aiomqtt.Will(topic, b"gone", 1)) as dying:
                dying._client.socket().shutdown(socket.SHUT_RDWR)
                await asyncio.sleep(0.2)
        except aiomqtt.MqttError:
            pass
        expect((await receive(watcher))[0].payload, b"gone")


async def resume(address, version):
    client_id, topic = unique("ar"), unique("resume/")
    async with client(address, version, client_id, clean=False) as session:
        await session.subscribe(topic, 2)
    async with client(address, version) as other:
        await other.publish(topic, b"one", 1)
        await other.publish(topic, b"two", 2)
    async with client(address, version, client_id, clean=False) as session:
        expect([message.payload for message in await receive(session, 2)], [b"one", b"two"])
    async with client(address, version, client_id, clean=True):
        pass


async def large(address, version):
    topic = unique("large/")
    async with client(address, version) as session:
        await session.subscribe(topic, 2)
        await session.publish(topic, LARGE, 2)
        expect((await receive(session))[0].payload, LARGE)


def main():
    given = arguments(__doc__)
    address = (given.host, given.port)
    for version in VERSIONS:

        def run(name, function, *args):
            check(f"{version} {name}", lambda: asyncio.run(function(address, version, *args)))

        run("connect", connect)
        for level in (0, 1, 2):
            run(f"QoS {level}", qos, level)
        run("retain", retain)
        run("will", will)
        run("resume", resume)
        run("1 MiB", large)


main()
