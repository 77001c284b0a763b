//! From text to [`Node`]: precedence climbing over characters.

use super::{Condition, Function, Node, Op};

/// Parses a whole text.
///
/// # Errors
/// What was expected, and where (in characters).
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
    };
    let node = parser.sum()?;
    match parser.peek() {
        None => Ok(node),
        Some(found) => Err(parser.fault(&format!("nothing behind, not {found:?}"))),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at) == Some(&' ') {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> Result<(), String> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(&format!("{wanted:?}")))
        }
    }

    fn fault(&self, expected: &str) -> String {
        format!("expected {expected} at character {}", self.at)
    }

    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        loop {
            let op = match self.peek() {
                Some('+') => Op::Plus,
                Some('−') => Op::Minus,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Pair(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.power()?;
        loop {
            let op = match self.peek() {
                Some('×') => Op::Times,
                Some('/') => Op::Over,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Pair(op, Box::new(left), Box::new(self.power()?));
        }
    }

    fn power(&mut self) -> Result<Node, String> {
        let base = self.atom()?;
        if self.peek() != Some('^') {
            return Ok(base);
        }
        self.at += 1;
        Ok(Node::Pair(
            Op::Power,
            Box::new(base),
            Box::new(self.atom()?),
        ))
    }

    fn atom(&mut self) -> Result<Node, String> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.sum()?;
                self.take(')')?;
                Ok(inner)
            }
            Some('Σ') => {
                self.at += 1;
                let condition = self.condition()?;
                self.take('(')?;
                let term = self.sum()?;
                self.take(')')?;
                Ok(Node::Sum(condition, Box::new(term)))
            }
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_ascii_lowercase() => self.named(),
            _ => Err(self.fault("a number, a symbol, a function or a bracket")),
        }
    }

    fn condition(&mut self) -> Result<Option<Condition>, String> {
        if self.peek() != Some('[') {
            return Ok(None);
        }
        self.at += 1;
        self.peek();
        if self.word() != "members" {
            return Err(self.fault("members"));
        }
        let above = match self.peek() {
            Some('>') => true,
            Some('≤') => false,
            _ => return Err(self.fault("> or ≤")),
        };
        self.at += 1;
        let bound = Box::new(self.sum()?);
        self.take(']')?;
        Ok(Some(Condition { above, bound }))
    }

    fn number(&mut self) -> Result<Node, String> {
        let digits = self.run(|c| c.is_ascii_digit() || c == '.');
        let number = digits.parse();
        number.map(Node::Number).map_err(|_| self.fault("a number"))
    }

    fn named(&mut self) -> Result<Node, String> {
        let name = self.word();
        if self.chars.get(self.at) != Some(&'(') {
            return Ok(Node::Symbol(name));
        }
        let known = Function::ALL.iter().find(|(known, ..)| *known == name);
        let Some((_, function, wanted)) = known else {
            return Err(self.fault(&format!("a function, not {name}")));
        };
        self.at += 1;
        let mut terms = vec![self.sum()?];
        while self.peek() == Some(',') {
            self.at += 1;
            terms.push(self.sum()?);
        }
        self.take(')')?;
        if !(wanted.0..=wanted.1).contains(&terms.len()) {
            return Err(self.fault(&format!("{} term(s) of {name}", wanted.0)));
        }
        Ok(Node::Call(*function, terms))
    }

    fn word(&mut self) -> String {
        self.run(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.chars[self.at..].iter();
        let word: String = rest.take_while(|c| belongs(**c)).collect();
        self.at += word.chars().count();
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_formula_is_told_where() {
        for (text, wanted) in [
            ("", "a number"),
            ("1 +", "a number"),
            ("(1", "')'"),
            ("1 2", "nothing behind"),
            ("floor(1)", "not floor"),
            ("min(1)", "2 term(s) of min"),
            ("Σ[share > 1](share)", "members"),
            ("Σ[members = 1](share)", "> or ≤"),
            ("1.2.3", "a number"),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.contains(wanted), "{text}: {fault}");
        }
    }
}
