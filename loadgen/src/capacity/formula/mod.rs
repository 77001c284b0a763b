//! Formulas that are shown as they are calculated: one text is parsed, evaluated and filled in, so that what a reader sees
//! and what the value comes from cannot differ.
//!
//! Terms are numbers, symbols, `+ − × / ^`, brackets, and
//! - `ceil(x)`, `min(a, b, ..)`, `max(a, b, ..)`; `pow2(x)`: the smallest power of two that is not below x;
//! - `reached(n, g, q)` = n·(1 − (1 − q/n)^g): of n places, those that g members are expected to reach when each of them comes to these
//!   places with probability q and to any of them alike; `touched(n, g)` is that with q = 1;
//! - `Σ(term)`: the sum over the classes of the group mix, which give `share` and `members`; `Σ[members > 2](term)` over those that the
//!   condition holds for.

mod parse;

use std::collections::HashMap;

use super::number::plain;

/// One class of the group mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class {
    /// Share of all messages, 0 to 1.
    pub share: f64,
    /// Members of such a chat, its sender included.
    pub members: f64,
}

/// What symbols mean.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    /// By name.
    pub values: HashMap<&'static str, f64>,
    /// The group mix.
    pub classes: Vec<Class>,
}

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    text: &'static str,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Symbol(String),
    Pair(Op, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Sum(Option<Condition>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Plus,
    Minus,
    Times,
    Over,
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Ceil,
    Min,
    Max,
    Pow2,
    Reached,
    Touched,
}

/// `members > 2` or `members ≤ listed_members_max`.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    above: bool,
    bound: Box<Node>,
}

/// The class that a sum is at.
type At<'a> = Option<&'a Class>;

impl Formula {
    /// Parses a formula of the planner's own.
    ///
    /// # Panics
    /// The text is no formula: ours to mend, a test evaluates all of them.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        match parse::parse(text) {
            Ok(root) => Self { text, root },
            Err(fault) => panic!("formula {text:?}: {fault}"),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Its value.
    ///
    /// # Panics
    /// A symbol has no meaning: ours to mend.
    #[must_use]
    pub fn value(&self, symbols: &Symbols) -> f64 {
        self.root.value(symbols, None)
    }

    /// The same with numbers in place of symbols, sums written out.
    #[must_use]
    pub fn filled(&self, symbols: &Symbols) -> String {
        self.root.filled(symbols, None)
    }
}

/// n·(1 − (1 − q/n)^g), exact also where q/n is tiny.
#[must_use]
pub fn reached(places: f64, members: f64, q: f64) -> f64 {
    if places <= q {
        return if members > 0.0 { places } else { 0.0 };
    }
    let missed = members * (-q / places).ln_1p();
    places * -missed.exp_m1()
}

/// The smallest power of two that is not below `x`, at least 1.
#[must_use]
pub fn pow2(x: f64) -> f64 {
    let mut power = 1.0;
    while power < x {
        power *= 2.0;
    }
    power
}

fn symbol(name: &str, symbols: &Symbols, at: At<'_>) -> f64 {
    match (name, at) {
        ("share", Some(class)) => class.share,
        ("members", Some(class)) => class.members,
        _ => match symbols.values.get(name) {
            Some(value) => *value,
            None => panic!("a formula names {name}, which is not known there"),
        },
    }
}

impl Condition {
    fn holds(&self, symbols: &Symbols, class: &Class) -> bool {
        let bound = self.bound.value(symbols, None);
        (class.members > bound) == self.above
    }
}

impl Node {
    fn value(&self, symbols: &Symbols, at: At<'_>) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Symbol(name) => symbol(name, symbols, at),
            Self::Pair(op, left, right) => {
                let (a, b) = (left.value(symbols, at), right.value(symbols, at));
                match op {
                    Op::Plus => a + b,
                    Op::Minus => a - b,
                    Op::Times => a * b,
                    Op::Over => a / b,
                    Op::Power => a.powf(b),
                }
            }
            Self::Call(function, terms) => {
                let all = || terms.iter().map(|term| term.value(symbols, at));
                let of = |at_term: usize| terms[at_term].value(symbols, at);
                match function {
                    Function::Ceil => ceil(of(0)),
                    Function::Min => all().fold(f64::INFINITY, f64::min),
                    Function::Max => all().fold(f64::NEG_INFINITY, f64::max),
                    Function::Pow2 => pow2(of(0)),
                    Function::Reached => reached(of(0), of(1), of(2)),
                    Function::Touched => reached(of(0), of(1), 1.0),
                }
            }
            Self::Sum(condition, term) => classes(condition.as_ref(), symbols)
                .map(|class| term.value(symbols, Some(class)))
                .sum(),
        }
    }

    fn filled(&self, symbols: &Symbols, at: At<'_>) -> String {
        match self {
            Self::Number(number) => plain(*number),
            Self::Symbol(name) => plain(symbol(name, symbols, at)),
            Self::Pair(op, left, right) => {
                let side = |node: &Self, right: bool| {
                    let text = node.filled(symbols, at);
                    let open = match node {
                        Self::Pair(inner, ..) => {
                            inner.rank() < op.rank() || (right && inner.rank() == op.rank())
                        }
                        Self::Sum(..) => op.rank() > Op::Plus.rank() && text.contains(" + "),
                        _ => false,
                    };
                    if open { format!("({text})") } else { text }
                };
                let space = if *op == Op::Power { "" } else { " " };
                format!(
                    "{}{space}{}{space}{}",
                    side(left, false),
                    op.sign(),
                    side(right, true)
                )
            }
            Self::Call(function, terms) => {
                let terms: Vec<String> = terms.iter().map(|t| t.filled(symbols, at)).collect();
                format!("{}({})", function.name(), terms.join("; "))
            }
            Self::Sum(condition, term) => {
                let parts: Vec<String> = classes(condition.as_ref(), symbols)
                    .map(|class| term.filled(symbols, Some(class)))
                    .collect();
                if parts.is_empty() {
                    "0".to_owned()
                } else {
                    parts.join(" + ")
                }
            }
        }
    }
}

/// Rounds up, but not what is whole up to the noise of floating point: 10.000000000000002 nodes are ten.
fn ceil(x: f64) -> f64 {
    let near = x.round();
    if (x - near).abs() <= near.abs() * 1e-12 {
        near
    } else {
        x.ceil()
    }
}

fn classes<'a>(
    condition: Option<&'a Condition>,
    symbols: &'a Symbols,
) -> impl Iterator<Item = &'a Class> {
    symbols
        .classes
        .iter()
        .filter(move |class| condition.is_none_or(|c| c.holds(symbols, class)))
}

impl Op {
    fn rank(self) -> u8 {
        match self {
            Self::Plus | Self::Minus => 0,
            Self::Times | Self::Over => 1,
            Self::Power => 2,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Plus => '+',
            Self::Minus => '−',
            Self::Times => '×',
            Self::Over => '/',
            Self::Power => '^',
        }
    }
}

impl Function {
    /// Name, and how many terms there are, at least and at most.
    const ALL: [(&'static str, Self, (usize, usize)); 6] = [
        ("ceil", Self::Ceil, (1, 1)),
        ("min", Self::Min, (2, 8)),
        ("max", Self::Max, (2, 8)),
        ("pow2", Self::Pow2, (1, 1)),
        ("reached", Self::Reached, (3, 3)),
        ("touched", Self::Touched, (2, 2)),
    ];

    fn name(self) -> &'static str {
        let known = Self::ALL
            .iter()
            .find(|(_, function, _)| *function == self)
            .map(|(name, ..)| *name);
        known.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> Symbols {
        let class = |share, members| Class { share, members };
        Symbols {
            values: HashMap::from([("users", 20e6), ("partitions", 250.0), ("zero", 0.0)]),
            classes: vec![class(0.9, 2.0), class(0.09, 20.0), class(0.01, 150.0)],
        }
    }

    fn value(text: &'static str) -> f64 {
        Formula::new(text).value(&symbols())
    }

    #[test]
    fn the_value_is_what_the_text_says() {
        for (text, wanted) in [
            ("1 + 2 × 3", 7.0),
            ("(1 + 2) × 3", 9.0),
            ("10 − 3 − 2", 5.0),
            ("2 × 3 ^ 2", 18.0),
            ("24 / 4 / 2", 3.0),
            ("users × 20", 400e6),
            ("ceil(users / 3)", 6_666_667.0),
            ("pow2(640)", 1_024.0),
            ("pow2(1024)", 1_024.0),
            ("min(1, max(2, 3))", 1.0),
            ("max(1, 4, 3, 2)", 4.0),
            ("Σ(share × (members − 1))", 4.1),
            ("Σ[members > 2](share)", 0.1),
            ("Σ[members ≤ 2](share)", 0.9),
            ("Σ[members > 1000](share)", 0.0),
            ("10^6", 1e6),
        ] {
            assert!(
                (value(text) - wanted).abs() < 1e-9 * wanted.max(1.0),
                "{text}: {}",
                value(text)
            );
        }
    }

    #[test]
    fn filling_in_keeps_the_meaning() {
        let filled = |text| Formula::new(text).filled(&symbols());
        assert_eq!(filled("users × (1 + 2)"), "20,000,000 × (1 + 2)");
        assert_eq!(filled("10 − (3 − 2)"), "10 − (3 − 2)");
        assert_eq!(
            filled("users × Σ[members > 2](share × (members − 1))"),
            "20,000,000 × (0.09 × (20 − 1) + 0.01 × (150 − 1))"
        );
        assert_eq!(filled("ceil(users / 3)"), "ceil(20,000,000 / 3)");
        assert_eq!(filled("Σ[members > 1000](share)"), "0");
    }

    #[test]
    fn a_group_of_a_hundred_touches_83_of_250_partitions_and_10_of_10_nodes() {
        assert!((reached(250.0, 100.0, 1.0) - 82.55).abs() < 0.01);
        assert!((reached(10.0, 100.0, 1.0) - 9.9997).abs() < 1e-4);
        assert!(
            (reached(1_024.0, 1_000.0, 1.0) - 638.5).abs() < 0.1,
            "docs/performance.md"
        );
        assert!(
            (reached(1e12, 100.0, 1.0) - 100.0).abs() < 1e-3,
            "as many places as one likes"
        );
        assert!((reached(1.0, 5.0, 1.0) - 1.0).abs() < 1e-12);
        assert!(reached(10.0, 0.0, 1.0).abs() < 1e-12);
    }

    #[test]
    fn noise_of_floating_point_buys_no_node() {
        assert_eq!(ceil(0.1 * 3.0 / 0.3 * 10.0).to_bits(), 10.0_f64.to_bits());
        assert_eq!(ceil(10.001).to_bits(), 11.0_f64.to_bits());
    }

    #[test]
    #[should_panic(expected = "which is not known there")]
    fn an_unknown_symbol_is_our_fault() {
        let _ = value("users × nobody");
    }
}
