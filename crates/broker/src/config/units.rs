//! Durations, sizes, expiries and QoS as text. (Owned by the cli helper.)
