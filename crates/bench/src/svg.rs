//! A run as a picture: deliveries over time, and latency by percentile. One SVG file, nothing loaded from elsewhere.

use std::fmt::Write as _;

use crate::report::Report;

const WIDTH: f64 = 760.0;
const PANEL: f64 = 220.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;
const INK: &str = "#1e293b";
const LINE: &str = "#c2410c";
const GRID: &str = "#e2e8f0";

/// Lines across a panel.
const STEPS: u32 = 4;

/// One set of axes with one line.
struct Panel<'a> {
    title: &'a str,
    points: Vec<(f64, f64)>,
    /// Where a mark stands on the lower axis, and what it says.
    marks: Vec<(f64, String)>,
    unit: &'a str,
}

/// Draws a report.
pub(crate) fn draw(report: &Report) -> String {
    let mut panels = Vec::new();
    if report.samples.len() > 1 {
        let last = report.samples.last().map_or(1.0, |sample| sample.seconds);
        let end = last.max(f64::EPSILON);
        panels.push(Panel {
            title: "Delivered per second, over the seconds of the run",
            points: report
                .samples
                .iter()
                .map(|sample| (sample.seconds / end, sample.delivered_per_second))
                .collect(),
            marks: (0..=STEPS)
                .map(|step| {
                    let at = f64::from(step) / f64::from(STEPS);
                    (at, format!("{:.1} s", at * end))
                })
                .collect(),
            unit: "/s",
        });
    }
    if !report.latency_curve.is_empty() {
        panels.push(Panel {
            title: "Latency by percentile, from the time a message was due",
            points: report
                .latency_curve
                .iter()
                .map(|&(quantile, micros)| (nines(quantile) / nines(QUANTILE_MAX), micros as f64))
                .collect(),
            marks: [0.0, 0.9, 0.99, 0.999, 0.9999]
                .map(|quantile| {
                    let words = format!("{} %", quantile * 100.0);
                    (nines(quantile) / nines(QUANTILE_MAX), words)
                })
                .to_vec(),
            unit: "µs",
        });
    }
    let height = PANEL.mul_add(panels.len() as f64, TOP);
    let title = report.title();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"14\">{}</text>\n",
        escape(&title)
    );
    for (index, panel) in panels.iter().enumerate() {
        panel.draw(PANEL.mul_add(index as f64, TOP), &mut svg);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The last percentile that is drawn.
pub(crate) const QUANTILE_MAX: f64 = 0.9999;

/// Nines of a quantile: 0.9 is 1, 0.99 is 2.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

impl Panel<'_> {
    fn draw(&self, top: f64, svg: &mut String) {
        let wide = WIDTH - LEFT - RIGHT;
        let high = PANEL - BOTTOM - 20.0;
        let base = top + 20.0 + high;
        let most = self.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let most = ceiling(most);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\">{}</text>",
            top + 8.0,
            escape(self.title)
        );
        for step in 0..=STEPS {
            let share = f64::from(step) / f64::from(STEPS);
            let y = base - high * share;
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} {}</text>",
                LEFT + wide,
                LEFT - 8.0,
                y + 4.0,
                most * share,
                self.unit
            );
        }
        for (at, words) in &self.marks {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                LEFT + wide * at,
                base + 18.0,
                escape(words)
            );
        }
        let points: Vec<String> = self
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", LEFT + wide * x, base - high * y / most))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{LINE}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
    }
}

/// The next of 1, 2, 4, 8 times a power of ten, so that quarters of it are short numbers.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&limit| limit >= value)
        .unwrap_or(10.0 * power)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    #[test]
    fn scales_end_in_short_numbers() {
        for (value, wanted) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (3.0, 4.0),
            (950.0, 1_000.0),
            (12_345.0, 20_000.0),
        ] {
            assert!((ceiling(value) - wanted).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_picture_has_a_line_for_each_thing_that_was_measured() {
        let mut report = Report {
            workload: "pairs",
            parameters: vec![("qos", "1 & more".into())],
            figures: Vec::new(),
            latency_micros: None,
            acknowledgement_micros: None,
            samples: Vec::new(),
            latency_curve: Vec::new(),
        };
        assert_eq!(draw(&report).matches("<polyline").count(), 0);
        report.samples = [1.0, 2.0]
            .map(|seconds| Sample {
                seconds,
                delivered_per_second: 100.0,
            })
            .to_vec();
        report.latency_curve = vec![(0.5, 10), (0.99, 20)];
        let svg = draw(&report);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("qos 1 &amp; more") && svg.ends_with("</svg>\n"));
    }
}
