//! Limits on policy text, checked before Cedar's recursive parser sees it.

use super::Source;
use crate::complaint::Complaint;

/// Most rules. The time of a decision is linear in the rules of an action: 1.8 ms for a thousand.
pub(super) const RULES_MAX: usize = 1_000;
/// Largest policy file, in bytes: a thousand rules fit.
const FILE_MAX: usize = 1024 * 1024;
/// Deepest nesting of brackets. Cedar's parser and validator recurse and use about 60 kB of stack for each level (unoptimised).
const NESTING_MAX: usize = 32;
/// Longest rule, in bytes without white space and strings. `a && b && c` recurses too, with about 14 kB of stack for each operator,
/// which with its operand takes at least two characters.
const RULE_MAX: usize = 4 * 1024;
/// Size in bytes of the stack for loading rules: twice the worst case of the limits above. Near the end of its stack, Cedar's
/// validator stops checking a rule and *reports no error* (4.14.1, `TypecheckAnswer::RecursionLimit`).
pub(super) const STACK: usize = 64 * 1024 * 1024;

/// Refuses text that could exhaust the stack or take too long to load.
pub(super) fn check(source: Source<'_>) -> Result<(), Complaint> {
    let Source { name, text } = source;
    if text.len() > FILE_MAX {
        let message = format!("the file is longer than {} KiB", FILE_MAX / 1024);
        return Err(Complaint::at(name, text, FILE_MAX, message));
    }
    let mut depth: usize = 0;
    let mut code: usize = 0;
    for (offset, byte) in code_bytes(text) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => code = 0,
            _ => {}
        }
        code += usize::from(!byte.is_ascii_whitespace());
        if depth > NESTING_MAX {
            let message = format!("brackets nest deeper than {NESTING_MAX}");
            return Err(Complaint::at(name, text, offset, message));
        }
        if code > RULE_MAX {
            let message = format!("the rule is longer than {RULE_MAX} characters");
            return Err(Complaint::at(name, text, offset, message)
                .hint("split it, or move the list it holds into groups or labels"));
        }
    }
    Ok(())
}

/// The bytes of `text` with their offsets, without comments and the contents of strings.
pub(super) fn code_bytes(text: &str) -> impl Iterator<Item = (usize, u8)> {
    #[derive(Clone, Copy)]
    enum In {
        Code,
        Slash,
        Comment,
        Text,
        Escape,
    }
    let mut state = In::Code;
    text.bytes().enumerate().filter(move |(_, byte)| {
        let (next, keep) = match (state, byte) {
            (In::Comment, b'\n') => (In::Code, true),
            (In::Comment, _) => (In::Comment, false),
            (In::Text, b'\\') => (In::Escape, false),
            (In::Text, b'"') => (In::Code, true),
            (In::Text | In::Escape, _) => (In::Text, false),
            (In::Slash, b'/') => (In::Comment, false),
            (In::Code | In::Slash, b'"') => (In::Text, true),
            (In::Code, b'/') => (In::Slash, true),
            (In::Code | In::Slash, _) => (In::Code, true),
        };
        state = next;
        keep
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        for (text, want) in [
            ("a(b)", "a(b)"),
            ("a // ((\nb", "a /\nb"),
            ("\"((\" (", "\"\" ("),
            (r#""\"((" x"#, "\"\" x"),
            (r#""\\" ("#, "\"\" ("),
            ("a / b", "a / b"),
            ("\"http://x\" y", "\"\" y"),
        ] {
            let got: String = code_bytes(text).map(|(_, byte)| char::from(byte)).collect();
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn limits_are_complained_of_where_they_are_passed() {
        let deep = format!("{}1", "(".repeat(40));
        let long = format!("// note\n{}", "1 && ".repeat(2_000));
        let list = "permit(principal, action, resource);\n".repeat(500);
        for (text, want) in [
            (deep.as_str(), Some("f:1:33: brackets nest deeper than 32")),
            (&long, Some("f:2:6826: the rule is longer than 4096 characters")),
            (&list, None),
        ] {
            let got = check(Source { name: "f", text }).err().map(|complaint| {
                format!("{}:{}:{}: {}", complaint.file, complaint.line, complaint.column, complaint.message)
            });
            assert_eq!(got.as_deref(), want);
        }
    }
}
