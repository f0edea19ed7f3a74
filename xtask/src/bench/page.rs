//! The results as a page with plots: one file, no script, nothing loaded from elsewhere.

use super::results::{Entry, Results, number};
use std::fmt::Write as _;

/// Widths of a plot, in pixels.
const LABEL: f64 = 110.0;
const BARS: f64 = 520.0;
const VALUE: f64 = 170.0;

/// Heights of a bar and of the space it stands in.
const BAR: f64 = 16.0;
const STEP: f64 = 24.0;

/// The first colour is ours; the last is for the floor.
const OURS: &str = "#c2410c";
const THEIRS: &str = "#64748b";
const FLOOR: &str = "#cbd5e1";

/// The whole page.
pub(super) fn html(results: &Results) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Martlet side by side</title>\n\
         <style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1e293b}\
         svg{display:block;margin:0 0 1.5rem}h2{font-size:1rem;margin:1.5rem 0 .3rem}\
         text{font:12px system-ui,sans-serif;fill:#1e293b}</style>\n<h1>Martlet side by side</h1>\n\
         <p>Bars are medians, thin lines the range of the rounds. Less is better in every plot.</p>\n",
    );
    for (row, line) in results.lines() {
        let entries: Vec<(&str, Entry)> = results
            .columns
            .iter()
            .map(|column| (column.name.as_str(), results.entry(row, line, &column.name)))
            .filter(|(_, entry)| !matches!(entry, Entry::Absent))
            .collect();
        if !entries.is_empty() {
            let _ = writeln!(
                page,
                "<h2>{} ({})</h2>",
                escape(line.title),
                escape(line.unit)
            );
            page.push_str(&plot(&entries));
        }
    }
    page.push_str("</html>\n");
    page
}

/// One bar for each broker.
fn plot(entries: &[(&str, Entry)]) -> String {
    let most = entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Summary(summary) => Some(summary.most),
            Entry::Failed(_) | Entry::Absent => None,
        })
        .fold(0.0, f64::max);
    let scale = if most > 0.0 { BARS / most } else { 0.0 };
    let height = STEP * entries.len() as f64;
    let mut svg = format!(
        "<svg width=\"{}\" height=\"{height}\" role=\"img\">\n",
        LABEL + BARS + VALUE
    );
    for (index, (name, entry)) in entries.iter().enumerate() {
        let top = STEP * index as f64 + (STEP - BAR) / 2.0;
        let base = top + BAR - 4.0;
        let _ = writeln!(svg, "<text x=\"0\" y=\"{base}\">{}</text>", escape(name));
        match entry {
            Entry::Summary(summary) => {
                let colour = match *name {
                    "martlet" => OURS,
                    "null" => FLOOR,
                    _ => THEIRS,
                };
                let width = (summary.median.max(0.0) * scale).max(1.0);
                let (from, to) = (
                    LABEL + summary.least.max(0.0) * scale,
                    LABEL + summary.most.max(0.0) * scale,
                );
                let middle = top + BAR / 2.0;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{LABEL}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
                     <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#0f172a\"/>\
                     <text x=\"{:.1}\" y=\"{base}\">{}</text>",
                    to.max(LABEL + width) + 6.0,
                    number(summary.median)
                );
            }
            Entry::Failed(_) => {
                let _ = writeln!(svg, "<text x=\"{LABEL}\" y=\"{base}\">FAIL</text>");
            }
            Entry::Absent => {}
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::results::Summary;
    use super::*;

    #[test]
    fn a_plot_has_a_bar_for_each_broker_and_says_who_failed() {
        let summary = |median| {
            Entry::Summary(Summary {
                median,
                least: median / 2.0,
                most: median * 2.0,
            })
        };
        let svg = plot(&[
            ("martlet", summary(1.0)),
            ("a<b", summary(4.0)),
            ("late", Entry::Failed("too late".into())),
        ]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("FAIL") && svg.contains(OURS));
    }
}
