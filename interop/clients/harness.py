"""What the Python client programs share: flags, and one line of output for each check.

A line is `RESULT<tab>name<tab>ok|failed|skipped<tab>note`; `cargo xtask interop --clients` collects them into a table.
"""

import argparse
import time
import traceback

# A check ends with a failure after this many seconds without the expected packet.
PATIENCE = 20

LARGE = bytes(range(256)) * 4096


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ws-port", type=int, help="WebSocket port; without it those checks are left out")
    parser.add_argument("--tls-port", type=int, help="TLS port; without it those checks are left out")
    parser.add_argument("--wss-port", type=int, help="port of WebSocket over TLS; the same")
    parser.add_argument("--quic-port", type=int, help="UDP port of QUIC; the same")
    parser.add_argument("--ca", help="PEM file of the authority to trust")
    return parser.parse_args()


def report(name, verdict, note=""):
    note = " ".join(str(note).split())[:200]
    print(f"RESULT\t{name}\t{verdict}\t{note}", flush=True)


def check(name, function, *args):
    """Runs one check and reports it; an exception is a failure, never the end of the program."""
    try:
        function(*args)
    except Exception as error:
        traceback.print_exc()
        report(name, "failed", f"{type(error).__name__}: {error}")
    else:
        report(name, "ok")


def expect(actual, expected):
    if actual != expected:
        raise AssertionError(f"{brief(actual)} instead of {brief(expected)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 120 else f"{text[:100]}... ({len(text)} characters)"


def unique(prefix):
    """A client id or topic that no earlier check used; short enough for MQTT 3.1."""
    unique.count += 1
    return f"{prefix}{unique.count}x{int(time.time()) % 100000}"


unique.count = 0
