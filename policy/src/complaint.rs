//! Errors in a policy file, with file, line and column.

use std::fmt;

use miette::Diagnostic;

/// An error in a policy. Printed as `default.cedar:12:8: message (hint)`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// The name of the [`crate::Source`] it is about.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// One line, lower case.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Complaint {
    /// A complaint about the byte at `offset` of `text`.
    pub(crate) fn at(file: &str, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = line_and_column(text, offset);
        Self { file: file.to_owned(), line, column, message: message.into(), hint: None }
    }

    /// The same complaint with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A complaint of Cedar. `fallback` is the offset to use if Cedar gives none.
    pub(crate) fn from_cedar(file: &str, text: &str, fallback: usize, diagnostic: &dyn Diagnostic) -> Self {
        let label = diagnostic.labels().and_then(|mut labels| labels.next());
        let offset = label.as_ref().map_or(fallback, miette::LabeledSpan::offset);
        let mut complaint = Self::at(file, text, offset, one_line(&diagnostic.to_string()));
        // Cedar's help ("did you mean") is preferred to a label, which says what was expected.
        complaint.hint = diagnostic
            .help()
            .map(|help| one_line(&help.to_string()))
            .or_else(|| label.as_ref().and_then(|label| label.label()).map(one_line));
        complaint
    }
}

/// Complaints are one line each, for editors and `grep`.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Line and column, both from 1, of the byte at `offset`; past the end means the end.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// A hint with the candidate closest to `typed`; `None` when none is close.
pub fn did_you_mean<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    // At most a third of the word may differ.
    let limit = typed.chars().count().div_ceil(3);
    candidates
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (cell, r) in row.iter_mut().skip(1).zip(&right) {
            let cost = (diagonal + usize::from(l != *r)).min(previous + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, cost);
            previous = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_column_count_from_one_in_characters() {
        for (text, offset, want) in [
            ("", 0, (1, 1)),
            ("abc", 2, (1, 3)),
            ("a\nbc", 2, (2, 1)),
            ("é=x", 3, (1, 3)),
            ("é", 1, (1, 1)),
            ("a\r\nb", 3, (2, 1)),
            ("a\n", 99, (2, 1)),
        ] {
            assert_eq!(line_and_column(text, offset), want, "{text:?} at {offset}");
        }
    }

    #[test]
    fn nearest_name_is_offered() {
        for (typed, want) in [
            ("tokn_id", Some("did you mean `token_id`?")),
            ("token_by", Some("did you mean `token_by`?")),
            ("elephant", None),
            ("", None),
        ] {
            let got = did_you_mean(typed, ["prior_name", "token_by", "token_id"].into_iter());
            assert_eq!(got.as_deref(), want, "{typed}");
        }
    }
}
