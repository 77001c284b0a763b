//! Tables for people: columns as wide as their widest cell.

/// Rows of cells under a heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which end at the same place.
    numbers: Vec<bool>,
}

impl Table {
    /// `heading`: names of the columns; one of numbers begins with `#`, which is not printed.
    pub(super) fn new(heading: &[&str]) -> Self {
        let names = heading
            .iter()
            .map(|name| name.trim_start_matches('#').to_owned());
        Self {
            rows: vec![names.collect()],
            numbers: heading.iter().map(|name| name.starts_with('#')).collect(),
        }
    }

    /// A row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, a line per row.
    pub(super) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.numbers.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), number) in row.iter().zip(&widths).zip(&self.numbers) {
                let cell = match number {
                    true => format!("{cell:>width$}  "),
                    false => format!("{cell:<width$}  "),
                };
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number, or `-`.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `0-3,7` of numbers in order.
pub(super) fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let text = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_end_together() {
        let mut table = Table::new(&["node", "#sessions", "owner"]);
        table.row(vec!["a".to_owned(), "7".to_owned(), "gateway-1".to_owned()]);
        table.row(vec![
            "gateway-2".to_owned(),
            "12345".to_owned(),
            "-".to_owned(),
        ]);
        let wanted = "\
node       sessions  owner
a                 7  gateway-1
gateway-2     12345  -
";
        assert_eq!(table.text(), wanted);
    }

    #[test]
    fn neighbours_are_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[u32::MAX]), "4294967295");
    }
}
