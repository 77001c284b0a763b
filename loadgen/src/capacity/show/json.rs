//! For programs: names are stable, values in base units, which names end with where they have one.

use serde::Serialize;
use serde_json::{Map, Number, Value, json};

use super::needs;
use crate::capacity::Plan;
use crate::capacity::keys;

/// Name and version of the form.
pub const FORMAT: &str = "hawser-capacity-plan-1";

/// The plan as JSON.
#[must_use]
pub fn json(plan: &Plan) -> Value {
    let input: Map<String, Value> = keys::all()
        .map(|key| {
            let value = number(plan.input.value(key.name));
            let from = plan.input.origin(key).words();
            (
                key.name.to_owned(),
                json!({ "value": value, "unit": key.unit, "from": from }),
            )
        })
        .collect();
    let (classes, _) = plan.input.mix();
    let mix: Vec<Value> = classes
        .iter()
        .map(|class| json!({ "share": number(class.share), "members": number(class.members) }))
        .collect();
    let all = || plan.sections.iter().flat_map(|section| &section.figures);
    let figures: Map<String, Value> = all()
        .map(|figure| (figure.name.to_owned(), number(figure.value)))
        .collect();
    let needed: Map<String, Value> = needs(plan)
        .into_iter()
        .map(|need| {
            let name = need.what.to_lowercase().replace(' ', "_");
            (name, json!({ "total": number(need.total), "per_cell": number(need.per_cell), "each": need.each }))
        })
        .collect();
    json!({
        "format": FORMAT,
        "preset": plan.preset.map(|preset| preset.name),
        "needed": needed,
        "figures": figures,
        "input": input,
        "mix": mix,
        "bounds": value(&plan.bounds),
        "findings": value(&plan.findings),
        "sections": value(&plan.sections),
    })
}

fn value(of: &impl Serialize) -> Value {
    // Plain structs of strings and finite numbers.
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// Whole numbers as such, as far as a float holds them exactly.
fn number(value: f64) -> Value {
    let exact = value.fract() == 0.0 && (0.0..9e15).contains(&value);
    if exact {
        // In range, as just checked.
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Value::from(value as u64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
