//! Names of newcomers, and the name patterns of tokens.

use pki::{KeyDigest, Name, Role};

use super::refusal::{NameRule, Refusal};

/// Chooses the name: the wanted one, else the only name that the token allows, else one derived from the key.
///
/// # Errors
/// [`Refusal::NameIllegal`] if the wanted name is invalid or the token does not allow it.
pub fn choose(wanted: Option<&str>, allowed: &[String], role: Role, key: &KeyDigest) -> Result<Name, Refusal> {
    let text = match (wanted, allowed) {
        (Some(wanted), _) => wanted.to_owned(),
        (None, [only]) if !only.contains('*') => only.clone(),
        (None, _) => {
            let letter = match role {
                Role::Machine => 'm',
                Role::Person => 'p',
                Role::Gateway => 'g',
            };
            format!("{letter}-{}", key.hex().get(..10).unwrap_or_default())
        }
    };
    let name = legal(&text)?;
    if allowed.is_empty() || allowed.iter().any(|pattern| matches(pattern, name.as_str())) {
        Ok(name)
    } else {
        Err(Refusal::NameIllegal {
            name: text,
            why: format!("the evidence shown is for {}", allowed.join(", ")),
            whose: NameRule::Token,
        })
    }
}

/// Checks a name that is to be assigned: valid, and not one that programs read as something else, such as an address.
///
/// # Errors
/// [`Refusal::NameIllegal`] with the rule.
pub fn legal(text: &str) -> Result<Name, Refusal> {
    let name = known(text)?;
    match pki::misread(text) {
        Some(why) => Err(Refusal::NameIllegal { name: text.to_owned(), why: why.to_owned(), whose: NameRule::Form }),
        None => Ok(name),
    }
}

/// Checks a name that may have been assigned already. Less strict than [`legal`].
///
/// # Errors
/// [`Refusal::NameIllegal`] with the rule.
pub fn known(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).map_err(|bad| Refusal::NameIllegal {
        name: text.chars().take(64).collect(),
        why: bad.to_string(),
        whose: NameRule::Form,
    })
}

/// Patterns for the names that match a pattern of each list.
#[must_use]
pub fn common(one: &[String], other: &[String]) -> Vec<String> {
    // two patterns have names in common only if the start of one matches the other; then the longer one is the intersection
    let mut common: Vec<String> = one
        .iter()
        .flat_map(|a| {
            other.iter().filter_map(move |b| if narrower(a, b) { Some(a) } else { narrower(b, a).then_some(b) })
        })
        .cloned()
        .collect();
    common.sort();
    common.dedup();
    common
}

/// Whether `b` matches every name that `a` matches.
fn narrower(a: &str, b: &str) -> bool {
    b.strip_suffix('*').map_or(a == b, |start| a.strip_suffix('*').unwrap_or(a).starts_with(start))
}

/// Checks a pattern of a token: a name, or a prefix and `*`.
///
/// # Errors
/// [`Refusal::NameIllegal`] if no valid name could match.
pub fn pattern(text: &str) -> Result<(), Refusal> {
    match text.strip_suffix('*') {
        Some(stem) => known(&format!("{stem}0")).map(drop),
        None => legal(text).map(drop),
    }
}

/// Whether a pattern matches a name; each `*` matches any text, also none.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| ends(rest, name)),
    }
}

/// Whether a name ends as a pattern does after a `*`. Searches each piece once, at its first occurrence, so that the time is linear in
/// both lengths.
fn ends(pattern: &str, mut name: &str) -> bool {
    let (middle, last) = pattern.rsplit_once('*').map_or((None, pattern), |(middle, last)| (Some(middle), last));
    for piece in middle.into_iter().flat_map(|middle| middle.split('*')) {
        match name.split_once(piece) {
            Some((_, rest)) => name = rest,
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: Option<&str>, allowed: &[&str], want: Option<&str>) {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let key = KeyDigest::from_spki_der(b"key");
        let got = choose(wanted, &allowed, Role::Machine, &key).ok();
        let want = want.map(|name| name.replace("KEY", &key.hex()[..10]));
        assert_eq!(got.map(|name| name.to_string()), want);
    }

    #[track_caller]
    fn shared(one: &[&str], other: &[&str], want: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(common(&owned(one), &owned(other)), owned(want));
        assert_eq!(common(&owned(other), &owned(one)), owned(want));
    }

    #[test]
    fn names_in_common() {
        shared(&["edge-7"], &["edge-7"], &["edge-7"]);
        shared(&["edge-7"], &["edge-8"], &[]);
        shared(&["edge-*"], &["edge-7", "core-1"], &["edge-7"]);
        shared(&["edge-*"], &["ed*"], &["edge-*"]);
        shared(&["edge-*"], &["core-*"], &[]);
        shared(&["*"], &["edge-*", "core-1"], &["core-1", "edge-*"]);
        shared(&["edge*"], &["edge"], &["edge"]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("edge-7", "edge-7", true),
            ("edge-7", "edge-70", false),
            ("edge-*", "edge-", true),
            ("edge-*", "core-1", false),
            ("*-7", "edge-7", true),
            ("*-7", "edge-7-7", true),
            ("*-7", "edge-78", false),
            ("e*-7", "edge-7", true),
            ("a*a", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("a*b*b", "ab", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn names() {
        check(Some("edge-07"), &[], Some("edge-07"));
        check(None, &["edge-07"], Some("edge-07"));
        check(None, &[], Some("m-KEY"));
        check(None, &["edge-*"], None);
        check(Some("edge-07"), &["edge-*"], Some("edge-07"));
        check(Some("core-1"), &["edge-*", "core-1"], Some("core-1"));
        check(Some("core-2"), &["edge-*", "core-1"], None);
        check(Some("Edge"), &[], None);
        check(Some("\u{435}dge"), &[], None);
        check(Some("xn--dge-5cd"), &[], None);
        check(Some(""), &[], None);
        check(Some("localhost"), &[], None);
        check(Some("all"), &["all"], None);
        check(None, &["null"], None);
        check(Some("7"), &["7*"], None);
        check(Some("7a"), &["7*"], Some("7a"));
    }
}
