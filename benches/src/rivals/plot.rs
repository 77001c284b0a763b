//! A plot of CPU per delivery by server, as SVG: the user-space share dark, the kernel's light.

use std::fmt::Write as _;

use super::outcome::{Outcome, Scenario};
use super::table::{Family, HAWSER};

const WIDTH: f64 = 760.0;
/// Room for names of servers.
const LEFT: f64 = 120.0;
/// Room for figures behind bars.
const RIGHT: f64 = 60.0;
const BAR: f64 = 14.0;
const ROW: f64 = 18.0;
const HEAD: f64 = 34.0;

/// Bars for every scenario, size of body and family, shortest first; Hawser in its own colour.
#[must_use]
pub fn costs(outcomes: &[Outcome]) -> String {
    let mut body = String::new();
    let mut y = 24.0;
    for family in Family::all(outcomes) {
        for scenario in Scenario::ALL {
            for bytes in family.bodies() {
                y = panel(&family, scenario, bytes, y, &mut body);
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{y:.0}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"16\" font-weight=\"bold\">CPU µs per delivered message (dark: user space)</text>\n{body}</svg>\n"
    )
}

fn panel(family: &Family<'_>, scenario: Scenario, bytes: usize, top: f64, out: &mut String) -> f64 {
    let mut bars: Vec<(&str, f64, f64)> = family
        .servers
        .keys()
        .filter_map(|server| {
            let cpu = family.of_cells(server, scenario, bytes, |cell| cell.cpu_us)?;
            let user = family.of_cells(server, scenario, bytes, |cell| cell.user_us)?;
            Some((*server, cpu.median, user.median))
        })
        .collect();
    if bars.is_empty() {
        return top;
    }
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = bars.last().map_or(1.0, |bar| bar.1.max(0.001));
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{:.0}\" fill=\"#333\">{}, {bytes} B, {}</text>",
        top + 18.0,
        scenario.name(),
        family.name()
    );
    let mut y = top + HEAD - 8.0;
    for (server, cpu, user) in bars {
        let (dark, light) = if server == HAWSER {
            ("#1b6ca8", "#9cc4e4")
        } else {
            ("#666666", "#c8c8c8")
        };
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{server}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{light}\"/>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{dark}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{cpu:.1}</text>",
            LEFT - 6.0,
            y + 11.0,
            cpu * scale,
            user.min(cpu) * scale,
            LEFT + cpu * scale + 5.0,
            y + 11.0
        );
        y += ROW;
    }
    y + 8.0
}

#[cfg(test)]
mod tests {
    use super::super::table::outcome;
    use super::*;

    #[test]
    fn every_server_has_a_bar_in_every_panel_and_no_outcome_is_a_plot() {
        let outcomes = [
            outcome(HAWSER, false, 1, 5.0),
            outcome("other", true, 1, 9.0),
        ];
        let plot = costs(&outcomes);
        assert_eq!(plot.matches(">other</text>").count(), 6);
        assert_eq!(plot.matches("#1b6ca8").count(), 6);
        assert!(!plot.contains("NaN"));
        assert!(costs(&[]).trim_end().ends_with("</svg>"));
    }
}
