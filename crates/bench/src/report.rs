//! The result of a run: figures with names and units, as a table for people and as values for programs.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::svg::QUANTILE_MAX;

/// A number with a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The key in JSON, with the unit at the end.
    pub key: &'static str,
    /// The words in a table.
    pub label: &'static str,
    /// The number.
    pub value: f64,
    /// The unit in a table.
    pub unit: &'static str,
}

/// Percentiles of a time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are below.
    pub p50: u64,
    /// 90 of 100 are below.
    pub p90: u64,
    /// 99 of 100 are below.
    pub p99: u64,
    /// 999 of 1,000 are below.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}

/// The result of a run that kept every promise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Name of the workload.
    pub workload: &'static str,
    /// What was run, as name and value.
    #[serde(serialize_with = "as_map")]
    pub parameters: Vec<(&'static str, String)>,
    /// The figures, by key.
    #[serde(serialize_with = "figures_as_map")]
    pub figures: Vec<Figure>,
    /// From the time a message was due to be sent to its arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_micros: Option<Percentiles>,
    /// From the time a message was due to be sent to the end of its handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement_micros: Option<Percentiles>,
    /// How fast it went, over the time of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Quantiles and latencies in microseconds, for a plot.
    #[serde(skip)]
    pub latency_curve: Vec<(f64, u64)>,
}

/// How fast deliveries were at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Deliveries a second since the sample before.
    pub delivered_per_second: f64,
}

/// Points of the curve that a plot shows.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let end = -(1.0 - QUANTILE_MAX).log10();
    (0..=CURVE_POINTS)
        .map(|point| {
            let nines = end * f64::from(point) / f64::from(CURVE_POINTS);
            let quantile = 1.0 - 10_f64.powf(-nines);
            (quantile, histogram.value_at_quantile(quantile))
        })
        .collect()
}

/// Enough for a smooth line.
const CURVE_POINTS: u32 = 80;

fn as_map<S: Serializer>(pairs: &[(&'static str, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

fn figures_as_map<S: Serializer>(figures: &[Figure], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(figures.iter().map(|figure| (figure.key, figure.value)))
}

impl Report {
    /// The figure with this key.
    pub fn figure(&self, key: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.key == key)?;
        Some(figure.value)
    }

    /// Workload and parameters in one line.
    pub fn title(&self) -> String {
        let words: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        format!("{}: {}", self.workload, words.join(", "))
    }

    /// The run as a picture: deliveries over time, latency by percentile.
    pub fn svg(&self) -> String {
        crate::svg::draw(self)
    }

    /// A table of two columns.
    pub fn table(&self) -> String {
        let mut text = self.title();
        text.push('\n');
        for figure in &self.figures {
            let _ = writeln!(
                text,
                "  {:<40} {:>14} {}",
                figure.label,
                number(figure.value),
                figure.unit
            );
        }
        for (name, times) in [
            ("latency", self.latency_micros),
            ("acknowledged after", self.acknowledgement_micros),
        ] {
            if let Some(times) = times {
                let Percentiles {
                    p50,
                    p90,
                    p99,
                    p999,
                    max,
                    ..
                } = times;
                let _ = writeln!(
                    text,
                    "  {name:<40} p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} µs"
                );
            }
        }
        text
    }
}

/// Three significant digits, and groups of three.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole
        .strip_prefix('-')
        .map_or(("", whole), |rest| ("-", rest));
    let mut grouped = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        for (value, text) in [
            (0.012_34, "0.0123"),
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1_234.4, "1,234"),
            (-1_234_567.0, "-1,234,567"),
            (0.0, "0.0000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_report_as_table_and_as_json() {
        let report = Report {
            workload: "pairs",
            parameters: vec![("qos", "1".into()), ("payload", "64".into())],
            figures: vec![Figure {
                key: "delivered_per_second",
                label: "delivered",
                value: 123_456.0,
                unit: "/s",
            }],
            latency_micros: None,
            acknowledgement_micros: None,
            samples: Vec::new(),
            latency_curve: Vec::new(),
        };
        assert!(report.table().starts_with("pairs: qos 1, payload 64\n"));
        assert!(report.table().contains("123,456 /s"));
        let json = serde_json::to_value(&report).expect("it has a form in JSON");
        assert_eq!(json["parameters"]["qos"], "1");
        assert_eq!(json["figures"]["delivered_per_second"], 123_456.0);
    }
}
