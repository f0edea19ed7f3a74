//! What happens, line by line, for whoever looks into one seed.

#![expect(
    clippy::print_stdout,
    reason = "a program talks to the person who started it"
)]

use std::cell::Cell;

thread_local! {
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

/// Begins or ends to print.
pub(crate) fn switch(on: bool) {
    TRACING.set(on);
}

/// Prints a line, if lines are wanted.
pub(crate) fn line(event: u64, text: impl FnOnce() -> String) {
    if TRACING.get() {
        println!("{event:>7}  {}", text());
    }
}
