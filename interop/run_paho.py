#!/usr/bin/env python3
"""Runs one test of the Eclipse Paho interoperability suite against a broker.

The suite is not part of this repository: its folder is an argument, and its files are imported from there unchanged.
`cargo xtask interop` starts this program once for each test, so that no test sees what another left behind.

Two things differ from starting the suite's own files. Every test method is run by name, also the will test of
version 3.1.1, whose name unittest does not pick up. And a test method that catches its own failure and returns False
counts as failed.
"""

import argparse
import importlib
import os
import sys
import unittest

MODULES = {"3.1.1": "client_test", "5.0": "client_test5"}


def test_names(module):
    """Every test method of the suite's one class, in the order of definition."""
    methods = vars(module.Test).items()
    return [name for name, value in methods if callable(value) and "test" in name.lower()]


def prepare(module, host, port):
    """Sets what the suite's files set only when they are started as programs."""
    prefix = "client_test5/"
    module.host = host
    module.port = port
    module.topic_prefix = prefix
    module.topics = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
    module.wildtopics = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")
    module.nosubscribe_topics = ("test/nosubscribe",)


def make_strict(module, name):
    """Turns a returned False into a failure."""
    original = getattr(module.Test, name)

    def strict(self):
        self.assertIsNot(original(self), False, "the test returned False")

    setattr(module.Test, name, strict)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", required=True, help="checkout of eclipse/paho.mqtt.testing")
    parser.add_argument("--version", required=True, choices=sorted(MODULES), help="protocol version")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--test", help="name of the test method")
    parser.add_argument("--list", action="store_true", help="print the names of the tests and stop")
    arguments = parser.parse_args()

    folder = os.path.join(os.path.abspath(arguments.suite), "interoperability")
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    module = importlib.import_module(MODULES[arguments.version])
    names = test_names(module)
    if arguments.list:
        print("\n".join(names))
        return 0
    if arguments.test not in names:
        parser.error(f"no test {arguments.test!r}; there are: {', '.join(names)}")
    prepare(module, arguments.host, arguments.port)
    make_strict(module, arguments.test)
    suite = unittest.TestSuite([module.Test(arguments.test)])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun == 1 else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The suite's clients leave reading threads behind, which would keep the interpreter from ending.
    os._exit(code)
