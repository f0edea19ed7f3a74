//! Real clients against the broker.

use super::Options;
use crate::{Error, Outcome};

pub(super) fn run(_options: &Options) -> Result<Outcome, Error> {
    Err("not there yet".into())
}
