//! Tables for a terminal: formats the lists of all commands by the same rules. Cells are escaped, columns with the same value in every
//! row are left out, and columns that are too wide are cut or left out.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::text::safe;

/// Separator of columns.
const GAP: &str = "  ";

/// Replaces the rest of a cell that was cut.
const CUT: char = '…';

/// Least width of a cut cell, in characters: enough to distinguish cells in most lists.
const CUT_LEAST: usize = 12;

/// A cell without a value.
pub const NOTHING: &str = "-";

/// How a column may be reduced so that the table fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Not at all: it names the row and is copied by people.
    Full,
    /// Left out, the rightmost such column first.
    Leave,
    /// Its cells are cut.
    Cut,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    heading: &'static str,
    fit: Fit,
}

/// A column that is always shown uncut, such as a name or a state.
#[must_use]
pub const fn key(heading: &'static str) -> Column {
    Column { heading, fit: Fit::Full }
}

/// A column that is left out when all rows have the same value, or when the terminal is too narrow.
#[must_use]
pub const fn detail(heading: &'static str) -> Column {
    Column { heading, fit: Fit::Leave }
}

/// A column that is left out when all rows have the same value, and whose cells are cut when the terminal is too narrow: free text,
/// labels, rules.
#[must_use]
pub const fn prose(heading: &'static str) -> Column {
    Column { heading, fit: Fit::Cut }
}

/// Columns and rows, to be rendered for a width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    none: &'static str,
}

impl Table {
    /// A row for each of `rows`, in their order; `none` is the text of an empty table.
    #[must_use]
    pub fn new<'a, T: 'a>(
        none: &'static str,
        columns: &[Column],
        rows: impl IntoIterator<Item = &'a T>,
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Self {
        let cell = |text: String| if text.is_empty() { NOTHING.to_owned() } else { safe(&text) };
        let rows = rows.into_iter().map(|row| cells(row).into_iter().map(cell).collect()).collect();
        Self { columns: columns.to_vec(), rows, none }
    }

    /// As text, at most `width` characters wide if possible, without limit for `None`.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.none);
        }
        let mut shown: Vec<usize> = (0..self.columns.len()).filter(|column| self.says_something(*column)).collect();
        let widths = loop {
            let widths: Vec<usize> = shown.iter().map(|column| self.width(*column)).collect();
            let Some(limit) = width else { break widths };
            match self.narrowed(&shown, widths, limit) {
                Ok(widths) => break widths,
                // No more columns can be left out: the terminal wraps the lines.
                Err(widths) => match shown.iter().rposition(|column| self.columns[*column].fit == Fit::Leave) {
                    Some(spare) => drop(shown.remove(spare)),
                    None => break widths,
                },
            }
        };
        let mut out = line(shown.iter().map(|column| self.columns[*column].heading), &widths);
        for row in &self.rows {
            out.push_str(&line(shown.iter().map(|column| row.get(*column).map_or("", String::as_str)), &widths));
        }
        out
    }

    /// Whether a column has information: it is not empty, and its value is not the same in several rows.
    fn says_something(&self, column: usize) -> bool {
        let cells = || self.rows.iter().filter_map(|row| row.get(column));
        let is_key = self.columns[column].fit == Fit::Full;
        let is_empty = || cells().all(|cell| cell == NOTHING);
        let is_same =
            || self.rows.len() > 1 && self.rows.windows(2).all(|two| two[0].get(column) == two[1].get(column));
        is_key || !(is_empty() || is_same())
    }

    /// Width of the widest cell, the heading included.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([self.columns[column].heading.chars().count()]).max().unwrap_or(0)
    }

    /// The widths after cutting cells until the table fits, the widest column first; `Err` with the narrowest widths if it does not fit.
    fn narrowed(&self, shown: &[usize], mut widths: Vec<usize>, limit: usize) -> Result<Vec<usize>, Vec<usize>> {
        loop {
            let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
            if total <= limit {
                return Ok(widths);
            }
            let least = |at: usize| CUT_LEAST.max(self.columns[shown[at]].heading.chars().count());
            let may_be_cut = |at: &usize| self.columns[shown[*at]].fit == Fit::Cut && widths[*at] > least(*at);
            match (0..widths.len()).filter(may_be_cut).max_by_key(|at| widths[*at]) {
                Some(widest) => widths[widest] = least(widest).max(widths[widest].saturating_sub(total - limit)),
                None => return Err(widths),
            }
        }
    }
}

/// One line, without trailing blanks.
fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut out = String::new();
    for (cell, width) in cells.zip(widths) {
        if cell.chars().count() > *width {
            let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
            let _ = write!(out, "{kept}{CUT}{GAP}");
        } else {
            let _ = write!(out, "{cell:<width$}{GAP}");
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Natural sort order of names: `rack7-2` before `rack7-10`.
#[must_use]
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (one, other) = (piece(left), piece(right));
        if one.is_empty() || other.is_empty() {
            return one.len().cmp(&other.len()).then_with(|| a.cmp(b));
        }
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(one) && digits(other) {
            let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        } else {
            one.cmp(other)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (&left[one.len()..], &right[other.len()..]);
    }
}

/// The digits at the beginning, or what comes before the first digit.
fn piece(text: &str) -> &str {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column; 4] = [key("NAME"), detail("ROLE"), prose("LABELS"), detail("FROM")];

    fn table(rows: &[[&str; 4]]) -> Table {
        Table::new("none", &COLUMNS, rows, |row| row.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[track_caller]
    fn check(rows: &[[&str; 4]], width: Option<usize>, want: &str) {
        assert_eq!(table(rows).render(width), want);
    }

    const LONG: &str = "site=lab rack=7 purpose=measuring";

    #[test]
    fn what_is_the_same_in_every_row_is_left_out() {
        check(&[], None, "none\n");
        check(&[["a", "machine", "x=y", "net"]], None, "NAME  ROLE     LABELS  FROM\na     machine  x=y     net\n");
        check(
            &[["a", "machine", "x=y", "one"], ["a", "machine", "x=y", "two"]],
            None,
            "NAME  FROM\na     one\na     two\n",
        );
        // An empty column is left out for a single row too; the key stays.
        check(&[["a", "", "-", ""]], None, "NAME\na\n");
        check(&[["", "machine", "", ""]], None, "NAME  ROLE\n-     machine\n");
    }

    #[test]
    fn what_is_too_wide_is_cut_or_left_out() {
        let rows = [["alpha", "machine", LONG, "203.0.113.0/24"], ["beta", "person", "", "198.51.100.0/24"]];
        check(
            &rows,
            None,
            "NAME   ROLE     LABELS                             FROM\n\
             alpha  machine  site=lab rack=7 purpose=measuring  203.0.113.0/24\n\
             beta   person   -                                  198.51.100.0/24\n",
        );
        check(
            &rows,
            Some(50),
            "NAME   ROLE     LABELS             FROM\n\
             alpha  machine  site=lab rack=7 …  203.0.113.0/24\n\
             beta   person   -                  198.51.100.0/24\n",
        );
        check(&rows, Some(30), "NAME   ROLE     LABELS\nalpha  machine  site=lab rack…\nbeta   person   -\n");
        check(&rows, Some(20), "NAME   LABELS\nalpha  site=lab rac…\nbeta   -\n");
        // Too narrow: the terminal wraps the lines.
        check(&rows, Some(4), "NAME   LABELS\nalpha  site=lab ra…\nbeta   -\n");
    }

    #[test]
    fn cells_are_escaped() {
        check(
            &[["a\u{1b}[2J", "\u{202e}", "b\nc", ""]],
            None,
            "NAME        ROLE      LABELS\na\\u{1b}[2J  \\u{202e}  b\\u{a}c\n",
        );
    }

    #[test]
    fn names_in_the_order_people_count() {
        let mut names = ["rack7-10", "rack7-2", "rack10", "a", "rack7", "rack07-2", "rack7-2a", "", "b1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "a", "b1", "rack7", "rack07-2", "rack7-2", "rack7-2a", "rack7-10", "rack10"]);
    }

    proptest! {
        #[test]
        fn it_fits_whenever_it_can(
            rows in proptest::collection::vec(proptest::array::uniform4("[a-z]{0,30}"), 1..6),
            width in 45usize..200,
        ) {
            let rows: Vec<[&str; 4]> = rows.iter().map(|row| [0, 1, 2, 3].map(|at| row[at].as_str())).collect();
            // The key (30), the gap, and the least width of a cut column.
            let text = table(&rows).render(Some(width));
            prop_assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            prop_assert_eq!(text.lines().count(), rows.len() + 1);
        }

        #[test]
        fn the_order_is_an_order(a in "[a0-9-]{0,8}", b in "[a0-9-]{0,8}", c in "[a0-9-]{0,8}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
