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

fn matches(pattern: &str, name: &str) -> bool {
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
