//! Text that other programs interpret: words for a shell, values of `ssh_config`, arguments for Ansible. It is made only of checked
//! types and never of a peer's text: no function here takes a `String`. ([`crate::text`] and [`crate::text::table`] make text for
//! terminals.)

use std::fmt;
use std::path::Path;

use pki::{Name, TrustDomain};

use crate::core::target::{Address, DnsName};
use crate::text;
use crate::text::report::{Complaint, Exit};

/// A path that can be quoted for a shell, for every version of ssh and for Ansible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath(String);

impl LocalPath {
    /// Checks the characters of the path.
    ///
    /// # Errors
    /// When one cannot be quoted: ssh has no escape for `"` and `${` in a path, and its versions differ in how they read `'` and `\`.
    pub fn new(path: &Path) -> Result<Self, Complaint> {
        let refused = |what: &str| {
            let what = format!("ssh cannot use the path `{}`: it contains {what}", path.display());
            Complaint::new(Exit::Files, "files", what).hint("name another folder with --dir, or a link to this one")
        };
        let text = path.to_str().ok_or_else(|| refused("bytes that are not UTF-8"))?;
        if text != text::safe(text) {
            return Err(refused("invisible or control characters"));
        }
        match ["\"", "'", "\\", "${"].into_iter().find(|bad| text.contains(bad)) {
            Some(bad) => Err(refused(&format!("`{bad}`"))),
            None if !path.is_absolute() => Err(refused("no `/` at its beginning")),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The path of a file below it.
    ///
    /// # Errors
    /// As [`LocalPath::new`].
    pub fn below(&self, name: &Path) -> Result<Self, Complaint> {
        Self::new(&Path::new(&self.0).join(name))
    }

    /// As a value of `ssh_config`, with `%` doubled.
    #[must_use]
    pub fn ssh_value(&self) -> String {
        format!("\"{}\"", self.0.replace('%', "%%"))
    }

    /// As the value of `Include`, which is a glob pattern.
    ///
    /// # Errors
    /// When it would be read as a pattern.
    pub fn ssh_include(&self) -> Result<String, Complaint> {
        if self.0.contains(['*', '?', '[']) {
            let what = format!("ssh would read the path `{}` as a pattern", self.0);
            return Err(Complaint::new(Exit::Files, "files", what).hint("name another folder with --dir"));
        }
        Ok(format!("\"{}\"", self.0))
    }

    /// As a word of `ansible_ssh_common_args`, which is split by the rules of a shell, but not run by one.
    #[must_use]
    pub fn shell_word(&self) -> String {
        quoted(&self.0)
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word of a command that ssh passes to a shell.
#[derive(Clone, Debug)]
pub enum Word<'a> {
    /// A constant.
    Fixed(&'static str),
    /// One of ssh's own tokens, such as `%h`.
    Token(&'static str),
    /// A path.
    Path(&'a LocalPath),
    /// Where to connect.
    Address(&'a Address),
    /// `ssh--<machine>.<face>`: the DNS name of a machine's ssh, below the name of the proxy face.
    Service(&'a Name, &'a DnsName),
}

/// A command for `ProxyCommand` and `Match exec`: each word quoted for the shell, `%` doubled for ssh.
#[must_use]
pub fn ssh_command(words: &[Word<'_>]) -> String {
    let word = |word: &Word<'_>| match word {
        Word::Fixed(text) => quoted(text).replace('%', "%%"),
        Word::Token(token) => (*token).to_owned(),
        Word::Path(path) => quoted(&path.0).replace('%', "%%"),
        Word::Address(address) => quoted(&address.to_string()).replace('%', "%%"),
        Word::Service(machine, below) => quoted(&format!("ssh--{machine}.{below}")).replace('%', "%%"),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A machine's full name, as used in `known_hosts`.
#[must_use]
pub fn full_name(machine: &Name, domain: &TrustDomain) -> String {
    format!("{machine}.machine.{domain}")
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::{Value, json};

    use super::*;
    use crate::core::ssh::Pattern;
    use crate::text::report::Refusal;
    use crate::text::table::{Table, key, prose};

    /// Text by which a peer, or the name of a folder, might inject something into a shell, ssh or terminal.
    const HOSTILE: [&str; 31] = [
        "$(touch x)",
        "a$(touch x)",
        "`touch x`",
        "a;touch x",
        "a|touch x",
        "a&touch x",
        "a b",
        "a\nProxyCommand touch x",
        "a\rb",
        "a\0b",
        "a\"b",
        "a'b",
        "a\\b",
        "a\\",
        "%h",
        "a%nb",
        "${USER}",
        "$HOME",
        "~",
        "~root",
        "-oProxyCommand=touch x",
        "-",
        "..",
        "../../x",
        "a/b",
        "*",
        "a[b]",
        "#x",
        "\u{1b}[2Ja",
        "a\u{202e}b",
        "a\u{9b}2J\u{200b}",
    ];

    /// The words of a line as `sh` splits them.
    fn by_sh(line: &str) -> Vec<String> {
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        let out = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(out.status.success(), "{line}");
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn names_and_addresses_of_a_peer_are_refused_when_they_arrive() {
        for hostile in HOSTILE {
            for text in [hostile.to_owned(), format!("gw.example{hostile}"), format!("{hostile}.example")] {
                // Accepted addresses contain only letters, digits, `.`, `-`, `_`, `:` and the brackets of IPv6.
                let harmless = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b));
                for (what, parsed) in [
                    ("address", Address::parse(&text, 443).map(|address| address.to_string()).ok()),
                    ("address", Address::parse(&format!("{text}:443"), 1).map(|address| address.to_string()).ok()),
                    ("DNS name", DnsName::parse(&text).map(|name| name.to_string()).ok()),
                    ("name", Name::parse(&text).map(|name| name.to_string()).ok()),
                    ("trust domain", TrustDomain::parse(&text).map(|name| name.to_string()).ok()),
                    ("service", wire::tunnel::is_service_name(&text).then(|| text.clone())),
                ] {
                    let Some(parsed) = parsed else { continue };
                    assert!(harmless(&parsed) && !parsed.starts_with('-'), "{what} {text:?} became {parsed:?}");
                    assert!(!parsed.contains('/') && !parsed.starts_with(".."), "{what} {text:?} became {parsed:?}");
                }
                if let Ok(pattern) = Pattern::parse(&text) {
                    assert!(!pattern.to_string().contains([',', ' ', '\n', '#']), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn folders_come_through_the_shell_as_they_are_or_are_refused() {
        for hostile in HOSTILE {
            let Ok(path) = LocalPath::new(Path::new(&format!("/x/{hostile}"))) else { continue };
            let want = format!("/x/{hostile}");
            let line = ssh_command(&[Word::Fixed("a"), Word::Path(&path), Word::Fixed("it's")]);
            assert_eq!(by_sh(&line.replace("%%", "%")), ["a", &want, "it's"], "{hostile:?}");
            assert!(!line.contains(['\n', '"']), "{line}");
            assert_eq!(by_sh(&path.shell_word()), std::slice::from_ref(&want), "{hostile:?}");
        }
        for refused in ["a\"b", "a'b", "a\\b", "${USER}", "a\nb", "\u{1b}[2J", "a\u{202e}b"] {
            let complaint = LocalPath::new(Path::new(&format!("/x/{refused}"))).unwrap_err();
            assert!(complaint.what.contains("ssh cannot use the path"), "{complaint}");
        }
        for taken in ["a b", "%h", "$HOME", "#x", "*", "$(touch x)", "ü", "-o"] {
            assert!(LocalPath::new(Path::new(&format!("/x/{taken}"))).is_ok(), "{taken}");
        }
        assert!(LocalPath::new(Path::new("x")).is_err());
    }

    /// How the installed ssh reads a configuration with such a path.
    #[test]
    fn folders_come_through_ssh_as_they_are_or_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        for hostile in HOSTILE {
            let Ok(path) = LocalPath::new(Path::new(&format!("/x/{hostile}"))) else { continue };
            let command = ssh_command(&[Word::Path(&path), Word::Token("%h")]);
            let value = path.ssh_value();
            let text =
                format!("Host m\n  UserKnownHostsFile {value}\n  CertificateFile {value}\n  ProxyCommand {command}\n");
            std::fs::write(&config, text).unwrap();
            let out = Command::new("ssh").arg("-G").arg("-F").arg(&config).arg("m").output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success(), "{hostile:?}: {}", String::from_utf8_lossy(&out.stderr));
            let value = |keyword: &str| {
                let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(keyword)).collect();
                assert_eq!(lines.len(), 1, "{hostile:?}: {said}");
                lines[0].to_owned()
            };
            // `ssh -G` prints this value before expansion, with `%%`.
            let want = format!("/x/{hostile}");
            assert_eq!(value("certificatefile ").replace("%%", "%"), want);
            assert_eq!(value("proxycommand "), command);
            assert_eq!(value("userknownhostsfile ").replace("%%", "%"), want);
        }
    }

    #[test]
    fn nothing_of_a_peer_moves_the_cursor_or_begins_a_line() {
        for hostile in HOSTILE {
            let refusal = Refusal {
                status: 403,
                code: hostile.into(),
                detail: hostile.into(),
                hint: Some(hostile.into()),
                instance: hostile.into(),
                retry_after: None,
                rules: vec![hostile.into()],
            };
            let complaint = refusal.complaint();
            let rows = [[hostile, hostile]];
            let table = Table::new("none", &[key("A"), prose("B")], &rows, |row| row.map(str::to_owned).to_vec());
            let value = json!({ hostile: [hostile] });
            let shown = [
                (complaint.lines(), 3),
                (table.render(Some(20)), 2),
                (table.render(None), 2),
                (text::fields("", &[(hostile, hostile.to_owned())]), 1),
                (text::json(&value) + "\n", 1),
                (text::json(&complaint.json()) + "\n", 1),
                (text::block(&format!("{hostile}\n")), 1 + hostile.matches('\n').count()),
            ];
            for (text, lines) in shown {
                assert_eq!(text.lines().count(), lines, "{text}");
                assert_eq!(text::safe(&text.replace('\n', "")), text.replace('\n', ""), "{text:?}");
            }
            assert_eq!(serde_json::from_str::<Value>(&text::json(&value)).unwrap(), value, "{hostile:?}");
        }
    }

    #[test]
    fn an_include_is_no_pattern() {
        for (path, want) in [("/a b/c", Some("\"/a b/c\"")), ("/a*", None), ("/a?", None), ("/a[b]", None)] {
            assert_eq!(LocalPath::new(Path::new(path)).unwrap().ssh_include().ok().as_deref(), want);
        }
    }
}
