//! Plots as SVG, with axes, units and a legend; colours that differ in grey too, and dashes beside them.

use std::fmt::Write as _;

use super::escaped;

const WIDTH: f64 = 560.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 18.0;
const LINES_HEIGHT: f64 = 330.0;
const ROW: f64 = 30.0;
/// Room for the names of bars, and for the number behind each.
const NAMES: f64 = 170.0;
const NUMBERS: f64 = 70.0;
const COLOURS: [&str; 5] = ["#1b5e8c", "#c2410c", "#2e7d32", "#6a3d9a", "#444444"];
const DASHES: [&str; 5] = ["none", "7 3", "2 3", "9 3 2 3", "4 2"];
const AXIS: &str = "#8a949d";
const GRID: &str = "#e3e8ec";

/// A finished plot.
#[derive(Debug, Clone)]
pub struct Drawing(String);

impl Drawing {
    /// As SVG, to stand in a page.
    #[must_use]
    pub fn svg(&self) -> &str {
        &self.0
    }
}

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What it counts, with the unit.
    pub title: &'a str,
    /// Logarithmic; what is not above zero is then left out.
    pub logarithmic: bool,
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// Bars beside each other, from zero, the largest marked; `show` writes a value behind its bar.
#[must_use]
pub fn bars(
    title: &str,
    axis: &str,
    rows: &[(&str, f64)],
    show: &dyn Fn(f64) -> String,
) -> Drawing {
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let largest = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    let scale = Scale::over([0.0, largest.max(1.0)].into_iter(), false);
    let x = |value: f64| NAMES + scale.share(value) * (WIDTH - NAMES - NUMBERS);
    let mut out = begin(title, height);
    let floor = TOP + ROW * rows.len() as f64;
    for tick in scale.ticks() {
        vertical(&mut out, x(tick), TOP, floor, &show(tick));
    }
    for (at, (name, value)) in rows.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let binds = *value >= largest;
        let (colour, weight) = if binds {
            (COLOURS[0], "bold")
        } else {
            ("#9db6c8", "normal")
        };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-weight=\"{weight}\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-weight=\"{weight}\">{}</text>",
            NAMES - 8.0,
            y + ROW / 2.0 + 4.0,
            escaped(name),
            y + 5.0,
            (x(*value) - NAMES).max(1.0),
            ROW - 10.0,
            x(*value).max(NAMES) + 6.0,
            y + ROW / 2.0 + 4.0,
            escaped(&show(*value)),
        );
    }
    let _ = writeln!(
        out,
        "<line x1=\"{NAMES}\" x2=\"{NAMES}\" y1=\"{TOP}\" y2=\"{floor}\" stroke=\"{AXIS}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#55606a\">{}</text>\n</svg>",
        NAMES + (WIDTH - NAMES - NUMBERS) / 2.0,
        height - 6.0,
        escaped(axis)
    );
    Drawing(out)
}

/// Lines over a common x; `show` writes the numbers of both axes.
#[must_use]
pub fn lines(
    title: &str,
    x_axis: Axis<'_>,
    y_axis: Axis<'_>,
    series: &[Series],
    show: &dyn Fn(f64) -> String,
) -> Drawing {
    let all = || series.iter().flat_map(|line| line.points.iter().copied());
    let xs = Scale::over(all().map(|point| point.0), x_axis.logarithmic);
    let zero = (!y_axis.logarithmic).then_some(0.0);
    let ys = Scale::over(all().map(|point| point.1).chain(zero), y_axis.logarithmic);
    let legend = 18.0 * series.len() as f64 + 6.0;
    let (height, floor) = (LINES_HEIGHT + legend, LINES_HEIGHT - BOTTOM);
    let x = |value: f64| LEFT + xs.share(value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| floor - ys.share(value) * (floor - TOP - 8.0);
    let mut out = begin(title, height);
    for tick in ys.ticks() {
        horizontal(&mut out, y(tick), &show(tick));
    }
    for tick in xs.ticks() {
        vertical(&mut out, x(tick), TOP, floor, &show(tick));
    }
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {TOP} V{floor} H{}\" fill=\"none\" stroke=\"{AXIS}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#55606a\">{}</text>\
         <text transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#55606a\">{}</text>",
        WIDTH - RIGHT,
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        floor + 34.0,
        escaped(x_axis.title),
        f64::midpoint(floor, TOP),
        escaped(y_axis.title)
    );
    for (at, line) in series.iter().enumerate() {
        let style = format!(
            "stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\" fill=\"none\"",
            COLOURS[at % COLOURS.len()],
            DASHES[at % DASHES.len()]
        );
        let shown = line
            .points
            .iter()
            .filter(|point| xs.holds(point.0) && ys.holds(point.1));
        let points: Vec<String> = shown
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let row = LINES_HEIGHT + 4.0 + 18.0 * at as f64;
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" {style}/>\
             <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{row:.1}\" y2=\"{row:.1}\" {style}/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            points.join(" "),
            LEFT + 34.0,
            LEFT + 42.0,
            row + 4.0,
            escaped(&line.name)
        );
    }
    out.push_str("</svg>");
    Drawing(out)
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{0}\" font-family=\"Segoe UI, Roboto, Helvetica, Arial, DejaVu Sans, sans-serif\" \
         font-size=\"12\" fill=\"#1a1f24\">\n<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#fff\"/>\n\
         <text x=\"0\" y=\"17\" font-size=\"14\" font-weight=\"bold\">{0}</text>\n",
        escaped(title)
    )
}

fn vertical(out: &mut String, x: f64, top: f64, floor: f64, number: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{floor}\" stroke=\"{GRID}\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#55606a\">{}</text>",
        floor + 16.0,
        escaped(number)
    );
}

fn horizontal(out: &mut String, y: f64, number: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#55606a\">{}</text>",
        WIDTH - RIGHT,
        LEFT - 6.0,
        y + 4.0,
        escaped(number)
    );
}

/// From values to a share of an axis.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// Holds all values that can be shown, with round ends.
    fn over(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && (!logarithmic || *value > 0.0))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let (low, high) = match (logarithmic, high > low) {
            (true, true) => (low, high),
            (true, false) => (low / 2.0, high * 2.0),
            (false, true) => (low, high + (high - low) * 0.04),
            (false, false) => (low, low + low.abs().max(1.0)),
        };
        Self {
            low,
            high,
            logarithmic,
        }
    }

    fn holds(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }

    fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// Round numbers within the axis: at most eight.
    fn ticks(&self) -> Vec<f64> {
        let within =
            |value: &f64| (self.low * (1.0 - 1e-9)..=self.high * (1.0 + 1e-9)).contains(value);
        if self.logarithmic {
            let powers = (-9..=18).map(|power| 10_f64.powi(power));
            for steps in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
                let all = powers
                    .clone()
                    .flat_map(|ten| steps.iter().map(move |step| ten * step));
                let ticks: Vec<f64> = all.filter(within).collect();
                if ticks.len() <= 9 {
                    return ticks;
                }
            }
            return powers.step_by(3).filter(within).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let ten = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
        let step = steps
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(ten * 10.0);
        let first = (self.low / step).ceil();
        (0..=8)
            .map(|at| (first + f64::from(at)) * step)
            .filter(within)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn ticks_are_round_few_and_within() {
        assert_eq!(
            Scale::over([0.0, 9.0].into_iter(), false).ticks(),
            [0.0, 2.0, 4.0, 6.0, 8.0]
        );
        assert_eq!(
            Scale::over([1.0, 100.0].into_iter(), true).ticks(),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        );
        let wide = Scale::over([1e3, 1e9].into_iter(), true).ticks();
        assert_eq!(wide.first().zip(wide.last()), Some((&1e3, &1e9)));
        assert!(wide.len() <= 9, "{wide:?}");
    }

    #[test]
    fn every_value_is_within_the_axes_also_where_all_are_the_same() {
        for logarithmic in [false, true] {
            for values in [vec![5.0], vec![5.0, 5.0], vec![0.1, 7.0, 3e6], vec![]] {
                let scale = Scale::over(values.iter().copied(), logarithmic);
                assert!(scale.high > scale.low);
                for value in values {
                    assert!((0.0..=1.0).contains(&scale.share(value)));
                }
            }
        }
    }

    #[test]
    fn plots_name_their_axes_and_hold_no_number_that_is_none() {
        let axis = |title, logarithmic| Axis { title, logarithmic };
        let points = vec![(1.0, 0.0), (2.0, f64::NAN), (3.0, 4.0)];
        let line = Series {
            name: "a & b".to_owned(),
            points,
        };
        let drawn = [
            lines(
                "t",
                axis("users", true),
                axis("nodes", true),
                std::slice::from_ref(&line),
                &show,
            ),
            lines(
                "t",
                axis("users", false),
                axis("nodes", false),
                &[line],
                &show,
            ),
            lines("t", axis("users", true), axis("nodes", true), &[], &show),
            bars("t", "nodes, users", &[("a", 3.0), ("b", 0.0)], &show),
            bars("t", "nodes, users", &[], &show),
        ];
        for drawing in drawn {
            let svg = drawing.svg();
            assert!(
                svg.starts_with("<svg") && svg.ends_with("</svg>\n") || svg.ends_with("</svg>"),
                "{svg}"
            );
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(
                svg.contains("nodes") && svg.contains("users") && !svg.contains("a & b"),
                "{svg}"
            );
        }
    }
}
