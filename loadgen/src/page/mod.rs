//! A page of a report: one HTML file that needs nothing else and prints well.
//!
//! Everything that is given is text and is escaped; only what [`plot`] draws is taken as it is.

pub mod plot;

use std::fmt::Write as _;

use plot::Drawing;

/// Formulas may break anywhere in it, so that no column grows beyond the page.
const STYLE: &str = include_str!("page.css");

/// How a cell of a table is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// As text.
    Text,
    /// To the right, not broken.
    Number,
    /// Small, in equal widths.
    Code,
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with its title as heading.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let body = format!("<h1>{}</h1>\n", escaped(title));
        Self {
            title: title.to_owned(),
            body,
        }
    }

    /// A heading of the second rank.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(text));
    }

    /// A paragraph; nothing where the text is empty.
    pub fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = writeln!(self.body, "<p>{}</p>", escaped(text));
        }
    }

    /// A list; those that are marked stand out.
    pub fn list<'a>(&mut self, lines: impl Iterator<Item = (bool, &'a str)>) {
        self.body.push_str("<ul>\n");
        for (marked, line) in lines {
            let class = if marked { " class=\"marked\"" } else { "" };
            let _ = writeln!(self.body, "<li{class}>{}</li>", escaped(line));
        }
        self.body.push_str("</ul>\n");
    }

    /// A table: columns with how they are set, and rows of as many cells.
    pub fn table(&mut self, columns: &[(&str, Cell)], rows: &[Vec<String>]) {
        self.body.push_str("<table>\n<thead><tr>");
        for (name, cell) in columns {
            let _ = write!(self.body, "<th{}>{}</th>", class(*cell), escaped(name));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (text, (_, cell)) in row.iter().zip(columns) {
                let _ = write!(self.body, "<td{}>{}</td>", class(*cell), escaped(text));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody>\n</table>\n");
    }

    /// Drawings side by side where there is room, each with what it shows.
    pub fn drawings(&mut self, drawings: &[(Drawing, &str)]) {
        self.body.push_str("<div class=\"drawings\">\n");
        for (drawing, caption) in drawings {
            let _ = writeln!(
                self.body,
                "<figure>{}<figcaption>{}</figcaption></figure>",
                drawing.svg(),
                escaped(caption)
            );
        }
        self.body.push_str("</div>\n");
    }

    /// The whole file.
    #[must_use]
    pub fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            escaped(&self.title),
            self.body
        )
    }
}

fn class(cell: Cell) -> &'static str {
    match cell {
        Cell::Text => "",
        Cell::Number => " class=\"number\"",
        Cell::Code => " class=\"code\"",
    }
}

/// Text as HTML and SVG show it.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_escapes_what_it_is_given() {
        let mut page = Page::new("a < b & \"c\"");
        page.heading("<script>");
        page.paragraph("");
        page.list([(true, "x > y")].into_iter());
        page.table(&[("n", Cell::Number)], &[vec!["<1>".to_owned()]]);
        let html = page.finish();
        assert!(
            html.contains("<h1>a &lt; b &amp; &quot;c&quot;</h1>"),
            "{html}"
        );
        assert!(
            html.contains("<td class=\"number\">&lt;1&gt;</td>"),
            "{html}"
        );
        assert!(
            html.contains("<li class=\"marked\">x &gt; y</li>"),
            "{html}"
        );
        for foreign in [
            "<script", "<p></p>", "src=", "href=", "http://", "https://", "url(",
        ] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
