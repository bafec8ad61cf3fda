//! Which name a newcomer gets.

use pki::{KeyDigest, Name, Role};

use super::refusal::Refusal;

/// The name to give: the wanted one, else the single exact name a token is for, else one made from the key.
///
/// # Errors
/// [`Refusal::NameIllegal`] when the wanted name is not a legal name or none of those the token is for.
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
        Err(Refusal::NameIllegal { name: text, why: format!("the join token is for {}", allowed.join(", ")) })
    }
}

/// A legal name, or why it is not.
///
/// # Errors
/// [`Refusal::NameIllegal`].
pub fn legal(text: &str) -> Result<Name, Refusal> {
    Name::parse(text)
        .map_err(|bad| Refusal::NameIllegal { name: text.chars().take(64).collect(), why: bad.to_string() })
}

/// The names that both lists of patterns are for, as patterns.
#[must_use]
pub fn common(one: &[String], other: &[String]) -> Vec<String> {
    // Two patterns have names in common only when the start of one matches the other: then the longer is what they share.
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

/// Whether every name that `a` is for, `b` is for as well.
fn narrower(a: &str, b: &str) -> bool {
    b.strip_suffix('*').map_or(a == b, |start| a.strip_suffix('*').unwrap_or(a).starts_with(start))
}

/// Whether a name is one that the pattern is for.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
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
    }
}
