//! For documents.

use std::fmt::Write as _;

use super::{compared, needs, title};
use crate::capacity::Plan;
use crate::capacity::number::plain;

/// The plan as Markdown tables: what is needed, what is to be known, what the design said, and every figure.
#[must_use]
pub fn markdown(plan: &Plan) -> String {
    let mut out = format!("**{}.**\n\n", title(plan));
    out.push_str("| needed | in all | a cell | each | |\n| --- | ---: | ---: | --- | --- |\n");
    for need in needs(plan) {
        let (total, cell) = (plain(need.total), plain(need.per_cell));
        let _ = writeln!(
            out,
            "| {} | {total} | {cell} | {} | {} |",
            need.what, need.each, need.bound
        );
    }
    if !plan.findings.is_empty() {
        out.push('\n');
    }
    for finding in &plan.findings {
        let _ = writeln!(out, "- {}", finding.text);
    }
    let said = compared(plan);
    if !said.is_empty() {
        out.push_str("\n| | the original design | this plan | why |\n| --- | --- | --- | --- |\n");
    }
    for row in said {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    for section in &plan.sections {
        let _ = writeln!(out, "\n**{}**", section.title);
        if !section.note.is_empty() {
            let _ = writeln!(out, "\n{}", section.note);
        }
        out.push_str("\n| figure | value | formula | with numbers |\n| --- | ---: | --- | --- |\n");
        for figure in &section.figures {
            let _ = writeln!(
                out,
                "| {} | {} | `{}` = `{}` | {} |",
                figure.title, figure.shown, figure.name, figure.formula, figure.filled
            );
        }
    }
    out
}
