//! The sheet that a plan is calculated on: each figure is a formula over the keys and the figures above it.

use serde::Serialize;

use super::formula::{Formula, Symbols};
use super::input::Input;
use super::number::{Unit, plain};

/// One figure of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Stable name, the symbol in other formulas; its last words are its unit where it has one.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// In the base unit.
    pub value: f64,
    /// The base unit.
    pub unit: &'static str,
    /// For people, prefix and unit chosen to fit.
    pub shown: String,
    /// How it is calculated, in symbols.
    pub formula: &'static str,
    /// The same with numbers.
    pub filled: String,
}

/// Figures that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// What should be known to read it; may be empty.
    pub note: &'static str,
    /// In the order in which they are calculated.
    pub figures: Vec<Figure>,
}

/// What limits a number of nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bound {
    /// Name of the figure that is limited.
    pub figure: &'static str,
    /// What there are so many of.
    pub what: &'static str,
    /// Name of the figure that is the largest.
    pub bound_by: &'static str,
    /// In words: memory, disk ..
    pub words: &'static str,
    /// All of them.
    pub candidates: Vec<Candidate>,
}

/// One of the figures that could bind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Candidate {
    /// In words.
    pub words: &'static str,
    /// Name of the figure.
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
}

/// The figures as they are calculated.
#[derive(Debug)]
pub struct Sheet {
    symbols: Symbols,
    sections: Vec<Section>,
    bounds: Vec<Bound>,
}

impl Sheet {
    /// Nothing but the input's values.
    #[must_use]
    pub fn new(input: &Input) -> Self {
        Self {
            symbols: input.symbols(),
            sections: Vec::new(),
            bounds: Vec::new(),
        }
    }

    /// Figures from here on belong to this.
    pub fn section(&mut self, title: &'static str, note: &'static str) {
        self.sections.push(Section {
            title,
            note,
            figures: Vec::new(),
        });
    }

    /// Calculates a figure; formulas after it may name it.
    ///
    /// # Panics
    /// The formula or a symbol of it is not known, or the value is no number that is zero or more: ours to mend, since what the
    /// input may be was checked.
    pub fn figure(
        &mut self,
        name: &'static str,
        title: &'static str,
        unit: Unit,
        formula: &'static str,
    ) -> f64 {
        let parsed = Formula::new(formula);
        let value = parsed.value(&self.symbols);
        assert!(
            value.is_finite() && value >= 0.0,
            "{name} = {value} = {formula}"
        );
        let known = self.symbols.values.insert(name, value);
        assert!(known.is_none(), "two figures of the name {name}");
        let figure = Figure {
            name,
            title,
            value,
            unit: unit.symbol(),
            shown: unit.show(value),
            formula: parsed.text(),
            filled: parsed.filled(&self.symbols),
        };
        if let Some(section) = self.sections.last_mut() {
            section.figures.push(figure);
        }
        value
    }

    /// Says which of these figures the named one is bound by: the largest, of equals the first.
    pub fn bound(
        &mut self,
        figure: &'static str,
        what: &'static str,
        candidates: &[(&'static str, &'static str)],
    ) {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|(words, name)| Candidate {
                words,
                figure: name,
                value: self.value(name),
            })
            .collect();
        let mut largest = candidates[0];
        for candidate in &candidates {
            if candidate.value > largest.value {
                largest = *candidate;
            }
        }
        self.bounds.push(Bound {
            figure,
            what,
            bound_by: largest.figure,
            words: largest.words,
            candidates,
        });
    }

    /// The value of a key or of a figure above.
    ///
    /// # Panics
    /// There is none of that name: ours to mend.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        match self.symbols.values.get(name) {
            Some(value) => *value,
            None => panic!("no figure {name}"),
        }
    }

    /// A key's or figure's value as a number for people.
    #[must_use]
    pub fn words(&self, name: &str) -> String {
        plain(self.value(name))
    }

    /// What was calculated.
    #[must_use]
    pub fn finish(self) -> (Vec<Section>, Vec<Bound>) {
        (self.sections, self.bounds)
    }
}
