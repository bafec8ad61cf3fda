//! The format of `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). A file is parsed once and then searched by the SHA-256 of a key,
//! so that a large file costs each request little.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{SshKey, SshKeyError};

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

/// SHA-256 of a key's bytes (RFC 4253 6.6).
pub type KeyHash = [u8; 32];

/// A file.
#[derive(Debug, Default)]
pub struct HostFile {
    lines: BTreeMap<KeyHash, Vec<HostLine>>,
    bad: Vec<BadLine>,
}

/// One line with a key.
#[derive(Debug)]
pub struct HostLine {
    number: usize,
    mark: Mark,
    /// The list of host patterns, or one hashed name.
    hosts: String,
}

/// A line that cannot be read, or whose key cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    number: usize,
    /// What it says of its key, as far as that can be told.
    mark: Option<Mark>,
    why: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.number, self.why)
    }
}

/// What a line begins with instead of hosts when it is one of a `.pub` file.
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

/// Why a line of a `.pub` file is none here: for which hosts it would count is not said, and in a file that is read for pinned keys,
/// too, it would make its key a CA for all.
const NO_HOSTS: &str = "a key without hosts counts for none: write `@cert-authority HOSTS` before the key of a CA, and the names of its \
                        host before a pinned one";

impl HostFile {
    /// Reads a file. Lines that cannot be read are kept for the complaints.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut file = Self::default();
        for (at, line) in text.lines().enumerate() {
            let (number, line) = (at + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mark = mark(line);
            match entry(line, mark) {
                Ok((hash, mark, hosts)) => {
                    file.lines.entry(hash).or_default().push(HostLine { number, mark, hosts: hosts.to_owned() });
                }
                Err(why) => file.bad.push(BadLine { number, mark, why }),
            }
        }
        file
    }

    /// The first line that revokes a key, or may, and cannot be read. Then it is not known what is revoked.
    pub fn unclear(&self) -> Option<&BadLine> {
        self.bad.iter().find(|bad| matches!(bad.mark, None | Some(Mark::Revoked)))
    }

    /// Whether a line revokes the key, whatever hosts it is for.
    pub fn revokes(&self, key: &KeyHash) -> bool {
        self.of(key).any(|line| line.mark == Mark::Revoked)
    }

    /// The lines with this mark and key.
    pub fn with_key(&self, mark: Mark, key: &KeyHash) -> Vec<&HostLine> {
        self.of(key).filter(|line| line.mark == mark).collect()
    }

    fn of(&self, key: &KeyHash) -> impl Iterator<Item = &HostLine> {
        self.lines.get(key).into_iter().flatten()
    }

    /// What is wrong with the file when it is read for lines with this mark, for the operator. `own` is this gateway's CA for hosts.
    pub fn complaints(&self, purpose: Mark, own: Option<&KeyHash>) -> Vec<String> {
        let ours = |bad: &&BadLine| bad.mark.is_none_or(|mark| mark == purpose || mark == Mark::Revoked);
        let mut all: Vec<String> = self.bad.iter().filter(ours).map(ToString::to_string).collect();
        if let Some(bad) = self.unclear() {
            all.push(format!("no host key is trusted until line {} is mended: it may revoke one", bad.number));
        }
        let circle = own.into_iter().flat_map(|own| self.with_key(Mark::Authority, own));
        all.extend(circle.filter(|_| purpose == Mark::Authority).map(|line| {
            format!(
                "line {}: this is the gateway's own CA for hosts, which counts for nobody: who was removed would come back by it",
                line.number
            )
        }));
        all
    }
}

/// What a line says of its key; nothing if that cannot be told. Whatever may be a garbled `@revoked` is taken for none of the others.
fn mark(line: &str) -> Option<Mark> {
    match line.split_whitespace().next() {
        Some("@cert-authority") => Some(Mark::Authority),
        Some("@revoked") => Some(Mark::Revoked),
        Some(word) if word.starts_with('@') || word.ends_with("revoked") => None,
        Some(_) | None => Some(Mark::Pin),
    }
}

/// Hash of the key, mark and hosts of a line.
fn entry(line: &str, mark: Option<Mark>) -> Result<(KeyHash, Mark, &str), String> {
    let mark = mark.ok_or("the mark is neither `@cert-authority` nor `@revoked`")?;
    let mut words = line.split_whitespace();
    if mark != Mark::Pin {
        words.next();
    }
    let hosts = words.next().unwrap_or_default();
    if KEY_TYPES.contains(&hosts) {
        return Err(NO_HOSTS.to_owned());
    }
    let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
        return Err("it is no line of `known_hosts`".to_owned());
    };
    let blob = STANDARD.decode(base64).map_err(|_| "the key is not base64")?;
    let length = u32::try_from(algorithm.len()).unwrap_or(u32::MAX).to_be_bytes();
    if !blob.strip_prefix(&length).is_some_and(|rest| rest.starts_with(algorithm.as_bytes())) {
        return Err("the key is not of the type that the line says".to_owned());
    }
    match (SshKey::from_blob(&blob), mark) {
        (Ok(_), _) => {}
        // no such key is accepted, so none needs to be refused
        (Err(SshKeyError::Unsupported { .. } | SshKeyError::Key(_)), Mark::Revoked) => {}
        (Err(error), _) => return Err(error.to_string()),
    }
    let hash = digest::digest(&digest::SHA256, &blob);
    Ok((hash.as_ref().try_into().map_err(|_| "its SHA-256 is of another length")?, mark, hosts))
}

impl HostLine {
    /// Whether it is for a host of this name, as ssh compares.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        if let Some(hashed) = self.hosts.strip_prefix("|1|") {
            return is_hash_of(hashed, &name);
        }
        let mut covered = false;
        for pattern in self.hosts.split(',') {
            let (refuses, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
            if bare(pattern).is_some_and(|pattern| matches(&pattern, &name)) {
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
        let plain = self.hosts.split(',').filter(|host| !host.contains(['*', '?', '!', '|']));
        plain.filter_map(bare).filter(|name| self.covers(name)).collect()
    }
}

/// A pattern in lower case, without the brackets of `[host]:22`. What listens on another port of a host is not its sshd: everybody
/// there may run one.
fn bare(pattern: &str) -> Option<String> {
    let host = match pattern.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        None => pattern,
        Some((host, "" | ":22")) => host,
        Some(_) => return None,
    };
    Some(host.to_ascii_lowercase())
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

    fn key() -> KeyHash {
        let blob = STANDARD.decode(KEY).unwrap();
        digest::digest(&digest::SHA256, &blob).as_ref().try_into().unwrap()
    }

    fn parse(text: &str) -> HostFile {
        HostFile::parse(text.as_bytes())
    }

    #[test]
    fn lines_are_read_as_ssh_reads_them() {
        let file = parse(&format!(
            "# comment\n\n  web1,10.0.0.7 ssh-ed25519 {KEY} a comment\n@cert-authority *.example.com ssh-ed25519 {KEY}\n\
             @revoked * ssh-ed25519 {KEY}\r\n"
        ));
        let hosts = |mark| file.with_key(mark, &key()).iter().map(|line| line.hosts.as_str()).collect::<Vec<_>>();
        assert_eq!(hosts(Mark::Pin), ["web1,10.0.0.7"]);
        assert_eq!(hosts(Mark::Authority), ["*.example.com"]);
        assert_eq!(hosts(Mark::Revoked), ["*"]);
        assert!(file.revokes(&key()) && !file.revokes(&[0; 32]));
        assert!(file.with_key(Mark::Pin, &[0; 32]).is_empty());
        assert_eq!(file.complaints(Mark::Pin, None), Vec::<String>::new());
    }

    #[test]
    fn lines_that_cannot_be_read_are_named_and_trusted_by_nobody() {
        let dss = STANDARD.encode([&[0, 0, 0, 7], b"ssh-dss".as_slice(), &[0, 0, 0, 0]].concat());
        for (line, says) in [
            ("web1".to_owned(), "line 2: it is no line of `known_hosts`"),
            ("web1 ssh-ed25519".to_owned(), "line 2: it is no line of `known_hosts`"),
            ("web1 ssh-ed25519 %%".to_owned(), "line 2: the key is not base64"),
            (format!("web1 ssh-rsa {KEY}"), "line 2: the key is not of the type that the line says"),
            (format!("web1 ssh-ed25519 {}", &KEY[..64]), "line 2: it is not an SSH public key: "),
            (format!("web1 ssh-dss {dss}"), "line 2: it is not an SSH public key: "),
            // Who makes a key a CA for all hosts says so.
            (
                format!("ssh-ed25519 {KEY} the CA"),
                "line 2: a key without hosts counts for none: write `@cert-authority",
            ),
            (format!("@cert-authority ssh-ed25519 {KEY}"), "line 2: a key without hosts counts for none"),
        ] {
            let file = parse(&format!("# first\n{line}\n"));
            let purpose = if line.starts_with('@') { Mark::Authority } else { Mark::Pin };
            let said = file.complaints(purpose, None);
            assert!(said.len() == 1 && said[0].starts_with(says), "{line}: {said:?}");
            assert!(file.lines.is_empty() && file.unclear().is_none(), "{line}");
        }
    }

    /// Of such a line it is not known which key it revokes, so none is trusted.
    #[test]
    fn a_line_that_may_revoke_is_never_passed_over() {
        let whole = format!("@revoked * ssh-ed25519 {KEY}");
        // Cut anywhere, by a copy that did not end, it is missed or is the line itself.
        for len in 1..whole.len() {
            let file = parse(&format!("web1 ssh-ed25519 {KEY}\n{}", &whole[..len]));
            let bad = file.unclear().unwrap_or_else(|| panic!("{}", &whole[..len]));
            assert_eq!(bad.number, 2);
            let said = file.complaints(Mark::Pin, None);
            assert!(
                said.len() == 2 && said[1].starts_with("no host key is trusted until line 2 is mended"),
                "{said:?}"
            );
        }
        let certificate = format!("@revoked * ssh-ed25519-cert-v01@openssh.com {KEY}");
        for line in [
            "@REVOKED * ssh-ed25519 x",
            "@trusted web1 ssh-ed25519 x",
            "\u{fffd}revoked * ssh-ed25519 x",
            "@revoked ssh-ed25519 x",
            &certificate,
        ] {
            assert!(parse(line).unclear().is_some(), "{line}");
        }
        for line in [whole.as_str(), "@cert-authority * ssh-ed25519 %%", "web1 ssh-ed25519 %%"] {
            assert!(parse(line).unclear().is_none(), "{line}");
        }
    }

    #[test]
    fn the_gateways_own_ca_is_told() {
        let file = parse(&format!("# us\n@cert-authority * ssh-ed25519 {KEY}\n"));
        let said = file.complaints(Mark::Authority, Some(&key()));
        assert!(said.len() == 1 && said[0].starts_with("line 2: this is the gateway's own CA"), "{said:?}");
        assert!(file.complaints(Mark::Authority, Some(&[0; 32])).is_empty());
        assert!(file.complaints(Mark::Pin, Some(&key())).is_empty());
    }

    #[track_caller]
    fn covers(hosts: &str, name: &str, want: bool) {
        let file = parse(&format!("{hosts} ssh-ed25519 {KEY}"));
        assert_eq!(file.with_key(Mark::Pin, &key())[0].covers(name), want, "{hosts} {name}");
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
        covers("a*b*c", "axxbyyc", true);
        covers("a*b*c", "axxbyy", false);
        covers("*", "", true);
        // As `ssh-keygen -H` wrote it.
        covers("|1|rUEPWCx92RUvVHPfxnD8zu/UDsA=|", "web1", false);
        covers("|1|broken", "web1", false);
    }

    #[test]
    fn another_port_of_a_host_is_not_the_host() {
        covers("[web1]:2222", "web1", false);
        covers("[web*]:2222", "web1", false);
        covers("[web1]:22", "web1", true);
        covers("[web1]", "web1", true);
        covers("[web1]:2222,web1", "web1", true);
        covers("web1,![web1]:2222", "web1", true);
    }

    #[test]
    fn a_hashed_name_is_compared() {
        let salt = [7; 20];
        let hashed = |name: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name);
            format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(tag))
        };
        covers(&hashed(b"web1"), "web1", true);
        covers(&hashed(b"web1"), "WEB1", true);
        covers(&hashed(b"web1"), "web2", false);
        covers(&hashed(b"[web1]:2222"), "web1", false);
    }

    #[test]
    fn names_are_those_that_stand_for_themselves() {
        let hosts = "web1,[web2]:2222,[web5]:22,*.example.com,!web3,web3,10.0.0.7,WEB4";
        let file = parse(&format!("{hosts} ssh-ed25519 {KEY}"));
        assert_eq!(file.with_key(Mark::Pin, &key())[0].names(), ["web1", "web5", "10.0.0.7", "web4"]);
    }
}
