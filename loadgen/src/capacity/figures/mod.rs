//! The figures themselves, by what they are about. Each function adds its figures to the sheet, in terms of those above.
//!
//! All are of one cell, but for `total`.

mod edge;
mod engines;
mod load;
mod log;
mod loss;
mod total;

use super::input::InputError;
use super::sheet::Sheet;

/// Calculates everything.
///
/// # Errors
/// No number of edge nodes suffices: names what to change.
pub fn calculate(sheet: &mut Sheet) -> Result<(), InputError> {
    load::users(sheet);
    load::messages(sheet);
    load::receipts(sheet);
    edge::nodes(sheet)?;
    log::records(sheet);
    log::bytes(sheet);
    log::brokers(sheet);
    engines::store(sheet);
    engines::presence(sheet);
    engines::push(sheet);
    engines::ingest(sheet);
    edge::bandwidth(sheet);
    loss::blast(sheet);
    loss::storms(sheet);
    loss::drain(sheet);
    if sheet.value("cells") > 1.0 {
        total::intercell(sheet);
    }
    total::totals(sheet);
    Ok(())
}
