//! `@principals("root, {name}")`: the login names that an SSH user certificate is good for.

use std::collections::BTreeSet;

/// What stands for the person's own name.
const NAME: &str = "{name}";
/// Who may do everything on a machine.
const ROOT: &str = "root";
/// Longest login name in a rule. With a person's name of 63 characters in the place of `{name}` it stays below what an
/// SSH certificate of ours takes.
const LENGTH_MAX: usize = 64;
/// Most login names in one rule: more is a list that belongs into groups and rules.
const COUNT_MAX: usize = 16;

/// Why a list of login names is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadPrincipals {
    /// Nothing between two commas, or nothing at all. To OpenSSH a certificate without names is good for every name.
    #[error("name at least one login, and none that is empty: `root, {{name}}`")]
    Empty,
    /// Too many.
    #[error("a rule names {COUNT_MAX} logins at most")]
    TooMany,
    /// Twice the same.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// Not a login name.
    #[error(
        "`{0}` is no login name: use up to {LENGTH_MAX} letters, digits, `_`, `-` and `.`, with `{{name}}` once at most"
    )]
    Word(String),
}

/// Login names as a rule gives them, with `{name}` in them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Principals(Vec<String>);

impl Principals {
    /// Reads `root, {name}`.
    ///
    /// # Errors
    /// [`BadPrincipals`].
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

    /// The names for a person. Whoever may choose their own name could be called `root`: that login is given by its name
    /// only, never by `{name}`.
    pub(crate) fn of(&self, person: &str) -> impl Iterator<Item = String> {
        self.0.iter().map(move |word| (word, word.replace(NAME, person))).filter_map(|(word, login)| {
            let sneaked_in = login == ROOT && word != ROOT;
            (!sneaked_in).then_some(login)
        })
    }
}

/// The union of what several rules give a person, sorted.
pub(crate) fn union<'a>(all: impl Iterator<Item = &'a Principals>, person: &str) -> Vec<String> {
    let names: BTreeSet<String> = all.flat_map(|principals| principals.of(person)).collect();
    names.into_iter().collect()
}

/// Whether a word is a login name once a person's name (a DNS label) stands for `{name}`.
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
