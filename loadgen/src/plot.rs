//! A plot of latencies over rates, as SVG.

use std::fmt::Write as _;

use crate::commands::latency::Cell;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;
/// Room for the legend.
const RIGHT: f64 = 190.0;
const COLOURS: [&str; 6] = [
    "#1b6ca8", "#c23b22", "#2e8b57", "#8e44ad", "#d68910", "#555555",
];

/// Send → Deliver, p50 (dashed) and p99 (solid), on logarithmic axes: one colour per size of body.
#[must_use]
pub fn latencies(cells: &[Cell]) -> String {
    let rates = bounds(cells.iter().map(|c| c.rate));
    let times = bounds(
        cells
            .iter()
            .flat_map(|c| [c.deliver.p50_ms, c.deliver.p99_ms]),
    );
    let x = |rate: f64| LEFT + share(rate, rates) * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| HEIGHT - BOTTOM - share(ms, times) * (HEIGHT - BOTTOM - 20.0);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    );
    for ms in ticks(times) {
        let at = y(ms);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut known: Vec<f64> = cells.iter().map(|c| c.rate).collect();
    known.sort_by(f64::total_cmp);
    known.dedup();
    for rate in known {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{rate}/s</text>",
            x(rate),
            HEIGHT - BOTTOM + 18.0
        );
    }
    let mut bodies: Vec<usize> = cells.iter().map(|c| c.body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    for (at, body) in bodies.into_iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        for (name, dash, of) in [
            ("p50", "4 4", (|c| c.deliver.p50_ms) as fn(&Cell) -> f64),
            ("p99", "none", |c| c.deliver.p99_ms),
        ] {
            let mut line: Vec<&Cell> = cells.iter().filter(|c| c.body == body).collect();
            line.sort_by(|a, b| a.rate.total_cmp(&b.rate));
            let points: Vec<String> = line
                .iter()
                .map(|c| format!("{:.1},{:.1}", x(c.rate), y(of(c))))
                .collect();
            let row = 20.0 + 18.0 * (2 * at + usize::from(name == "p99")) as f64;
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\n\
                 <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{row}\" y2=\"{row}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{name}, {body} B</text>",
                points.join(" "),
                WIDTH - RIGHT + 20.0,
                WIDTH - RIGHT + 50.0,
                WIDTH - RIGHT + 58.0,
                row + 4.0
            );
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"14\">Send → Deliver</text>\n</svg>"
    );
    out
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        (1.0, 10.0)
    } else {
        (low * 0.8, high * 1.25)
    }
}

fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    ((value.max(low) / low).ln() / (high / low).ln()).clamp(0.0, 1.0)
}

/// 1, 2 and 5 times powers of ten within bounds.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let powers = (-3..=6).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|ten| [ten, 2.0 * ten, 5.0 * ten]);
    all.filter(|value| (low..=high).contains(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_everything_and_an_empty_plot_is_a_plot() {
        let range = bounds([1.0, 100.0].into_iter());
        assert!(share(1.0, range) > 0.0 && share(100.0, range) < 1.0);
        assert_eq!(ticks((0.9, 5.5)), [1.0, 2.0, 5.0]);
        let empty = latencies(&[]);
        assert!(empty.starts_with("<svg") && empty.trim_end().ends_with("</svg>"));
    }
}
