//! The generator against the null relay: what an honest relay can do is measured, and nothing is invented.

use std::time::Duration;

use martlet_bench::{Failure, Options, Relay, Report, Workload, run};
use martlet_codec::{QoS, Version};

/// Runs a workload with a bounded number of messages.
fn run_on_relay(workload: Workload, change: impl FnOnce(&mut Options)) -> Result<Report, Failure> {
    let relay = Relay::start(None).expect("a relay on this machine");
    let mut options = Options {
        count: Some(300),
        pid: Some(std::process::id()).filter(|_| cfg!(target_os = "linux")),
        ..Options::new(relay.address(), workload)
    };
    change(&mut options);
    run(&options, &mut |_| {})
}

#[test]
fn every_message_of_every_shape_is_counted() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for version in Version::ALL {
            for (workload, publishers, subscribers, deliveries) in [
                (Workload::Pairs, 3, 3, 900.0),
                (Workload::FanOut, 1, 5, 1_500.0),
                (Workload::FanIn, 5, 1, 1_500.0),
                (Workload::Shared, 3, 4, 900.0),
            ] {
                let report = run_on_relay(workload, |options| {
                    options.qos = qos;
                    options.version = version;
                    options.publishers = Some(publishers);
                    options.subscribers = Some(subscribers);
                })
                .expect("an honest relay");
                let words = report.title();
                assert_eq!(report.figure("delivered"), Some(deliveries), "{words}");
                let latency = report.latency_micros.expect("messages arrived");
                assert_eq!(
                    Some(latency.count as f64),
                    report.figure("delivered"),
                    "{words}"
                );
                assert_eq!(
                    report.acknowledgement_micros.is_some(),
                    qos > QoS::AtMostOnce,
                    "{words}"
                );
            }
        }
    }
}

#[test]
fn windows_of_any_size_and_packets_of_any_size_come_through() {
    for (window, payload) in [
        (1, 28),
        (1, 100_000),
        (7, 64),
        (0, 64),
        (0, 70_000),
        (300, 4_096),
    ] {
        let report = run_on_relay(Workload::Pairs, |options| {
            options.window = Some(window);
            options.payload = payload;
            options.qos = QoS::AtLeastOnce;
        })
        .expect("an honest relay");
        assert_eq!(
            report.figure("delivered"),
            Some(3_000.0),
            "{window} {payload}"
        );
    }
}

#[test]
fn a_paced_run_sends_what_is_due_and_no_more() {
    let report = run_on_relay(Workload::Pairs, |options| {
        options.count = None;
        options.rate = Some(2_000.0);
        options.warm_up = Duration::from_millis(100);
        options.duration = Duration::from_millis(500);
    })
    .expect("an honest relay");
    // As many as the time that it took allows, whatever the machine is busy with; late ones of the warm-up may be among
    // them.
    let seconds = report.figure("seconds").expect("it took some time");
    let sent = report.figure("sent_per_second").expect("some were sent") * seconds;
    assert!(
        sent > 0.0 && sent <= (seconds + 0.2) * 2_000.0 + 1.0,
        "{sent} in {seconds} s"
    );
}

#[test]
fn connections_come_and_go() {
    let report = run_on_relay(Workload::Connect, |_| {}).expect("an honest relay");
    assert!(report.figure("connections_per_second") > Some(0.0));
    let report = run_on_relay(Workload::Idle, |options| {
        options.subscribers = Some(50);
        options.warm_up = Duration::ZERO;
        options.duration = Duration::from_millis(50);
    })
    .expect("an honest relay");
    assert!(report.figure("connections_per_second") > Some(0.0));
}

#[test]
fn a_broker_that_misleads_has_no_figures() {
    // The null relay routes by the first topic only, and these publishers change theirs.
    let result = run_on_relay(Workload::Wildcard, |options| {
        options.filters = 100;
        options.subscribers = Some(10);
        options.stall = Duration::from_millis(500);
    });
    assert!(matches!(result, Err(Failure::Broken(_))), "{result:?}");
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let result = run_on_relay(Workload::Pairs, |options| {
        options.count = None;
        options.duration = Duration::from_mins(1);
        options.timeout = Duration::from_millis(300);
    });
    let Err(Failure::Time(words)) = result else {
        panic!("{result:?}");
    };
    assert!(words.contains("the time that a run may take"), "{words}");
}
