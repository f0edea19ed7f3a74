//! Conformance and interoperability suites that talk bytes to a running Martlet.
