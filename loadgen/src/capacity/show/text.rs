//! For a terminal.

use std::fmt::Write as _;

use super::{compared, needs, title};
use crate::capacity::Plan;
use crate::capacity::findings::Level;
use crate::capacity::number::plain;

/// Columns of a title, so that values stand in a line.
const TITLE_WIDTH: usize = 74;

/// The plan as text; with `formulas` each figure is followed by how it is calculated.
#[must_use]
pub fn text(plan: &Plan, formulas: bool) -> String {
    let mut out = format!("{}\n\nWhat is needed\n", title(plan));
    let cells = plan.value("cells");
    for need in needs(plan) {
        let count = if cells > 1.0 {
            format!("{} ({} a cell)", plain(need.total), plain(need.per_cell))
        } else {
            plain(need.total)
        };
        let _ = writeln!(
            out,
            "  {:<16} {count:<18} {}; {}",
            need.what, need.each, need.bound
        );
    }
    if !plan.findings.is_empty() {
        out.push_str("\nTo be known\n");
    }
    for finding in &plan.findings {
        let mark = if finding.level == Level::Short {
            "!"
        } else {
            "·"
        };
        let _ = writeln!(out, "  {mark} {}", finding.text);
    }
    let said = compared(plan);
    if !said.is_empty() {
        out.push_str("\nBeside the original design\n");
        for [what, said, shown, _] in said {
            let _ = writeln!(out, "  {what:<36} {said:<32} {shown}");
        }
    }
    for section in &plan.sections {
        let _ = writeln!(out, "\n{}", section.title);
        for figure in &section.figures {
            let width = TITLE_WIDTH.saturating_sub(figure.title.chars().count());
            let _ = writeln!(
                out,
                "  {}{} {}",
                figure.title,
                " ".repeat(width),
                figure.shown
            );
            if formulas {
                let (name, formula, filled) = (figure.name, figure.formula, &figure.filled);
                let _ = writeln!(out, "      {name} = {formula}");
                if filled != formula {
                    let _ = writeln!(out, "      = {filled}");
                }
            }
        }
    }
    out
}
