//! The format of `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), and lines with a public key alone. A file is searched by the
//! bytes of one key, so that a large file costs each request little.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::SshKey;

/// What a line says of its key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is the key of these hosts.
    Pin,
    /// It is the key of a CA for these hosts.
    Authority,
    /// It is not to be believed.
    Revoked,
}

/// One line with a key.
#[derive(Debug)]
pub struct HostLine<'a> {
    mark: Mark,
    /// The list of host patterns, or one hashed name; `None` on a line with a public key alone.
    hosts: Option<&'a str>,
    /// The bytes of the key (RFC 4253 6.6).
    blob: Vec<u8>,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    number: usize,
    revokes: bool,
    why: &'static str,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.number, self.why)
    }
}

/// The types of keys with which a line can begin instead of with hosts.
const KEY_TYPES: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "ssh-dss",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// All lines but empty ones and comments, each with its number.
fn lines(text: &str) -> impl Iterator<Item = (usize, Result<HostLine<'_>, BadLine>)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| {
        let bad = |why| BadLine { number, revokes: line.starts_with("@revoked"), why };
        (number, entry(line).map_err(bad))
    })
}

fn entry(line: &str) -> Result<HostLine<'_>, &'static str> {
    let mut words = line.split_whitespace().peekable();
    let mark = match words.next_if(|word| word.starts_with('@')) {
        Some("@cert-authority") => Some(Mark::Authority),
        Some("@revoked") => Some(Mark::Revoked),
        Some(_) => return Err("the mark is neither `@cert-authority` nor `@revoked`"),
        None => None,
    };
    let alone = mark.is_none() && words.peek().is_some_and(|word| KEY_TYPES.contains(word));
    let hosts = if alone { None } else { words.next() };
    let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
        return Err("it is neither a line of `known_hosts` nor of a `.pub` file");
    };
    let blob = STANDARD.decode(base64).map_err(|_| "the key is not base64")?;
    let length = u32::try_from(algorithm.len()).unwrap_or(u32::MAX).to_be_bytes();
    if !blob.strip_prefix(&length).is_some_and(|rest| rest.starts_with(algorithm.as_bytes())) {
        return Err("the key is not of the type that the line says");
    }
    let mark = mark.unwrap_or(if alone { Mark::Authority } else { Mark::Pin });
    Ok(HostLine { mark, hosts, blob })
}

/// Whether a line revokes one of these keys, whatever hosts it is for.
///
/// # Errors
/// A line that revokes a key and cannot be read: which key it is for is not known.
pub fn is_revoked(text: &str, keys: &[&[u8]]) -> Result<bool, BadLine> {
    let mut revoked = false;
    for (_, line) in lines(text) {
        match line {
            Ok(entry) => revoked |= entry.mark == Mark::Revoked && keys.contains(&entry.blob.as_slice()),
            Err(bad) if bad.revokes => return Err(bad),
            Err(_) => {}
        }
    }
    Ok(revoked)
}

/// The lines with this mark and key. Lines that cannot be read are no such lines.
pub fn with_key<'a>(text: &'a str, mark: Mark, key: &[u8]) -> Vec<HostLine<'a>> {
    lines(text).filter_map(|(_, line)| line.ok()).filter(|line| line.mark == mark && line.blob == key).collect()
}

/// What is wrong with lines that have this mark or cannot be read, for the operator.
#[must_use]
pub fn complaints(text: &str, mark: Mark) -> Vec<String> {
    let wrong = |(number, line): (usize, Result<HostLine<'_>, BadLine>)| match line {
        Err(bad) => Some(bad.to_string()),
        Ok(entry) if entry.mark == mark => {
            SshKey::from_blob(&entry.blob).err().map(|error| format!("line {number}: {error}"))
        }
        Ok(_) => None,
    };
    lines(text).filter_map(wrong).collect()
}

impl HostLine<'_> {
    /// Whether it is for a host of this name, as ssh compares; a line with a public key alone is for all.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let (Some(hosts), name) = (self.hosts, name.to_ascii_lowercase()) else { return true };
        if let Some(hashed) = hosts.strip_prefix("|1|") {
            return is_hash_of(hashed, &name);
        }
        let mut covered = false;
        for pattern in hosts.split(',') {
            let (refuses, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
            if matches(&bare(pattern), &name) {
                if refuses {
                    return false;
                }
                covered = true;
            }
        }
        covered
    }

    /// The names in it that stand for themselves: neither hashed nor patterns.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let hosts = self.hosts.into_iter().flat_map(|hosts| hosts.split(','));
        let plain = hosts.filter(|host| !host.contains(['*', '?', '!', '|'])).map(bare);
        plain.filter(|name| self.covers(name)).collect()
    }
}

/// A pattern in lower case, without the brackets and the port of `[host]:port`.
fn bare(pattern: &str) -> String {
    let inner = pattern.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inner.map_or(pattern, |(host, _)| host).to_ascii_lowercase()
}

/// Whether `SALT|HASH`, in base64, is a name: HMAC-SHA1 with the salt as key, as `HashKnownHosts` writes it.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, name.as_bytes(), &hash).is_ok()
}

/// Whether a pattern with `*` and `?` matches a name (ssh_config(5), PATTERNS). After a mismatch only the last `*` is tried again.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of, mut star) = (0, 0, None);
    while let Some(byte) = name.get(of) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => (at, of) = (at + 1, of + 1),
            Some(_) | None => match star {
                Some((last, from)) => {
                    star = Some((last, from + 1));
                    (at, of) = (last + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn blob() -> Vec<u8> {
        STANDARD.decode(KEY).unwrap()
    }

    #[test]
    fn lines_are_read_as_ssh_reads_them() {
        let text = format!(
            "# comment\n\n  web1,10.0.0.7 ssh-ed25519 {KEY} a comment\n@cert-authority *.example.com ssh-ed25519 {KEY}\n\
             @revoked * ssh-ed25519 {KEY}\nssh-ed25519 {KEY} the CA\r\n"
        );
        let hosts = |mark| with_key(&text, mark, &blob()).iter().map(|entry| entry.hosts).collect::<Vec<_>>();
        assert_eq!(hosts(Mark::Pin), [Some("web1,10.0.0.7")]);
        assert_eq!(hosts(Mark::Authority), [Some("*.example.com"), None]);
        assert_eq!(hosts(Mark::Revoked), [Some("*")]);
        assert_eq!(is_revoked(&text, &[&blob()]), Ok(true));
        assert_eq!(is_revoked(&text, &[b"another key"]), Ok(false));
        assert!(with_key(&text, Mark::Pin, b"another key").is_empty());
        assert_eq!(complaints(&text, Mark::Pin), Vec::<String>::new());
    }

    #[test]
    fn lines_that_cannot_be_read_are_named_and_trusted_by_nobody() {
        let dss = STANDARD.encode([&[0, 0, 0, 7], b"ssh-dss".as_slice(), &[0, 0, 0, 0]].concat());
        for (line, says) in [
            ("web1".to_owned(), "line 2: it is neither a line of `known_hosts` nor of a `.pub` file"),
            ("web1 ssh-ed25519".to_owned(), "line 2: it is neither a line of `known_hosts` nor of a `.pub` file"),
            ("web1 ssh-ed25519 %%".to_owned(), "line 2: the key is not base64"),
            (format!("web1 ssh-rsa {KEY}"), "line 2: the key is not of the type that the line says"),
            (
                format!("@trusted web1 ssh-ed25519 {KEY}"),
                "line 2: the mark is neither `@cert-authority` nor `@revoked`",
            ),
            (format!("cert-authority ssh-ed25519 {KEY} x"), ""),
            (format!("web1 ssh-dss {dss}"), "line 2: it is not an SSH public key: "),
        ] {
            let text = format!("# first\n{line}\n");
            let said = complaints(&text, Mark::Pin).join("\n");
            assert!(said.starts_with(says) && said.is_empty() == says.is_empty(), "{line}: {said}");
            assert!(with_key(&text, Mark::Authority, &blob()).is_empty(), "{line}");
        }
        let damaged = is_revoked("web1 ssh-ed25519 %%\n@revoked * ssh-ed25519 %%\n", &[&blob()]).unwrap_err();
        assert_eq!(damaged.to_string(), "line 2: the key is not base64");
    }

    #[track_caller]
    fn covers(hosts: &str, name: &str, want: bool) {
        let text = format!("{hosts} ssh-ed25519 {KEY}");
        assert_eq!(with_key(&text, Mark::Pin, &blob())[0].covers(name), want, "{hosts} {name}");
    }

    #[test]
    fn hosts_are_compared_as_ssh_compares_them() {
        covers("web1", "web1", true);
        covers("Web1", "wEB1", true);
        covers("web1", "web10", false);
        covers("web?", "web1", true);
        covers("web?", "web10", false);
        covers("*.example.com", "web1.example.com", true);
        covers("*.example.com", "example.com", false);
        covers("*.example.com,!web1.example.com", "web1.example.com", false);
        covers("!web1.example.com,*.example.com", "web2.example.com", true);
        covers("[web1]:2222", "web1", true);
        covers("a*b*c", "axxbyyc", true);
        covers("a*b*c", "axxbyy", false);
        covers("*", "", true);
        // As `ssh-keygen -H` wrote it.
        covers("|1|rUEPWCx92RUvVHPfxnD8zu/UDsA=|", "web1", false);
        covers("|1|broken", "web1", false);
    }

    #[test]
    fn a_hashed_name_is_compared() {
        let salt = [7; 20];
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), b"web1");
        let hosts = format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(tag));
        covers(&hosts, "web1", true);
        covers(&hosts, "WEB1", true);
        covers(&hosts, "web2", false);
    }

    #[test]
    fn names_are_those_that_stand_for_themselves() {
        let text = format!("web1,[web2]:2222,*.example.com,!web3,web3,10.0.0.7,WEB4 ssh-ed25519 {KEY}");
        assert_eq!(with_key(&text, Mark::Pin, &blob())[0].names(), ["web1", "web2", "10.0.0.7", "web4"]);
    }
}
