//! The capacity planner: how many of everything a load needs, and why.
//!
//! [`keys`] are the figures it takes, [`input`] their values (as TOML in [`mod@file`]); [`figures`] calculates on a [`sheet`] by [`formula`]s that are shown as
//! they are calculated; [`findings`] says what does not go; [`show`] prints it. It knows nothing of running systems: what was
//! measured is read from results by [`measured`].

pub mod figures;
pub mod file;
pub mod findings;
pub mod formula;
pub mod input;
pub mod keys;
pub mod measured;
pub mod number;
pub mod preset;
pub mod sheet;
pub mod show;

#[cfg(test)]
mod tests;

use input::{Input, InputError};
use sheet::{Bound, Figure, Section, Sheet};

use findings::Finding;
use preset::Preset;

/// A capacity plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was asked for.
    pub input: Input,
    /// The preset that it began with, if any.
    pub preset: Option<&'static Preset>,
    /// All figures, in the order in which they are calculated.
    pub sections: Vec<Section>,
    /// What binds each number of nodes.
    pub bounds: Vec<Bound>,
    /// What does not go, or is near to not going.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// Calculates.
    ///
    /// # Errors
    /// Values that cannot be planned with together; names the keys and the way out.
    pub fn new(input: Input, preset: Option<&'static Preset>) -> Result<Self, InputError> {
        input.check_together()?;
        let mut sheet = Sheet::new(&input);
        figures::calculate(&mut sheet)?;
        let findings = findings::judge(&sheet);
        let (sections, bounds) = sheet.finish();
        Ok(Self {
            input,
            preset,
            sections,
            bounds,
            findings,
        })
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        let mut figures = self.sections.iter().flat_map(|section| &section.figures);
        figures.find(|figure| figure.name == name)
    }

    /// A figure's value by its name.
    ///
    /// # Panics
    /// There is none of that name: ours to mend.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        match self.figure(name) {
            Some(figure) => figure.value,
            None => panic!("no figure {name}"),
        }
    }

    /// A figure as people read it.
    #[must_use]
    pub fn shown(&self, name: &str) -> &str {
        self.figure(name).map_or("", |figure| &figure.shown)
    }

    /// What binds a figure.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<&Bound> {
        self.bounds.iter().find(|bound| bound.figure == name)
    }
}
