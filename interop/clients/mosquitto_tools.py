#!/usr/bin/env python3
"""mosquitto_pub, mosquitto_sub, mosquitto_rr and a Mosquitto bridge against a broker."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

from harness import LARGE, PATIENCE, arguments, check, expect, report, unique

VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}


class Tools:
    """The three programs with the flags that all calls share."""

    def __init__(self, host, port, version):
        self.flags = ["-h", host, "-p", str(port), "-V", VERSIONS[version]]
        self.version = version

    def publish(self, *flags, payload=None):
        done = subprocess.run(
            ["mosquitto_pub", *self.flags, *flags], input=payload, capture_output=True, timeout=PATIENCE
        )
        if done.returncode:
            raise RuntimeError(f"mosquitto_pub: {done.stderr.decode()}")

    def subscribe(self, *flags):
        """Starts mosquitto_sub and returns when its subscription has been acknowledged."""
        process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-d", *self.flags, "-W", str(PATIENCE), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while line := process.stdout.readline():
            if line.startswith(b"Subscribed"):
                return process
        raise RuntimeError("mosquitto_sub ended before SUBACK")

    def payloads(self, *flags):
        """Runs mosquitto_sub to its end and returns the lines it prints."""
        done = subprocess.run(
            ["mosquitto_sub", *self.flags, "-W", str(PATIENCE), *flags], capture_output=True, timeout=2 * PATIENCE
        )
        if done.returncode:
            raise RuntimeError(f"mosquitto_sub ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout.split(b"\n")[:-1]


def rest(process):
    """What a subscriber printed until it ended by itself, without its debug lines."""
    output, _ = process.communicate(timeout=2 * PATIENCE)
    lines = [line for line in output.split(b"\n")[:-1] if not line.startswith((b"Client ", b"Subscribed"))]
    expect(process.returncode, 0)
    return lines


def qos(tools, level):
    topic = unique("qos/")
    subscriber = tools.subscribe("-t", topic, "-q", str(level), "-C", "3")
    for number in range(3):
        tools.publish("-t", topic, "-q", str(level), "-m", f"m{number}")
    expect(rest(subscriber), [b"m0", b"m1", b"m2"])


def retain(tools):
    topic = unique("retain/")
    tools.publish("-t", topic, "-q", "1", "-r", "-m", "kept")
    expect(tools.payloads("-t", topic, "-q", "1", "-C", "1", "-F", "%r %p"), [b"1 kept"])
    tools.publish("-t", topic, "-q", "1", "-r", "-n")


def will(tools):
    topic = unique("will/")
    watcher = tools.subscribe("-t", topic, "-q", "1", "-C", "1")
    dying = tools.subscribe("-t", unique("idle/"), "--will-topic", topic, "--will-payload", "gone", "--will-qos", "1")
    dying.kill()
    dying.wait()
    expect(rest(watcher), [b"gone"])


def resume(tools):
    topic, client_id = unique("resume/"), unique("mr")
    keep = ["-c", "-i", client_id, "-t", topic, "-q", "2"]
    if tools.version == "5.0":
        keep += ["-x", "300"]
    tools.payloads(*keep, "-E")
    tools.publish("-t", topic, "-q", "1", "-m", "one")
    tools.publish("-t", topic, "-q", "2", "-m", "two")
    expect(tools.payloads(*keep, "-C", "2"), [b"one", b"two"])


def large(tools):
    topic = unique("large/")
    # mosquitto_sub -N adds no line end, so its output is the payload.
    command = ["mosquitto_sub", *tools.flags, "-W", str(PATIENCE), "-t", topic, "-q", "2", "-C", "1", "-N"]
    subscriber = subprocess.Popen(command, stdout=subprocess.PIPE)
    time.sleep(1)
    tools.publish("-t", topic, "-q", "2", "-s", payload=LARGE)
    output, _ = subscriber.communicate(timeout=2 * PATIENCE)
    expect(output, LARGE)


def request(tools):
    question, answer = unique("ask/"), unique("answer/")
    responder = tools.subscribe("-t", question, "-q", "1", "-C", "1")
    requester = subprocess.Popen(
        ["mosquitto_rr", *tools.flags, "-t", question, "-e", answer, "-q", "1", "-m", "time?", "-W", str(PATIENCE)],
        stdout=subprocess.PIPE,
    )
    expect(rest(responder), [b"time?"])
    tools.publish("-t", answer, "-q", "1", "-m", "noon")
    output, _ = requester.communicate(timeout=2 * PATIENCE)
    expect(output.strip(), b"noon")


def bridge(host, port, version):
    """A Mosquitto whose bridge carries messages both ways."""
    local_port = free_port()
    prefix = unique("bridge")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bridge.conf")
        with open(path, "w") as config:
            config.write(
                f"listener {local_port} 127.0.0.1\nallow_anonymous true\n"
                f"connection {prefix}\naddress {host}:{port}\n"
                f"bridge_protocol_version {'mqttv50' if version == '5.0' else VERSIONS[version]}\n"
                "try_private true\nnotifications false\nrestart_timeout 1\n"
                f"topic {prefix}/up/# out 2\ntopic {prefix}/down/# in 2\n"
            )
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        process = subprocess.Popen([program, "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(local_port)
            remote, local = Tools(host, port, version), Tools("127.0.0.1", local_port, version)
            carry(local, remote, f"{prefix}/up/t")
            carry(remote, local, f"{prefix}/down/t")
        finally:
            process.terminate()
            process.wait()


def carry(source, sink, topic):
    """The bridge needs a moment to subscribe, so the message is repeated until one arrives."""
    subscriber = sink.subscribe("-t", topic, "-q", "2", "-C", "1")
    for _ in range(PATIENCE):
        source.publish("-t", topic, "-q", "2", "-m", "over")
        try:
            subscriber.wait(1)
            break
        except subprocess.TimeoutExpired:
            continue
    expect(rest(subscriber), [b"over"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    for _ in range(10 * PATIENCE):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing accepts on port {port}")


def main():
    given = arguments(__doc__)
    for version in VERSIONS:
        tools = Tools(given.host, given.port, version)
        check(f"{version} connect", lambda: tools.publish("-t", unique("c/"), "-n"))
        for level in (0, 1, 2):
            check(f"{version} QoS {level}", qos, tools, level)
        check(f"{version} retain", retain, tools)
        check(f"{version} will", will, tools)
        check(f"{version} resume", resume, tools)
        check(f"{version} 1 MiB", large, tools)
        # mosquitto_rr needs the properties of version 5.
        if version == "5.0":
            check(f"{version} request", request, tools)
    if shutil.which("mosquitto") or os.path.exists("/usr/sbin/mosquitto"):
        for version in ("3.1.1", "5.0"):
            check(f"{version} bridge", bridge, given.host, given.port, version)
    else:
        report("bridge", "skipped", "no mosquitto; try: apt-get install mosquitto")


main()
