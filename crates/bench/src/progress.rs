//! What a run tells while it goes on.

/// A sign of life, about four times a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is going on, as "connecting" or "measuring".
    pub phase: &'static str,
    /// Clients so far.
    pub clients: usize,
    /// Messages delivered so far, each receiver counted.
    pub delivered: u64,
    /// Deliveries per second since the last sign of life.
    pub per_second: f64,
    /// Whether a promise has been broken.
    pub breaches: bool,
}
