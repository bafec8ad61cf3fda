//! `@principals("root, {name}")`: the login names of an SSH user certificate.

use std::collections::BTreeSet;

/// Placeholder of the person's own name.
const NAME: &str = "{name}";
/// Never the result of [`NAME`].
const ROOT: &str = "root";
/// Longest login name in a rule, in bytes. With a person's name of 63 bytes for `{name}` it stays below the limit of our SSH
/// certificates.
const LENGTH_MAX: usize = 64;
/// Most login names in one rule. Longer lists are better expressed by groups and several rules.
const COUNT_MAX: usize = 16;

/// Why a list of login names is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadPrincipals {
    /// OpenSSH accepts a certificate without principals for every name.
    #[error("name at least one login, and none that is empty: `root, {{name}}`")]
    Empty,
    #[error("a rule names {COUNT_MAX} logins at most")]
    TooMany,
    #[error("`{0}` is named twice")]
    Twice(String),
    #[error(
        "`{0}` is no login name: use up to {LENGTH_MAX} letters, digits, `_`, `-` and `.`, with `{{name}}` once at most"
    )]
    Word(String),
}

/// The login names of a rule, which may contain `{name}`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Principals(Vec<String>);

impl Principals {
    /// Reads `root, {name}`.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPrincipals> {
        let mut found: Vec<String> = Vec::new();
        for word in text.split(',').map(str::trim) {
            if word.is_empty() {
                return Err(BadPrincipals::Empty);
            }
            if !is_login(word) {
                return Err(BadPrincipals::Word(word.escape_debug().to_string()));
            }
            if found.iter().any(|other| other == word) {
                return Err(BadPrincipals::Twice(word.to_owned()));
            }
            found.push(word.to_owned());
        }
        if found.len() > COUNT_MAX { Err(BadPrincipals::TooMany) } else { Ok(Self(found)) }
    }

    /// The login names for a person. `{name}` never gives `root`, because a person might choose that name; a rule must name that
    /// login itself.
    pub(crate) fn of(&self, person: &str) -> impl Iterator<Item = String> {
        self.0.iter().map(move |word| (word, word.replace(NAME, person))).filter_map(|(word, login)| {
            let sneaked_in = login == ROOT && word != ROOT;
            (!sneaked_in).then_some(login)
        })
    }
}

/// The login names that several rules give a person, sorted, without duplicates.
pub(crate) fn union<'a>(all: impl Iterator<Item = &'a Principals>, person: &str) -> Vec<String> {
    let names: BTreeSet<String> = all.flat_map(|principals| principals.of(person)).collect();
    names.into_iter().collect()
}

/// Whether `word` is a login name after a person's name (a DNS label) has replaced `{name}`.
fn is_login(word: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let plain = word.replacen(NAME, "x", 1);
    (1..=LENGTH_MAX).contains(&word.len()) && !plain.starts_with(['-', '.']) && plain.bytes().all(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&[&str], BadPrincipals>) {
        let got = Principals::parse(text).map(|principals| principals.of("ann").collect::<Vec<_>>());
        assert_eq!(got, want.map(|names| names.iter().map(|&name| name.to_owned()).collect()), "{text:?}");
    }

    #[test]
    fn lists_of_logins() {
        check("root", Ok(&["root"]));
        check("root, {name}", Ok(&["root", "ann"]));
        check(" root ,{name}-adm,svc_1.x ", Ok(&["root", "ann-adm", "svc_1.x"]));
        check("", Err(BadPrincipals::Empty));
        check("root,", Err(BadPrincipals::Empty));
        check(",root", Err(BadPrincipals::Empty));
        check("root, root", Err(BadPrincipals::Twice("root".into())));
        for bad in ["*", "a b", "-x", ".x", "{name", "{names}", "{name}{name}", "ä", "a:b", "a\u{0}"] {
            check(bad, Err(BadPrincipals::Word(bad.escape_debug().to_string())));
        }
        check(&"a".repeat(65), Err(BadPrincipals::Word("a".repeat(65))));
        let many: Vec<String> = (0..17).map(|n| format!("a{n}")).collect();
        check(&many.join(","), Err(BadPrincipals::TooMany));
    }

    #[test]
    fn nobody_becomes_root_by_their_name() {
        let names = |text: &str| Principals::parse(text).unwrap().of("root").collect::<Vec<_>>();
        assert_eq!(names("{name}"), [""; 0]);
        assert_eq!(names("{name}, {name}-adm"), ["root-adm"]);
        assert_eq!(names("root, {name}"), ["root"]);
    }

    #[test]
    fn several_rules_add_up() {
        let [one, two] = ["root, {name}", "deploy, root"].map(|text| Principals::parse(text).unwrap());
        assert_eq!(union([&one, &two].into_iter(), "ann"), ["ann", "deploy", "root"]);
        assert_eq!(union(std::iter::empty(), "ann"), [""; 0]);
    }
}
