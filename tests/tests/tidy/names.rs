//! Names, and the lengths of lines and functions.

use std::path::Path;

use super::{crates, layers, report, root, with_extension};

/// Household words. A type, function, module, macro, field or parameter is called by the term of its field instead.
const BANNED: &[&str] = &["dig", "errand", "heed", "lest", "still", "way", "whole", "words", "worry", "worries"];

/// A function of more words than this is a test, whose name is a sentence.
const NAME_PARTS_MAX: usize = 3;

/// The parts of a name in snake or camel case, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars() {
        if (c == '_' || (c.is_uppercase() && before_is_lower)) && found.last().is_some_and(|part| !part.is_empty()) {
            found.push(String::new());
        }
        before_is_lower = c.is_lowercase() || c.is_ascii_digit();
        if let Some(last) = found.last_mut().filter(|_| c != '_') {
            last.extend(c.to_lowercase());
        }
    }
    found
}

/// The names that a line of code declares: of an item, or of a field, a parameter or a variant that stands alone on its line.
fn declared(line: &str) -> Vec<&str> {
    const ITEMS: [&str; 10] =
        ["fn", "struct", "enum", "trait", "type", "mod", "const", "static", "union", "macro_rules!"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut found: Vec<&str> = words
        .windows(2)
        .filter(|pair| ITEMS.contains(&pair[0]))
        .map(|pair| pair[1].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect();
    let rest = line.trim_start();
    let rest = rest.strip_prefix("pub ").or_else(|| rest.strip_prefix("pub(super) ")).unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if after.starts_with(": ") || after == "," || after == "(" || after == " {" {
        found.push(name);
    }
    found
}

fn is_banned(name: &str) -> bool {
    let parts = parts(name);
    parts.len() <= NAME_PARTS_MAX && parts.iter().any(|part| BANNED.contains(&part.as_str()))
}

#[test]
fn nothing_is_called_by_a_household_word() {
    let mut complaints = Vec::new();
    for (path, text) in with_extension("rs").filter(|(path, _)| !path.ends_with("tests/tests/tidy/names.rs")) {
        for line in layers::code(&text).lines() {
            let found = declared(line).into_iter().filter(|name| is_banned(name));
            complaints.extend(found.map(|name| format!("{}: `{name}`", path.display())));
        }
    }
    report(&format!("names with one of {}", BANNED.join(", ")), complaints);
}

#[test]
fn household_words_are_told_from_what_looks_like_them() {
    for (line, banned) in [
        ("pub enum Way {", true),
        ("struct GivesWay(u8);", true),
        ("    fn still(&self) {", true),
        ("pub(super) fn whole_of(look: &Look) -> u8 {", true),
        ("    words: Vec<String>,", true),
        ("    pub words: Vec<String>,", true),
        ("    Whole,", true),
        ("macro_rules! words {", true),
        ("pub fn gateway(call: Call) -> Boxed {", false),
        ("struct Digest([u8; 32]);", false),
        ("fn a_file_that_is_not_whole_is_refused() {", false),
        ("let whole = head + body;", false),
        ("    keywords: u8,", false),
    ] {
        assert_eq!(declared(line).into_iter().any(is_banned), banned, "{line}");
    }
}

/// Longest line of prose, in columns. Tables, indented examples and text between quotes have their own.
const COLUMNS_MAX: usize = 140;

#[test]
fn no_line_of_prose_is_too_long() {
    let comments = with_extension("rs").flat_map(|(path, text)| {
        let lines = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        lines.map(|(at, line)| (path.clone(), at, line.to_owned())).collect::<Vec<_>>()
    });
    let documents = with_extension("md").flat_map(|(path, text)| {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('|') && !line.starts_with("    "));
        lines.map(|(at, line)| (path.clone(), at, line.to_owned())).collect::<Vec<_>>()
    });
    let long = comments.chain(documents).filter(|(_, _, line)| line.chars().count() > COLUMNS_MAX);
    let complaints = long.map(|(path, at, _)| format!("{}:{}", path.display(), at + 1)).collect();
    report(&format!("lines of prose over {COLUMNS_MAX} columns"), complaints);
}

#[test]
fn every_crate_limits_its_functions() {
    let limits = |dir: &str| {
        let text = std::fs::read_to_string(root().join(Path::new(dir)).join("clippy.toml")).unwrap_or_default();
        text.lines().any(|line| line == "too-many-lines-threshold = 60")
    };
    let complaints = crates().into_iter().filter(|dir| !limits(dir)).collect();
    report("crates without `too-many-lines-threshold = 60` in their clippy.toml", complaints);
}
