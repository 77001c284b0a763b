//! A plot of all attacks, as SVG: what each cost the gateway, and the bystanders' p99 before, in and after it.

use std::fmt::Write as _;

use super::outcome::Outcome;

const WIDTH: f64 = 820.0;
/// Room for names.
const LEFT: f64 = 130.0;
/// Width of the CPU bars, and where the latencies begin.
const CPU: f64 = 270.0;
const P99: f64 = 480.0;
const ROW: f64 = 30.0;
const HEAD: f64 = 44.0;

/// Bars of both kinds, a row for each attack.
#[must_use]
pub fn attacks(outcomes: &[Outcome]) -> String {
    let most = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).fold(1.0, f64::max);
    let cpu_most = most(&|o| o.cpu.during_pct);
    let p99_most = most(&|o| {
        o.bystanders
            .iter()
            .map(|look| look.p99_ms)
            .fold(0.0, f64::max)
    });
    let mut body = String::new();
    let mut y = HEAD;
    for outcome in outcomes {
        row(outcome, y, (cpu_most, p99_most), &mut body);
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{:.0}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">gateway's CPU, % of a core (dark: for the attack)</text>\n\
         <text x=\"{P99}\" y=\"16\" font-weight=\"bold\">others' p99, ms</text>\n\
         <text x=\"{P99}\" y=\"30\" fill=\"#555\">grey before, blue in it, light after</text>\n{body}</svg>\n",
        y + 8.0,
        y + 8.0
    )
}

fn row(outcome: &Outcome, y: f64, (cpu_most, p99_most): (f64, f64), out: &mut String) {
    let colour = if outcome.holds() { "#222" } else { "#b00020" };
    let scale = (CPU - 40.0) / cpu_most;
    let (all, own) = (outcome.cpu.during_pct, outcome.cpu.attack_pct);
    let _ = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{} {}</text>\
         <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"16\" fill=\"#9cc4e4\"/>\
         <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"16\" fill=\"#1b6ca8\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{all:.1}</text>",
        LEFT - 6.0,
        y + 12.0,
        outcome.fault,
        outcome.name,
        all * scale,
        own.min(all) * scale,
        LEFT + all * scale + 4.0,
        y + 12.0
    );
    let scale = (WIDTH - P99 - 60.0) / p99_most;
    let colours = ["#9a9a9a", "#1b6ca8", "#c9dcec"];
    let mut at = y;
    for (look, colour) in outcome.bystanders.iter().zip(colours) {
        let _ = writeln!(
            out,
            "<rect x=\"{P99}\" y=\"{at:.1}\" width=\"{:.1}\" height=\"7\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\">{:.1}</text>",
            look.p99_ms * scale,
            P99 + look.p99_ms * scale + 4.0,
            at + 7.0,
            look.p99_ms
        );
        at += 8.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_row_and_no_attack_is_a_plot() {
        let outcome = Outcome {
            name: "x".to_owned(),
            ..Outcome::default()
        };
        let plot = attacks(&[outcome.clone(), outcome]);
        assert_eq!(plot.matches("<rect").count(), 1 + 2 * 5);
        assert!(!plot.contains("NaN") && !plot.contains("inf"));
        assert!(attacks(&[]).trim_end().ends_with("</svg>"));
    }
}
