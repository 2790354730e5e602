//! Lays a table out in the width of the screen.

use std::fmt::Write as _;

/// How a cell looks where colour is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Good,
    Watch,
    Bad,
    Dim,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Plain => "",
            Paint::Good => "\x1b[32m",
            Paint::Watch => "\x1b[33m",
            Paint::Bad => "\x1b[31m",
            Paint::Dim => "\x1b[2m",
        }
    }

    /// `text` in this colour, or as it is.
    pub(super) fn on(self, text: &str, color: bool) -> String {
        match self {
            paint if color && paint != Paint::Plain => format!("{}{text}\x1b[0m", paint.code()),
            _ => text.to_owned(),
        }
    }
}

/// One cell.
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) paint: Paint,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell {
            text,
            paint: Paint::Plain,
        }
    }
}

/// One column. The last one takes the width that is left.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// A number: stands at the right.
    pub(super) number: bool,
    /// The most characters it may take.
    pub(super) most: usize,
}

/// Columns with a name each, and rows of as many cells.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// Between two columns.
const GAP: usize = 2;

impl Table {
    /// The lines, the first one with the names; none is wider than `width`.
    pub(super) fn lines(&self, width: usize, color: bool) -> Vec<String> {
        let widths = self.widths(width);
        let names = self.columns.iter().map(|column| Cell {
            text: column.name.to_owned(),
            paint: Paint::Dim,
        });
        let names: Vec<Cell> = names.collect();
        std::iter::once(&names)
            .chain(&self.rows)
            .map(|cells| self.line(cells, &widths, color))
            .collect()
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let mut left = width;
        let last = self.columns.len().saturating_sub(1);
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| width_of(&cell.text)).max().unwrap_or(0);
            let wanted = widest.min(column.most).max(column.name.len());
            let given = if index == last {
                left
            } else {
                wanted.min(left)
            };
            left = left.saturating_sub(given + GAP);
            given
        };
        self.columns.iter().enumerate().map(widest).collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize], color: bool) -> String {
        let mut line = String::new();
        let mut owed = 0;
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let text = cut(&cell.text, *width);
            let space = width - width_of(&text);
            let before = owed + if column.number { space } else { 0 };
            owed = GAP + if column.number { 0 } else { space };
            if !text.is_empty() {
                let _ = write!(line, "{:before$}{}", "", cell.paint.on(&text, color));
            } else {
                owed += before;
            }
        }
        line
    }
}

/// What a terminal may need for `text`. Beyond ASCII a character may be two cells wide, so it counts
/// as two.
fn width_of(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// `text` without control characters: what an upstream said must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.collect()
}

/// The same, in at most `width`.
pub(super) fn cut(text: &str, width: usize) -> String {
    let clean = clean(text);
    if width_of(&clean) <= width {
        return clean;
    }
    const DOTS: &str = "..";
    let mut out = String::new();
    for c in clean.chars() {
        if width_of(&out) + width_of(c.encode_utf8(&mut [0; 4])) + DOTS.len() > width {
            break;
        }
        out.push(c);
    }
    out.push_str(&DOTS[..DOTS.len().min(width)]);
    out
}

#[cfg(test)]
mod tests {
    use super::{Cell, Column, Paint, Table, cut, width_of};

    fn table(rows: &[[&str; 3]]) -> Table {
        let column = |name, number, most| Column { name, number, most };
        Table {
            columns: vec![
                column("NAME", false, 10),
                column("N", true, 6),
                column("NOTE", false, 0),
            ],
            rows: rows
                .iter()
                .map(|row| row.map(|text| Cell::from(text.to_owned())).into())
                .collect(),
        }
    }

    #[test]
    fn columns_line_up_and_the_last_one_takes_what_is_left() {
        let lines = table(&[["a", "7", ""], ["a-very-long-name", "1234", "some words"]]);
        let want = [
            "NAME           N  NOTE",
            "a              7",
            "a-very-l..  1234  some w..",
        ];
        assert_eq!(lines.lines(26, false), want);
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let wide = "word ".repeat(40);
        let table = table(&[
            [&wide, "123456789", &wide],
            ["漢字漢字漢字", "1", "漢字 \x1b[31m\n"],
        ]);
        for width in [0, 1, 5, 20, 80, 200] {
            for line in table.lines(width, false) {
                assert!(width_of(&line) <= width, "{width}: {line:?}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn colour_changes_no_width() {
        assert_eq!(Paint::Bad.on("open", true), "\x1b[31mopen\x1b[0m");
        assert_eq!(Paint::Bad.on("open", false), "open");
        assert_eq!(cut("open", 4), "open");
        assert_eq!(cut("opened", 4), "op..");
        assert_eq!(cut("opened", 1), ".");
    }
}
