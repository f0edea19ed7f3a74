//! Every limit at its value and one beyond: what the client is told, what is logged, what is counted.

mod connect;
mod ground;
mod messages;
mod negotiated;
mod rates;
mod sessions;

use std::{collections::HashSet, future::Future, pin::Pin};

use ground::{Ground, Told};
use martlet_broker::{config::Config, counters::Limit};

/// What a row does with a broker.
type Act = for<'a> fn(&'a mut Ground) -> Pin<Box<dyn Future<Output = Told> + 'a>>;

/// One limit in one situation.
struct Row {
    limit: Limit,
    /// The situation, where there are several.
    what: &'static str,
    /// Sets the limit to a small value.
    set: fn(&mut Config),
    /// Goes up to the limit and tells the last thing heard.
    within: Act,
    within_told: Told,
    /// Goes one beyond, after `within`.
    beyond: Act,
    beyond_told: Told,
}

/// Runs a row on a broker of its own, in virtual time.
fn check(row: &Row) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut ground = Ground::new(row.set);
        let (limit, name) = (row.limit, row.limit.name());

        let told = (row.within)(&mut ground).await;
        expect("told within", &told, &row.within_told)?;
        expect("counted within", &ground.counters().limit(limit), &0)?;
        expect("logged within", &ground.logged(name), &Vec::new())?;

        let told = (row.beyond)(&mut ground).await;
        expect("told beyond", &told, &row.beyond_told)?;
        expect("counted beyond", &ground.counters().limit(limit), &1)?;
        // That memory passed its mark is news of its own.
        let mut lines = ground.logged(name);
        lines.retain(|line| !line.contains("event=\"memory_high_water\""));
        expect(
            &format!("lines logged beyond ({lines:#?})"),
            &lines.len(),
            &1,
        )?;
        let others: Vec<_> = Limit::ALL.iter().filter(|other| **other != limit).collect();
        let miscounted: Vec<_> = others
            .iter()
            .filter(|other| ground.counters().limit(***other) > 0)
            .collect();
        expect("other limits counted", &miscounted.len(), &0)
    })
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, wanted: &T) -> Result<(), String> {
    if is == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {is:?}, expected {wanted:?}"))
    }
}

fn rows() -> Vec<Row> {
    [
        connect::rows(),
        messages::rows(),
        rates::rows(),
        sessions::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_limit_holds_at_n_and_acts_at_n_plus_one() {
    let failed: Vec<String> = rows()
        .iter()
        .filter_map(|row| {
            check(row)
                .err()
                .map(|why| format!("{} {}: {why}", row.limit.name(), row.what))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} rows:\n{}",
        failed.len(),
        rows().len(),
        failed.join("\n")
    );
}

#[test]
fn no_limit_is_without_a_row() {
    let rows: HashSet<_> = rows().iter().map(|row| row.limit).collect();
    let missing: Vec<_> = Limit::ALL
        .iter()
        .filter(|limit| !rows.contains(limit))
        .map(|limit| limit.name())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
